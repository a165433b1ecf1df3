"""Tests of `bayesgen.likelihoods.likelihood`."""

import pytest
import torch

from bayesgen.likelihoods.likelihood import Likelihood, Separable, resolve, with_noise

F64 = torch.float64
NAMES = ["bernoulli", "poisson", "student-t", "categorical", "softmax"]


class Logistic(Separable):
    """A likelihood of a user's own, which needs two methods."""

    name = "logistic"
    density = True

    def targets(self, y, like):
        return self.observations("y", y, like)

    def element(self, y, f):
        return -(y - f) - 2 * torch.nn.functional.softplus(-(y - f))

    def observe(self, f):
        return torch.distributions.Uniform(f, f + 1)

    def predictive(self, mean, covariance):
        return torch.distributions.Normal(mean, covariance.sqrt())


def test_names_are_resolved_to_likelihoods():
    assert resolve("gaussian") is None
    for name in NAMES:
        assert isinstance(resolve(name), Likelihood)
    own = Logistic()
    assert resolve(own) is own
    with pytest.raises(ValueError, match="likelihood must be one of 'gaussian'"):
        resolve("probit")
    with pytest.raises(TypeError, match="a name or a bayesgen.likelihoods.Likelihood, got int"):
        resolve(3)


def test_derivatives_of_an_own_likelihood_match_closed_forms():
    f = torch.linspace(-3, 3, 7, dtype=F64)[:, None]
    y = torch.linspace(1, -1, 7, dtype=F64)[:, None]
    found = Logistic().derivatives(y, f)
    p = torch.sigmoid(y - f)  # This is the logistic distribution function.
    torch.testing.assert_close(found.first, 2 * p - 1)
    torch.testing.assert_close(found.second, -2 * p * (1 - p))
    torch.testing.assert_close(found.third, 2 * p * (1 - p) * (1 - 2 * p))
    values, vectors = Logistic().roots(y, f)
    torch.testing.assert_close(values, 2 * p * (1 - p))
    assert torch.equal(vectors, torch.ones(7, 1, 1, dtype=F64))


def test_what_only_labels_have_raises():
    own, f = Logistic(), torch.zeros(3, 1, dtype=F64)
    assert own.kind == "real"
    with pytest.raises(ValueError, match="has no classes"):
        own.num_guesses(1)
    with pytest.raises(ValueError, match="no 0–1 loss"):
        own.errors(f, f)
    with pytest.raises(ValueError, match='"probit" is for labels'):
        own.probit(f, f)
    with pytest.raises(ValueError, match=r"net must have 2 outputs .* got 3"):
        own.for_outputs(3, torch.Size([5, 2]))
    with pytest.raises(ValueError, match="not log-concave"):
        resolve("student-t").roots(torch.full((1, 1), 9.0, dtype=F64), torch.zeros(1, 1).double())


def test_noise_is_replaced_in_a_copy():
    likelihood = resolve("student-t")
    other = with_noise(likelihood, torch.tensor(-1.0, dtype=F64))
    assert float(other.log_noise) == -1.0
    assert float(likelihood.log_noise) == 0.0
    assert with_noise(likelihood, None) is likelihood


def test_observations_have_one_row_for_each_input():
    like = torch.zeros(4, 1, dtype=F64)
    own = Logistic()
    assert own.observations("y", [1, 2, 3, 4], like).shape == (1, 4, 1)
    assert own.observations("y", torch.ones(2, 4), like).shape == (2, 4, 1)
    with pytest.raises(ValueError, match=r"y must have shape \(n,\) or \(B, n\) with n = 4"):
        own.observations("y", torch.ones(3), like)
