"""The data sets: what travels with the package, what is found, what is downloaded, what is refused.

The full sets are replaced by tiny files of the same formats, written here by hand, and the two
servers by one on this machine. Where the originals themselves are installed, they are compared.
"""

import gzip
import hashlib
import importlib.util
import io
import json
import os
import pickle
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from resnetlib import _full_sets, data

PACKAGE = Path(data.__file__).parent
RNG = np.random.default_rng(7)
PIXELS = RNG.integers(0, 256, (5, 28, 28), np.uint8)
LABELS = np.array([9, 0, 0, 3, 7], np.uint8)
PHOTOS = RNG.integers(0, 256, (4, 32, 32, 3), np.uint8)
PHOTO_LABELS = [6, 9, 9, 4]
IMAGES_FILE, LABELS_FILE = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"

needs_debian = pytest.mark.skipif(
    not _full_sets.DEBIAN_FOLDER.is_dir(),
    reason="Debian's package dataset-fashion-mnist is not installed",
)
needs_cifar = pytest.mark.skipif(
    _full_sets._find_cifar() is None, reason="no full CIFAR-10 on this machine"
)


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def idx(array):
    return (
        struct.pack(">HBB", 0, 8, array.ndim)
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.tobytes()
    )


FILES = {IMAGES_FILE: idx(PIXELS), LABELS_FILE: idx(LABELS)}
GZIPPED = {name: gzip.compress(content, mtime=0) for name, content in FILES.items()}


