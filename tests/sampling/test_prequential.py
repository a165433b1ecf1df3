"""Tests of `bayesgen.sampling.prequential`, `bayesgen.sampling.predictives` and
`bayesgen.sampling.code_length`: the chain rule, and codes of networks.
"""

import copy
import math
from functools import cache

import pytest
import torch
from gpytorch.kernels import RBFKernel
from hypothesis import given, settings, strategies as st
from torch import nn

import bayesgen as bg
from bayesgen import networks

N = 14
X = torch.linspace(-1, 1, N, dtype=torch.float64)
Y = torch.sin(3 * X) + 0.1 * torch.cos(40 * X)
FAST = {"orders": 1, "members": 2, "blocks": (10, 25)}


@cache
def posteriors():
    gp = bg.GaussianProcess(RBFKernel().double(), noise=0.1, hyperparameters="fixed")
    outputs = torch.stack([Y, Y**2], 1)
    return (
        gp.fit(X, Y),
        gp.fit(X, outputs),
        bg.Polynomial(4, noise=0.05, hyperparameters="fixed").fit(X, Y),
        bg.Polynomial(20, bg.priors.geometric(2.0), noise=0.05).fit(
            X, outputs, hyperparameters=("scale", "decay")
        ),
    )


@settings(deadline=None, max_examples=60)
@given(
    which=st.integers(0, 3),
    blocks=st.sets(st.integers(1, N - 1), min_size=1),
    orders=st.integers(1, 4),
    seed=st.integers(0, 2**40),
)
def test_code_lengths_of_conjugate_models_add_up(which, blocks, orders, seed):
    posterior = posteriors()[which]
    code = bg.prequential(posterior, blocks=sorted(blocks), orders=orders, seed=seed)
    exact = float(posterior.evidence.log_marginal_likelihood)
    assert code.lengths.shape == (orders, len(blocks) + 1)
    for total in code.totals.tolist():
        assert total == pytest.approx(-exact, abs=1e-8)
    for m in (0, *code.ends[:-1]):
        rest = code.after(m) + float(code.lengths[:, : (0, *code.ends).index(m)].sum(1).mean())
        assert rest == pytest.approx(-exact, abs=1e-8)


def test_single_observations_are_the_learning_curve():
    posterior = posteriors()[0]
    code = bg.prequential(posterior, blocks=range(1, N), orders=1)
    torch.testing.assert_close(code.lengths[0], -posterior.learning_curve()[0])


def test_a_code_after_m_points_is_the_conditional_evidence():
    posterior = posteriors()[2]
    code = bg.prequential(posterior, blocks=(5,), orders=4, seed=3)
    conditional = posterior.conditional_evidence(5, orderings=4, seed=3)
    assert -code.after(5) == pytest.approx(float(conditional.log_marginal_likelihood), abs=1e-8)


def test_a_model_is_fitted_first_and_the_code_says_what_it_excludes():
    code = bg.prequential(bg.Polynomial(2), X, Y)
    exact = bg.Polynomial(2).fit(X, Y).evidence.log_marginal_likelihood
    assert code.log_evidence == pytest.approx(float(exact), abs=1e-8)
    assert code.excludes == ("hyperparameters",)
    assert "excludes hyperparameters" in repr(code)
    assert bg.prequential(posteriors()[2]).excludes == ()


@cache
def digits():
    data = bg.data.load("digits", train=60, test=20)
    torch.manual_seed(0)
    return networks.MLP(64, (5,), 10, activation="tanh"), data.x_train, data.y_train


def test_the_first_block_of_labels_is_coded_with_the_uniform_distribution():
    net, x, y = digits()
    code = bg.prequential(net, x, y, **FAST)
    assert float(code.lengths[0, 0]) == pytest.approx(10 * math.log(10))
    assert code.ends == (10, 25, 60)
    assert code.total < 60 * math.log(10)


