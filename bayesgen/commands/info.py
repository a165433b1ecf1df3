"""The command `bayesgen info`: versions, devices, and plans for large problems."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bayesgen.commands.console import print_plan
from bayesgen.commands.options import dtype_named, on_device, parse_sizes


def info(
    sizes: Annotated[
        list[str] | None,
        typer.Argument(help="Further sizes of --plan: d=3072 outputs=110.", hidden=True),
    ] = None,
    plan: Annotated[
        str | None,
        typer.Option(
            help="Sizes, e.g. n=50000 d=3072 outputs=110 tasks=11: print the engine and the reason."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="Device of the plan: cpu, cuda or mps.")] = "cpu",
    dtype: Annotated[
        str, typer.Option(help="Precision of the plan: float64 or float32.")
    ] = "float64",
    work: Annotated[
        Path | None,
        typer.Option(help="Folder for the Gram matrix; the speed of its disk is measured."),
    ] = None,
) -> None:
    """Print versions, devices and threads, or a plan for a problem of a given size."""
    import torch

    from bayesgen import solvers
    from bayesgen.experiments.experiment import provenance

    if plan is not None:
        kind, keep = dtype_named(dtype), work is not None
        machine = solvers.Machine.here(on_device(device, dtype), work)
        found = parse_sizes([plan, *(sizes or [])])
        made = solvers.plan(
            found["n"],
            found["d"],
            found["outputs"],
            machine=machine,
            dtype=kind,
            keep=keep,
            tasks=found.get("tasks"),
        )
        return print_plan(made, machine)

    shown = Table(show_header=False, box=None)
    facts = provenance("bayesgen info")
    shown.add_row("versions", facts["versions"])
    shown.add_row("python", f"{facts['python']} on {facts['platform']}")
    shown.add_row("threads", str(torch.get_num_threads()))
    shown.add_row("cuda", torch.cuda.get_device_name() if torch.cuda.is_available() else "none")
    shown.add_row("mps", "yes" if torch.backends.mps.is_available() else "none")
    return Console().print(shown)
