import math

import gpytorch
import numpy as np
import pytest
import torch
from scipy.optimize import brentq

import bayesgen as bg
from bayesgen.pacbayes import maurer

F64 = torch.float64


def data(n=40, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = 2 * torch.rand(n, generator=g, dtype=F64) - 1
    return x, x + torch.cos(math.pi * x) + 0.1 * torch.randn(n, generator=g, dtype=F64)


def test_the_table():
    x, y = data()
    models = {
        "line": bg.Polynomial(1).fit(x, y),
        "order-dependent": bg.Polynomial(20, bg.priors.geometric(2.0)).fit(x, y),
        "gp": bg.GaussianProcess(gpytorch.kernels.RBFKernel()).fit(x, y),
    }
    table = bg.compare(models)
    assert set(table.index) == {*models, "null"}
    assert table.log_evidence.is_monotonic_decreasing
    assert table.delta.iloc[0] == 0
    np.testing.assert_allclose(table.fit - table.complexity, table.log_evidence, rtol=1e-9)
    assert table.probability.sum() == pytest.approx(1)
    odds = table.probability["line"] / table.probability["gp"]
    factor = models["line"].evidence.log_bayes_factor(models["gp"].evidence)
    assert odds == pytest.approx(math.exp(float(factor)), rel=1e-6)
    sure = bg.compare(models, prior={"line": 1, "order-dependent": 0, "gp": 0})
    assert sure.probability["line"] == 1
    lines = repr(table).splitlines()
    assert len(lines) == 5
    assert "bound" in lines[0]
    assert all(len(line) < 110 for line in lines)
    assert table.bound.isna().all()  # everything was learnt on the data


def test_a_model_worse_than_guessing_is_seen_to_be():
    x, y = data()
    bad = bg.Polynomial(3, 1e-6, 1e-4, hyperparameters="fixed").fit(x, y)
    assert list(bg.compare({"bad": bad}).index) == ["null", "bad"]
    labels = torch.randint(0, 3, (30,), generator=torch.Generator().manual_seed(0))
    gp = bg.GaussianProcess(
        gpytorch.kernels.RBFKernel(), likelihood="softmax", hyperparameters="fixed"
    ).fit(x[:30], labels)
    table = bg.compare({"gp": gp})
    assert table.log_evidence["null"] == pytest.approx(-30 * math.log(3))
    assert table.complexity["null"] == 0


def test_bounds_where_the_prior_is_fixed():
    x, y = data()
    posterior = bg.Polynomial(5, noise=0.05, hyperparameters=("noise",)).fit(x, y)
    bound = bg.compare({"a": posterior}, tolerance=1.0).bound["a"]
    draws = posterior.latent_samples(20_000)[..., 0]
    risk = float((1 - torch.exp(-0.5 * (y - draws) ** 2)).mean())
    assert posterior.gibbs_risk(1.0) == pytest.approx(risk, abs=1e-3)
    want = maurer(posterior.gibbs_risk(1.0), posterior.evidence.complexity, 40, 0.05)
    assert bound == pytest.approx(float(want))


@pytest.mark.parametrize("likelihood", ["bernoulli", "softmax"])
def test_gibbs_risk_of_labels(likelihood):
    x, y = data()
    labels = (y > 0).long()
    kernel = gpytorch.kernels.RBFKernel()
    gp = bg.GaussianProcess(kernel, likelihood=likelihood, hyperparameters="fixed")
    posterior = gp.fit(x, labels)
    f = posterior.latent_samples(4000)
    chosen = (f[..., 0] > 0).long() if likelihood == "bernoulli" else f.argmax(-1)
    risk = float((chosen != labels).double().mean())
    assert posterior.gibbs_risk() == pytest.approx(risk, abs=5e-3)
    assert posterior.gibbs_risk() < bg.compare({"gp": posterior}).bound["gp"] < 1


@pytest.mark.parametrize(("risk", "kl", "n"), [(0.0, 0.0, 10), (0.1, 20.0, 1000), (1.0, 5.0, 50)])
def test_maurer_inverts_the_binary_kl(risk, kl, n):
    budget = (kl + math.log(2 * math.sqrt(n) / 0.05)) / n

    def excess(q):
        return (
            torch.special.xlogy(torch.tensor(risk), torch.tensor(risk / q)).item()
            + ((1 - risk) * math.log((1 - risk) / (1 - q)) if risk < 1 else 0.0)
            - budget
        )

    want = 1.0 if risk == 1 else brentq(excess, max(risk, 1e-12), 1 - 1e-12)
    assert float(maurer(risk, kl, n)) == pytest.approx(want, abs=1e-6)


def test_other_data_are_refused():
    x, y = data()
    a = bg.Polynomial(2).fit(x, y)
    with pytest.raises(ValueError, match="a has n=40 observations, b has n=30"):
        bg.compare({"a": a, "b": bg.Polynomial(2).fit(x[:30], y[:30])})
    with pytest.raises(ValueError, match="different targets"):
        bg.compare({"a": a, "b": bg.Polynomial(2).fit(x, 2 * y)})
    with pytest.raises(ValueError, match="different targets"):
        a.evidence.log_bayes_factor(bg.Polynomial(2).fit(x, -y).evidence)
    counts = (y > 0).double()  # the same numbers as a density and as labels
    with pytest.raises(ValueError, match="different targets"):
        bg.compare(
            {
                "real": bg.Polynomial(2).fit(x, counts),
                "labels": bg.Polynomial(2, likelihood="bernoulli").fit(x, counts),
            }
        )


def test_what_cannot_be_compared():
    x, y = data()
    a = bg.Polynomial(2).fit(x, y)
    with pytest.raises(ValueError, match="non-empty dict"):
        bg.compare({})
    with pytest.raises(TypeError, match=r"models\['a'\] must be a posterior"):
        bg.compare({"a": 3.0})
    with pytest.raises(ValueError, match="prior must name the models"):
        bg.compare({"a": a}, prior={"b": 1.0})
    with pytest.raises(ValueError, match="batch of"):
        bg.compare({"a": bg.Polynomial(2).fit(x, torch.stack([y, y])[..., None])})


def test_an_evidence_alone_will_do():
    x, y = data()
    a = bg.Polynomial(2).fit(x, y)
    table = bg.compare({"a": a.evidence})
    assert table.log_evidence["null"] == bg.compare({"a": a}).log_evidence["null"]
    batch = bg.Polynomial(2).fit(x, torch.stack([2 * y, y])[..., None])
    of_one = bg.compare({"a": a, "b": batch.evidence[1]})
    assert of_one.delta["b"] == pytest.approx(0, abs=1e-9)
    assert float(batch.evidence[1].conditional(3).fit) == pytest.approx(
        float(a.evidence.conditional(3).fit)
    )
    bare = bg.Evidence(fit=-10.0, complexity=2.0, n=5, effective_dimension=1.0)
    lone = bg.compare({"a": bare})
    assert list(lone.index) == ["a", "null"]
    assert math.isnan(lone.log_evidence["null"])
    given = bg.compare({"a": bare}, null=bare)
    assert given.delta["null"] == 0


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
@pytest.mark.filterwarnings("ignore")  # arviz's own: pandas deprecations, high Pareto k
def test_arviz_takes_every_posterior(fit):
    import arviz as az

    x, y = data(20)
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


def test_draws_of_the_function_have_its_moments():
    x, y = data(15)
    for posterior in (
        bg.GaussianProcess(gpytorch.kernels.RBFKernel()).fit(x, y),
        bg.GaussianProcess(gpytorch.kernels.RBFKernel(), likelihood="softmax").fit(
            x, (y > 0).long()
        ),
    ):
        mean, variance = posterior.marginals()
        if variance.ndim == 3:
            variance = variance.diagonal(dim1=-2, dim2=-1)
        draws = posterior.latent_samples(20_000)
        size = float(variance.max()) ** 0.5
        torch.testing.assert_close(draws.mean(0), mean, atol=0.04 * size, rtol=0)
        torch.testing.assert_close(draws.var(0), variance, atol=0.06 * size**2, rtol=0)


def test_arviz_wants_one_task():
    x, y = data(20)
    batch = bg.Polynomial(2).fit(x, torch.stack([y, -y])[..., None])
    with pytest.raises(ValueError, match="choose one"):
        batch.to_arviz()
    assert batch.to_arviz(task=1, draws=8).attrs["fit"] == float(batch.evidence.fit[1])
