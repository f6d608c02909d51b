"""Time our models against keras.applications': python benchmarks/models.py.

Both stand in one process and take turns, so that whatever else the machine does falls on both: a
forward pass and a training step (SGD) on the same 8 random images of 224×224, float32. A ratio is
ours / theirs within one turn; below 1, ours is faster. Then each model is built in processes of
its own, for the time of `build` alone and the peak memory of the process.

    --repeats N      turns, after one to warm up (default 10)
    --models A B     of vgg16, resnet50 and xception (default: all)

Prints a table and writes results/models.json beside this file. On two idle cores it takes about a
quarter of an hour.
"""

import argparse
import gc
import json
import os
import resource
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

# TensorFlow reads both at its import; oneDNN is on by default only where there is AVX512.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import numpy as np
from report import circumstances, save

from resnetlib import models

THEIRS = {
    "vgg16": keras.applications.VGG16,
    "resnet50": keras.applications.ResNet50,
    "xception": keras.applications.Xception,
}
SIDES = ("ours", "theirs")
BATCH, SIZE, CLASSES = 8, 224, 1000


def build(side, name):
    if side == "ours":
        return models.build(name, input_shape=(SIZE, SIZE, 3))
    return THEIRS[name](weights=None, input_shape=(SIZE, SIZE, 3), classifier_activation=None)


def build_cost(side, name):
    """Return the seconds of a process's first model, and the megabytes of the whole process."""
    keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)])  # the backend wakes up
    start = time.perf_counter()
    build(side, name)
    unit = 1 if sys.platform == "darwin" else 1024
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
    return time.perf_counter() - start, megabytes


def build_costs(name, repeats):
    """Return a list of seconds and one of megabytes for each side, each in a fresh process."""
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        rows = [
            {side: pool.submit(build_cost, side, name).result() for side in order(turn)}
            for turn in range(repeats)
        ]
    return [{side: [row[side][i] for row in rows] for side in SIDES} for i in (0, 1)]


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
    """Let each side be the first in every second turn."""
    return SIDES if turn % 2 else SIDES[::-1]


def summary(values, unit):
    """Return the median of each side, and the median, least and greatest ratio of a turn."""
    ratios = [ours / theirs for ours, theirs in zip(values["ours"], values["theirs"], strict=True)]
    medians = {f"{side}_{unit}": statistics.median(values[side]) for side in SIDES}
    spread = zip(("median", "min", "max"), (statistics.median, min, max), strict=True)
    return medians | {"ratio": {word: f(ratios) for word, f in spread}}


def measure(name, repeats):
    seconds, megabytes = build_costs(name, repeats)
    forward, training = step_seconds(name, repeats)
    keras.backend.clear_session()
    gc.collect()
    return {
        "forward": summary(forward, "seconds"),
        "training step": summary(training, "seconds"),
        "build": summary(seconds, "seconds"),
        "process, peak memory": summary(megabytes, "megabytes"),
    }


def show(name, rows):
    print(f"\n{name:<20}{'ours':>10}{'theirs':>10}      {'ratio':>6}   least – greatest")
    for what, row in rows.items():
        ours, theirs, ratio = row.values()
        unit = "MB" if "ours_megabytes" in row else "s"
        between = f"{ratio['min']:.3f} – {ratio['max']:.3f}"
        print(
            f"  {what:<18}{ours:>10.3f}{theirs:>10.3f} {unit:<5}{ratio['median']:>6.3f}   {between}"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--models", nargs="+", choices=THEIRS, default=list(THEIRS))
    arguments = parser.parse_args()
    setting = {"batch": BATCH, "size": SIZE, "dtype": "float32", "repeats": arguments.repeats}
    report = circumstances() | {"setting": setting, "models": {}}
    print(json.dumps({**report["hardware"], **report["versions"], **setting}))
    for name in arguments.models:
        report["models"][name] = measure(name, arguments.repeats)
        show(name, report["models"][name])
        save("models", report)  # after each model: nothing is lost


if __name__ == "__main__":
    main()
