"""Tests of `bayesgen.covariance.linear`."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import bayesgen as bg
from bayesgen.covariance.linear import FeatureGram
from bayesgen.features import bases, priors

F64 = torch.float64
X = torch.linspace(-1, 1, 9, dtype=F64)[:, None]


def gram(prior, order=None):
    return FeatureGram(bases.Polynomial(4).on(X), X, prior, order)


def explicit(x, rate, order=4):
    """Powers of x and their prior variances rate⁻ʲ, zero above the order."""
    j = torch.arange(5, dtype=F64)
    return x**j, torch.where(j <= order, rate**-j, 0.0)


@pytest.mark.parametrize("order", [None, 2])
def test_matrices_match_features_and_variances(order):
    K = gram(priors.geometric(3.0), order)
    theta = K.start()
    Phi, v = explicit(X, 3.0, 4 if order is None else order)
    torch.testing.assert_close(K.matrix(theta), (Phi * v) @ Phi.mT)
    new = torch.tensor([[0.3], [-0.7]], dtype=F64)
    Pn, _ = explicit(new, 3.0)
    torch.testing.assert_close(K.cross(new)(theta), (Pn * v) @ Phi.mT)
    torch.testing.assert_close(K.full(theta, new), (Pn * v) @ Pn.mT)
    torch.testing.assert_close(K.diagonal(theta, new), ((Pn * v) @ Pn.mT).diagonal())
    found = K.decompose(theta)
    torch.testing.assert_close(
        (found.left * found.singular.square()) @ found.left.mT, K.matrix(theta)
    )
    assert K.decompose(theta) is found


@pytest.mark.parametrize("prior", [priors.geometric(3.0), priors.power(1.5)])
def test_pull_and_chain_match_differences(prior):
    K = gram(prior)
    theta, step = K.start(), 1e-5
    G = torch.randn(9, 9, generator=torch.Generator().manual_seed(0), dtype=F64)
    G = G + G.mT
    slope = (K.matrix(theta + step) - K.matrix(theta - step)) / (2 * step)
    torch.testing.assert_close(K.pull(theta, G), (G * slope).sum()[None], rtol=1e-6, atol=1e-8)
    w = torch.arange(1.0, 6.0, dtype=F64)
    for of_log in (True, False):
        up, down = (K.log_variance(theta + s * step) for s in (1, -1))
        up, down = (up, down) if of_log else (up.exp(), down.exp())
        want = (w * (up - down)).sum()[None] / (2 * step)
        torch.testing.assert_close(K.chain(theta, w, of_log=of_log), want, rtol=1e-6, atol=1e-8)


def test_up_to_switches_features_off_and_prior_without_decay_has_no_parameter():
    K = gram(priors.isotropic(1.0))
    assert K.start().shape == (0,)
    assert K.up_to(4) is K
    low, Phi = K.up_to(1), explicit(X, 1.0)[0][:, :2]
    torch.testing.assert_close(low.matrix(K.start()), Phi @ Phi.mT)
    assert K.pull(K.start(), torch.eye(9, dtype=F64)).shape == (0,)


def test_fits_run_in_several_threads_at_once():
    x = torch.linspace(-1, 1, 40, dtype=torch.float64)
    y = torch.sin(3 * x)

    def fit(_):
        model = bg.LinearModel(bg.bases.Polynomial(8), bg.priors.geometric(2.0))
        return float(model.fit(x, y).evidence.log_marginal_likelihood)

    alone = fit(0)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(fit, range(8))) == [alone] * 8
