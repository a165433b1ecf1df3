"""Tests of `bayesgen.sampling.anneal`: intervals of conjugate models, and singular models."""

import copy
import math
import pickle
import warnings

import numpy as np
import pytest
import scipy.integrate
import torch
from torch import nn

import bayesgen as bg
from bayesgen import networks
from bayesgen.sampling.target import network

SMALL = {"rungs": 40, "settle": 20, "chains": 16}
X = torch.linspace(-1, 1, 20, dtype=torch.float64)


def conjugate(seed, order=3):
    generator = torch.Generator().manual_seed(seed)
    y = torch.sin(3 * X) + 0.2 * torch.randn(len(X), generator=generator, dtype=torch.float64)
    return bg.Polynomial(order, noise=0.05, hyperparameters="fixed").fit(X, y)


@pytest.fixture(autouse=True)
def _short_runs_may_not_mix():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bg.NotMixedWarning)
        yield


@pytest.mark.parametrize("seed", range(3))
def test_the_interval_holds_the_exact_evidence_of_a_conjugate_model(seed):
    posterior = conjugate(seed)
    exact = float(posterior.evidence.log_marginal_likelihood)
    found = bg.anneal(posterior, seed=seed, **SMALL)
    for interval in (found.interval, found.importance, found.thermodynamic):
        assert interval.contains(exact)
    assert found.interval.upper - found.interval.lower < 10
    assert abs(found.log_evidence - exact) < 1.5
    assert abs(found.log_evidence - exact) < 5 * found.error + 0.3


@pytest.mark.slow
def test_intervals_hold_as_often_as_they_state():
    """Of 30 intervals at confidence 0.8, 24 or more are expected; each bound is conservative."""
    held = 0
    for seed in range(30):
        posterior = conjugate(seed)
        found = bg.anneal(posterior, seed=seed, confidence=0.8, **SMALL)
        held += found.interval.contains(float(posterior.evidence.log_marginal_likelihood))
    assert held >= 21  # fewer has a probability of 0.06 at exactly 0.8


def test_the_mean_forward_weight_is_unbiased():
    """E[w] = p(D) for any ladder: the mean over many chains of a very short run."""
    posterior = conjugate(0, order=1)
    found = bg.anneal(posterior, chains=600, rungs=80, settle=10)
    exact = float(posterior.evidence.log_marginal_likelihood)
    margin = math.log(80)  # four one-sided bounds share a failure probability of 0.05
    assert found.importance.lower + margin == pytest.approx(exact, abs=0.3)
    assert found.importance.upper - margin == pytest.approx(exact, abs=0.3)
    assert found.thermodynamic.lower < exact < found.thermodynamic.upper


def test_fit_and_complexity_of_a_conjugate_model():
    posterior = conjugate(1)
    found = bg.anneal(posterior, rungs=60, settle=60)
    assert found.fit == pytest.approx(float(posterior.evidence.fit), abs=0.5)
    assert found.complexity == pytest.approx(float(posterior.evidence.complexity), abs=1.5)
    assert found.draws.shape == (32, 4)
    weights = posterior.weights
    assert (found.draws.mean(0) - weights).abs().max() < 0.5


def test_a_linear_model_is_fitted_to_its_data():
    y = torch.sin(3 * X)
    found = bg.anneal(bg.Polynomial(2), X, y, **SMALL)
    exact = bg.Polynomial(2).fit(X, y).evidence.log_marginal_likelihood
    assert found.interval.contains(float(exact))


@pytest.mark.parametrize("exponents", [(2,), (2, 4), (4, 4)])
def test_singular_models_against_quadrature(exponents):
    """log p(D), WBIC and λ = Σ 1/pᵢ of −n Σ wᵢ^pᵢ under a standard normal prior."""
    n = 10_000
    powers = torch.tensor(exponents, dtype=torch.float64)

    def log_likelihood(w):
        return -n * (w.abs() ** powers).sum(1)

    def integral(p, beta, moment):
        def density(w):
            loss = n * w**p
            return loss**moment * math.exp(-beta * loss - 0.5 * w * w) * 2 / math.sqrt(2 * math.pi)

        edge = (60 / (n * beta)) ** (1 / p) if beta else 10.0
        return scipy.integrate.quad(density, 0, min(edge, 10.0), epsabs=0, epsrel=1e-10)[0]

    log_evidence = sum(math.log(integral(p, 1.0, 0)) for p in exponents)
    beta = 1 / math.log(n)
    wbic = sum(integral(p, beta, 1) / integral(p, beta, 0) for p in exponents)
    found = bg.anneal(
        log_likelihood,
        dimension=len(exponents),
        n=n,
        maximum=0.0,
        rungs=60,
        settle=120,
        chains=32,
    )
    assert found.interval.contains(log_evidence)
    assert found.wbic == pytest.approx(wbic, abs=5 * found.wbic_error)
    assert found.learning_coefficient == pytest.approx(
        beta * wbic, abs=5 * found.learning_coefficient_error
    )
    # Under a prior that is flat near 0 the coefficient is Σ 1/pᵢ for every n.
    assert beta * wbic == pytest.approx(float((1 / powers).sum()), rel=0.05)