def python2_batch(pixels, labels):
    """A batch as cPickle of Python 2 wrote it, opcode by opcode: the original files' format."""
    rows = pixels.transpose(0, 3, 1, 2).tobytes()
    size = struct.pack("<I", len(rows))
    shape = b"K" + bytes([len(labels)]) + b"M\x00\x0c\x86"
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01" + shape + b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNN"
        b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T" + size + rows + b"tb"
    )
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(U\x04data" + array + b"U\x06labels" + numbers + b"u."


def tar_of(batches):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in batches.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


BATCHES = {
    name: python2_batch(np.roll(PHOTOS, i, axis=0), np.roll(PHOTO_LABELS, i))
    for i, name in enumerate(_full_sets.CIFAR_BATCHES)
}
BATCH_SHA256 = {
    name: sha256(
        np.roll(PHOTOS, i, axis=0).transpose(0, 3, 1, 2).tobytes()
        + bytes(np.roll(PHOTO_LABELS, i).tolist())
    )
    for i, name in enumerate(BATCHES)
}
ARCHIVE = tar_of(BATCHES)

# What the loaders must believe instead of the real sizes, checksums and places.
TINY = {
    "FASHION_FILES": {
        IMAGES_FILE: [[5, 28, 28], sha256(GZIPPED[IMAGES_FILE]), sha256(FILES[IMAGES_FILE])],
        LABELS_FILE: [[5], sha256(GZIPPED[LABELS_FILE]), sha256(FILES[LABELS_FILE])],
    },
    "CIFAR_SHAPE": [4, 3, 32, 32],
    "CIFAR_BATCHES": BATCH_SHA256,
    "CIFAR_ARCHIVE_SHA256": sha256(ARCHIVE),
}


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """An empty machine, on which the full sets are tiny; its folder."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("RESNETLIB_DATA", raising=False)
    monkeypatch.setattr(_full_sets, "DEBIAN_FOLDER", tmp_path / "debian")
    monkeypatch.setattr(_full_sets, "FASHION_URL", "http://127.0.0.1:9/")
    monkeypatch.setattr(_full_sets, "CIFAR_URL", "http://127.0.0.1:9/cifar-10-python.tar.gz")
    for name, value in TINY.items():
        monkeypatch.setattr(_full_sets, name, tuple(value) if isinstance(value, list) else value)
    monkeypatch.setitem(_full_sets.FASHION_FILES, IMAGES_FILE, tiny_entry(IMAGES_FILE))
    monkeypatch.setitem(_full_sets.FASHION_FILES, LABELS_FILE, tiny_entry(LABELS_FILE))
    return tmp_path


def tiny_entry(name):
    shape, published, unpacked = TINY["FASHION_FILES"][name]
    return tuple(shape), published, unpacked


def put(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def zipped(files=GZIPPED):
    return {f"{name}.gz": content for name, content in files.items()}


def check_fashion():
    train, test = data.fashion_mnist(60_000, 0)
    np.testing.assert_array_equal(train.images[..., 0], PIXELS)
    np.testing.assert_array_equal(train.labels, LABELS)
    assert train.images.shape == (5, 28, 28, 1)
    assert train.labels.dtype == np.int64
    assert train.source == "Fashion-MNIST training set"
    assert len(test) == 0


def check_cifar():
    train, test = data.cifar10(50_000, 10_000)
    assert train.images.shape == (20, 32, 32, 3)
    np.testing.assert_array_equal(train.images[:4], PHOTOS)
    np.testing.assert_array_equal(train.images[4:8], np.roll(PHOTOS, 1, axis=0))
    np.testing.assert_array_equal(train.labels[:4], PHOTO_LABELS)
    np.testing.assert_array_equal(test.images, np.roll(PHOTOS, 5, axis=0))
    np.testing.assert_array_equal(test.labels, np.roll(PHOTO_LABELS, 5))


# ---------------------------------------------------------------- what travels with the package


@pytest.mark.parametrize(
    ("load", "train", "test", "shape"),
    [(data.fashion_mnist, 12_000, 2_000, (28, 28, 1)), (data.cifar10, 0, 200, (32, 32, 3))],
)
def test_embedded_sets_are_balanced_at_every_multiple_of_ten(load, train, test, shape):
    for dataset, count in zip(load(), (train, test), strict=True):
        assert dataset.images.shape == (count, *shape)
        assert (dataset.images.dtype, dataset.labels.dtype) == (np.uint8, np.int64)
        assert dataset.images.flags.writeable
        blocks = dataset.labels.reshape(-1, 10)
        np.testing.assert_array_equal(
            np.sort(blocks, axis=1), np.tile(np.arange(10), (len(blocks), 1))
        )
        assert len({image.tobytes() for image in dataset.images}) >= 0.99 * count


def test_embedded_labels_are_no_fixed_sequence():
    assert len({tuple(block) for block in data.fashion_mnist()[0].labels.reshape(-1, 10)}) > 1_000


def test_a_smaller_count_is_a_prefix():
    train, test = data.fashion_mnist(40, 30)
    every = data.fashion_mnist()
    np.testing.assert_array_equal(train.images, every[0].images[:40])
    np.testing.assert_array_equal(test.labels, every[1].labels[:30])


def test_embedded_sizes():
    sizes = {name: (PACKAGE / "_data" / name).stat().st_size for name in data.EMBEDDED}
    assert sum(size for name, size in sizes.items() if "fashion" in name) < 7_000_000
    assert sum(sizes.values()) < 7_000_000


def test_class_names_are_those_that_keras_documents():
    for names, module in (
        (data.FASHION_CLASSES, "fashion_mnist"),
        (data.CIFAR10_CLASSES, "cifar10"),
    ):
        text = keras_source(f"datasets/{module}.py")
        rows = [line.split("|") for line in text.splitlines() if line.strip().startswith("|")]
        documented = [row[2].strip() for row in rows if row[1].strip().isdigit()]
        assert list(names) == documented


def keras_source(path):
    """The text of a file of the installed Keras, without importing Keras."""
    return (Path(importlib.util.find_spec("keras").origin).parent / "src" / path).read_text("utf-8")


def make_embedded():
    spec = importlib.util.spec_from_file_location("make", PACKAGE / "_data" / "make_embedded.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@needs_debian
def test_fashion_mnist_subset_has_the_original_pixels_and_is_drawn_again_alike():
    balanced = make_embedded().balanced
    embedded = data.fashion_mnist()
    for subset, full, each in zip(
        embedded, data.fashion_mnist(60_000, 10_000), (1_200, 200), strict=True
    ):
        drawn = full[balanced(full.labels, each)]
        np.testing.assert_array_equal(subset.images, drawn.images)
        np.testing.assert_array_equal(subset.labels, drawn.labels)


@needs_debian
def test_the_full_fashion_mnist_is_the_published_one():
    train, test = data.fashion_mnist(60_000, 10_000)
    assert train.labels[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]
    assert np.bincount(train.labels).tolist() == [6_000] * 10
    assert np.bincount(test.labels).tolist() == [1_000] * 10
    assert round(train.images.mean() / 255, 4) == 0.2860  # published beside many a normalisation


@needs_cifar
def test_the_full_cifar10_is_the_published_one():
    train, test = data.cifar10(50_000, 10_000)
    assert train.labels[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
    mean = train.images.mean(axis=(0, 1, 2), dtype=float)
    np.testing.assert_allclose(
        mean, [125.306918046875, 122.950394140625, 113.86538318359375], 1e-12
    )
    sample = data.cifar10()[1]
    drawn = test[make_embedded().balanced(test.labels, 20)]
    np.testing.assert_array_equal(sample.images, drawn.images)


def test_a_damaged_installation_is_named(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "resnetlib")
    folder = tmp_path / "resnetlib" / "_data"
    content = bytearray((folder / "fashion_mnist_train.png").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "fashion_mnist_train.png").write_bytes(content)
    (folder / "fashion_mnist_test.png").write_bytes(content[:1000])
    (folder / "cifar10_test.png").unlink()
    code = """
from resnetlib import data
for name in data.EMBEDDED:
    try:
        data.read_embedded(name)
    except (ValueError, OSError) as error:
        print(type(error).__name__, error)
data.fashion_mnist()
"""
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.stderr.splitlines()[-1].startswith("ValueError: ")  # the loaders check as well
    flipped, cut, missing = run.stdout.splitlines()
    for line, name in ((flipped, "fashion_mnist_train.png"), (cut, "fashion_mnist_test.png")):
        assert line.startswith(f"ValueError {folder / name} has a wrong checksum")
        assert data.EMBEDDED[name] in line
    assert missing.startswith(f"FileNotFoundError {folder / 'cifar10_test.png'} cannot be read")
    assert run.stdout.count("Install resnetlib again.") == 3


# ---------------------------------------------------------------- the structure


def dataset(**changes):
    parts = {
        "images": np.zeros((6, 8, 9, 3), np.uint8),
        "labels": np.array([0, 1, 0, 1, 0, 1], np.int64),
        "class_names": ("a", "b"),
        "source": "a test",
    }
    return data.Dataset(**(parts | changes))


def test_dataset_selects_and_shows_itself():
    d = dataset()
    assert len(d) == 6
    assert repr(d) == "Dataset(6 images of 8×9×3, 2 classes, a test)"
    assert d[1:4].labels.tolist() == [1, 0, 1]
    assert d[np.array([5, 0])].labels.tolist() == [1, 0]
    assert len(d[d.labels == 1]) == 3
    assert d[:0].images.shape == (0, 8, 9, 3)
    with pytest.raises(TypeError, match=r"received 3; for one image take \.images\[i\]"):
        d[3]
    with pytest.raises(AttributeError):
        d.images = None


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"images": np.zeros((6, 8, 9), np.uint8)}, ValueError, r"received \(6, 8, 9\)"),
        ({"images": np.zeros((6, 8, 9, 2), np.uint8)}, ValueError, "1 or 3"),
        ({"images": np.zeros((6, 8, 9, 3))}, TypeError, "received float64"),
        ({"images": [[1]]}, TypeError, "received list"),
        ({"labels": np.zeros(5, np.int64)}, ValueError, r"shape \(6,\)"),
        ({"labels": np.zeros(6, np.uint8)}, ValueError, "received uint8"),
        (
            {"labels": np.full(6, 2, np.int64)},
            ValueError,
            "0 to 1 for 2 class names, received 2 to 2",
        ),
        ({"labels": np.full(6, -1, np.int64)}, ValueError, "received -1"),
    ],
)
def test_dataset_refuses_what_does_not_fit(changes, error, message):
    with pytest.raises(error, match=message):
        dataset(**changes)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: data.fashion_mnist(60_001),
            ValueError,
            "train must be 0 to 60,000, received 60,001",
        ),
        (lambda: data.fashion_mnist(test=10_001), ValueError, "test must be 0 to 10,000"),
        (lambda: data.fashion_mnist(-1), ValueError, "received -1"),
        (
            lambda: data.fashion_mnist(10.5),
            TypeError,
            "train must be a whole number, received 10.5",
        ),
        (lambda: data.cifar10(50_001), ValueError, "train must be 0 to 50,000"),
        (
            lambda: data.cifar10(test="all"),
            TypeError,
            "test must be a whole number, received 'all'",
        ),
        (lambda: data.letters(-26), ValueError, "train must be"),
        (lambda: data.letters(26, 0, size=8), ValueError, "size must be 16 to 512, received 8"),
        (lambda: data.letters(26, 0, size=64.0), TypeError, "size must be a whole number"),
        (lambda: data.letters(26, 0, seed=-1), ValueError, "seed must be 0 to"),
        (lambda: data.letters(26, 0, seed=None), TypeError, "seed must be a whole number"),
        (lambda: data.read_embedded("mnist.png"), ValueError, "fashion_mnist_train.png"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


# ---------------------------------------------------------------- letters and photos


def test_letters_are_balanced_reproducible_and_separate():
    train, test = data.letters(60, 52, size=32, seed=3)
    assert train.images.shape == (60, 32, 32, 1)
    assert train.class_names == tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    for labels in (train.labels[:26], train.labels[26:52], test.labels[26:]):
        assert sorted(labels) == list(range(26))
    again, fewer = data.letters(60, 0, size=32, seed=3)[0], data.letters(30, 0, size=32, seed=3)[0]
    np.testing.assert_array_equal(again.images, train.images)
    np.testing.assert_array_equal(fewer.images, train.images[:30])
    other = data.letters(60, 0, size=32, seed=4)[0]
    assert (other.labels != train.labels).any()
    pictures = {image.tobytes() for d in (train, test, other) for image in d.images}
    assert len(pictures) == 60 + 52 + 60


def test_letters_are_white_on_black():
    images = data.letters(52, 0, size=64)[0].images
    assert (images.max(axis=(1, 2, 3)) > 120).all()
    assert np.median(images) < 10
    border = np.concatenate([images[:, 0].ravel(), images[:, -1].ravel()])
    assert border.mean() < 15


def cropped(image):
    """The letter alone, scaled to one size, as a vector."""
    from PIL import Image

    rows, columns = np.where(image > 70)
    letter = image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    return np.asarray(Image.fromarray(letter).resize((16, 16)), float).ravel()


def test_letters_look_like_their_names():
    """Matplotlib's own rendering of each capital must be the nearest for most of the letters."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    templates = []
    for letter in data.LETTERS:
        figure = Figure(figsize=(1, 1), dpi=64, facecolor="black")
        canvas = FigureCanvasAgg(figure)
        figure.text(0.5, 0.5, letter, size=44, color="white", ha="center", va="center")
        canvas.draw()
        templates.append(cropped(np.asarray(canvas.buffer_rgba())[..., 0]))
    dataset = data.letters(0, 520, size=64)[1]
    images = [cropped(image) for image in dataset.images[..., 0]]
    likeness = np.corrcoef(images, templates)[: len(images), len(images) :]
    share = (likeness.argmax(axis=1) == dataset.labels).mean()
    assert share > 0.35, f"chance is 0.04, found {share:.2f}"


def test_photos_are_those_of_scikit_learn():
    from sklearn.datasets import load_sample_images

    photos = data.photos()
    np.testing.assert_array_equal(photos.images, np.stack(load_sample_images().images))
    assert photos.images.shape == (2, 427, 640, 3)
    assert photos.class_names == ("china", "flower")


def test_a_missing_library_is_named(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match="pip install scikit-learn"):
        data.photos()
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError, match="pip install pooch"):
        data.fashion_mnist(60_000, 0)


