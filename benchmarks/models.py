"""Time our models against keras.applications': python benchmarks/models.py.

Both stand in one process and take turns, so that whatever else the machine does falls on both: a
forward pass and a training step (SGD) on the same 8 random images of 224×224, float32, and the
building of the model. Only the peak memory of a build is that of a process of its own.

A ratio is ours / theirs within one turn; below 1, ours is faster. A second copy of theirs takes
part as the control: its ratio, which should be 1, shows what this machine can tell apart.

    --repeats N      turns, after one to warm up (default 12; thrice a number treats all alike)
    --models A B     of vgg16, resnet50 and xception (default: all)

Prints a table and writes results/models.json beside this file; a model that is not asked for keeps
its earlier row there, if versions and processor are the same. On two idle cores it takes about
twenty minutes.
"""

import argparse
import gc
import json
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

# TensorFlow reads both at its import; oneDNN is on by default only on newer processors.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import numpy as np
from report import circumstances, recorded, save

from resnetlib import models, provenance

THEIRS = {
    "vgg16": keras.applications.VGG16,
    "resnet50": keras.applications.ResNet50,
    "xception": keras.applications.Xception,
}
SIDES = ("ours", "theirs", "control")
BATCH, SIZE, CLASSES = 8, 224, 1000


def build(side, name):
    if side == "ours":
        return models.build(name, input_shape=(SIZE, SIZE, 3))
    return THEIRS[name](weights=None, input_shape=(SIZE, SIZE, 3), classifier_activation=None)


def peak_megabytes(side, name):
    """Return the peak memory of a process that builds one model."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(build_and_weigh, side, name).result()


def build_and_weigh(side, name):
    build(side, name)
    return provenance.peak_megabytes()


def build_seconds(name, repeats):
    """Return the seconds of each build, for each side."""
    times = {side: [] for side in SIDES}
    for turn in range(repeats + 1):
        for side in order(turn):
            gc.collect()  # the model before this one, not during the next
            start = time.perf_counter()
            build(side, name)
            if turn:  # the first wakes the backend up
                times[side].append(time.perf_counter() - start)
            keras.backend.clear_session()
    return times


def step_seconds(name, repeats):
    """Return the seconds of each forward pass and of each training step, for each side."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(BATCH, SIZE, SIZE, 3)).astype(np.float32)
    labels = rng.integers(0, CLASSES, BATCH)
    built = {side: build(side, name) for side in SIDES}
    for model in built.values():
        model.compile(
            keras.optimizers.SGD(1e-4), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        )
    steps = {
        "forward": lambda model: model.predict_on_batch(images),
        "training": lambda model: model.train_on_batch(images, labels),
    }
    times = {step: {side: [] for side in SIDES} for step in steps}
    for turn in range(repeats + 1):
        for step, run in steps.items():
            for side in order(turn):
                start = time.perf_counter()
                result = run(built[side])
                seconds = time.perf_counter() - start
                if not np.all(np.isfinite(result)):
                    raise FloatingPointError(f"{name}, {side}: {step} gave no finite number")
                if turn:  # the first traces the graph
                    times[step][side].append(seconds)
    return times["forward"], times["training"]


def order(turn):
    """Let the sides take the first place in turns."""
    first = turn % len(SIDES)
    return SIDES[first:] + SIDES[:first]


def summary(times):
    """Return the least seconds of ours and theirs, and the ratios of ours and of the control."""

    def ratio(side):
        turns = [a / b for a, b in zip(times[side], times["theirs"], strict=True)]
        return {f.__name__: f(turns) for f in (statistics.median, min, max)}

    return {
        "ours_least_seconds": min(times["ours"]),
        "theirs_least_seconds": min(times["theirs"]),
        "ratio": ratio("ours"),
        "control": ratio("control"),
    }


def measure(name, repeats):
    forward, step = step_seconds(name, repeats)
    keras.backend.clear_session()
    return {
        "forward": summary(forward),
        "training step": summary(step),
        "build": summary(build_seconds(name, repeats)),
        "peak megabytes": {side: peak_megabytes(side, name) for side in SIDES[:2]},
    }


def show(name, rows):
    columns = ("ours", "theirs", "ours / theirs", "theirs / theirs")
    print("\n{:<16}{:>9}{:>9}{:>22}{:>22}".format(name, *columns))
    for what, row in rows.items():
        if what == "peak megabytes":
            print(f"  {what:<14}{row['ours']:>9.0f}{row['theirs']:>9.0f}")
            continue
        seconds = f"{row['ours_least_seconds']:>9.3f}{row['theirs_least_seconds']:>9.3f}"
        ratios = [
            f"{r['median']:.3f} ({r['min']:.2f}–{r['max']:.2f})"
            for r in (row["ratio"], row["control"])
        ]
        print(f"  {what:<14}{seconds}" + "".join(f"{ratio:>22}" for ratio in ratios))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=12)
    parser.add_argument("--models", nargs="+", choices=THEIRS, default=list(THEIRS))
    arguments = parser.parse_args()
    setting = {"batch": BATCH, "size": SIZE, "dtype": "float32", "repeats": arguments.repeats}
    report = circumstances() | {"setting": setting}
    report["models"] = recorded("models", report, "setting").get("models", {})
    print(json.dumps({**report["hardware"], **report["versions"], **setting}))
    for name in arguments.models:
        report["models"][name] = measure(name, arguments.repeats)
        show(name, report["models"][name])
        save("models", report)  # after each model: nothing is lost


if __name__ == "__main__":
    main()
