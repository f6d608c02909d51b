"""VGG: stacks of 3×3 convolutions (Simonyan and Zisserman 2014). Chapter 8."""

from dataclasses import dataclass

import keras
from keras import layers

from resnetlib.blocks import conv_relu, dense_classifier


@dataclass(frozen=True)
class Plan:
    """One network: 3×3 convolutions in each stage, their filters, the width of fc6 and fc7."""

    repeats: tuple[int, ...]
    widths: tuple[int, ...]
    dense: tuple[int, ...]


WIDTHS, DENSE = (64, 128, 256, 512, 512), (4096, 4096)
# Simonyan and Zisserman 2014, table 1: columns A, B, D and E.
PLANS = {
    "vgg11": Plan((1, 1, 2, 2, 2), WIDTHS, DENSE),
    "vgg13": Plan((2, 2, 2, 2, 2), WIDTHS, DENSE),
    "vgg16": Plan((2, 2, 3, 3, 3), WIDTHS, DENSE),
    "vgg19": Plan((2, 2, 4, 4, 4), WIDTHS, DENSE),
    "vgg_mini": Plan((2, 2, 2), (12, 24, 48), (128,)),
}


def build(name: str, input_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """Return the network `name` of this family with new weights."""
    plan = PLANS[name]
    x = inputs = keras.Input(input_shape)
    for stage, (repeats, filters) in enumerate(zip(plan.repeats, plan.widths, strict=True), 1):
        for number in range(1, repeats + 1):
            x = conv_relu(x, filters, 3, name=f"conv{stage}_{number}")
        x = layers.MaxPooling2D(2, name=f"pool{stage}")(x)
    # The dense layers count on from the stages: fc6, fc7, fc8.
    logits = dense_classifier(x, plan.dense, classes, first=len(plan.repeats) + 1)
    return keras.Model(inputs, logits, name=name)