# ---------------------------------------------------------------- full sets found on the machine


@pytest.mark.parametrize("files", [zipped(), FILES], ids=["gzip", "unpacked"])
@pytest.mark.parametrize(
    "place", ["own", "own/fashion-mnist", "debian", "keras/datasets/fashion-mnist"]
)
def test_fashion_mnist_is_found(tiny, monkeypatch, place, files):
    if place.startswith("own"):
        monkeypatch.setenv("RESNETLIB_DATA", str(tiny / "own"))
    put(tiny / place, files)
    check_fashion()


def test_places_are_searched_in_order(tiny, monkeypatch):
    monkeypatch.setenv("RESNETLIB_DATA", str(tiny / "own"))
    places = ["keras/datasets/fashion-mnist", "debian", "own/fashion-mnist", "own"]
    for place in places:  # the file put last stands first in the search
        put(tiny / place, zipped(dict.fromkeys(FILES, b"damaged")))
        (tiny / "own").mkdir(exist_ok=True)
        with pytest.raises(ValueError, match="cut short or damaged") as error:
            data.fashion_mnist(60_000, 0)
        assert str(tiny / place / IMAGES_FILE) in str(error.value)


@pytest.mark.parametrize(
    ("own", "place", "files"),
    [
        (True, "own/cifar-10-batches-py", BATCHES),
        (True, "own", BATCHES),
        (True, "own", {"cifar-10-python.tar.gz": ARCHIVE}),
        (True, "own", {"cifar-10-batches-py.tar.gz": ARCHIVE}),
        (False, "keras/datasets/cifar-10-batches-py-target/cifar-10-batches-py", BATCHES),
        (False, "keras/datasets/cifar-10-batches-py", BATCHES),
        (False, "keras/datasets", {"cifar-10-batches-py-target_archive": ARCHIVE}),
        (False, "keras/datasets", {"cifar-10-batches-py.tar.gz": ARCHIVE}),
    ],
)
def test_cifar10_is_found(tiny, monkeypatch, own, place, files):
    if own:
        monkeypatch.setenv("RESNETLIB_DATA", str(tiny / "own"))
    put(tiny / place, files)
    check_cifar()


