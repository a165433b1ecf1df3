"""Pages of the API and of the command line, made from the public names of the package.

A name is public where a module's `__all__` lists it; `bayesgen.__all__` itself is read from the
stub file. A name that is added there appears on a page without a further step.
"""

from __future__ import annotations

import inspect
import pkgutil
from importlib import import_module
from types import ModuleType
from typing import Any

import bayesgen

# Rooms whose public names are described elsewhere: the commands have a page of their own.
_ELSEWHERE = {"commands"}


def public_modules() -> dict[str, list[str]]:
    """Public names of each public module, the package itself first.

    Public are the modules among the names of a public module, and the subpackages with `__all__`.
    """
    found: dict[str, list[str]] = {}

    def visit(module: ModuleType) -> None:
        if module.__name__ in found:
            return
        names = found[module.__name__] = list(names_of(module))
        for name in names:
            member = getattr(module, name)
            if inspect.ismodule(member):
                visit(member)

    visit(bayesgen)
    for part in pkgutil.iter_modules(bayesgen.__path__, "bayesgen."):
        room = part.name.rpartition(".")[2]
        if part.ispkg and not room.startswith("_") and room not in _ELSEWHERE:
            module = import_module(part.name)
            if hasattr(module, "__all__"):
                visit(module)
    first, *others = found
    return {name: found[name] for name in (first, *sorted(others))}


def names_of(module: ModuleType) -> list[str]:
    """The names in `__all__`, or those that the module defines itself without an underscore."""
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return [name for name in listed if not name.startswith("_")]
    return [
        name
        for name, member in vars(module).items()
        if not name.startswith("_")
        and getattr(member, "__module__", None) == module.__name__
        and (inspect.isclass(member) or inspect.isfunction(member))
    ]


def path_of(module: str, name: str) -> str:
    """The dotted path at which an object is defined, which the pages refer to."""
    member = getattr(import_module(module), name)
    if inspect.isclass(member) or inspect.isfunction(member):
        return f"{member.__module__}.{member.__qualname__}"
    return f"{module}.{name}"


def api_pages() -> dict[str, str]:
    """Markdown of each page by its path: one for each public module, and an index."""
    modules = public_modules()
    pages: dict[str, str] = {}
    homes: dict[str, str] = {}
    rows = []
    for module, names in modules.items():
        summary = (import_module(module).__doc__ or "").strip().splitlines()[0]
        page = f"{module}.md"
        text = [f"# {module}", "", summary, ""]
        parts, links, own = [], [], []
        for name in sorted(names, key=str.lower):
            member: Any = getattr(import_module(module), name)
            if inspect.ismodule(member):
                parts.append(f"* [`{module}.{name}`]({member.__name__}.md)")
                continue
            path = path_of(module, name)
            if path in homes:
                links.append(f"* [`{module}.{name}`][{path}] on the page of `{homes[path]}`")
            else:
                homes[path] = module
                own.append(f"::: {path}\n    options:\n      heading: {name}\n")
        if parts:
            text += ["Modules:", "", *parts, ""]
        if links:
            text += ["Names that are described on another page:", "", *links, ""]
        pages[f"reference/{page}"] = "\n".join([*text, *own])
        rows.append(f"| [`{module}`]({page}) | {summary} |")
    head = "# API\n\nThe public names, by module. `import bayesgen as bg` is the usual import.\n\n"
    pages["reference/index.md"] = head + "\n".join(["| module | content |", "| --- | --- |", *rows])
    # The index comes first in the navigation.
    return {"reference/index.md": pages.pop("reference/index.md"), **pages}


def command_page() -> str:
    """Markdown of the page with all commands and their options."""
    import typer

    from bayesgen.commands.app import app

    group: Any = typer.main.get_command(app)
    text = ["# Command line", "", "`bayesgen COMMAND --help` prints the same for one command.", ""]
    for name, command in sorted(group.commands.items()):
        usage = f"bayesgen {name} [OPTIONS]"
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        usage += "".join(f" [{p.name.upper()}]" for p in arguments)
        text += [f"## {name}", "", " ".join((command.help or "").split()), "", f"`{usage}`", ""]
        text += ["| option | meaning | default |", "| --- | --- | --- |"]
        for option in command.params:
            help_text = " ".join((getattr(option, "help", "") or "").split()).replace("|", "\\|")
            if not help_text:
                continue
            spelled = ", ".join(f"`{o}`" for o in option.opts)
            shown = option.default
            none = shown is None or shown == "" or shown is False or callable(shown)
            text.append(f"| {spelled} | {help_text} | {'' if none else f'`{shown}`'} |")
        text.append("")
    return "\n".join(text)
