"""Tests of `bayesgen.pacbayes.trained.network`, `bayesgen.pacbayes.trained.unseen`,
`bayesgen.pacbayes.trained.function_space` and `bayesgen.pacbayes.trained.noisy_weights`.
"""

import copy
import math
import pickle

import pytest
import torch
from torch import nn

import bayesgen as bg
from bayesgen import pacbayes
from bayesgen.pacbayes.trained import function_space, noisy_weights
from bayesgen.pacbayes.trained.unseen import evaluated, mistaken, unseen

KINDS = ("deterministic", "last_layer", "tangent", "weights")
FAST = {"epochs": 2, "draws": 100, "scales": (0.1, 0.01)}


def make():
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))


def train(net, x, y):
    bg.train(net, x, y, epochs=15, batch=20, learning_rate=0.1)


def drawn(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 4, generator=generator)
    y = (x[:, :3] + 0.3 * torch.randn(n, 3, generator=generator)).argmax(1)
    return x, y


def settings(kind):
    return {} if kind == "deterministic" else dict(FAST)


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_of_a_split_is_certified_and_the_bound_holds(kind):
    x, y = drawn(300)
    found = pacbayes.certify_network(
        make, x, y, kind=kind, split=0.5, train=train, **settings(kind)
    )
    far, labels = drawn(20_000, seed=1)
    mean = found.posterior.mean(far)
    error = float((mean.argmax(1) != labels).double().mean())
    assert error < found.bound < 0.5
    assert found.n == 150
    assert "150 other observations" in str(found)
    assert len(found.payments) == (0 if kind == "deterministic" else 1)


def test_a_deterministic_certificate_is_the_binomial_tail_of_the_errors():
    x, y = drawn(200)
    net = make()
    train(net, x[:100], y[:100])
    wrong = int((net(x[100:]).argmax(1) != y[100:]).sum())
    found = pacbayes.certify_network(net, x[100:], y[100:], unseen=True)
    assert found.risk == wrong / 100
    assert found.bound == pacbayes.binomial(wrong, 100, 0.05)
    several = pacbayes.certify_network(net, x[100:], y[100:], unseen=True, candidates=5)
    assert several.bound == pytest.approx(pacbayes.binomial(wrong, 100, 0.01), rel=1e-9)
    assert several.payments[0].nats == pytest.approx(math.log(5))


def test_ties_and_nan_count_as_errors():
    outputs = torch.tensor([[1.0, 1.0], [math.nan, 0.0], [2.0, 1.0], [0.0, math.nan]])
    assert mistaken(outputs, torch.zeros(4, dtype=torch.int64)).tolist() == [
        True,
        True,
        False,
        True,
    ]


def test_nothing_of_the_callers_is_changed():
    x, y = drawn(120)
    net = make()
    train(net, x[:60], y[:60])
    net.train()
    before = copy.deepcopy(net.state_dict()), x.clone(), torch.get_rng_state()
    for kind in KINDS:
        pacbayes.certify_network(net, x[60:], y[60:], kind=kind, unseen=True, **settings(kind))
    assert all(torch.equal(before[0][k], v) for k, v in net.state_dict().items())
    assert torch.equal(before[1], x)
    assert torch.equal(before[2], torch.get_rng_state())
    assert net.training
    assert not net[0]._forward_hooks


def test_the_same_seed_gives_the_same_certificate():
    x, y = drawn(100)
    net = make()
    bounds = [
        pacbayes.certify_network(net, x, y, kind="weights", unseen=True, seed=3, **FAST).bound
        for _ in range(2)
    ]
    assert bounds[0] == bounds[1]


# ------------------------------------------------------------------ what the network has seen


