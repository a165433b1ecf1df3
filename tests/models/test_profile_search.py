"""Tests of `bayesgen.models.profile_search`."""

import pytest
import torch

from bayesgen import Spectrum
from bayesgen.models.profile_search import Line, search_profile

F64 = torch.float64


class Lengthscales:
    """K(t) of a squared-exponential kernel with length-scale e^t, and its spectra."""

    def __init__(self, x, y):
        self.squares, self.y = torch.cdist(x, x) ** 2, y

    def matrix(self, t):
        return torch.exp(-0.5 * self.squares * torch.as_tensor(-2 * t, dtype=F64).exp())

    def spectrum(self, t):
        return Spectrum.dense(self.matrix(t), self.y)

    def slope(self, t, spectrum, scale, noise, alpha):
        slopes = []
        for b in range(len(self.y)):
            z = torch.tensor(t, dtype=F64, requires_grad=True)
            A = scale[b] * self.matrix(z) + noise[b] * torch.eye(len(self.squares), dtype=F64)
            normal = torch.distributions.MultivariateNormal(torch.zeros(len(A), dtype=F64), A)
            slopes.append(torch.autograd.grad(normal.log_prob(self.y[b].mT).sum(), z)[0])
        return torch.stack(slopes)

    def describe(self, t):
        return f"t = {t:.2f}"


@pytest.fixture
def family():
    g = torch.Generator().manual_seed(0)
    x = torch.rand(25, 1, generator=g, dtype=F64)
    waves = torch.stack([torch.sin(4 * x), torch.sin(14 * x)])
    return Lengthscales(x, waves + 0.2 * torch.randn(2, 25, 1, generator=g, dtype=F64))


def search(family, **settings):
    given = {
        "low": -4.0, "high": 2.0, "step": 1.0, "scale": None, "noise": None, "tolerance": 1e-5,
        "most": 60, "progress": None,
    }  # fmt: skip
    given |= settings
    line = Line([-1.0], given.pop("low"), given.pop("high"), given.pop("step"))
    return search_profile(family, line, **given)


def test_every_task_reaches_the_best_of_a_fine_grid(family):
    found = search(family)
    grid = torch.linspace(-4, 2, 241, dtype=F64).tolist()
    values = torch.stack(
        [family.spectrum(t).maximise().evidence.log_marginal_likelihood for t in grid]
    )
    assert (found.parts.log_marginal_likelihood >= values.amax(0) - 1e-4).all()
    assert not found.at_bound.any()
    assert found.parameter[0] > found.parameter[1]  # The slower wave has the longer scale.
    for b in range(2):
        K = found.scale[b] * family.matrix(found.parameter[b])
        A = K + found.noise[b] * torch.eye(25, dtype=F64)
        torch.testing.assert_close(
            found.alpha[b], torch.linalg.solve(A, family.y[b]), rtol=1e-6, atol=1e-6
        )


def test_edge_of_the_range_is_reported(family):
    found = search(family, low=-1.3, high=-1.2)
    assert found.at_bound.all()


def test_limit_of_spectra_warns(family):
    heard = []
    with pytest.warns(RuntimeWarning, match="stopped at 2 spectra"):
        found = search(family, most=2, progress=lambda *a: heard.append(a[0]))
    assert found.spectra <= 2
    assert heard == [1, 2]


def test_given_scale_and_noise_are_kept(family):
    found = search(family, scale=torch.tensor(0.7, dtype=F64), noise=torch.tensor(0.1, dtype=F64))
    assert found.scale.tolist() == [0.7, 0.7]
    assert found.noise.tolist() == [0.1, 0.1]
