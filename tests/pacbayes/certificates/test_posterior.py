"""Tests of `bayesgen.pacbayes.certificates.posterior`."""

import math

import pytest
import torch

import bayesgen as bg
from bayesgen import pacbayes
from tests.helpers import rbf_kernel


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        (bg.Polynomial(3, 1.0, 0.3, kind="legendre", hyperparameters="fixed"), "input_range"),
        (bg.Fourier(3, 1.0, 0.3, hyperparameters="fixed"), "period"),
        (
            bg.Polynomial(3, kind="chebyshev", likelihood="bernoulli", hyperparameters="fixed"),
            "input_range",
        ),
    ],
)
def test_basis_fitted_to_inputs_raises(model, wanted):
    x = torch.linspace(-1, 1, 30, dtype=torch.float64)
    y = x > 0 if model.likelihood is not None else torch.where(x > 0, 1.0, -1.0).double()
    posterior = model.fit(x, y)
    with pytest.raises(ValueError, match=rf"prior depends on.*pass {wanted}"):
        posterior.certificate()
    assert math.isnan(bg.compare({"a": posterior}).bound["a"])
    if model.likelihood is None:
        with pytest.raises(ValueError, match="prior depends on"):
            pacbayes.certify(model, x, y)
        assert pacbayes.certify(model, x, y, split=0.5).n == 15


def test_outputscale_is_part_of_prior_with_prior_mean(digits, parity):
    """An outputscale that was learnt from the data must not enter the bound."""
    gp = bg.GaussianProcess(rbf_kernel(2.0), mean=0.5)
    made = pacbayes.certify(gp, digits.x_train, parity)
    assert made.settings["scale"] == 1.0
    with pytest.raises(ValueError, match="scale was learnt from the data"):
        gp.fit(digits.x_train, parity, hyperparameters=("scale", "noise")).certificate()


def test_vote_certificate_names_its_bound(digits, parity):
    gp = bg.GaussianProcess(rbf_kernel(2.0), hyperparameters=("scale", "noise")).fit(
        digits.x_train, parity
    )
    gibbs, vote = gp.certificate(), gp.certificate(predictor="vote")
    assert vote.predictor == "vote"
    assert vote.bound == pytest.approx(gibbs.vote)
    with pytest.raises(ValueError, match="is for class labels"):
        gp.certificate(loss="squared", clip=1.0, predictor="vote", grid={"scale": [1.0, 2.0]})
    assert "Twice the Gibbs" in vote.theorem or "C-bound" in vote.theorem
    assert vote.bound <= 2 * gibbs.bound + 0.05
    assert "majority vote" in str(vote)


def test_certificate_holds_in_simulation():
    """The bound fails in at most a share δ of 300 draws of a known problem."""
    generator = torch.Generator().manual_seed(0)
    points = torch.linspace(-1, 1, 6, dtype=torch.float64)
    positive = torch.tensor([0.1, 0.2, 0.4, 0.7, 0.9, 0.6], dtype=torch.float64)
    model = bg.GaussianProcess(rbf_kernel(0.7), 0.5, hyperparameters="fixed")
    delta, draws, failures = 0.1, 300, 0
    for _ in range(draws):
        which = torch.randint(6, (25,), generator=generator)
        chance = torch.rand(25, generator=generator, dtype=torch.float64)
        y = torch.where(chance < positive[which], 1.0, -1.0).double()
        posterior = model.fit(points[which], y)
        made = posterior.certificate(delta)
        latent = posterior.predict(points, latent=True)
        negative = torch.special.ndtr(-latent.mean / latent.stddev)
        truth = float((positive * negative + (1 - positive) * (1 - negative)).mean())
        failures += truth > made.bound
    assert failures <= delta * draws


def test_batch_requires_task(regression):
    x, y = regression
    posterior = bg.GaussianProcess(rbf_kernel(0.5), 0.1, hyperparameters="fixed").fit(x, y)
    with pytest.raises(ValueError, match=r"task must be given, 0\.\.2"):
        posterior.certificate(loss="squared", clip=1.0)
    assert posterior.certificate(loss="squared", clip=1.0, task=2).n == 40