def test_a_network_that_saw_the_certifying_observations_is_refused():
    x, y = drawn(100)
    net = make()
    train(net, x, y)
    with pytest.raises(ValueError, match=r"must not have seen .* trained on 100 observations"):
        pacbayes.certify_network(net, x[50:], y[50:])
    with pytest.raises(ValueError, match="must not have seen"):
        pacbayes.certify_network(net, x[50:], y[50:], unseen=True)
    with pytest.raises(ValueError, match="must not have seen"):
        pacbayes.certify_network(copy.deepcopy(net), x, y, split=0.5, train=train, unseen=True)
    with pytest.raises(ValueError, match="must not have seen"):
        pacbayes.certify_network(lambda: copy.deepcopy(net), x, y, split=0.5, train=train)


def test_training_on_more_than_the_share_is_found():
    x, y = drawn(100)
    with pytest.raises(ValueError, match="must not have seen"):
        pacbayes.certify_network(make, x, y, split=0.5, train=lambda net, *_: train(net, x, y))


def test_weights_of_unknown_origin_are_asked_about():
    x, y = drawn(60)
    net = make()
    with pytest.raises(ValueError, match="pass unseen=True to state that"):
        pacbayes.certify_network(net, x, y)
    assert "as the caller states" in str(pacbayes.certify_network(net, x, y, unseen=True))
    with pytest.raises(ValueError, match="pass unseen=True to state that"):
        pacbayes.certify_network(lambda: copy.deepcopy(net), x, y)
    assert "was not seen to take tensors from outside" in str(pacbayes.certify_network(make, x, y))


def with_plain_torch(net, x, y):
    optimiser = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(20):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimiser.step()
    return net


def holding(net, thing):
    net.held = [thing]
    return net


SEEN = {
    "trained in the function": lambda x, y: lambda: with_plain_torch(make(), x, y),
    "trained by bayesgen later": lambda x, y: fine_tuned(with_plain_torch(make(), x, y)),
    "copied in the function": lambda x, y: copying(with_plain_torch(make(), x, y)),
    "kept in a list": lambda x, y: kept(with_plain_torch(make(), x, y)),
    "data in a buffer": lambda x, y: lambda: buffered(make(), x),
}


def fine_tuned(net):
    train(net, *drawn(40, seed=5))
    return net


def copying(net):
    def copied():
        other = make()
        other.load_state_dict(net.state_dict())
        with torch.no_grad():
            other[0].weight += 1e-4 * torch.randn_like(other[0].weight)
        return other

    return copied


def kept(net):
    return lambda: holding(make(), net)


def buffered(net, x):
    net.register_buffer("data", x)
    return net


@pytest.mark.parametrize("how", SEEN)
def test_a_network_that_may_have_seen_the_data_is_asked_about(how):
    x, y = drawn(60)
    net = SEEN[how](x, y)
    with pytest.raises(ValueError, match="pass unseen=True to state that"):
        pacbayes.certify_network(net, x, y)
    with pytest.raises(ValueError, match="pass unseen=True to state that"):
        pacbayes.certify_network(net, x, y, split=0.5, train=train)


def test_equal_observations_on_both_sides_are_told():
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(2, (200, 4), generator=generator).float()
    y = (x.sum(1) > 2).long()
    found = pacbayes.certify_network(make, x, y, split=0.5, train=train)
    assert "The inputs of 100 of these are equal to some of the others" in str(found)
    far = pacbayes.certify_network(make, *drawn(200), split=0.5, train=train)
    assert "are equal" not in str(far)


def test_train_must_change_the_network_that_it_is_given():
    x, y = drawn(60)
    with pytest.raises(TypeError, match="train must change .* but it returned another one"):
        pacbayes.certify_network(make, x, y, split=0.5, train=lambda *_: make())
    with pytest.raises(ValueError, match="but no weight differs"):
        pacbayes.certify_network(make, x, y, split=0.5, train=lambda *_: None)


def test_a_frozen_network_is_certified():
    x, y = drawn(60)
    found = pacbayes.certify_network(lambda: make().requires_grad_(False), x, y)
    assert found.complexity == 0


def test_outputs_that_are_not_finite_are_refused():
    class Root(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 3)

        def forward(self, x):
            return self.inner(x) + x[:, :1].sqrt()

    x, y = drawn(60)
    with pytest.raises(ValueError, match="net must have finite outputs"):
        pacbayes.certify_network(Root, x, y)


