"""Residual networks, their plain twins, and pre-activation (He et al. 2015 and 2016).

Chapters 11 to 13.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import keras
from keras import layers

from resnetlib.blocks import (
    add_shortcut,
    basic_branch,
    bn_relu,
    bottleneck_branch,
    bottleneck_branch_v1_5,
    check_option,
    classifier,
    conv,
    conv_bn_relu,
    last_gamma,
    relu,
    shortcut,
)


def imagenet_stem(x: keras.KerasTensor) -> keras.KerasTensor:
    """Return a quarter of the resolution: 7×7 stride 2, max pooling 3×3 stride 2 (table 1)."""
    return max_pool(conv_bn_relu(x, 64, 7, 2, name="conv1"))


def cifar_stem(x: keras.KerasTensor) -> keras.KerasTensor:
    """Return 16 maps at full resolution (section 4.2)."""
    return conv_bn_relu(x, 16, 3, name="conv1")


def imagenet_preact_stem(x: keras.KerasTensor) -> keras.KerasTensor:
    """Return the same without the activation, which the first block brings."""
    return max_pool(conv(x, 64, 7, 2, name="conv1"))


def cifar_preact_stem(x: keras.KerasTensor) -> keras.KerasTensor:
    """Return 16 maps at full resolution, not yet activated."""
    return conv(x, 16, 3, name="conv1")


def max_pool(x: keras.KerasTensor) -> keras.KerasTensor:
    """Return 3×3 max pooling with stride 2, and a border of zeros on every side.

    After a ReLU the zeros change nothing; after a bare convolution they are Keras' ResNet50V2's.
    """
    x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
    return layers.MaxPooling2D(3, 2, name="pool1")(x)


def plain_basic(
    x: keras.KerasTensor, filters: int, strides: int, *, name: str, option: str
) -> keras.KerasTensor:
    """Return the basic block without its shortcut: the paper's own control."""
    return relu(basic_branch(x, filters, strides, name=name, gamma="ones"), name=name)


def residual(
    x: keras.KerasTensor,
    filters: int,
    strides: int,
    *,
    name: str,
    option: str,
    branch: Callable = basic_branch,
) -> keras.KerasTensor:
    """Return the block of a branch and a shortcut (fig. 5: left with basic_branch)."""
    y = branch(x, filters, strides, name=name, gamma=last_gamma(option))
    return add_shortcut(x, y, strides, name=name, option=option)


def preact_basic(
    x: keras.KerasTensor, filters: int, strides: int, *, name: str, option: str
) -> keras.KerasTensor:
    """Return the basic block with batch norm and ReLU first (He et al. 2016, fig. 4e)."""
    before = bn_relu(x, name=f"{name}_a")
    y = conv(before, filters, 3, strides, name=f"{name}_a")
    y = conv(bn_relu(y, name=f"{name}_b"), filters, 3, name=f"{name}_b")
    return preact_add(x, before, y, strides, name=name, option=option)


def preact_bottleneck(
    x: keras.KerasTensor, filters: int, strides: int, *, name: str, option: str
) -> keras.KerasTensor:
    """Return the bottleneck with batch norm and ReLU first, its stride on the 3×3."""
    before = bn_relu(x, name=f"{name}_a")
    y = conv(before, filters, 1, name=f"{name}_a")
    y = conv(bn_relu(y, name=f"{name}_b"), filters, 3, strides, name=f"{name}_b")
    y = conv(bn_relu(y, name=f"{name}_c"), 4 * filters, 1, name=f"{name}_c")
    return preact_add(x, before, y, strides, name=name, option=option)


def preact_add(
    x: keras.KerasTensor,
    before: keras.KerasTensor,
    y: keras.KerasTensor,
    strides: int,
    *,
    name: str,
    option: str,
) -> keras.KerasTensor:
    """Return y plus the trunk, and nothing after it (He et al. 2016, eq. 3).

    A projection reads the pre-activation `before`. So does the first block, which activates what
    conv1 gives before the two paths split (appendix).
    """
    check_option(option)
    filters = y.shape[-1]
    if name == "conv2_1":
        x = before
    if option == "A":
        x = shortcut(x, filters, strides, name=name, option="A")
    elif option == "C" or strides > 1 or x.shape[-1] != filters:
        x = conv(before, filters, 1, strides, name=f"{name}_shortcut")
    return layers.Add(name=f"{name}_add")([y, x])


