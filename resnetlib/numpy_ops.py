"""The layers in NumPy alone, convolution, pooling and batch norm also backwards: to be read.

Images have the shape (N, H, W, C): images, height, width, channels. Kernels have the shape
(KH, KW, C / groups, F), with F filters, as in Keras. A window's size, its stride and its dilation
are an integer or a (height, width) pair. Padding is "valid" (none), "same" (the output has
ceil(size / stride) pixels) or an integer: that many pixels on every side. Results are floating
point: floats keep their precision, integers (a uint8 photo) become float32.

A bad value raises a ValueError that names it. Chapters 02, 03, 06, 07, 10, 12 and 15 teach this
module; each function names its own.
"""

import math
from collections.abc import Iterator
from numbers import Integral
from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

Array = np.ndarray
Size = int | tuple[int, int]
Pad = Literal["valid", "same"] | int


# Sizes


def pad_amounts(
    size: int, kernel_size: int, strides: int = 1, padding: Pad = "valid", dilation_rate: int = 1
) -> tuple[int, int]:
    """Return how many pixels to add (before, after) one axis; arguments as for `output_size`.

    If "same" needs an odd number, the extra pixel goes after: at stride 2 a 3×3 kernel pads an
    even image at the bottom and on the right only. The papers' networks pad both sides alike.
    Source: the rule of TensorFlow and Keras. Chapter 02.
    """
    _check_positive("size", size)
    _check_positive("kernel_size", kernel_size)
    _check_positive("strides", strides)
    _check_positive("dilation_rate", dilation_rate)
    if padding == "valid":
        return 0, 0
    if padding == "same":
        last_start = (size - 1) // strides * strides
        total = max(last_start + _span(kernel_size, dilation_rate) - size, 0)
        return total // 2, total - total // 2
    if isinstance(padding, Integral) and padding >= 0:
        return padding, padding
    raise ValueError(
        f"padding must be 'valid', 'same' or an integer of at least 0, not {padding!r}"
    )


def output_size(
    size: int, kernel_size: int, strides: int = 1, padding: Pad = "valid", dilation_rate: int = 1
) -> int:
    """Return at how many places a window fits along one axis: ⌊(padded − span) / strides⌋ + 1.

    Arguments: size, pixels of the input; kernel_size, pixels that the window reads; strides, steps
    from one place to the next; dilation_rate, steps from one pixel it reads to the next. All are
    integers ≥ 1. The window spans dilation_rate · (kernel_size − 1) + 1 pixels.
    Errors: also if the window is larger than the padded input.
    Source: Dumoulin and Visin 2016, relationships 6 and 15. Chapter 02.
    """
    padded = size + sum(pad_amounts(size, kernel_size, strides, padding, dilation_rate))
    span = _span(kernel_size, dilation_rate)
    if span > padded:
        raise ValueError(
            f"a window of {kernel_size} at dilation {dilation_rate} spans {span} pixels, but the "
            f"padded input has {padded}: take a smaller window, a larger input or padding='same'"
        )
    return (padded - span) // strides + 1


# Windows: what convolution and pooling have in common


def patches(
    x: Array,
    kernel_size: Size,
    strides: Size = 1,
    padding: Pad = "valid",
    dilation_rate: Size = 1,
    fill: float = 0,
) -> Array:
    """Return all windows of the images, (N, OH, OW, KH, KW, C), also known as im2col.

    Arguments: x (N, H, W, C), of any dtype, which the result keeps; fill, the padding's value.
    Result: a read-only view. A pixel lies in many windows, but only once in memory.
    Source: Chellapilla, Puri and Simard 2006, section 2.1. Chapter 02.
    """
    x = _images(x)
    (kh, kw), (sh, sw), (dh, dw), pads, _ = _axes(x, kernel_size, strides, padding, dilation_rate)
    windows = sliding_window_view(_pad(x, pads, fill), (_span(kh, dh), _span(kw, dw)), (1, 2))
    return windows[:, ::sh, ::sw, :, ::dh, ::dw].transpose(0, 1, 2, 4, 5, 3)


