"""Tests of `bayesgen.pacbayes.certificates.free_mean`."""

import pytest
import torch

import bayesgen as bg
from bayesgen import pacbayes
from bayesgen.pacbayes.certificates.free_mean import _Family
from bayesgen.pacbayes.certificates.losses import zero_one
from bayesgen.pacbayes.certificates.tuning import TunedSetting, TuningProblem
from bayesgen.spectrum.spectrum import Spectrum
from tests.helpers import rbf_kernel


@pytest.mark.parametrize("kind", ["gp", "linear"])
def test_free_mean_lowers_bound_and_pays_its_kl(digits, one_hot, kind):
    if kind == "gp":
        model = bg.GaussianProcess(rbf_kernel(2.0))
    else:
        model = bg.LinearModel(bg.bases.Convolutional(40, image=(1, 8, 8), patch=3, grid=2))
    plain = pacbayes.certify(model, digits.x_train, one_hot)
    made = pacbayes.certify(model, digits.x_train, one_hot, mean="free")
    assert made.bound < plain.bound - 0.005
    # KL by brute force: both are Gaussians over contrasts of f at the sample.
    K = plain.posterior._prior()[0].matrix(plain.posterior._prior()[1])
    values, vectors = torch.linalg.eigh(K)
    keep = values > 1e-9 * values.max()
    mean = K @ made.posterior.weights
    whitened = (vectors[:, keep].mT @ mean) / values[keep].sqrt()[:, None]
    s = made.settings["scale"]
    from_mean = 0.5 * float(whitened.square().sum()) / s
    # The stated noise is that of the covariance of Q.
    ratio = made.settings["noise"] / s
    q = ratio / (values.clamp(min=0) + ratio)
    whole = from_mean + 0.5 * (one_hot.shape[1] - 1) * float((q - 1 - q.log()).sum())
    assert 0 < from_mean < made.complexity
    assert made.complexity == pytest.approx(whole, rel=1e-4)
    torch.testing.assert_close(made.posterior.mean(digits.x_train), mean, rtol=1e-6, atol=1e-8)
    assert float((mean.argmax(-1) != digits.y_train).double().mean()) < made.risk
    guesses = made.posterior.mean(digits.x_test).argmax(-1)
    assert float((guesses != digits.y_test).double().mean()) < made.bound
    with pytest.raises(ValueError, match="not with split"):
        pacbayes.certify(model, digits.x_train, one_hot, mean="free", split=0.5)


def test_no_ratio_gives_an_infinite_divergence():
    K, y = torch.ones(3, 3).double(), bg.likelihoods.one_hot([0, 1, 0], 2)
    loss, theorem = zero_one(y), lambda risk, kl: pacbayes.maurer(risk, kl, 3)
    problem = TuningProblem.of(Spectrum.dense(K, y), torch.zeros_like(y), loss, theorem, None)
    family = _Family(problem, 1.0)
    for log_ratio in (-1e5, -800.0, 0.0, 800.0, 1e5):
        ratio = torch.tensor(log_ratio, dtype=torch.float64, requires_grad=True)
        every = family.at(torch.zeros(family.values.numel(), 1).double(), ratio)
        assert all(t.isfinite().all() for t in every)
        (slope,) = torch.autograd.grad(every[2], ratio)
        assert slope.isfinite()


def test_kl_of_free_mean_matches_two_gaussians():
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    K, y = root @ root.mT, bg.likelihoods.one_hot([0, 1, 2, 0, 1, 2], 3)
    loss, theorem = zero_one(y), lambda risk, kl: pacbayes.maurer(risk, kl, 6)
    problem = TuningProblem.of(Spectrum.dense(K, y), torch.zeros_like(y), loss, theorem, None)
    scale, ratio = 1.7, 0.4
    family = _Family(problem, scale)
    A = torch.randn(6, 2, generator=generator, dtype=torch.float64)
    mean, variance, kl = family.at(A, torch.tensor(ratio).double().log())
    P = torch.distributions.MultivariateNormal(torch.zeros(6).double(), scale * K)
    eye = torch.eye(6, dtype=torch.float64)
    cov = scale * (K - K @ torch.linalg.solve(K + ratio * eye, K))
    torch.testing.assert_close(variance[:, 0], cov.diagonal())
    contrasts = mean @ problem.contrasts
    want = sum(
        torch.distributions.kl_divergence(
            torch.distributions.MultivariateNormal(contrasts[:, c], cov), P
        )
        for c in range(2)
    )
    torch.testing.assert_close(kl, want)
    start = family.start(TunedSetting(scale, scale * ratio, 1.0))
    at_posterior, _, same = family.at(start, torch.tensor(ratio).double().log())
    setting = torch.tensor(scale).double(), torch.tensor(scale * ratio).double()
    torch.testing.assert_close(at_posterior, problem.marginals(*setting)[0])
    torch.testing.assert_close(same, problem.evidence(*setting).complexity)
