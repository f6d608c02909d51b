"""Train, evaluate and predict: one recipe, seeded, with a progress bar and a history."""

import functools
import json
import math
import os
import platform
import random
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from resnetlib import recipe
from resnetlib.provenance import cores, versions
from resnetlib.recipe import LABEL_SMOOTHING, PEAK, WEIGHT_DECAY, positive
from resnetlib.tables import html_table, text_table


@dataclass(frozen=True, repr=False)
class History:
    """What a training did, epoch by epoch; `history["val_accuracy"]` lists one metric.

    `print` shows a table of the metrics, a notebook a richer one.
    epochs: for each epoch a dict of loss, accuracy, val_loss and val_accuracy (those that were
        measured), learning_rate (after the epoch's last step) and seconds.
    provenance: seed, epochs, images, batch_size, optimizer, versions, platform, cores, seconds.
    """

    epochs: list[dict[str, float]]
    provenance: dict[str, Any]

    def __getitem__(self, metric: str) -> list[float]:
        """Return a metric's values, one an epoch."""
        if metric not in self:
            raise KeyError(f"no metric {metric!r}; this history has {', '.join(self.epochs[0])}")
        return [epoch[metric] for epoch in self.epochs]

    def __contains__(self, metric: str) -> bool:
        return metric in self.epochs[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self.epochs[0])

    def __repr__(self) -> str:
        return f"History({len(self.epochs)} epochs of {', '.join(self)})"

    def __str__(self) -> str:
        return text_table(self._table(), align="r" * len(self._table()[0]))

    def _repr_html_(self) -> str:
        return html_table("Metrics by epoch", self._table(), align="r" * len(self._table()[0]))

    def _table(self) -> list[tuple[str, ...]]:
        # No times, and no learning rate: what is left can be compared between two machines.
        metrics = [key for key in self if key not in ("learning_rate", "seconds")]
        rows = [
            (str(number), *(f"{epoch[metric]:.4f}" for metric in metrics))
            for number, epoch in enumerate(self.epochs, start=1)
        ]
        return [("epoch", *metrics), *rows]