@pytest.mark.parametrize("kind", KINDS)
def test_new_inputs_of_another_kind_are_refused(kind):
    x, y = drawn(60)
    found = pacbayes.certify_network(make, x, y, kind=kind, **settings(kind))
    for wrong in (x[:, :2], x.double()):
        with pytest.raises((TypeError, ValueError), match="net|x_new"):
            found.posterior.mean(wrong)


def test_a_layer_that_is_used_twice_has_no_last_layer_posterior():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            return self.layer(self.layer(x).tanh())

    x, y = drawn(60)
    with pytest.raises(ValueError, match="needs a last layer that is used once"):
        pacbayes.certify_network(Twice, x, y, kind="last_layer")


def test_training_that_diverges_says_so():
    x, y = drawn(60)
    with pytest.raises(bg.errors.DivergedError, match="learning_rate=1e\\+10"):
        pacbayes.certify_network(make, x, y, kind="weights", learning_rate=1e10, **FAST)


@pytest.mark.parametrize("seed", [17, 18])
def test_the_mean_of_q_is_optimised_without_an_infinite_divergence(seed):
    torch.manual_seed(seed)
    x = torch.randn(100, 3)
    y = (torch.rand(100) < torch.sigmoid(2 * x[:, 0])).long()
    found = pacbayes.certify_network(
        lambda: nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)), x, y, kind="last_layer"
    )
    assert found.bound < 0.8


# ------------------------------------------------------------------ the Gaussian posteriors


def held(net, x, y):
    return unseen(net, x, y, split=None, train=None, stated=True, batch=64, seed=0)


def test_the_kernel_of_the_tangents_is_that_of_autograd():
    x, y = drawn(12)
    net = make().double()
    own = held(net, x.double(), y)
    prior = function_space.tangent(own, 0, None)
    generator = torch.Generator().manual_seed(0)
    signs = (2 * torch.randint(2, (3,), generator=generator) - 1).double() / 3**0.5
    rows = []
    for row in x.double():
        value = (net(row[None])[0] * signs).sum()
        grads = torch.autograd.grad(value, list(net.parameters()))
        sizes = [float(p.detach().square().mean().sqrt()) for p in net.parameters()]
        rows.append(torch.cat([s * g.flatten() for s, g in zip(sizes, grads, strict=True)]))
    K = torch.stack(rows) @ torch.stack(rows).mT
    vectors, values = prior.spectrum.vectors, prior.spectrum.density.nodes
    found = (vectors * values[: vectors.shape[1]]) @ vectors.mT
    assert torch.allclose(found, K, rtol=1e-8, atol=1e-9)
    alpha = torch.randn(12, 3, dtype=torch.float64)
    assert torch.allclose(prior.update(alpha)(x.double()), K @ alpha, rtol=1e-6, atol=1e-8)


def test_the_change_by_the_last_layer_is_that_of_its_kernel():
    x, y = drawn(80)
    own = unseen(make, x, y, split=0.5, train=train, stated=False, batch=7, seed=0)
    prior = function_space.last_layer(own)
    vectors, values = prior.spectrum.vectors, prior.spectrum.density.nodes
    K = (vectors * values[: vectors.shape[1]]) @ vectors.mT
    alpha = torch.randn(40, 3, dtype=torch.float64)
    assert torch.allclose(prior.update(alpha)(own.x), K @ alpha, rtol=1e-8, atol=1e-10)


def test_the_divergence_of_gaussian_weights_is_that_of_torch():
    x, y = drawn(50)
    family = noisy_weights._Family(held(make(), x, y), 0.2)
    with torch.no_grad():
        for name in family.means:
            family.means[name] += 0.05 * torch.randn_like(family.means[name])
            family.logs[name] += 0.3 * torch.randn_like(family.logs[name])
    total = 0.0
    for name, mean in family.means.items():
        q = torch.distributions.Normal(mean.double(), family.logs[name].double().exp())
        p = torch.distributions.Normal(family.prior[name].double(), family.spread[name])
        total += float(torch.distributions.kl_divergence(q, p).sum().detach())
    assert float(family.divergence().detach()) == pytest.approx(total, rel=1e-9)