PREACT = (preact_basic, preact_bottleneck)


@dataclass(frozen=True)
class Plan:
    """One network; repeats, widths (filters) and strides have an entry for each stage."""

    stem: Callable
    block: Callable
    repeats: tuple[int, ...]
    widths: tuple[int, ...]
    strides: tuple[int, ...]
    option: str


# He et al. 2015, table 1: the blocks of conv2_x to conv5_x.
TABLE_1 = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}


def imagenet(block: Callable, depth: int) -> Plan:
    """Return the plan of table 1 for a depth."""
    stem = imagenet_preact_stem if block in PREACT else imagenet_stem
    return Plan(stem, block, TABLE_1[depth], (64, 128, 256, 512), (1, 2, 2, 2), "B")


def cifar(block: Callable, depth: int) -> Plan:
    """Return the plan of section 4.2: three stages of n blocks make 6n + 2 layers."""
    stem = cifar_preact_stem if block in PREACT else cifar_stem
    return Plan(stem, block, 3 * ((depth - 2) // 6,), (16, 32, 64), (1, 2, 2), "A")


def mini(block: Callable) -> Plan:
    """Return a plan of ours: one block a stage, each with a stride, trained on a laptop."""
    return replace(cifar(block, 8), strides=(2, 2, 2))


bottleneck = partial(residual, branch=bottleneck_branch)
CIFAR_DEPTHS = (20, 32, 44, 56, 110)
PLANS = {
    **{f"plain{depth}": imagenet(plain_basic, depth) for depth in (18, 34)},
    **{f"resnet{depth}": imagenet(residual, depth) for depth in (18, 34)},
    **{f"resnet{depth}": imagenet(bottleneck, depth) for depth in (50, 101, 152)},
    "resnet50_v1_5": imagenet(partial(residual, branch=bottleneck_branch_v1_5), 50),
    "resnet18_v2": imagenet(preact_basic, 18),
    "resnet50_v2": imagenet(preact_bottleneck, 50),
    **{f"plain{depth}": cifar(plain_basic, depth) for depth in CIFAR_DEPTHS},
    **{f"resnet{depth}": cifar(residual, depth) for depth in CIFAR_DEPTHS},
    **{f"preact_resnet{depth}": cifar(preact_basic, depth) for depth in CIFAR_DEPTHS},
    "plain_mini": mini(plain_basic),
    "resnet_mini": mini(residual),
    "preact_resnet_mini": mini(preact_basic),
}


def build(
    name: str, input_shape: tuple[int, int, int], classes: int, *, option: str | None = None
) -> keras.Model:
    """Return the network `name` of this family with new weights.

    option: of the shortcuts where the shape changes, "A" (zeros), "B" (projection) or "C"
        (projections everywhere), compared in table 3; None takes the plan's.
    """
    plan = PLANS[name]
    return network(name, replace(plan, option=option or plan.option), input_shape, classes)


def network(
    name: str, plan: Plan, input_shape: tuple[int, int, int], classes: int, dropout: float = 0
) -> keras.Model:
    """Return the network of a plan: stem, stages of blocks, classifier."""
    inputs = keras.Input(input_shape)
    x = plan.stem(inputs)
    stages = zip(plan.repeats, plan.widths, plan.strides, strict=True)
    for stage, (repeats, filters, strides) in enumerate(stages, start=2):
        for number in range(1, repeats + 1):
            block_name, block_strides = f"conv{stage}_{number}", strides if number == 1 else 1
            x = plan.block(x, filters, block_strides, name=block_name, option=plan.option)
    if plan.block in PREACT:
        x = bn_relu(x, name="post")
    return keras.Model(inputs, classifier(x, classes, dropout), name=name)
