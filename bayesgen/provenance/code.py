"""What the code of a user's function refers to: global objects and numbers written in it.

Only loads of global names count, in the function and in those defined in it (lambdas,
comprehensions, generators). The attribute in `torch.exp` is no global name, even where the script
has a global variable `exp`. Code of libraries is not searched.
"""

from __future__ import annotations

import dis
import functools
import sys
import types
from typing import Any

# Instructions that load a global name, and those that go on to an attribute of it.
_LOADS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
_ATTRIBUTES = frozenset({"LOAD_ATTR", "LOAD_METHOD"})
# Packages, beside the standard library, whose code and modules hold nothing of the user's.
_LIBRARIES = frozenset(
    {"bayesgen", "gpytorch", "jaxtyping", "linear_operator", "numpy", "pandas", "scipy", "sklearn",
     "torch", "torchvision"}
)  # fmt: skip
# Special methods that make an object, whose own values are searched.
_MAKING = frozenset({"__init__", "__new__", "__post_init__", "__init_subclass__"})

Path = tuple[str, ...]


def of_library(module: Any) -> bool:
    """Whether the name of a module is one of a library."""
    root = str(module).partition(".")[0]
    standard = root in sys.stdlib_module_names and root != "__main__"
    return standard or root in _LIBRARIES


def referred(function: types.FunctionType) -> list[Any]:
    """The global objects and the real numbers that the code of a function of the user names."""
    if of_library(function.__module__):
        return []
    paths, constants = _named(function.__code__)
    space = function.__globals__
    found = [_resolved(space[path[0]], path[1:]) for path in paths if path[0] in space]
    return [*constants, *found]


def class_members(kind: type) -> list[Any]:
    """What a class of the user and those it inherits from hold; nothing for one of a library."""
    own = [base for base in kind.__mro__ if not of_library(base.__module__)]
    named = [item for base in own for item in vars(base).items()]
    return [value for name, value in named if not _dunder(name) or _operates(name, value)]


def module_members(module: types.ModuleType) -> list[Any]:
    """The numbers, tensors and objects in a module of the user that are no functions or classes."""
    if of_library(module.__name__):
        return []
    skipped = types.FunctionType | types.ModuleType | type
    named = vars(module).items()
    return [v for name, v in named if not (_dunder(name) or isinstance(v, skipped))]


def slots(thing: Any) -> list[Any]:
    """The values in the slots of an object."""
    found = []
    for base in type(thing).__mro__:
        names = base.__dict__.get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            private = name.startswith("__") and not name.endswith("__")
            held = f"_{base.__name__.lstrip('_')}{name}" if private else name
            if not _dunder(name) and hasattr(thing, held):
                found.append(getattr(thing, held))
    return found


def _dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _operates(name: str, value: Any) -> bool:
    """Whether a special method takes part in computations, such as `__call__` and `__matmul__`."""
    return isinstance(value, types.FunctionType) and name not in _MAKING


def _resolved(value: Any, attributes: Path) -> Any:
    """The object at the end of a path of attributes through modules of the user."""
    for name in attributes:
        if not isinstance(value, types.ModuleType) or of_library(value.__name__):
            break
        value = getattr(value, name, None)
    return value


@functools.lru_cache(maxsize=512)
def _named(code: types.CodeType) -> tuple[tuple[Path, ...], tuple[float, ...]]:
    """Paths of global names and their attributes, and numbers, in code and the code within it."""
    paths: list[Path] = []
    follows = False
    for step in dis.get_instructions(code):
        if step.opname in _LOADS:
            paths.append((step.argval,))
        elif follows and step.opname in _ATTRIBUTES:
            paths[-1] = (*paths[-1], step.argval)
        follows = step.opname in _LOADS or (follows and step.opname in _ATTRIBUTES)
    numbers: list[float] = []
    waiting = list(code.co_consts)
    while waiting:
        constant = waiting.pop()
        if isinstance(constant, float):
            numbers.append(constant)
        elif isinstance(constant, tuple | frozenset):
            waiting += constant
        elif isinstance(constant, types.CodeType):
            more, others = _named(constant)
            paths += more
            numbers += others
    return tuple(dict.fromkeys(paths)), tuple(numbers)
