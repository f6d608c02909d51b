"""Train, evaluate and predict: one recipe, seeded, with a progress bar and a history."""

import math
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

import resnetlib
from resnetlib.tables import html_table, text_table

# fit gives this name to the optimizer of the course's recipe, and so knows it again.
RECIPE = "course_recipe"
PEAK = 1e-3


@keras.saving.register_keras_serializable("resnetlib")
class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """The schedule that `one_cycle` returns; Keras needs the class to load a saved model."""

    def __init__(self, peak: float, total_steps: int, warmup: float) -> None:
        """Take the arguments of `one_cycle`."""
        self.peak, self.total_steps, self.warmup = peak, total_steps, warmup

    def __call__(self, step: Any) -> Any:
        """Return the learning rate of an optimizer step, the first being 0."""
        step = ops.cast(step, "float32")
        top, last = int(self.warmup * self.total_steps), self.total_steps
        rising = self.peak * (1 + 24 * step / max(top, 1)) / 25
        down = ops.clip((step - top) / (last - top), 0, 1)
        return ops.where(step < top, rising, self.peak * (1 + ops.cos(math.pi * down)) / 2)

    def get_config(self) -> dict:
        """Return the arguments of the constructor."""
        return {"peak": self.peak, "total_steps": self.total_steps, "warmup": self.warmup}


def one_cycle(peak: float, total_steps: int, warmup: float = 0.3) -> OneCycle:
    """Return a learning rate that rises in a line to its peak and falls in a half cosine to 0.

    peak: the highest learning rate, above 0; the schedule starts at peak / 25.
    total_steps: optimizer steps (batches) of the whole training, at least 1; 0 from there on.
    warmup: the part of the steps in which the rate rises, at least 0 and below 1; the peak comes
        in step int(warmup * total_steps).
    Result: a Keras LearningRateSchedule that can be saved with a model.
    Source: Smith and Topin 2017 (super-convergence); the cosine fall is that of Loshchilov and
    Hutter 2016. Taught in chapter 5.
    """
    if not 0 < peak < math.inf:
        raise ValueError(f"peak is a number above 0; received {peak!r}")
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup is at least 0 and below 1; received {warmup!r}")
    return OneCycle(float(peak), _positive("total_steps", total_steps), float(warmup))


@dataclass(frozen=True, repr=False)
class History:
    """What a training did, epoch by epoch; `history["val_accuracy"]` lists one metric.

    `print` shows a table of the metrics, a notebook a richer one.
    epochs: for each epoch a dict of loss, accuracy, val_loss and val_accuracy (those that were
        measured), learning_rate (after the epoch's last step) and seconds.
    provenance: seed, images, batch_size, optimizer, versions, platform, cores and seconds.
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
    seed: int = 0,
    progress: bool | None = None,
) -> History:
    """Train a model on labelled images and return what happened.

    model: a Sequential or Functional model with one input and one output. A compiled one keeps its
        own optimizer and loss. Another one must give logits, and gets the course's recipe: AdamW, a
        one-cycle schedule over all epochs, and cross-entropy from logits; every call of `fit`
        starts that recipe afresh, from the weights that the model has.
    train, validation: a `data.Dataset` or a pair (images, labels). Images (N, H, W, C), uint8
        (scaled here to 0..1) or float (taken as they are); labels (N,) integers from 0.
    epochs, batch_size: integers of at least 1.
    learning_rate: the recipe's peak, above 0; leave it out for a compiled model.
    seed: an integer of at least 0; it sets the global generators and, with the epoch, the order of
        the images. A model's first weights and its dropout draw their seeds when you build it: call
        keras.utils.set_random_seed before. With both, one machine's processor gives the same
        history and weights each time.
    progress: True or False for a bar on stderr; None shows it in a terminal or a notebook. The
        environment variable RESNETLIB_PROGRESS=0 turns it off everywhere.
    Errors: ValueError or TypeError for bad arguments; FloatingPointError if the loss is no longer
    a finite number.
    Taught in chapters 4 and 5.
    """
    _positive("epochs", epochs)
    _positive("batch_size", batch_size)
    if not 0 < learning_rate < math.inf:
        raise ValueError(f"learning_rate is a number above 0; received {learning_rate!r}")
    keras.utils.set_random_seed(seed)  # for code that draws from the global generators
    images, labels = _arrays(train, "train")
    if isinstance(model, keras.Sequential) and not model.built:
        model.build((None, *images.shape[1:]))
    _check(model, images, "train", labels)
    batches, unseen = _Batches(images, labels, batch_size), None
    if validation is not None:
        val_images, val_labels = _arrays(validation, "validation")
        _check(model, val_images, "validation", val_labels)
        unseen = _Batches(val_images, val_labels, batch_size)
    if not model.compiled or model.optimizer.name == RECIPE:
        _compile(model, one_cycle(learning_rate, epochs * len(batches)))
    elif learning_rate != PEAK:
        raise ValueError(
            f"model {model.name!r} is compiled and keeps its own learning rate; leave "
            f"learning_rate out, or compile with it; received {learning_rate!r}"
        )
    if not model.optimizer.built:
        # Variables made inside the first step would have Keras trace that step twice.
        model.optimizer.build(model.trainable_variables)
    record = _Record()
    order = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: batches.shuffle(seed, epoch)
    )
    bar = [_Bar(epochs, len(batches))] if _shows(progress) else []
    start = time.perf_counter()
    model.fit(
        batches,
        validation_data=unseen,
        epochs=epochs,
        shuffle=False,  # Keras would shuffle the batches again, with Python's generator
        verbose=0,
        callbacks=[order, record, *bar],
    )
    provenance = {
        "seed": seed,
        "images": len(images),
        "batch_size": batch_size,
        "optimizer": type(model.optimizer).__name__,
        "versions": versions(),
        "platform": platform.platform(),
        "cores": cores(),
        "seconds": round(time.perf_counter() - start, 1),
    }
    return History(record.epochs, provenance)


def evaluate(model: keras.Model, dataset: Any, batch_size: int = 256) -> dict[str, float]:
    """Return the loss and the accuracy of a model on a `data.Dataset` or (images, labels).

    A compiled model reports its own loss and metrics, another one cross-entropy and accuracy, so
    that you can measure a model before its training.
    """
    images, labels = _arrays(dataset, "dataset")
    _check(model, images, "dataset", labels)
    batches = _Batches(images, labels, _positive("batch_size", batch_size))
    if model.compiled:
        return _in_order(model.evaluate(batches, verbose=0, return_dict=True))
    scores = model.predict(batches, verbose=0)
    loss = keras.losses.sparse_categorical_crossentropy(
        labels, scores, from_logits=not _ends_in_probabilities(model)
    )
    accuracy = np.mean(np.argmax(scores, axis=-1) == labels)
    return {"loss": float(ops.mean(loss)), "accuracy": float(accuracy)}


def predict(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Return the model's outputs, logits or probabilities as the model gives them.

    images: a batch (N, H, W, C), uint8 (scaled here to 0..1) or float (taken as it is).
    Result: (N, classes) float32.
    """
    images = _images(images, "the")
    _check(model, images, "the")
    return model.predict(_Batches(images, None, 256), verbose=0)


