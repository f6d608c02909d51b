"""The course's recipe: its schedule, loss, augmentation and optimizer. `training.fit` uses them."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

# fit gives this name to the optimizer of the course's recipe, and so knows it again.
NAME = "course_recipe"
# Of 0.01 and 0.02, by five epochs of 12,000 training images and 6,000 held back: resnet_mini was
# better with 0.02 (0.906, not 0.895), vgg_mini (0.869, not 0.888) and lenet_mini (0.868, not 0.874)
# were worse.
PEAK = 1e-2
WARMUP = 0.1
WEIGHT_DECAY = 0.02
LABEL_SMOOTHING = 0.1
# The weights that a training ends with are an average over about this part of its steps.
AVERAGED = 0.05


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

    peak: the highest learning rate, above 0; the schedule starts at peak / 25, or at the peak where
        no step is left for the rise.
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
    return OneCycle(float(peak), positive("total_steps", total_steps), float(warmup))


@keras.saving.register_keras_serializable("resnetlib")
class Muon(keras.optimizers.Optimizer):
    """An optimizer: orthogonal steps for the kernels of convolutions, Adam's for all else.

    A kernel (height, width, in, out) is read as a matrix with `out` columns. Adam would scale each
    of its numbers alone; Muon keeps the singular vectors of the gradient's moving sum, and makes
    all its singular values about 1: the step moves every direction of the matrix as much, not
    mostly the few that the gradient shows. Its scale is such that one learning rate serves both.
    A depthwise kernel with one filter a channel is no such matrix, and left to Adam.
    learning_rate, weight_decay, use_ema, ema_momentum, name: as in keras.optimizers.AdamW.
    Source: Jordan et al. 2024 (the step, momentum and coefficients); Liu et al. 2025, section 2.2
    (the scale). Departs from keras.optimizers.Muon, which leaves all kernels of four axes to Adam.
    """

    MOMENTUM, BETA_1, BETA_2, EPSILON = 0.95, 0.9, 0.999, 1e-7

    def build(self, variables: list) -> None:
        """Make the moments of each variable; kernels of convolutions need only the first."""
        if self.built:
            return
        super().build(variables)
        kinds = [("momentum",) if _is_matrix(v) else ("momentum", "velocity") for v in variables]
        self.moments = [
            [self.add_variable_from_reference(variable, name=name) for name in names]
            for variable, names in zip(variables, kinds, strict=True)
        ]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Change one variable, as Keras asks of an optimizer."""
        gradient, rate = (ops.cast(x, variable.dtype) for x in (gradient, learning_rate))
        # Keras has no public name for it; on TensorFlow the variable is not Keras' own here.
        momentum, *velocity = self.moments[self._get_variable_index(variable)]
        if not velocity:
            self.assign(momentum, self.MOMENTUM * momentum + gradient)
            ahead = gradient + self.MOMENTUM * momentum  # Nesterov's
            matrix = ops.reshape(ahead, (-1, variable.shape[-1]))
            # 0.2 is about the root mean square of a step of Adam, in units of the rate.
            step = 0.2 * max(matrix.shape) ** 0.5 * orthogonal(matrix)
            self.assign_sub(variable, rate * ops.reshape(step, variable.shape))
            return
        count = ops.cast(self.iterations + 1, variable.dtype)
        self.assign_add(momentum, (1 - self.BETA_1) * (gradient - momentum))
        self.assign_add(velocity[0], (1 - self.BETA_2) * (ops.square(gradient) - velocity[0]))
        first = momentum / (1 - self.BETA_1**count)
        second = velocity[0] / (1 - self.BETA_2**count)
        self.assign_sub(variable, rate * first / (ops.sqrt(second) + self.EPSILON))


def _is_matrix(variable: keras.Variable) -> bool:
    return len(variable.shape) == 4 and variable.shape[-1] > 1


