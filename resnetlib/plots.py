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
SIGNED = LinearSegmentedColormap.from_list(
    "signed", ["#0b4f85", "#5b9bc8", "#ffffff", "#ee9a5c", "#a33f00"]
)
COUNTS = LinearSegmentedColormap.from_list("counts", ["#ffffff", "#a9cde4", "#0b4f85"])
_INK, _PAPER, _LINE = "#1a1a1a", "#ffffff", "#bbbbbb"
_MOST_CELLS = 32


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
    batch: np.ndarray, titles: Sequence[object] | None = None, columns: int = 8
) -> np.ndarray:
    """Show images in a grid, row by row.

    batch: (N, H, W), (N, H, W, 1) or (N, H, W, 3), values as in `image`. Grey floats share one
        scale, from the smallest value of the batch to its largest.
    titles: N of them, or None.
    Result: the array (rows, columns) of Axes.
    Raises ValueError for another shape or another number of titles.
    Taught in chapter 1.
    """
    batch = [_pixels(img) for img in batch]
    if titles is not None and len(titles) != len(batch):
        raise ValueError(f"titles must be {len(batch)}, one an image; received {len(titles)}")
    axes = _grid(len(batch), columns, titles)
    low, high = _grey_range(np.stack(batch))
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
    Raises ValueError for another shape or a larger matrix.
    Taught in chapter 1.
    """
    matrix = np.asarray(matrix)
    if matrix.ndim != 2 or not 0 < max(matrix.shape) <= _MOST_CELLS or 0 in matrix.shape:
        raise ValueError(
            f"matrix must be (rows, columns), 1 to {_MOST_CELLS} each; received {matrix.shape}. "
            "Show a larger one with plots.image."
        )
    numbers = matrix.astype(int) if matrix.dtype == bool else matrix
    finite = np.abs(numbers[np.isfinite(numbers)])
    most = float(finite.max(initial=0)) or 1.0
    texts = [[_number(number, fmt) for number in row] for row in numbers]
    ax = _cells(numbers / (2 * most) + 0.5, SIGNED, texts, ax)
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
        raise ValueError(f"metric must be a key of the history, received {metric!r}")
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
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    _label_ends(ax, drawn.values())
    return ax


def confusion(matrix: np.ndarray, class_names: Sequence[str], ax: Axes | None = None) -> Axes:
    """Draw a confusion matrix with its counts: a row for each true class, a column for each guess.

    matrix: (classes, classes) of counts; row t, column p counts the images of class t that were
        taken for class p. The colour is the share of the row.
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
    ax = _cells(share, COUNTS, texts, ax)
    turned = max(map(len, class_names)) > 2
    ax.set_xticks(range(classes), class_names)
    ax.set_yticks(range(classes), class_names)
    if turned:
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
    Taught in chapter 2.
    """
    kernel = np.asarray(kernel, float)
    if kernel.ndim != 4 or kernel.shape[2] not in (1, 3):
        raise ValueError(f"kernel must be (KH, KW, 1 or 3, F), received {kernel.shape}")
    most = np.abs(kernel).max(initial=0) or 1.0
    axes = _grid(kernel.shape[3], columns)
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
    Taught in chapter 2.
    """
    maps = np.asarray(maps, float)
    if maps.ndim != 3:
        raise ValueError(
            f"maps must be (H, W, C), received {maps.shape}; take one image of a batch with maps[0]"
        )
    low, high = _grey_range(maps)
    axes = _grid(maps.shape[2], columns)
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
    scale = 4 / max(height, width)
    return plt.figure(figsize=(max(scale * width, 2), max(scale * height, 2) + 0.4)).add_subplot()


def _grid(count: int, columns: int, titles: Sequence[object] | None = None) -> np.ndarray:
    if columns < 1 or count < 1:
        raise ValueError(
            f"a grid needs 1 or more images and columns, received {count} and {columns}"
        )
    columns = min(columns, count)
    rows = -(-count // columns)
    tile = min(1.5, 8 / columns)
    longest = max((len(str(title)) for title in titles), default=0) if titles is not None else 0
    height = rows * (tile + (0.3 if titles is not None else 0.04))
    _, axes = plt.subplots(rows, columns, figsize=(tile * columns, height), squeeze=False)
    for index, ax in enumerate(axes.flat):
        if index >= count:
            ax.set_axis_off()
        elif titles is not None:
            ax.set_title(str(titles[index]), fontsize=np.clip(115 * tile / (longest + 1), 7, 12))
    return axes


def _scale(axes: np.ndarray, low: float, high: float, cmap: object) -> None:
    bar = axes[0, 0].figure.colorbar(
        ScalarMappable(Normalize(low, high), cmap), ax=axes, fraction=0.03, pad=0.02
    )
    bar.outline.set_visible(False)


def _cells(
    shade: np.ndarray, cmap: LinearSegmentedColormap, texts: list[list[str]], ax: Axes | None
) -> Axes:
    """Draw cells coloured by `shade` in 0 to 1, each with its text in the ink that reads best."""
    rows, columns = shade.shape
    if ax is None:
        cell = np.clip(7 / max(rows, columns), 0.3, 0.65)
        ax = plt.figure(figsize=(cell * columns + 0.3, cell * rows + 0.6)).add_subplot()
    colours = cmap(np.nan_to_num(shade, nan=0.5))[..., :3]
    ax.imshow(colours, interpolation="nearest")
    box = ax.get_window_extent().transformed(ax.figure.dpi_scale_trans.inverted())
    side = 72 * min(box.width / columns, box.height / rows)
    longest = max(len(text) for row in texts for text in row)
    size = np.clip(min(side / (0.68 * longest), 0.5 * side), 4, 14)
    for (row, column), colour in np.ndenumerate(colours[..., 0]):
        del colour
        ink = _ink(colours[row, column])
        ax.text(column, row, texts[row][column], ha="center", va="center", color=ink, fontsize=size)
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
    """Name each line at its last point, and push two names apart that would touch."""
    ax.margins(x=0.04)
    low, high = ax.get_ylim()
    height = ax.get_window_extent().height * 72 / ax.figure.dpi
    ends = sorted(lines, key=lambda line: line.get_ydata()[-1])
    places = [(line.get_ydata()[-1] - low) / (high - low) * height for line in ends]
    if len(places) == 2 and (gap := places[1] - places[0]) < 15:
        shifts = [-(15 - gap) / 2, (15 - gap) / 2]
    else:
        shifts = [0] * len(places)
    for line, shift in zip(ends, shifts, strict=True):
        ax.annotate(
            line.get_label(),
            (line.get_xdata()[-1], line.get_ydata()[-1]),
            xytext=(9, shift),
            textcoords="offset points",
            va="center",
            color=line.get_color(),
            annotation_clip=False,
        )