def test_without_epochs_q_is_the_prior():
    x, y = drawn(100)
    found = pacbayes.certify_network(
        make(), x, y, kind="weights", unseen=True, epochs=0, draws=50, scales=(0.1,)
    )
    assert found.complexity < 1e-6
    assert found.payments == ()


def test_training_the_weights_lowers_the_bound():
    x, y = drawn(4_000)
    untrained, trained = (
        pacbayes.certify_network(
            make, x, y, kind="weights", epochs=epochs, draws=400, scales=(1.0,), learning_rate=0.02
        )
        for epochs in (0, 20)
    )
    assert trained.bound < untrained.bound - 0.2
    assert trained.complexity > 1


def test_the_draws_of_the_weights_have_their_distribution():
    x, y = drawn(30)
    q = noisy_weights._Family(held(make(), x, y), 0.5).posterior()
    generator = torch.Generator().manual_seed(0)
    name = next(iter(q.means))
    every = torch.stack([q.drawn(generator)[name] for _ in range(2_000)])
    z = (every.mean(0) - q.means[name]) / q.deviations[name] * 2_000**0.5
    assert float(z.abs().max()) < 5
    assert torch.allclose(every.std(0), q.deviations[name], rtol=0.1)


# ------------------------------------------------------------------ coverage


@pytest.mark.slow
def test_certificates_of_random_labels_fail_no_more_often_than_they_say():
    fails = dict.fromkeys(KINDS, 0)
    for seed in range(60):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(80, 4, generator=generator)
        y = torch.randint(3, (80,), generator=generator)
        torch.manual_seed(seed)
        for kind in KINDS:
            found = pacbayes.certify_network(
                make, x, y, kind=kind, split=0.5, train=train, delta=0.2, seed=seed,
                **settings(kind),
            )  # fmt: skip
            fails[kind] += found.bound < 2 / 3
    assert all(count <= 20 for count in fails.values()), fails


# ------------------------------------------------------------------ other networks, bad input


def test_convolutions_and_normalisation_and_frozen_weights():
    x = torch.rand(60, 1, 6, 6)
    y = torch.arange(60) % 2

    def convolutional():
        return nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2)
        )

    def frozen():
        net = convolutional()
        net[0].weight.requires_grad_(False)
        return net

    for factory in (convolutional, frozen):
        for kind in KINDS:
            found = pacbayes.certify_network(
                factory, x, y, kind=kind, split=0.5, train=train, **settings(kind)
            )
            assert 0 < found.bound <= 1


def test_a_network_without_a_linear_last_layer_has_no_last_layer_posterior():
    x, y = drawn(40)
    net = nn.Sequential(nn.Linear(4, 3), nn.LogSoftmax(1))
    with pytest.raises(ValueError, match="outputs are those of a linear layer"):
        pacbayes.certify_network(net, x, y, kind="last_layer", unseen=True)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"net": 3}, TypeError, "net must be a torch.nn.Module, or a function"),
        ({"net": lambda: 3}, TypeError, r"net\(\) must make a torch.nn.Module"),
        ({"split": 0.5}, ValueError, "split and train must be given together"),
        ({"split": 0.001, "train": train}, ValueError, "on both sides, got 0 of 60"),
        ({"split": 0.5, "train": 3}, TypeError, "train must be a function"),
        ({"kind": "gibbs"}, ValueError, "kind must be one of"),
        ({"y": torch.zeros(60, 3)}, ValueError, "one class label for each of the 60"),
        ({"y": torch.full((60,), 7)}, ValueError, "y must lie in 0..2"),
        ({"y": torch.zeros(60)}, TypeError, "integer class labels"),
        ({"scales": (1.0,)}, ValueError, "scales must be None"),
        ({"kind": "tangent", "scales": ()}, ValueError, "at least one scale"),
        ({"kind": "tangent", "scales": (-1.0,)}, ValueError, "scales must be positive"),
        ({"draws": 0}, ValueError, "draws must be"),
        ({"delta": 1.5}, ValueError, "delta must lie in"),
        ({"net": nn.Sequential(nn.Linear(4, 1))}, ValueError, "two or more classes"),
        ({"net": nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, track_running_stats=False))},
         ValueError, "must map each observation alone"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(change, error, words):
    x, y = drawn(60)
    arguments = {"net": make, "x": x, "y": y, "unseen": True} | change
    with pytest.raises(error, match=words):
        pacbayes.certify_network(
            arguments.pop("net"), arguments.pop("x"), arguments.pop("y"), **arguments
        )


