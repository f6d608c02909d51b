"""Images for the chapters: small sets that travel with the package, full sets on request.

Everything comes back as a :class:`Dataset` of NumPy arrays. The embedded sets need no
network. The full sets are looked for on this machine first, and downloaded only then, into
the place where Keras keeps its own copies.
"""

from __future__ import annotations

import io
import operator
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import numpy as np

from resnetlib import _full_sets

FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")

# The embedded files and the SHA-256 of each; resnetlib/_data/README.md tells how they were made.
EMBEDDED = {
    "fashion_mnist_train.png": "ed9e52837fd5dd01420abef9815a6bf9dfff00ee02303b7358002db61378f067",
    "fashion_mnist_test.png": "ecd45254eb8d5c06fd5ac6ad931b8284c2b5faf73a4d6e2ea49f96e11208cc6a",
    "cifar10_test.png": "4d1c203a17abd6fd4a63a80047f63c8a0bd91f5cc391c0a1d8a9ff2182d6341d",
}


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Labelled images of one size, with the names of their classes and where they come from.

    images: (N, H, W, C) uint8, 0 to 255; C is 1 for grey and 3 for red, green, blue.
    labels: (N,) int64, each an index into class_names.
    class_names: one name a class, in the order of the labels.
    source: one line on where the images come from.

    ``len(d)`` is N. ``d[:100]``, or ``d[indices]`` with an array of indices or of booleans, is
    a smaller Dataset; for the pixels of one image take ``d.images[3]``.
    Raises ValueError or TypeError when the arrays do not fit together.
    Taught in chapter 1.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    source: str

    def __post_init__(self) -> None:
        """Refuse arrays that do not fit together."""
        if not isinstance(self.images, np.ndarray) or not isinstance(self.labels, np.ndarray):
            raise TypeError(
                "images and labels must be NumPy arrays, received "
                f"{type(self.images).__name__} and {type(self.labels).__name__}"
            )
        if self.images.ndim != 4 or self.images.shape[3] not in (1, 3):
            raise ValueError(f"images must be (N, H, W, 1 or 3), received {self.images.shape}")
        if self.images.dtype != np.uint8:
            raise TypeError(f"images must be uint8 (0 to 255), received {self.images.dtype}")
        if self.labels.shape != self.images.shape[:1] or self.labels.dtype != np.int64:
            raise ValueError(
                f"labels must be int64 of shape {self.images.shape[:1]}, one for each image; "
                f"received {self.labels.dtype} of shape {self.labels.shape}"
            )
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < self.classes:
            raise ValueError(
                f"labels must be 0 to {self.classes - 1} for {self.classes} class names, "
                f"received {self.labels.min()} to {self.labels.max()}"
            )

    @property
    def classes(self) -> int:
        """The number of classes, also of those without an image here."""
        return len(self.class_names)

    def __len__(self) -> int:
        """Count the images."""
        return len(self.images)

    def __getitem__(self, key: slice | np.ndarray | list) -> Dataset:
        """Select images by a slice, or by an array of indices or of booleans."""
        if not isinstance(key, (slice, np.ndarray, list)):
            raise TypeError(
                f"a Dataset takes a slice or an array of indices, received {key!r}; "
                "for one image take .images[i] and .labels[i]"
            )
        return replace(self, images=self.images[key], labels=self.labels[key])

    def __repr__(self) -> str:
        """Show the count, the size and the source in one line."""
        height, width, channels = self.images.shape[1:]
        return (
            f"Dataset({len(self)} images of {height}×{width}×{channels}, "
            f"{self.classes} classes, {self.source})"
        )


def fashion_mnist(train: int = 12_000, test: int = 2_000) -> tuple[Dataset, Dataset]:
    """Return the first `train` and `test` images of Fashion-MNIST: clothes, 28×28×1, 10 classes.

    train: 0 to 60,000 images. Up to 12,000 come from the subset in the package, in which every
        prefix of 10·n images has n of each class. More come from the full set, in its order.
    test: 0 to 10,000 images; up to 2,000 from the subset, drawn from the original test images.

    Each full set is looked for in the folder that RESNETLIB_DATA names (the original files,
    .gz or unpacked, there or in its fashion-mnist/), in the folder of the Debian package
    dataset-fashion-mnist, and in Keras' cache; else it is downloaded into that cache.
    Raises ValueError for a damaged file, OSError for an unreadable one or a failed download.
    Source: Xiao, Rasul and Vollgraf 2017, "Fashion-MNIST"; MIT licence.
    Taught in chapter 4.
    """
    train, test = _count("train", train, 60_000), _count("test", test, 10_000)
    names = FASHION_CLASSES
    if train <= 12_000:
        trained = _embedded("fashion_mnist_train.png", names, "Fashion-MNIST training subset")
    else:
        trained = Dataset(*_full_sets.read_fashion("train"), names, "Fashion-MNIST training set")
    if test <= 2_000:
        tested = _embedded("fashion_mnist_test.png", names, "Fashion-MNIST test subset")
    else:
        tested = Dataset(*_full_sets.read_fashion("t10k"), names, "Fashion-MNIST test set")
    return trained[:train], tested[:test]


