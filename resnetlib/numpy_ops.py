"""Convolution and pooling in NumPy alone, forwards and backwards: small enough to read, not to race.

Images are arrays of shape (N, H, W, C): images, height, width, channels. Kernels are
(KH, KW, C / groups, F) with F filters, as in Keras. A size, stride or dilation is an integer or a
(height, width) pair; padding is "valid" (none), "same" (the output has ceil(size / stride) pixels)
or an integer, that many pixels on every side. Results are floating point: float inputs keep
their precision, integers (a uint8 photo) become float32. Chapters 02 and 03 teach this module.
"""

from numbers import Integral
from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

Size = int | tuple[int, int]
Padding = Literal["valid", "same"] | int


# Sizes ------------------------------------------------------------------------------------------


def pad_amounts(
    size: int,
    kernel_size: int,
    strides: int = 1,
    padding: Padding = "valid",
    dilation_rate: int = 1,
) -> tuple[int, int]:
    """Return how many pixels are added before and after one axis.

    Arguments: as for `output_size`.
    Result: (before, after). An odd "same" total puts the extra pixel after, so that at stride 2
    an even image is padded at the bottom and right only. The papers pad KH // 2 on every side.
    Errors: ValueError for a size below 1 or an unknown padding.
    Source: TensorFlow's and Keras' rule for "same". Taught in chapter 02.
    """
    _integers(size=size, kernel_size=kernel_size, strides=strides, dilation_rate=dilation_rate)
    if padding == "valid":
        return 0, 0
    if padding == "same":
        last_start = (-(-size // strides) - 1) * strides
        total = max(last_start + _span(kernel_size, dilation_rate) - size, 0)
        return total // 2, total - total // 2
    if isinstance(padding, Integral) and padding >= 0:
        return int(padding), int(padding)
    raise ValueError(
        f"padding must be 'valid', 'same' or an integer of at least 0, not {padding!r}"
    )


def output_size(
    size: int,
    kernel_size: int,
    strides: int = 1,
    padding: Padding = "valid",
    dilation_rate: int = 1,
) -> int:
    """Return how many places a window has along one axis: floor((padded - span) / stride) + 1.

    Arguments: size, the input's pixels along the axis; kernel_size, the window's; strides, the
    step from one place to the next; padding, "valid", "same" or an integer; dilation_rate, the
    step from one tap of the kernel to the next. All integers of at least 1, but padding from 0.
    Errors: ValueError for those, and for a window that does not fit in the padded input.
    Source: Dumoulin and Visin 2016, relationships 6 and 15. Taught in chapter 02.
    """
    padded = size + sum(pad_amounts(size, kernel_size, strides, padding, dilation_rate))
    span = _span(kernel_size, dilation_rate)
    if span > padded:
        raise ValueError(
            f"a window of {kernel_size} with dilation {dilation_rate} spans {span} pixels, but the "
            f"padded input has {padded}: use a smaller window, a larger image or padding='same'"
        )
    return (padded - span) // strides + 1


def _span(kernel_size: int, dilation_rate: int) -> int:
    return dilation_rate * (kernel_size - 1) + 1


# Windows: what convolution and pooling share ------------------------------------------------------


def patches(
    x: np.ndarray,
    kernel_size: Size,
    strides: Size = 1,
    padding: Padding = "valid",
    dilation_rate: Size = 1,
    fill: float = 0.0,
) -> np.ndarray:
    """Return every window that a kernel sees (im2col), of shape (N, OH, OW, KH, KW, C).

    Arguments: x (N, H, W, C), any dtype; fill, the value of the padding; the rest as above.
    Result: a read-only view of x, or of its padded copy, in the same dtype: no pixel is repeated
    in memory until somebody reshapes it.
    Errors: ValueError for a wrong rank, or sizes that `output_size` refuses.
    Source: Chellapilla, Puri and Simard 2006, section 2.1. Taught in chapter 02.
    """
    x = _images(x)
    kernel_size, strides, dilation_rate = _pairs(
        kernel_size=kernel_size, strides=strides, dilation_rate=dilation_rate
    )
    x = _pad(x, kernel_size, strides, padding, dilation_rate, fill)
    spans = [_span(k, d) for k, d in zip(kernel_size, dilation_rate, strict=True)]
    windows = sliding_window_view(x, spans, axis=(1, 2))  # (N, places, places, C, span, span)
    (sh, sw), (dh, dw) = strides, dilation_rate
    return windows[:, ::sh, ::sw, :, ::dh, ::dw].transpose(0, 1, 2, 4, 5, 3)


def patches_backward(
    dy: np.ndarray,
    x: np.ndarray,
    kernel_size: Size,
    strides: Size = 1,
    padding: Padding = "valid",
    dilation_rate: Size = 1,
) -> np.ndarray:
    """Return the gradient of `patches` (col2im): each pixel sums over the windows that saw it.

    Arguments: dy (N, OH, OW, KH, KW, C), the gradient of the windows; the rest as for `patches`.
    Result: dx, of the shape of x. Taught in chapter 02.
    """
    x = _images(x)
    (kh, kw), (sh, sw), (dh, dw) = sizes = _pairs(
        kernel_size=kernel_size, strides=strides, dilation_rate=dilation_rate
    )
    (top, bottom), (left, right) = _borders(x, sizes[0], sizes[1], padding, sizes[2])
    n, height, width, channels = x.shape
    oh, ow = dy.shape[1:3]
    dx = np.zeros((n, top + height + bottom, left + width + right, channels), dy.dtype)
    for u, v in np.ndindex(kh, kw):
        rows = slice(u * dh, u * dh + oh * sh, sh)
        columns = slice(v * dw, v * dw + ow * sw, sw)
        dx[:, rows, columns] += dy[:, :, :, u, v]
    return dx[:, top : top + height, left : left + width]


# Convolution --------------------------------------------------------------------------------------


def conv2d_loops(
    x: np.ndarray,
    kernel: np.ndarray,
    bias: np.ndarray | None = None,
    strides: Size = 1,
    padding: Padding = "valid",
    dilation_rate: Size = 1,
    groups: int = 1,
) -> np.ndarray:
    """Return the 2-D convolution of a batch of images, pixel by pixel as it is defined.

    Arguments: x (N, H, W, C); kernel (KH, KW, C / groups, F); bias (F,) or None; groups, into
    how many independent parts channels and filters are split; the rest as above.
    Result: (N, OH, OW, F). As in every deep-learning library the kernel is not flipped, so this is
    what mathematics calls cross-correlation.
    Errors: ValueError for shapes that do not match, and for sizes that `output_size` refuses.
    Source: Goodfellow, Bengio and Courville 2016, equation 9.6. Taught in chapter 02.
    """
    x, kernel, bias = _convolution(x, kernel, bias, groups)
    kh, kw, channels, filters = kernel.shape
    (sh, sw), (dh, dw) = _pairs(strides=strides, dilation_rate=dilation_rate)
    x = _pad(x, (kh, kw), (sh, sw), padding, (dh, dw))
    oh = output_size(x.shape[1], kh, sh, "valid", dh)
    ow = output_size(x.shape[2], kw, sw, "valid", dw)

    y = np.empty((len(x), oh, ow, filters), x.dtype)
    for n, i, j, f in np.ndindex(y.shape):
        top, left, first = i * sh, j * sw, f // (filters // groups) * channels
        window = x[n, top:, left:, first:][: kh * dh : dh, : kw * dw : dw, :channels]
        y[n, i, j, f] = np.sum(window * kernel[:, :, :, f]) + bias[f]
    return y


def conv2d_matmul(
    x: np.ndarray,
    kernel: np.ndarray,
    bias: np.ndarray | None = None,
    strides: Size = 1,
    padding: Padding = "valid",
    dilation_rate: Size = 1,
    groups: int = 1,
) -> np.ndarray:
    """Return the same as `conv2d_loops`, as one matrix product per group.

    Each window becomes a row and each filter a column: (N·OH·OW, KH·KW·C) @ (KH·KW·C, F).
    Arguments, result and errors: as for `conv2d_loops`.
    Source: Chellapilla, Puri and Simard 2006, section 2.1. Taught in chapter 02.
    """
    x, kernel, bias = _convolution(x, kernel, bias, groups)
    windows = patches(x, kernel.shape[:2], strides, padding, dilation_rate)
    outputs = [
        _matrix(w, 3) @ _matrix(k, 3)
        for w, k in zip(
            np.split(windows, groups, axis=-1), np.split(kernel, groups, axis=-1), strict=True
        )
    ]
    return np.concatenate(outputs, axis=-1).reshape(*windows.shape[:3], -1) + bias


def conv2d_backward(
    dy: np.ndarray,
    x: np.ndarray,
    kernel: np.ndarray,
    strides: Size = 1,
    padding: Padding = "valid",
    dilation_rate: Size = 1,
    groups: int = 1,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the gradients of a loss by the image, the kernel and the bias of a convolution.

    Arguments: dy (N, OH, OW, F), the gradient by the convolution's output; the rest as for
    `conv2d_loops`.
    Result: (dx, dkernel, dbias), of the shapes of x, kernel and bias.
    Errors: as for `conv2d_loops`, and ValueError if dy has not the output's shape.
    Source: y = windows @ kernel, so dkernel = windowsᵀ @ dy and dwindows = dy @ kernelᵀ.
    Taught in chapter 02.
    """
    x, kernel, _ = _convolution(x, kernel, None, groups)
    windows = patches(x, kernel.shape[:2], strides, padding, dilation_rate)
    dy = _gradient(dy, (*windows.shape[:3], kernel.shape[3]))
    dwindows, dkernel = [], []
    for w, k, g in zip(*(np.split(a, groups, axis=-1) for a in (windows, kernel, dy)), strict=True):
        dkernel.append((_matrix(w, 3).T @ _matrix(g, 3)).reshape(k.shape))
        dwindows.append((_matrix(g, 3) @ _matrix(k, 3).T).reshape(w.shape))
    dx = patches_backward(
        np.concatenate(dwindows, axis=-1), x, kernel.shape[:2], strides, padding, dilation_rate
    )
    return dx, np.concatenate(dkernel, axis=-1), dy.sum(axis=(0, 1, 2))


# Pooling ------------------------------------------------------------------------------------------


def max_pool(
    x: np.ndarray, pool_size: Size = 2, strides: Size | None = None, padding: Padding = "valid"
) -> np.ndarray:
    """Return the largest value of each window, channel by channel.

    Arguments: x (N, H, W, C); pool_size, the window; strides, pool_size if None; padding, never
    the maximum: "valid", "same" or an integer below pool_size.
    Result: (N, OH, OW, C).
    Errors: ValueError for a wrong rank, and for sizes that `output_size` refuses.
    Taught in chapter 03.
    """
    return _pool_windows(x, pool_size, strides, padding, fill=-np.inf).max(axis=(3, 4))


def max_pool_backward(
    dy: np.ndarray,
    x: np.ndarray,
    pool_size: Size = 2,
    strides: Size | None = None,
    padding: Padding = "valid",
) -> np.ndarray:
    """Return the gradient of `max_pool`: all of it goes to the pixel that won.

    Arguments: dy (N, OH, OW, C), the gradient by the pool's output; the rest as for `max_pool`.
    Result: dx, of the shape of x. Of equal maxima the first in reading order wins, as in TensorFlow.
    Errors: as for `max_pool`, and ValueError if dy has not the output's shape.
    Taught in chapter 03.
    """
    windows = _pool_windows(x, pool_size, strides, padding, fill=-np.inf)
    n, oh, ow, kh, kw, channels = windows.shape
    dy = _gradient(dy, (n, oh, ow, channels))
    winner = windows.reshape(n, oh, ow, kh * kw, channels).argmax(axis=3, keepdims=True)
    won = winner == np.arange(kh * kw)[:, np.newaxis]
    dwindows = np.where(won, dy[:, :, :, np.newaxis], 0).reshape(windows.shape)
    return patches_backward(dwindows, x, pool_size, _or(strides, pool_size), padding)


def average_pool(
    x: np.ndarray, pool_size: Size = 2, strides: Size | None = None, padding: Padding = "valid"
) -> np.ndarray:
    """Return the mean of each window's real pixels, channel by channel; padding does not count.

    Arguments, result and errors: as for `max_pool`. Taught in chapter 03.
    """
    windows = _pool_windows(x, pool_size, strides, padding, fill=0)
    return windows.sum(axis=(3, 4)) / _real_pixels(x, pool_size, strides, padding)


def average_pool_backward(
    dy: np.ndarray,
    x: np.ndarray,
    pool_size: Size = 2,
    strides: Size | None = None,
    padding: Padding = "valid",
) -> np.ndarray:
    """Return the gradient of `average_pool`: every real pixel of a window gets an equal share.

    Arguments, result and errors: as for `max_pool_backward`. Taught in chapter 03.
    """
    windows = _pool_windows(x, pool_size, strides, padding, fill=0)
    dy = _gradient(dy, (*windows.shape[:3], windows.shape[5]))
    share = dy / _real_pixels(x, pool_size, strides, padding)
    dwindows = np.broadcast_to(share[:, :, :, np.newaxis, np.newaxis], windows.shape)
    return patches_backward(dwindows, x, pool_size, _or(strides, pool_size), padding)


def global_average_pool(x: np.ndarray) -> np.ndarray:
    """Return the mean of each feature map: (N, H, W, C) → (N, C).

    Errors: ValueError for a wrong rank.
    Source: Lin, Chen and Yan 2013, section 3.2. Taught in chapter 03.
    """
    return _floating(_images(x)).mean(axis=(1, 2))


def global_average_pool_backward(dy: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the gradient of `global_average_pool`: dy (N, C) spread evenly over (N, H, W, C).

    Errors: ValueError for a wrong rank, or if dy has not the shape (N, C). Taught in chapter 03.
    """
    n, height, width, channels = _images(x).shape
    share = _gradient(dy, (n, channels)) / (height * width)
    return np.broadcast_to(share[:, np.newaxis, np.newaxis], x.shape).copy()


def depthwise_max_pool(x: np.ndarray, pool_size: int) -> np.ndarray:
    """Return the largest of every pool_size neighbouring channels: (N, H, W, C / pool_size).

    Arguments: x (N, H, W, C); pool_size, an integer of at least 1 that divides C.
    Errors: ValueError for a wrong rank or a pool_size that does not divide C.
    Taught in chapter 03.
    """
    x = _floating(_images(x))
    _integers(pool_size=pool_size)
    if x.shape[3] % pool_size:
        raise ValueError(f"pool_size must divide the {x.shape[3]} channels of x, not {pool_size}")
    return x.reshape(*x.shape[:3], -1, pool_size).max(axis=4)


# Checks and small parts ---------------------------------------------------------------------------


def _integers(**values: int) -> None:
    for name, value in values.items():
        if not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name} must be an integer of at least 1, not {value!r}")


def _pairs(**values: Size) -> list[tuple[int, int]]:
    pairs = []
    for name, value in values.items():
        pair = (value, value) if np.ndim(value) == 0 else tuple(value)
        if len(pair) != 2 or not all(isinstance(v, Integral) and v >= 1 for v in pair):
            raise ValueError(
                f"{name} must be an integer of at least 1 or a (height, width) pair, not {value!r}"
            )
        pairs.append(pair)
    return pairs


def _images(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x)
    if x.ndim != 4:
        raise ValueError(
            f"x must have the shape (images, height, width, channels), not {x.shape}: "
            "add a missing axis with x[np.newaxis] or x[..., np.newaxis]"
        )
    return x


def _floating(a: np.ndarray) -> np.ndarray:
    return a if np.issubdtype(a.dtype, np.floating) else a.astype(np.float32)


def _convolution(
    x: np.ndarray, kernel: np.ndarray, bias: np.ndarray | None, groups: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Check the shapes of a convolution's arrays and give them one floating dtype."""
    x, kernel = _images(x), np.asarray(kernel)
    _integers(groups=groups)
    if kernel.ndim != 4:
        raise ValueError(
            "kernel must have the shape (height, width, channels / groups, filters), "
            f"not {kernel.shape}"
        )
    channels, filters = kernel.shape[2:]
    if x.shape[3] != channels * groups:
        raise ValueError(
            f"x has {x.shape[3]} channels, but a kernel of shape {kernel.shape} in {groups} "
            f"group(s) needs {channels} × {groups} = {channels * groups}"
        )
    if filters % groups:
        raise ValueError(f"groups must divide the {filters} filters of the kernel, not {groups}")
    bias = np.zeros(filters, np.float16) if bias is None else np.asarray(bias)
    if bias.shape != (filters,):
        raise ValueError(f"bias must have one value a filter, shape ({filters},), not {bias.shape}")
    arrays = [_floating(a) for a in (x, kernel, bias)]
    dtype = np.result_type(*arrays)
    return tuple(a.astype(dtype, copy=False) for a in arrays)


def _gradient(dy: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    dy = _floating(np.asarray(dy))
    if dy.shape != shape:
        raise ValueError(f"dy must have the shape of the output, {shape}, not {dy.shape}")
    return dy


def _borders(x, kernel_size, strides, padding, dilation_rate):
    return [
        pad_amounts(size, k, s, padding, d)
        for size, k, s, d in zip(x.shape[1:3], kernel_size, strides, dilation_rate, strict=True)
    ]


def _pad(x, kernel_size, strides, padding, dilation_rate, fill=0.0):
    for size, k, s, d in zip(x.shape[1:3], kernel_size, strides, dilation_rate, strict=True):
        output_size(size, k, s, padding, d)  # refuses a window that does not fit
    borders = _borders(x, kernel_size, strides, padding, dilation_rate)
    if not np.any(borders):
        return x
    return np.pad(x, [(0, 0), *borders, (0, 0)], constant_values=fill)


def _matrix(a: np.ndarray, rows: int) -> np.ndarray:
    return a.reshape(np.prod(a.shape[:rows]), np.prod(a.shape[rows:]))


def _or(value, default):
    return default if value is None else value


def _pool_windows(x, pool_size, strides, padding, fill):
    _pairs(pool_size=pool_size)
    return patches(_floating(_images(x)), pool_size, _or(strides, pool_size), padding, fill=fill)


def _real_pixels(x, pool_size, strides, padding):
    x = _floating(_images(x))
    return _pool_windows(np.ones_like(x[:1, :, :, :1]), pool_size, strides, padding, 0).sum((3, 4))
