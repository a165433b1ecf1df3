"""Tests of `bayesgen.models.hyperparameters`."""

import gpytorch
import pytest

from bayesgen.models.hyperparameters import Free, check_learnable, to_learn

NAMES = ("scale", "noise", "decay")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("evidence", {"scale", "noise"}),
        ("fixed", set()),
        ("decay", {"decay"}),
        (["noise", "decay"], {"noise", "decay"}),
        ((), set()),
    ],
)
def test_names_to_learn_follow_the_argument(given, expected):
    assert to_learn(given, NAMES, frozenset({"scale", "noise"})) == expected


def test_unknown_names_raise():
    with pytest.raises(ValueError, match="some of the names scale, noise, decay, got rate"):
        to_learn(["rate"], NAMES, frozenset())


def test_names_of_which_none_can_be_learnt_raise():
    missing = {"noise": "counts have no noise", "decay": "the prior has none"}
    for names in ((), ("scale",), ("scale", "noise")):
        check_learnable(frozenset(names), missing)
    for names in (("noise",), ("noise", "decay")):
        with pytest.raises(ValueError, match="cannot be learnt: .*counts have no noise"):
            check_learnable(frozenset(names), missing)


def test_nothing_is_learnt_that_the_kernel_has_not():
    every = Free(True, True, True)
    assert every.names() == {"kernel", "scale", "noise"}
    kernel = gpytorch.kernels.RBFKernel()
    assert every.within(kernel, True, False) == every
    assert every.within(kernel, False, True) == Free(True, False, False)
    kernel.raw_lengthscale.requires_grad_(False)
    assert every.within(kernel, True, False) == Free(False, True, True)
