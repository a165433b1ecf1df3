"""Load data sets by name, as tensors: `load("digits")`.

The digits are part of scikit-learn. The other data sets are read from a folder, or downloaded once
into the user's cache with their checksums verified. The environment variable `BAYESGEN_DATA` sets
the cache folder.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pooch
import torch
from torch import Tensor

from bayesgen._internal import checks
from bayesgen.data.dataset import Dataset, draw, merge, restrict, subset

__all__ = ["Dataset", "load", "merge", "names", "restrict", "subset"]

# A reader returns raw parts: (x_train, y_train, x_test, y_test, classes), x as uint8 or float.
Raw = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, tuple[str, ...]]
_READERS: dict[str, Callable[[Path | None], Raw]] = {}


def reader(name: str) -> Callable[[Callable[[Path | None], Raw]], Callable[[Path | None], Raw]]:
    """Register the function that reads a data set's raw parts under a name for `load`."""

    def register(function: Callable[[Path | None], Raw]) -> Callable[[Path | None], Raw]:
        _READERS[name] = function
        return function

    return register


def names() -> tuple[str, ...]:
    """Names of the data sets that `load` accepts."""
    return tuple(sorted(_READERS))


def load(
    name: str = "digits",
    *,
    train: int | None = None,
    test: int | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    device: str | torch.device = "cpu",
) -> Dataset:
    """Load a data set by name.

    Args:
        name: "digits" (1,797 images of 8 × 8, bundled with scikit-learn; 1,400 of them train),
            "cifar10", "cifar100" or "fashion-mnist".
        train: number of training points, drawn without replacement; None keeps all.
        test: number of test points, drawn without replacement; None keeps all.
        data_dir: folder with the files in their official layout (CIFAR's binary version, or the
            folder above it; Fashion-MNIST's gzipped IDX files). None downloads them.
        seed: seed of the draws.
        dtype: dtype of the inputs, float64 or float32.
        device: device of the tensors.

    Raises:
        ValueError: the name is unknown; more points are asked for than there are; a file is
            truncated.
        FileNotFoundError: a file is missing in data_dir.
        ConnectionError: the download failed.

    Example:
        >>> load("digits", train=100)
        Dataset(digits: 100 training and 397 test points, d = 64, C = 10)
    """
    read = _READERS[checks.one_of("name", name, names())]
    if dtype not in (torch.float64, torch.float32):
        raise ValueError(f"dtype must be torch.float64 or torch.float32, got {dtype}")
    x_train, y_train, x_test, y_test, classes = read(None if data_dir is None else Path(data_dir))
    generator = np.random.default_rng(checks.seed(seed))
    parts = [
        *draw("train", x_train, y_train, train, generator),
        *draw("test", x_test, y_test, test, generator),
    ]
    x_train, y_train, x_test, y_test = parts
    return Dataset(
        name,
        _pixels(x_train, dtype, device),
        torch.as_tensor(y_train, dtype=torch.int64, device=device),
        _pixels(x_test, dtype, device),
        torch.as_tensor(y_test, dtype=torch.int64, device=device),
        classes,
    )


def _pixels(x: np.ndarray, dtype: torch.dtype, device: str | torch.device) -> Tensor:
    tensor = torch.as_tensor(x).to(device=device, dtype=dtype)
    return tensor / 255 if x.dtype == np.uint8 else tensor


# --------------------------------------------------------------------------- readers


@reader("digits")
def _digits(data_dir: Path | None) -> Raw:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    if data_dir is not None:
        raise ValueError("digits come with scikit-learn: data_dir must be None for them")
    x, y = load_digits(return_X_y=True)
    # The file is ordered by writer, so it is shuffled once, with a fixed seed.
    x_train, x_test, y_train, y_test = train_test_split(
        x / 16.0, y, train_size=1400, stratify=y, random_state=0
    )
    return x_train, y_train, x_test, y_test, tuple(str(c) for c in range(10))


# Addresses and checksums of the official archives; checksums are verified before reading.
CIFAR10 = (
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    "md5:c32a1d4ab5d03f1284b67883e8d87530",
)
CIFAR100 = (
    "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
    "md5:03b5dce01913d631647c71ecec9e9cb8",
)
FASHION_MNIST = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
FASHION_MNIST_FILES = {
    "train-images-idx3-ubyte.gz": "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "md5:25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "md5:bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "md5:bb300cfdad3c16e7a12a480ee83cd310",
}

CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
_IMAGE_BYTES = 3 * 32 * 32


@reader("cifar10")
def _cifar10(data_dir: Path | None) -> Raw:
    folder = _cifar_folder(data_dir, CIFAR10, "cifar-10-batches-bin")
    parts = [_cifar_records(folder / f"data_batch_{i}.bin", 10_000, 1) for i in range(1, 6)]
    x_test, y_test = _cifar_records(folder / "test_batch.bin", 10_000, 1)
    x, y = (np.concatenate(p) for p in zip(*parts, strict=True))
    return x, y, x_test, y_test, CIFAR10_CLASSES