def digits(level=0.0, train=60):
    data = bg.data.load("digits", train=train, test=20)
    y, _ = bg.corrupt_labels(data.y_train, level, num_classes=10, seed=0)
    torch.manual_seed(0)
    return networks.MLP(64, (3,), 10, activation="tanh").double(), data, y


def test_a_network_and_all_generators_are_left_as_they_were():
    net, data, y = digits(train=30)
    before, state = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    net.train()
    found = bg.anneal(net, data.x_train, y, rungs=10, settle=10, chains=4)
    assert net.training
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert found.predict(data.x_test).shape == (20, 10)
    assert found.interval.lower <= found.log_evidence <= found.interval.upper


def test_the_evidence_of_a_network_without_hidden_layer_is_that_of_a_linear_model():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(25, 2, generator=generator, dtype=torch.float64)
    y = x @ torch.tensor([1.0, -0.5], dtype=torch.float64)
    net = networks.MLP(2, (), 1).double()
    found = bg.anneal(net, x, y, "gaussian", 2.0, noise=0.1, **SMALL)
    features = torch.cat([x, torch.ones_like(x[:, :1])], 1)
    model = bg.LinearModel(None, 0.5, 0.1, hyperparameters="fixed")
    exact = model.fit(features, y).evidence.log_marginal_likelihood
    assert found.interval.contains(float(exact))
    # Laplace's approximation of the same model is exact at its mode.
    bg.fit_map(net, x, y, "gaussian", prior_precision=2.0, noise=0.1)
    laplace = bg.Laplace(net, "gaussian", 2.0, 0.1, hyperparameters="fixed").fit(x, y)
    assert float(laplace.evidence.log_marginal_likelihood) == pytest.approx(float(exact), abs=1e-5)


def test_precisions_for_each_layer_are_those_of_laplace():
    net, data, y = digits()
    layers = torch.tensor([0.5, 2.0], dtype=torch.float64)
    target = network(net, data.x_train, y, "categorical", layers, None, None)
    posterior = bg.Laplace(net, prior_precision=layers, hyperparameters="fixed", curvature="kron")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bg.NotAtModeWarning)
        fitted = posterior.fit(data.x_train, y)
    prior, setting = fitted.curvature.prior, fitted._fitted.setting
    assert torch.equal(target.precision, prior.precision(setting.precision))
    other = network(net, data.x_train, y, "categorical", target.precision, None, None)
    assert torch.equal(other.precision, target.precision)


