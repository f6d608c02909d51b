"""The pictures of the course: images, matrices with their numbers, curves and counts.

Each function that draws one picture takes `ax=None` and returns the Axes it drew on; each that
draws a grid makes its own figure and returns the array of its Axes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.ticker import MaxNLocator

# Blue below zero, white at zero, orange above: also apart for colour-blind readers and in grey.
# An odd number of steps, so that zero is exactly white.
SIGNED = LinearSegmentedColormap.from_list(
    "signed", ["#0b4f85", "#5b9bc8", "#ffffff", "#ee9a5c", "#a33f00"], N=257
)
COUNTS = LinearSegmentedColormap.from_list("counts", ["#ffffff", "#a9cde4", "#0b4f85"])
_INK, _PAPER, _FAINT, _LINE = "#1a1a1a", "#ffffff", "#767676", "#bbbbbb"
_MOST_CELLS = 32
_MOST_IMAGES = 200


def use_style() -> None:
    """Apply the course's Matplotlib style to every figure that is made from now on."""
    plt.style.use("resnetlib.course")


def image(img: np.ndarray, ax: Axes | None = None, title: str | None = None) -> Axes:
    """Show one image without ticks.

    img: (H, W) or (H, W, 1) grey, or (H, W, 3) colour; uint8 0 to 255, or float. A colour image
        of floats must lie in 0 to 1. A grey one of floats (or of other integers) is shown from
        black at its smallest to white at its largest value.
    Raises ValueError for another shape, or for colours outside 0 to 1.
    Taught in chapter 1.
    """
    img = _pixels(img)
    if ax is None:
        ax = _figure_for(img.shape)
    _show(ax, img, *_grey_range(img))
    ax.set_title(title or "")
    return ax


def images(
    batch: np.ndarray | Sequence[np.ndarray],
    titles: Sequence[object] | None = None,
    columns: int = 8,
) -> np.ndarray:
    """Show images in a grid, row by row.

    batch: (N, H, W, 1), (N, H, W, 3), or (N, H, W) with a width other than 1 and 3, which could be
        one image; or a list of images of any sizes. Values as in `image`. Grey floats share one
        scale, from the smallest value of all to the largest.
    titles: N of them, or None.
    Result: the array (rows, columns) of Axes.
    Raises ValueError for another shape, for another number of titles, for over 200 images.
    Taught in chapter 1.
    """
    shape = np.shape(batch) if isinstance(batch, np.ndarray) else (len(batch), 0, 0, 0)
    if len(shape) not in (3, 4) or (len(shape) == 3 and shape[2] in (1, 3)):
        raise ValueError(
            f"batch must be (N, H, W) or (N, H, W, 1 or 3), received {shape}; "
            "make a batch of one image with img[np.newaxis], of narrow grey images with "
            "batch[..., np.newaxis]"
        )
    if titles is not None and len(titles) != shape[0]:
        raise ValueError(f"titles must be {shape[0]}, one an image; received {len(titles)}")
    batch = [_pixels(img) for img in batch[: _MOST_IMAGES + 1]]
    height, width = np.max([img.shape[:2] for img in batch], axis=0) if batch else (1, 1)
    axes = _grid(shape[0], columns, height / width, titles)
    ranges = [_grey_range(img) for img in batch]
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    for ax, img in zip(axes.flat, batch, strict=False):
        _show(ax, img, low, high)
    return axes


