"""Time our models against keras.applications': python benchmarks/models.py.

Both stand in one process and take turns, so that whatever else the machine does falls on both: a
forward pass and a training step (SGD) on the same 8 random images of 224×224, float32. A ratio is
ours / theirs within one turn; below 1, ours is faster. A second copy of theirs takes part as the
control: the ratio of the two copies, which should be 1, shows what this machine can tell apart.
Then each model is built in processes of its own, without the control, for the time of `build` alone
and the peak memory of the process.

    --repeats N      turns, after one to warm up (default 12; thrice a number treats all alike)
    --models A B     of vgg16, resnet50 and xception (default: all)

Prints a table and writes results/models.json beside this file; a model that is not asked for keeps
its earlier row there. On two idle cores it takes about half an hour.
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
from report import circumstances, save, with_earlier

from resnetlib import models

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
            {side: pool.submit(build_cost, side, name).result() for side in order(turn, SIDES[:2])}
            for turn in range(repeats)
        ]
    return [{side: [row[side][i] for row in rows] for side in SIDES[:2]} for i in (0, 1)]


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


def order(turn, sides=SIDES):
    """Let the sides take the first place in turns."""
    first = turn % len(sides)
    return sides[first:] + sides[:first]


def summary(values, unit):
    """Return the medians of ours and theirs, and the ratios of ours and, if any, of the control.

    A ratio has the median, the least and the greatest of all turns.
    """

    def ratio(side):
        ratios = [a / b for a, b in zip(values[side], values["theirs"], strict=True)]
        return {f.__name__: f(ratios) for f in (statistics.median, min, max)}

    medians = {f"{side}_{unit}": statistics.median(values[side]) for side in SIDES[:2]}
    ratios = {"ratio": ratio("ours")}
    if "control" in values:
        ratios["control"] = ratio("control")
    return medians | ratios


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
    columns = ("ours", "theirs", "", "ours / theirs", "theirs / theirs")
    print("\n{:<22}{:>9}{:>9} {:<3}{:>24}{:>24}".format(name, *columns))
    for what, row in rows.items():
        ours, theirs, *ratios = row.values()
        unit = "MB" if "ours_megabytes" in row else "s"
        cells = [f"{r['median']:.3f} ({r['min']:.3f}–{r['max']:.3f})" for r in ratios]
        print(
            f"  {what:<20}{ours:>9.3f}{theirs:>9.3f} {unit:<3}" + "".join(f"{c:>24}" for c in cells)
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=12)
    parser.add_argument("--models", nargs="+", choices=THEIRS, default=list(THEIRS))
    arguments = parser.parse_args()
    setting = {"batch": BATCH, "size": SIZE, "dtype": "float32", "repeats": arguments.repeats}
    report = with_earlier("models", circumstances() | {"setting": setting})
    print(json.dumps({**report["hardware"], **report["versions"], **setting}))
    for name in arguments.models:
        report["models"][name] = measure(name, arguments.repeats)
        show(name, report["models"][name])
        save("models", report)  # after each model: nothing is lost


if __name__ == "__main__":
    main()
