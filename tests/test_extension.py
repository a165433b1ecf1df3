"""New kinds are registered from outside the package, each in one place.

Tests of `bayesgen.covariance.radial`, `bayesgen.likelihoods.likelihood`,
`bayesgen.curvature.factory`, `bayesgen.pacbayes.certificates.request`,
`bayesgen.experiments.experiment` and `bayesgen.data.loading`.
"""

import math

import gpytorch
import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib.figure import Figure
from torch.distributions import Binomial
from typer.testing import CliRunner

import bayesgen as bg
from bayesgen.covariance import radial
from bayesgen.curvature import factory
from bayesgen.data import loading
from bayesgen.experiments import REPRODUCTIONS
from bayesgen.experiments.experiment import experiment
from bayesgen.likelihoods import likelihood as likelihoods
from bayesgen.likelihoods.likelihood import Separable
from bayesgen.pacbayes.certificates import request

F64 = torch.float64


def data():
    x = torch.linspace(0, 1, 25, dtype=F64)[:, None]
    return x, torch.sin(6 * x[:, 0]) + 0.1 * torch.cos(97 * x[:, 0])


def test_a_radial_kernel(monkeypatch):
    monkeypatch.setattr(radial, "_RADIAL", dict(radial._RADIAL))

    class Cauchy(gpytorch.kernels.Kernel):
        has_lengthscale = True

        def forward(self, x1, x2, diag=False, **settings):
            a, b = x1 / self.lengthscale, x2 / self.lengthscale
            q = self.covar_dist(a, b, diag=diag, square_dist=True)
            return 1 / (1 + q)

    x, y = data()
    plain = bg.GaussianProcess(Cauchy()).fit(x, y)

    @radial.radial(Cauchy)
    def _(kernel):
        return radial.Profile(value=lambda q: 1 / (1 + q), slope=lambda q: 2 * q / (1 + q).square())

    fast = bg.GaussianProcess(Cauchy()).fit(x, y)
    assert torch.allclose(fast.lengthscale, plain.lengthscale, rtol=1e-2)
    gap = fast.evidence.log_marginal_likelihood - plain.evidence.log_marginal_likelihood
    assert abs(float(gap)) < 1e-3


def test_a_likelihood(monkeypatch):
    monkeypatch.setattr(likelihoods, "_NAMED", dict(likelihoods._NAMED))

    @likelihoods.named("two-coins")
    class TwoCoins(Separable):
        """The number of heads of two coins with logit f."""

        name = "two-coins"
        one_output = True

        def targets(self, y, like):
            return self.observations("y", y, like)

        def element(self, y, f):
            choose = math.log(2) * (y == 1)
            return choose + y * f - 2 * torch.nn.functional.softplus(f)

        def observe(self, f):
            return Binomial(2, logits=f, validate_args=False)

        def predictive(self, mean, covariance):
            return self.observe(mean)

    x, _ = data()
    y = torch.tensor([0, 1, 2, 1, 2] * 5)
    for model in (
        bg.GaussianProcess(gpytorch.kernels.RBFKernel(), likelihood="two-coins"),
        bg.Polynomial(2, likelihood="two-coins"),
    ):
        posterior = model.fit(x, y)
        table = bg.compare({"model": posterior})
        assert set(table.index) == {"model", "null"}
        assert posterior.gibbs_risk() is None
        assert posterior.to_arviz(draws=8) is not None
    net = bg.networks.MLP(1, (3,), 1).double()
    bg.fit_map(net, x, y, "two-coins", prior_precision=1.0)
    found = bg.Laplace(net, "two-coins", hyperparameters="fixed").fit(x, y)
    assert found.evidence.log_marginal_likelihood < 0


def test_a_curvature(monkeypatch):
    def doubled_diagonal(request):
        made = factory.block_diagonal.diagonal(request.weights, request.gathered(), None)
        return request.by_blocks(made, "a toy")

    monkeypatch.setitem(factory.CURVATURES, "toy", doubled_diagonal)
    x, y = data()
    net = bg.networks.MLP(1, (), 1).double()
    bg.fit_map(net, x, y[:, None], "gaussian", prior_precision=1.0, noise=0.1)
    settings = {"noise": 0.1, "hyperparameters": "fixed"}
    toy = bg.Laplace(net, "gaussian", curvature="toy", **settings).fit(x, y[:, None])
    diag = bg.Laplace(net, "gaussian", curvature="diag", **settings).fit(x, y[:, None])
    assert "a toy" in toy.evidence.method
    assert toy.evidence.log_marginal_likelihood == diag.evidence.log_marginal_likelihood


def test_a_bound(monkeypatch):
    def hoeffding(risk, kl, n, delta):
        return torch.as_tensor(risk) + torch.as_tensor((kl - math.log(delta)) / n).sqrt()

    theorem = request.Theorem("A toy", hoeffding)
    monkeypatch.setitem(request.THEOREMS, "toy", theorem)
    x, y = data()
    kernel = gpytorch.kernels.RBFKernel()
    labels = torch.where(y > 0, 1.0, -1.0).double()
    gp = bg.GaussianProcess(kernel, hyperparameters=("scale", "noise")).fit(x, labels)
    certificate = gp.certificate(bound="toy")
    assert certificate.theorem == "A toy"
    assert certificate.bound > certificate.risk


def test_an_experiment(monkeypatch, tmp_path):
    def plot(result):
        figure = Figure()
        figure.add_subplot().plot(result["values"])
        return figure

    @experiment(plot=plot)
    def toy(*, command="toy"):
        return xr.Dataset({"values": ("i", [1.0, 2.0])}, attrs={"title": "A toy"})

    monkeypatch.setitem(REPRODUCTIONS, "toy", toy)
    from bayesgen.commands.app import app

    result = CliRunner().invoke(app, ["reproduce", "toy", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert {p.name for p in tmp_path.iterdir()} == {"toy.png", "toy.nc", "toy.html", "table.md"}


def test_a_data_set(monkeypatch):
    monkeypatch.setattr(loading, "_READERS", dict(loading._READERS))

    @loading.reader("toy")
    def _(folder):
        x, labels = np.arange(12.0).reshape(6, 2), np.arange(6) % 2
        return x[:4], labels[:4], x[4:], labels[4:], ("even", "odd")

    assert "toy" in bg.data.names()
    toy = bg.data.load("toy")
    assert toy.classes == ("even", "odd")
    result = bg.experiments.corruption("toy", levels=[0.0], seeds=1)
    assert result.sizes["level"] == 1


@pytest.mark.parametrize("name", ["nothing", "toy"])
def test_an_unknown_name_is_refused_with_the_known_ones(name):
    with pytest.raises(ValueError, match="digits"):
        bg.data.load(name)