def test_a_function_that_returns_the_same_network_twice_is_refused():
    x, y = drawn(60)
    net = make()
    with pytest.raises(ValueError, match="got the same one twice"):
        pacbayes.certify_network(lambda: net, x, y, split=0.5, train=train)


def test_a_deep_kernel_of_a_split_is_certified():
    import gpytorch

    x, y = drawn(120)
    coded = bg.likelihoods.one_hot(y, 3)
    net = nn.Sequential(nn.Linear(4, 3), nn.Tanh()).double()
    model = bg.DeepKernel(net, gpytorch.kernels.RBFKernel(), steps=20)
    with pytest.raises(ValueError, match="pass unseen=True"):
        pacbayes.certify(model, x.double(), coded, split=0.5)
    with pytest.raises(ValueError, match=r"its features are learnt; pass split="):
        pacbayes.certify(model, x.double(), coded)
    found = pacbayes.certify(model, x.double(), coded, split=0.5, unseen=True)
    far, labels = drawn(2_000, seed=1)
    error = float((found.posterior.mean(far.double()).argmax(1) != labels).double().mean())
    assert error < found.bound < 0.67
    assert evaluated(net, x.double(), 7).shape == (120, 3)


@pytest.mark.parametrize("kind", pacbayes.trained.network.KINDS)
def test_results_can_be_pickled(kind):
    x, y = torch.randn(24, 6), torch.arange(24) % 2
    few = {"epochs": 1, "draws": 10} if kind == "weights" else {}
    found = pacbayes.certify_network(lambda: nn.Linear(6, 2), x, y, kind=kind, **few)
    again = pickle.loads(pickle.dumps(found))
    assert again.bound == found.bound
    assert torch.equal(again.posterior.mean(x), found.posterior.mean(x))


class Named(nn.Module):
    """A network that calls its last layer with a keyword."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(6, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(input=self.body(x).tanh())


def test_a_last_layer_may_be_called_with_a_keyword():
    x, y = torch.randn(24, 6), torch.arange(24) % 2
    net = Named()
    plain = nn.Sequential(net.body, nn.Tanh(), net.head)
    found, expected = (
        pacbayes.certify_network(one, x, y, kind="last_layer", unseen=True) for one in (net, plain)
    )
    assert found.bound == pytest.approx(expected.bound, rel=1e-9)


def test_very_many_candidates_make_the_bound_vacuous():
    x, y = torch.randn(20, 4), torch.arange(20) % 2
    found = pacbayes.certify_network(lambda: nn.Linear(4, 2), x, y, candidates=10**400)
    assert found.bound == 1.0


def test_texts_are_refused_with_what_to_do():
    with pytest.raises(TypeError, match=r"the numbers 0 … C − 1 of the network's outputs, got tex"):
        pacbayes.certify_network(lambda: nn.Linear(4, 2), torch.randn(4, 4), ["a", "b", "a", "b"])


def test_one_observation_is_in_the_singular():
    def train(net, x, y):
        with torch.no_grad():
            net.weight.add_(1.0)

    x, y = torch.randn(2, 4), torch.arange(2)
    said = str(pacbayes.certify_network(lambda: nn.Linear(4, 2), x, y, split=0.5, train=train))
    assert "the draw of 1 observation," in said
    assert "given 1 other observation, a random share" in said
    assert "on the 1 that is left" in said
