"""Tests of `bayesgen.models.plotting`: posterior.plot."""

import gpytorch
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

import bayesgen as bg

N = 31
RNG = np.random.default_rng(0)
TABLE = pd.DataFrame(
    {
        "size": RNG.normal(size=N),
        "kind": RNG.choice(["a", "b"], N, p=[0.3, 0.7]),
        "day": pd.date_range("2020-01-01", periods=N),
    }
)
PRICE = pd.Series(2 * TABLE["size"] + 0.1 * RNG.normal(size=N), name="price")
X = torch.linspace(-1, 1, N, dtype=torch.float64)


def test_one_input_shows_mean_band_observations_and_draws():
    posterior = bg.GaussianProcess(gpytorch.kernels.RBFKernel()).fit(X, torch.sin(3 * X) + 0.1 * X)
    axes = posterior.plot(draws=3, level=0.9)
    mean = axes.lines[0]
    grid = torch.tensor(mean.get_xdata())
    np.testing.assert_allclose(mean.get_ydata(), posterior.predict(grid).mean)
    again = posterior.plot(draws=3, level=0.9)
    assert len(axes.lines) == 5
    np.testing.assert_array_equal(axes.lines[-1].get_ydata(), again.lines[-1].get_ydata())
    legend = axes.figure.legends[0]
    assert len(legend.get_texts()) == 4


def test_slices_of_a_table_say_where_the_other_inputs_are_held():
    posterior = bg.LinearModel().fit(TABLE, PRICE, standardise=True)
    size, kind, day = posterior.plot()
    assert size.get_ylabel() == "price"
    middle = TABLE["size"].median()
    assert "kind = b" in size.get_title().replace("\n", " ")
    assert f"size = {middle:.3g}" in kind.get_title().replace("\n", " ")
    assert [tick.get_text() for tick in kind.get_xticklabels()] == ["a", "b"]
    assert day.get_xlabel() == "day"
    rows = TABLE.iloc[[0, 0]].assign(size=middle, kind=["a", "b"], day=TABLE["day"].median())
    np.testing.assert_allclose(kind.lines[0].get_ydata(), posterior.predict(rows).mean, rtol=1e-6)
    one = posterior.plot("size", at={"kind": "a"}, draws=2)
    assert "kind = a" in one.get_title().replace("\n", " ")


def test_given_axes_are_drawn_on_and_returned():
    posterior = bg.LinearModel().fit(TABLE, PRICE)
    given = Figure().subplots(1, 2)
    found = posterior.plot(["size", 2], ax=given)
    assert list(found) == list(given)
    assert given[1].get_xlabel() == "day"


@pytest.mark.parametrize("likelihood", ["bernoulli", "softmax"])
def test_classes_show_probabilities(likelihood):
    posterior = bg.LinearModel(likelihood=likelihood).fit(X, np.where(X.numpy() > 0, "yes", "no"))
    axes = posterior.plot()
    assert axes.get_legend_handles_labels()[1] == ["no", "yes"]
    np.testing.assert_allclose(axes.lines[0].get_ydata() + axes.lines[1].get_ydata(), 1)


def test_counts_networks_and_several_outputs_can_be_drawn(monkeypatch):
    monkeypatch.setattr("bayesgen.models.plotting._POINTS", 40)  # intervals of counts are slow
    counts = torch.poisson((1 + X).exp())
    assert bg.LinearModel(likelihood="poisson").fit(X, counts).plot().lines
    both = torch.stack([X, X**2 + 0.1 * torch.sin(40 * X)], 1)
    assert len(bg.LinearModel(noise=0.1).fit(X, both).plot().lines) == 4
    net = torch.nn.Sequential(torch.nn.Linear(1, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
    net = net.double()
    run = bg.train(net, X[:, None], X[:, None], "gaussian", epochs=5, prior_precision=1.0,
                   noise=0.1, to_mode=True)  # fmt: skip
    fixed = {"noise": 0.1, "hyperparameters": "fixed"}
    laplace = bg.Laplace(run.net, "gaussian", 1.0, **fixed)
    assert laplace.fit(X[:, None], X[:, None]).plot().lines


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"column": "colour"}, "column must be one of 'size', 'kind', 'day', got 'colour'"),
        ({"column": 3}, "column must be an integer in 0..2"),
        ({"column": []}, "column must name an input"),
        ({"at": {"kind": "z"}}, r"at\['kind'\] must be one of 'a', 'b', got 'z'"),
        ({"at": {"colour": 1}}, "at must be one of"),
        ({"at": [1.0]}, "at must have 4 values"),
        ({"level": 1.5}, "level must lie in"),
        ({"draws": -1}, "draws must be an integer of at least 0"),
        ({"ax": Figure().subplots()}, "ax must hold 3 axes"),
    ],
)
def test_bad_arguments_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        bg.LinearModel().fit(TABLE, PRICE).plot(**arguments)


def test_what_cannot_be_drawn_is_said():
    tasks = bg.LinearModel(noise=0.1).fit(X, torch.stack([X, 2 * X])[..., None])
    with pytest.raises(ValueError, match="posterior.task"):
        tasks.plot()
    wide = bg.LinearModel().fit(torch.randn(N, 12, dtype=torch.float64), PRICE)
    with pytest.raises(ValueError, match="column must be given for 12 inputs"):
        wide.plot()
    assert wide.plot(3).get_xlabel() == "x3"
    counts = bg.LinearModel(likelihood="poisson", hyperparameters="fixed").fit(X, torch.arange(N))
    with pytest.raises(ValueError, match="draws must be 0"):
        counts.plot(draws=1)
