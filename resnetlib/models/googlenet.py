"""GoogLeNet: inception modules (Szegedy et al. 2014). Chapter 9."""

from collections.abc import Callable
from dataclasses import dataclass

import keras
from keras import layers

from resnetlib.blocks import (
    HE,
    LocalResponseNormalization,
    classifier,
    conv_relu,
    inception,
    logits,
)

# Szegedy et al. 2014, table 1. Columns: 1×1, 3×3 reduce, 3×3, 5×5 reduce, 5×5, pool projection.
TABLE_1 = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
# Ours, for small images.
MINI = {
    "3a": (16, 16, 32, 4, 8, 8),
    "3b": (24, 16, 48, 8, 12, 12),
    "4a": (32, 24, 64, 8, 16, 16),
    "4b": (64, 32, 64, 8, 24, 24),
}
# Section 5: auxiliary classifiers read these modules, and their losses count 0.3 in the sum.
AUXILIARY = {"4a": "auxiliary_1", "4d": "auxiliary_2"}
AUXILIARY_WEIGHT = 0.3


def stem(x: keras.KerasTensor) -> keras.KerasTensor:
    """Return an eighth of the resolution with 192 maps (table 1, the first four rows)."""
    x = max_pool(conv_relu(x, 64, 7, 2, name="conv1"), name="pool1")
    x = LocalResponseNormalization(name="norm1")(x)
    x = conv_relu(x, 64, 1, name="conv2_reduce")
    x = conv_relu(x, 192, 3, name="conv2")
    x = LocalResponseNormalization(name="norm2")(x)
    return max_pool(x, name="pool2")


def mini_stem(x: keras.KerasTensor) -> keras.KerasTensor:
    """Return a quarter of the resolution with 48 maps."""
    x = max_pool(conv_relu(x, 16, 3, name="conv1"), name="pool1")
    return max_pool(conv_relu(x, 48, 3, name="conv2"), name="pool2")


def max_pool(x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    """Return 3×3 max pooling with stride 2 that halves an even size.

    The last window hangs over the border, as in the paper's table: 112, 56, 28, 14, 7.
    """
    return layers.MaxPooling2D(3, 2, "same", name=name)(x)


def auxiliary_head(x: keras.KerasTensor, classes: int, *, name: str) -> keras.KerasTensor:
    """Return logits from a middle layer, wanted in training only (section 5)."""
    x = layers.AveragePooling2D(5, 3, name=f"{name}_pool")(x)
    x = conv_relu(x, 128, 1, name=f"{name}_conv")
    x = layers.Flatten(name=f"{name}_flatten")(x)
    x = layers.Dense(1024, "relu", kernel_initializer=HE, name=f"{name}_fc")(x)
    x = layers.Dropout(0.7, name=f"{name}_dropout")(x)
    return logits(x, classes, name=name)


@dataclass(frozen=True)
class Plan:
    """One network; table has an entry for each module, auxiliary names the heads by module."""

    stem: Callable
    table: dict[str, tuple[int, int, int, int, int, int]]
    auxiliary: dict[str, str]
    module: Callable = inception


PLANS = {
    "googlenet": Plan(stem, TABLE_1, {}),
    "googlenet_auxiliary": Plan(stem, TABLE_1, AUXILIARY),
    "googlenet_mini": Plan(mini_stem, MINI, {}),
}


def build(name: str, input_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """Return the network `name` of this family with new weights.

    "googlenet_auxiliary" has three outputs: its logits, then those of the two auxiliary heads.
    Compile it with loss_weights=[1, AUXILIARY_WEIGHT, AUXILIARY_WEIGHT].
    """
    return network(name, PLANS[name], input_shape, classes)


def network(name: str, plan: Plan, input_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """Return the network of a plan. A pool stands before a module whose number is a new one."""
    inputs = keras.Input(input_shape)
    x, heads, stage = plan.stem(inputs), [], "3"
    for module, widths in plan.table.items():
        if module[0] != stage:
            x, stage = max_pool(x, name=f"pool{stage}"), module[0]
        x = plan.module(x, widths, name=f"inception_{module}")
        if module in plan.auxiliary:
            heads.append(auxiliary_head(x, classes, name=plan.auxiliary[module]))
    main = classifier(x, classes, dropout=0.4)
    return keras.Model(inputs, [main, *heads] if heads else main, name=name)
