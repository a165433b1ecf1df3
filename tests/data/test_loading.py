"""Tests of `bayesgen.data.loading`."""

import gzip

import numpy as np
import pytest
import torch

from bayesgen import data
from bayesgen.data import loading


def test_digits_have_documented_shapes_and_fingerprint():
    digits = data.load()
    assert digits.x_train.shape == (1400, 64)
    assert digits.x_test.shape == (397, 64)
    assert digits.num_classes == 10
    assert digits.x_train.dtype == torch.float64
    assert digits.x_train.max() == 1.0
    assert digits.fingerprint == data.load("digits").fingerprint
    few = data.load("digits", train=50, test=20, dtype=torch.float32, seed=1)
    assert few.x_train.shape == (50, 64)
    assert few.x_train.dtype == torch.float32
    assert few.fingerprint != digits.fingerprint


def test_cifar10_is_read_from_binary_records(cifar):
    for place in (cifar, cifar / "cifar-10-batches-bin"):
        loaded = data.load("cifar10", data_dir=place)
        assert loaded.x_train.shape == (100, 3072)
        raw = np.fromfile(cifar / "cifar-10-batches-bin" / "data_batch_2.bin", np.uint8)
        assert loaded.y_train[20] == raw[0]
        np.testing.assert_allclose(loaded.x_train[20].numpy(), raw[1:3073] / 255)
    assert len(data.load("cifar10", data_dir=cifar, train=30).x_train) == 30


def test_truncated_or_missing_files_raise(cifar):
    file = cifar / "cifar-10-batches-bin" / "data_batch_3.bin"
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(ValueError, match=r"data_batch_3.bin must hold 20 records .* truncated"):
        data.load("cifar10", data_dir=cifar)
    file.unlink()
    with pytest.raises(FileNotFoundError, match="data_dir must hold the file data_batch_3.bin"):
        data.load("cifar10", data_dir=cifar)


def test_labels_out_of_range_raise(cifar):
    file = cifar / "cifar-10-batches-bin" / "test_batch.bin"
    file.write_bytes(b"\x0b" + file.read_bytes()[1:])
    with pytest.raises(ValueError, match=r"must hold labels in 0..9, got 11"):
        data.load("cifar10", data_dir=cifar)


def test_download_is_cached_and_checked(cifar_online, monkeypatch, tmp_path, capfd):
    first = data.load("cifar10")
    assert first.x_train.shape == (100, 3072)
    assert "download" in capfd.readouterr().err
    cifar_online.unlink()
    assert data.load("cifar10").fingerprint == first.fingerprint  # It is in the cache.
    monkeypatch.setenv("BAYESGEN_DATA", str(tmp_path / "empty"))
    with pytest.raises(OSError, match="the download failed .* pass their folder as data_dir"):
        data.load("cifar10")
    cifar_online.write_bytes(b"something else")
    with pytest.raises(ValueError, match="hash"):
        data.load("cifar10")


def test_fashion_mnist_is_read_from_idx_files(tmp_path, rng):
    for name in loading.FASHION_MNIST_FILES:
        shape = (12, 28, 28) if "images" in name else (12,)
        values = rng.integers(0, 10, shape, dtype=np.uint8)
        header = bytes([0, 0, 8, len(shape)]) + b"".join(s.to_bytes(4, "big") for s in shape)
        (tmp_path / name).write_bytes(gzip.compress(header + values.tobytes()))
    loaded = data.load("fashion-mnist", data_dir=tmp_path)
    assert loaded.x_train.shape == (12, 784)
    file = tmp_path / "train-images-idx3-ubyte.gz"
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])
    with pytest.raises(ValueError, match="must be a whole gzip file"):
        data.load("fashion-mnist", data_dir=tmp_path)
    file.write_bytes(gzip.compress(gzip.decompress(whole)[:-1]))
    with pytest.raises(ValueError, match="truncated, or not IDX"):
        data.load("fashion-mnist", data_dir=tmp_path)


def test_cifar100_is_read_from_binary_records(tmp_path, rng, monkeypatch):
    read = loading._cifar_records
    monkeypatch.setattr(loading, "_cifar_records", lambda f, n, b: read(f, n // 1000, b))
    for name, count in (("train.bin", 50), ("test.bin", 10)):
        records = rng.integers(0, 100, (count, 3074), dtype=np.uint8)
        records.tofile(tmp_path / name)
    loaded = data.load("cifar100", data_dir=tmp_path)
    assert loaded.num_classes == 100
    assert loaded.x_train.shape == (50, 3072)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "mnist"}, "name must be one of 'cifar10', 'cifar100', 'digits'"),
        ({"train": 0}, "train must be between 1 and the 1400 points"),
        ({"test": 9999}, "test must be between 1 and the 397 points there are, got 9999"),
        ({"dtype": torch.int64}, "dtype must be torch.float64 or torch.float32"),
        ({"data_dir": "x"}, "digits come with scikit-learn"),
    ],
)
def test_invalid_arguments_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        data.load(**arguments)
