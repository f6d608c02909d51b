"""AlexNet: two towers, and the reading with one (Krizhevsky et al. 2012 and 2014). Chapter 7."""

from dataclasses import dataclass

import keras
from keras import layers

from resnetlib.blocks import LocalResponseNormalization, conv_relu, dense_classifier


@dataclass(frozen=True)
class Conv:
    """A convolution with ReLU; padding is zeros on every side.

    norm: local response normalisation follows. pool: then overlapping max pooling, 3×3 stride 2.
    """

    filters: int
    kernel_size: int
    strides: int
    padding: int
    groups: int
    norm: bool
    pool: bool


@dataclass(frozen=True)
class Plan:
    """One network: its convolutions, and the width of fc6 and fc7."""

    convolutions: tuple[Conv, ...]
    dense: int


PLANS = {
    # Krizhevsky et al. 2012, fig. 2 and section 3.5. Half of the filters stood on either GPU; a
    # layer with two groups reads the maps of its own GPU only.
    "alexnet": Plan(
        (
            Conv(96, 11, 4, 0, 1, norm=True, pool=True),
            Conv(256, 5, 1, 2, 2, norm=True, pool=True),
            Conv(384, 3, 1, 1, 1, norm=False, pool=False),
            Conv(384, 3, 1, 1, 2, norm=False, pool=False),
            Conv(256, 3, 1, 1, 2, norm=False, pool=True),
        ),
        4096,
    ),
    # Krizhevsky 2014 (one weird trick), as torchvision reads it.
    "alexnet_one_tower": Plan(
        (
            Conv(64, 11, 4, 2, 1, norm=False, pool=True),
            Conv(192, 5, 1, 2, 1, norm=False, pool=True),
            Conv(384, 3, 1, 1, 1, norm=False, pool=False),
            Conv(256, 3, 1, 1, 1, norm=False, pool=False),
            Conv(256, 3, 1, 1, 1, norm=False, pool=True),
        ),
        4096,
    ),
    # Ours, for small images.
    "alexnet_mini": Plan(
        (
            Conv(24, 5, 1, 2, 1, norm=True, pool=True),
            Conv(48, 5, 1, 2, 2, norm=True, pool=True),
            Conv(64, 3, 1, 1, 1, norm=False, pool=False),
            Conv(64, 3, 1, 1, 2, norm=False, pool=False),
            Conv(48, 3, 1, 1, 2, norm=False, pool=True),
        ),
        128,
    ),
}


def build(name: str, input_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """Return the network `name` of this family with new weights."""
    plan = PLANS[name]
    x = inputs = keras.Input(input_shape)
    for number, row in enumerate(plan.convolutions, 1):
        x = conv_relu(
            x,
            row.filters,
            row.kernel_size,
            row.strides,
            padding=row.padding,
            groups=row.groups,
            name=f"conv{number}",
        )
        if row.norm:
            x = LocalResponseNormalization(name=f"norm{number}")(x)
        if row.pool:
            x = layers.MaxPooling2D(3, 2, name=f"pool{number}")(x)
    logits = dense_classifier(x, (plan.dense, plan.dense), classes, first=6)
    return keras.Model(inputs, logits, name=name)