def cifar10(train: int = 0, test: int = 200) -> tuple[Dataset, Dataset]:
    """Return the first `train` and `test` images of CIFAR-10: small photos, 32×32×3, 10 classes.

    train: 0 to 50,000 images; any but 0 need the full set.
    test: 0 to 10,000 images. Up to 200 come from the sample in the package (20 of each class,
        every prefix of 10·n balanced), more from the full set, in its order.

    The full set is looked for in the folder that RESNETLIB_DATA names (a folder
    cifar-10-batches-py, or cifar-10-python.tar.gz) and in Keras' cache; else it is downloaded
    into that cache (170 MB).
    Raises ValueError for a damaged file, OSError for an unreadable one or a failed download.
    Source: Krizhevsky 2009, "Learning multiple layers of features from tiny images".
    """
    train, test = _count("train", train, 50_000), _count("test", test, 10_000)
    batches = [f"data_batch_{i}" for i in range(1, 1 + -(-train // 10_000))]
    names = batches + ["test_batch"] * (test > 200)
    full = _full_sets.read_cifar(names) if names else {}
    empty = np.empty((0, 32, 32, 3), np.uint8), np.empty(0, np.int64)
    images, labels = (
        np.concatenate(parts)
        for parts in zip(empty, *(full[name] for name in batches), strict=True)
    )
    trained = Dataset(images, labels, CIFAR10_CLASSES, "CIFAR-10 training set")
    if test > 200:
        tested = Dataset(*full["test_batch"], CIFAR10_CLASSES, "CIFAR-10 test set")
    else:
        tested = _embedded("cifar10_test.png", CIFAR10_CLASSES, "CIFAR-10 test sample")
    return trained[:train], tested[:test]


def photos() -> Dataset:
    """Return scikit-learn's two photos, a temple ("china") and a dahlia ("flower").

    Result: images (2, 427, 640, 3) uint8, labels 0 and 1.
    Raises ImportError when scikit-learn is missing.
    Source: scikit-learn's `load_sample_image`, both photos under CC BY 2.0.
    Taught in chapter 1.
    """
    try:
        from sklearn.datasets import load_sample_image
    except ImportError as error:
        raise ImportError("photos() needs scikit-learn: pip install scikit-learn") from error
    names = ("china", "flower")
    images = np.stack([load_sample_image(f"{name}.jpg") for name in names])
    return Dataset(images, np.arange(2, dtype=np.int64), names, "scikit-learn's sample photos")


# Faces of matplotlib's own fonts whose capitals read well: sans, mono, serif; regular to bold.
_FONTS = (
    "DejaVuSans.ttf",
    "DejaVuSans-Bold.ttf",
    "DejaVuSans-Oblique.ttf",
    "DejaVuSansMono.ttf",
    "DejaVuSansMono-Bold.ttf",
    "DejaVuSerif.ttf",
    "DejaVuSerif-Bold.ttf",
    "DejaVuSerif-Italic.ttf",
    "STIXGeneral.ttf",
    "STIXGeneralBol.ttf",
    "STIXGeneralItalic.ttf",
    "cmr10.ttf",
    "cmb10.ttf",
    "cmss10.ttf",
    "cmtt10.ttf",
)


def letters(
    train: int = 2_600, test: int = 520, size: int = 128, seed: int = 0
) -> tuple[Dataset, Dataset]:
    """Render capital letters, white on black, each distorted in its own random way.

    train, test: how many images, 0 or more; every prefix of 26·n has n of each letter.
    size: height and width in pixels, 16 to 512.
    seed: 0 or more. The same seed gives the same bytes with the same versions of NumPy,
        Pillow and matplotlib; a smaller count gives a prefix of a larger one.

    Result: images (N, size, size, 1) uint8, labels 0 (A) to 25 (Z).
    Training and test images share the fonts (15 faces that matplotlib ships) but no distortion:
    rotation, shear, scale, shift, brightness and noise come from separate random streams. So the
    test asks for new drawings of known fonts, not for new fonts.
    Raises TypeError or ValueError for a bad count, size or seed.
    Taught in chapter 4.
    """
    size = _count("size", size, 512, least=16)
    seed = _count("seed", seed, 2**32 - 1)
    return tuple(
        _render_letters(_count(name, count, 1_000_000), size, seed, stream)
        for stream, (name, count) in enumerate({"train": train, "test": test}.items())
    )


def _render_letters(count: int, size: int, seed: int, stream: int) -> Dataset:
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont

    fonts = Path(matplotlib.get_data_path(), "fonts", "ttf")
    order = np.random.default_rng([seed, stream, 0])
    blocks = [order.permutation(26) for _ in range(-(-count // 26))]
    labels = np.concatenate([np.empty(0, np.int64), *blocks])[:count]
    images = np.empty((count, size, size, 1), np.uint8)
    glyphs = {}
    for index, label in enumerate(labels):
        rng = np.random.default_rng([seed, stream, index + 1])
        key = _FONTS[rng.integers(len(_FONTS))], LETTERS[label]
        if key not in glyphs:
            # Pillow's own layout: the other engine is not in every build.
            layout = ImageFont.Layout.BASIC
            font = ImageFont.truetype(str(fonts / key[0]), round(0.72 * size), layout_engine=layout)
            left, top, right, bottom = font.getbbox(key[1])
            glyphs[key] = Image.new("L", (size, size))
            corner = (size - left - right) / 2, (size - top - bottom) / 2
            ImageDraw.Draw(glyphs[key]).text(corner, key[1], fill=255, font=font)
        glyph = glyphs[key].transform(
            (size, size),
            Image.Transform.AFFINE,
            _distortion(rng, size),
            Image.Resampling.BILINEAR,
        )
        brightness, noise = rng.uniform(0.6, 1.0), rng.uniform(0, 12)
        pixels = brightness * np.asarray(glyph, np.float32)
        pixels += noise * rng.standard_normal((size, size), np.float32)
        images[index, :, :, 0] = pixels.clip(0, 255).round()
    split = ("training", "test")[stream]
    return Dataset(images, labels, LETTERS, f"letters drawn with seed {seed}, {split} stream")


def _distortion(rng: np.random.Generator, size: int) -> tuple[float, ...]:
    """Draw an affine map; Pillow wants the one from output pixels back to input pixels."""
    angle = np.deg2rad(rng.uniform(-15, 15))
    shear = rng.uniform(-0.2, 0.2)
    scale = np.diag(rng.uniform(0.75, 1.1, 2))
    shift = size * rng.uniform(-0.08, 0.08, 2)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    back = np.linalg.inv(rotation @ np.array([[1, shear], [0, 1]]) @ scale)
    offset = size / 2 - back @ (size / 2 + shift)
    return (*back[0], offset[0], *back[1], offset[1])


def _count(name: str, value: int, most: int, least: int = 0) -> int:
    try:
        value = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, received {value!r}") from None
    if not least <= value <= most:
        raise ValueError(f"{name} must be {least:,} to {most:,}, received {value:,}")
    return value


def _embedded(name: str, class_names: tuple[str, ...], source: str) -> Dataset:
    """Cut an embedded sheet into its images; its labels are in the sheet's own text."""
    from PIL import Image

    with Image.open(io.BytesIO(read_embedded(name))) as sheet:
        labels = np.array(list(sheet.text["Labels"]), np.int64)
        side = int(sheet.text["Side"])
        pixels = np.asarray(sheet)
    rows, columns = pixels.shape[0] // side, pixels.shape[1] // side
    images = pixels.reshape(rows, side, columns, side, -1).swapaxes(1, 2)
    return Dataset(images.reshape(-1, side, side, images.shape[-1]), labels, class_names, source)


def read_embedded(name: str) -> bytes:
    """Return the bytes of an embedded file after checking them.

    name: a key of EMBEDDED.
    Raises ValueError when the file's SHA-256 is not the one in EMBEDDED, OSError when it cannot
    be read.
    """
    if name not in EMBEDDED:
        raise ValueError(f"name must be one of {', '.join(EMBEDDED)}; received {name!r}")
    path = resources.files("resnetlib") / "_data" / name
    remedy = "Install resnetlib again."
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _full_sets.unreadable(path, error, remedy) from error
    _full_sets.check_sha256(path, content, EMBEDDED[name], remedy)
    return content
