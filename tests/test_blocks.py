"""The blocks of the residual family against the NumPy oracles."""

import keras
import numpy as np
import pytest
from keras import ops

from resnetlib import blocks, numpy_ops


@pytest.fixture
def rng():
    return np.random.default_rng(12)


def shuffled(model, rng):
    """Draw every weight, the biases and the moving statistics too."""
    for variable in model.variables:
        if "seed" not in variable.path:
            variable.assign(rng.uniform(0.2, 1, variable.shape).astype("float32"))
    return {v.path: ops.convert_to_numpy(v) for v in model.variables}


@pytest.mark.parametrize(("size", "channels", "filters", "strides"), [(6, 4, 8, 2), (5, 3, 6, 2)])
def test_option_a_is_the_oracle(size, channels, filters, strides, rng):
    x = rng.normal(size=(2, size, size, channels)).astype("float32")
    layer = blocks.ZeroPadShortcut(filters, strides)
    y = ops.convert_to_numpy(layer(x))
    assert np.array_equal(y, numpy_ops.zero_pad_shortcut(x, filters, strides))
    again = blocks.ZeroPadShortcut.from_config(layer.get_config())
    assert np.array_equal(ops.convert_to_numpy(again(x)), y)


def test_option_a_refuses_to_lose_channels():
    with pytest.raises(ValueError, match="the trunk has 8, the branch 4"):
        blocks.ZeroPadShortcut(4)(np.zeros((1, 2, 2, 8), "float32"))


def test_squeeze_excite_is_the_oracle(rng):
    inputs = keras.Input((5, 5, 8))
    model = keras.Model(inputs, blocks.squeeze_excite(inputs, ratio=4, name="se"))
    for variable in model.variables:
        variable.assign(rng.normal(size=variable.shape).astype("float32"))
    w1, b1, w2, b2 = (
        ops.convert_to_numpy(v)
        for layer in ("se_reduce", "se_expand")
        for v in model.get_layer(layer).variables
    )
    x = rng.normal(size=(3, 5, 5, 8)).astype("float32")
    expected = numpy_ops.squeeze_excite(x, w1, b1, w2, b2)
    assert np.allclose(ops.convert_to_numpy(model(x)), expected, atol=1e-5)


@pytest.mark.parametrize(("size", "strides", "option"), [(6, 2, "B"), (7, 2, "A"), (6, 1, "C")])
def test_a_basic_block_is_numpys(size, strides, option, rng):
    """Symmetric padding, the place of each batch norm, and the sum before the last ReLU."""
    inputs = keras.Input((size, size, 4))
    branch = blocks.basic_branch(inputs, 8, strides, name="n", gamma=blocks.last_gamma(option))
    model = keras.Model(
        inputs, blocks.add_shortcut(inputs, branch, strides, name="n", option=option)
    )
    w = shuffled(model, rng)
    x = rng.normal(size=(2, size, size, 4)).astype("float32")

    def conv_bn(x, part, strides, padding):
        y = numpy_ops.conv2d_matmul(x, w[f"n_{part}_conv/kernel"], None, strides, padding)
        gamma, beta, mean, variance = (
            w[f"n_{part}_bn/{name}"] for name in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return numpy_ops.batch_norm(
            x=y, gamma=gamma, beta=beta, mean=mean, variance=variance, epsilon=1e-5
        )

    y = conv_bn(np.maximum(conv_bn(x, "a", strides, 1), 0), "b", 1, 1)
    if option == "A":
        trunk = numpy_ops.zero_pad_shortcut(x, 8, strides)
    else:
        trunk = conv_bn(x, "shortcut", strides, 0)
    expected = np.maximum(y + trunk, 0)
    result = ops.convert_to_numpy(model(x))
    assert np.abs(result - expected).max() < 1e-5 * np.abs(expected).max()


def test_the_named_choices_reach_the_layers():
    inputs = keras.Input((8, 8, 4))
    y = blocks.basic_branch(inputs, 4, name="n", gamma=blocks.last_gamma("B"))
    model = keras.Model(inputs, blocks.add_shortcut(inputs, y, name="n"))
    first, last = model.get_layer("n_a_bn"), model.get_layer("n_b_bn")
    assert (first.momentum, first.epsilon) == (0.9, 1e-5)
    assert ops.convert_to_numpy(first.gamma).tolist() == [1] * 4
    assert ops.convert_to_numpy(last.gamma).tolist() == [0] * 4
    wide = keras.Model(inputs, blocks.conv(inputs, 4000, 3, name="wide"))
    kernel = ops.convert_to_numpy(wide.get_layer("wide_conv").kernel)
    assert kernel.var() == pytest.approx(2 / (3 * 3 * 4), rel=0.02)