def test_a_trained_network_as_prior_mean_gives_the_local_learning_coefficient():
    """Of a regular model, P/2; the likelihood is known to have its maximum at the prior mean."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(400, 3, generator=generator, dtype=torch.float64)
    net = networks.MLP(3, (), 1).double()
    y = net(x).detach() + 0.3 * torch.randn(400, 1, generator=generator, dtype=torch.float64)
    bg.fit_map(net, x, y, "gaussian", prior_precision=1e-6, noise=0.09)
    found = bg.anneal(
        net, x, y, "gaussian", 1.0, prior_mean=net, noise=0.09, rungs=20, settle=100, chains=16
    )
    assert found.learning_coefficient == pytest.approx(2.0, abs=0.4)


def test_the_printed_result_says_what_was_found():
    posterior = conjugate(0)
    found = bg.anneal(posterior, **SMALL)
    text = repr(found)
    assert repr(bg.anneal(posterior, **SMALL)) == text  # the same seed gives the same result
    for word in ("nats", "between", "WBIC", "learning coefficient", "R-hat", "16 chains"):
        assert word in text


def test_progress_is_reported_to_the_end():
    steps = []
    bg.anneal(conjugate(0), progress=lambda *step: steps.append(step), **SMALL)
    done, expected, _ = steps[-1]
    assert done <= expected
    assert done >= expected - 1


def test_chains_of_separate_modes_are_reported():
    """Two modes at ±1 of different height, between which no chain moves: R-hat shows them."""

    def log_likelihood(w):
        return -3000 * (w[:, 0] ** 2 - 1) ** 2 + 3 * w[:, 0]

    with pytest.warns(bg.NotMixedWarning, match="R-hat"):
        found = bg.anneal(log_likelihood, dimension=1, n=50, **SMALL)
    assert not found.mixed
    assert "the chains have not mixed" in repr(found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chains": 3}, "chains must be an integer of at least 4"),
        ({"rungs": 1}, "rungs must be"),
        ({"settle": 2}, "settle must be"),
        ({"leaps": 0}, "leaps must be"),
        ({"confidence": 1.0}, "confidence must lie between"),
        ({"seed": -1}, "seed must be"),
        ({"prior_precision": -1.0}, "prior_precision must be positive"),
        ({"prior_precision": [1.0, 2.0, 3.0]}, "prior_precision must be a number"),
        ({"dimension": None}, "dimension and n must be given"),
        ({"n": 2}, "at least 3 observations"),
        ({"x": X}, "x and y must be None"),
        ({"noise": 0.1}, "prior_mean and noise must be None"),
        ({"model": 3}, "model must be a network"),
        ({"model": lambda w: w}, r"model must map weights \(B, 2\)"),
        ({"model": lambda w: w.sum(1).float()}, "model must return a float64"),
        ({"model": lambda w: torch.zeros(len(w)).double()}, "must be differentiable"),
        ({"model": lambda w: (w * float("nan")).sum(1)}, "finite log likelihood at weights drawn"),
        ({"maximum": float("inf")}, "maximum must be finite"),
        ({"maximum": "a"}, "maximum must be a number"),
        ({"model": lambda w: -(w - w.mean(0)).square().sum(1)}, "of each row of weights"),
        ({"model": lambda w: -w.square().sum(1) + torch.rand(1).double()}, "of each row of"),
    ],
)
def test_bad_input_is_refused(change, message):
    good = {"model": lambda w: -w.square().sum(1), "dimension": 2, "n": 10, **SMALL}
    with pytest.raises((TypeError, ValueError), match=message):
        bg.anneal(**good | change)


def test_a_constant_log_likelihood_has_mixed():
    found = bg.anneal(lambda w: 0.0 * w.sum(1) - 3.0, dimension=2, n=10, **SMALL)
    assert found.log_evidence == pytest.approx(-3.0, abs=1e-9)
    assert math.isfinite(found.rhat)


def test_new_inputs_of_another_shape_are_refused():
    net, data, y = digits()
    found = bg.anneal(net, data.x_train, y, **SMALL)
    with pytest.raises(ValueError, match="net fails on inputs of shape"):
        found.predict(data.x_train[:, :5])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prior_precision": "layer"}, "nothing is learnt here"),
        ({"prior_precision": [1.0, 2.0, 3.0]}, r"of shape \(2,\), one a layer"),
        ({"noise": 0.1}, "noise must be None"),
        ({"likelihood": "gaussian"}, "noise must be given"),
        ({"y": None}, "y must hold"),
        ({"n": 10}, "dimension and n must be None"),
        ({"x": torch.zeros(60, 3).double()}, "net fails on inputs"),
    ],
)
def test_bad_input_of_a_network_is_refused(change, message):
    net, data, y = digits()
    with pytest.raises((TypeError, ValueError), match=message):
        bg.anneal(**{"model": net, "x": data.x_train, "y": y, **SMALL} | change)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prior_precision": 2.0}, "this model has its own"),
        ({"likelihood": "gaussian"}, "this model has its own"),
        ({"n": 5}, "dimension and n must be None"),
        ({"x": X, "y": X}, "x and y must be None"),
    ],
)
def test_settings_of_other_models_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        bg.anneal(conjugate(0), **settings)
    if "x" not in settings:
        with pytest.raises((TypeError, ValueError), match=f"{message}|x and y must be given"):
            bg.anneal(bg.Polynomial(2), **settings)


def test_predictions_need_a_network():
    found = bg.anneal(conjugate(0), **SMALL)
    with pytest.raises(ValueError, match="outputs are those of a network"):
        found.outputs(X)
    with pytest.raises(ValueError, match="predict needs a network"):
        found.predict(X)


def test_a_batch_of_tasks_is_refused():
    y = torch.stack([X, X**2])[..., None]
    batch = bg.Polynomial(2).fit(X, y)
    with pytest.raises(ValueError, match="choose one"):
        bg.anneal(batch)


class Branching(nn.Module):
    """A network that does not run under `torch.func.vmap`."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 2)

    def forward(self, x):
        x = self.layer(x)
        return x if float(self.layer.weight.detach().sum()) > 1e9 else 1.0 * x


def test_a_network_without_a_batched_form_gives_the_same_evidence():
    x = torch.linspace(-1, 1, 8, dtype=torch.float64)[:, None]
    y = (x[:, 0] > 0).long()
    sizes = {"chains": 4, "rungs": 6, "settle": 10, "leaps": 3}
    odd = Branching()
    plain = nn.Sequential(nn.Linear(1, 2))
    plain[0].load_state_dict(odd.layer.state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found, expected = (bg.anneal(net, x, y, **sizes) for net in (odd, plain))
    assert found.log_evidence == pytest.approx(expected.log_evidence, rel=1e-9)


def test_a_stated_maximum_below_what_the_chains_attain_is_refused():
    def log_likelihood(theta):
        return -(theta**2).sum(1)

    sizes = {"dimension": 2, "n": 10, "rungs": 10, "chains": 4, "settle": 10}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match="maximum must be the largest log likelihood"):
            bg.anneal(log_likelihood, maximum=-1000.0, **sizes)
        assert bg.anneal(log_likelihood, maximum=0.0, **sizes).learning_coefficient > 0


def test_results_can_be_pickled():
    x, y = torch.randn(12, 3, dtype=torch.float64), torch.arange(12) % 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = bg.anneal(nn.Linear(3, 2), x, y, chains=4, rungs=6, settle=10, leaps=3)
    again = pickle.loads(pickle.dumps(found))
    assert again.log_evidence == found.log_evidence
    assert torch.equal(again.outputs(x), found.outputs(x))
