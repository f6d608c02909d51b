"""Train one network as a reader does: with `resnetlib.training.fit` and its own recipe.

With Keras on TensorFlow, and no GPU needed: a mini takes minutes, ResNet-20 some hours.
"""

from functools import partial
from pathlib import Path

import numpy as np

from book.experiments import shared
from book.experiments.plans import Run
from resnetlib import provenance, training
from resnetlib.recipe import flip_and_shift


def train(run: Run, folder: Path) -> dict:
    """Return the record of a run; a finished one is read, a broken one goes on where it was.

    folder: keeps NAME.json, NAME.npz (the weights as float16) and, while the run lasts, NAME.part.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if record := run.record(folder):
        return record
    circumstances = shared.circumstances()
    part = folder / f"{run.name}.part"
    train_set, test_set = shared.sets(run)
    if run.images:
        train_set = train_set[np.arange(shared.SIZES[run.dataset][0]) % run.images]
    model = shared.network(run, train_set.images.shape[1:], train_set.classes)
    # The test set chooses nothing: fit only writes down what it measures after each epoch.
    history = training.fit(
        model,
        train_set,
        test_set,
        epochs=run.epochs,
        augment=partial(flip_and_shift, border=run.border),
        seed=run.seed,
        checkpoint=part,
        progress=True,
    )
    flips = training.evaluate(model, test_set, flips=True)
    facts = {
        "parameters": model.count_params(),
        "history": {
            "train_loss": _rounded(history["loss"]),
            "train_error": _rounded(1 - np.array(history["accuracy"])),
            "test_loss": _rounded(history["val_loss"]),
            "test_error": _rounded(1 - np.array(history["val_accuracy"])),
        },
        "test_error_with_flips": round(1 - flips["accuracy"], 5),
        "gradient_norms": {},
        "seconds": history.provenance["seconds"],
        **circumstances,
    }
    if peak := provenance.peak_megabytes():
        facts["peak_megabytes"] = round(peak)
    record = shared.keep(run, folder, model.variables, [v.numpy() for v in model.variables], facts)
    part.unlink()
    return record


def _rounded(values: list[float]) -> list[float]:
    return [round(float(value), 5) for value in values]
