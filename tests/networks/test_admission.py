"""Tests of `bayesgen.networks.admission`."""

import warnings

import pytest
import torch
from torch import nn

from bayesgen.networks.admission import NO_GRADIENT, admit, first_outputs, scores, undisturbed


class Given(nn.Module):
    def __init__(self, forward):
        super().__init__()
        self.layer, self.given = nn.Linear(2, 3), forward

    def forward(self, x):
        return self.given(self.layer(x))


X = torch.linspace(-1, 1, 12).reshape(6, 2)


def check(net):
    run = lambda rows: scores(net(rows), len(rows))  # noqa: E731
    return admit(net, run, X[2:4], run(X).detach()[2:4])


def test_a_function_of_one_observation_is_admitted():
    assert check(Given(torch.tanh)).passed
    assert check(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).eval()).passed


def test_a_network_that_draws_numbers_without_use_is_admitted():
    assert check(Given(lambda h: h + 0 * torch.rand_like(h))).passed


@pytest.mark.parametrize("chance", [0.9, 0.3])
def test_a_network_that_is_seldom_random_is_refused(chance):
    torch.manual_seed(0)
    with pytest.raises(ValueError, match="deterministic"):
        check(Given(lambda h: h * (torch.rand(()) < chance)))


def test_a_network_that_mixes_observations_is_refused():
    with pytest.raises(ValueError, match="independently of the others"):
        check(Given(lambda h: h - h.mean(0)))
    with pytest.raises(ValueError, match="'1' is a BatchNorm without running statistics"):
        check(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, track_running_stats=False)).eval())


def test_scores_have_one_row_for_each_input():
    f = torch.zeros(4, 1)
    assert scores(f, 4) is f
    assert scores(f[:, 0], 4).shape == (4, 1)
    assert scores(torch.tensor(1.0), 1).shape == (1, 1)
    for wrong, words in ((f[None], "scores of shape"), (torch.zeros(3), "squeeze")):
        with pytest.raises(ValueError, match=words):
            scores(wrong, 1)
    with pytest.raises(TypeError, match="got a list"):
        scores([f], 4)
    with pytest.raises(TypeError, match="floating-point"):
        scores(f.long(), 4)


@pytest.mark.parametrize(
    ("net", "x", "message"),
    [
        (nn.Linear(2, 3), X.double(), "the network is float32, x is float64"),
        (nn.Linear(2, 3), X.long(), "integer inputs"),
        (nn.Linear(3, 3), X, "shapes cannot be multiplied"),
        (nn.Embedding(3, 3), X, "x.long"),
    ],
    ids=range(4),
)
def test_a_failure_on_the_first_inputs_is_explained(net, x, message):
    with pytest.raises(ValueError, match=message):
        first_outputs(net, x)


def test_the_state_of_torch_is_as_before():
    net = nn.Linear(2, 2)
    before = torch.get_rng_state()

    def act(words):
        with undisturbed(net):
            assert not torch.backends.mha.get_fastpath_enabled()
            torch.rand(3)
            warnings.warn(NO_GRADIENT, stacklevel=1)
            warnings.warn(words, stacklevel=1)
            raise KeyError

    with pytest.warns(UserWarning, match="own"), pytest.raises(KeyError):
        act("own")
    assert torch.backends.mha.get_fastpath_enabled()
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.backends.cuda.flash_sdp_enabled()
