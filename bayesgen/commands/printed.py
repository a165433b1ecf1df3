"""What the command line prints of corruption studies and of plans."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bayesgen.commands import output

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from bayesgen.solvers import Machine, Plan

# What an evidence of each kind of targets is about.
_KINDS = {"labels": "labels", "density": "real-valued codes"}


def print_corruption(result: xr.Dataset, frame: pd.DataFrame) -> None:
    """Print a corruption study: the table and its accuracy."""
    attrs, tasks = result.attrs, result.level.size * result.seed.size
    shown = output.current()
    title = f"{attrs['data']}, n = {attrs['n']:,}: evidence in nats, means over seeds"
    shown.table(frame, title, {"N_eff": ",.0f"})
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
    shown.say(f"{notes}.")


def print_models(result: xr.Dataset) -> None:
    """Print the evidence of each model of a study, and of which data it is the evidence."""
    from bayesgen.experiments.corruption_models import summary

    attrs = result.attrs
    shown = output.current()
    title = f"{attrs['data']}, n = {attrs['n']:,}: log p(D) / n in nats, means over seeds"
    shown.table(summary(result), title)
    for name in result.model.values:
        one = result.sel(model=name)
        note = f"{name}: {one.says.item()}; evidence of the {_KINDS[one.kind.item()]}"
        shown.say(note + (" (complexity excludes features)" if one.excludes.item() else ""))
    shown.say(
        "Evidences of labels and of their real-valued codes cannot be compared with each other."
    )


def print_plan(plan: Plan, machine: Machine) -> None:
    """Print a plan: the engine, its memory and time, and the reason for it."""
    rates = ", ".join(f"{name} {rate / 1e9:,.0f}" for name, rate in machine.flops.items())
    told = f"{machine.name}: matrix products at {rates} GFLOP/s"
    if machine.disk_rate:
        told += f"; the folder's disk is read at {machine.disk_rate / 1e9:.2g} GB/s"
    output.current().facts(
        {
            "engine": plan.engine,
            "Gram matrix": f"{plan.dtype}, storage: {plan.storage}",
            "memory": f"{plan.bytes / 1e9:,.1f} GB of {machine.memory / 1e9:,.1f} free",
            "time": f"about {plan.seconds:,.0f} s",
            "why": plan.reason,
            "measured": told,
        }
    )
