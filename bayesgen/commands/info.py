"""The command `bayesgen info`: versions, devices, and plans for large problems."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bayesgen.commands import output
from bayesgen.commands.options import check_device, dtype_named, on_device, parse_sizes
from bayesgen.commands.printed import print_plan
from bayesgen.commands.shared import Device, Dtype


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
    device: Device = "cpu",
    dtype: Dtype = "float64",
    work: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the Gram matrix of --plan; the speed of its disk is measured.",
            file_okay=False,
        ),
    ] = None,
) -> None:
    """Print versions, devices and threads, or a plan for a problem of a given size."""
    if plan is None and sizes:
        raise ValueError(
            f"{' '.join(sizes)!r} is read with --plan only: bayesgen info --plan {' '.join(sizes)}"
        )
    if plan is None and (work is not None or (device, dtype) != ("cpu", "float64")):
        raise ValueError("--device, --dtype and --work belong to --plan, which was not given")
    found = None if plan is None else parse_sizes([plan, *(sizes or [])])
    check_device(device, dtype)

    import torch

    from bayesgen import solvers
    from bayesgen.experiments.experiment import provenance

    if found is not None:
        kind = dtype_named(dtype)
        machine = solvers.Machine.here(on_device(device, dtype), work)
        made = solvers.plan(
            found["n"],
            found["d"],
            found["outputs"],
            machine=machine,
            dtype=kind,
            keep=work is not None,
            tasks=found.get("tasks"),
        )
        return print_plan(made, machine)

    facts = provenance("bayesgen info")
    return output.current().facts(
        {
            "versions": facts["versions"],
            "python": f"{facts['python']} on {facts['platform']}",
            "threads": torch.get_num_threads(),
            "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
            "mps": "yes" if torch.backends.mps.is_available() else "none",
        }
    )