def test_a_modern_pickle_of_a_batch_is_read(tiny):
    batches = {
        name: pickle.dumps(
            {
                b"data": np.roll(PHOTOS, i, axis=0).transpose(0, 3, 1, 2).reshape(4, -1).copy(),
                b"labels": np.roll(PHOTO_LABELS, i).tolist(),
            },
            protocol=4,
        )
        for i, name in enumerate(BATCHES)
    }
    put(tiny / "keras/datasets/cifar-10-batches-py", batches)
    check_cifar()


def test_only_what_is_needed_is_read(tiny):
    folder = tiny / "keras/datasets/cifar-10-batches-py"
    put(folder, {"data_batch_1": BATCHES["data_batch_1"]})
    train, test = data.cifar10(3, 10)
    np.testing.assert_array_equal(train.images, PHOTOS[:3])
    assert test.source == "CIFAR-10 test sample"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GZIPPED[IMAGES_FILE][:900], "is cut short or damaged"),
        (GZIPPED[IMAGES_FILE][:-1], "is cut short or damaged"),
        (FILES[IMAGES_FILE], "is cut short or damaged: Not a gzipped file"),
        (b"", "not an idx file"),
        (gzip.compress(FILES[IMAGES_FILE][:-1]), r"3,935 bytes unpacked, expected 3,936"),
        (gzip.compress(FILES[IMAGES_FILE] + b"x"), r"3,937 bytes unpacked"),
        (
            gzip.compress(FILES[LABELS_FILE]),
            r"shape \(5, 28, 28\): it begins with 0000080100000005",
        ),
        (gzip.compress(idx(PIXELS[:4])), r"not an idx file of shape \(5, 28, 28\)"),
        (gzip.compress(FILES[IMAGES_FILE][:-1] + b"x"), "has a wrong checksum"),
    ],
    ids=[
        "cut",
        "last byte",
        "not packed",
        "empty",
        "short",
        "long",
        "labels",
        "shape",
        "one pixel",
    ],
)
def test_a_damaged_fashion_mnist_is_named(tiny, monkeypatch, content, message):
    monkeypatch.setenv("RESNETLIB_DATA", str(tiny / "own"))
    put(tiny / "own", zipped(GZIPPED | {IMAGES_FILE: content}))
    with pytest.raises(ValueError, match=message) as error:
        data.fashion_mnist(60_000, 0)
    path = tiny / "own" / f"{IMAGES_FILE}.gz"
    assert str(path) in str(error.value)
    assert str(error.value).endswith(f"Replace {path} by the original.")


