"""The folder of a command's results: its name, what it already holds, and what a stop leaves."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import bayesgen
from bayesgen._internal.words import plural
from bayesgen.commands import call, config, output

# Parts of unfinished studies.
_PARTS = ("cells", "work")


class Results:
    """The folder of the results of one command.

    Attributes:
        path: the folder.
        name: name of the files, such as "corruption" of corruption.nc.
        done: whether the results were written.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name, self.done = path, name, False

    def kept(self) -> str:
        """A clause about what the folder holds when the command is stopped."""
        if self.done:
            return f"the results are in {self.path}"
        cells = sum(1 for _ in self.path.glob("cells/**/*.nc"))
        if cells:
            return (
                f"{plural(cells, 'finished cell')} {'is' if cells == 1 else 'are'} kept in "
                f"{self.path / 'cells'}, and the same command continues with what is there"
            )
        if any((self.path / "work").glob("*")):
            return (
                f"unfinished work is kept in {self.path / 'work'}, and the same command continues "
                "with it"
            )
        return "nothing was kept"

    def record(self) -> None:
        """Write the settings of the call to NAME.toml, which `--config` reads."""
        from bayesgen._internal import files

        record = {"command": call.command_line(), "bayesgen": bayesgen.__version__}
        record |= _contents(call.current().settings)
        text = config.written(call.current().settings, record)
        files.write_bytes(self.path / f"{self.name}.toml", text.encode())


@contextmanager
def results(
    out: Path | None, words: Sequence[str], made: Sequence[str], overwrite: bool = False
) -> Iterator[Results]:
    """The folder for the results of the command that is running.

    It is made if needed, and a folder that is not writable is refused. A folder with a result of
    other settings is not used: by default another one is taken, and one that was asked for is
    refused. If the command fails, folders that it made and left empty are removed.

    Args:
        out: folder that was asked for; None for results/NAME-WORDS.
        words: what is studied, for the name of the default folder.
        made: files that the command writes; the first is the one whose presence means a result, and
            its stem names the file of settings.
        overwrite: whether a result of other settings may be overwritten.

    Raises:
        OSError: the folder is not writable.
        ValueError: it holds a result of other settings.
    """
    name = Path(made[0]).stem
    path = Path("results") / slug(call.current().name or name, *words) if out is None else out
    if not overwrite:
        path = _unused(path, made, out is not None)
    with opened(path, name) as place:
        yield place


@contextmanager
def opened(path: Path, name: str) -> Iterator[Results]:
    """A folder, made if needed; see `results`.

    Raises:
        OSError: the folder is not writable.
    """
    from bayesgen._internal import files

    new = [folder for folder in (path, *path.parents) if not folder.exists()]
    place = Results(files.writable(path), name)
    try:
        yield place
    except BaseException as err:
        err.__dict__ |= {"kept": place.kept(), "folder": path}
        for folder in (*(path / part for part in _PARTS), *new):
            with suppress(OSError):
                folder.rmdir()  # only where it is empty
        raise


def slug(*words: str) -> str:
    """The name of a folder from words.

    Example:
        >>> slug("corruption", "My table (2)", "gp,mlp")
        'corruption-my-table-2-gp+mlp'
    """
    parts = [re.sub(r"[^\w.+]+", "-", w.replace(",", "+")).strip("-").lower() for w in words]
    return "-".join(part for part in parts if part)[:120]


def _unused(path: Path, made: Sequence[str], asked: bool) -> Path:
    """A folder without a result of other settings."""
    first = _other(path, made)
    if first is None:
        return path
    if asked:
        raise ValueError(
            f"--out must be a folder without a result of other settings, {path} holds one "
            f"({first}); choose another folder, or overwrite it with --overwrite"
        )
    number = 2
    while _other(path.with_name(f"{path.name}-{number}"), made) is not None:
        number += 1
    other = path.with_name(f"{path.name}-{number}")
    output.current().note(
        f"note: {path} holds a result of other settings ({first}), so this one goes to {other}"
    )
    return other


def _other(path: Path, made: Sequence[str]) -> str | None:
    """How the settings of the result in a folder differ, or None where it may be written."""
    if not any((path / file).exists() for file in made):
        return None
    try:
        text = (path / f"{Path(made[0]).stem}.toml").read_text(encoding="utf-8")
        found = tomllib.loads(text)
    except (OSError, ValueError):
        return "its settings are unknown"
    record = found.pop(config.RECORD, {})
    now = tomllib.loads(config.written(call.current().settings, _contents(call.current().settings)))
    current = now.pop(config.RECORD, {})
    keys = [*found, *(key for key in now if key not in found)]
    for key in keys:
        if found.get(key) != now.get(key):
            return f"{key} is {_shown(found, key)} there and {_shown(now, key)} here"
    for key, value in current.items():
        if record.get(key) != value:
            return f"{key.removesuffix('_sha256')} had other contents"
    return None


def _shown(settings: Mapping[str, Any], key: str) -> str:
    return str(settings.get(key, "not set"))


def _contents(settings: Mapping[str, Any]) -> dict[str, str]:
    """Hashes of the files that settings name."""
    found = {}
    for key, value in settings.items():
        if isinstance(value, Path) and value.is_file():
            with value.open("rb") as stream:
                found[f"{key}_sha256"] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found
