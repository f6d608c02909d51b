"""What both engines share: the data sets, the network of a run, and how its record is kept."""

import json
import os
import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np

from book.experiments.plans import Run
from resnetlib import data, models, provenance
from resnetlib.models import resnet

# The counts of training and test images; the sample is what the package carries.
SIZES = {
    "cifar10": (50_000, 10_000),
    "fashion_mnist": (60_000, 10_000),
    "fashion_mnist_sample": (12_000, 2_000),
}


def sets(run: Run) -> tuple[data.Dataset, data.Dataset]:
    """Return the training images of a run, and the whole test set."""
    load = data.cifar10 if run.dataset == "cifar10" else data.fashion_mnist
    train, test = load(*SIZES[run.dataset])
    return train[: run.images] if run.images else train, test


def network(run: Run, shape: tuple[int, int, int], classes: int) -> keras.Model:
    """Return the run's network, its first weights drawn from the run's seed."""
    keras.utils.set_random_seed(run.seed)
    keras.config.set_dtype_policy(run.policy)
    if run.option:
        model = resnet.build(run.network, shape, classes, option=run.option)
    else:
        model = models.build(run.network, input_shape=shape, classes=classes)
    if run.last_gamma:
        for layer in model.layers:
            if layer.name.endswith("_b_bn"):
                layer.gamma.assign(keras.initializers.get(run.last_gamma)(layer.gamma.shape))
    return model


def keep(
    run: Run,
    folder: Path,
    variables: Sequence[keras.Variable],
    arrays: Sequence[Any],
    facts: dict,
) -> dict:
    """Write NAME.npz, the weights by their path as float16, then NAME.json; return the record.

    facts: what was measured, and the `circumstances`.
    """
    # The states of random generators are no weights.
    weights = {
        variable.path: np.asarray(array, "float16")
        for variable, array in zip(variables, arrays, strict=True)
        if "seed" not in variable.path
    }
    record = {**asdict(run), **facts, "dead_channels": dead_channels(weights)}
    write(folder / f"{run.name}.npz", lambda file: np.savez(file, **weights))
    write(folder / f"{run.name}.json", lambda file: file.write(json.dumps(record).encode()))
    return record


def dead_channels(weights: dict[str, np.ndarray]) -> dict[str, tuple[int, int]]:
    """Return of each stage how many channels no block's branch adds to, and how many it has.

    There gamma and beta of the last batch norm are 0 in all its blocks. Stages without are left
    out.
    """
    stages = {}
    for path, array in weights.items():
        if last := re.fullmatch(r"(conv\d+)_\d+_b_bn/(gamma|beta)", path):
            stages.setdefault(last[1], []).append(array)
    return {
        stage: (int((~np.any(arrays, axis=0)).sum()), len(arrays[0]))
        for stage, arrays in stages.items()
    }


def write(path: Path, content: Callable) -> None:
    """Write a file by one rename: it is whole or not there."""
    new = path.with_suffix(".new")
    with new.open("wb") as file:
        content(file)
    new.replace(path)


def circumstances() -> dict:
    """Return where a run takes place, without names of machines, and by which commit's code.

    Call it before the training: commits may come while it lasts. A run that was cut off has those
    of the process that ended it.
    """
    commit = (
        os.environ.get("COMMIT")
        or subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False
        ).stdout.strip()
    )
    return {"hardware": _hardware(), "versions": provenance.versions(), "commit": commit}


def _hardware() -> str:
    if keras.backend.backend() == "jax":
        import jax

        device = jax.devices()[0]
        if device.platform != "cpu":
            return device.device_kind
    else:
        import tensorflow as tf

        for device in tf.config.list_physical_devices("GPU"):
            return tf.config.experimental.get_device_details(device)["device_name"]
    cores = provenance.cores()
    return f"{cores} {'core' if cores == 1 else 'cores'} of {provenance.processor()}"