def patches_backward(
    dy: Array,
    x: Array,
    kernel_size: Size,
    strides: Size = 1,
    padding: Pad = "valid",
    dilation_rate: Size = 1,
) -> Array:
    """Return the gradient of `patches`, also known as col2im: a pixel adds up all its copies.

    Arguments: dy (N, OH, OW, KH, KW, C), a loss's gradient by the windows; the rest as for
    `patches`. Result: dx (N, H, W, C). Chapter 02.
    """
    x = _images(x)
    (kh, kw), (sh, sw), (dh, dw), pads, (oh, ow) = _axes(
        x, kernel_size, strides, padding, dilation_rate
    )
    n, height, width, channels = x.shape
    dy = _gradient(dy, (n, oh, ow, kh, kw, channels))
    (top, bottom), (left, right) = pads
    dx = np.zeros((n, top + height + bottom, left + width + right, channels), dy.dtype)
    for u, v in np.ndindex(kh, kw):
        rows = slice(u * dh, u * dh + oh * sh, sh)  # of pixel (u, v) in every window
        columns = slice(v * dw, v * dw + ow * sw, sw)
        dx[:, rows, columns] += dy[:, :, :, u, v]
    return dx[:, top : top + height, left : left + width]


# Convolution


def conv2d_loops(
    x: Array,
    kernel: Array,
    bias: Array | None = None,
    strides: Size = 1,
    padding: Pad = "valid",
    dilation_rate: Size = 1,
    groups: int = 1,
) -> Array:
    """Return the 2-D convolution of images, number by number as it is defined.

    y[n, i, j, f] = bias[f] + Σ x[n, s·i + d·u, s·j + d·v, c] · kernel[u, v, c, f]   over u, v, c,
    with s the stride and d the dilation; x is padded, and c counts the channels of f's group.

    Arguments: x (N, H, W, C); kernel (KH, KW, C / groups, F); bias (F,); groups, into how many
    independent convolutions the channels and the filters are split, in order.
    Result: (N, OH, OW, F). As in all deep learning, the kernel is not flipped: in mathematics
    this is a cross-correlation.
    Errors: also if channels, filters, groups and bias do not match.
    Source: Goodfellow, Bengio and Courville 2016, section 9.1. Chapter 02.
    """
    x, kernel, bias = _convolution(x, kernel, bias, groups)
    kh, kw, channels, filters = kernel.shape
    _, (sh, sw), (dh, dw), pads, (oh, ow) = _axes(x, (kh, kw), strides, padding, dilation_rate)
    padded = _pad(x, pads)
    y = np.empty((len(x), oh, ow, filters), x.dtype)
    for n, i, j, f in np.ndindex(y.shape):
        rows = slice(i * sh, i * sh + kh * dh, dh)
        columns = slice(j * sw, j * sw + kw * dw, dw)
        group = f * groups // filters
        inputs = slice(group * channels, (group + 1) * channels)
        y[n, i, j, f] = np.sum(padded[n, rows, columns, inputs] * kernel[:, :, :, f]) + bias[f]
    return y


