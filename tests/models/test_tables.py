"""Tests of `bayesgen.models.tables`: models of DataFrames and of rows with missing values."""

import warnings

import gpytorch
import numpy as np
import pandas as pd
import pytest
import torch

import bayesgen as bg

N = 40
RNG = np.random.default_rng(0)
TABLE = pd.DataFrame({"size": RNG.normal(size=N), "kind": RNG.choice(["a", "b"], N)})
PRICE = pd.Series(2 * TABLE["size"] + (TABLE["kind"] == "a") + 0.1 * RNG.normal(size=N))
BOUGHT = pd.Series(np.where(PRICE > 0, "yes", "no"))
MODELS = {
    "gp": lambda **more: bg.GaussianProcess(gpytorch.kernels.RBFKernel(), **more),
    "linear": lambda **more: bg.LinearModel(**more),
}


def coded() -> torch.Tensor:
    a = (TABLE["kind"] == "a").to_numpy(float)
    return torch.tensor(np.stack([TABLE["size"].to_numpy(), a, 1 - a], 1))


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_a_table_gives_the_posterior_of_its_numbers(model):
    found = model().fit(TABLE, PRICE)
    same = model().fit(coded(), torch.tensor(PRICE.to_numpy()))
    assert torch.equal(
        found.evidence.log_marginal_likelihood, same.evidence.log_marginal_likelihood
    )
    new = TABLE[["kind", "size"]].tail(5)
    assert torch.equal(found.predict(new).mean, same.predict(coded()[-5:]).mean)
    assert torch.equal(found.mean(x_new=new), same.mean(coded()[-5:]))
    assert torch.equal(found.interval(new).lower, same.interval(coded()[-5:]).lower)
    assert found.columns.coded == ("size", "kind=a", "kind=b")
    assert found.notes == ("texts in 'kind' were coded by 2 indicators",)
    assert same.columns is None


@pytest.mark.parametrize("likelihood", ["bernoulli", "softmax"])
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_predicted_classes_come_back_as_texts(model, likelihood):
    posterior = model(likelihood=likelihood).fit(TABLE, BOUGHT)
    assert posterior.classes == ("no", "yes")
    assert (posterior.classify(TABLE) == BOUGHT).mean() > 0.9
    with pytest.raises(ValueError, match="classify needs class labels"):
        model().fit(TABLE, PRICE).classify(TABLE)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_rows_with_missing_values_are_refused_or_left_out(model):
    x, y = TABLE.copy(), PRICE.copy()
    x.loc[3, "size"], y.loc[5] = np.nan, np.nan
    with pytest.raises(ValueError, match="column 'size' at row 3"):
        model().fit(x, y)
    found = model().fit(x, y, missing="drop")
    whole = np.ones(N, dtype=bool)
    whole[[3, 5]] = False
    same = model().fit(TABLE[whole], PRICE[whole])
    assert torch.equal(
        found.evidence.log_marginal_likelihood, same.evidence.log_marginal_likelihood
    )
    assert found.notes[0] == "2 rows with missing values were left out"


def test_rows_of_arrays_with_missing_values_are_left_out():
    x, y = coded(), torch.tensor(PRICE.to_numpy()).expand(2, N)[..., None].clone()
    x[0, 0], y[1, 4] = torch.nan, torch.nan
    found = bg.LinearModel().fit(x, y, missing="drop")
    assert found.observed.n == N - 2
    with pytest.raises(ValueError, match="a row without missing values"):
        bg.LinearModel().fit(x * torch.nan, y, missing="drop")
    with pytest.raises(ValueError, match="one row for each of the 40 inputs, got 39"):
        bg.LinearModel().fit(x, y[:, 1:], missing="drop")


def test_rows_in_another_order_are_refused():
    with pytest.raises(ValueError, match=r"pass y.loc\[x.index\]"):
        bg.LinearModel().fit(TABLE, PRICE.iloc[::-1])
    other = PRICE.set_axis(range(100, 100 + N))
    assert bg.LinearModel().fit(TABLE, other).observed.n == N


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"missing": "mean"}, ValueError, "missing must be one of 'refuse', 'drop'"),
        ({"standardise": "yes"}, TypeError, "standardise must be True or False"),
    ],
)
def test_bad_arguments_are_named(arguments, error, words):
    with pytest.raises(error, match=words):
        bg.LinearModel().fit(TABLE, PRICE, **arguments)


def test_a_saved_posterior_reads_tables_by_column_names(tmp_path):
    posterior = bg.LinearModel().fit(TABLE, PRICE)
    posterior.save(tmp_path / "a.bayesgen")
    again = bg.load(tmp_path / "a.bayesgen")
    assert again.columns == posterior.columns
    assert torch.equal(again.predict(TABLE).mean, posterior.predict(TABLE).mean)


def net(dtype=torch.float64, d=1):
    torch.manual_seed(0)
    return bg.networks.MLP(d, (4,), 2).to(dtype)


