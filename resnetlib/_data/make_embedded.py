"""Draw the subsets that travel with the package from the full sets, and write them here.

    python resnetlib/_data/make_embedded.py

The full sets are found as `resnetlib.data` finds them. The draw is seeded: the same images
come out again. Put the printed checksums into EMBEDDED in resnetlib/data.py.
"""

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from resnetlib import data

SEED = 2025
HERE = Path(__file__).parent


def balanced(labels: np.ndarray, each: int) -> np.ndarray:
    """Return the places of `each` images a class, in blocks that hold every class once."""
    rng = np.random.default_rng(SEED)
    drawn = [
        rng.choice(np.flatnonzero(labels == label), each, replace=False) for label in range(10)
    ]
    return rng.permuted(np.stack(drawn, axis=1), axis=1).ravel()


def write_sheet(name: str, dataset: data.Dataset, each: int, columns: int, credit: str) -> None:
    """Write the drawn images side by side into one PNG; their labels are in its text."""
    drawn = dataset[balanced(dataset.labels, each)]
    count, side, _, channels = drawn.images.shape
    rows = count // columns
    sheet = drawn.images.reshape(rows, columns, side, side, channels).swapaxes(1, 2)
    text = PngImagePlugin.PngInfo()
    text.add_text("Side", str(side))
    text.add_text("Labels", "".join(map(str, drawn.labels)), zip=True)
    text.add_text("Source", credit)
    sheet = sheet.reshape(rows * side, columns * side, channels)
    path = HERE / name
    Image.fromarray(sheet.squeeze()).save(path, optimize=True, pnginfo=text)
    content = path.read_bytes()
    print(f'    "{name}": "{hashlib.sha256(content).hexdigest()}",  # {len(content):,} bytes')


if __name__ == "__main__":
    train, test = data.fashion_mnist(60_000, 10_000)
    zalando = "Fashion-MNIST, copyright 2017 Zalando SE, MIT licence"
    write_sheet("fashion_mnist_train.png", train, 1_200, 100, zalando)
    write_sheet("fashion_mnist_test.png", test, 200, 50, zalando)
    _, test = data.cifar10(0, 10_000)
    write_sheet("cifar10_test.png", test, 20, 20, "CIFAR-10, Alex Krizhevsky 2009")