@reader("cifar100")
def _cifar100(data_dir: Path | None) -> Raw:
    folder = _cifar_folder(data_dir, CIFAR100, "cifar-100-binary")
    x, y = _cifar_records(folder / "train.bin", 50_000, 2)
    x_test, y_test = _cifar_records(folder / "test.bin", 10_000, 2)
    file = folder / "fine_label_names.txt"
    classes = tuple(file.read_text().split()) if file.exists() else tuple(map(str, range(100)))
    return x, y, x_test, y_test, classes


@reader("fashion-mnist")
def _fashion_mnist(data_dir: Path | None) -> Raw:
    if data_dir is None:
        fetcher = pooch.create(_cache(), FASHION_MNIST, registry=FASHION_MNIST_FILES)
        files = {name: Path(_fetch(fetcher.fetch, name)) for name in FASHION_MNIST_FILES}
    else:
        files = {name: _existing(data_dir / name) for name in FASHION_MNIST_FILES}
    x, y, x_test, y_test = (_idx(file) for file in files.values())
    return x.reshape(len(x), -1), y, x_test.reshape(len(x_test), -1), y_test, FASHION_CLASSES


def _cache() -> Path:
    return Path(os.environ.get("BAYESGEN_DATA") or pooch.os_cache("bayesgen"))


def _fetch(get: Callable[..., Any], *args: Any, **more: Any) -> Any:
    """Download with a progress bar; the error of a failed download explains the alternative."""
    try:
        return get(*args, progressbar=_ProgressBar(), **more)
    except OSError as err:
        raise ConnectionError(
            f"the download failed ({type(err).__name__}: {err}); fetch the files another way and "
            "pass their folder as data_dir"
        ) from err


class _ProgressBar:
    """The progress bar interface that pooch uses, drawn by rich."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

        self._progress = Progress(
            TextColumn("download"), BarColumn(), DownloadColumn(), console=Console(stderr=True)
        )
        self._task = self._progress.add_task("download", total=None)
        self._total = 0

    @property
    def total(self) -> int:
        """Total number of bytes of the download."""
        return self._total

    @total.setter
    def total(self, value: int) -> None:
        self._total = value
        self._progress.update(self._task, total=value)
        self._progress.start()

    def update(self, amount: int) -> None:
        """Add to the number of bytes received."""
        self._progress.update(self._task, advance=amount)

    def reset(self) -> None:
        """Set the number of bytes received to zero."""
        self._progress.update(self._task, completed=0)

    def close(self) -> None:
        """Stop drawing the progress bar."""
        self._progress.stop()


def _cifar_folder(data_dir: Path | None, source: tuple[str, str], inner: str) -> Path:
    """The folder of .bin files: data_dir, the folder `inner` in it, or the downloaded archive."""
    if data_dir is None:
        address, checksum = source
        unpack = pooch.Untar(extract_dir=".")
        _fetch(
            pooch.retrieve,
            address,
            checksum,
            fname=address.rsplit("/", 1)[-1],
            path=_cache(),
            processor=unpack,
        )
        return _cache() / inner
    return data_dir / inner if (data_dir / inner).is_dir() else data_dir


def _cifar_records(file: Path, count: int, label_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (count, 3072) and labels of one binary file; the last label byte is the fine label."""
    record = label_bytes + _IMAGE_BYTES
    size = _existing(file).stat().st_size
    if size != count * record:
        raise ValueError(
            f"{file} must hold {count:,} records of {record:,} bytes, {count * record:,} in all; "
            f"it has {size:,} bytes: truncated, or not CIFAR's binary version"
        )
    rows = np.fromfile(file, dtype=np.uint8).reshape(count, record)
    labels = rows[:, label_bytes - 1]
    most = 9 if label_bytes == 1 else 99
    if labels.max() > most:
        raise ValueError(f"{file} must hold labels in 0..{most}, got {labels.max()}")
    return rows[:, label_bytes:], labels.astype(np.int64)


def _idx(file: Path) -> np.ndarray:
    """An array from a gzipped IDX file of unsigned bytes."""
    try:
        with gzip.open(file) as stream:
            blob = stream.read()
    except (EOFError, gzip.BadGzipFile, zlib.error) as err:
        raise ValueError(f"{file} must be a whole gzip file, it is damaged ({err})") from None
    dims = blob[3] if len(blob) > 3 and blob[:3] == b"\0\0\x08" else 0
    shape = tuple(int.from_bytes(blob[4 + 4 * i : 8 + 4 * i], "big") for i in range(dims))
    if not dims or len(blob) != 4 + 4 * dims + int(np.prod(shape)):
        raise ValueError(
            f"{file} must be an IDX file of bytes; its header promises shape {shape} and it "
            f"holds {len(blob):,} bytes: truncated, or not IDX"
        )
    return np.frombuffer(blob, dtype=np.uint8, offset=4 + 4 * dims).reshape(shape).copy()


def _existing(file: Path) -> Path:
    if not file.is_file():
        raise FileNotFoundError(
            f"data_dir must hold the file {file.name}: there is no {file}; leave data_dir out to "
            "download it"
        )
    return file
