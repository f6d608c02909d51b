"""The pictures: they draw the values they got, on the Axes they got, and can be read."""

import io
import itertools
from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from resnetlib import data, plots

plt = pytest.importorskip("matplotlib.pyplot")
RNG = np.random.default_rng(5)
GREY, COLOUR = RNG.integers(0, 256, (6, 9), np.uint8), RNG.integers(0, 256, (6, 9, 3), np.uint8)


@pytest.fixture(autouse=True)
def styled():
    with mpl.rc_context({"backend": "Agg"}):
        plots.use_style()
        yield
        plt.close("all")


def pixels(ax):
    (picture,) = ax.images
    return np.asarray(picture.get_array())


def texts(ax):
    return [text.get_text() for text in ax.texts]


def contrast(one, other):
    """WCAG 2's contrast ratio of two colours, from its own formula."""

    def luminance(colour):
        parts = []
        for part in to_rgb(colour):
            parts.append(part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4)
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def png():
    file = io.BytesIO()
    plt.gcf().savefig(file, bbox_inches="tight")
    return file.getvalue()


# ---------------------------------------------------------------- one picture

ONE_PICTURE = {
    "image": lambda ax: plots.image(GREY, ax),
    "values": lambda ax: plots.values(np.eye(3), ax),
    "curves": lambda ax: plots.curves({"accuracy": [0.5, 0.6]}, ax=ax),
    "confusion": lambda ax: plots.confusion(np.eye(2, dtype=int), "ab", ax),
}


@pytest.mark.parametrize("draw", ONE_PICTURE.values(), ids=ONE_PICTURE)
def test_draws_on_the_axes_it_gets_or_makes_its_own(draw):
    figure, axes = plt.subplots(1, 2)
    assert draw(axes[1]) is axes[1]
    assert not axes[0].has_data()
    assert plt.get_fignums() == [figure.number]
    ax = draw(None)
    assert ax.figure is not figure
    assert ax.figure.axes == [ax]
    assert ax.figure.get_size_inches().max() <= 9


@pytest.mark.parametrize(
    ("img", "drawn", "limits"),
    [
        (GREY, GREY, (0, 255)),
        (GREY[..., np.newaxis], GREY, (0, 255)),
        (GREY / 100 - 1, GREY / 100 - 1, ((GREY / 100 - 1).min(), (GREY / 100 - 1).max())),
        (GREY.astype(np.int64), GREY, (GREY.min(), GREY.max())),
        (COLOUR, COLOUR, None),
        (COLOUR / 255, COLOUR / 255, None),
    ],
)
def test_image_draws_the_pixels(img, drawn, limits):
    ax = plots.image(img, title="a title")
    np.testing.assert_allclose(pixels(ax), drawn)
    if limits:
        assert ax.images[0].get_clim() == pytest.approx(limits)
        assert ax.images[0].get_cmap().name == "gray"
    assert ax.get_title() == "a title"
    assert not len(ax.get_xticks()) + len(ax.get_yticks())


def test_a_photo_makes_a_file_below_200_kilobytes():
    plots.image(data.photos().images[0], title="china")
    assert len(png()) < 200_000


def test_values_writes_the_numbers_in_their_cells():
    matrix = np.array([[-1.5, 0.0, 2.25], [-0.0, 10.0, 3e-5]])
    ax = plots.values(matrix, title="kernel")
    assert texts(ax) == ["−1.5", "0", "2.25", "0", "10", "3e−05"]
    places = [text.get_position() for text in ax.texts]
    assert places == [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1)]
    assert ax.get_title() == "kernel"
    assert texts(plots.values(matrix, fmt=".1f"))[:4] == ["−1.5", "0.0", "2.2", "0.0"]
    assert texts(plots.values(np.array([[-0.01]]), fmt=".1f")) == ["0.0"]
    assert texts(plots.values(np.array([[True, False]]))) == ["1", "0"]
    assert texts(plots.values(np.array([[7, -12]]), fmt="d")) == ["7", "−12"]


def test_values_are_blue_below_zero_white_at_zero_and_orange_above():
    row = np.array([[-128, -1, 0, 1, 127]], np.int8)
    colours = pixels(plots.values(row))[0, :, :3]
    assert colours[2].tolist() == [1, 1, 1]
    assert (colours[:2, 2] > colours[:2, 0]).all()
    assert (colours[3:, 0] > colours[3:, 2]).all()
    assert colours[0].sum() < colours[1].sum()
    assert colours[4].sum() < colours[3].sum()
    assert (pixels(plots.values(np.zeros((2, 2))))[..., :3] == 1).all()
    assert texts(plots.values(np.array([[np.nan, np.inf, -np.inf, 1]]))) == [
        "nan",
        "inf",
        "−inf",
        "1",
    ]


@pytest.mark.parametrize("matrix", [np.linspace(-1, 1, 32 * 31).reshape(32, 31), np.eye(10) * 255])
@pytest.mark.parametrize(
    "draw", [plots.values, lambda m: plots.confusion(abs(m[:10, :10]), "abcdefghij")]
)
def test_every_number_stands_out_from_its_cell(draw, matrix):
    ax = draw(matrix)
    colours = pixels(ax).reshape(-1, 4)
    for text, colour in zip(ax.texts, colours, strict=True):
        assert contrast(text.get_color(), colour[:3]) > 4, text