def conv2d_matmul(
    x: Array,
    kernel: Array,
    bias: Array | None = None,
    strides: Size = 1,
    padding: Pad = "valid",
    dilation_rate: Size = 1,
    groups: int = 1,
) -> Array:
    """Return what `conv2d_loops` returns, by one matrix product per group.

    A window is a row and a filter is a column: (N·OH·OW, KH·KW·C) @ (KH·KW·C, F).
    Source: Chellapilla, Puri and Simard 2006, section 2.1. Chapter 02.
    """
    x, kernel, bias = _convolution(x, kernel, bias, groups)
    windows = patches(x, kernel.shape[:2], strides, padding, dilation_rate)
    places, taps, filters = windows.shape[:3], kernel[..., 0].size, kernel.shape[3]
    outputs = [
        w.reshape(math.prod(places), taps) @ k.reshape(taps, filters // groups)
        for w, k in _split(groups, windows, kernel)
    ]
    return np.concatenate(outputs, axis=-1).reshape(*places, filters) + bias


def conv2d_backward(
    dy: Array,
    x: Array,
    kernel: Array,
    strides: Size = 1,
    padding: Pad = "valid",
    dilation_rate: Size = 1,
    groups: int = 1,
) -> tuple[Array, Array, Array]:
    """Return a loss's gradients by a convolution's image, kernel and bias: (dx, dkernel, dbias).

    From y = windows @ kernel + bias follow dkernel = windowsᵀ @ dy and dwindows = dy @ kernelᵀ.
    Arguments: dy (N, OH, OW, F), the loss's gradient by y; the rest as for `conv2d_loops`.
    Source: Goodfellow, Bengio and Courville 2016, section 9.5. Chapter 02.
    """
    x, kernel, _ = _convolution(x, kernel, None, groups)
    windows = patches(x, kernel.shape[:2], strides, padding, dilation_rate)
    dy = _gradient(dy, (*windows.shape[:3], kernel.shape[3]))
    dkernel, dwindows = [], []
    for w, k, d in _split(groups, windows, kernel, dy):
        dkernel.append(np.tensordot(w, d, axes=((0, 1, 2), (0, 1, 2))))  # sums over n, i, j
        dwindows.append(np.tensordot(d, k, axes=(3, 3)))  # sums over f
    dwindows = np.concatenate(dwindows, axis=-1)
    dx = patches_backward(dwindows, x, kernel.shape[:2], strides, padding, dilation_rate)
    return dx, np.concatenate(dkernel, axis=-1), dy.sum(axis=(0, 1, 2))


# Pooling


def max_pool(
    x: Array, pool_size: Size = 2, strides: Size | None = None, padding: Pad = "valid"
) -> Array:
    """Return the largest value of each window, channel by channel: (N, OH, OW, C).

    Arguments: x (N, H, W, C); strides, pool_size if None; padding, an integer below pool_size if
    it is one. The padding never wins. Chapter 03.
    """
    x, sizes = _pooling(x, pool_size, strides, padding)
    return patches(x, *sizes, fill=-np.inf).max(axis=(3, 4))


def max_pool_backward(
    dy: Array, x: Array, pool_size: Size = 2, strides: Size | None = None, padding: Pad = "valid"
) -> Array:
    """Return the gradient of `max_pool` by x: a window's whole gradient goes to its largest value.

    Arguments: dy (N, OH, OW, C), the loss's gradient by the output; the rest as for `max_pool`.
    Of equal values the first in reading order gets it, as in TensorFlow. Chapter 03.
    """
    x, sizes = _pooling(x, pool_size, strides, padding)
    windows = patches(x, *sizes, fill=-np.inf)
    n, oh, ow, kh, kw, channels = windows.shape
    dy = _gradient(dy, (n, oh, ow, channels))
    winner = windows.reshape(n, oh, ow, kh * kw, channels).argmax(axis=3, keepdims=True)
    won = winner == np.arange(kh * kw)[:, np.newaxis]
    dwindows = np.where(won, dy[:, :, :, np.newaxis], 0)
    return patches_backward(dwindows.reshape(windows.shape), x, *sizes)


def average_pool(
    x: Array, pool_size: Size = 2, strides: Size | None = None, padding: Pad = "valid"
) -> Array:
    """Return the mean of each window, channel by channel: (N, OH, OW, C).

    Padding does not count: a window at the border divides by its number of real pixels, as in
    Keras. Arguments as for `max_pool`. Chapter 03.
    """
    x, sizes = _pooling(x, pool_size, strides, padding)
    return patches(x, *sizes).sum(axis=(3, 4)) / _real_pixels(x, sizes)


def average_pool_backward(
    dy: Array, x: Array, pool_size: Size = 2, strides: Size | None = None, padding: Pad = "valid"
) -> Array:
    """Return the gradient of `average_pool` by x: the pixels of a window get equal shares.

    Arguments as for `max_pool_backward`. Chapter 03.
    """
    x, sizes = _pooling(x, pool_size, strides, padding)
    n, oh, ow, kh, kw, channels = patches(x, *sizes).shape
    share = _gradient(dy, (n, oh, ow, channels)) / _real_pixels(x, sizes)
    dwindows = np.broadcast_to(
        share[:, :, :, np.newaxis, np.newaxis], (n, oh, ow, kh, kw, channels)
    )
    return patches_backward(dwindows, x, *sizes)


def global_average_pool(x: Array) -> Array:
    """Return the mean of each feature map: (N, H, W, C) → (N, C).

    Source: Lin, Chen and Yan 2013, section 3.2. Chapter 03.
    """
    return _floating(_images(x)).mean(axis=(1, 2))


def global_average_pool_backward(dy: Array, x: Array) -> Array:
    """Return the gradient of `global_average_pool` by x: dy (N, C) in equal shares. Chapter 03."""
    n, height, width, channels = _images(x).shape
    share = _gradient(dy, (n, channels)) / (height * width)
    return np.broadcast_to(share[:, np.newaxis, np.newaxis], np.shape(x)).copy()


def depthwise_max_pool(x: Array, pool_size: int) -> Array:
    """Return the largest of each pool_size neighbouring channels: (N, H, W, C / pool_size).

    Arguments: x (N, H, W, C); pool_size, an integer ≥ 1 that divides C. Chapter 03.
    """
    x = _floating(_images(x))
    _check_positive("pool_size", pool_size)
    n, height, width, channels = x.shape
    if channels % pool_size:
        raise ValueError(f"pool_size must divide the {channels} channels of x, not be {pool_size}")
    return x.reshape(n, height, width, channels // pool_size, pool_size).max(axis=4)


# Batch normalisation. Every function takes features (..., C) and treats each channel alone.


def batch_norm(
    x: Array,
    gamma: Array,
    beta: Array,
    mean: Array | None = None,
    variance: Array | None = None,
    epsilon: float = 1e-3,
) -> Array:
    """Return gamma · (x − mean) / √(variance + epsilon) + beta, of x's shape.

    In training, mean and variance are the batch's own (None); afterwards they are the moving
    averages, so that one image's result does not depend on the others in its batch.
    Arguments: x (..., C); gamma, beta, mean, variance (C,); epsilon > 0, Keras' default.
    Source: Ioffe and Szegedy 2015, algorithm 1. Chapter 10.
    """
    x, gamma, beta = _normalisation(x, gamma, beta, epsilon)
    if (mean is None) != (variance is None):
        raise ValueError("give both mean and variance (inference) or neither (training)")
    if mean is None:
        mean, variance = batch_statistics(x)
    mean = _vector("mean", mean, x.shape[-1], "channel of x")
    variance = _vector("variance", variance, x.shape[-1], "channel of x")
    return gamma * (x - mean) / np.sqrt(variance + epsilon) + beta


def batch_statistics(x: Array) -> tuple[Array, Array]:
    """Return each channel's mean and variance over all other axes: (C,), (C,).

    The variance divides by the number of values m, in Keras also where it enters the moving
    average; the paper and Torch divide by m − 1 there.
    Source: Ioffe and Szegedy 2015, algorithm 1. Chapter 10.
    """
    x = _with_channels(x)
    others = tuple(range(x.ndim - 1))
    return x.mean(axis=others), x.var(axis=others)


def moving_average(old: Array, new: Array, momentum: float = 0.99) -> Array:
    """Return momentum · old + (1 − momentum) · new: what a layer remembers of all its batches.

    Arguments: old and new of one shape; momentum 0 to 1, Keras' default. Torch's momentum is the
    share of the new value, 1 − momentum here.
    Source: Ioffe and Szegedy 2015, section 3.1. Chapter 10.
    """
    if not 0 <= momentum <= 1:
        raise ValueError(f"momentum must be between 0 and 1, not {momentum!r}")
    old, new = _floating(old), _floating(new)
    if old.shape != new.shape:
        raise ValueError(f"old and new must have one shape, not {old.shape} and {new.shape}")
    return momentum * old + (1 - momentum) * new


def batch_norm_backward(
    dy: Array, x: Array, gamma: Array, epsilon: float = 1e-3
) -> tuple[Array, Array, Array]:
    """Return a loss's gradients by a training batch norm's x, gamma and beta: (dx, dgamma, dbeta).

    Each x also moves its batch's mean and variance; that is what the two means take away.
    Arguments: dy and x (..., C); gamma (C,); epsilon as in `batch_norm`.
    Source: Ioffe and Szegedy 2015, section 3, with the sums collected. Chapter 10.
    """
    x, gamma, _ = _normalisation(x, gamma, gamma, epsilon)
    dy = _gradient(dy, x.shape)
    mean, variance = batch_statistics(x)
    deviation = np.sqrt(variance + epsilon)
    normal = (x - mean) / deviation
    others = tuple(range(x.ndim - 1))
    dgamma, dbeta = (dy * normal).sum(axis=others), dy.sum(axis=others)
    m = x.size // x.shape[-1]  # values per channel
    return gamma / deviation * (dy - dbeta / m - normal * dgamma / m), dgamma, dbeta


# The lineage's own layers


def scaled_tanh(x: Array) -> Array:
    """Return 1.7159 · tanh(2x / 3), of any shape; it maps −1, 0 and 1 to themselves.

    Source: LeCun et al. 1998, equation 6 and appendix A. Chapter 06.
    """
    return 1.7159 * np.tanh(2 / 3 * _floating(x))


def trainable_subsampling(x: Array, coefficient: Array, bias: Array) -> Array:
    """Return coefficient · (sum of each 2×2 window) + bias, map by map: (N, ⌊H/2⌋, ⌊W/2⌋, C).

    Arguments: x (N, H, W, C); coefficient and bias (C,), one of each per map. The paper squashes
    the result; that is `scaled_tanh`, and not done here.
    Source: LeCun et al. 1998, section II.B (layer S2). Chapter 06.
    """
    x = _floating(_images(x))
    coefficient = _vector("coefficient", coefficient, x.shape[3], "map of x")
    bias = _vector("bias", bias, x.shape[3], "map of x")
    return patches(x, 2, strides=2).sum(axis=(3, 4)) * coefficient + bias


def rbf(x: Array, codes: Array) -> Array:
    """Return the squared distances of each row of x to all codes: (N, I).

    y[n, i] = Σ (x[n, j] − codes[i, j])²   over j. The smallest one names the class.

    Arguments: x (N, J); codes (I, J), in LeNet-5 ten codes of 84 values −1 or +1.
    Source: LeCun et al. 1998, equation 7. Chapter 06.
    """
    x, codes = _floating(x), _floating(codes)
    if x.ndim != 2 or codes.ndim != 2 or x.shape[1] != codes.shape[1]:
        raise ValueError(
            "x must have the shape (images, features) and codes (classes, features), "
            f"not {x.shape} and {codes.shape}"
        )
    return np.square(x[:, np.newaxis] - codes).sum(axis=2)


def local_response_normalization(
    x: Array, k: float = 2, n: int = 5, alpha: float = 1e-4, beta: float = 0.75
) -> Array:
    """Return x / (k + alpha · Σ x²)^beta, the sum over the n channels around each: (N, H, W, C).

    Arguments: x (N, H, W, C); n, an odd integer ≥ 1. The sum has fewer terms at the first and the
    last channels. alpha is not divided by n, although Torch's layer does it; `tf.nn` calls n // 2
    depth_radius and k bias.
    Source: Krizhevsky, Sutskever and Hinton 2012, section 3.3. Chapter 07.
    """
    x = _floating(_images(x))
    _check_positive("n", n)
    if n % 2 == 0:
        raise ValueError(f"n must be odd, so that as many channels lie on both sides, not {n}")
    around = np.pad(np.square(x), [(0, 0)] * 3 + [(n // 2, n // 2)])
    return x / (k + alpha * sliding_window_view(around, n, axis=3).sum(axis=4)) ** beta


def zero_pad_shortcut(x: Array, filters: int, strides: int = 1) -> Array:
    """Return every strides-th pixel, with zeros as new channels: (N, ⌈H/s⌉, ⌈W/s⌉, filters).

    Arguments: x (N, H, W, C); filters ≥ C. (filters − C) // 2 of the new channels come before the
    old ones, the rest after; the paper does not say where they go.
    Source: He et al. 2015, section 3.3, option A. Chapter 12.
    """
    x = _floating(_images(x))
    _check_positive("filters", filters)
    _check_positive("strides", strides)
    new = filters - x.shape[3]
    if new < 0:
        raise ValueError(f"filters must be at least the {x.shape[3]} channels of x, not {filters}")
    channels = (new // 2, new - new // 2)
    return np.pad(x[:, ::strides, ::strides], [(0, 0), (0, 0), (0, 0), channels])


def squeeze_excite(x: Array, w1: Array, b1: Array, w2: Array, b2: Array) -> Array:
    """Return x with each channel scaled by sigmoid(relu(z @ w1 + b1) @ w2 + b2), z its mean.

    Arguments: x (N, H, W, C); w1 (C, R); b1 (R,); w2 (R, C); b2 (C,). Result: (N, H, W, C).
    Source: Hu, Shen and Sun 2018, equations 2 to 4; they leave the biases out. Chapter 15.
    """
    x = _floating(_images(x))
    channels, (w1, w2) = x.shape[3], map(_floating, (w1, w2))
    if w1.ndim != 2 or w2.shape != w1.shape[::-1] or w1.shape[0] != channels:
        raise ValueError(
            f"w1 and w2 must have the shapes ({channels}, R) and (R, {channels}) "
            f"for the {channels} channels of x, not {w1.shape} and {w2.shape}"
        )
    b1 = _vector("b1", b1, w1.shape[1], "column of w1")
    b2 = _vector("b2", b2, channels, "channel of x")
    hidden = np.maximum(global_average_pool(x) @ w1 + b1, 0)
    scale = 1 / (1 + np.exp(-(hidden @ w2 + b2)))
    return x * scale[:, np.newaxis, np.newaxis]


# Private: shapes, dtypes and what to say when they are wrong


def _span(kernel_size: int, dilation_rate: int) -> int:
    return dilation_rate * (kernel_size - 1) + 1


def _check_positive(name: str, value: int) -> None:
    if not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1, not {value!r}")


def _pair(name: str, value: Size) -> tuple[int, int]:
    pair = (value, value) if np.ndim(value) == 0 else tuple(value)
    if len(pair) != 2:
        raise ValueError(f"{name} must be an integer or a (height, width) pair, not {value!r}")
    for number in pair:
        _check_positive(name, number)
    return pair


def _axes(x: Array, kernel_size: Size, strides: Size, padding: Pad, dilation_rate: Size) -> tuple:
    """Return (height, width) pairs: of the kernel, strides, dilation, pad amounts, output sizes."""
    kernel_size = _pair("kernel_size", kernel_size)
    strides = _pair("strides", strides)
    dilation_rate = _pair("dilation_rate", dilation_rate)
    axes = [
        *zip(x.shape[1:3], kernel_size, strides, (padding, padding), dilation_rate, strict=True)
    ]
    pads = [pad_amounts(*axis) for axis in axes]
    return kernel_size, strides, dilation_rate, pads, [output_size(*axis) for axis in axes]


def _pad(x: Array, pads: list[tuple[int, int]], fill: float = 0) -> Array:
    if not np.any(pads):
        return x
    return np.pad(x, [(0, 0), *pads, (0, 0)], constant_values=fill)


def _split(groups: int, *arrays: Array) -> Iterator[tuple[Array, ...]]:
    return zip(*(np.split(array, groups, axis=-1) for array in arrays), strict=True)


def _floating(array: Array) -> Array:
    array = np.asarray(array)
    return array if np.issubdtype(array.dtype, np.floating) else array.astype(np.float32)


def _images(x: Array) -> Array:
    x = np.asarray(x)
    if x.ndim != 4:
        raise ValueError(
            f"x must have the shape (images, height, width, channels), not {x.shape}: "
            "add an axis of size 1 with x[np.newaxis] or x[..., np.newaxis]"
        )
    return x


def _gradient(dy: Array, shape: tuple[int, ...]) -> Array:
    dy = _floating(dy)
    if dy.shape != shape:
        raise ValueError(f"dy must have the shape of the output, {shape}, not {dy.shape}")
    return dy


def _with_channels(x: Array) -> Array:
    x = _floating(x)
    if x.ndim < 2:
        raise ValueError(f"x must have the shape (..., channels), not {x.shape}")
    return x


def _normalisation(
    x: Array, gamma: Array, beta: Array, epsilon: float
) -> tuple[Array, Array, Array]:
    if not epsilon > 0:
        raise ValueError(f"epsilon must be above 0, not {epsilon!r}")
    x = _with_channels(x)
    gamma = _vector("gamma", gamma, x.shape[-1], "channel of x")
    return x, gamma, _vector("beta", beta, x.shape[-1], "channel of x")


def _vector(name: str, value: Array, length: int, of: str) -> Array:
    value = _floating(value)
    if value.shape != (length,):
        raise ValueError(f"{name} must have the shape ({length},), one per {of}, not {value.shape}")
    return value


def _convolution(x: Array, kernel: Array, bias: Array | None, groups: int) -> list[Array]:
    """Return image, kernel and bias (zeros if None) in one dtype, if their shapes match."""
    x, kernel = _floating(_images(x)), _floating(kernel)
    _check_positive("groups", groups)
    if kernel.ndim != 4:
        raise ValueError(
            f"kernel must have the shape (height, width, channels / groups, filters), "
            f"not {kernel.shape}"
        )
    channels, filters = kernel.shape[2:]
    if x.shape[3] != channels * groups:
        raise ValueError(
            f"x has {x.shape[3]} channels, but {groups} group(s) of a kernel of shape "
            f"{kernel.shape} read {channels * groups}: change the kernel's third size or groups"
        )
    if filters % groups:
        raise ValueError(f"groups must divide the {filters} filters of the kernel, not be {groups}")
    bias = np.zeros(filters, kernel.dtype) if bias is None else bias
    bias = _vector("bias", bias, filters, "filter")
    dtype = np.result_type(x, kernel, bias)
    return [array.astype(dtype, copy=False) for array in (x, kernel, bias)]


def _pooling(x: Array, pool_size: Size, strides: Size | None, padding: Pad) -> tuple[Array, tuple]:
    """Return x as floats, and the arguments that `patches` needs."""
    pool_size = _pair("pool_size", pool_size)
    if isinstance(padding, Integral) and padding >= min(pool_size):
        raise ValueError(
            f"padding must be smaller than pool_size {pool_size}, not {padding}: "
            "a window of padding alone has no maximum and no mean"
        )
    return _floating(x), (pool_size, pool_size if strides is None else strides, padding)


def _real_pixels(x: Array, sizes: tuple) -> Array:
    """Return how many pixels of each window are not padding, (1, OH, OW, 1)."""
    return patches(np.ones((1, *x.shape[1:3], 1), x.dtype), *sizes).sum(axis=(3, 4))
