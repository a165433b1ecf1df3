"""Tests of `bayesgen.training.train`, `fit_map` and `train_ensemble` on kinds of networks."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import bayesgen as bg
from bayesgen.networks.copies import own_parameters
from tests.networks import kinds

F64 = torch.float64
NOISE, ALPHA = 0.5, 0.7


def gaussian(y, f):
    return torch.distributions.Normal(f, NOISE**0.5).log_prob(y.reshape(f.shape)).sum()


def unique(net):
    return [p for each in own_parameters(net) for p in each.parameters.values()]


def by_hand(net, x, y, steps):
    """Gradient descent with momentum on the log posterior, by plain torch."""
    net.train()
    weights = unique(net)
    velocity = [torch.zeros_like(p) for p in weights]
    for _ in range(steps):
        loss = -gaussian(y, net(x.clone())) + 0.5 * ALPHA * sum(p.square().sum() for p in weights)
        slopes = torch.autograd.grad(loss / len(y), weights, allow_unused=True)
        with torch.no_grad():
            for p, v, slope in zip(weights, velocity, slopes, strict=True):
                v.mul_(0.9).add_(slope)
                p -= 0.01 * v
    return net.eval()


def trained(net, x, y, **change):
    settings = {
        "epochs": 3, "batch": None, "learning_rate": 0.01, "schedule": "constant",
        "prior_precision": ALPHA, "noise": NOISE,
    } | change  # fmt: skip
    return bg.train(net, x, y, "gaussian", **settings)


def climbed(net, x, y, **change):
    settings = {
        "prior_precision": ALPHA, "noise": NOISE, "steps": 2000, "tolerance": 1e-13, "pairs": 50,
    } | change  # fmt: skip
    return bg.fit_map(net, x, y, "gaussian", **settings)


@pytest.mark.filterwarnings("ignore:.*_weight_norm_interface:UserWarning")
@pytest.mark.parametrize("kind", kinds.FREE)
def test_training_equals_a_loop_by_hand(kind):
    x, y = kinds.data()
    ours, theirs = kinds.FREE[kind](), kinds.FREE[kind]()
    before, generator = x.clone(), torch.get_rng_state()
    kept = [p.grad for p in ours.parameters()]
    trained(ours, x, y)
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.equal(x, before)
    assert all(p.grad is g for p, g in zip(ours.parameters(), kept, strict=True))
    assert not any(module.training for module in ours.modules())
    by_hand(theirs, x, y, 3)
    for p, q in zip(unique(ours), unique(theirs), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("kind", kinds.FREE)
def test_mode_has_the_log_posterior_and_gradient_by_hand(kind):
    x, y = kinds.data()
    net = kinds.FREE[kind]()
    marked = next(p for p in net.parameters() if p.requires_grad)
    marked.grad = torch.ones_like(marked)
    before, generator = x.clone(), torch.get_rng_state()
    found = climbed(net, x, y)
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.equal(x, before)
    assert torch.equal(marked.grad, torch.ones_like(marked))
    assert not any(module.training for module in net.modules())
    weights = unique(net)
    value = gaussian(y, net(x)) - 0.5 * ALPHA * sum(p.square().sum() for p in weights)
    assert found.log_posterior == pytest.approx(float(value.detach()), rel=1e-10)
    slopes = torch.autograd.grad(value, weights, allow_unused=True)
    size = math.sqrt(sum(float(s.square().sum()) for s in slopes if s is not None))
    assert found.gradient_norm == pytest.approx(size, rel=1e-3, abs=1e-8)
    if not kind.endswith("norm") or kind == "batch norm":  # these have no mode: 0 is singular
        assert size < 0.02


@pytest.mark.parametrize("kind", kinds.EQUAL)
def test_networks_of_one_function_are_trained_and_climbed_alike(kind):
    x, y = kinds.data()
    plain, other = kinds.base(), kinds.EQUAL[kind]()
    for net in (plain, other):
        run = trained(net, x, y, epochs=2, batch=16)
    want = trained(kinds.base(), x, y, epochs=2, batch=16).history
    assert run.history.loss.tolist() == pytest.approx(want.loss.tolist(), rel=1e-12)
    for p, q in zip(plain.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-14)
    found = [climbed(net, x, y, batch=16, tolerance=1e-9) for net in (plain, other)]
    assert found[0].log_posterior == pytest.approx(found[1].log_posterior, rel=1e-9)


@pytest.mark.parametrize("kind", ["tokens", "tuple", "dict"])
def test_tokens_tuples_and_dicts_are_inputs(kind):
    x, y = kinds.data()
    if kind == "tokens":
        net, given = kinds.Tokens(), torch.arange(4 * len(y)).reshape(-1, 4) % 7
        f = lambda net: net(given)  # noqa: E731
    else:
        net, given = kinds.Product(), (x, x.cos())
        f = lambda net: net(x, x.cos())  # noqa: E731
        given = {"b": x.cos(), "a": x} if kind == "dict" else given
    run = trained(net, given, y, batch=16, augment=lambda rows: rows)
    assert math.isfinite(run.history.loss.iloc[-1])
    found = climbed(net, given, y)
    value = gaussian(y, f(net)) - 0.5 * ALPHA * sum(p.square().sum() for p in net.parameters())
    assert found.log_posterior == pytest.approx(float(value.detach()), rel=1e-10)


def test_sparse_embeddings_are_trained_like_dense_ones():
    _, y = kinds.data()
    tokens = torch.arange(4 * len(y)).reshape(-1, 4) % 7
    dense, sparse = kinds.Tokens(), kinds.Tokens(sparse=True)
    for call in (trained, climbed):
        for net in (dense, sparse):
            call(net, tokens, y)
        torch.testing.assert_close(dense.embed.weight, sparse.embed.weight, rtol=1e-6, atol=1e-9)
    limited = kinds.Tokens(max_norm=0.1)
    before = kinds.state(limited)
    with pytest.raises(ValueError, match=r"'embed.weight' was changed; an embedding with max_norm"):
        climbed(limited, tokens, y)
    assert kinds.same_state(before, kinds.state(limited))


@pytest.mark.parametrize("kind", [*kinds.REFUSED, *kinds.UNFIXED])
def test_a_network_that_cannot_be_fitted_is_refused_and_left_as_it_was(kind):
    x, y = kinds.data()
    make, words = (kinds.REFUSED | kinds.UNFIXED)[kind]
    net = make()
    calls = [lambda: climbed(net, x, y)]
    if kind in kinds.UNFIXED:
        calls.append(lambda: trained(net, x, y, evidence_every=1))
    else:
        calls.append(lambda: trained(net, x, y))
        calls.append(
            lambda: bg.train_ensemble([net, make()], x, torch.stack([y, y]), "gaussian", epochs=1)
        )
    before = state_of(net, kind)
    for call in calls:
        with pytest.raises((TypeError, ValueError), match=words):
            call()
        assert kind == "lazy" or kinds.same_state(before, state_of(net, kind))


def state_of(net, kind):
    return None if kind == "lazy" else kinds.state(net)


def test_a_gradient_that_is_not_finite_is_named_and_nothing_is_changed():
    x, y = kinds.zero_row()
    net = kinds.NoSlope()
    before = kinds.state(net)
    for _ in range(2):
        with pytest.raises(bg.DivergedError, match=r"'a.weight' is not finite at step \d of epoch"):
            trained(net, x, y, batch=16)
        assert kinds.same_state(before, kinds.state(net))
    with pytest.raises(bg.DivergedError, match=r"in 'a.weight' is not finite"):
        climbed(net, x, y)
    nets = [net, kinds.NoSlope()]
    with pytest.raises(bg.DivergedError, match=r"gradient of networks \[0, 1\]"):
        bg.train_ensemble(nets, x, torch.stack([y, y]), "gaussian", epochs=1)
    assert kinds.same_state(before, kinds.state(net))


def test_weights_that_overflow_in_the_last_step_are_found():
    x, y = kinds.data()
    net = kinds.base().float()
    with pytest.raises(bg.DivergedError, match="weight' is not finite at step 1 of epoch 1"):
        trained(net, x.float(), 100 * y.float(), epochs=1, learning_rate=3e38)
    assert all(torch.isfinite(p).all() for p in net.parameters())


def test_an_interruption_leaves_the_last_complete_epoch():
    x, y = kinds.data()
    net, two = kinds.FREE["batch norm"](), kinds.FREE["batch norm"]()
    net.eval()[1].train()
    modes = [module.training for module in net.modules()]
    seen = []

    def stop(done, expected, said):
        seen.append(done)
        if done == 8:  # in the third epoch of three steps
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(net, x, y, epochs=5, batch=11, progress=stop)
    trained(two, x, y, epochs=2, batch=11)
    after = kinds.state(net)
    assert after["modes"] == modes
    for value, want in zip(after["values"], kinds.state(two)["values"], strict=True):
        assert torch.equal(value, want)
    before = kinds.state(net)
    with pytest.raises(KeyboardInterrupt):
        climbed(net, x, y, progress=lambda *_: stop(8, 0, ""))
    assert kinds.same_state(before, kinds.state(net))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"y": torch.zeros(66, dtype=F64)}, ValueError, "33 inputs"),
        ({"y": torch.zeros(33, 2, dtype=F64)}, ValueError, "2 output"),
        ({"y": None}, TypeError, "y must hold the targets"),
        ({"noise": torch.ones(2)}, ValueError, "noise must be one number"),
    ],
)
def test_other_data_are_refused(change, error, words):
    x, y = kinds.data()
    given = {"x": x, "y": y} | change
    for call in (trained, climbed):
        with pytest.raises(error, match=words):
            call(kinds.base(), **given)


def test_a_loader_is_refused_in_words():
    x, y = kinds.data()
    loader = DataLoader(TensorDataset(x, y), batch_size=8)
    for call in (trained, climbed):
        with pytest.raises(TypeError, match="got a DataLoader; join its batches"):
            call(kinds.base(), loader, None)
    with pytest.raises(TypeError, match="got a DataLoader; join its batches"):
        bg.train(kinds.base(), loader)


@pytest.mark.parametrize("seed", [-1, 1.5])
def test_seeds_are_whole_and_not_negative(seed):
    x, y = kinds.data()
    with pytest.raises(ValueError, match="seed must be an integer"):
        trained(kinds.base(), x, y, seed=seed)


def test_modes_of_autograd_and_their_tensors_do_not_matter():
    x, y = kinds.data()
    want = trained(kinds.base(), x, y).history.loss.iloc[-1], climbed(kinds.base(), x, y)
    for mode in (torch.no_grad, torch.inference_mode):
        net = kinds.base()
        with mode():
            given = x.clone(), y.clone()
            made = kinds.base()
            assert trained(net, *given).history.loss.iloc[-1] == want[0]
            assert climbed(made, *given) == want[1]
        assert trained(kinds.base(), *given).history.loss.iloc[-1] == want[0]
    with pytest.raises(ValueError, match="outside of torch.inference_mode"):
        trained(made, x, y)
    assert climbed(kinds.base(), x.clone().requires_grad_(), y) == want[1]


def test_tied_weights_have_one_precision_in_the_order_of_laplace():
    x, y = kinds.data()
    net = kinds.Tied()
    alpha = torch.tensor([1.0, 2.0, 3.0], dtype=F64)
    found = climbed(net, x, y, prior_precision=alpha)
    pull = net.a.weight.square().sum() + 2 * net.b.bias.square().sum()
    pull = pull + 3 * sum(p.square().sum() for p in net.last.parameters())
    value = gaussian(y, net(x)) - 0.5 * pull
    assert found.log_posterior == pytest.approx(float(value.detach()), rel=1e-10)
    with pytest.raises(ValueError, match=r"of shape \(3,\)"):
        climbed(net, x, y, prior_precision=torch.ones(4))


def test_the_likelihood_of_the_user_keeps_its_noise():
    x, y = kinds.data()
    mine = bg.likelihoods.Gaussian(0.5)
    run = bg.train(kinds.base(), x, y, mine, epochs=2, evidence_every=1)
    assert float(mine.log_noise.exp()) == pytest.approx(0.5)
    assert float(run.noise) != pytest.approx(0.5)


@pytest.mark.parametrize("kind", ["tied", "unused layer", "frozen head", "pruned", "attention"])
def test_an_ensemble_equals_networks_alone(kind):
    x, y = kinds.data()
    nets = [kinds.FREE[kind]() for _ in range(2)]
    alone = copy.deepcopy(nets) if kind != "pruned" else [kinds.FREE[kind]() for _ in nets]
    settings = {"epochs": 2, "batch": 16, "learning_rate": 0.01, "prior_precision": 0.3}
    tasks = torch.stack([y, -y])
    losses = bg.train_ensemble(nets, x, tasks, "gaussian", **settings)
    for b, net in enumerate(alone):
        run = bg.train(net, x, tasks[b], "gaussian", noise=1.0, **settings)
        assert losses[b].tolist() == pytest.approx(run.history.loss.tolist(), rel=1e-12)
        for p, q in zip(net.parameters(), nets[b].parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-10, atol=1e-13)


def test_networks_of_an_ensemble_must_differ_and_agree():
    x, y = kinds.data()
    net, tasks = kinds.base(), torch.stack([y, y])
    for nets, words in (
        ([net, net], "one of them twice"),
        ([net, kinds.base(2)], r"nets\[0\] and nets\[1\] differ"),
        ([kinds.Recurrent(), kinds.Recurrent()], "cannot be run together"),
        ([kinds.EQUAL["checkpoint"]() for _ in range(2)], "cannot be run together"),
    ):
        with pytest.raises(ValueError, match=words):
            bg.train_ensemble(nets, x, tasks, "gaussian", epochs=1)
    with pytest.raises(ValueError, match=r"nets\[1\] must have finite values"):
        bg.train_ensemble([net, kinds._not_finite()], x, tasks, "gaussian", epochs=1)


def test_augmentation_must_keep_the_observations():
    x, y = kinds.data()
    net = kinds.base()
    before = kinds.state(net)
    for augment in (lambda rows: rows[:-1], lambda rows: None):
        with pytest.raises(ValueError, match="augment must return inputs"):
            trained(net, x, y, augment=augment)
        assert kinds.same_state(before, kinds.state(net))


def test_an_old_weight_norm_is_trained_and_its_weight_is_current():
    x, y = kinds.data()
    old, new = kinds.base(), kinds.FREE["weight norm"]()
    with pytest.warns(FutureWarning, match="weight_norm"):
        nn.utils.weight_norm(old[0])
    for call in (trained, climbed):
        for net in (old, new):
            call(net, x, y)
        torch.testing.assert_close(old[0].weight, new[0].weight, rtol=1e-4, atol=1e-6)
        assert not old[0].weight.requires_grad
        copy.deepcopy(old)
