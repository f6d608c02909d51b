"""How long a laptop trains to a given accuracy: python benchmarks/time_to_accuracy.py [PART ...].

The full Fashion-MNIST, with whatever cores there are. The first part is the network of chapter 4
with the recipe that came with it: Nadam, batches of 32, dropout, 48,000 images (a fifth is put
aside, as there). The others are ours: residual networks and `training.fit`, 60,000 images, mirrored
at random, and shifted in the longer trainings. A processor's speed is not a constant, so just
before and just after each of ours some steps of chapter 4's network are timed, and the ratio is
taken of what an epoch of it would take then.

Size, rate and epochs of our parts are chosen on 6,000 images held back from the 60,000:
`--validate` trains on the other 54,000 and measures these. The test set chooses nothing.

    PART ...        of chapter4, 0.907, 0.92, 0.93 and 0.94 (default: all)
    --seeds N       trainings of each of our parts (default 3; chapter 4's network has one)
    --epochs N      of chapter 4's network, unless it reaches 0.907 before (default 10)
    --validate      measure ours on the images held back, and write nothing

Seconds are those of training alone: the graph's making counts, the tests between epochs do not.
Results go to results/time_to_accuracy.json as they come, each with the processor that it ran on: a
ratio is always taken on one. What stands there with the same settings and versions is not run
again. A training that was cut off goes on after its last epoch.
Flips at test time are another measure, and stand apart.
"""

import argparse
import json
import os
import statistics
import time
from dataclasses import asdict, dataclass
from functools import partial

# TensorFlow reads both at its import; oneDNN is on by default only on newer processors.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import numpy as np
from keras import layers
from report import RESULTS, circumstances, load, save

from resnetlib import data, training
from resnetlib.blocks import conv_bn_relu
from resnetlib.ledger import ledger
from resnetlib.models import resnet
from resnetlib.recipe import flip_and_shift

CHAPTER4_BATCH = 32
# Of all ours: the widths of the two residual blocks, the peak of the rate, the images of a step.
WIDTHS, LEARNING_RATE, BATCH = (64, 128), 2e-2, 96
FIRST_TARGET = 0.907  # just above the best of chapter 4's network in nine epochs


@dataclass(frozen=True)
class Part:
    """One of our trainings: a residual network, and its recipe.

    limit: the most that it may take, in epochs of chapter 4's network.
    stem: the filters of the first convolution.
    strides: of the two blocks.
    border: pixels by which an image is shifted at most.
    """

    accuracy: float
    limit: float
    stem: int
    strides: tuple[int, int]
    epochs: int
    border: int = 0


PARTS = {
    # The limit is a fifteenth of eight epochs, in which chapter 4's network once reached as much.
    "0.907": Part(0.907, 0.53, 16, (2, 2), 2),
    # On the images held back, one seed each, with a peak of 1.6e-2 in batches of 64: 0.9078 after
    # one epoch, 0.9262 after 3, at 0.21 of an epoch of chapter 4's network for each; with 2e-2 in
    # batches of 96: 0.9278 after 3, at 0.17 for each. Adam in the place of Muon: 0.9172 after 2
    # epochs, where Muon had 0.9235. A first epoch with images of 20 pixels: 0.9043 after 2.
    "0.92": Part(0.92, 0.6, 16, (2, 2), 3),
    # On the images held back, one seed each: 0.9332 after 6 epochs, 0.9347 after 8 and 0.9402 after
    # 12; without the shift 0.9347 after 12.
    "0.93": Part(0.93, 4, 16, (2, 2), 12, border=1),
    # On the images held back, one seed, in bfloat16: 0.9463. No other setting was tried.
    "0.94": Part(0.94, 15, 32, (1, 2), 16, border=1),
}


def network(part):
    # Most of the time would go into maps of 28×28, few as their multiply-accumulates are.
    stem = partial(conv_bn_relu, filters=part.stem, kernel_size=3, strides=2, name="conv1")
    plan = resnet.Plan(stem, resnet.residual, (1, 1), WIDTHS, part.strides, option="B")
    return resnet.network("ours", plan, (28, 28, 1), 10)


def size(model):
    return {"parameters": model.count_params(), "multiply_accumulates": ledger(model).macs}


def train_ours(name, seed, train, test, pace):
    part, unfinished = PARTS[name], RESULTS / f"{name}-seed{seed}-{len(train)}.part"
    before = pace()
    keras.utils.set_random_seed(seed)
    model = network(part)
    history = training.fit(
        model,
        train,
        epochs=part.epochs,
        batch_size=BATCH,
        learning_rate=LEARNING_RATE,
        augment=partial(flip_and_shift, border=part.border),
        seed=seed,
        checkpoint=unfinished,
    )
    record = {
        "seed": seed,
        "seconds": history.provenance["seconds"],
        "chapter4_epoch": round((before + pace()) / 2, 1),
        "accuracy": round(training.evaluate(model, test)["accuracy"], 4),
        "accuracy_with_flips": round(training.evaluate(model, test, flips=True)["accuracy"], 4),
        **size(model),
        **circumstances(),
    }
    unfinished.unlink()
    return record