def values(
    matrix: np.ndarray, ax: Axes | None = None, title: str | None = None, fmt: str = "g"
) -> Axes:
    """Draw a small matrix as coloured cells with its numbers in them.

    matrix: (rows, columns), at most 32 by 32, numbers or booleans. Zero is white, negative
        values are blue, positive ones orange; the strongest colour is the largest magnitude.
    fmt: how a number is written, as in `format(number, fmt)`: "g", ".2f", "d".
    Raises ValueError for another shape or a larger matrix, TypeError for what are no numbers.
    Taught in chapter 1.
    """
    matrix = np.asarray(matrix)
    if matrix.dtype.kind not in "biuf":
        raise TypeError(f"matrix must hold numbers or booleans, received {matrix.dtype}")
    if matrix.ndim != 2 or matrix.size == 0 or max(matrix.shape) > _MOST_CELLS:
        raise ValueError(
            f"matrix must be (rows, columns), 1 to {_MOST_CELLS} each, received {matrix.shape}; "
            "cut out a part, or show it with plots.image"
        )
    numbers = matrix.astype(int) if matrix.dtype == bool else matrix
    shade = numbers.astype(float)
    # The palest half of the map and a little more: dark text reads on every cell.
    most = 1.75 * np.abs(shade[np.isfinite(shade)]).max(initial=0) or 1
    texts = [[_number(number, fmt) for number in row] for row in numbers]
    ax = _cells(SIGNED(shade / (2 * most) + 0.5), texts, ax)
    ax.set(xticks=[], yticks=[], title=title or "")
    return ax


def curves(history: Mapping, metric: str = "accuracy", ax: Axes | None = None) -> Axes:
    """Draw a metric by epoch: training as a solid line with dots, validation dashed with squares.

    history: what `training.fit` or Keras' `fit` returns, or a dictionary with one list an epoch:
        history["accuracy"], and history["val_accuracy"] when there is validation.
    metric: "accuracy", "loss", or another key of the history.
    Raises ValueError when the history has no such metric.
    Taught in chapter 4.
    """
    history = getattr(history, "history", history)
    lines = {"training": _column(history, metric), "validation": _column(history, f"val_{metric}")}
    if lines["training"] is None:
        raise ValueError(f"metric must be one of {', '.join(history)}; received {metric!r}")
    if ax is None:
        ax = plt.figure(figsize=(7, 4)).add_subplot()
    styles = {
        "training": {"color": "#0072B2", "marker": "o", "linestyle": "-"},
        "validation": {"color": "#B84A00", "marker": "s", "linestyle": "--"},
    }
    drawn = {
        name: ax.plot(range(1, len(line) + 1), line, label=name, **styles[name])[0]
        for name, line in lines.items()
        if line is not None
    }
    ax.set(xlabel="epoch", ylabel=metric.replace("_", " "))
    ax.grid(True)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    _label_ends(ax, drawn.values())
    return ax


def confusion(matrix: np.ndarray, class_names: Sequence[str], ax: Axes | None = None) -> Axes:
    """Draw a confusion matrix with its counts: a row for each true class, a column for each guess.

    matrix: (classes, classes) of counts; row t, column p counts the images of class t that were
        taken for class p. The colour grows with the square root of a count's share of its row, so
        that rare mistakes show too.
    Raises ValueError when the matrix is not square or does not fit the names.
    Taught in chapter 4.
    """
    matrix = np.asarray(matrix)
    classes = len(class_names)
    if matrix.shape != (classes, classes) or not 0 < classes <= _MOST_CELLS:
        raise ValueError(
            f"matrix must be ({classes}, {classes}) for {classes} class names, at most "
            f"{_MOST_CELLS}; received {matrix.shape}"
        )
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    texts = [[_number(count, "g") for count in row] for row in matrix]
    ax = _cells(COUNTS(np.sqrt(share)), texts, ax)
    ax.set_xticks(range(classes), class_names)
    ax.set_yticks(range(classes), class_names)
    if max(map(len, class_names)) > 2:
        plt.setp(ax.get_xticklabels(), rotation=45, ha="right", rotation_mode="anchor")
    ax.tick_params(length=0)
    ax.set(xlabel="predicted class", ylabel="true class")
    return ax


