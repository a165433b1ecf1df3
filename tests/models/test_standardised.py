"""Tests of `bayesgen.models.standardised`: evidence and predictions in the units of the data."""

import copy
import pickle

import gpytorch
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

import bayesgen as bg

N = 30
RNG = np.random.default_rng(1)
X = torch.tensor(RNG.normal(size=(N, 2)) * [3.0, 0.01] + [100.0, 5.0])
Y = torch.sin(X[:, 0]) * 40 + 0.5 * torch.tensor(RNG.normal(size=N)) + 7
MODELS = {
    "gp": lambda **more: bg.GaussianProcess(gpytorch.kernels.RBFKernel(), **more),
    "linear": lambda **more: bg.LinearModel(**more),
}


def scaled(values):
    return (values - values.mean(0)) / values.std(0, correction=0)


def value(posterior):
    return float(posterior.evidence.log_marginal_likelihood)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_the_evidence_is_that_of_scaled_targets_less_n_log_s(model):
    found, inner = model().fit(X, Y, standardise=True), model().fit(scaled(X), scaled(Y))
    expected = value(inner) - N * float(Y.std(correction=0).log())
    assert value(found) == pytest.approx(expected, abs=1e-9)
    assert value(found.standardised) == pytest.approx(value(inner), abs=1e-9)
    mean = inner.predict(scaled(X)[:4]).mean * Y.std(correction=0) + Y.mean()
    assert torch.allclose(found.predict(X[:4]).mean, mean)
    assert torch.allclose(found.fitted()[:4], mean)


def test_the_evidence_is_the_density_of_the_targets_under_the_equivalent_raw_model():
    found = bg.GaussianProcess(gpytorch.kernels.RBFKernel()).fit(X, Y, standardise=True)
    inner, s = found.standardised, Y.std(correction=0)
    kernel = gpytorch.kernels.ScaleKernel(inner.kernels[0])
    kernel.outputscale = inner.scale * s**2
    raw = bg.GaussianProcess(
        kernel, inner.noise * s**2, mean=float(Y.mean()), hyperparameters="fixed"
    ).fit(scaled(X), Y)
    assert value(found) == pytest.approx(value(raw), abs=1e-6)
    assert torch.allclose(found.predict(X).stddev, raw.predict(scaled(X)).stddev)
    assert bg.compare({"one": found, "two": raw}).loc["one", "same_as"] == "two"


@settings(max_examples=15, deadline=None)
@given(
    factor=st.floats(1e-3, 1e3),
    shift=st.floats(-1e3, 1e3),
    units=st.tuples(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3)),
)
def test_the_units_of_the_data_do_not_matter(factor, shift, units):
    model = bg.Polynomial(2)
    x = torch.tensor(RNG.normal(size=(N, 2)))
    one = model.fit(x, Y, standardise=True)
    two = model.fit(x * torch.tensor(units), factor * Y + shift, standardise=True)
    assert value(two) == pytest.approx(value(one) - N * np.log(factor), abs=1e-5)


def test_several_outputs_and_tasks_have_their_own_scale():
    both = torch.stack([Y, 1e3 * Y.flip(0)], -1)
    two = bg.LinearModel().fit(X, both, standardise=True)
    inner = bg.LinearModel().fit(scaled(X), scaled(both))
    expected = value(inner) - N * float(both.std(0, correction=0).log().sum())
    assert value(two) == pytest.approx(expected, abs=1e-8)
    size = both.std(0, correction=0)
    assert torch.allclose(two.predict(X).stddev, inner.predict(scaled(X)).stddev * size)
    each = [bg.LinearModel().fit(X, y, standardise=True) for y in both.T]
    tasks = bg.LinearModel().fit(X, both.T[..., None], standardise=True)
    assert tasks.evidence.batch_shape == (2,)
    for b, alone in enumerate(each):
        assert value(tasks.task(b)) == pytest.approx(value(alone), abs=1e-6)
        assert torch.allclose(tasks.task(b).predict(X).mean[:, 0], alone.predict(X).mean)


def test_joint_predictions_are_in_the_units_of_the_targets():
    model = bg.GaussianProcess(gpytorch.kernels.RBFKernel(), starts=1)
    found = model.fit(X, torch.stack([Y, 1e3 * Y.flip(0)], -1), standardise=True)
    joint, single = found.joint(X[:4]), found.predict(X[:4])
    assert torch.allclose(joint.mean.T, single.mean)
    assert torch.allclose(joint.variance.T, single.variance, rtol=1e-6)


def test_a_noise_variance_that_is_kept_is_in_the_units_of_the_targets():
    for model in (
        bg.LinearModel(noise=0.5, hyperparameters=("scale",)),
        bg.GaussianProcess(gpytorch.kernels.RBFKernel(), noise=torch.ones(N).double()),
    ):
        with pytest.raises(ValueError, match="in the units of y²"):
            model.fit(X, Y, standardise=True)
    started = bg.LinearModel(noise=0.5, hyperparameters=("scale", "noise"))
    assert value(started.fit(X, Y, standardise=True)) == pytest.approx(
        value(bg.LinearModel().fit(X, Y, standardise=True)), abs=1e-6
    )


@pytest.mark.parametrize("likelihood", ["softmax", "bernoulli", "poisson"])
def test_every_likelihood_has_a_summary_and_a_report(likelihood, tmp_path):
    targets = torch.arange(N) if likelihood == "poisson" else np.where(Y > 7, "high", "low")
    found = bg.LinearModel(likelihood=likelihood).fit(X, targets, standardise=True)
    assert found.summary().hyperparameters.loc["scale", "value"] > 0
    bg.report(found, tmp_path / "report.html")


