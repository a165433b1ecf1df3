"""Settings of commands in a TOML file: keys are names of options."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from bayesgen.commands.choices import nearest, shown

# A table of a file that records how a result was made, and sets nothing.
RECORD = "record"
# Options that are about the command line itself.
_NOT_SET = {"config", "help"}


def use(ctx: typer.Context, file: Path | None) -> Path | None:
    """Take the defaults of the options of a command from a file; see `settings`."""
    if file is not None and not ctx.resilient_parsing:
        group: Any = ctx.parent.command if ctx.parent is not None else None
        others = getattr(group, "commands", {})
        ctx.default_map = {
            **(ctx.default_map or {}),
            **settings(file, str(ctx.info_name), ctx.command, others),
        }
    return file


def settings(
    file: Path, name: str, command: Any, commands: Mapping[str, Any]
) -> dict[str, str | bool | list[str]]:
    """The settings of one command in a TOML file, as values of its parameters.

    Keys are names of options, such as `data-dir`. Those at the top are for every command that has
    the option, and those of a table `[corruption]` for the command of this name.

    Args:
        file: the file.
        name: name of the command.
        command: the command.
        commands: all commands by name.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not TOML; a key is unknown; a value is of the wrong kind.
    """
    if not file.is_file():
        raise FileNotFoundError(f"--config must be a file, {file} is not")
    try:
        whole = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as err:
        raise ValueError(f"--config must be a TOML file, {file} is not: {err}") from None
    own = _options(command)
    every = {key for one in commands.values() for key in _options(one)} | set(own)
    found: dict[str, str | bool | list[str]] = {}
    for key, value in whole.items():
        if isinstance(value, dict):
            if key != RECORD and key not in commands:
                raise ValueError(f"{file}: there is no command [{key}]" + nearest(key, commands))
        elif _dashed(key) not in every:
            raise ValueError(f"{file}: there is no option {key!r}" + nearest(_dashed(key), every))
        elif _dashed(key) in own:
            param = own[_dashed(key)]
            found[param.name] = _text(file, key, value, param)
    for key, value in whole.get(name, {}).items():
        if _dashed(key) not in own:
            raise ValueError(f"{file}: {name} has no option {key!r}" + nearest(_dashed(key), own))
        param = own[_dashed(key)]
        found[param.name] = _text(file, key, value, param)
    return found


def written(settings: Mapping[str, Any], record: Mapping[str, str]) -> str:
    """A TOML file of settings, which `--config` reads, with a record of how a result was made.

    Example:
        >>> print(written({"seeds": 3, "kernel": "rbf"}, {"command": "bayesgen corruption"}))
        seeds = 3
        kernel = "rbf"
        <BLANKLINE>
        [record]
        command = "bayesgen corruption"
        <BLANKLINE>
    """
    lines = [f"{key} = {_toml(value)}" for key, value in settings.items()]
    lines += ["", f"[{RECORD}]", *(f"{key} = {_toml(value)}" for key, value in record.items())]
    return "\n".join(lines) + "\n"


def _options(command: Any) -> dict[str, Any]:
    """Parameters of a command by their name in a file."""
    return {
        shown(param).removeprefix("--").lower(): param
        for param in command.params
        if param.name not in _NOT_SET and not getattr(param, "hidden", False)
    }


def _dashed(key: str) -> str:
    return key.replace("_", "-").lower()


def _text(file: Path, key: str, value: Any, param: Any) -> str | bool | list[str]:
    """A value as it would be written on the command line; flags are true or false."""
    flag = bool(getattr(param, "is_flag", False))
    if flag != isinstance(value, bool):
        wanted = "true or false" if flag else "a text or a number"
        raise ValueError(f"{file}: {key} must be {wanted}, got {json.dumps(value)}")
    if isinstance(value, bool):
        return value
    parts = value if isinstance(value, list) else [value]
    if not parts or not all(
        isinstance(p, str | int | float) and not isinstance(p, bool) for p in parts
    ):
        raise ValueError(f"{file}: {key} must be a text, a number or a list of them")
    words = [str(part) for part in parts]
    return words if getattr(param, "multiple", False) else ",".join(words)


def _toml(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(
        value if isinstance(value, bool | int | float) else str(value), ensure_ascii=False
    )