def filters(kernel: np.ndarray, columns: int = 8) -> np.ndarray:
    """Show the kernels of a first layer, all on one scale that is symmetric about zero.

    kernel: (KH, KW, 1, F) drawn blue (negative) to orange (positive), or (KH, KW, 3, F) drawn in
        colours, where mid-grey is zero. It is `layer.kernel` of a Conv2D on images.
    Result: the array (rows, columns) of Axes.
    Raises ValueError for another shape.
    Taught in chapter 4.
    """
    kernel = np.asarray(kernel, float)
    if kernel.ndim != 4 or kernel.shape[2] not in (1, 3) or kernel.size == 0:
        raise ValueError(
            f"kernel must be (KH, KW, 1 or 3, F), that of a first layer, received {kernel.shape}; "
            "show one channel c of a deeper one with kernel[:, :, c : c + 1]"
        )
    most = np.abs(kernel).max(initial=0) or 1.0
    axes = _grid(kernel.shape[3], columns, kernel.shape[0] / kernel.shape[1])
    for ax, one in zip(axes.flat, np.moveaxis(kernel, 3, 0), strict=False):
        if kernel.shape[2] == 3:
            _show(ax, 0.5 + one / (2 * most), 0, 1)
        else:
            _show(ax, one, -most, most, SIGNED)
    if kernel.shape[2] == 1:
        _scale(axes, -most, most, SIGNED)
    return axes


def feature_maps(maps: np.ndarray, columns: int = 8) -> np.ndarray:
    """Show the channels that a layer made of one image, all on one scale.

    maps: (H, W, C), one image's output of a layer; any numbers.
    Result: the array (rows, columns) of Axes.
    Raises ValueError for another shape: take one image of a batch with maps[0].
    Taught in chapter 4.
    """
    maps = np.asarray(maps, float)
    if maps.ndim != 3 or maps.size == 0:
        raise ValueError(
            f"maps must be (H, W, C), received {maps.shape}; take one image of a batch with maps[0]"
        )
    low, high = _grey_range(maps)
    axes = _grid(maps.shape[2], columns, maps.shape[0] / maps.shape[1])
    for ax, one in zip(axes.flat, np.moveaxis(maps, 2, 0), strict=False):
        _show(ax, one[..., np.newaxis], low, high, "viridis")
    _scale(axes, low, high, "viridis")
    return axes


def _pixels(img: np.ndarray) -> np.ndarray:
    """Return an image as (H, W, C), or refuse it."""
    img = np.asarray(img)
    if img.ndim == 2:
        img = img[..., np.newaxis]
    if img.ndim != 3 or img.shape[2] not in (1, 3) or img.size == 0:
        raise ValueError(f"an image must be (H, W), (H, W, 1) or (H, W, 3), received {img.shape}")
    if img.shape[2] == 3 and img.dtype != np.uint8 and not -1e-6 < img.min() <= img.max() < 1.001:
        raise ValueError(
            f"a colour image that is not uint8 must lie in 0 to 1, received {img.min():g} to "
            f"{img.max():g} ({img.dtype}); divide by 255, or use .astype('uint8')"
        )
    return img.clip(0, 1) if img.shape[2] == 3 and img.dtype != np.uint8 else img


def _grey_range(img: np.ndarray) -> tuple[float, float]:
    if img.dtype == np.uint8:
        return 0, 255
    return float(img.min()), float(img.max())


def _show(ax: Axes, img: np.ndarray, low: float, high: float, cmap: object = "gray") -> None:
    small = max(img.shape) <= 64  # few pixels: show each as a square
    ax.imshow(
        img if img.shape[2] == 3 else img[:, :, 0],
        cmap=cmap,
        vmin=low,
        vmax=high,
        interpolation="nearest" if small else "antialiased",
    )
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set(visible=True, color=_LINE, linewidth=0.8)


def _figure_for(shape: tuple[int, ...]) -> Axes:
    height, width = shape[:2]
    side = 3.2 if max(height, width) <= 64 else 3.6  # inches; a photo then stays below 200 kB
    size = side * np.array([width, height]) / max(height, width)
    width, height = np.maximum(size, 1)
    return plt.figure(figsize=(width, height + 0.4)).add_subplot()