def chapter4_network():
    def conv(filters, kernel_size):
        return layers.Conv2D(filters, kernel_size, padding="same", activation="relu")

    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            *(conv(64, 7), layers.MaxPooling2D()),
            *(conv(128, 3), conv(128, 3), layers.MaxPooling2D()),
            *(conv(256, 3), conv(256, 3), layers.MaxPooling2D()),
            layers.Flatten(),
            *(layers.Dense(128, "relu"), layers.Dropout(0.5)),
            *(layers.Dense(64, "relu"), layers.Dropout(0.5)),
            layers.Dense(10, "softmax"),
        ]
    )
    model.compile("nadam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def pacemaker(train, steps=60):
    """Return a function that says how long an epoch of chapter 4's network would take just now."""
    model = chapter4_network()
    images, labels = train.images[:CHAPTER4_BATCH] / np.float32(255), train.labels[:CHAPTER4_BATCH]
    model.train_on_batch(images, labels)  # traces the graph

    def pace():
        start = time.perf_counter()
        for _ in range(steps):
            model.train_on_batch(images, labels)
        in_an_epoch = len(train.images) * 4 // 5 / CHAPTER4_BATCH
        return (time.perf_counter() - start) / steps * in_an_epoch

    return pace


def chapter4_after(epochs):
    """Return where chapter 4's network is kept after so many epochs; git does not see it."""
    return RESULTS / f"chapter4-{epochs}.keras"


def train_chapter4(seed, train, test, most_epochs, done, keep):
    """Train until FIRST_TARGET, an epoch a call, so that each can be timed, tested and kept."""
    epochs = done["epochs"] if done else []

    def goes_on():
        return len(epochs) < most_epochs and not (epochs and epochs[-1]["accuracy"] >= FIRST_TARGET)

    if not goes_on():
        return
    if epochs and not chapter4_after(len(epochs)).exists():
        print(
            f"chapter4: {len(epochs)} epochs are recorded, but the network after them is not here; "
            "to train it anew, take them out of results/time_to_accuracy.json"
        )
        return
    keras.utils.set_random_seed(seed)
    kept = np.random.default_rng(seed).permutation(len(train.images))[: len(train.images) * 4 // 5]
    images, labels = train.images[kept], train.labels[kept]
    if epochs:
        model, spent = keras.models.load_model(chapter4_after(len(epochs))), epochs[-1]["seconds"]
    else:
        model, spent = chapter4_network(), 0.0
    while goes_on():
        start = time.perf_counter()
        training.fit(
            model,
            (images, labels),
            epochs=1,
            batch_size=CHAPTER4_BATCH,
            seed=1000 * seed + len(epochs),
        )
        spent += time.perf_counter() - start
        accuracy = round(training.evaluate(model, test)["accuracy"], 4)
        epochs.append({"seconds": round(spent, 1), "accuracy": accuracy})
        print(f"chapter4  epoch {len(epochs):2}  {spent:7.1f} s  {accuracy:.4f}", flush=True)
        # The record says which network it goes on with: the old one until the new one is whole.
        model.save(chapter4_after(len(epochs)))
        keep({"seed": seed, "epochs": epochs, **size(model), **circumstances()})
        chapter4_after(len(epochs) - 1).unlink(missing_ok=True)
    if accuracy >= FIRST_TARGET:
        chapter4_after(len(epochs)).unlink()


def standing(parts):
    """Return the recorded runs that have these settings, and today's versions."""
    earlier = load("time_to_accuracy")
    versions = circumstances()["versions"]
    return {
        name: runs
        for name, runs in earlier.get("runs", {}).items()
        if earlier["parts"].get(name) == parts.get(name)  # chapter 4's has no settings
        and all(run["versions"] == versions for run in ([runs] if name == "chapter4" else runs))
    }


def show(report):
    """Print what was measured, beside what was wanted."""
    runs = report["runs"]
    chapter4 = runs["chapter4"]["epochs"] if "chapter4" in runs else []
    for number, epoch in enumerate(chapter4, start=1):
        print(f"chapter 4's network, epoch {number}: {epoch['accuracy']:.4f}")
    for name, part in PARTS.items():
        if name not in runs:
            continue
        seconds, accuracy, flips = (
            statistics.median(run[what] for run in runs[name])
            for what in ("seconds", "accuracy", "accuracy_with_flips")
        )
        ratio = statistics.median(run["seconds"] / run["chapter4_epoch"] for run in runs[name])
        print(
            f"{name}: {accuracy:.4f} (with flips {flips:.4f}) in {seconds:.0f} s, {ratio:.2f} of "
            f"the {part.limit:g} epochs of chapter 4's network that it may take"
        )
        if part.accuracy == FIRST_TARGET and chapter4:
            bound = "" if chapter4[-1]["accuracy"] >= FIRST_TARGET else "less than "
            times = len(chapter4) / ratio
            print(f"  {bound}1/{times:.1f} of the time that this network takes for as much")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of chapter4, {', '.join(PARTS)}")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--validate", action="store_true")
    arguments = parser.parse_args()
    known = [*PARTS] if arguments.validate else ["chapter4", *PARTS]
    chosen = arguments.parts or known
    if unknown := set(chosen) - set(known):
        parser.error(f"unknown {', '.join(unknown)}; the parts are {', '.join(known)}")
    train, test = data.fashion_mnist(60_000, 10_000)
    # As JSON has them, with lists for tuples: they are compared with recorded ones.
    parts = json.loads(json.dumps({name: asdict(part) for name, part in PARTS.items()}))
    report = {"parts": parts, "runs": {}}
    if arguments.validate:
        train, test = train[:54_000], train[54_000:]
    else:
        report["runs"] = standing(parts)

    def keep(name, value):
        report["runs"][name] = value
        if not arguments.validate:
            save("time_to_accuracy", report)

    pace = pacemaker(train)
    for name in chosen:
        done = report["runs"].get(name, [])
        if name == "chapter4":
            train_chapter4(0, train, test, arguments.epochs, done, partial(keep, "chapter4"))
            continue
        for seed in range(len(done), arguments.seeds):
            run = train_ours(name, seed, train, test, pace)
            print(name, run, flush=True)
            keep(name, [*report["runs"].get(name, []), run])
    show(report)


if __name__ == "__main__":
    main()
