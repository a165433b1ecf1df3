"""Tests of `bayesgen.models.deep.model` on kinds of networks that users bring."""

import copy
import io
import pickle

import gpytorch
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import bayesgen as bg
from tests.models.deep.problems import quiet
from tests.networks import kinds

RBF = gpytorch.kernels.RBFKernel


def fitted(net, x, y, **change):
    settings = {"steps": 3, "batch": 16, "learning_rate": 0.01} | change
    return quiet(bg.DeepKernel(net, RBF(), **settings), x, y)


@pytest.fixture(scope="module")
def plain():
    return fitted(kinds.base(), *kinds.data())


@pytest.mark.parametrize("kind", kinds.EQUAL)
def test_networks_of_one_function_have_one_evidence(kind, plain):
    x, y = kinds.data()
    net, before = kinds.EQUAL[kind](), x.clone()
    state, generator = kinds.state(net), torch.get_rng_state()
    found = fitted(net, x, y)
    mean = found.mean(x[:17])
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.equal(x, before)
    assert kinds.same_state(state, kinds.state(net))
    assert float(found.evidence.log_marginal_likelihood) == pytest.approx(
        float(plain.evidence.log_marginal_likelihood), rel=1e-9
    )
    torch.testing.assert_close(mean, plain.mean(x[:17]), rtol=1e-6, atol=1e-9)


def test_a_rectifier_in_place_comes_first():
    x, y = kinds.data()
    before = x.clone()
    found = [
        fitted(nn.Sequential(nn.ReLU(inplace=flag), kinds.base()), x, y) for flag in (True, False)
    ]
    assert torch.equal(x, before)
    assert found[0].evidence.fit == found[1].evidence.fit
    torch.testing.assert_close(*(each.mean(x) for each in found))


@pytest.mark.parametrize("kind", ["unused layer", "tied", "frozen head", "LSTM", "attention"])
def test_kinds_of_networks_are_trained(kind):
    x, y = kinds.data()
    net = kinds.FREE[kind]()
    state = kinds.state(net)
    before, after = (fitted(net, x, y, steps=steps, head_rate=1e-9) for steps in (0, 20))
    assert after.history.objective.iloc[-1] > after.history.objective.iloc[0]
    assert kinds.same_state(state, kinds.state(net))
    moved = [
        not torch.equal(p, q)
        for p, q in zip(before.net.parameters(), after.net.parameters(), strict=True)
    ]
    wanted = [p.requires_grad for p in net.parameters()]
    if kind == "unused layer":
        wanted[-2:] = [False, False]
    assert moved == wanted


def test_an_unused_layer_costs_its_prior_only():
    x, y = kinds.data()
    used, unused = kinds.base(), kinds.Unused()
    settings = {"steps": 0, "prior_precision": 2.0}
    first, second = fitted(used, x, y, **settings), fitted(unused, x, y, **settings)
    pull = sum(float(p.detach().square().sum()) for p in unused.unused.parameters())
    gap = first.evidence.log_marginal_likelihood - second.evidence.log_marginal_likelihood
    assert float(gap) == pytest.approx(pull, rel=1e-6)


@pytest.mark.parametrize("kind", [*kinds.REFUSED, *kinds.UNFIXED])
def test_networks_without_fixed_features_are_refused(kind):
    x, y = kinds.data()
    make, words = (kinds.REFUSED | kinds.UNFIXED)[kind]
    with pytest.raises(
        (TypeError, ValueError), match=words.replace("net must map 2", "must map 2")
    ):
        fitted(make(), x, y)


def test_data_that_do_not_match_are_refused(plain):
    x, y = kinds.data()
    loader = DataLoader(TensorDataset(x, y))
    with pytest.raises(TypeError, match="got a DataLoader"):
        fitted(kinds.base(), loader, y)
    with pytest.raises(ValueError, match="33 inputs"):
        fitted(kinds.base(), x, torch.cat([y, y]))
    with pytest.raises(ValueError, match=r"the network is float64, x is float32"):
        fitted(kinds.base(), x.float(), y)
    with pytest.raises(TypeError, match=r"dtype of x, torch.float64, got torch.float32"):
        plain.predict(x.float())
    with pytest.raises(bg.DivergedError, match="'a.weight' is not finite at step 1 of 3"):
        fitted(kinds.NoSlope(), *kinds.zero_row())


def test_tokens_tuples_and_dicts_are_inputs():
    x, y = kinds.data()
    tokens = torch.arange(4 * len(y)).reshape(-1, 4) % 7
    first = fitted(kinds.Tokens(), tokens, y, steps=0)
    want = bg.GaussianProcess(RBF()).fit(kinds.Tokens()(tokens).detach(), y)
    torch.testing.assert_close(first.mean(tokens), want.mean(want._gram.x), rtol=1e-2, atol=1e-2)
    pair = fitted(kinds.Product(), (x, x.cos()), y)
    named = fitted(kinds.Product(), {"b": x.cos(), "a": x}, y)
    assert pair.evidence.fit == named.evidence.fit
    torch.testing.assert_close(
        pair.mean((x[:2], x[:2].cos())), named.mean({"b": x[:2].cos(), "a": x[:2]})
    )


@pytest.mark.parametrize("kind", ["plain", "bounded", "weight norm", "tied"])
def test_a_posterior_is_copied_by_pickle_deepcopy_and_torch(kind):
    x, y = kinds.data()
    net = kinds.base() if kind == "bounded" else kinds.FREE[kind]()
    found = fitted(net, x, y, lipschitz=0.8 if kind == "bounded" else None)
    found.predict(x[:2])
    file = io.BytesIO()
    torch.save(found, file)
    file.seek(0)
    copies = pickle.loads(pickle.dumps(found)), copy.deepcopy(found)
    for other in (*copies, torch.load(file, weights_only=False)):
        assert torch.equal(other.predict(x[:5]).stddev, found.predict(x[:5]).stddev)
        assert torch.equal(other.mean(x[:5]), found.mean(x[:5]))


@pytest.mark.parametrize("wrap", [nn.utils.spectral_norm, nn.utils.parametrizations.weight_norm])
def test_a_prior_on_weights_that_hooks_change_has_a_finite_cost(wrap):
    x, y = kinds.data()
    net = kinds.base()
    wrap(net[0])
    posterior = fitted(net, x, y, steps=3, prior_precision=2.0)
    assert 0 < float(posterior.weights_dimension) < sum(p.numel() for p in net.parameters())
    assert torch.isfinite(posterior.mean(x)).all()