def _grid(
    count: int, columns: int, aspect: float, titles: Sequence[object] | None = None
) -> np.ndarray:
    if not 1 <= count <= _MOST_IMAGES or columns < 1:
        raise ValueError(
            f"a grid shows 1 to {_MOST_IMAGES} images in 1 or more columns, received {count} "
            f"images and {columns} columns; show a part, such as the first 40"
        )
    columns = min(columns, count)
    rows = -(-count // columns)
    tile = min(2.4, 8 / columns)
    height = rows * (tile * aspect + (0.04 if titles is None else 0.3))
    _, axes = plt.subplots(rows, columns, figsize=(tile * columns, height), squeeze=False)
    for ax in axes.flat[count:]:
        ax.set_axis_off()
    if titles is not None:
        longest = max(len(str(title)) for title in titles)
        size = np.clip(120 * tile / (longest + 1), 7, 12)
        for ax, title in zip(axes.flat, titles, strict=False):
            ax.set_title(str(title), fontsize=size)
    return axes


def _scale(axes: np.ndarray, low: float, high: float, cmap: object) -> None:
    bar = axes[0, 0].figure.colorbar(
        ScalarMappable(Normalize(low, high), cmap), ax=axes, fraction=0.03, pad=0.02
    )
    bar.outline.set_visible(False)


def _cells(colours: np.ndarray, texts: list[list[str]], ax: Axes | None) -> Axes:
    """Draw coloured cells (rows, columns, RGBA), each with its text in the ink that reads best."""
    rows, columns = colours.shape[:2]
    if ax is None:
        cell = np.clip(7 / max(rows, columns), 0.28, 0.65)
        ax = plt.figure(figsize=(cell * columns + 0.3, cell * rows + 0.6)).add_subplot()
    else:
        box = ax.get_window_extent().transformed(ax.figure.dpi_scale_trans.inverted())
        cell = min(box.width / columns, box.height / rows)
    ax.imshow(colours, interpolation="nearest")
    longest = max(len(text) for row in texts for text in row)
    size = 72 * cell * min(1.3 / longest, 0.45)
    for (row, column), text in np.ndenumerate(np.array(texts)):
        ink = _FAINT if text == "0" and min(rows, columns) > 7 else _ink(colours[row, column, :3])
        style = {"ha": "center", "va": "center", "color": ink, "fontsize": np.clip(size, 5, 14)}
        ax.text(column, row, text, **style)
    ax.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
    ax.grid(False)
    ax.grid(True, which="minor", color=_LINE, linewidth=0.8)
    ax.tick_params(which="both", length=0)
    for spine in ax.spines.values():
        spine.set(visible=True, color=_LINE, linewidth=0.8)
    return ax


def _ink(colour: np.ndarray) -> str:
    """Choose dark or light text by WCAG's relative luminance; 0.18 is where both read alike."""
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    return _INK if linear @ [0.2126, 0.7152, 0.0722] > 0.18 else _PAPER


def _number(number: float, fmt: str) -> str:
    text = format(number, fmt)
    if text.lstrip("-").strip("0.") == "":
        text = text.lstrip("-")  # no minus before zero
    return text.replace("-", "\N{MINUS SIGN}")


def _column(history: Mapping, key: str) -> list[float] | None:
    try:
        line = list(history[key])
    except KeyError:
        return None
    return None if not line or None in line else line


def _label_ends(ax: Axes, lines: Sequence) -> None:
    """Name each line at its last finite point, and push two names apart that would touch."""
    low, high = ax.get_ylim()
    height = ax.get_window_extent().height * 72 / ax.figure.dpi
    ends = []
    for line in lines:
        points = line.get_xydata()[np.isfinite(line.get_ydata())]
        if len(points):
            ends.append((points[-1, 1], points[-1, 0], line))
    ends.sort(key=lambda end: end[0])
    gap = (ends[-1][0] - ends[0][0]) / (high - low) * height if ends else 0
    push = max(0, 15 - gap) / 2 if len(ends) == 2 else 0
    for (y, x, line), shift in zip(ends, (-push, push), strict=False):
        ax.annotate(
            line.get_label(),
            (x, y),
            xytext=(9, shift),
            textcoords="offset points",
            va="center",
            color=line.get_color(),
        )
