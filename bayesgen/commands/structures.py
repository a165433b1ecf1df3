"""What `bayesgen select --search` computes: sums and products of kernels for a table."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bayesgen.commands import folder, output
from bayesgen.commands.report import Study
from bayesgen.commands.shared import MODEL_FILE, png, write

if TYPE_CHECKING:
    from bayesgen.select import Table

_HEADINGS = {
    "log_evidence": "log p(D)",
    "parameters": "p",
    "score": "score",
    "probability": "prob.",
    "at_bound": "at bound",
}
# Number of structures that are printed, and largest number of steps of the search.
_SHOWN, _STEPS = 10, 3


def search(name: str, data: Table, place: folder.Results, save: Path | None) -> None:
    """Search structures on a table, print the ranking and the parts of the best, and write them.

    Raises:
        ValueError: the target holds classes.
    """
    from torch.distributions import Normal

    from bayesgen import plots, storage
    from bayesgen.models.gp.components import Components, components
    from bayesgen.select.structure import NULL
    from bayesgen.select.structures import kernels

    if data.classes:
        raise ValueError(
            f"--search needs a real target, and {data.target!r} holds {len(data.classes)} classes; "
            "--task regression takes whole numbers as numbers"
        )
    columns, shown = data.columns, output.current()
    base = ["linear", "periodic", "rbf"]
    if len(data.inputs) > 1:
        base = [f"{k}(column={i})" for i in range(len(data.inputs)) for k in ("linear", "rbf")]
    with shown.progress() as report:
        found = kernels(data.x, data.y, base=base, depth=_STEPS, progress=report)
    title = f"{data.target}: n = {len(data.y):,}, {len(found.ranking)} structures tried"
    formats = dict.fromkeys(("log_evidence", "score"), ",.1f") | {"parameters": ".0f"}
    shown.table(found.ranking, title, formats, name="ranking", headings=_HEADINGS, rows=_SHOWN)
    best = str(found.ranking.index[0])
    sizes = columns.size.tolist()
    parts = components(found.best, data.x, sizes)
    scaled = {k: Normal(columns.target_size * p.mean, columns.target_size * p.stddev)
              for k, p in parts.items()}  # fmt: skip
    prior_mean = columns.target_size * parts.prior_mean + columns.target_centre
    x = data.x * columns.size + columns.centre
    own = Components(scaled, parts.sentences, x, prior_mean, parts.columns)
    if best == NULL:
        shown.say("No structure is better than white noise: the inputs explain nothing.")
    else:
        shown.say(f"The best structure is {best}:")
        for part, words in own.sentences.items():
            if part != "Constant":
                shown.say(f"{part}: {words}.")
    for i, text in enumerate(data.inputs if len(data.inputs) > 1 else ()):
        shown.say(f"Column {i} is {text}.")
    shown.say(
        "The score is log p(D) − ½ p ln n, in nats, of inputs and target standardised, with p "
        "identified hyperparameters; probabilities are among the structures tried."
    )
    figure = plots.components(own)
    contents = {"ranking.csv": found.ranking.to_csv().encode(), "components.png": png(figure)}
    attrs = {"data": name, "target": data.target, "n": len(data.y), "inputs": len(data.inputs)}
    study = Study(
        f"Structure of {data.target} by its evidence",
        {"Posterior mean and two standard deviations of each part of the best structure": figure},
        attrs,
        ["A structure was chosen on these data: probabilities are among those tried, with BIC."],
    )
    write(place, contents, study)
    file = place.path / MODEL_FILE if save is None else save
    keep = partial(storage.save, found.best, columns=columns)
    keep(file)
    shown.wrote(file)
    shown.attrs({"best": best, "target": data.target})