class Command:
    """What an attacker would pickle."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (self.marker,)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (BATCHES["test_batch"][:500], "is no batch of CIFAR-10"),
        (b"", "is no batch of CIFAR-10"),
        (pickle.dumps([1, 2]), "is no batch of CIFAR-10"),
        (pickle.dumps({b"labels": [1]}), "is no batch of CIFAR-10"),
        (pickle.dumps({b"data": [[1]], b"labels": [1]}), "expected .* uint8"),
        (pickle.dumps({b"data": b"x", b"labels": ["a"]}), "expected .* uint8"),
        (python2_batch(PHOTOS[:3], [1, 2, 3]), r"shape \(3, 3072\) and uint8"),
        (python2_batch(PHOTOS, [1, 2, 3, 4]), "has a wrong checksum"),
    ],
    ids=[
        "cut",
        "empty",
        "a list",
        "no data",
        "data a list",
        "labels words",
        "three images",
        "other labels",
    ],
)
def test_a_damaged_cifar10_is_named(tiny, content, message):
    folder = tiny / "keras/datasets/cifar-10-batches-py"
    put(folder, BATCHES | {"test_batch": content})
    with pytest.raises(ValueError, match=message) as error:
        data.cifar10(0, 10_000)
    assert f"test_batch in {folder}" in str(error.value)
    assert str(error.value).endswith(f"Delete {folder}; the next call downloads it again.")


def test_a_batch_that_runs_code_is_refused(tiny):
    folder = tiny / "keras/datasets/cifar-10-batches-py"
    marker = tiny / "attacked"
    put(folder, BATCHES | {"test_batch": pickle.dumps({b"data": Command(str(marker))})})
    with pytest.raises(ValueError, match=r"it asks for (posix|nt)\.mkdir"):
        data.cifar10(0, 10_000)
    assert not marker.exists()


# ARCHIVE holds the time at which it was packed, so it must not name a test: the workers of xdist
# have to agree on the names.
@pytest.mark.parametrize(
    "content", [ARCHIVE[:3000], b"no archive", b""], ids=["cut", "not packed", "empty"]
)
def test_a_damaged_archive_is_named(tiny, content):
    path = tiny / "keras/datasets/cifar-10-batches-py.tar.gz"
    put(path.parent, {path.name: content})
    with pytest.raises(ValueError, match="cut short or damaged") as error:
        data.cifar10(0, 10_000)
    assert str(path) in str(error.value)
    assert "Delete" in str(error.value)


def test_an_incomplete_archive_or_folder_is_named(tiny):
    rest = {name: content for name, content in BATCHES.items() if name != "data_batch_3"}
    put(tiny / "keras/datasets", {"cifar-10-batches-py.tar.gz": tar_of(rest)})
    with pytest.raises(ValueError, match="has no data_batch_3; expected the CIFAR-10 archive"):
        data.cifar10(50_000)
    put(tiny / "keras/datasets/cifar-10-batches-py", rest)
    with pytest.raises(FileNotFoundError, match=r"data_batch_3 cannot be read.*Delete"):
        data.cifar10(50_000)


def test_an_unreadable_file_is_named(tiny, monkeypatch):
    path = tiny / "debian" / f"{IMAGES_FILE}.gz"
    path.mkdir(parents=True)  # a folder in its place cannot be read by root either
    with pytest.raises(OSError, match=r"cannot be read .*Replace .* by the original") as error:
        data.fashion_mnist(60_000, 0)
    assert str(path) in str(error.value)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_forbidden_files_and_folders_are_named(tiny):
    put(tiny / "debian", zipped())
    (tiny / "debian" / f"{IMAGES_FILE}.gz").chmod(0)
    with pytest.raises(PermissionError, match=f"{IMAGES_FILE}.gz cannot be read"):
        data.fashion_mnist(60_000, 0)
    (tiny / "debian").chmod(0)
    try:
        with pytest.raises(PermissionError, match="Allow this user to read the folder"):
            data.fashion_mnist(60_000, 0)
    finally:
        (tiny / "debian").chmod(0o755)


def test_a_folder_that_is_none_is_named(tiny, monkeypatch):
    monkeypatch.setenv("RESNETLIB_DATA", str(tiny / "nowhere"))
    with pytest.raises(
        FileNotFoundError, match=r"RESNETLIB_DATA names .*nowhere, which is no folder"
    ):
        data.fashion_mnist(60_000, 0)
    assert len(data.fashion_mnist(10, 0)[0]) == 10  # the embedded set does not need it


# ---------------------------------------------------------------- downloads, from a server here


class Server(ThreadingHTTPServer):
    """Serves the tiny files in the way that `behaviour` says, and counts the requests."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.behaviour, self.requests = "good", 0
        self.files = {f"/{name}": content for name, content in zipped().items()}
        self.files["/cifar-10-python.tar.gz"] = ARCHIVE
        self.stop = threading.Event()

    def handle_error(self, request, client_address):
        """Stay quiet about clients that were killed."""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.requests += 1
        content = server.files[self.path]
        if server.behaviour == "wrong":
            content = bytes(len(content))
        self.send_response(404 if server.behaviour == "absent" else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        half = len(content) // 2
        self.wfile.write(content[:half])
        self.wfile.flush()
        if server.behaviour == "cut":
            return
        if server.behaviour == "stall":
            server.stop.wait(60)
        if server.behaviour == "until another asks":
            deadline = time.monotonic() + 25  # the client gives up after 30 seconds of silence
            while server.requests < 2 and time.monotonic() < deadline:
                time.sleep(0.02)
        self.wfile.write(content[half:])

    def log_message(self, *arguments):
        """Print nothing."""


@pytest.fixture
def server(tiny, monkeypatch):
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}/"
    monkeypatch.setattr(_full_sets, "FASHION_URL", address)
    monkeypatch.setattr(_full_sets, "CIFAR_URL", f"{address}cifar-10-python.tar.gz")
    yield server
    server.stop.set()
    server.shutdown()
    server.server_close()
    thread.join()