def fit(
    model: keras.Model,
    train: Any,
    validation: Any = None,
    *,
    epochs: int = 5,
    batch_size: int = 128,
    learning_rate: float = PEAK,
    weight_decay: float = WEIGHT_DECAY,
    label_smoothing: float = LABEL_SMOOTHING,
    augment: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None,
    seed: int = 0,
    checkpoint: str | os.PathLike | None = None,
    progress: bool | None = None,
) -> History:
    """Train a model on labelled images and return what happened.

    model: a Sequential or Functional model with one input and one output. A compiled one keeps its
        own optimizer and loss. Another one must give logits, and gets `recipe`: Muon, a one-cycle
        schedule over all epochs, cross-entropy with smoothed labels, and at the end the
        moving average of the weights; every call of `fit` starts that recipe afresh, from the
        weights that the model has.
    train, validation: a `data.Dataset` or a pair (images, labels). Images (N, H, W, C), uint8
        (scaled here to 0..1) or float (taken as they are); labels (N,) integers from 0.
    epochs, batch_size: integers of at least 1.
    learning_rate, weight_decay, label_smoothing: the recipe's peak, above 0; the part of each
        kernel that a step takes away, times the rate, at least 0 (biases and norms keep theirs);
        the targets' share for all classes, at least 0 and below 1. Leave them out for a compiled
        model.
    augment: a function (images, rng) that returns a batch changed at random, such as
        `recipe.flip_and_shift`; it gets the images as you gave them, and a NumPy generator that
        follows the seed, the epoch and the batch.
    seed: an integer of at least 0; it sets the global generators and, with the epoch, the order of
        the images. A model's first weights and its dropout draw their seeds when you build it: call
        keras.utils.set_random_seed before. With both, one machine's processor gives the same
        history and weights each time.
    checkpoint: a file to keep the training in, written after each epoch. Where it exists, the
        training goes on after its last epoch and ends as if nothing had stopped it.
    progress: True or False for a bar on stderr; None shows it in a terminal or a notebook. Into a
        file it writes one line an epoch. The environment variable RESNETLIB_PROGRESS=0 turns it
        off everywhere.
    On a processor that multiplies bfloat16 numbers, such as one with AVX512_BF16, the steps are
    shorter for a model built after keras.config.set_dtype_policy("mixed_bfloat16"); on others they
    are longer, and the numbers differ, so the course's notebooks leave it off.
    Set TF_ENABLE_ONEDNN_OPTS=1 in the environment before TensorFlow is imported: without it,
    TensorFlow has its faster convolutions only on newer processors (benchmarks/training_step.py).
    Errors: ValueError or TypeError for bad arguments, and for the checkpoint of another training;
    FloatingPointError if the loss is no longer a finite number.
    Taught in chapters 4 and 5.
    """
    epochs, batch_size = positive("epochs", epochs), positive("batch_size", batch_size)
    if not 0 < learning_rate < math.inf:
        raise ValueError(f"learning_rate is a number above 0; received {learning_rate!r}")
    if not 0 <= weight_decay < math.inf:
        raise ValueError(f"weight_decay is a number of at least 0; received {weight_decay!r}")
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing is at least 0 and below 1; received {label_smoothing!r}")
    # JSON, in which a checkpoint keeps them, has no NumPy numbers.
    rates = {
        "learning_rate": float(learning_rate),
        "weight_decay": float(weight_decay),
        "label_smoothing": float(label_smoothing),
    }
    images, labels = _arrays(train, "train")
    keras.utils.set_random_seed(seed)
    if isinstance(model, keras.Sequential) and not model.built:
        model.build((None, *images.shape[1:]))
    _check(model, images, "train", labels)
    batches = _Batches(images, labels, batch_size, augment)
    unseen = held_out = None
    if validation is not None:
        val_images, val_labels = _arrays(validation, "validation")
        _check(model, val_images, "validation", val_labels)
        unseen = _Batches(val_images, val_labels, batch_size).feed()
        held_out = val_labels, val_images
    own = model.compiled and _optimizer(model).name != recipe.NAME
    if not own:
        _refuse_probabilities(model)
        recipe.compile_with_recipe(model, epochs * len(batches), **rates)
    else:
        _refuse_for_compiled(
            model,
            learning_rate=(learning_rate, PEAK),
            weight_decay=(weight_decay, WEIGHT_DECAY),
            label_smoothing=(label_smoothing, LABEL_SMOOTHING),
        )
    if not model.optimizer.built:
        # Variables made inside the first step would have Keras trace that step twice.
        model.optimizer.build(model.trainable_variables)
    facts = {
        "seed": seed,
        "epochs": epochs,
        "images": len(images),
        "batch_size": batch_size,
        "optimizer": type(_optimizer(model)).__name__,
    }
    record, callbacks = _Record(), []
    if checkpoint is not None:
        made_for = (
            facts
            | rates
            | {
                "augment": augment and _name(augment),
                "data": _checksum(labels, images),
                "validation": held_out and _checksum(*held_out),
                "network": _structure(model),
            }
        )
        if own:
            made_for |= {"loss": _name(model.loss), "settings": _settings(_optimizer(model))}
        keeper = _Checkpoint(Path(checkpoint), made_for, model, record)
        keeper.restore()
        callbacks.append(keeper)
    if _shows(progress):
        callbacks.append(_Bar(epochs, len(batches)))

    def begin(epoch: int, logs: dict) -> None:
        # For code that draws from the global generators, as PyTorch's dropout does. TensorFlow's
        # stays: at a new seed it would prepare its graphs again, for seconds in each epoch, and
        # Keras' layers do not draw from it.
        if keras.backend.backend() == "tensorflow":
            random.seed(seed + epoch)
            np.random.seed(seed + epoch)
        else:
            keras.utils.set_random_seed(seed + epoch)
        batches.shuffle(seed, epoch)

    spent, start = sum(epoch["seconds"] for epoch in record.epochs), time.perf_counter()
    model.fit(
        batches.feed(),
        validation_data=unseen,
        initial_epoch=len(record.epochs),
        epochs=epochs,
        shuffle=False,  # Keras would shuffle the batches again, with Python's generator
        verbose=0,
        callbacks=[
            keras.callbacks.LambdaCallback(on_epoch_begin=begin),
            _AverageBeforeLastTest(epochs),
            record,
            *callbacks,
        ],
    )
    provenance = facts | {
        "versions": versions(),
        "platform": platform.platform(),
        "cores": cores(),
        "seconds": round(spent + time.perf_counter() - start, 1),
    }
    return History(record.epochs, provenance)


