"""numpy_ops against Keras' ops, finite differences, and integers computed by hand."""

import itertools
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from resnetlib import numpy_ops
from resnetlib.numpy_ops import (
    average_pool,
    average_pool_backward,
    batch_norm,
    batch_norm_backward,
    batch_statistics,
    conv2d_backward,
    conv2d_loops,
    conv2d_matmul,
    depthwise_max_pool,
    global_average_pool,
    global_average_pool_backward,
    local_response_normalization,
    max_pool,
    max_pool_backward,
    moving_average,
    output_size,
    pad_amounts,
    patches,
    patches_backward,
    rbf,
    scaled_tanh,
    squeeze_excite,
    trainable_subsampling,
    zero_pad_shortcut,
)

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

PADDINGS = ["valid", "same", 1, 2]
IMAGES = [(9, 9), (10, 10), (9, 12)]  # odd, even, not square


@pytest.fixture(scope="module")
def ops():
    import keras

    return keras.ops


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def integers(rng, *shape):
    """Small integers as float32: every sum of products is exact, so results must be equal."""
    return rng.integers(-9, 10, shape).astype(np.float32)


def zeros_around(x, padding):
    """An integer padding, which Keras does not know, as zeros plus Keras' own word."""
    if isinstance(padding, str):
        return x, padding
    return np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0))), "valid"


def zeros_between(kernel, dilation):
    """A dilated kernel as a large one with zeros: Keras refuses dilation with strides."""
    dh, dw = dilation
    kh, kw, channels, filters = kernel.shape
    large = np.zeros(((kh - 1) * dh + 1, (kw - 1) * dw + 1, channels, filters), kernel.dtype)
    large[::dh, ::dw] = kernel
    return large


def assert_gradient(gradient, function, array, dy, step=1e-4):
    """Compare with central differences of sum(dy · function(array)) in five random directions.

    A gradient with one wrong number differs in every random direction, so a few are enough.
    """
    assert gradient.shape == array.shape
    assert gradient.dtype == np.float64
    for direction in np.random.default_rng(1).normal(size=(5, *array.shape)):
        ahead, behind = function(array + step * direction), function(array - step * direction)
        numeric = np.sum(dy * (ahead - behind)) / (2 * step)
        np.testing.assert_allclose(np.sum(gradient * direction), numeric, atol=1e-7)


# Sizes


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((28, 3), 26),
        ((28, 5, 1, 2), 28),
        ((28, 3, 2, "same"), 14),
        ((5, 5), 1),
        ((5, 3, 2), 2),
        ((6, 3, 2), 2),
        ((7, 3, 2), 3),
        ((7, 3, 1, "valid", 2), 3),
        ((7, 3, 2, "valid", 3), 1),
        ((227, 11, 4), 55),  # AlexNet's first layer
        ((224, 7, 2, 3), 112),  # ResNet's first layer
        ((112, 3, 2, 1), 56),  # ResNet's pooling
        ((299, 3, 2), 149),  # Xception's first layer
        ((1, 1, 3), 1),
        ((4, 1, 3, "same"), 2),
    ],
)
def test_output_size_by_hand(arguments, expected):
    assert output_size(*arguments) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((28, 3), (0, 0)),
        ((28, 3, 1, "same"), (1, 1)),
        ((28, 2, 1, "same"), (0, 1)),
        ((28, 5, 1, "same", 2), (4, 4)),
        ((224, 3, 2, "same"), (0, 1)),
        ((225, 3, 2, "same"), (1, 1)),
        ((224, 7, 2, "same"), (2, 3)),
        ((10, 1, 3, "same"), (0, 0)),
        ((10, 2, 3, "same"), (0, 1)),
        ((9, 2, 3, "same"), (0, 0)),
        ((28, 3, 2, 1), (1, 1)),
        ((28, 3, 2, 0), (0, 0)),
    ],
)
def test_pad_amounts_by_hand(arguments, expected):
    assert pad_amounts(*arguments) == expected