def test_a_block_is_coded_without_its_own_labels():
    """Other labels in the last block leave the networks that code it as they were."""
    net, x, y = digits()
    whole = bg.prequential(net, x, y, **FAST)
    changed = y.clone()
    changed[25:] = changed[25:].flip(0)
    other = bg.prequential(net, x, changed, **FAST)
    assert torch.equal(whole.lengths[:, :2], other.lengths[:, :2])
    shorter = bg.prequential(net, x[:40], y[:40], **FAST)
    assert torch.equal(whole.lengths[:, :2], shorter.lengths[:, :2])


def test_the_weights_of_the_network_are_neither_used_nor_changed():
    net, x, y = digits()
    code = bg.prequential(net, x, y, **FAST)
    trained = copy.deepcopy(net)
    bg.train(trained, x.float(), y, epochs=5)
    before, state = copy.deepcopy(trained.state_dict()), torch.get_rng_state()
    again = bg.prequential(trained, x, y, **FAST)
    assert torch.equal(again.lengths, code.lengths)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[k], v) for k, v in trained.state_dict().items())


def test_buffers_that_are_not_reset_are_excluded_from_the_code():
    net, x, y = digits()
    assert bg.prequential(net, x, y, **FAST).excludes == ()
    net.register_buffer("held", x[:, :2].clone())
    assert bg.prequential(net, x, y, **FAST).excludes == ("buffers",)
    assert torch.equal(net.held, x[:, :2])


def test_a_code_of_redrawn_labels_is_longer():
    net, x, y = digits()
    noise, _ = bg.corrupt_labels(y, 1.0, num_classes=10, seed=0)
    clean, corrupted = (bg.prequential(net, x, labels, **FAST) for labels in (y, noise))
    assert clean.total + 10 < corrupted.total


def test_the_predictive_probability_is_the_mean_over_networks():
    """The code of one block by hand: two networks at modes, from the seeds of the code."""
    from bayesgen.sampling import predictives

    net, x, y = digits()
    code = bg.prequential(net, x, y, members=2, orders=1, blocks=(30,))
    probabilities = []
    for k in range(2):
        own = copy.deepcopy(net).double()
        seed = sum(a * b for a, b in zip(predictives._STRIDES, (0, 30, k), strict=True))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for layer in own.modules():
                if isinstance(layer, nn.Linear):
                    layer.reset_parameters()
        bg.fit_map(own, x[:30], y[:30], prior_precision=1.0)
        probabilities.append(own(x[30:]).detach().softmax(-1))
    mean = (probabilities[0] + probabilities[1]) / 2
    wanted = -mean[torch.arange(30), y[30:]].log().sum()
    assert float(code.lengths[0, 1]) == pytest.approx(float(wanted), abs=1e-6)


def test_real_targets_begin_with_the_prior_of_the_weights():
    """The first block against the exact prior predictive of a network without hidden layer."""
    x = torch.linspace(-1, 1, 30, dtype=torch.float64)[:, None]
    y = 0.5 * x[:, 0]
    net = networks.MLP(1, (), 1).double()
    code = bg.prequential(net, x, y, "gaussian", noise=0.1, orders=1, members=1, blocks=(1, 10))
    variance = 1 + 1.0 + 0.1  # bias, weight at x = −1, noise
    wanted = 0.5 * (math.log(2 * math.pi * variance) + 0.25 / variance)
    assert float(code.lengths[0, 0]) == pytest.approx(wanted, abs=0.2)
    assert code.total < 0


def test_training_settings_are_those_of_train():
    net, x, y = digits()
    quick = {"epochs": 30, "optimiser": "adam", "learning_rate": 0.02}
    code = bg.prequential(net, x, y, training=quick, **FAST)
    assert "trained by bayesgen.train" in code.method
    assert code.total < 60 * math.log(10)


def test_texts_are_class_labels():
    net, x, y = digits()
    words = [f"class {label}" for label in y.tolist()]
    numbers = bg.prequential(net, x, y, **FAST)
    assert torch.equal(bg.prequential(net, x, words, **FAST).lengths, numbers.lengths)


def test_printed_result_table_and_units():
    code = bg.prequential(posteriors()[0], blocks=(4,), orders=2)
    assert list(code.table()["size"]) == [4, 10]
    assert code.bits == pytest.approx(code.total / math.log(2))
    assert "2 blocks, mean over 2 orders" in repr(code)
    assert code.error < 1e-8
    assert math.isnan(bg.prequential(posteriors()[0], orders=1).error)