def evaluate(
    model: keras.Model, dataset: Any, batch_size: int = 256, *, flips: bool = False
) -> dict[str, float]:
    """Return the loss and the accuracy of a model on a `data.Dataset` or (images, labels).

    A compiled model reports its own loss and metrics, another one cross-entropy and accuracy, so
    that you can measure a model before its training.
    flips: judge the mean of the probabilities of each image and of its mirror image, by
        cross-entropy and accuracy. It is another measure, at twice the cost: say so with it.
    Errors: ValueError or TypeError for bad arguments.
    """
    images, labels = _arrays(dataset, "dataset")
    _check(model, images, "dataset", labels)
    if flips and model.outputs[0].shape[-1] == 1:
        raise ValueError(
            f"flips needs an output for each class; model {model.name!r} has 1; leave flips out"
        )
    batch_size = positive("batch_size", batch_size)
    if model.compiled and not flips:
        batches = _Batches(images, labels, batch_size).feed()
        return _in_order(model.evaluate(batches, verbose=0, return_dict=True))
    scores = _outputs(model, images, batch_size)
    logits = not _ends_in_probabilities(model)
    if flips:
        mirrored = _outputs(model, images[:, :, ::-1], batch_size)
        both = [ops.softmax(x) if logits else x for x in (scores, mirrored)]
        scores, logits = ops.convert_to_numpy(both[0] + both[1]) / 2, False
    loss = keras.losses.sparse_categorical_crossentropy(labels, scores, from_logits=logits)
    accuracy = np.mean(np.argmax(scores, axis=-1) == labels)
    return {"loss": float(ops.mean(loss)), "accuracy": float(accuracy)}


