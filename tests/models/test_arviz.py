"""Tests of `bayesgen.models.arviz`."""

import math

import gpytorch
import pytest
import torch

import bayesgen as bg
from tests.helpers import noisy_cosine

LEVELS = [0.0, 0.5, 1.0]


@pytest.fixture(scope="module")
def result():
    return bg.experiments.corruption("digits", train=200, test=150, levels=LEVELS, seeds=2)


@pytest.mark.parametrize(
    "fit",
    [
        lambda x, y: bg.Polynomial(3).fit(x, y),
        lambda x, y: bg.GaussianProcess(gpytorch.kernels.RBFKernel()).fit(x, y),
        lambda x, y: bg.GaussianProcess(gpytorch.kernels.RBFKernel(), likelihood="bernoulli").fit(
            x, y > 0
        ),
        lambda x, y: bg.GaussianProcess(gpytorch.kernels.RBFKernel(), likelihood="softmax").fit(
            x, (y > 0).long()
        ),
        lambda x, y: bg.Polynomial(2, likelihood="student-t").fit(x, y),
    ],
)
@pytest.mark.filterwarnings("ignore")  # ArviZ warns of pandas and of high Pareto k.
def test_arviz_takes_every_posterior(fit):
    import arviz as az

    x, y = noisy_cosine(20)
    posterior = fit(x, y)
    result = posterior.to_arviz(draws=400)
    assert "f" in str(az.summary(result, var_names=["f"]).index[0])
    loo = az.loo(result)
    assert math.isfinite(float(getattr(loo, "elpd_loo", getattr(loo, "elpd", math.nan))))
    assert len(az.compare({"a": result, "b": posterior.to_arviz(draws=400, seed=1)})) == 2
    want = float(posterior.evidence.log_marginal_likelihood)
    assert result.attrs["log_marginal_likelihood"] == want
    plot = getattr(az, "plot_ppc", None) or az.plot_ppc_dist
    assert plot(result) is not None


def test_arviz_requires_one_task():
    x, y = noisy_cosine(20)
    batch = bg.Polynomial(2).fit(x, torch.stack([y, -y])[..., None])
    with pytest.raises(ValueError, match="choose one"):
        batch.to_arviz()
    assert batch.to_arviz(task=1, draws=8).attrs["fit"] == float(batch.evidence.fit[1])


def test_arviz_summarises_posterior_draws(result):
    """Both ArviZ 0.23 and 1.x accept draws of a posterior."""
    import arviz as az

    data = bg.data.load("digits", train=60, test=5)
    y = bg.likelihoods.one_hot(data.y_train, 10)
    posterior = bg.GaussianProcess(bg.kernels.named("rbf")).fit(data.x_train, y)
    torch.manual_seed(0)
    draws = posterior.predict(data.x_test).sample((2, 100)).numpy()
    summary = az.summary(
        az.convert_to_datatree({"f": draws})
        if hasattr(az, "convert_to_datatree")
        else az.convert_to_inference_data({"f": draws})
    )
    assert len(summary) == 50
