"""Tests of `bayesgen.covariance.tiled`."""

import json

import gpytorch
import pytest
import torch

from bayesgen.covariance import tiled
from bayesgen.covariance.gram import gram
from bayesgen.covariance.tiled import TiledGram
from tests.helpers import points

F64 = torch.float64


@pytest.mark.parametrize("storage", tiled.STORAGE)
@pytest.mark.parametrize(
    "kernel", [gpytorch.kernels.RBFKernel(), gpytorch.kernels.MaternKernel(1.5),
               gpytorch.kernels.LinearKernel()]
)  # fmt: skip
def test_tiles_equal_matrix(storage, kernel, monkeypatch, tmp_path):
    monkeypatch.setattr(tiled, "_ROWS", 17)
    x = points(60)
    matrices = gram(kernel.double(), x)
    theta, v = matrices.start(), torch.randn(60, 4, dtype=F64)
    made = TiledGram(matrices, theta, storage, folder=tmp_path)
    K = matrices.matrix(theta)
    torch.testing.assert_close(made @ v, K @ v, rtol=1e-9, atol=1e-9)
    known = (float(K.diagonal().sum()), float(K.square().sum()))
    assert made.moments() == pytest.approx(known, rel=1e-12)
    again = TiledGram(gram(kernel, x), theta, "none")
    again @ points(len(x), 2)
    monkeypatch.setattr(again, "tiles", lambda: pytest.fail("the product has counted them"))
    assert again.moments() == pytest.approx(known, rel=1e-12)
    if made.matrix is not None:
        torch.testing.assert_close(made.matrix, made.matrix.mT, rtol=0, atol=0)


def test_interrupted_file_of_tiles_resumes(monkeypatch, tmp_path):
    monkeypatch.setattr(tiled, "_ROWS", 10)
    matrices = gram(gpytorch.kernels.RBFKernel().double(), points(55))
    theta = matrices.start()
    made = []

    def watch(done, expected, what):
        made.append(done)
        if len(made) == 3:
            raise KeyboardInterrupt

    def build(mark="a", progress=None):
        return TiledGram(
            matrices, theta, "disk", folder=tmp_path, mark=mark, progress=progress
        ).matrix

    with pytest.raises(KeyboardInterrupt):
        build(progress=watch)
    rest = []
    K = build(progress=lambda done, *_: rest.append(done))
    assert rest == [4, 5, 6]
    torch.testing.assert_close(K, matrices.matrix(theta), rtol=1e-10, atol=1e-10)
    ledger = tmp_path / "gram.json"
    ledger.write_text(ledger.read_text()[:20])  # Nothing in a broken ledger is believed.
    rest.clear()
    build(progress=lambda done, *_: rest.append(done))
    assert rest == [1, 2, 3, 4, 5, 6]
    rest.clear()
    build(mark="b", progress=lambda done, *_: rest.append(done))
    assert len(rest) == 6
    assert json.loads(ledger.read_text())["mark"] == "b"


def test_full_disk_raises_before_computation(monkeypatch, tmp_path):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tiled.os, "posix_fallocate", full)
    matrices = gram(gpytorch.kernels.RBFKernel().double(), points(20))
    with pytest.raises(OSError, match="but its disk has less free: No space left"):
        TiledGram(matrices, matrices.start(), "disk", folder=tmp_path)
