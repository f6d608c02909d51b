"""How near a training step comes to the machine's own rate: python benchmarks/training_step.py.

The machine's rate is that of a large float32 matrix product. The step is `training.fit`'s own, on
resnet20 with a batch of 128 random images of 32×32×3; its multiply-accumulates are the ledger's,
times three (forward, and the gradients of input and weights). Both take turns in one process. Then
each kind of layer is timed alone, forward and backward, to show where the rest of the step goes.

    --repeats N     turns, after two to warm up (default 10)
    --policy NAME   Keras' dtype policy: float32, or mixed_bfloat16 for a processor that multiplies
                    numbers of 16 bits; the machine's rate is that of float32 in both

Prints a table and writes it into results/training_step.json beside this file, in the place of an
earlier run on such a processor, with the same policy and with or without oneDNN
(TF_ENABLE_ONEDNN_OPTS=0). About a minute.
"""

import argparse
import json
import os
import statistics
import time
from collections import defaultdict

# TensorFlow reads both at its import; oneDNN is on by default only on newer processors.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import numpy as np
import tensorflow as tf
from report import circumstances, load, save

from resnetlib import models, training
from resnetlib.ledger import ledger

MODEL, BATCH, SHAPE, CLASSES, SIDE = "resnet20", 128, (32, 32, 3), 10, 2048


def seconds(function):
    start = time.perf_counter()
    np.asarray(function())  # waits for the last result
    return time.perf_counter() - start


def matrix_product():
    """Return a function that multiplies two square matrices: SIDE³ multiply-accumulates."""
    a, b = (tf.constant(np.random.default_rng(i).random((SIDE, SIDE), "float32")) for i in (0, 1))
    return tf.function(lambda: tf.matmul(a, b)[0, 0])


def training_step(model):
    """Return a function that takes one step of fit's recipe on one batch, as Keras takes it."""
    rng = np.random.default_rng(0)
    images = rng.random((BATCH, *SHAPE), "float32")
    labels = rng.integers(0, CLASSES, BATCH)
    training.fit(model, (images, labels), epochs=1, batch_size=BATCH, progress=False)
    batches = iter(tf.data.Dataset.from_tensors((images, labels)).repeat())
    return lambda: model.train_function(batches)["loss"]


def layer_step(layer, shapes):
    """Return a function that runs a layer alone, forward and backward, on random input."""
    inputs = [
        tf.Variable(tf.cast(tf.random.normal((BATCH, *shape)), layer.compute_dtype))
        for shape in shapes
    ]
    weights = layer.trainable_variables

    @tf.function
    def run():
        with tf.GradientTape() as tape:
            output = layer(inputs[0] if len(inputs) == 1 else list(inputs), training=True)
        slopes = tape.gradient(output, [*inputs, *(w.value for w in weights)])
        first = [tf.reshape(s, [-1])[0] for s in slopes if s is not None]
        return tf.add_n([tf.cast(value, "float32") for value in first])

    return run


def by_kind(model, repeats):
    """Return the seconds of each kind of layer: each different layer is timed once and counted."""
    timed, kinds = {}, defaultdict(float)
    for layer in model.layers:
        if isinstance(layer, keras.layers.InputLayer):
            continue
        tensors = layer.input if isinstance(layer.input, list) else [layer.input]
        shapes = [tuple(tensor.shape[1:]) for tensor in tensors]
        config = {k: v for k, v in layer.get_config().items() if k != "name"}
        key = json.dumps([type(layer).__name__, shapes, config], default=str)
        if key not in timed:
            run = layer_step(layer, shapes)
            seconds(run), seconds(run)
            timed[key] = statistics.median(seconds(run) for _ in range(repeats))
        kinds[type(layer).__name__] += timed[key]
    return dict(sorted(kinds.items(), key=lambda item: -item[1]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--policy", default="float32", choices=["float32", "mixed_bfloat16"])
    arguments = parser.parse_args()
    keras.config.set_dtype_policy(arguments.policy)
    model = models.build(MODEL, input_shape=SHAPE, classes=CLASSES)
    sides = {"matrix product": matrix_product(), "training step": training_step(model)}
    times = {side: [] for side in sides}
    for turn in range(arguments.repeats + 2):
        for side, run in sides.items():
            value = seconds(run)
            if turn > 1:  # the first traces, the second fills the caches
                times[side].append(value)
    macs = {"matrix product": SIDE**3, "training step": 3 * ledger(model).macs * BATCH}
    rates = {side: [macs[side] / t for t in times[side]] for side in sides}
    pairs = zip(rates["training step"], rates["matrix product"], strict=True)
    shares = [step / top for step, top in pairs]
    step = statistics.median(times["training step"])
    kinds = by_kind(model, arguments.repeats)
    report = circumstances() | {
        "setting": {
            "model": MODEL,
            "batch": BATCH,
            "shape": [*SHAPE],
            "dtype_policy": arguments.policy,
            "one_dnn": os.environ["TF_ENABLE_ONEDNN_OPTS"] == "1",
        },
        "gigamacs_per_second": {s: statistics.median(rates[s]) / 1e9 for s in sides},
        "step_seconds": step,
        "share": {"median": statistics.median(shares), "min": min(shares), "max": max(shares)},
        "layers_alone_seconds": kinds,
    }
    for side, rate in report["gigamacs_per_second"].items():
        print(f"{side:<22}{rate:8.1f} GMAC/s")
    share = report["share"]
    print(f"share of the rate     {share['median']:8.1%}   {share['min']:.1%} – {share['max']:.1%}")
    print(f"\none step takes {step:.3f} s; its layers alone, forward and backward:")
    for kind, value in kinds.items():
        print(f"  {kind:<22}{value:8.3f} s   {value / step:6.1%}")
    left = step - sum(kinds.values())
    print(f"  {'the rest':<22}{left:8.3f} s   {left / step:6.1%}   loss, optimizer, what overlaps")
    runs = load("training_step").get("runs", [])
    kept = [run for run in runs if any(run[k] != report[k] for k in ("hardware", "setting"))]
    save("training_step", {"runs": [*kept, report]})


if __name__ == "__main__":
    main()