def cached(tiny):
    """Every file in the cache, as a path from its root."""
    root = tiny / "keras" / "datasets"
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def child(tiny, server):
    """Start another process that loads the tiny training set."""
    settings = TINY | {"FASHION_URL": f"http://127.0.0.1:{server.server_port}/"}
    code = f"""
import hashlib, json, pathlib
from resnetlib import _full_sets, data
for name, value in json.loads({json.dumps(json.dumps(settings))}).items():
    setattr(_full_sets, name, value)
_full_sets.FASHION_FILES = {{
    name: (tuple(entry[0]), *entry[1:]) for name, entry in _full_sets.FASHION_FILES.items()
}}
_full_sets.DEBIAN_FOLDER = pathlib.Path("nowhere")
train, _ = data.fashion_mnist(60_000, 0)
print(hashlib.sha256(train.images.tobytes() + train.labels.tobytes()).hexdigest())
"""
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


FASHION_CACHE = [f"fashion-mnist/{IMAGES_FILE}.gz", f"fashion-mnist/{LABELS_FILE}.gz"]


def test_downloads_fill_the_cache_once(tiny, server):
    check_fashion()
    check_fashion()
    check_cifar()
    check_cifar()
    assert server.requests == 3
    assert cached(tiny) == ["cifar-10-batches-py-target_archive", *FASHION_CACHE]
    assert (tiny / "keras/datasets" / FASHION_CACHE[0]).read_bytes() == GZIPPED[IMAGES_FILE]


