"""Tests of `bayesgen.curvature.gradient_check`."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import bayesgen as bg
from bayesgen.curvature.gradient_check import GradientCheck, RowsDifferError, coefficients
from bayesgen.curvature.jacobian import Sample
from bayesgen.curvature.parameters import Weights
from bayesgen.likelihoods.likelihood import resolve
from tests.models.network.networks import F64, brute_force, evidence, make

pytestmark = pytest.mark.filterwarnings("ignore::bayesgen.errors.NotAtModeWarning")


class Rare(nn.Module):
    """A layer whose weights some observations use once more, outside of its call."""

    def __init__(self):
        super().__init__()
        self.a, self.c = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        h = torch.tanh(self.a(x))
        return self.c(torch.where(x[:, :1] > 1.7, torch.tanh(F.linear(h, self.a.weight)), h))


class Padded(nn.Module):
    """A linear layer that sees the tokens of all sequences that are not padding."""

    def __init__(self):
        super().__init__()
        self.e, self.a, self.c = nn.Embedding(6, 4), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        h, real = self.e(x), x > 0
        kept = torch.zeros_like(h)
        kept[real] = torch.tanh(self.a(h[real]))
        return self.c(kept.sum(1))


class MixesFew(nn.Module):
    """Some observations of a batch are centred by their mean."""

    def __init__(self):
        super().__init__()
        self.a, self.c = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        h, some = torch.tanh(self.a(x)).clone(), x[:, 0] > 1.2
        h[some] = h[some] - h[some].mean(0)
        return self.c(h)


def points(seed=0, n=60):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 4, generator=generator, dtype=F64)
    return x, torch.randint(3, (n,), generator=generator)


def fit(net, x, y, curvature, **options):
    options = {"prior_precision": 1.0, "hyperparameters": "fixed", **options}
    return bg.Laplace(net, curvature=curvature, **options).fit(x, y).evidence


@pytest.mark.parametrize("curvature", ["ggn", "diag"])
@pytest.mark.parametrize("seed", range(3))
def test_rows_that_are_wrong_for_few_observations_are_found(curvature, seed):
    torch.manual_seed(seed)
    net, (x, y) = Rare().double(), points(seed)
    assert 0 < int((x[:, 0] > 1.7).sum()) < 8
    found = fit(net, x, y, curvature)
    want = evidence(net, x, y, curvature)
    assert float(found.log_marginal_likelihood) == pytest.approx(want, abs=1e-9)
    assert "reverse passes" in found.method


@pytest.mark.parametrize("curvature", ["ggn", "diag"])
@pytest.mark.parametrize("batch", [2, 32])
def test_rows_across_the_borders_of_observations_are_found(curvature, batch):
    torch.manual_seed(0)
    net = Padded().double()
    x, y = torch.randint(1, 6, (40, 4)), torch.randint(3, (40,))
    x[torch.randperm(40)[:16], 2:] = 0
    want = evidence(net, x, y, curvature)
    found = fit(net, x, y, curvature, batch=batch)
    assert float(found.log_marginal_likelihood) == pytest.approx(want, abs=1e-9)


@pytest.mark.parametrize("batch", [7, 32, 60])
@pytest.mark.parametrize("curvature", ["ggn", "diag", "kron", "hessian"])
def test_a_network_that_mixes_few_observations_is_refused(curvature, batch):
    torch.manual_seed(0)
    with pytest.raises(ValueError, match="independently of the others in its batch"):
        fit(MixesFew().double(), *points(), curvature, batch=batch)


def test_linear_modes_are_checked_too():
    torch.manual_seed(0)
    net, (x, y) = Rare().double(), points()
    direct = bg.Laplace(net, prior_precision=1.0, hyperparameters="fixed", mode="linearised")
    posterior = direct.fit(x, y)
    assert posterior.curvature.weights.direct


@pytest.mark.parametrize("likelihood", ["categorical", "gaussian", "poisson", "bernoulli"])
def test_coefficients_give_the_slopes(likelihood):
    own = resolve(likelihood) or bg.likelihoods.Gaussian(1.0)
    C = 3 if likelihood in ("categorical", "gaussian") else 1
    f = (4 * torch.randn(20, C, dtype=F64)).requires_grad_()
    given = {
        "categorical": torch.randint(3, (20,)),
        "gaussian": torch.randn(20, 3, dtype=F64),
        "poisson": torch.randint(5, (20,)),
        "bernoulli": torch.randint(2, (20,)),
    }[likelihood]
    own = own.for_outputs(C, given.shape)
    y = own.targets(given, f.detach())[0]
    slopes = torch.autograd.grad(own.log_density(y, f).sum(), f)[0]
    values, vectors = own.roots(y, f.detach())
    c = coefficients(values, vectors, slopes)
    torch.testing.assert_close(torch.einsum("nck,nk->nc", vectors, values.sqrt() * c), slopes)


def test_slopes_outside_of_the_curvature_have_no_coefficients():
    values, vectors = torch.ones(2, 1, dtype=F64), torch.eye(2, dtype=F64)[:, :1].expand(2, 2, 1)
    assert coefficients(values, vectors, torch.ones(2, 2, dtype=F64)) is None


def test_wrong_rows_name_their_layer():
    net, x, y = make("SiLU")
    _, _, J = brute_force(net, x, y)
    weights = Weights(net, None)
    ones, eye = torch.ones(12, 3, dtype=F64), torch.eye(3, dtype=F64).expand(12, 3, 3)
    c = torch.randn(12, 3, dtype=F64)
    gradient = torch.einsum("ncp,nc->p", J, c)
    sample = Sample(x, ones, eye, 12, 1e9, c, gradient)
    rows = J.reshape(36, -1)
    right = GradientCheck(weights, sample)
    right.add(slice(None), rows[:10])
    right.add(slice(None), rows[10:], 10)
    right.settle()
    rows[5, weights.leaves[1].span] *= 1.01
    wrong = GradientCheck(weights, sample)
    wrong.add(slice(None), rows)
    with pytest.raises(RowsDifferError, match="2") as caught:
        wrong.settle()
    assert caught.value.names == {"2"}
