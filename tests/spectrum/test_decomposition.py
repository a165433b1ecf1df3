"""Tests of `bayesgen.spectrum.decomposition`."""

import pytest
import torch

from bayesgen.spectrum.decomposition import decompose

F64 = torch.float64


def features(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=F64)


@pytest.mark.parametrize(
    ("n", "d", "by"),
    [
        (9, 4, "svd"),
        (4, 9, "svd"),
        (9, 4, "gram"),
        (9, 4, "auto"),
        (4, 9, "auto"),
        (4, 4, "auto"),
    ],
)
def test_factors_multiply_to_features(n, d, by):
    Phi = features(n, d)
    found = decompose(Phi, by)
    torch.testing.assert_close(found.left @ found.singular.diag() @ found.right.mT, Phi)
    assert found.by == (("gram" if d <= n else "svd") if by == "auto" else by)
    r = len(found.singular)
    torch.testing.assert_close(found.left.mT @ found.left, torch.eye(r, dtype=F64))
    torch.testing.assert_close(found.right.mT @ found.right, torch.eye(r, dtype=F64))


def test_gram_drops_directions_below_rounding():
    Phi = features(20, 3) @ features(3, 6, seed=1)
    found = decompose(Phi, "gram")
    assert len(found.singular) == 3
    torch.testing.assert_close(found.left @ found.singular.diag() @ found.right.mT, Phi)


@pytest.mark.parametrize("by", ["svd", "gram"])
def test_stated_rounding_covers_float32_error(by):
    Phi = features(200, 20)
    found = decompose(Phi.float(), by)
    K = (found.left * found.singular.square()) @ found.left.mT
    off = float(torch.linalg.matrix_norm(K.double() - Phi @ Phi.mT, 2))
    rounding, top = found.rounding, float(found.singular.max())
    assert off < rounding.matrix + 2 * rounding.root * top
    assert found.method.startswith("exact")


@pytest.mark.parametrize(
    ("Phi", "by", "message"),
    [
        (features(4, 9), "gram", "no more features than points"),
        (torch.zeros(5, 2, dtype=F64), "gram", "Phi must not be zero"),
        (features(4, 2), "qr", "decomposition must be one of 'svd', 'gram'"),
    ],
)
def test_invalid_features_raise(Phi, by, message):
    with pytest.raises(ValueError, match=message):
        decompose(Phi, by)