def test_texts_are_labels_of_networks_too():
    x, numbers = TABLE[["size"]], (BOUGHT == "yes").astype(int)
    by_text, by_number = net(), net()
    bg.train(by_text, x, BOUGHT, epochs=2)
    bg.train(by_number, x, numbers, epochs=2)
    bg.fit_map(by_text, x, BOUGHT, prior_precision=1.0)
    bg.fit_map(by_number, x, numbers, prior_precision=1.0)
    one, two = bg.Laplace(by_text).fit(x, BOUGHT), bg.Laplace(by_number).fit(x, numbers)
    assert torch.equal(one.evidence.log_marginal_likelihood, two.evidence.log_marginal_likelihood)
    assert (one.classes, two.classes) == (("no", "yes"), (0, 1))
    assert set(one.classify(x)) <= {"no", "yes"}
    with pytest.raises(ValueError, match="must have 3 outputs"):
        bg.Laplace(by_text).fit(x, np.resize(["a", "b", "c"], N))
    with pytest.raises(TypeError, match="must hold numbers for a gaussian likelihood, got texts"):
        bg.Laplace(by_text, "gaussian").fit(x, BOUGHT)


def test_mixed_dtypes_are_refused_in_one_sentence():
    x, y = TABLE[["size"]], (BOUGHT == "yes").astype(int)
    words = r"the network is float32, x is float64: convert the inputs \(x.float\(\)\)"
    for attempt in (
        lambda: bg.train(net(torch.float32), x, y, epochs=1),
        lambda: bg.fit_map(net(torch.float32), x, y, prior_precision=1.0),
        lambda: bg.pacbayes.compress(net(torch.float32), x, y),
    ):
        with pytest.raises((TypeError, ValueError), match=words):
            attempt()
    own = net(torch.float32)
    bg.fit_map(own, torch.tensor(x.to_numpy()).float(), y, prior_precision=1.0)
    cast = bg.Laplace(own, hyperparameters="fixed").fit(x, y)
    assert cast.evidence.fit.dtype == torch.float64


def test_a_column_of_text_is_named_where_a_network_cannot_take_it():
    with pytest.raises(TypeError, match="column 'kind' holds values such as"):
        bg.train(net(d=2), TABLE, BOUGHT, epochs=1)


def test_names_of_columns_are_in_summaries_and_notes():
    x = TABLE.assign(nothing=RNG.normal(size=N))[["size", "nothing"]]
    model = bg.GaussianProcess(gpytorch.kernels.RBFKernel(ard_num_dims=2))
    for standardise in (False, True):
        posterior = model.fit(x, 2 * x["size"] + 0.1 * RNG.normal(size=N), standardise=standardise)
        summary = posterior.summary()
        assert "RBF.lengthscale[nothing]" in summary.hyperparameters.index
        assert "switches off column 'nothing' of x" in str(summary)


@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_derived_posteriors_and_all_methods_read_tables_by_name(model, standardise, tmp_path):
    both = torch.stack([torch.tensor(PRICE.to_numpy()), torch.tensor(-PRICE.to_numpy())])
    new = TABLE[["kind", "size"]].tail(4)
    tasks = model().fit(TABLE, both[..., None], standardise=standardise)
    same = model().fit(coded(), both[..., None], standardise=standardise)
    part = tasks.task(1)
    assert (part.columns, part.notes) == (tasks.columns, tasks.notes)
    assert torch.equal(part.predict(new).mean, same.task(1).predict(coded()[-4:]).mean)
    one = model().fit(TABLE, PRICE, standardise=standardise)
    inner = getattr(one, "standardised", one)
    expected = inner.covariance(new, TABLE.tail(2))
    assert torch.equal(expected, inner.covariance(x1=new, x2=TABLE.tail(2)))
    assert torch.allclose(expected[-2:].diagonal(), inner.predict(new, latent=True).variance[-2:])
    if not standardise:
        moved = one.at(scale=1.0, noise=0.1)
        assert torch.equal(moved.predict(new).mean, moved.predict(coded()[-4:]).mean)


def test_networks_and_deep_kernels_read_tables_by_name():
    x = TABLE[["size"]].assign(other=RNG.normal(size=N))
    laplace = bg.Laplace(net(d=2), hyperparameters="fixed", prior_precision=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        posterior = laplace.fit(x, BOUGHT)
    assert torch.equal(
        posterior.predict(x[["other", "size"]]).probs, posterior.predict(x.to_numpy()).probs
    )
    deep = bg.DeepKernel(net(d=2), gpytorch.kernels.RBFKernel(), steps=2)
    found = deep.fit(x, PRICE)
    assert torch.equal(found.mean(x[["other", "size"]]), found.mean(x.to_numpy()))
    with pytest.raises(ValueError, match="but 'size' is missing"):
        found.mean(x[["other"]])


def test_texts_are_labels_while_the_evidence_trains():
    x = TABLE[["size"]]
    numbers = (BOUGHT == "yes").astype(int)
    settings = {"epochs": 4, "evidence_every": 2, "to_mode": True}
    by_text, by_number = (
        bg.train(net(), x, BOUGHT, **settings),
        bg.train(net(), x, numbers, **settings),
    )
    assert torch.equal(by_text.prior_precision, by_number.prior_precision)