@pytest.mark.parametrize(
    ("rows", "columns", "points"), [(3, 3, 14), (5, 5, 14), (8, 8, 10), (28, 28, 6)]
)
def test_numbers_are_large_enough_and_stay_in_their_cells(rows, columns, points):
    ax = plots.values(RNG.integers(-99, 100, (rows, columns)))
    ax.figure.canvas.draw()
    cell = ax.get_window_extent().width / columns
    for text in ax.texts[::7]:
        assert text.get_fontsize() >= points
        assert text.get_window_extent().width < cell


# ---------------------------------------------------------------- curves and counts

HISTORY = {"accuracy": [0.5, 0.7, 0.8], "val_accuracy": [0.6, 0.65, 0.797], "loss": [2, 1, 0.5]}


class OurHistory:
    """What training.History promises: a list for each metric, KeyError for another."""

    def __init__(self, lists):
        self.lists = lists

    def __getitem__(self, key):
        return self.lists[key]


@pytest.mark.parametrize("wrap", [dict, OurHistory, lambda lists: SimpleNamespace(history=lists)])
def test_curves_draw_both_sets_by_epoch(wrap):
    ax = plots.curves(wrap(HISTORY))
    train, validation = ax.lines
    np.testing.assert_array_equal(train.get_xydata(), [[1, 0.5], [2, 0.7], [3, 0.8]])
    np.testing.assert_array_equal(validation.get_xydata(), [[1, 0.6], [2, 0.65], [3, 0.797]])
    for look in ("get_color", "get_marker", "get_linestyle"):
        assert getattr(train, look)() != getattr(validation, look)()
    assert {text.get_text(): text.get_color() for text in ax.texts} == {
        "training": train.get_color(),
        "validation": validation.get_color(),
    }
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "accuracy")


@pytest.mark.parametrize("last", [0.8, 0.797, 0.803, 0.6, 1.0])
def test_labels_of_curves_do_not_touch_and_stand_at_their_ends(last):
    ax = plots.curves(HISTORY | {"val_accuracy": [0.6, 0.65, last]})
    ax.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert not boxes[0].overlaps(boxes[1])
    for text in ax.texts:
        end = ax.transData.transform(text.xy)
        assert abs(text.get_window_extent().y0 - end[1]) < 40
        assert text.get_window_extent().x0 > end[0]
    heights = {text.get_text(): text.get_window_extent().y0 for text in ax.texts}
    assert last == 0.8 or (heights["validation"] > heights["training"]) == (last > 0.8)


def test_curves_without_validation_and_with_a_loss_that_broke():
    assert texts(plots.curves(HISTORY, "loss")) == ["training"]
    assert texts(plots.curves({"loss": [1.0, None], "val_loss": [None, None]} | HISTORY)) != []
    ax = plots.curves({"loss": [1.0, 3.0, np.nan]}, "loss")
    assert ax.texts[0].xy == (2, 3)
    plots.curves({"loss": [np.nan]}, "loss")
    png()


