"""Tests of `bayesgen.features.bases`."""

import math

import numpy as np
import pytest
import torch

import bayesgen as bg
from bayesgen.features import bases

F64 = torch.float64


@pytest.mark.parametrize("kind", ["powers", "legendre", "chebyshev"])
def test_polynomial_bases_match_numpy(kind):
    x = torch.linspace(2, 5, 9, dtype=F64)
    features = bg.bases.Polynomial(6, kind=kind, input_range="data").on(x[:, None])
    u = np.linspace(-1, 1, 9)
    vander = {
        "powers": np.polynomial.polynomial.polyvander,
        "legendre": np.polynomial.legendre.legvander,
        "chebyshev": np.polynomial.chebyshev.chebvander,
    }[kind]
    np.testing.assert_allclose(features(x).numpy(), vander(u, 6), atol=1e-13)
    assert features.map.centre.item() == 3.5
    assert features.map.half_width.item() == 1.5


def test_polynomial_of_several_inputs_has_all_products():
    x = torch.tensor([[2.0, 3.0]], dtype=F64)
    features = bg.bases.Polynomial(2).on(x)
    assert features(x)[0].tolist() == [1, 2, 3, 4, 6, 9]
    assert features.orders.tolist() == [0, 1, 1, 2, 2, 2]
    assert bg.bases.Polynomial(2, interactions=False).on(x)(x)[0].tolist() == [1, 2, 3, 4, 9]


def test_fourier_and_random_features_match_formulas():
    x = torch.linspace(0, 2, 7, dtype=F64)
    features = bases.Fourier(2, period=2.0).on(x[:, None])
    want = [torch.ones_like(x)]
    for j in (1, 2):
        want += [torch.sin(math.pi * j * x), torch.cos(math.pi * j * x)]
    torch.testing.assert_close(features(x), torch.stack(want, 1))
    assert features.orders.tolist() == [0, 1, 1, 2, 2]
    default = bases.Fourier(1).on(x[:, None])
    torch.testing.assert_close(default(x)[:, 1], torch.sin(2 * math.pi * (x - 1) / 4))
    many = bases.RandomFeatures(20_000, lengthscale=0.7).on(x[:, None])(x)
    rbf = torch.exp(-0.5 * (x[:, None] - x) ** 2 / 0.49)
    torch.testing.assert_close(many @ many.T, rbf, atol=0.04, rtol=0)


def test_basis_of_user_is_resolved_or_raises():
    with pytest.raises(ValueError, match=r"must return a tensor \(n, d\)"):
        bases.resolve(lambda x: x[:, 0]).on(torch.ones(3, 1))
    with pytest.raises(TypeError, match="basis must be None"):
        bases.resolve("powers")
    both = bases.resolve(lambda x: torch.cat([x, x**2], 1)).on(torch.ones(3, 1))
    assert both.orders.tolist() == [0, 1]
