"""Tests of `bayesgen.networks.gradients`."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from bayesgen.networks.gradients import (
    Passes,
    differentiating,
    fill_gradients,
    parameters,
    trainable,
    trainable_copy,
    without_gradients,
)
from tests.networks import kinds


def test_a_trainable_copy_trains_the_same_parameters():
    net = kinds.FREE["frozen head"]()
    net[0].register_full_backward_hook(lambda *_: None)
    copied = trainable_copy(net)
    flags = [[p.requires_grad for p in each.parameters()] for each in (net, copied)]
    assert flags[0] == flags[1] == [True, True, False, False]
    assert not copied.training
    assert not copied[0]._backward_hooks
    with torch.no_grad():
        copied[0].weight.zero_()
    assert bool(net[0].weight.any())


@pytest.mark.parametrize("kind", ["reentrant checkpoint", "checkpoint", "flat outputs"])
def test_gradients_reach_the_parameters(kind):
    x, _ = kinds.data(5)
    plain, net = kinds.base(), kinds.EQUAL[kind]()
    run = Passes(net.eval(), x)
    f = run(x)
    torch.testing.assert_close(f, plain(x))
    f.square().sum().backward()
    want = torch.autograd.grad(plain(x).square().sum(), list(plain.parameters()))
    for p, slope in zip(net.parameters(), want, strict=True):
        torch.testing.assert_close(p.grad, slope)
    assert torch.equal(run.values(x), f)
    assert not run.values(x).requires_grad


def test_a_checkpoint_that_gradients_cannot_reach_is_refused():
    tokens = torch.zeros(4, 2, dtype=torch.int64)
    net = kinds.Through(lambda net, t: checkpoint(net, t, use_reentrant=True), kinds.Tokens())
    with pytest.raises(ValueError, match="use_reentrant=False"):
        Passes(net, tokens)


def test_checks_at_the_door():
    assert trainable(nn.DataParallel(kinds.base())).__class__ is nn.Sequential
    with pytest.raises(TypeError, match="got str"):
        trainable("net")
    with pytest.raises(TypeError, match=r"'0.weight' has torch.float16; .*nets\[1\].float\(\)"):
        trainable(kinds.base().half(), "nets[1]")
    with torch.inference_mode():
        net = kinds.base()
    with pytest.raises(ValueError, match="inference_mode"):
        trainable(net)
    assert trainable(net, in_place=False) is net
    assert trainable(copy.deepcopy(net)) is not net


def test_unused_parameters_have_gradients_of_zero():
    net = kinds.Unused()
    net(kinds.data()[0]).sum().backward()
    used = net.used[0].weight.grad
    fill_gradients(parameters(net))
    assert net.used[0].weight.grad is used
    assert not net.unused.weight.grad.any()


def test_contexts_set_the_recording_of_graphs():
    weight = torch.ones(1, requires_grad=True)
    with torch.inference_mode(), differentiating():
        assert (2 * weight).requires_grad
    with without_gradients():
        assert not (2 * weight).requires_grad
