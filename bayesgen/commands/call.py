"""The call of a command: its name, its settings, and the words that repeat it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Options that do not change the result.
_NEUTRAL = {"out", "overwrite", "quiet", "as_json", "config", "threads", "workers", "scheduler",
            "work", "save"}  # fmt: skip


@dataclass(frozen=True)
class Call:
    """The call of a command.

    Attributes:
        name: name of the command.
        settings: value of each option that the result depends on, by the name of the option;
            options without a value are left out.
        words: the command line after `bayesgen`, with the settings of `--config` written out.
    """

    name: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    words: tuple[str, ...] = ()


_current: ContextVar[Call | None] = ContextVar("call", default=None)


def current() -> Call:
    """The call that is running; outside of one, that of the process's arguments."""
    return _current.get() or Call(words=tuple(sys.argv[1:]))


@contextmanager
def made(
    name: str, params: Mapping[str, Any], options: Mapping[str, str], given: set[str]
) -> Iterator[Call]:
    """The call of a command with these values.

    Args:
        name: name of the command.
        params: value by parameter.
        options: option by parameter.
        given: parameters whose values are from the file of `--config`.
    """
    settings = {
        options[key].removeprefix("--").lower(): _absolute(value)
        for key, value in params.items()
        if key not in _NEUTRAL and value is not None and value is not False and value != []
    }
    token = _current.set(Call(name, settings, tuple(_words(params, options, given))))
    try:
        yield current()
    finally:
        _current.reset(token)


def _absolute(value: Any) -> Any:
    return value.resolve() if isinstance(value, Path) else value


def _words(params: Mapping[str, Any], options: Mapping[str, str], given: set[str]) -> list[str]:
    words: list[str] = []
    skip = False
    for word in sys.argv[1:]:
        if skip or word.startswith("--config="):
            skip = False
        elif word == "--config":
            skip = True
        else:
            words.append(word)
    for key in sorted(given):
        if params.get(key) is True:
            words.append(options[key])
        elif isinstance(params.get(key), list):
            words += [word for value in params[key] for word in (options[key], str(value))]
        elif params.get(key) not in (None, False):
            words += [*([options[key]] if options[key].startswith("--") else []), str(params[key])]
    return words


def command_line(**other: str) -> str:
    """The command line that repeats the call, which results record.

    Args:
        other: arguments to replace by others, such as all="fig5" where one command makes several
            results.
    """
    return shlex.join(["bayesgen", *(other.get(word, word) for word in current().words)])
