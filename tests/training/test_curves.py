"""Tests of `bayesgen.training.curves`."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import bayesgen as bg
from bayesgen.errors import DivergedError
from bayesgen.training.curves import Curve, flat, named, train_curve


def test_curves_pass_through_their_ends_and_bend():
    start, bend, end = torch.randn(3, 5)
    for kind in ("line", "bezier", "chain"):
        curve = Curve(kind, start, bend, end)
        assert torch.equal(curve.at(0), start)
        assert torch.equal(curve.at(1), end)
    torch.testing.assert_close(Curve("line", start, bend, end).at(0.25), 0.75 * start + 0.25 * end)
    assert torch.equal(Curve("chain", start, bend, end).at(0.5), bend)
    torch.testing.assert_close(Curve("chain", start, bend, end).at(0.75), 0.5 * bend + 0.5 * end)
    first = [start + 0.3 * (bend - start), bend + 0.3 * (end - bend)]  # de Casteljau
    torch.testing.assert_close(
        Curve("bezier", start, bend, end).at(0.3), first[0] + 0.3 * (first[1] - first[0])
    )


def test_named_parameters_are_views_of_the_vector():
    net = bg.networks.MLP(3, (4,), 2)
    theta = flat(net)
    parts = named(net, theta)
    for name, value in net.named_parameters():
        assert torch.equal(parts[name], value)
    theta.zero_()
    assert all(not value.any() for value in parts.values())
    with pytest.raises(ValueError, match="theta must have shape"):
        named(net, theta[1:])


def nets_with_norm():
    torch.manual_seed(0)
    make = [bg.networks.VGG(((4, 1),), 2, channels=1) for _ in range(2)]
    x = torch.randn(30, 1, 4, 4)
    return make, x, (x.mean((1, 2, 3)) > 0).long()


@pytest.mark.parametrize("kind", ["bezier", "chain"])
def test_training_lowers_the_loss_on_the_curve_and_leaves_everything_else(kind):
    nets, x, y = nets_with_norm()
    ends = [flat(net) for net in nets]
    nets[0].eval()
    before = copy.deepcopy(nets[0].state_dict())
    rng = torch.get_rng_state()
    curve = train_curve(nets[0], *ends, x, y, kind=kind, epochs=30, batch=10, learning_rate=0.1)
    assert torch.equal(torch.get_rng_state(), rng)
    assert not nets[0].training
    assert all(torch.equal(value, before[key]) for key, value in nets[0].state_dict().items())
    assert torch.equal(curve.start, ends[0])
    assert torch.equal(curve.end, ends[1])

    def loss(theta):
        net = copy.deepcopy(nets[0]).train()
        nn.utils.vector_to_parameters(theta, net.parameters())
        return float(cross_entropy(net(x), y).detach())

    assert loss(curve.at(0.5)) < 0.7 * loss(0.5 * (ends[0] + ends[1]))
    again = train_curve(nets[0], *ends, x, y, kind=kind, epochs=30, batch=10, learning_rate=0.1)
    assert torch.equal(again.bend, curve.bend)


def test_one_full_batch_step_is_that_of_the_closed_gradient():
    net = bg.networks.MLP(2, (), 2).double()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 2, generator=generator, dtype=torch.float64)
    y = torch.tensor([0, 1, 0, 1, 1, 0])
    start, end = torch.randn(2, 6, generator=generator, dtype=torch.float64)
    curve = train_curve(net, start, end, x, y, epochs=1, batch=None, learning_rate=0.2,
                        prior_precision=3.0)  # fmt: skip
    t = float(torch.rand((), generator=torch.Generator().manual_seed(0)))
    bend = 0.5 * (start + end)
    theta = (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end
    W, b = theta[:4].reshape(2, 2), theta[4:]
    gap = torch.softmax(x @ W.mT + b, 1) - nn.functional.one_hot(y, 2)
    gradient = torch.cat([(gap.mT @ x).flatten(), gap.sum(0)]) / 6 + 0.5 * theta
    torch.testing.assert_close(curve.bend, bend - 0.2 * 2 * t * (1 - t) * gradient)


def test_bad_settings_and_divergence_are_named():
    net = bg.networks.MLP(2, (), 2)
    x, y = torch.randn(4, 2), torch.tensor([0, 1, 0, 1])
    ends = torch.zeros(2, 6)
    with pytest.raises(ValueError, match="kind must be one of 'bezier', 'chain'"):
        train_curve(net, *ends, x, y, kind="line")
    with pytest.raises(ValueError, match="prior_precision must be finite and at least 0"):
        train_curve(net, *ends, x, y, prior_precision=-1.0)
    with pytest.raises(ValueError, match="must have one shape"):
        Curve("line", ends[0], ends[0], ends[1, 1:])
    with pytest.raises(ValueError, match="end must be finite, got 6 NaN"):
        train_curve(net, ends[0], ends[1] * torch.nan, x, y, epochs=1)
    with pytest.raises(ValueError, match="prior_precision must be finite"):
        train_curve(net, *ends, x, y, prior_precision=float("inf"))
    with pytest.raises(TypeError, match="prior_precision must be a number"):
        train_curve(net, *ends, x, y, prior_precision="1")
    with pytest.raises(TypeError, match="start must be a tensor"):
        Curve("bezier", [0.0], [0.0], [0.0])


@pytest.mark.parametrize(("epochs", "match"), [(1, "weights of the bend"), (3, "the loss is")])
def test_divergence_is_named_also_after_the_last_step(epochs, match):
    net = bg.networks.MLP(2, (), 2)
    x, y = 1e4 * torch.randn(4, 2), torch.tensor([0, 1, 0, 1])
    with pytest.raises(DivergedError, match=match):
        train_curve(net, *torch.ones(2, 6), x, y, epochs=epochs, learning_rate=3e38)


def test_dropout_is_seeded_and_leaves_the_random_state():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    x, y = torch.randn(6, 2), torch.tensor([0, 1, 0, 1, 1, 1])
    ends = [nn.utils.parameters_to_vector(net.parameters()) for _ in range(2)]  # with a graph
    before = torch.get_rng_state()
    first = train_curve(net, *ends, x, y, epochs=2)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    arrays = [end.detach().double().numpy() for end in ends]
    assert torch.equal(train_curve(net, *arrays, x, y, epochs=2).bend, first.bend)
    assert not torch.equal(train_curve(net, *ends, x, y, epochs=2, seed=1).bend, first.bend)
    assert not first.start.requires_grad


@pytest.mark.parametrize(
    ("changed", "error", "match"),
    [
        ({"start": torch.zeros(5)}, ValueError, r"start must hold the 6 parameters .* got shape"),
        ({"end": torch.zeros(7)}, ValueError, r"end must hold the 6 parameters"),
        ({"end": "theta"}, TypeError, "end must be a tensor or an array"),
        ({"x": torch.zeros(0, 2)}, ValueError, "x "),
        ({"y": torch.tensor([0, 1])}, ValueError, r"y must have shape \(4,\)"),
        ({"y": torch.tensor([0, 1, 0, 1, 1])}, ValueError, r"y must have shape \(4,\)"),
        ({"y": torch.tensor([0, 1, 2, 1])}, ValueError, r"y must lie in 0\.\.1"),
        ({"y": torch.tensor([0.0, 1.0, 0.0, 1.0])}, TypeError, "y must hold integer class labels"),
        ({"x": torch.zeros(4, 2).double()}, (TypeError, ValueError), "float64|double"),
        ({"x": torch.zeros(4, 3)}, ValueError, "x|net"),
        ({"x": (torch.zeros(4, 2), torch.zeros(4, 2))}, (TypeError, ValueError), "x|net"),
        ({"seed": 2**63}, ValueError, "seed must be below"),
    ],
)
def test_bad_ends_and_observations_are_named(changed, error, match):
    given = {"start": torch.zeros(6), "end": torch.zeros(6), "x": torch.zeros(4, 2)}
    given |= {"y": torch.tensor([0, 1, 0, 1]), "epochs": 1} | changed
    with pytest.raises(error, match=match) as found:
        train_curve(bg.networks.MLP(2, (), 2), **given)
    assert "\n" not in str(found.value)


def test_batches_of_one_with_batch_norm_are_refused():
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    x, y = torch.randn(4, 2), torch.tensor([0, 1, 0, 1])
    with pytest.raises(ValueError, match="net cannot be trained on batches of one observation"):
        train_curve(net, flat(net), flat(net), x, y, batch=1)