def test_confusion_writes_counts_and_names():
    matrix = np.array([[90, 10, 0], [5, 0, 0], [0, 1, 2]])
    ax = plots.confusion(matrix, ["cat", "dog", "owl"])
    assert texts(ax) == ["90", "10", "0", "5", "0", "0", "0", "1", "2"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["cat", "dog", "owl"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["cat", "dog", "owl"]
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("true class", "predicted class")
    dark = 3 - pixels(ax)[..., :3].sum(axis=-1)
    assert dark[0, 2] == 0
    assert dark[1, 0] > dark[0, 0] > dark[2, 2] > dark[2, 1] > dark[0, 1] > 0
    plots.confusion(np.zeros((3, 3), int), ["cat", "dog", "owl"])  # an empty row divides by none


# ---------------------------------------------------------------- grids


def test_images_fill_a_grid_row_by_row():
    batch = RNG.integers(0, 256, (7, 5, 5, 1), np.uint8)
    axes = plots.images(batch, titles=range(7), columns=3)
    assert axes.shape == (3, 3)
    for ax, img, number in zip(axes.flat, batch, range(7), strict=False):
        np.testing.assert_array_equal(pixels(ax), img[..., 0])
        assert ax.get_title() == str(number)
    assert not axes[2, 1].axison
    assert not axes[2, 2].axison
    assert plots.images(batch).shape == (1, 7)


def test_grey_floats_of_a_batch_share_one_scale():
    axes = plots.images([np.full((4, 4), -2.0), np.full((8, 6), 3.0)])
    assert [ax.images[0].get_clim() for ax in axes.flat] == [(-2, 3), (-2, 3)]
    axes = plots.images(RNG.random((2, 4, 4, 3)))
    assert pixels(axes[0, 1]).shape == (4, 4, 3)


def test_titles_do_not_touch_their_neighbours():
    titles = (data.FASHION_CLASSES * 2)[:16]
    axes = plots.images(np.zeros((16, 28, 28), np.uint8), titles)
    axes[0, 0].figure.canvas.draw()
    boxes = [ax.title.get_window_extent() for ax in axes[0]]
    for left, right in itertools.pairwise(boxes):
        assert left.x1 < right.x0
    assert min(ax.title.get_fontsize() for ax in axes.flat) >= 10


def test_filters_share_a_scale_that_is_symmetric_about_zero():
    kernel = RNG.normal(size=(3, 4, 1, 5))
    axes = plots.filters(kernel, columns=4)
    most = np.abs(kernel).max()
    for number, ax in enumerate(axes.flat[:5]):
        np.testing.assert_array_equal(pixels(ax), kernel[:, :, 0, number])
        assert ax.images[0].get_clim() == (-most, most)
    colours = RNG.normal(size=(3, 3, 3, 2))
    colours[1, 1] = 0
    axes = plots.filters(colours)
    most = np.abs(colours).max()
    np.testing.assert_allclose(pixels(axes[0, 1]), 0.5 + colours[..., 1] / (2 * most))
    np.testing.assert_allclose(pixels(axes[0, 0])[1, 1], 0.5)
    plots.filters(np.zeros((3, 3, 1, 1)))


def test_feature_maps_share_one_scale():
    maps = RNG.normal(size=(6, 5, 3)).astype(np.float32)
    axes = plots.feature_maps(maps)
    for channel, ax in enumerate(axes.flat):
        np.testing.assert_array_equal(pixels(ax), maps[..., channel])
        assert ax.images[0].get_clim() == (maps.min(), maps.max())


# ---------------------------------------------------------------- refusals and the style


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: plots.image(np.zeros((2, 6, 9, 3))), ValueError, r"received \(2, 6, 9, 3\)"),
        (lambda: plots.image(np.zeros((6, 9, 2))), ValueError, r"received \(6, 9, 2\)"),
        (lambda: plots.image(np.zeros((0, 9))), ValueError, r"received \(0, 9, 1\)"),
        (lambda: plots.image(COLOUR.astype(float)), ValueError, "divide by 255"),
        (lambda: plots.image(COLOUR / 255 - 0.5), ValueError, "must lie in 0 to 1, received -0.5"),
        (lambda: plots.images(COLOUR), ValueError, r"img\[np.newaxis\]"),
        (lambda: plots.images(GREY), ValueError, r"received \(6, 9\)"),
        (lambda: plots.images([]), ValueError, "received 0 images"),
        (lambda: plots.images(np.zeros((201, 2, 2))), ValueError, "1 to 200 images"),
        (lambda: plots.images([GREY], columns=0), ValueError, "0 columns"),
        (lambda: plots.images([GREY], titles="ab"), ValueError, "titles must be 1.*received 2"),
        (lambda: plots.values(np.zeros(3)), ValueError, r"received \(3,\)"),
        (lambda: plots.values(np.zeros((2, 0))), ValueError, r"received \(2, 0\)"),
        (lambda: plots.values(np.zeros((33, 2))), ValueError, "plots.image"),
        (lambda: plots.values(np.array([["a"]])), TypeError, "received <U1"),
        (lambda: plots.curves(HISTORY, "recall"), ValueError, "received 'recall'"),
        (lambda: plots.confusion(np.eye(3), "ab"), ValueError, r"\(2, 2\) for 2 class names"),
        (lambda: plots.confusion(np.zeros((0, 0)), ""), ValueError, "at most 32"),
        (lambda: plots.filters(np.zeros((3, 3, 2, 4))), ValueError, r"received \(3, 3, 2, 4\)"),
        (lambda: plots.filters(np.zeros((3, 3, 4))), ValueError, r"received \(3, 3, 4\)"),
        (lambda: plots.feature_maps(np.zeros((1, 6, 6, 3))), ValueError, r"maps\[0\]"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
    assert plt.get_fignums() == [], "a refused call leaves no empty figure"


def test_the_style_is_legible_and_safe_for_colour_blind_readers():
    style = plt.rcParams
    for key in (
        "font.size",
        "axes.titlesize",
        "axes.labelsize",
        "xtick.labelsize",
        "legend.fontsize",
    ):
        assert style[key] >= 10, key
    assert style["figure.facecolor"] == style["savefig.facecolor"] == "white"
    assert style["figure.figsize"][0] <= 7
    cycle = list(style["axes.prop_cycle"])
    assert len({str(entry["linestyle"]) for entry in cycle}) == len(cycle) >= 6
    for entry in cycle:
        assert contrast(entry["color"], "white") >= 3, entry


def test_pictures_do_without_the_style_and_without_warnings(recwarn):
    with mpl.rc_context(mpl.rcParamsDefault | {"backend": "Agg"}):
        for draw in ONE_PICTURE.values():
            draw(None)
            png()
        plots.feature_maps(RNG.random((70, 90, 3)))
        png()
    assert [str(warning.message) for warning in recwarn] == []
