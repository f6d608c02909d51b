"""Find, check and read the full Fashion-MNIST and CIFAR-10; download what is nowhere.

Plumbing for :mod:`resnetlib.data`. What is read is judged by the SHA-256 of the images and
labels themselves, wherever it was found and however it was packed.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import tarfile
import tempfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

FOLDER_VARIABLE = "RESNETLIB_DATA"
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")

# Where Keras' own loaders download from.
FASHION_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
CIFAR_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"

# For each original file: its shape, SHA-256 as published (.gz), SHA-256 unpacked.
FASHION_FILES = {
    "train-images-idx3-ubyte": (
        (60_000, 28, 28),
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    ),
    "train-labels-idx1-ubyte": (
        (60_000,),
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    ),
    "t10k-images-idx3-ubyte": (
        (10_000, 28, 28),
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    ),
    "t10k-labels-idx1-ubyte": (
        (10_000,),
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
}
CIFAR_ARCHIVE_SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
# SHA-256 of a batch's pixels as they are stored, then its labels, one byte each. The pickle
# around them differs with the tool that wrote it.
CIFAR_BATCHES = {
    "data_batch_1": "ba52cb2d72c412975d7556bb26bd094956f1c002d1937053f6f1252f2ac17114",
    "data_batch_2": "350ff9000489d02f2568c0dcf4912ffdbae9e50932147905fb1b8159ad54f0ac",
    "data_batch_3": "a2b8653fc457df407af6c38b7e0d1a12530f3b5f81fce9f81516efd065daf722",
    "data_batch_4": "133e6292c377755074c305db8a684d48d5397372cb0aba34f52b4335eab35d97",
    "data_batch_5": "eb08cdc11fd1267ef871cf4790f193684b3f556d13317be68f4eb374a078ea87",
    "test_batch": "9a4c74f5c8b6f2c4e13d3a1dfb43a5a8cda8a9da515e99fd620d2013a1a6287a",
}
CIFAR_SHAPE = (10_000, 3, 32, 32)


def read_fashion(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images (N, 28, 28, 1) uint8 and labels (N,) int64; split is "train" or "t10k"."""
    images = _fashion_array(f"{split}-images-idx3-ubyte")
    labels = _fashion_array(f"{split}-labels-idx1-ubyte")
    return images[..., np.newaxis], labels.astype(np.int64)


def _fashion_array(name: str) -> np.ndarray:
    shape, published, unpacked = FASHION_FILES[name]
    folders = [DEBIAN_FOLDER, keras_cache() / "fashion-mnist"]
    if own := own_folder():
        folders = [own, own / "fashion-mnist", *folders]
    paths = (folder / (name + suffix) for folder in folders for suffix in (".gz", ""))
    path = _first(paths)
    if path is None:
        path = keras_cache() / "fashion-mnist" / f"{name}.gz"
        download(
            f"{FASHION_URL}{name}.gz",
            published,
            path,
            "ask for at most 12,000 training and 2,000 test images, which travel with resnetlib",
            f"put the four original files in a folder and name it in {FOLDER_VARIABLE}",
        )
    content = _unpack(path)
    # An idx file: two zeros, 8 for bytes, the number of axes, the length of each axis, pixels.
    header = bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
    size = len(header) + int(np.prod(shape))
    if content[: len(header)] != header:
        raise ValueError(
            f"{path} is not an idx file of shape {shape}: it begins with "
            f"{content[: len(header)].hex()}, expected {header.hex()}. {_remedy(path)}"
        )
    if len(content) != size:
        raise ValueError(
            f"{path} is cut short or too long: {len(content):,} bytes unpacked, "
            f"expected {size:,}. {_remedy(path)}"
        )
    check_sha256(path, content, unpacked, _remedy(path))
    return np.frombuffer(content, np.uint8, offset=len(header)).reshape(shape).copy()


