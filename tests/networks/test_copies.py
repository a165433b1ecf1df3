"""Tests of `bayesgen.networks.copies`."""

import threading

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from bayesgen.networks.copies import (
    check_copied,
    frozen_copy,
    has_repeated_modules,
    other_names,
    own_parameters,
    plain,
)


def two_layers():
    return nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))


def test_wrappers_are_taken_off():
    net = two_layers()
    assert plain(nn.DataParallel(net)) is net
    assert plain(torch.compile(net)) is net
    assert plain(torch.compile(nn.DataParallel(net))) is net
    assert plain(net) is net


def test_what_is_no_network_with_weights_is_refused():
    with pytest.raises(TypeError, match="torch.nn.Module"):
        plain(lambda x: x)
    with pytest.raises(ValueError, match="trainable parameters"):
        plain(nn.ReLU())
    with pytest.raises(ValueError, match="'0.weight' is lazy"):
        plain(nn.Sequential(nn.LazyLinear(2)))
    with pytest.raises(TypeError, match="prior_mean must be .* TorchScript"):
        plain(torch.jit.script(nn.Linear(2, 2)), "prior_mean")


def test_a_copy_is_frozen_and_shares_nothing():
    net = two_layers().train()
    seen = []
    net[0].register_full_backward_hook(lambda *given: seen.append(given))
    net[0].register_forward_hook(lambda m, given, output: 2 * output)
    copied = frozen_copy(net)
    x = torch.randn(3, 2)
    torch.testing.assert_close(copied(x), net(x))  # forward hooks belong to the function
    assert not copied.training
    assert not any(p.requires_grad for p in copied.parameters())
    assert net.training
    assert all(p.requires_grad for p in net.parameters())
    copied[0].weight.data.zero_()
    assert net[0].weight.abs().sum() > 0
    assert not copied[0]._backward_hooks


@pytest.mark.parametrize(
    "wrap",
    [nn.utils.spectral_norm, nn.utils.parametrizations.weight_norm,
     lambda m: prune.l1_unstructured(m, "weight", 0.5)],
    ids=["spectral_norm", "weight_norm", "pruned"],
)  # fmt: skip
def test_a_network_with_tensors_of_its_last_pass_is_copied(wrap):
    net = two_layers()
    wrap(net[0])
    net.eval()
    x = torch.randn(3, 2)
    want = net(x)
    torch.testing.assert_close(frozen_copy(net)(x), want)


def test_stored_outputs_are_detached():
    class Stores(nn.Linear):
        def forward(self, x):
            self.kept = {"outputs": [super().forward(x)]}
            return self.kept["outputs"][0]

    net = Stores(2, 2)
    net(torch.ones(1, 2))
    assert not frozen_copy(net).kept["outputs"][0].requires_grad


def test_a_network_that_cannot_be_copied_is_refused():
    net = two_layers()
    net.lock = threading.Lock()
    with pytest.raises(ValueError, match="net cannot be copied"):
        frozen_copy(net)


def test_parameters_are_listed_once_in_the_order_of_the_network():
    net = two_layers()
    net[1].weight = net[0].weight
    net.extra = nn.Parameter(torch.ones(1))
    net[0].bias.requires_grad_(False)
    found = own_parameters(net)
    assert [(each.name, list(each.parameters)) for each in found] == [
        ("", ["extra"]),
        ("0", ["weight"]),
        ("1", ["bias"]),
    ]
    assert [each.full(own) for each in found for own in each.parameters] == [
        name for name, p in net.named_parameters() if p.requires_grad
    ]


def test_parameters_of_named_modules_include_those_below():
    net = nn.ModuleDict({"head": two_layers(), "head2": nn.Linear(2, 2)})
    assert [each.name for each in own_parameters(net, ["head"])] == ["head.0", "head.1"]


def test_shared_tensors_have_one_further_name_for_each_module():
    a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    b.weight = a.weight
    net = nn.Sequential(a, b, a, b)
    assert other_names(net) == {"0.weight": ("1.weight",)}
    assert has_repeated_modules(net)
    assert not has_repeated_modules(nn.Sequential(a, b))


def test_outputs_that_depend_on_the_original_are_found():
    net = two_layers()
    check_copied(frozen_copy(net).requires_grad_(True)(torch.ones(1, 2)), net)
    check_copied(torch.ones(1, 2), net)
    with pytest.raises(ValueError, match="'1.weight' itself"):
        check_copied(torch.ones(1, 2) @ (2 * net[1].weight), net)