class _Batches(keras.utils.PyDataset):
    """Batches of float images, in their order until `shuffle` is called."""

    def __init__(self, images: np.ndarray, labels: np.ndarray | None, batch_size: int) -> None:
        super().__init__()
        self.images, self.labels, self.batch_size = images, labels, batch_size
        self.order = np.arange(len(images))

    def __len__(self) -> int:
        return math.ceil(len(self.images) / self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        chosen = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        images = self.images[chosen].astype("float32")
        if self.images.dtype == np.uint8:
            images /= 255
        return (images,) if self.labels is None else (images, self.labels[chosen])

    def shuffle(self, seed: int, epoch: int) -> None:
        # NumPy's generator, not the backend's: the same order everywhere, for any epoch at once.
        self.order = np.random.default_rng((seed, epoch)).permutation(len(self.images))


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


class _Bar(keras.callbacks.Callback):
    """One line on stderr an epoch: steps, loss, accuracy, time gone and left."""

    def __init__(self, epochs: int, steps: int) -> None:
        super().__init__()
        self.epochs, self.steps, self.width = epochs, steps, 0

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.start = self.shown = time.perf_counter()

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if time.perf_counter() - self.shown > 0.2:
            self._write(batch + 1, logs)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._write(self.steps, logs)
        sys.stderr.write("\n")
        self.width = 0

    def _write(self, step: int, logs: dict) -> None:
        self.shown = time.perf_counter()
        gone, done = self.shown - self.start, self.epoch * self.steps + step
        left = gone / done * (self.epochs * self.steps - done)
        metrics = "  ".join(f"{name} {value:.3f}" for name, value in _in_order(logs).items())
        bar = ("#" * (12 * step // self.steps)).ljust(12, ".")
        line = (
            f"epoch {self.epoch + 1}/{self.epochs} {bar} {step}/{self.steps}  {metrics}  "
            f"{_clock(gone)}, {_clock(left)} left"
        )
        # A shorter line must wipe out the longer one before it.
        sys.stderr.write("\r" + line.ljust(self.width))
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
        return sys.stderr.isatty() or type(sys.stderr).__module__.startswith("ipykernel")
    return progress


def _compile(model: keras.Model, schedule: OneCycle) -> None:
    """Give the model the course's recipe."""
    if _ends_in_probabilities(model):
        raise ValueError(
            f"the last layer of model {model.name!r} gives probabilities, and the recipe needs "
            "logits; leave the final softmax or sigmoid out, or compile the model with its own loss"
        )
    model.compile(
        optimizer=keras.optimizers.AdamW(schedule, name=RECIPE),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
    )


def _ends_in_probabilities(model: keras.Model) -> bool:
    last = (getattr(model, "operations", None) or model.layers)[-1]
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
        raise ValueError(f"{role} needs at least one image; received the shape {images.shape}")
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


def _positive(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} is an integer of at least 1; received {value!r}")
    return int(value)


def cores() -> int:
    """Return how many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count()


def versions() -> dict[str, str]:
    """Return the versions of Python, resnetlib, Keras, its backend and NumPy."""
    backend = keras.backend.backend()
    modules: Sequence[str] = (backend, "keras", "numpy")
    return {
        "python": platform.python_version(),
        "resnetlib": resnetlib.__version__,
        **{name: sys.modules[name].__version__ for name in modules},
    }