class Unresettable(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(64, 10))

    def forward(self, x):
        return x @ self.w


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blocks": (10, 10)}, "blocks must be increasing"),
        ({"blocks": (10, 60)}, "blocks must be below the number of observations 60"),
        ({"blocks": (0, 10)}, "blocks must be an integer of at least 1"),
        ({"orders": 0}, "orders must be"),
        ({"members": 0}, "members must be"),
        ({"seed": -1}, "seed must be"),
        ({"training": 3}, "training must be a mapping"),
        ({"training": {"noise": 1.0}}, "training must not hold noise"),
        ({"prior_precision": "layer"}, "nothing is learnt here"),
        ({"likelihood": "gaussian"}, "noise must be given"),
        ({"noise": 1.0}, "noise must be None"),
        ({"x": {"a": 1}}, "x must be one tensor"),
        ({"y": None}, "y must hold"),
        ({"model": Unresettable().double()}, "no method reset_parameters"),
        ({"model": 3}, "model must be a network"),
        ({"model": bg.Polynomial(2), "x": None}, "x and y must be given"),
        ({"model": bg.Polynomial(2), "noise": 1.0}, "noise and training must be None"),
    ],
)
def test_bad_input_is_refused(change, message):
    net, x, y = digits()
    with pytest.raises((TypeError, ValueError), match=message):
        bg.prequential(**{"model": net, "x": x, "y": y, **FAST} | change)


def test_bad_posteriors_are_refused():
    with pytest.raises(ValueError, match="x and y must be None"):
        bg.prequential(posteriors()[0], X, Y)
    batch = bg.Polynomial(2).fit(X, torch.stack([Y, Y])[..., None])
    with pytest.raises(ValueError, match="choose one"):
        bg.prequential(batch)
    with pytest.raises(ValueError, match="this model has its own"):
        bg.prequential(posteriors()[0], prior_precision=2.0)
    labelled = bg.Polynomial(2, likelihood="bernoulli").fit(X, (Y > 0).long())
    with pytest.raises(TypeError, match="under Gaussian noise"):
        bg.prequential(labelled)
    with pytest.raises(ValueError, match="m must be an end of a block"):
        bg.prequential(posteriors()[0], blocks=(4,)).after(5)


class Recurrent(nn.Module):
    """A network that does not run under `torch.func.vmap`."""

    def __init__(self):
        super().__init__()
        self.inner, self.head = nn.GRU(1, 3, batch_first=True), nn.Linear(3, 2)

    def forward(self, x):
        return self.head(self.inner(x[:, :, None])[0][:, -1])


@pytest.mark.parametrize("likelihood", ["categorical", "gaussian"])
def test_a_recurrent_network_is_coded(likelihood):
    x = torch.randn(14, 4, dtype=torch.float64)
    y = torch.arange(14) % 2 if likelihood == "categorical" else torch.sin(x[:, :2])
    settings = {"blocks": [8], "orders": 1, "members": 2, "training": {"epochs": 2, "batch": 4}}
    noise = {"noise": 0.5} if likelihood == "gaussian" else {}
    found = bg.prequential(Recurrent(), x, y, likelihood, **noise, **settings)
    assert math.isfinite(found.log_evidence)


def test_settings_of_training_that_do_not_exist_are_named():
    x, y = torch.randn(24, 3), torch.arange(24) % 2
    with pytest.raises(ValueError, match="training must hold settings of bayesgen"):
        bg.prequential(nn.Linear(3, 2), x, y, training={"epoch": 3})


def test_a_posterior_of_standardised_data_says_what_to_pass():
    x = torch.linspace(0, 1, 12, dtype=torch.float64)
    posterior = bg.Polynomial(1).fit(x, 3 * x + torch.cos(40 * x), standardise=True)
    for function in (bg.prequential, bg.anneal):
        with pytest.raises(TypeError, match="pass its `standardised`"):
            function(posterior)
