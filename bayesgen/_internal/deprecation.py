"""Former names of arguments, which work for one release with a `DeprecationWarning`."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def renamed_arguments(**renamed: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator that lets a function accept former names of its keyword arguments.

    Args:
        renamed: former name → new name.

    Example:
        >>> @renamed_arguments(labelling="task")
        ... def f(*, task):
        ...     return 2 * task
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     f(labelling=2), str(caught[0].message)
        (4, 'f(labelling=) is now f(task=); the old name will be removed in the next release')
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            for old, new in renamed.items():
                if old in kwargs:
                    name = function.__name__
                    if new in kwargs:
                        raise TypeError(f"{name} got both {new}= and its former name {old}=")
                    warn_renamed(f"{name}({old}=)", f"{name}({new}=)")
                    kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return call

    return decorate


def warn_renamed(old: str, new: str) -> None:
    """Warn that a public name has changed; the warning points at the caller's caller."""
    warnings.warn(
        f"{old} is now {new}; the old name will be removed in the next release",
        DeprecationWarning,
        stacklevel=3,
    )


def old_task_argument(cls: type[Any]) -> None:
    """Let the methods that a class defines accept `labelling=` in place of `task=`."""
    for name, method in list(vars(cls).items()):
        if not callable(method) or name.startswith("_"):
            continue
        if "task" in arguments(method):
            setattr(cls, name, renamed_arguments(labelling="task")(method))
        elif "labelling" in arguments(method):
            setattr(cls, name, _called_by_task(method))


def _called_by_task(method: Callable[P, R]) -> Callable[P, R]:
    """A method that was written with `labelling`, callable with `task=` too."""

    @functools.wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if "task" in kwargs:
            kwargs["labelling"] = kwargs.pop("task")
        return method(*args, **kwargs)

    return call


def arguments(function: Callable[..., Any]) -> tuple[str, ...]:
    """Names of the arguments of a function, in order; of a wrapped one, those of the inner one."""
    function = inspect.unwrap(function)
    code = getattr(function, "__code__", None)
    return () if code is None else code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