def orthogonal(matrix: Any) -> Any:
    """Return a matrix (rows, columns) with its singular vectors kept and singular values near 1.

    Five steps of a polynomial iteration, which needs products only, take singular values that are
    not tiny beside the largest to between 0.7 and 1.2.
    Source: Jordan et al. 2024.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = ops.transpose(matrix) if tall else matrix  # the smaller products
    x = x / (ops.norm(x) + 1e-7)  # no singular value is above 1
    for _ in range(5):
        square = ops.matmul(x, ops.transpose(x))
        cubic = -4.7750 * square + 2.0315 * ops.matmul(square, square)
        x = 3.4445 * x + ops.matmul(cubic, x)
    return ops.transpose(x) if tall else x


@keras.saving.register_keras_serializable("resnetlib")
class SmoothedCrossentropy(keras.losses.Loss):
    """The recipe's loss: cross-entropy of logits (N, classes) and integer labels (N,).

    label_smoothing: the share of each target that all classes divide among them evenly (Szegedy et
    al. 2015, Rethinking the Inception architecture, section 7).
    """

    def __init__(
        self, label_smoothing: float = LABEL_SMOOTHING, name: str = "smoothed_crossentropy"
    ) -> None:
        """Take the share, at least 0 and below 1."""
        super().__init__(name=name)
        self.label_smoothing = label_smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of each image, (N,)."""
        one_hot = ops.one_hot(ops.reshape(y_true, (-1,)), y_pred.shape[-1], dtype=y_pred.dtype)
        return keras.losses.categorical_crossentropy(
            one_hot, y_pred, from_logits=True, label_smoothing=self.label_smoothing
        )

    def get_config(self) -> dict:
        """Return the arguments of the constructor."""
        return {"label_smoothing": self.label_smoothing, "name": self.name}


def flip_and_shift(images: np.ndarray, rng: np.random.Generator, border: int = 2) -> np.ndarray:
    """Return the images (N, H, W, C) mirrored at random, and shifted by up to `border` pixels.

    Half of them are mirrored; the shifts are uniform and bring zeros in. Give it to `fit` as
    `augment`; functools.partial sets another border. Not for letters: a mirrored b is a d.
    Source: He et al. 2015, section 4.2, with a border of 4 for CIFAR-10.
    """
    flip = rng.random(len(images)) < 0.5
    mirrored = np.where(flip[:, None, None, None], images[:, :, ::-1], images)
    padded = np.pad(mirrored, ((0, 0), (border, border), (border, border), (0, 0)))
    height, width = images.shape[1:3]
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    top, left = rng.integers(0, 2 * border + 1, (2, len(images)))
    # windows: (N, tops, lefts, C, H, W), a view; each image takes one of them.
    return np.moveaxis(windows[np.arange(len(images)), top, left], 1, -1)


def compile_with_recipe(
    model: keras.Model,
    total_steps: int,
    learning_rate: float = PEAK,
    weight_decay: float = WEIGHT_DECAY,
    label_smoothing: float = LABEL_SMOOTHING,
) -> None:
    """Give a model that ends in logits the recipe for a training of so many steps."""
    optimizer = Muon(
        one_cycle(learning_rate, total_steps, WARMUP),
        weight_decay=weight_decay,
        use_ema=True,
        ema_momentum=max(0.0, 1 - 1 / (AVERAGED * total_steps)),
        name=NAME,
    )
    # Biases, and the scales and shifts of norms, have one axis.
    optimizer.exclude_from_weight_decay([v for v in model.trainable_variables if v.ndim < 2])
    # XLA stays as Keras has it: for a GPU, and not for a CPU, where it makes the steps longer.
    model.compile(
        optimizer=optimizer,
        loss=SmoothedCrossentropy(label_smoothing),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
    )


def positive(name: str, value: Any) -> int:
    """Return an integer of at least 1, or raise an error that names the argument."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} is an integer of at least 1; received {value!r}")
    return int(value)
