"""Tests of `bayesgen.storage.allowed`: what a file may name."""

import gpytorch
import pytest
import torch
from gpytorch.utils.transforms import inv_softplus

import bayesgen as bg
from bayesgen.covariance import radial
from bayesgen.storage import allowed


class Own(gpytorch.kernels.RBFKernel):
    """A kernel of the user."""


@pytest.mark.parametrize(
    "cls",
    [bg.GPPosterior, bg.Evidence, gpytorch.kernels.RBFKernel, gpytorch.means.ZeroMean,
     torch.nn.Linear, torch.nn.Sequential],
)  # fmt: skip
def test_classes_of_the_list_are_found_by_name(cls):
    assert allowed.class_of_name(*allowed.name_of_class(cls)) is cls


@pytest.mark.parametrize("cls", [Own, dict, torch.Tensor, type("Linear", (), {})])
def test_other_classes_have_no_name(cls):
    assert allowed.name_of_class(cls) is None


def test_a_class_that_pretends_to_be_of_the_list_has_no_name():
    false = type("Linear", (torch.nn.Linear,), {"__module__": "torch.nn.modules.linear"})
    assert allowed.name_of_class(false) is None


@pytest.mark.parametrize(
    "name",
    [("os", "system"), ("subprocess", "Popen"), ("builtins", "eval"), ("bayesgen.cli", "main"),
     ("bayesgen.__main__", "main"), ("bayesgen.storage.file", "save"), ("torch", "load"),
     ("gpytorch.kernels.kernel", "torch"), ("bayesgen.models", "no such class"),
     ("torch.nn.modules.linear", "Linear.forward"), ("bayesgen.kernels..os", "system"),
     ("bayesgen.models.gp.model", "GPPosterior"), ("gpytorch.kernelsx", "RBFKernel"),
     ("bayesgen.covariance.radial", "_rbf_value"), ("torch", "exp")],
)  # fmt: skip
def test_names_beside_the_list_are_refused_as_classes(name):
    with pytest.raises(ValueError, match="is not one that a file may name"):
        allowed.class_of_name(*name)


@pytest.mark.parametrize("function", [radial._rbf_value, inv_softplus, torch.exp, torch.sigmoid])
def test_functions_of_the_list_are_found_by_name(function):
    assert allowed.function_of_name(*allowed.name_of_function(function)) is function


@pytest.mark.parametrize("function", [lambda: 0, eval, torch.load, bg.fit_map, 3])
def test_other_functions_have_no_name(function):
    assert allowed.name_of_function(function) is None


@pytest.mark.parametrize(
    "name",
    [("os", "system"), ("builtins", "eval"), ("torch", "load"), ("torch", "save"),
     ("torch.nn.functional", "os"), ("bayesgen.features.bases", "torch"),
     ("bayesgen.features.bases", "checks"), ("bayesgen.storage.file", "save")],
)  # fmt: skip
def test_names_beside_the_list_are_refused_as_functions(name):
    with pytest.raises(ValueError, match="is not one that a file may name"):
        allowed.function_of_name(*name)


def test_methods_are_those_of_the_list():
    basis = bg.bases.Function(lambda x: x)
    assert allowed.may_name_method(basis, "_copied")
    assert not allowed.may_name_method(basis, "on")
    assert not allowed.may_name_method(Own(), "_load_state_hook_ignore_shapes")
