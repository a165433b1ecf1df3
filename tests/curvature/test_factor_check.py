"""Tests of `bayesgen.curvature.factor_check`."""

import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import bayesgen as bg
from bayesgen.curvature.factor_check import FactorCheck
from bayesgen.curvature.jacobian import Sample
from bayesgen.curvature.jacobian_rows import forward
from bayesgen.curvature.parameters import Weights

pytestmark = pytest.mark.filterwarnings("ignore::bayesgen.errors.NotAtModeWarning")
F64 = torch.float64


class Reuses(nn.Module):
    """Some observations use the layers once more, by calls or by functions."""

    def __init__(self, calls):
        super().__init__()
        torch.manual_seed(1)
        self.a, self.o, self.calls = nn.Linear(2, 4), nn.Linear(4, 3), calls

    def forward(self, x):
        h, some = self.o(torch.tanh(self.a(x))), (x[:, 0] > 2.9)[:, None]
        if self.calls:
            again = self.o(torch.tanh(self.a(x)))
        else:
            inner = torch.tanh(F.linear(x, self.a.weight, self.a.bias))
            again = F.linear(inner, self.o.weight, self.o.bias)
        return torch.where(some, h + 5 * again, h)


@pytest.mark.parametrize("count", [1, 2, 30])
def test_weights_that_few_observations_use_elsewhere_have_no_factors(count):
    torch.manual_seed(0)
    x, y = torch.randn(300, 2, dtype=F64).clamp(-2.5, 2.5), torch.randint(3, (300,))
    x[torch.randperm(300)[:count], 0] = 3.0
    settings = {"prior_precision": 1.0, "hyperparameters": "fixed", "curvature": "kron"}
    with pytest.raises(ValueError, match='curvature "kron" needs'):
        bg.Laplace(Reuses(calls=False).double(), **settings).fit(x, y)
    found = bg.Laplace(Reuses(calls=True).double(), **settings).fit(x, y).evidence
    assert torch.isfinite(found.log_marginal_likelihood)


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_size": 3, "stride": 2, "padding": 1, "dilation": 2},
        {"kernel_size": (3, 5), "padding": "same", "bias": False},
        {"kernel_size": 3, "padding": "valid"},
    ],
    ids=range(3),
)
def test_sums_of_layers_are_the_gradient(settings):
    torch.manual_seed(0)  # The sums can be near zero by chance, where a wrong factor is not seen.
    net = nn.Sequential(nn.Conv2d(2, 3, **settings), nn.Tanh(), nn.Flatten(), nn.LazyLinear(3))
    x = torch.randn(7, 2, 8, 9)
    net(x)
    weights, x = Weights(net, F64), x.double()
    c = torch.randn(7, 3, dtype=F64)
    eye = torch.eye(3, dtype=F64).expand(7, 3, 3)
    sample = Sample(x, torch.ones_like(c), eye, 4, 1e9, c, weights.vjp(x, c))
    check = FactorCheck(weights, sample, weights.leaves)
    for some in (slice(0, 4), slice(4, 7)):
        passed = forward(weights, x[some], weights.leaves)
        batch = check.batch(passed, eye[some], some)
        for gradients in passed.passes(eye[some]):
            batch.add(gradients)
        batch.settle()
    check.settle()
    for leaf in weights.leaves:
        wrong = sample.gradient.clone()
        wrong[leaf.span] *= 1.001
        check.sample = dataclasses.replace(sample, gradient=wrong)
        with pytest.raises(ValueError, match=f"layer '{leaf.name}'"):
            check.settle()
