"""Xception: separable convolutions with shortcuts around them (Chollet 2017). Chapter 14."""

from dataclasses import dataclass

import keras
from keras import layers

from resnetlib.blocks import HE, batch_norm, classifier, conv_bn, relu, separable_conv_bn


@dataclass(frozen=True)
class Plan:
    """The widths (filters) of one network, flow by flow as in figure 5.

    stem: the two plain convolutions. entry: each block that halves the size. middle: how many
    blocks keep the size and the last entry width. exit: the last four separable convolutions.
    """

    stem: tuple[int, int]
    entry: tuple[int, ...]
    middle: int
    exit: tuple[int, int, int, int]


PLANS = {
    "xception": Plan((32, 64), (128, 256, 728), 8, (728, 1024, 1536, 2048)),
    "xception_mini": Plan((16, 32), (64,), 2, (64, 128, 192, 256)),
}


def valid_conv_bn_relu(
    x: keras.KerasTensor, filters: int, strides: int, *, name: str
) -> keras.KerasTensor:
    """Return a 3×3 convolution without padding, batch normalisation, ReLU."""
    x = layers.Conv2D(
        filters, 3, strides, use_bias=False, kernel_initializer=HE, name=f"{name}_conv"
    )(x)
    return relu(batch_norm(x, name=name), name=name)


def halving_block(
    x: keras.KerasTensor, filters: int, out_filters: int, *, name: str
) -> keras.KerasTensor:
    """Return two separable convolutions and max pooling, plus a 1×1 projection with stride 2."""
    y = x if name == "block2" else relu(x, name=f"{name}_a")  # the stem ends in a ReLU
    y = relu(separable_conv_bn(y, filters, name=f"{name}_a"), name=f"{name}_b")
    y = separable_conv_bn(y, out_filters, name=f"{name}_b")
    y = layers.MaxPooling2D(3, 2, "same", name=f"{name}_pool")(y)
    x = conv_bn(x, out_filters, 1, 2, name=f"{name}_shortcut")
    return layers.Add(name=f"{name}_add")([y, x])


def middle_block(x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    """Return three times ReLU and separable convolution, plus the trunk itself."""
    y = x
    for letter in "abc":
        y = relu(y, name=f"{name}_{letter}")
        y = separable_conv_bn(y, x.shape[-1], name=f"{name}_{letter}")
    return layers.Add(name=f"{name}_add")([y, x])


def build(name: str, input_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """Return the network `name` of this family with new weights.

    The layers of block N are called blockN_…, with Keras' numbers: xception enters by blocks 1 to
    4, stays in 5 to 12, and leaves by 13 and 14.
    """
    plan = PLANS[name]
    inputs = keras.Input(input_shape)
    x = valid_conv_bn_relu(inputs, plan.stem[0], 2, name="block1_a")
    x = valid_conv_bn_relu(x, plan.stem[1], 1, name="block1_b")
    for number, filters in enumerate(plan.entry, start=2):
        x = halving_block(x, filters, filters, name=f"block{number}")
    for _ in range(plan.middle):
        number += 1
        x = middle_block(x, name=f"block{number}")
    x = halving_block(x, *plan.exit[:2], name=f"block{number + 1}")
    for letter, filters in zip("ab", plan.exit[2:], strict=True):
        part = f"block{number + 2}_{letter}"
        x = relu(separable_conv_bn(x, filters, name=part), name=part)
    return keras.Model(inputs, classifier(x, classes), name=name)
