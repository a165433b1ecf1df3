"""Tests of `bayesgen.models.deep.objective`."""

import pytest
import torch

from bayesgen.models.deep.features import DeepFeatures
from bayesgen.models.deep.objective import conditional, evidence, step
from tests.models.deep.problems import head, mlp, wave

F64 = torch.float64


@pytest.mark.parametrize("name", ["evidence", "conditional"])
def test_gradients_match_autograd_of_normal_density(name):
    x, y = wave(15)
    y = torch.stack([y, y.square()], -1)
    net, own = mlp(), head()
    features = DeepFeatures(net, 4, x)
    generator = torch.Generator().manual_seed(0)
    objective = evidence if name == "evidence" else conditional(0.6)
    value, slope = step(own, features(x), y, objective, generator)
    features.pull(x, slope)

    def log_p(rows):
        A = own.covariance(features.net(x))[rows][:, rows]
        normal = torch.distributions.MultivariateNormal(torch.zeros(len(rows), dtype=F64), A)
        return normal.log_prob(y[rows].mT).sum()

    want = log_p(torch.arange(15))
    if name == "conditional":
        first = torch.randperm(15, generator=torch.Generator().manual_seed(0))[:9]
        want = want - log_p(first)
    assert value == pytest.approx(float(want.detach()), rel=1e-10)
    parameters = [*features.parameters(), *own.free()]
    for p, g in zip(parameters, torch.autograd.grad(-want, parameters), strict=True):
        torch.testing.assert_close(p.grad, g, rtol=1e-7, atol=1e-9)
