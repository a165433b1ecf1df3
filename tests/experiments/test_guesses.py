"""Tests of `bayesgen.experiments.guesses` and `bayesgen.experiments.guess_problems`."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from bayesgen import networks
from bayesgen.experiments import guess_problems
from bayesgen.experiments.guesses import Guesser, Share, normal, uniform


def plane():
    """A linear network of two inputs without a bias."""
    return nn.Linear(2, 1, bias=False)


@pytest.mark.parametrize("degrees", [30.0, 90.0, 150.0])
def test_share_of_a_linear_network_without_bias_is_an_angle(degrees):
    """w·a > 0 and w·b > 0 hold for an angle π − φ of 2π, where φ lies between a and b."""
    angle = math.radians(degrees)
    x = torch.tensor([[1.0, 0.0], [math.cos(angle), math.sin(angle)]])
    share, _ = Guesser(plane(), normal).guess(x, torch.tensor([1, 1]), 40_000, seed=0)
    exact = (math.pi - angle) / (2 * math.pi)
    low, high = share.interval(0.999)
    assert low < exact < high
    other, _ = Guesser(plane(), normal).guess(x, torch.tensor([1, 0]), 40_000, seed=0)
    assert other.interval(0.999)[0] < angle / (2 * math.pi) < other.interval(0.999)[1]


def test_shares_of_all_labels_of_the_same_draws_add_to_one():
    torch.manual_seed(0)
    x = torch.randn(3, 5)
    guesser = Guesser(networks.MLP(5, (4,), 1))
    shares = [
        guesser.guess(x, torch.tensor([a, b, c]), 3000, seed=1)[0].value
        for a in (0, 1) for b in (0, 1) for c in (0, 1)
    ]  # fmt: skip
    assert sum(shares) == pytest.approx(1)


def test_share_is_unbiased_over_seeds():
    x, y = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([1, 1])
    guesser = Guesser(plane(), normal)
    values = [guesser.guess(x, y, 200, seed=seed)[0].value for seed in range(200)]
    error = np.std(values) / len(values) ** 0.5
    assert abs(np.mean(values) - 0.25) < 4 * error
    assert error == pytest.approx((0.25 * 0.75 / 200 / 200) ** 0.5, rel=0.2)


def test_kept_networks_fit_alone_and_are_the_first_of_those_that_do(monkeypatch):
    points = guess_problems.problem("digits 0/1", 4, seed=0)
    net = guess_problems.FAMILIES["LeNet-like"](2, 64)
    guesser = Guesser(net)
    share, theta = guesser.guess(points.x, points.y, 1000, seed=0, keep=7)
    assert theta.shape == (7, guesser.size)
    assert share.accepted >= 7
    for row in theta:
        nn.utils.vector_to_parameters(row, net.parameters())
        with torch.no_grad():
            assert torch.equal(net(points.x)[:, 0] > 0, points.y.bool())
    check = guesser.check(theta, points.x)
    assert check.passed
    monkeypatch.setattr(Guesser, "_scores", lambda self, theta, x: torch.zeros(len(theta), len(x)))
    with pytest.raises(RuntimeError, match="scores of networks run together"):
        guesser.guess(points.x, points.y, 10, seed=0)


def test_interval_contains_what_the_binomial_distribution_does_not_refute():
    share = Share(3, 50)
    low, high = share.interval(0.9)
    assert stats.binom.sf(2, 50, low) == pytest.approx(0.05)
    assert stats.binom.cdf(3, 50, high) == pytest.approx(0.05)
    assert Share(0, 50).interval()[0] == 0
    assert Share(50, 50).interval()[1] == 1
    assert Share(0, 50).log_marginal_likelihood == -math.inf
    assert share.log_marginal_likelihood == pytest.approx(math.log(3 / 50))
    with pytest.raises(ValueError, match="accepted must be at most 2, got 3"):
        Share(3, 2)


def test_normalised_loss_does_not_depend_on_the_scale_of_layers_or_inputs():
    torch.manual_seed(0)
    x, y = torch.randn(6, 5), torch.tensor([0, 1, 1, 0, 1, 0])
    net = nn.Sequential(nn.Linear(5, 4, bias=False), nn.ReLU(), nn.Linear(4, 1, bias=False))
    guesser = Guesser(net)
    theta = uniform(3, guesser.size, torch.Generator().manual_seed(0))
    loss = guesser.normalised_loss(theta, x, y)
    scaled = theta.clone()
    scaled[:, :20] *= 7
    scaled[:, 20:] *= 0.1
    torch.testing.assert_close(guesser.normalised_loss(scaled, 3 * x, y), loss)
    W, v = theta[0, :20].reshape(4, 5).double(), theta[0, 20:].double()
    f = torch.relu(x.double() @ W.mT) @ v / (W.norm() * v.norm() * x.double().norm() / 6**0.5)
    want = torch.log1p(torch.exp(-(2 * y - 1) * f)).mean()
    torch.testing.assert_close(loss[0], want)


def test_descent_of_one_network_is_that_of_torch():
    torch.manual_seed(0)
    x, y = torch.randn(6, 3), torch.tensor([0, 1, 1, 0, 1, 0])
    net = networks.MLP(3, (4,), 1)
    guesser = Guesser(net)
    start = uniform(2, guesser.size, torch.Generator().manual_seed(0))
    found = list(guesser.descend(start, x, y, epochs=[2, 5], learning_rate=0.1, batch=6))
    nn.utils.vector_to_parameters(start[1].clone(), net.parameters())
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for _ in range(5):
        optimiser.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(net(x)[:, 0], y.float()).backward()
        optimiser.step()
    torch.testing.assert_close(
        found[1][1], nn.utils.parameters_to_vector(net.parameters()).detach()
    )
    assert len(found) == 2


@pytest.mark.parametrize("name", list(guess_problems.PROBLEMS))
def test_problems_are_balanced_and_nested_and_their_test_points_are_others(name):
    small, large = (guess_problems.problem(name, n, seed=3) for n in (4, 8))
    for points, n in ((small, 4), (large, 8)):
        assert points.y.bincount().tolist() == [n // 2, n // 2]
        assert torch.cdist(points.x, points.x_test).min() > 0
    assert torch.cdist(small.x, large.x).min(1).values.max() == 0
    with pytest.raises(ValueError, match="n must be even"):
        guess_problems.problem(name, 3, seed=0)


def test_bad_networks_and_labels_are_named():
    with pytest.raises(ValueError, match="net must have no buffers"):
        Guesser(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 1)))
    with pytest.raises(ValueError, match="y must have 2 labels"):
        Guesser(plane()).guess(torch.zeros(2, 2), torch.tensor([1]), 10, seed=0)
    with pytest.raises(ValueError, match="count must be"):
        Guesser(plane()).guess(torch.zeros(2, 2), torch.tensor([1, 0]), 0, seed=0)


@pytest.mark.parametrize(
    ("changed", "error", "match"),
    [
        ({"y": torch.tensor([0, 2])}, ValueError, r"y must lie in 0\.\.1"),
        ({"y": torch.tensor([-1, 1])}, ValueError, r"y must lie in 0\.\.1"),
        ({"y": torch.tensor([0.0, 1.0])}, TypeError, "y must hold integer class labels"),
        ({"y": torch.tensor([0])}, ValueError, "y must have 2 labels"),
        ({"epochs": []}, ValueError, "epochs must be increasing"),
        ({"epochs": [3, 2]}, ValueError, "epochs must be increasing"),
        ({"epochs": 0}, ValueError, "epochs must be increasing"),
        ({"epochs": [0, 2]}, ValueError, "epochs must be an integer of at least 1, got 0"),
        ({"batch": 0}, ValueError, "batch must be an integer of at least 1"),
        ({"learning_rate": -1.0}, ValueError, "learning_rate must be positive"),
        ({"theta": torch.zeros(1, 3)}, ValueError, r"theta must have shape \(B, 2\)"),
        ({"theta": torch.zeros(2)}, ValueError, r"theta must have shape \(B, 2\)"),
        ({"theta": torch.full((1, 2), torch.nan)}, ValueError, "theta must be finite"),
        ({"theta": torch.zeros(1, 2).long()}, TypeError, "theta must hold real numbers"),
        ({"x": torch.zeros(2, 3)}, ValueError, "x must hold inputs that net takes"),
        ({"x": torch.zeros(0, 2)}, ValueError, "x must have shape"),
        ({"x": "x"}, TypeError, "x must be a tensor or an array"),
    ],
)
def test_bad_arguments_of_descent_are_named_by_the_call(changed, error, match):
    given = {"theta": torch.zeros(1, 2), "x": torch.ones(2, 2), "y": torch.tensor([0, 1])}
    given |= {"epochs": [1], "batch": 1, "learning_rate": 0.1} | changed
    with pytest.raises(error, match=match) as found:
        Guesser(plane()).descend(**given)
    assert "\n" not in str(found.value)


def test_networks_of_several_outputs_and_draws_of_another_shape_are_refused():
    x, y = torch.ones(2, 2), torch.tensor([0, 1])
    with pytest.raises(ValueError, match="net must have one output for each input"):
        Guesser(nn.Linear(2, 3)).guess(x, y, 10, seed=0)
    with pytest.raises(ValueError, match=r"result of draw must have shape \(B, 2\)"):
        Guesser(plane(), lambda count, size, g: torch.zeros(count, 5)).guess(x, y, 10, seed=0)
    with pytest.raises(ValueError, match="draw must give weights of shape"):
        Guesser(plane(), lambda count, size, g: torch.zeros(1, size)).guess(x, y, 10, seed=0)
    with pytest.raises(TypeError, match="draw must be a function"):
        Guesser(plane(), "normal")


def test_dropout_is_off_and_other_dtypes_and_arrays_are_converted():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 1))
    x, y = torch.randn(4, 2), np.array([0, 1, 1, 0])
    own = Guesser(net).guess(x, y, 500, seed=0)
    arrays = Guesser(net).guess(x.double().numpy(), y, 500, seed=0)
    assert net.training
    assert own[0] == arrays[0]
    assert torch.equal(own[1], arrays[1])
    double = Guesser(net.double()).guess(x, y, 500, seed=0)
    assert double[0] == own[0]
    assert double[1].dtype == torch.float64


@pytest.mark.parametrize("draw", [normal, uniform])
def test_draws_do_not_depend_on_the_inputs_or_the_count(draw):
    guesser = Guesser(plane(), draw)

    def weights(n, count):
        return torch.cat([theta for theta, _ in guesser.batches(torch.ones(n, 2), count, seed=0)])

    first = weights(2, 1000)
    assert torch.equal(weights(5000, 1000), first)  # batches of 100 networks
    assert torch.equal(weights(2, 20_000)[:1000], first)