def test_draws_and_densities_are_in_the_units_of_the_targets():
    found = bg.LinearModel().fit(X, Y, standardise=True)
    draws = found.latent_samples(2000)[..., 0]
    mean, variance = found.marginals()
    assert torch.allclose(draws.mean(0), mean[:, 0], atol=5 * float(variance.max().sqrt()) / 40)
    assert torch.allclose(draws.var(0), variance[:, 0], rtol=0.2)
    density = found.log_likelihood(mean)
    noise = found.standardised.noise * Y.var(correction=0)
    expected = torch.distributions.Normal(mean[:, 0], noise.sqrt()).log_prob(Y)
    assert torch.allclose(density, expected)
    assert found.to_arviz(draws=40).posterior.sizes["draw"] == 10


def test_labels_keep_their_evidence():
    labels = np.where(Y > 7, "high", "low")
    found = bg.LinearModel(likelihood="bernoulli").fit(X, labels, standardise=True)
    same = bg.LinearModel(likelihood="bernoulli").fit(scaled(X), labels)
    assert value(found) == pytest.approx(value(same), abs=1e-8)
    assert (found.classify(X) == same.classify(scaled(X))).all()


def test_what_cannot_be_standardised_is_refused():
    with pytest.raises(ValueError, match="y must vary"):
        bg.LinearModel().fit(X, torch.ones(N, dtype=torch.float64), standardise=True)
    with pytest.raises(ValueError, match="student-t likelihood"):
        bg.LinearModel(likelihood="student-t").fit(X, Y, standardise=True)
    found = bg.LinearModel().fit(X, Y, standardise=True)
    with pytest.raises(ValueError, match="stated before the data"):
        found.certificate()
    with pytest.raises(ValueError, match="2 columns"):
        found.predict(X[:, :1])


def test_a_constant_column_is_centred_and_kept():
    x = torch.cat([X, torch.full((N, 1), 3.0, dtype=torch.float64)], 1)
    assert value(bg.LinearModel().fit(x, Y, standardise=True)) == pytest.approx(
        value(bg.LinearModel().fit(X, Y, standardise=True)), abs=1e-8
    )


def test_it_can_be_copied_pickled_and_saved(tmp_path):
    found = bg.LinearModel().fit(X, Y, standardise=True)
    found.save(tmp_path / "a.bayesgen")
    for again in (
        bg.load(tmp_path / "a.bayesgen"),
        pickle.loads(pickle.dumps(found)),
        copy.deepcopy(found),
    ):
        assert torch.equal(again.predict(X).mean, found.predict(X).mean)
        assert value(again) == value(found)


@pytest.mark.parametrize("outputs", [1, 2])
def test_components_are_in_the_units_of_the_data(outputs):
    t = torch.linspace(1990, 2000, 60, dtype=torch.float64)
    y = 300 + 4 * (t - 1990) + 5 * torch.sin(2 * torch.pi * t) + 0.3 * torch.cos(91 * t)
    targets = y if outputs == 1 else torch.stack([y, -10 * y], 1)
    model = bg.GaussianProcess(bg.kernels.parsed("linear + periodic"), starts=2)
    found = model.fit(t, targets, standardise=True)
    new = torch.linspace(1995, 2003, 7, dtype=torch.float64)
    parts = found.components(new)
    total = sum(part.mean for part in parts.values()) + parts.prior_mean
    torch.testing.assert_close(total, found.mean(new))
    size = found.y_scaling.size.reshape(-1)
    inner = found.standardised.components((new - t.mean()) / t.std(correction=0))
    for name, part in parts.items():
        expected = size * inner[name].stddev if outputs == 2 else size[0] * inner[name].stddev
        torch.testing.assert_close(part.stddev, expected)
    torch.testing.assert_close(parts.x[:, 0], new)
    period = float(parts.sentences["Periodic"].removeprefix("a period of "))
    assert period == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize("package", ["botorch", "sklearn"])
def test_adopted_models_that_scale_their_targets_have_components(package):
    x = torch.linspace(0, 1.3, 25, dtype=torch.float64)[:, None]
    y = 200 + 30 * x[:, 0] + 4 * torch.sin(20 * x[:, 0])
    if package == "botorch":
        models = pytest.importorskip("botorch.models")
        kernel = bg.kernels.parsed("linear + rbf").double()
        theirs = models.SingleTaskGP(x, y[:, None], covar_module=kernel)
    else:
        processes = pytest.importorskip("sklearn.gaussian_process")
        kernel = processes.kernels.RBF(0.1) + processes.kernels.RBF(2.0)
        theirs = processes.GaussianProcessRegressor(
            kernel, alpha=0.01, normalize_y=True, optimizer=None
        ).fit(x.numpy(), y.numpy())
    found = bg.evidence_of(theirs)
    assert isinstance(found, bg.models.StandardisedPosterior)
    parts = found.components(x)
    assert len(parts) == 2
    total = sum(part.mean for part in parts.values())
    mean = found.mean(x)
    total = total + parts.prior_mean
    torch.testing.assert_close(total.reshape(-1), mean.reshape(-1))


def test_only_gaussian_processes_have_components():
    t = torch.linspace(0, 1, 30, dtype=torch.float64)
    found = bg.LinearModel().fit(torch.stack([t, t**2], 1), t + 1, standardise=True)
    with pytest.raises(AttributeError, match="LinearPosterior has no components"):
        found.components(t)
