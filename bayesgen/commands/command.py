"""A command from a function: options that all commands have, and errors in their words."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from bayesgen.commands import call, config as files, door, output

PANEL = "Output"

_Quiet = Annotated[
    bool,
    typer.Option("--quiet", help="Print the result and errors only.", rich_help_panel=PANEL),
]
_Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print the result as one JSON document; notes and progress go to stderr.",
        rich_help_panel=PANEL,
    ),
]
_Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="TOML file with options by name, at its top or in a table [COMMAND]. Options of the "
        "command line take precedence.",
        is_eager=True,
        callback=files.use,
        rich_help_panel=PANEL,
    ),
]


def command(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function of a command with the options --quiet, --json and --config.

    It sets what `output.current` and `call.current` are while the function runs. Its errors name
    options in place of arguments.
    """
    signature = inspect.signature(function, eval_str=True)
    kind = inspect.Parameter.KEYWORD_ONLY
    own = [p.replace(kind=kind) for p in signature.parameters.values()]
    common = [
        inspect.Parameter("quiet", kind, annotation=_Quiet, default=False),
        inspect.Parameter("as_json", kind, annotation=_Json, default=False),
        inspect.Parameter("config", kind, annotation=_Config, default=None),
    ]

    def run(ctx: typer.Context, **params: Any) -> None:
        options = door.options_of(ctx.command.params)
        given = {key for key in params if _from_file(ctx, key)}
        own = {key: params[key] for key in signature.parameters}
        quiet, as_json = params["quiet"], params["as_json"]
        with (
            call.made(str(ctx.info_name), params, options, given),
            output.made(quiet, as_json) as shown,
            shown.running(call.command_line()),
            _worded(options),
        ):
            function(**own)

    context = inspect.Parameter("ctx", kind, annotation=typer.Context)
    parameters = [context, *own, *common]
    run.__name__, run.__doc__ = function.__name__, function.__doc__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


@contextmanager
def _worded(options: dict[str, str]) -> Iterator[None]:
    """Errors of bad values in the words of the command line, and those of a full disk."""
    try:
        yield
    except (ValueError, TypeError, FileNotFoundError) as err:
        kinds = (FileNotFoundError, TypeError, ValueError)
        kind = next(kind for kind in kinds if isinstance(err, kind))
        made = kind(door.worded(str(err), options))
        made.__dict__.update(err.__dict__)
        raise made from err
    except (OSError, RuntimeError) as err:
        if not door.is_full(err):
            raise
        raise door.full(getattr(err, "folder", Path.cwd())) from err


def _from_file(ctx: typer.Context, key: str) -> bool:
    source = ctx.get_parameter_source(key)
    return source is not None and source.name == "DEFAULT_MAP"
