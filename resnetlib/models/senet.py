"""Squeeze and excitation in ResNets, GoogLeNet and SENet-154 (Hu et al. 2018). Chapter 15."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import keras
from keras import layers

from resnetlib.blocks import (
    LAST_GAMMA,
    basic_branch,
    batch_norm,
    bottleneck_branch,
    conv,
    conv_bn,
    conv_bn_relu,
    inception,
    relu,
    squeeze_excite,
)
from resnetlib.models import googlenet, resnet


def senet_stem(x: keras.KerasTensor) -> keras.KerasTensor:
    """Return a quarter of the resolution: three 3×3, the first with stride 2, and max pooling.

    The authors' framework, Caffe, pools without a border and rounds the size up; for even sizes
    that is Keras' "same".
    """
    x = conv_bn_relu(x, 64, 3, 2, name="conv1_a")
    x = conv_bn_relu(x, 64, 3, name="conv1_b")
    x = conv_bn_relu(x, 128, 3, name="conv1_c")
    return layers.MaxPooling2D(3, 2, "same", name="pool1")(x)


def se_branch(
    x: keras.KerasTensor,
    filters: int,
    strides: int,
    *,
    name: str,
    gamma: str,
    branch: Callable = basic_branch,
    ratio: int = 16,
) -> keras.KerasTensor:
    """Return a branch rescaled before the addition (fig. 3)."""
    y = branch(x, filters, strides, name=name, gamma=gamma)
    return squeeze_excite(y, ratio, name=name)


def se_inception(
    x: keras.KerasTensor, widths: tuple[int, int, int, int, int, int], *, name: str
) -> keras.KerasTensor:
    """Return the inception module with what it gives rescaled (fig. 2)."""
    return squeeze_excite(inception(x, widths, name=name), name=name)


def senet_bottleneck(
    x: keras.KerasTensor, filters: int, strides: int, *, name: str, option: str
) -> keras.KerasTensor:
    """Return SENet-154's block: 1×1 of half the usual width, 3×3 in 64 groups, 1×1, rescaling.

    Where the size halves, the shortcut is a 3×3 and so reads every pixel.
    """
    y = conv_bn_relu(x, 2 * filters, 1, name=f"{name}_a")
    y = conv(y, 4 * filters, 3, strides, name=f"{name}_b", groups=64)
    y = relu(batch_norm(y, name=f"{name}_b"), name=f"{name}_b")
    y = conv_bn(y, 4 * filters, 1, name=f"{name}_c", gamma=LAST_GAMMA)
    y = squeeze_excite(y, name=name)
    if strides > 1 or x.shape[-1] != 4 * filters:
        kernel_size = 3 if strides > 1 else 1
        x = conv_bn(x, 4 * filters, kernel_size, strides, name=f"{name}_shortcut")
    return relu(layers.Add(name=f"{name}_add")([y, x]), name=name)


se_bottleneck = partial(se_branch, branch=bottleneck_branch)
PLANS = {
    "se_resnet20": resnet.cifar(partial(resnet.residual, branch=se_branch), 20),
    "se_resnet50": resnet.imagenet(partial(resnet.residual, branch=se_bottleneck), 50),
    "se_googlenet": replace(googlenet.PLANS["googlenet"], module=se_inception),
    "senet154": replace(resnet.imagenet(senet_bottleneck, 152), stem=senet_stem),
    # With 16 channels the paper's ratio leaves one number to decide with; a ratio of 4 leaves four.
    "se_resnet_mini": resnet.mini(partial(resnet.residual, branch=partial(se_branch, ratio=4))),
}
DROPOUT = {"senet154": 0.2}  # before the classifier (appendix)


def build(name: str, input_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """Return the network `name` of this family with new weights."""
    plan = PLANS[name]
    if isinstance(plan, googlenet.Plan):
        return googlenet.network(name, plan, input_shape, classes)
    return resnet.network(name, plan, input_shape, classes, DROPOUT.get(name, 0))