def test_the_urls_names_and_checksum_are_those_of_keras(monkeypatch):
    fashion, cifar = keras_source("datasets/fashion_mnist.py"), keras_source("datasets/cifar10.py")
    assert f'"{_full_sets.FASHION_URL}"' in fashion
    assert 'os.path.join("datasets", "fashion-mnist")' in fashion
    assert all(f'"{name}.gz"' in fashion for name in _full_sets.FASHION_FILES)
    assert f'"{_full_sets.CIFAR_URL}"' in cifar
    assert _full_sets.CIFAR_ARCHIVE_SHA256 in cifar
    assert 'dirname = "cifar-10-batches-py' in cifar  # "-target" came with later versions
    assert "_archive" in keras_source("utils/file_utils.py")
    monkeypatch.delenv("KERAS_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/reader")
    monkeypatch.setenv("USERPROFILE", "/home/reader")
    assert _full_sets.keras_cache() == Path("/home/reader/.keras/datasets")


def test_keras_reads_the_cache_that_was_filled_here(tiny, server, monkeypatch):
    names = {IMAGES_FILE: "t10k-images-idx3-ubyte", LABELS_FILE: "t10k-labels-idx1-ubyte"}
    check_fashion()
    folder = tiny / "keras/datasets/fashion-mnist"
    for ours, other in names.items():  # Keras wants all four files
        shutil.copy(folder / f"{ours}.gz", folder / f"{other}.gz")
    code = """
import keras, numpy, sys
(images, labels), _ = keras.datasets.fashion_mnist.load_data()
numpy.savez(sys.argv[1], images=images, labels=labels)
"""
    subprocess.run(
        [sys.executable, "-c", code, str(tiny / "keras.npz")],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        check=True,
        capture_output=True,
    )
    found = np.load(tiny / "keras.npz")
    train, _ = data.fashion_mnist(60_000, 0)
    np.testing.assert_array_equal(train.images[..., 0], found["images"])
    np.testing.assert_array_equal(train.labels, found["labels"])


