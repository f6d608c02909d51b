"""Convolution and pooling in NumPy alone, forwards and backwards: written to be read.

Images have the shape (N, H, W, C): images, height, width, channels. Kernels have the shape
(KH, KW, C / groups, F), with F filters, as in Keras. A window's size, its stride and its dilation
are an integer or a (height, width) pair. Padding is "valid" (none), "same" (the output has
ceil(size / stride) pixels) or an integer: that many pixels on every side. Results are floating
point: floats keep their precision, integers (a uint8 photo) become float32.

A bad value raises a ValueError that names it. Chapters 02 and 03 teach this module.
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
    bias = np.zeros(filters, kernel.dtype) if bias is None else _floating(bias)
    if bias.shape != (filters,):
        raise ValueError(f"bias must have the shape ({filters},), one per filter, not {bias.shape}")
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
