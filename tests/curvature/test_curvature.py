"""Tests of `bayesgen.curvature.curvature`."""

import torch

import bayesgen as bg
from bayesgen.curvature.curvature import PriorShape, spectral_terms, standard_normal

F64 = torch.float64


def test_prior_shape_spreads_and_sums_over_groups():
    prior = PriorShape(torch.tensor([1.0, 2.0, 3.0], dtype=F64), torch.tensor([0, 1, 0]), 2)
    found = prior.precision(torch.tensor([10.0, 100.0]))
    assert found.tolist() == [10.0, 200.0, 30.0]
    assert prior.sums(torch.tensor([1.0, 5.0, 2.0], dtype=F64)).tolist() == [3.0, 5.0]


def test_spectral_terms_match_dense_algebra():
    root = torch.randn(6, 6, generator=torch.Generator().manual_seed(0), dtype=F64)
    H, alpha = root @ root.mT, torch.tensor([0.7], dtype=F64)
    found = spectral_terms(bg.Spectrum.dense(H), alpha)
    eye = torch.eye(6, dtype=F64)
    torch.testing.assert_close(found.logdet, torch.logdet(eye + H / 0.7))
    want = torch.linalg.solve(H + 0.7 * eye, H).trace()
    torch.testing.assert_close(found.effective_parameters.sum(), want)
    assert 0 < float(found.error) < 1e-10


def test_spectral_terms_of_float32_are_within_their_error():
    root = torch.randn(80, 80, generator=torch.Generator().manual_seed(0), dtype=F64)
    H, alpha = root @ root.mT, torch.tensor([0.1], dtype=F64)
    exact, rough = (
        spectral_terms(bg.Spectrum.dense(K), alpha.to(K)) for K in (H, H.to(torch.float32))
    )
    assert abs(float(exact.logdet - rough.logdet)) < float(rough.error)


def test_standard_normal_is_reproduced_from_its_seed():
    like = torch.zeros(1, dtype=torch.float32)
    a, b = (standard_normal((50_000,), torch.Generator().manual_seed(3), like) for _ in range(2))
    assert torch.equal(a, b)
    assert a.dtype == torch.float32
    assert abs(float(a.mean())) < 0.03
    assert abs(float(a.var()) - 1) < 0.03