def predict(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Return the model's outputs, logits or probabilities as the model gives them.

    images: a batch (N, H, W, C), uint8 (scaled here to 0..1) or float (taken as it is).
    Result: (N, classes) float32.
    """
    images = _images(images, "the")
    _check(model, images, "the")
    return _outputs(model, images, 256)


def _outputs(model: keras.Model, images: np.ndarray, batch_size: int) -> np.ndarray:
    # A model of 16 bits may end in 16, too few for a softmax.
    scores = model.predict(_Batches(images, None, batch_size).feed(), verbose=0)
    return scores.astype("float32", copy=False)


class _Batches(keras.utils.PyDataset):
    """Batches of float images, in their order until `shuffle` is called."""

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray | None,
        batch_size: int,
        augment: Callable | None = None,
    ) -> None:
        super().__init__()
        self.images, self.labels, self.batch_size = images, labels, batch_size
        self.order, self.augment, self.seed = np.arange(len(images)), augment, (0, 0)

    def __len__(self) -> int:
        return math.ceil(len(self.images) / self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        chosen = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        images = self.images[chosen]
        if self.augment:
            images = self._changed(images, np.random.default_rng((*self.seed, index)))
        images = images.astype("float32")
        if self.images.dtype == np.uint8:
            images /= 255
        return (images,) if self.labels is None else (images, self.labels[chosen])

    def feed(self) -> Any:
        """Return what Keras is to read the batches from: these, or on TensorFlow a tf.data.Dataset.

        Keras would make such a dataset with TensorFlow's autotuner. That thread sleeps twice as
        long each time, and sometimes an epoch's end does not wake it: the epoch then takes up to
        twice its time. There is nothing here to tune.
        """
        if keras.backend.backend() != "tensorflow":
            return self
        import tensorflow as tf

        options = tf.data.Options()
        options.autotune.enabled = False
        kinds = tuple(tf.TensorSpec((None, *a.shape[1:]), a.dtype) for a in self[0])
        # The generator reads the order when an epoch begins, and ends after as many batches.
        batches = tf.data.Dataset.from_generator(
            lambda: map(self.__getitem__, range(len(self))), output_signature=kinds
        )
        counted = batches.apply(tf.data.experimental.assert_cardinality(len(self)))
        return counted.prefetch(2).with_options(options)

    def shuffle(self, seed: int, epoch: int) -> None:
        # NumPy's generator, not the backend's: the same order everywhere, for any epoch at once.
        self.order = np.random.default_rng((seed, epoch)).permutation(len(self.images))
        self.seed = seed, epoch

    def _changed(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        changed = np.asarray(self.augment(images, rng))
        if (changed.shape, changed.dtype) != (images.shape, images.dtype):
            raise ValueError(
                f"augment returns images like those it gets, {images.dtype} of shape "
                f"{images.shape}; it returned {changed.dtype} of shape {changed.shape}"
            )
        return changed


class _Record(keras.callbacks.Callback):
    """Keeps each epoch's numbers; stops when the loss is no number any more."""

    def __init__(self) -> None:
        super().__init__()
        self.epochs = []

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.epoch, self.start = epoch, time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._stop_unless_finite(logs["loss"], f"loss in step {batch + 1}")

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        metrics = _in_order(logs)
        self._stop_unless_finite(metrics.get("val_loss", 0), "validation loss")
        seconds = time.perf_counter() - self.start
        self.epochs.append({**metrics, "learning_rate": self._rate(), "seconds": seconds})

    def _rate(self) -> float:
        return float(ops.convert_to_numpy(self.model.optimizer.learning_rate))

    def _stop_unless_finite(self, loss: float, what: str) -> None:
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the {what} of epoch {self.epoch + 1} is {float(loss)} at learning rate "
                f"{self._rate():.3g}; build the model again and lower the learning rate, "
                "or look for images that are not finite numbers"
            )


class _AverageBeforeLastTest(keras.callbacks.Callback):
    """Lets the last validation see the weights that the training ends with, if they are averaged.

    Keras puts the optimizer's average in place after its last callback. It is the same average at
    the end of the last epoch.
    """

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self.last = epochs - 1

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.epoch = epoch

    def on_test_begin(self, logs: dict | None = None) -> None:
        optimizer = _optimizer(self.model)
        if self.epoch == self.last and optimizer.use_ema:
            variables = self.model.trainable_variables
            optimizer.finalize_variable_values(variables)
            for variable in variables:
                # A copy: on JAX it is the average's own array, which the evaluation would use up.
                variable.assign(ops.convert_to_numpy(variable))


class _Checkpoint(keras.callbacks.Callback):
    """Keeps a training after each epoch in one file, which is whole or not there."""

    def __init__(self, path: Path, made_for: dict, model: keras.Model, record: _Record) -> None:
        super().__init__()
        self.path, self.made_for, self.record = path, made_for, record
        self.state = [
            *model.trainable_variables,
            *model.non_trainable_variables,  # with the generators of the dropout layers
            *model.optimizer.variables,
        ]

    def restore(self) -> None:
        if not self.path.exists():
            return
        try:
            with np.load(self.path) as saved:
                note = json.loads(str(saved["note"]))
                values = [saved[f"arr_{i}"] for i in range(len(saved.files) - 1)]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{self.path} is no checkpoint of fit; delete it ({error})") from error
        shapes = [tuple(variable.shape) for variable in self.state]
        differing = [
            f"{key} {note['made_for'].get(key)!r}, not {value!r}"
            for key, value in self.made_for.items()
            if note["made_for"].get(key) != value
        ]
        if shapes != [value.shape for value in values]:
            differing.append("variables of other shapes")
        if differing:
            raise ValueError(
                f"{self.path} holds another training ({'; '.join(differing)}); "
                "delete it or name another checkpoint"
            )
        for variable, value in zip(self.state, values, strict=True):
            variable.assign(value)
        self.record.epochs.extend(note["epochs"])

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        note = json.dumps({"made_for": self.made_for, "epochs": self.record.epochs})
        values = [ops.convert_to_numpy(variable) for variable in self.state]
        new = self.path.with_name(self.path.name + ".new")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with new.open("wb") as file:
            np.savez(file, *values, note=np.asarray(note))
        new.replace(self.path)


