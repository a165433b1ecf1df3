"""What a file may name: classes and functions of a closed list.

A file names classes and functions, and does not contain them. A name is looked up only if it is one
of this list, in modules of this package, of torch and of gpytorch that define kernels, means,
constraints and layers. Everything else is code of the user, which must be given again.
"""

from __future__ import annotations

import types
from importlib import import_module
from typing import Any

# Packages whose classes may be named: all modules in them, and they themselves.
_CLASSES = (
    "bayesgen.data.columns",
    *(
        f"bayesgen.{room}"
        for room in ("covariance", "curvature", "evidence", "features", "kernels", "likelihoods",
                     "models", "networks", "posterior", "provenance", "solvers", "spectrum",
                     "verify")
    ),
    "gpytorch.constraints",
    "gpytorch.kernels",
    "gpytorch.means",
    "torch.nn.modules",
)  # fmt: skip
# Modules whose own functions may be named.
_FUNCTIONS = frozenset(
    {"bayesgen.covariance.radial", "bayesgen.features.bases", "bayesgen.features.convolutional",
     "bayesgen.features.priors", "bayesgen.models.gp.problem"}
)  # fmt: skip
# Functions of libraries that kernels, means and layers of this list hold.
_OTHERS = {
    ("gpytorch.means.constant_mean", "_ensure_updated_strategy_flag_set"),
    ("gpytorch.utils.transforms", "inv_sigmoid"),
    ("gpytorch.utils.transforms", "inv_softplus"),
    ("torch.nn.functional", "gelu"),
    ("torch.nn.functional", "relu"),
    ("torch.nn.functional", "softplus"),
}
# Methods that an object of these classes may refer to.
_METHODS = frozenset({"_copied", "_load_state_hook_ignore_shapes"})
# Functions that are built into torch, by name.
_BUILT_IN = frozenset({"exp", "log", "sigmoid", "tanh", "relu"})

Name = tuple[str, str]


def name_of_class(cls: type) -> Name | None:
    """Module and name of a class that a file may name, or None.

    Example:
        >>> name_of_class(dict), name_of_class(types.SimpleNamespace)
        (None, None)
    """
    name = cls.__module__, cls.__qualname__
    return name if _may_name_class(*name) and _found(*name) is cls else None


def class_of_name(module: str, name: str) -> type:
    """The class of a name in a file.

    Raises:
        ValueError: the name is not on the list, or there is no such class.
    """
    found = _found(module, name) if _may_name_class(module, name) else None
    if not isinstance(found, type) or (found.__module__, found.__qualname__) != (module, name):
        raise ValueError(f"the class {module}.{name} is not one that a file may name")
    return found


def name_of_function(function: Any) -> Name | None:
    """Module and name of a function that a file may name, or None."""
    if isinstance(function, types.BuiltinFunctionType):
        name = getattr(function, "__name__", "")
        return ("torch", name) if _built_in(name) is function else None
    if not isinstance(function, types.FunctionType):
        return None
    own = function.__module__, function.__qualname__
    return own if _may_name_function(*own) and _found(*own) is function else None


def function_of_name(module: str, name: str) -> Any:
    """The function of a name in a file.

    Raises:
        ValueError: the name is not on the list, or there is no such function.
    """
    found = _built_in(name) if module == "torch" else None
    if found is None and _may_name_function(module, name):
        found = _found(module, name)
    own = (module, name) == (getattr(found, "__module__", ""), getattr(found, "__qualname__", ""))
    if found is None or not (own or module == "torch"):
        raise ValueError(f"the function {module}.{name} is not one that a file may name")
    return found


def may_name_method(owner: Any, name: str) -> bool:
    """Whether a file may name a bound method of an object."""
    return (
        name in _METHODS
        and name_of_class(type(owner)) is not None
        and isinstance(getattr(type(owner), name, None), types.FunctionType)
    )


def _may_name_class(module: str, name: str) -> bool:
    inside = any(module == root or module.startswith(f"{root}.") for root in _CLASSES)
    return inside and _is_plain(module, name)


def _may_name_function(module: str, name: str) -> bool:
    listed = module in _FUNCTIONS or (module, name) in _OTHERS
    return listed and _is_plain(module, name)


def _is_plain(module: str, name: str) -> bool:
    """Whether a name is one of an object directly in an ordinary module."""
    return name.isidentifier() and all(part.isidentifier() for part in module.split("."))


def _built_in(name: str) -> Any:
    return getattr(import_module("torch"), name) if name in _BUILT_IN else None


def _found(module: str, name: str) -> Any:
    """The object of this name in a module of the list, or None."""
    try:
        return vars(import_module(module)).get(name)
    except ImportError:
        return None