@pytest.mark.parametrize("behaviour", ["cut", "wrong", "absent"])
def test_a_failed_download_leaves_nothing(tiny, server, behaviour):
    server.behaviour = behaviour
    with pytest.raises(ConnectionError, match="found nowhere on this machine") as error:
        data.fashion_mnist(60_000, 0)
    assert f"{server.server_port}/{IMAGES_FILE}.gz" in str(error.value)
    assert cached(tiny) == []
    assert list((tiny / "keras/datasets/fashion-mnist").iterdir()) == []
    server.behaviour = "good"
    check_fashion()


@pytest.mark.parametrize(
    ("load", "remedies"),
    [
        (
            lambda: data.fashion_mnist(60_000, 0),
            ("at most 12,000 training and 2,000 test", "name it in RESNETLIB_DATA", "try again"),
        ),
        (
            lambda: data.cifar10(1, 0),
            ("at most 200 test images", "name it in RESNETLIB_DATA", "try again"),
        ),
    ],
)
def test_offline_the_error_has_three_remedies(tiny, load, remedies):
    with pytest.raises(ConnectionError) as error:
        load()
    for remedy in remedies:
        assert remedy in str(error.value)
    assert cached(tiny) == []


def test_a_cache_that_cannot_be_written_is_named(tiny):
    (tiny / "keras").write_text("a file where the folder should be")
    with pytest.raises(OSError, match=r"cannot be written .* Set KERAS_HOME") as error:
        data.fashion_mnist(60_000, 0)
    assert not isinstance(error.value, ConnectionError)


def test_two_processes_filling_the_cache_both_end_with_good_files(tiny, server):
    server.behaviour = "until another asks"
    children = [child(tiny, server) for _ in range(2)]
    outputs = [process.communicate(timeout=180) for process in children]
    expected = sha256(PIXELS.tobytes() + LABELS.astype(np.int64).tobytes())
    for process, (out, err) in zip(children, outputs, strict=True):
        assert process.returncode == 0, err
        assert out.strip() == expected
    assert server.requests > 2, "the processes did not meet"
    assert cached(tiny) == FASHION_CACHE
    check_fashion()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_a_killed_download_leaves_no_file_that_looks_whole(tiny, server):
    server.behaviour = "stall"
    process = child(tiny, server)
    folder = tiny / "keras/datasets/fashion-mnist"
    deadline = time.monotonic() + 60
    try:  # half of the first file has been sent, and something of it is on the disk
        while not server.requests or not any(path.is_file() for path in folder.rglob("*")):
            assert time.monotonic() < deadline, "the child has begun no download"
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
    finally:
        process.kill()
        process.communicate(timeout=60)
    assert not list(folder.glob("*.gz"))
    server.behaviour = "good"
    server.stop.set()
    check_fashion()