class _Bar(keras.callbacks.Callback):
    """One line on stderr an epoch: steps, loss, accuracy, time gone and left."""

    def __init__(self, epochs: int, steps: int) -> None:
        super().__init__()
        self.epochs, self.steps, self.width, self.first = epochs, steps, 0, None

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.start = self.shown = time.perf_counter()

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.epoch = epoch
        if self.first is None:
            self.first = epoch  # above 0 where a checkpoint goes on

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if _live() and time.perf_counter() - self.shown > 0.2:
            self._write(batch + 1, logs)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._write(self.steps, logs)
        sys.stderr.write("\n")
        self.width = 0

    def _write(self, step: int, logs: dict) -> None:
        self.shown = time.perf_counter()
        gone, done = self.shown - self.start, (self.epoch - self.first) * self.steps + step
        left = gone / done * ((self.epochs - self.first) * self.steps - done)
        metrics = "  ".join(f"{name} {value:.3f}" for name, value in _in_order(logs).items())
        bar = ("#" * (12 * step // self.steps)).ljust(12, ".")
        line = (
            f"epoch {self.epoch + 1}/{self.epochs} {bar} {step}/{self.steps}  {metrics}  "
            f"{_clock(gone)}, {_clock(left)} left"
        )
        # A shorter line must wipe out the longer one before it.
        sys.stderr.write("\r" + line.ljust(self.width) if _live() else line)
        sys.stderr.flush()
        self.width = len(line)


def _in_order(logs: dict) -> dict[str, float]:
    """Return the metrics as Python floats, the loss first, the validation's last."""
    names = sorted(logs, key=lambda name: (name.startswith("val_"), "loss" not in name))
    return {name: float(logs[name]) for name in names}


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def _shows(progress: bool | None) -> bool:
    if os.environ.get("RESNETLIB_PROGRESS") == "0":
        return False
    if progress is None:
        return _live()
    return progress


def _live() -> bool:
    """Return whether a line on stderr can be written over."""
    return sys.stderr.isatty() or type(sys.stderr).__module__.startswith("ipykernel")


def _refuse_probabilities(model: keras.Model) -> None:
    if _ends_in_probabilities(model):
        raise ValueError(
            f"the last layer of model {model.name!r} gives probabilities, and the recipe needs "
            "logits; leave the final softmax or sigmoid out, or compile the model with its own loss"
        )


def _refuse_for_compiled(model: keras.Model, **arguments: tuple[float, float]) -> None:
    for name, (received, default) in arguments.items():
        if received != default:
            raise ValueError(
                f"model {model.name!r} is compiled and keeps its own {name.replace('_', ' ')}; "
                f"leave {name} out, or compile with it; received {received!r}"
            )


def _optimizer(model: keras.Model) -> keras.optimizers.Optimizer:
    """Return a compiled model's optimizer; with mixed_float16 Keras wraps it in another one."""
    return getattr(model.optimizer, "inner_optimizer", model.optimizer)


def _checksum(*arrays: np.ndarray) -> int:
    value = 0
    for array in arrays:
        value = zlib.crc32(np.ascontiguousarray(array), value)
    return value


def _operations(model: keras.Model) -> list:
    return getattr(model, "operations", None) or model.layers


def _structure(model: keras.Model) -> int:
    """Return what tells a network from one with variables of the same shapes: plain, residual."""
    return zlib.crc32(" ".join(type(op).__name__ for op in _operations(model)).encode())


def _settings(optimizer: keras.optimizers.Optimizer) -> str:
    settings = optimizer.get_config()
    del settings["name"]  # Keras counts: the second one in a process is adam_1
    return str(settings)


def _name(thing: Callable | str) -> str:
    """Return what tells one augmentation, or loss, from another, the same in each process."""
    if isinstance(thing, str):
        return thing
    if isinstance(thing, functools.partial):
        arguments = [*map(repr, thing.args)]
        arguments += [f"{key}={value!r}" for key, value in thing.keywords.items()]
        return f"{_name(thing.func)}({', '.join(arguments)})"
    return getattr(thing, "__qualname__", None) or type(thing).__qualname__


def _ends_in_probabilities(model: keras.Model) -> bool:
    last = _operations(model)[-1]
    if isinstance(last, keras.Model):
        return _ends_in_probabilities(last)
    squashing = (keras.activations.softmax, keras.activations.sigmoid)
    return type(last).__name__ in ("Softmax", "Sigmoid") or (
        getattr(last, "activation", None) in squashing
    )


def _arrays(dataset: Any, role: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the images and the labels of a Dataset or a pair, checked against each other."""
    if hasattr(dataset, "images") and hasattr(dataset, "labels"):
        dataset = (dataset.images, dataset.labels)
    if not isinstance(dataset, tuple | list) or len(dataset) != 2:
        raise TypeError(
            f"{role} is a data.Dataset or a pair (images, labels); "
            f"received {type(dataset).__name__}"
        )
    images, labels = _images(dataset[0], role), np.asarray(dataset[1])
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"{role} labels are integers of shape (N,); received {labels.dtype} of shape "
            f"{labels.shape}; np.argmax(labels, axis=-1) undoes a one-hot code"
        )
    if len(images) != len(labels):
        raise ValueError(
            f"{role} needs as many images as labels; "
            f"received {len(images):,} images and {len(labels):,} labels"
        )
    return images, labels


def _images(images: Any, role: str) -> np.ndarray:
    images = np.asarray(images)
    if images.dtype != np.uint8 and not np.issubdtype(images.dtype, np.floating):
        raise TypeError(f"{role} images are uint8 or float; received {images.dtype}")
    if images.size == 0:
        raise ValueError(
            f"{role} images hold at least one image; received the shape {images.shape}"
        )
    return images


def _check(
    model: keras.Model, images: np.ndarray, role: str, labels: np.ndarray | None = None
) -> None:
    """Reject images and labels that do not fit the model's ends."""
    if not isinstance(model, keras.Model):
        raise TypeError(f"model is a keras.Model; received {type(model).__name__}")
    ends = getattr(model, "inputs", None), getattr(model, "outputs", None)
    if None in ends or len(ends[0]) != 1 or len(ends[1]) != 1:
        raise ValueError(
            f"model {model.name!r} must be a built Sequential or Functional model "
            "with one input and one output"
        )
    wanted, received = tuple(ends[0][0].shape[1:]), images.shape[1:]
    if len(wanted) != len(received) or any(
        w not in (None, r) for w, r in zip(wanted, received, strict=True)
    ):
        remedy = ""
        if (*received, 1) == wanted:
            remedy = "; images[..., None] adds the channel"
        elif images.shape == wanted:
            remedy = "; images[None] makes a batch of one image"
        raise ValueError(
            f"model {model.name!r} takes {role} images of shape (N, {str(wanted)[1:-1]}); "
            f"received {images.shape}{remedy}"
        )
    if labels is None:
        return
    classes = ends[1][0].shape[-1]
    if classes == 1 and model.compiled:
        classes = 2  # one sigmoid tells two classes apart
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"model {model.name!r} tells {classes} classes apart, so {role} labels are 0 to "
            f"{classes - 1}; received {labels.min()} to {labels.max()}"
        )
