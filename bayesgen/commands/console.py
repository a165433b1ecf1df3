"""The tables and notes that the command line prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from bayesgen.solvers import Machine, Plan


# What an evidence of each kind of targets is about.
_KINDS = {"labels": "labels", "density": "real-valued codes"}


def print_corruption(result: xr.Dataset, frame: pd.DataFrame, folder: Path) -> None:
    """Print a corruption study: the table, its accuracy, and the paths of the files."""
    attrs, tasks = result.attrs, result.level.size * result.seed.size
    console = Console(highlight=False, soft_wrap=True)
    title = f"{attrs['data']}, n = {attrs['n']:,}: evidence in nats, means over seeds"
    console.print(table(frame, title, {"N_eff": ",.0f"}))
    error = result.evidence_error
    share = float((error / abs(result.log_marginal_likelihood)).max())
    notes = f"Rounding leaves the evidence uncertain by {float(error.max()):.1g} nats"
    if "Lanczos" in attrs["method"]:
        notes = (
            f"The evidence ({attrs['method']}) is uncertain by {float(error.max()):.2g} nats at "
            f"most, {share:.2g} of its size"
        )
    jitter = float(result.jitter.max())
    if jitter:
        notes += f"; a jitter of up to {jitter:.1g} was added to the diagonal"
    if attrs["spectra"]:
        notes += f"; {attrs['spectra']} spectra served all {tasks} tasks"
    ended = int(result.at_bound.sum())
    if ended:
        notes += f".\n{ended} of {tasks} tasks have an optimum without noise or without signal"
        notes += " (at_bound)"
    console.print(f"{notes}.\nWrote {folder / 'corruption.png'} and {folder / 'corruption.nc'}")


def print_models(result: xr.Dataset, folder: Path, stem: str = "corruption") -> None:
    """Print the evidence of each model of a study, and of which data it is the evidence."""
    from bayesgen.experiments.corruption_models import summary

    attrs = result.attrs
    console = Console(highlight=False, soft_wrap=True)
    title = f"{attrs['data']}, n = {attrs['n']:,}: log p(D) / n in nats, means over seeds"
    console.print(table(summary(result), title, {}))
    for name in result.model.values:
        one = result.sel(model=name)
        note = f"{name}: {one.says.item()}; evidence of the {_KINDS[one.kind.item()]}"
        console.print(note + (" (complexity excludes features)" if one.excludes.item() else ""))
    console.print(
        "Evidences of labels and of their real-valued codes cannot be compared with each other.\n"
        f"Wrote {folder / f'{stem}.png'} and {folder / f'{stem}.nc'}"
    )


def print_plan(plan: Plan, machine: Machine) -> None:
    """Print a plan: the engine, its memory and time, and the reason for it."""
    shown = Table(show_header=False, box=None)
    rates = ", ".join(f"{name} {rate / 1e9:,.0f}" for name, rate in machine.flops.items())
    shown.add_row("engine", plan.engine)
    shown.add_row("Gram matrix", f"{plan.dtype}, storage: {plan.storage}")
    shown.add_row("memory", f"{plan.bytes / 1e9:,.1f} GB of {machine.memory / 1e9:,.1f} free")
    shown.add_row("time", f"about {plan.seconds:,.0f} s")
    shown.add_row("why", plain(plan.reason))
    told = f"{machine.name}: matrix products at {rates} GFLOP/s"
    if machine.disk_rate:
        told += f"; the folder's disk is read at {machine.disk_rate / 1e9:.2g} GB/s"
    shown.add_row("measured", told)
    Console(highlight=False, soft_wrap=True).print(shown)


def table(frame: pd.DataFrame, title: str, formats: dict[str, str]) -> Table:
    """A data frame as a table for the console, its index first."""
    made = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    words = frame.index.dtype.kind not in "if"
    made.add_column(str(frame.index.name), justify="left" if words else "right")
    for name in frame.columns:
        made.add_column(str(name), justify="right", vertical="bottom", no_wrap=words)
    for index, row in frame.iterrows():
        cells = [
            "–" if value != value else format(value, formats.get(str(name), ".3f"))
            for name, value in row.items()
        ]
        made.add_row(plain(index) if words else f"{index:g}", *cells)
    return made


def plain(message: object) -> str:
    """A message with its brackets escaped, so that rich does not read them as markup."""
    return str(message).replace("[", r"\[")