def test_output_size_counts_the_places():
    """The formula against a count: slide a window along the padded axis and see where it fits."""
    for size, kernel, stride, padding, dilation in itertools.product(
        range(1, 13), range(1, 6), range(1, 4), PADDINGS, (1, 2)
    ):
        before, after = pad_amounts(size, kernel, stride, padding, dilation)
        last_pixel = (kernel - 1) * dilation
        places = [
            start
            for start in range(0, before + size + after, stride)
            if start + last_pixel < before + size + after
        ]
        if places:
            assert output_size(size, kernel, stride, padding, dilation) == len(places)
        else:
            with pytest.raises(ValueError, match="a window of"):
                output_size(size, kernel, stride, padding, dilation)
        if padding == "same":
            assert len(places) == -(-size // stride)


# Windows


def test_patches_by_hand():
    x = np.arange(16).reshape(1, 4, 4, 1)
    windows = patches(x, 2, strides=2)
    assert windows.shape == (1, 2, 2, 2, 2, 1)
    assert windows[0, 0, 0, :, :, 0].tolist() == [[0, 1], [4, 5]]
    assert windows[0, 1, 0, :, :, 0].tolist() == [[8, 9], [12, 13]]
    assert patches(x, 2, dilation_rate=(1, 3))[0, 0, 0, :, :, 0].tolist() == [[0, 3], [4, 7]]
    assert patches(x, 3, padding=1, fill=-1)[0, 0, 0, :, :, 0].tolist() == [
        [-1, -1, -1],
        [-1, 0, 1],
        [-1, 4, 5],
    ]


def test_patches_are_a_read_only_view_of_any_dtype():
    x = np.zeros((2, 8, 8, 3), np.uint8)
    windows = patches(x, 3, strides=2)
    assert windows.dtype == np.uint8
    assert np.shares_memory(windows, x)
    assert not windows.flags.writeable
    assert patches(x, 3, padding="same").dtype == np.uint8


def test_patches_backward_counts_how_often_a_pixel_is_seen():
    x = np.zeros((1, 4, 4, 1), np.float32)
    seen = patches_backward(np.ones((1, 2, 2, 3, 3, 1), np.float32), x, 3)
    assert seen[0, :, :, 0].tolist() == [[1, 2, 2, 1], [2, 4, 4, 2], [2, 4, 4, 2], [1, 2, 2, 1]]


# Convolution forwards


@pytest.mark.parametrize("convolve", [conv2d_loops, conv2d_matmul])
class TestConvolutionByHand:
    x = np.arange(1, 10, dtype=np.float32).reshape(1, 3, 3, 1)
    kernel = np.array([[1, 2], [3, 4]], np.float32).reshape(2, 2, 1, 1)

    def test_the_kernel_is_not_flipped(self, convolve):
        # 1·1 + 2·2 + 4·3 + 5·4 = 37, and so on
        assert convolve(self.x, self.kernel)[0, :, :, 0].tolist() == [[37, 47], [67, 77]]

    def test_bias_is_added_once(self, convolve):
        y = convolve(self.x, self.kernel, np.array([100]))
        assert y[0, :, :, 0].tolist() == [[137, 147], [167, 177]]

    def test_same_pads_an_even_kernel_after(self, convolve):
        y = convolve(self.x, self.kernel, padding="same")
        assert y[0, :, :, 0].tolist() == [[37, 47, 21], [67, 77, 33], [23, 26, 9]]

    def test_integer_padding_is_on_every_side(self, convolve):
        y = convolve(self.x, self.kernel, strides=3, padding=1)
        assert y[0, :, :, 0].tolist() == [[4, 9], [14, 9]]
        y = convolve(self.x, self.kernel, strides=(3, 1), padding=1)
        assert y[0, :, :, 0].tolist() == [[4, 11, 18, 9], [14, 23, 26, 9]]

    def test_dilation(self, convolve):
        # the corners: 1·1 + 3·2 + 7·3 + 9·4
        assert convolve(self.x, self.kernel, dilation_rate=2).tolist() == [[[[64]]]]

    def test_channels_are_summed_and_filters_kept_apart(self, convolve):
        x = np.array([[[[1, 2, 3, 4]]]])
        kernel = np.array([[1, 10], [1, 10], [1, 10], [2, 20]]).reshape(1, 1, 4, 2)
        assert convolve(x, kernel).tolist() == [[[[14, 140]]]]

    def test_groups_see_their_own_channels(self, convolve):
        x = np.array([[[[1, 2, 3, 4]]]])
        kernel = np.array([[1, 10, 1, 10], [2, 20, 2, 20]]).reshape(1, 1, 2, 4)
        assert convolve(x, kernel, groups=2).tolist() == [[[[5, 50, 11, 110]]]]

    def test_as_many_groups_as_channels(self, convolve):
        x = np.array([[[[1, 2, 3]]]])
        kernel = np.array([5, 6, 7]).reshape(1, 1, 1, 3)
        assert convolve(x, kernel, groups=3).tolist() == [[[[5, 12, 21]]]]

    def test_no_image_gives_no_output(self, convolve):
        assert convolve(self.x[:0], self.kernel).shape == (0, 2, 2, 1)

    @pytest.mark.parametrize(
        ("image", "kernel", "result"),
        [
            ("uint8", "float32", "float32"),
            ("uint8", "int64", "float32"),
            ("float32", "int64", "float32"),
            ("float32", "float32", "float32"),
            ("float32", "float64", "float64"),
            ("float64", "float64", "float64"),
            ("float16", "float16", "float16"),
        ],
    )
    def test_dtype(self, convolve, image, kernel, result):
        y = convolve(self.x.astype(image), self.kernel.astype(kernel))
        assert y.dtype == result
        assert y[0, :, :, 0].tolist() == [[37, 47], [67, 77]]

    def test_bytes_do_not_overflow(self, convolve):
        white = np.full((1, 3, 3, 1), 255, np.uint8)
        assert convolve(white, np.ones((3, 3, 1, 1), np.uint8)).item() == 9 * 255


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel_size", [1, 2, 3, 4, 5])
def test_convolution_equals_keras(ops, rng, kernel_size, stride, padding, dilation, groups):
    kernel = integers(rng, kernel_size, kernel_size, 4 // groups, 4)
    bias = integers(rng, 4)
    for height, width in IMAGES:
        x = integers(rng, 2, height, width, 4)
        padded, word = zeros_around(x, padding)
        if stride == 1:
            expected = ops.conv(padded, kernel, padding=word, dilation_rate=dilation)
        else:
            large = zeros_between(kernel, (dilation, dilation))
            expected = ops.conv(padded, large, strides=stride, padding=word)
        expected = ops.convert_to_numpy(expected) + bias
        arguments = (x, kernel, bias, stride, padding, dilation, groups)
        np.testing.assert_array_equal(conv2d_matmul(*arguments), expected)
        one_image = conv2d_loops(x[1:], *arguments[1:])  # loops are slow
        np.testing.assert_array_equal(one_image, expected[1:])


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("strides", [(1, 1), (3, 1), (1, 2), (2, 3)])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 1), (1, 3)])
@pytest.mark.parametrize("kernel_size", [(2, 3), (4, 1)])
def test_convolution_with_pairs_equals_keras(
    ops, rng, kernel_size, strides, padding, dilation, groups
):
    kernel = integers(rng, *kernel_size, 4 // groups, 4)
    x = integers(rng, 2, 10, 13, 4)
    padded, word = zeros_around(x, padding)
    expected = ops.conv(padded, zeros_between(kernel, dilation), strides=strides, padding=word)
    arguments = (x, kernel, None, strides, padding, dilation, groups)
    np.testing.assert_array_equal(conv2d_matmul(*arguments), expected)
    np.testing.assert_array_equal(conv2d_loops(*arguments), expected)


# Convolution backwards


def test_convolution_backward_by_hand():
    x = np.arange(1, 10, dtype=np.float64).reshape(1, 3, 3, 1)
    kernel = np.array([[1, 2], [3, 4]], np.float64).reshape(2, 2, 1, 1)
    dy = np.array([[1, 0], [0, 10]], np.float64).reshape(1, 2, 2, 1)
    dx, dkernel, dbias = conv2d_backward(dy, x, kernel)
    assert dx[0, :, :, 0].tolist() == [[1, 2, 0], [3, 14, 20], [0, 30, 40]]
    assert dkernel[:, :, 0, 0].tolist() == [[51, 62], [84, 95]]
    assert dbias.tolist() == [11]


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2, (2, 1)])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("strides", [1, 2, 3, (1, 2)])
@pytest.mark.parametrize("kernel_size", [(3, 3), (2, 3)])
def test_convolution_gradients(rng, kernel_size, strides, padding, dilation, groups):
    x = rng.normal(size=(2, 5, 6, 4))
    kernel = rng.normal(size=(*kernel_size, 4 // groups, 6))
    bias = rng.normal(size=6)
    sizes = (strides, padding, dilation, groups)
    dy = rng.normal(size=conv2d_matmul(x, kernel, bias, *sizes).shape)
    dx, dkernel, dbias = conv2d_backward(dy, x, kernel, *sizes)
    assert_gradient(dx, lambda a: conv2d_matmul(a, kernel, bias, *sizes), x, dy)
    assert_gradient(dkernel, lambda a: conv2d_matmul(x, a, bias, *sizes), kernel, dy)
    assert_gradient(dbias, lambda a: conv2d_matmul(x, kernel, a, *sizes), bias, dy)


@pytest.mark.parametrize("padding", PADDINGS)
def test_patches_gradient(rng, padding):
    x = rng.normal(size=(1, 6, 5, 2))
    sizes = ((2, 3), (2, 1), padding, (2, 1))
    dy = rng.normal(size=patches(x, *sizes).shape)
    assert_gradient(patches_backward(dy, x, *sizes), lambda a: patches(a, *sizes), x, dy)


# Pooling


def test_pooling_by_hand():
    x = np.array([[1, 2, 5], [3, 4, 0], [7, 9, 6]], np.float32).reshape(1, 3, 3, 1)
    assert max_pool(x)[0, :, :, 0].tolist() == [[4]]
    assert max_pool(x, 2, 1)[0, :, :, 0].tolist() == [[4, 5], [9, 9]]
    assert max_pool(x, 2, padding="same")[0, :, :, 0].tolist() == [[4, 5], [9, 6]]
    assert max_pool(x, 3, 2, 1)[0, :, :, 0].tolist() == [[4, 5], [9, 9]]
    assert average_pool(x)[0, :, :, 0].tolist() == [[2.5]]
    # the last column has two real pixels, the corner one
    assert average_pool(x, 2, padding="same")[0, :, :, 0].tolist() == [[2.5, 2.5], [8, 6]]
    assert average_pool(x, 3, 2, 1)[0, :, :, 0].tolist() == [[2.5, 2.75], [5.75, 4.75]]
    assert global_average_pool(x).tolist() == [[np.float32(37 / 9)]]


def test_padding_never_wins_over_negative_values():
    x = -np.ones((1, 3, 3, 1))
    assert np.all(max_pool(x, 2, padding="same") == -1)
    assert np.all(max_pool(x, 3, 2, padding=1) == -1)


def test_depthwise_max_pool():
    x = np.array([1, 5, 3, 4, 2, 6]).reshape(1, 1, 1, 6)
    assert depthwise_max_pool(x, 2).tolist() == [[[[5, 4, 6]]]]
    assert depthwise_max_pool(x, 3).tolist() == [[[[5, 6]]]]
    assert depthwise_max_pool(x, 1).tolist() == x.tolist()


def test_depthwise_max_pool_equals_tensorflow(rng):
    import tensorflow as tf

    x = integers(rng, 2, 5, 4, 6)
    expected = tf.nn.max_pool(x, ksize=(1, 1, 1, 3), strides=(1, 1, 1, 3), padding="VALID")
    np.testing.assert_array_equal(depthwise_max_pool(x, 3), expected)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("strides", [None, 1, 2, 3, (1, 2)])
@pytest.mark.parametrize("pool_size", [1, 2, 3, 4, 5, (2, 3)])
def test_pooling_equals_keras(ops, rng, pool_size, strides, padding):
    for height, width in IMAGES:
        x = integers(rng, 2, height, width, 3)
        arguments = (x, pool_size, strides, padding)
        np.testing.assert_array_equal(max_pool(*arguments), ops.max_pool(*arguments))
        expected = ops.average_pool(*arguments)
        np.testing.assert_allclose(average_pool(*arguments), expected, rtol=1e-5, atol=1e-6)


def test_global_average_pool_equals_keras(ops, rng):
    x = integers(rng, 3, 7, 6, 5)
    np.testing.assert_allclose(global_average_pool(x), ops.mean(x, (1, 2)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pool", [max_pool, average_pool, lambda x: depthwise_max_pool(x, 2)])
def test_pooling_dtype(pool):
    for given, result in [("uint8", "float32"), ("float32", "float32"), ("float64", "float64")]:
        assert pool(np.ones((1, 4, 4, 2), given)).dtype == result
        assert global_average_pool(np.ones((1, 4, 4, 2), given)).dtype == result


# Pooling backwards


def test_of_equal_maxima_the_first_gets_the_gradient():
    x = np.array([[7, 7], [7, 7]], np.float32).reshape(1, 2, 2, 1)
    dx = max_pool_backward(np.array([[[[5]]]]), x)
    assert dx[0, :, :, 0].tolist() == [[5, 0], [0, 0]]


def test_a_pixel_that_wins_twice_gets_both_gradients():
    x = np.array([0, 9, 0], np.float32).reshape(1, 1, 3, 1)
    dx = max_pool_backward(np.array([3, 4]).reshape(1, 1, 2, 1), x, (1, 2), 1)
    assert dx.ravel().tolist() == [0, 7, 0]


def test_average_pool_backward_by_hand():
    x = np.zeros((1, 3, 3, 1), np.float32)
    dy = np.array([[4, 8], [2, 1]], np.float32).reshape(1, 2, 2, 1)
    dx = average_pool_backward(dy, x, 2, padding="same")
    assert dx[0, :, :, 0].tolist() == [[1, 1, 4], [1, 1, 4], [1, 1, 1]]


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("strides", [None, 1, 2, (1, 2)])
@pytest.mark.parametrize("pool_size", [2, 3, (2, 3)])
def test_pooling_gradients_equal_tensorflow_in_ties(ops, rng, pool_size, strides, padding):
    import tensorflow as tf

    x = rng.integers(-3, 0, (2, 7, 8, 3)).astype(np.float32)  # three values: ties everywhere
    for pool, forward, backward in [
        (ops.max_pool, max_pool, max_pool_backward),
        (ops.average_pool, average_pool, average_pool_backward),
    ]:
        dy = integers(rng, *forward(x, pool_size, strides, padding).shape)
        variable = tf.Variable(x)
        with tf.GradientTape() as tape:
            y = pool(variable, pool_size, strides, padding)
        expected = tape.gradient(y, variable, output_gradients=tf.constant(dy))
        computed = backward(dy, x, pool_size, strides, padding)
        np.testing.assert_allclose(computed, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("padding", ["valid", "same", 1])
@pytest.mark.parametrize("strides", [None, 1, 2, 3, (1, 2)])
@pytest.mark.parametrize("pool_size", [2, 3, (3, 2)])
@pytest.mark.parametrize(
    ("forward", "backward"),
    [(max_pool, max_pool_backward), (average_pool, average_pool_backward)],
    ids=["max", "average"],
)
def test_pooling_gradients(rng, forward, backward, pool_size, strides, padding):
    # a permutation: no two pixels are closer than the step of the finite differences;
    # all negative: a border of zeros would win
    x = -1.0 - rng.permutation(5 * 6 * 2).reshape(1, 5, 6, 2)
    sizes = (pool_size, strides, padding)
    dy = rng.normal(size=forward(x, *sizes).shape)
    assert_gradient(backward(dy, x, *sizes), lambda a: forward(a, *sizes), x, dy)


def test_global_average_pool_gradient(rng):
    x, dy = rng.normal(size=(2, 3, 4, 2)), rng.normal(size=(2, 2))
    assert_gradient(global_average_pool_backward(dy, x), global_average_pool, x, dy)


@pytest.mark.parametrize(("given", "result"), [("uint8", "float32"), ("float32", "float32")])
def test_gradient_dtype(given, result):
    x, kernel = np.ones((1, 4, 4, 2), given), np.ones((3, 3, 2, 1), given)
    gradients = [
        *conv2d_backward(np.ones((1, 2, 2, 1), given), x, kernel),
        max_pool_backward(np.ones((1, 2, 2, 2), given), x),
        average_pool_backward(np.ones((1, 2, 2, 2), given), x),
        global_average_pool_backward(np.ones((1, 2), given), x),
    ]
    assert [gradient.dtype.name for gradient in gradients] == [result] * 6


# Batch normalisation


@pytest.fixture(params=[(32, 3), (4, 5, 6, 3)], ids=["vectors", "images"])
def normalised(request, rng):
    """x with channels of different mean and width, its gamma and beta, and a gradient of y."""
    x = (rng.normal(size=request.param) * [1, 5, 0.2] + [0, -3, 7]).astype(np.float32)
    gamma, beta = rng.normal(size=(2, 3)).astype(np.float32)
    return x, gamma, beta, rng.normal(size=x.shape).astype(np.float32)


def keras_layer(x, gamma, beta, **keywords):
    import keras

    layer = keras.layers.BatchNormalization(**keywords)
    layer.build(x.shape)
    layer.gamma.assign(gamma)
    layer.beta.assign(beta)
    return layer


def test_batch_norm_by_hand():
    x = np.array([[1, 10], [3, 10], [5, 40]], np.float64)  # variances 8/3 and 200
    y = batch_norm(x, np.array([2, 1]), np.array([0, 5]), epsilon=1 / 3)
    expected = np.array([[-4 / 3**0.5, -10], [0, -10], [4 / 3**0.5, 20]])
    expected[:, 1] = 5 + expected[:, 1] / (200 + 1 / 3) ** 0.5
    np.testing.assert_allclose(y, expected, rtol=1e-12)
    # (x − mean) · 3 / 4 + 1, each image for itself
    y = batch_norm(np.array([[4.0], [8.0]]), [3], [1], mean=[4], variance=[15], epsilon=1)
    assert y.tolist() == [[1], [4]]


def test_batch_norm_equals_keras(normalised):
    """Forwards in training and afterwards, and the moving averages after three batches."""
    x, gamma, beta, _ = normalised
    layer = keras_layer(x, gamma, beta, momentum=0.8, epsilon=1e-4)
    moving_mean, moving_variance = np.zeros(3, np.float32), np.ones(3, np.float32)
    for batch in (x, 2 * x + 1, x[::2]):
        y = layer(batch, training=True)
        np.testing.assert_allclose(batch_norm(batch, gamma, beta, epsilon=1e-4), y, atol=1e-4)
        mean, variance = batch_statistics(batch)
        moving_mean = moving_average(moving_mean, mean, 0.8)
        moving_variance = moving_average(moving_variance, variance, 0.8)
    np.testing.assert_allclose(moving_mean, layer.moving_mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(moving_variance, layer.moving_variance, rtol=1e-5)
    y = batch_norm(x, gamma, beta, moving_mean, moving_variance, epsilon=1e-4)
    np.testing.assert_allclose(y, layer(x, training=False), rtol=1e-5, atol=1e-5)


def test_batch_norm_has_the_constants_of_keras(normalised):
    x, gamma, beta, dy = normalised
    layer = keras_layer(x, gamma, beta)
    y = layer(x, training=True)
    np.testing.assert_allclose(batch_norm(x, gamma, beta), y, atol=1e-4)
    expected = moving_average(np.zeros(3), batch_statistics(x)[0])
    np.testing.assert_allclose(expected, layer.moving_mean, rtol=1e-5, atol=1e-7)
    for ours, own in zip(
        batch_norm_backward(dy, x, gamma), batch_norm_backward(dy, x, gamma, 1e-3), strict=True
    ):
        np.testing.assert_array_equal(ours, own)


def test_batch_norm_gradients_equal_keras(normalised):
    import tensorflow as tf

    x, gamma, beta, dy = normalised
    layer, variable = keras_layer(x, gamma, beta, epsilon=1e-2), tf.Variable(x)
    with tf.GradientTape() as tape:
        y = layer(variable, training=True)
    sources = [variable, *(weight.value for weight in layer.trainable_weights)]
    expected = tape.gradient(y, sources, output_gradients=tf.constant(dy))
    for ours, theirs in zip(batch_norm_backward(dy, x, gamma, 1e-2), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-5)


def test_batch_norm_gradients(normalised):
    x, gamma, beta, dy = (array.astype(np.float64) for array in normalised)
    dx, dgamma, dbeta = batch_norm_backward(dy, x, gamma, 1e-2)
    assert_gradient(dx, lambda a: batch_norm(a, gamma, beta, epsilon=1e-2), x, dy, step=1e-5)
    assert_gradient(dgamma, lambda a: batch_norm(x, a, beta, epsilon=1e-2), gamma, dy, step=1e-5)
    assert_gradient(dbeta, lambda a: batch_norm(x, gamma, a, epsilon=1e-2), beta, dy, step=1e-5)


# The lineage's own layers


def test_scaled_tanh_by_hand():
    np.testing.assert_allclose(scaled_tanh(np.array([-1.0, 0, 1])), [-1, 0, 1], atol=1e-5)
    np.testing.assert_allclose(scaled_tanh(np.array([3.0])), 1.7159 * 0.9640275800758169)
    np.testing.assert_allclose(scaled_tanh(np.array([99.0])), 1.7159)  # the amplitude


def test_trainable_subsampling_by_hand():
    x = np.array([[1, 2, 3, 9], [4, 5, 6, 9], [9, 9, 9, 9]]).reshape(1, 3, 4, 1)
    x = np.concatenate([x, -x], axis=3)
    y = trainable_subsampling(x, np.array([10, 1]), np.array([0.5, 100]))
    assert y.tolist() == [[[[120.5, 88], [270.5, 73]]]]  # sums 12 and 27; the odd row is left out


def test_trainable_subsampling_is_four_times_an_average(rng):
    x, coefficient, bias = integers(rng, 2, 6, 8, 3), integers(rng, 3), integers(rng, 3)
    expected = 4 * average_pool(x) * coefficient + bias
    np.testing.assert_allclose(trainable_subsampling(x, coefficient, bias), expected, rtol=1e-6)


def test_rbf_by_hand():
    codes = np.array([[1, -1, 1], [-1, -1, -1]])
    assert rbf(np.array([[1, -1, 1], [0, 0, 2]]), codes).tolist() == [[0, 8], [3, 11]]


def test_rbf_equals_expanded_squares(rng):
    x, codes = rng.normal(size=(5, 84)), rng.choice([-1.0, 1.0], (10, 84))
    expected = np.square(x).sum(1, keepdims=True) - 2 * x @ codes.T + 84
    np.testing.assert_allclose(rbf(x, codes), expected, rtol=1e-9)


def test_local_response_normalization_by_hand():
    x = np.array([1, 2, 3, 4.0]).reshape(1, 1, 1, 4)
    y = local_response_normalization(x, k=1, n=3, alpha=1, beta=1)
    assert y.ravel().tolist() == [1 / 6, 2 / 15, 3 / 30, 4 / 26]
    np.testing.assert_allclose(
        local_response_normalization(np.full((1, 1, 1, 1), 100.0)).item(), 100 / 3**0.75
    )


@pytest.mark.parametrize(
    "constants", [(2, 5, 1e-4, 0.75), (1, 3, 0.5, 0.5), (1, 1, 1, 1), (3, 15, 0.01, 2)]
)
def test_local_response_normalization_equals_tensorflow(rng, constants):
    import tensorflow as tf

    k, n, alpha, beta = constants
    x = 10 * integers(rng, 2, 3, 4, 7)
    expected = tf.nn.local_response_normalization(x, n // 2, k, alpha, beta)
    y = local_response_normalization(x, *constants)
    np.testing.assert_allclose(y, expected, rtol=1e-4)
    if constants == (2, 5, 1e-4, 0.75):
        np.testing.assert_array_equal(local_response_normalization(x), y)  # the paper's own


def test_zero_pad_shortcut_by_hand():
    x = np.arange(1, 7).reshape(1, 2, 3, 1)
    y = zero_pad_shortcut(x, 4, 2)
    assert y.tolist() == [[[[0, 1, 0, 0], [0, 3, 0, 0]]]]  # one zero before, two after
    assert zero_pad_shortcut(x, 3).tolist() == np.pad(x, ((0, 0),) * 3 + ((1, 1),)).tolist()
    assert zero_pad_shortcut(x, 1).tolist() == x.tolist()


def test_squeeze_excite_by_hand():
    x = np.array([[1, 8], [3, 0]], np.float64).reshape(1, 1, 2, 2)  # means 2 and 4
    w1, b1 = np.array([[1, 1], [-1, 0]]), np.array([1, -1])  # relu(−1), relu(1) = 0, 1
    w2, b2 = np.array([[9, 9], [1, 0]]), np.array([-1, np.log(3)])  # sigmoid(0), sigmoid(log 3)
    y = squeeze_excite(x, w1, b1, w2, b2)
    np.testing.assert_allclose(y, [[[[0.5, 6], [1.5, 0]]]], rtol=1e-12)


def test_squeeze_excite_equals_keras(ops, rng):
    x, w1, b1 = rng.normal(size=(3, 4, 5, 6)), rng.normal(size=(6, 2)), rng.normal(size=2)
    w2, b2 = rng.normal(size=(2, 6)), rng.normal(size=6)
    hidden = ops.relu(ops.mean(x, (1, 2), keepdims=True) @ w1 + b1)
    expected = ops.sigmoid(hidden @ w2 + b2) * x
    np.testing.assert_allclose(squeeze_excite(x, w1, b1, w2, b2), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_dtype_of_the_lineages_layers(dtype):
    x, one = np.ones((1, 4, 4, 2), dtype), np.ones(2, dtype)
    square = np.ones((2, 2), dtype)
    results = [
        *(batch_norm(x, one, one), batch_norm(x, one, one, one, one), *batch_statistics(x)),
        *(moving_average(one, one), *batch_norm_backward(x, x, one)),
        *(scaled_tanh(x), trainable_subsampling(x, one, one), rbf(square, square)),
        *(local_response_normalization(x), zero_pad_shortcut(x, 3)),
        squeeze_excite(x, square, one, square, one),
    ]
    expected = "float64" if dtype == "float64" else "float32"
    assert {result.dtype.name for result in results} == {expected}


# Manners

X = np.ones((1, 6, 6, 4), np.float32)
KERNEL = np.ones((3, 3, 4, 2), np.float32)
ONE = np.ones(4, np.float32)


def test_nothing_is_changed_in_place(rng):
    x, kernel = integers(rng, 1, 6, 6, 4), integers(rng, 3, 3, 2, 4)
    dy, dy_pool = integers(rng, 1, 6, 6, 4), integers(rng, 1, 3, 3, 4)
    copies = [array.copy() for array in (x, kernel, dy, dy_pool)]
    for convolve in (conv2d_loops, conv2d_matmul):
        convolve(x, kernel, padding="same", groups=2)
    conv2d_backward(dy, x, kernel, padding="same", groups=2)
    for backward in (max_pool_backward, average_pool_backward):
        backward(dy_pool, x)
    for array, copy in zip((x, kernel, dy, dy_pool), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: output_size(0, 3), "size must be an integer of at least 1, not 0"),
        (lambda: output_size(28, 0), "kernel_size must be an integer of at least 1, not 0"),
        (lambda: output_size(28, 3, -1), "strides must be an integer of at least 1, not -1"),
        (lambda: output_size(28, 3, 2.0), "strides must be an integer of at least 1, not 2.0"),
        (lambda: pad_amounts(28, 3, 1, 0, 0), "dilation_rate must be an integer of at least 1"),
        (
            lambda: output_size(28, 3, 1, "SAME"),
            "padding must be 'valid', 'same' or an integer of at least 0, not 'SAME'",
        ),
        (lambda: output_size(28, 3, 1, -1), "an integer of at least 0, not -1"),
        (lambda: output_size(28, 3, 1, (1, 1)), r"an integer of at least 0, not \(1, 1\)"),
        (
            lambda: output_size(4, 3, 1, "valid", 2),
            "a window of 3 at dilation 2 spans 5 pixels, but the padded input has 4: "
            "take a smaller window, a larger input or padding='same'",
        ),
        (
            lambda: patches(X, (3, 3, 3)),
            r"kernel_size must be an integer or a \(height, width\) pair, not \(3, 3, 3\)",
        ),
        (lambda: patches(X, 3, (1, 0)), "strides must be an integer of at least 1, not 0"),
        (lambda: patches(X, 3, 1, "valid", "a"), "dilation_rate must be an integer .* not 'a'"),
        (lambda: max_pool(X, 0), "pool_size must be an integer of at least 1, not 0"),
        (lambda: max_pool(X, 2, 0), "strides must be an integer of at least 1, not 0"),
        (
            lambda: max_pool(X, 2, 2, 2),
            r"padding must be smaller than pool_size \(2, 2\), not 2: a window of padding alone",
        ),
        (lambda: average_pool(X, 7), "a window of 7 at dilation 1 spans 7 pixels"),
        (
            lambda: depthwise_max_pool(X, 3),
            "pool_size must divide the 4 channels of x, not be 3",
        ),
        (lambda: depthwise_max_pool(X, 0), "pool_size must be an integer of at least 1, not 0"),
        (
            lambda: conv2d_matmul(X, KERNEL[..., 0]),
            r"kernel must have the shape \(height, width, channels / groups, filters\), "
            r"not \(3, 3, 4\)",
        ),
        (
            lambda: conv2d_matmul(X, KERNEL[:, :, :3]),
            r"x has 4 channels, but 1 group\(s\) of a kernel of shape \(3, 3, 3, 2\) read 3: "
            "change the kernel's third size or groups",
        ),
        (lambda: conv2d_loops(X, KERNEL, groups=2), r"x has 4 channels, but 2 group\(s\).* read 8"),
        (
            lambda: conv2d_loops(X, np.ones((3, 3, 2, 3)), groups=2),
            "groups must divide the 3 filters of the kernel, not be 2",
        ),
        (lambda: conv2d_loops(X, KERNEL, groups=0), "groups must be an integer of at least 1"),
        (lambda: conv2d_loops(X, np.ones((0, 3, 4, 2))), "kernel_size must be .* not 0"),
        (
            lambda: conv2d_loops(X, KERNEL, np.zeros(3)),
            r"bias must have the shape \(2,\), one per filter, not \(3,\)",
        ),
        (lambda: conv2d_loops(X, np.ones((7, 3, 4, 2))), "a window of 7 .* padded input has 6"),
        (
            lambda: conv2d_backward(X, X, KERNEL),
            r"dy must have the shape of the output, \(1, 4, 4, 2\), not \(1, 6, 6, 4\)",
        ),
        (lambda: max_pool_backward(X, X), r"dy must have the shape of the output, \(1, 3, 3, 4\)"),
        (lambda: average_pool_backward(X, X), r"dy .* the output, \(1, 3, 3, 4\), not"),
        (lambda: global_average_pool_backward(X, X), r"dy .* the output, \(1, 4\), not"),
        (lambda: patches_backward(X, X, 3), r"dy .* the output, \(1, 4, 4, 3, 3, 4\), not"),
        (lambda: batch_norm(ONE, ONE, ONE), r"x must have the shape \(..., channels\), not \(4,\)"),
        (
            lambda: batch_norm(X, ONE[1:], ONE),
            r"gamma must have the shape \(4,\), one per channel of x, not \(3,\)",
        ),
        (lambda: batch_norm(X, ONE, 1), r"beta must have the shape \(4,\), .* not \(\)"),
        (lambda: batch_norm(X, ONE, ONE, ONE), "give both mean and variance"),
        (lambda: batch_norm(X, ONE, ONE, X, ONE), r"mean must have the shape \(4,\)"),
        (lambda: batch_norm(X, ONE, ONE, ONE, X), r"variance must have the shape \(4,\)"),
        (lambda: batch_norm_backward(ONE, X, ONE), r"dy must have .*\(1, 6, 6, 4\), not \(4,\)"),
        (lambda: batch_norm_backward(X, X, X), r"gamma must have the shape \(4,\)"),
        (lambda: moving_average(0, 1, 99), "momentum must be between 0 and 1, not 99"),
        (
            lambda: moving_average(np.zeros(3), np.ones((4, 3))),
            r"old and new must have one shape, not \(3,\) and \(4, 3\)",
        ),
        (
            lambda: batch_norm(np.ones((2, 1)), [1], [0], epsilon=-1),
            "epsilon must be above 0, not -1",
        ),
        (lambda: batch_norm_backward(X, X, ONE, epsilon=0), "epsilon must be above 0, not 0"),
        (
            lambda: batch_statistics(np.ones(3)),
            r"x must have the shape \(\.\.\., channels\), not \(3,\)",
        ),
        (
            lambda: trainable_subsampling(X, ONE[1:], ONE),
            r"coefficient must have the shape \(4,\), one per map of x, not \(3,\)",
        ),
        (lambda: trainable_subsampling(X, ONE, 0), r"bias must have the shape \(4,\)"),
        (lambda: trainable_subsampling(X[:, :1], ONE, ONE), "a window of 2"),
        (
            lambda: rbf(X[0, 0], np.ones((10, 84))),
            r"x must have .* codes \(classes, features\), not \(6, 4\) and \(10, 84\)",
        ),
        (lambda: rbf(X, ONE), r"not \(1, 6, 6, 4\) and \(4,\)"),
        (lambda: local_response_normalization(X, n=4), "n must be odd, .* not 4"),
        (lambda: local_response_normalization(X, n=-1), "n must be an integer of at least 1"),
        (lambda: zero_pad_shortcut(X, 3), "filters must be at least the 4 channels of x, not 3"),
        (lambda: zero_pad_shortcut(X, 4, 0), "strides must be an integer of at least 1, not 0"),
        (lambda: zero_pad_shortcut(X, 8.0), "filters must be an integer of at least 1, not 8.0"),
        (
            lambda: squeeze_excite(X, np.ones((4, 2)), ONE[:2], np.ones((4, 2)), ONE),
            r"w1 and w2 must have the shapes \(4, R\) and \(R, 4\) .* not \(4, 2\) and \(4, 2\)",
        ),
        (
            lambda: squeeze_excite(X, np.ones((3, 2)), ONE[:2], np.ones((2, 3)), ONE),
            r"for the 4 channels of x, not \(3, 2\) and \(2, 3\)",
        ),
        (
            lambda: squeeze_excite(X, np.ones((4, 2)), ONE, np.ones((2, 4)), ONE),
            r"b1 must have the shape \(2,\), one per column of w1, not \(4,\)",
        ),
        (
            lambda: squeeze_excite(X, np.ones((4, 2)), ONE[:2], np.ones((2, 4)), 0),
            r"b2 must have the shape \(4,\)",
        ),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "function",
    [
        lambda x: patches(x, 2),
        lambda x: patches_backward(x, x, 2),
        lambda x: conv2d_loops(x, KERNEL),
        lambda x: conv2d_matmul(x, KERNEL),
        lambda x: conv2d_backward(x, x, KERNEL),
        max_pool,
        average_pool,
        global_average_pool,
        lambda x: depthwise_max_pool(x, 2),
        lambda x: max_pool_backward(x, x),
        lambda x: average_pool_backward(x, x),
        lambda x: global_average_pool_backward(x, x),
        lambda x: trainable_subsampling(x, ONE, ONE),
        local_response_normalization,
        lambda x: zero_pad_shortcut(x, 8),
        lambda x: squeeze_excite(x, KERNEL, ONE, KERNEL, ONE),
    ],
)
def test_a_single_image_is_refused_with_the_remedy(function):
    message = (
        r"x must have the shape \(images, height, width, channels\), not \(6, 6\): add an axis"
    )
    with pytest.raises(ValueError, match=message):
        function(X[0, :, :, 0])


def test_import_brings_numpy_only():
    code = "import sys, resnetlib.numpy_ops; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in run.stdout.split()}
    assert not loaded & {"keras", "tensorflow", "matplotlib", "scipy"}


def test_every_public_function_has_a_docstring_that_names_its_chapter():
    functions = [f for name, f in vars(numpy_ops).items() if callable(f) and name[0] != "_"]
    own = [f for f in functions if getattr(f, "__module__", "") == numpy_ops.__name__]
    assert len(own) == 24
    for function in own:
        assert re.search(r"Chapter [01]\d\.$", function.__doc__.strip()), function.__name__