def read_cifar(names: list[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return images (10000, 32, 32, 3) uint8 and labels int64 of each batch in `names`."""
    place = _find_cifar()
    if place is None:
        place = keras_cache() / "cifar-10-batches-py-target_archive"
        download(
            CIFAR_URL,
            CIFAR_ARCHIVE_SHA256,
            place,
            "ask for no training and at most 200 test images, which travel with resnetlib",
            f"put cifar-10-python.tar.gz in a folder and name it in {FOLDER_VARIABLE}",
        )
    if place.is_dir():
        contents = {name: _read(place / name, place) for name in names}
    else:
        contents = _untar(place, names)
    return {name: _cifar_batch(name, place, content) for name, content in contents.items()}


def _find_cifar() -> Path | None:
    folders = [keras_cache() / "cifar-10-batches-py-target", keras_cache()]
    if own := own_folder():
        folders = [own, *folders]
        if _first([own / "data_batch_1", own / "test_batch"]):
            return own
    names = (
        "cifar-10-batches-py",
        "cifar-10-python.tar.gz",
        "cifar-10-batches-py.tar.gz",
        "cifar-10-batches-py-target_archive",
    )
    return _first(folder / name for folder in folders for name in names)


def _untar(path: Path, names: list[str]) -> dict[str, bytes]:
    found = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = Path(member.name).name
                if name in names and member.isfile():
                    found[name] = archive.extractfile(member).read()
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is cut short or damaged: {error}. {_remedy(path)}") from error
    except OSError as error:
        raise unreadable(path, error, _remedy(path)) from error
    if missing := [name for name in names if name not in found]:
        raise ValueError(
            f"{path} has no {', '.join(missing)}; expected the CIFAR-10 archive. {_remedy(path)}"
        )
    return found


class _Unpickler(pickle.Unpickler):
    """Rebuild arrays, and nothing else: unpickling can otherwise run any code."""

    def find_class(self, module: str, name: str) -> object:
        if (module, name) == ("numpy", "ndarray"):
            return np.ndarray
        if (module, name) == ("numpy", "dtype"):
            return np.dtype
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return np.empty(0).__reduce__()[0]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not an array")


def _cifar_batch(name: str, place: Path, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    where = f"{name} in {place}"
    try:
        batch = _Unpickler(io.BytesIO(content), encoding="bytes").load()
        pixels, labels = np.asarray(batch[b"data"]), np.asarray(batch[b"labels"])
    except Exception as error:  # a damaged pickle can raise anything
        raise ValueError(
            f"{where} is no batch of CIFAR-10 ({error!r}); expected a pickled dictionary "
            f"with the keys data and labels. {_remedy(place)}"
        ) from error
    found = [(array.shape, array.dtype.kind) for array in (pixels, labels)]
    count, values = CIFAR_SHAPE[0], int(np.prod(CIFAR_SHAPE[1:]))
    if found != [((count, values), "u"), ((count,), "i")]:
        raise ValueError(
            f"{where} has data of shape {pixels.shape} and {pixels.dtype}, labels of shape "
            f"{labels.shape} and {labels.dtype}; expected {(count, values)} uint8 and {(count,)} "
            f"integers. {_remedy(place)}"
        )
    contents = pixels.tobytes() + labels.astype(np.uint8).tobytes()
    check_sha256(where, contents, CIFAR_BATCHES[name], _remedy(place))
    images = pixels.reshape(CIFAR_SHAPE).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), labels.astype(np.int64)


def own_folder() -> Path | None:
    """Return the folder that RESNETLIB_DATA names, or None when it is not set."""
    name = os.environ.get(FOLDER_VARIABLE)
    if not name:
        return None
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{FOLDER_VARIABLE} names {folder}, which is no folder; expected the folder that "
            f"holds the data sets. Correct {FOLDER_VARIABLE}, or unset it."
        )
    return folder


def keras_cache() -> Path:
    """Return the folder where Keras keeps its data sets."""
    home = os.environ.get("KERAS_HOME") or "~/.keras"
    return Path(home).expanduser() / "datasets"


def _first(paths: Iterable[Path]) -> Path | None:
    """Return the first path that exists, or None; a forbidden folder is no empty one."""
    for path in paths:
        try:
            if path.exists():
                return path
        except OSError as error:
            raise unreadable(path, error, "Allow this user to read the folder.") from error
    return None


def _read(path: Path, culprit: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise unreadable(path, error, _remedy(culprit)) from error


def _unpack(path: Path) -> bytes:
    content = _read(path, path)
    if path.suffix != ".gz":
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(
            f"{path} is cut short or damaged: {error}; expected a gzip file. {_remedy(path)}"
        ) from error


def _remedy(path: Path) -> str:
    if keras_cache() in path.parents:
        return f"Delete {path}; the next call downloads it again."
    return f"Replace {path} by the original."


def unreadable(path: object, error: OSError, remedy: str) -> OSError:
    """Return an error of the same class as `error` that says the file and the remedy."""
    return type(error)(f"{path} cannot be read ({error.strerror or error}). {remedy}")


def check_sha256(path: object, content: bytes, expected: str, remedy: str) -> None:
    """Raise ValueError when the contents of a file are not the expected ones."""
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise ValueError(
            f"{path} has a wrong checksum: SHA-256 of its contents is {found}, "
            f"expected {expected}. {remedy}"
        )


def download(url: str, sha256: str, target: Path, *remedies: str) -> None:
    """Download `url` to `target`, which appears only when it is whole and has this SHA-256.

    Raises ConnectionError with the remedies when that fails, OSError when `target` cannot be
    written.
    """
    try:
        import pooch
    except ImportError as error:
        raise ImportError("downloading a data set needs pooch: pip install pooch") from error
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(
            prefix=f"{target.name}.part-", dir=target.parent, ignore_cleanup_errors=True
        )
    except OSError as error:
        raise type(error)(
            f"{target.parent} cannot be written ({error.strerror}). "
            "Set KERAS_HOME to a folder where you may write."
        ) from error
    with folder as part:
        try:
            whole = pooch.retrieve(url, known_hash=f"sha256:{sha256}", fname=target.name, path=part)
        except Exception as error:
            choices = "; or ".join((*remedies, "connect to the network and try again"))
            raise ConnectionError(
                f"{target.name} was found nowhere on this machine, and {url} cannot be "
                f"downloaded ({error}). You can {choices}."
            ) from error
        # Another process may have finished first: its file is the same, so either may win.
        try:
            os.replace(whole, target)
        except PermissionError:  # Windows, while the other process reads the file
            if not target.exists():
                raise
