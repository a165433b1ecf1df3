"""Experiment: bounds on the bits per character of coded transformers, against their size."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import nn

from bayesgen import data as datasets, networks, plots
from bayesgen._internal import files
from bayesgen._internal.hashing import fingerprint
from bayesgen._internal.progress import Progress, ProgressOption
from bayesgen._internal.progress_bar import shows_progress
from bayesgen.data.corpus import Corpus
from bayesgen.experiments.executor import Job, Values, sweep
from bayesgen.experiments.experiment import claim, experiment, provenance
from bayesgen.pacbayes import sequences
from bayesgen.pacbayes.bounds import countable, solomonoff
from bayesgen.pacbayes.compression.language_model import (
    CompressedLanguageModel,
    compress_language_model,
)
from bayesgen.pacbayes.compression.ngram_tables import coded_table

DELTA = 0.05
# Number of documents that are evaluated for the bound on a new document.
_DOCUMENTS = 8
# Change of the bound from the smallest to the largest model that counts as a trend, in bits.
_MARGIN = 0.05
_PAPER = (
    "Compressed language models have non-vacuous bounds, and larger models have better ones: their "
    "empirical risk falls while their compressibility remains."
)


@dataclass(frozen=True)
class LanguageSetting:
    """A transformer with its subspace and its training.

    Attributes:
        width, layers, heads: of `bayesgen.networks.Transformer`.
        rank: rank of `bayesgen.networks.low_rank`; 0 for full matrices.
        dimension: dimension of the subspace; 0 for all trained weights.
        steps, quantised_steps, batch, learning_rate: of
            `bayesgen.pacbayes.compress_language_model`.
        sample: number of windows that are evaluated; 0 for all.
    """

    width: int
    layers: int
    heads: int
    rank: int
    dimension: int
    steps: int
    quantised_steps: int
    batch: int = 8
    learning_rate: float = 0.05
    sample: int = 4000

    def net(self, vocabulary: int) -> nn.Module:
        """The architecture, whose own weights are not used."""
        net: nn.Module = networks.Transformer(
            self.width, self.layers, self.heads, vocabulary=vocabulary
        )
        return networks.low_rank(net, self.rank, keep=["scores"]) if self.rank else net

    @property
    def name(self) -> str:
        """Name for files and progress."""
        kind = f", rank {self.rank}" if self.rank else ""
        space = f"{self.dimension:,} dimensions" if self.dimension else "all weights"
        return f"transformer {self.width} x {self.layers}{kind}, {space}"


SETTINGS = (
    LanguageSetting(64, 2, 4, 0, 8_000, 2000, 1500, sample=8000),
    LanguageSetting(64, 2, 4, 0, 32_000, 2000, 1500, sample=8000),
    LanguageSetting(64, 2, 4, 0, 0, 4000, 4000, sample=0),
    LanguageSetting(128, 5, 4, 0, 32_000, 1000, 700, sample=4000),
    LanguageSetting(128, 5, 4, 4, 0, 1000, 1000, sample=4000),
    LanguageSetting(512, 3, 8, 2, 32_000, 300, 250, sample=2000),
)
QUICK = (
    LanguageSetting(16, 1, 2, 0, 0, 400, 300, sample=1500),
    LanguageSetting(32, 2, 4, 0, 8_000, 250, 150, sample=1500),
    LanguageSetting(64, 2, 4, 0, 8_000, 150, 100, sample=1500),
)


@experiment(plot=plots.language_models, quick={"settings": QUICK})
@shows_progress
def language_models(
    text: str | os.PathLike[str] | Corpus | None = None,
    settings: Sequence[LanguageSetting] = SETTINGS,
    *,
    pattern: str = "*",
    alphabet: str = "ascii",
    context: int = 256,
    levels: int = 11,
    entropy: float = 0.2,
    characters: int | None = None,
    seed: int = 0,
    store: str | os.PathLike[str] | None = None,
    progress: ProgressOption = None,
    command: str | None = None,
) -> xr.Dataset:
    """Bounds on the bits per character of transformers of growing size, coded and decoded.

    Each transformer is trained in a random subspace of its weights, with low-rank updates for the
    larger ones (SubLoRA), quantised, and really encoded; the losses are those of the network that
    is decoded from the bytes. The bounds for tokens (`freedman`, `hoeffding`) are about this text:
    the mean loss on characters that are drawn anew, each after the same past. The bound for
    documents is about a new file, and needs independent files, of which the standard library has
    few hundred. `documents_needed` says how many would bring it below guessing.

    Everything that was chosen is paid for: by the code (dimension, number of levels, levels, seed,
    checkpoint), or by the logarithm of the number of stated candidates (one for each of `settings`;
    α: six values). Coded tables of
    the frequencies of characters and of pairs are the mark to beat. They pay for one of two tables.

    Args:
        text: a file or folder for `bayesgen.data.text`, a `Corpus`, or None for the sources of
            Python's standard library.
        pattern, alphabet: for `bayesgen.data.text`, where the text is a file or folder.
        settings: the transformers. They must be chosen before the text is seen.
        context: number of characters in a window.
        levels, entropy, seed: as in `bayesgen.pacbayes.compress_language_model`.
        characters: number of characters of the text, taken as whole random documents; None for all.
        store: folder for finished models and for the states of trainings, so that an interrupted
            study can continue.
        progress: called as progress(done, expected, what); True shows a progress bar.
        command: command to record in the result; None records this call.

    Returns:
        Dataset of dims (model,): `parameters`, `dimension`, `bits`, `risk`, `freedman`,
        `hoeffding`, `documents`, all losses in bits per character, and `alpha`, `payments` (nats
        beside the code); and of dims (table,) for the tables: `table_bits`, `table_risk`,
        `table_freedman`, `table_hoeffding`.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range; the text cannot be
            read or is too short.

    Source: Wilson (2025), figure 2; Lotfi et al. (2023, 2024); Finzi et al. (2025).

    Example:
        >>> toy = Corpus("toy", [[0, 1, 1, 0, 2] * 4000] * 3, vocabulary=4)
        >>> one = LanguageSetting(8, 1, 2, 0, 100, 60, 60, sample=0)
        >>> result = language_models(toy, [one], context=32, levels=5)
        >>> bool((result.freedman < 2).all())
        True
    """
    corpus = (
        text
        if isinstance(text, Corpus)
        else datasets.text(text, pattern=pattern, alphabet=alphabet)
    )
    if characters is not None:
        corpus = corpus.sample(characters, seed)
    chosen = list(settings)
    if not chosen or not all(isinstance(each, LanguageSetting) for each in chosen):
        raise TypeError(f"settings must hold at least one LanguageSetting, got {settings!r}")
    common = _Common(corpus, context, levels, entropy, seed, len(chosen))
    mark = [corpus.fingerprint, context, levels, entropy, seed, common.candidates]
    jobs = []
    for setting in chosen:
        state = None if store is None else files.writable(store) / _state(setting, mark)
        jobs.append(Job(setting.name, certified, (setting, common, state, progress)))
    marks = [[*mark, repr(setting)] for setting in chosen]
    cells = sweep(jobs, marks, store=store, progress=progress)
    table_jobs = [Job(f"table of order {order}", table, (corpus, order)) for order in (1, 2)]
    tables = sweep(table_jobs, [[corpus.fingerprint]] * 2, store=store, progress=progress)
    result = _dataset(chosen, cells, tables)
    best = int(np.argmin(result.freedman.values))
    return result.assign_attrs(
        title="Bounds of language models against their size",
        data=corpus.name,
        data_fingerprint=corpus.fingerprint,
        n=corpus.tokens,
        documents=len(corpus.documents),
        vocabulary=corpus.vocabulary,
        guessing=math.log2(corpus.vocabulary),
        delta=DELTA,
        certificate=str(cells[best]["says"]),
        **_claim(result, corpus),
        **provenance(command or f"bayesgen.experiments.language_models({text!r})"),
    )


@dataclass(frozen=True)
class _Common:
    """What all models share."""

    corpus: Corpus
    context: int
    levels: int
    entropy: float
    seed: int
    candidates: int


def certified(
    setting: LanguageSetting, common: _Common, state: Path | None, progress: Progress | None
) -> Values:
    """Compress one transformer, and return its numbers."""
    corpus = common.corpus
    net = setting.net(corpus.vocabulary)
    trained = sum(p.numel() for p in net.parameters())
    model = compress_language_model(
        net,
        corpus,
        context=common.context,
        dimension=setting.dimension or trained,
        levels=common.levels,
        projection="kronecker" if setting.dimension else "identity",
        steps=setting.steps,
        quantised_steps=setting.quantised_steps,
        batch=setting.batch,
        learning_rate=setting.learning_rate,
        entropy=common.entropy,
        sample=setting.sample or None,
        seed=common.seed,
        checkpoint=state,
        progress=progress,
    )
    certificates = {
        kind: model.certificate(DELTA, candidates=common.candidates, bound=kind)
        for kind in ("freedman", "hoeffding")
    }
    found = certificates["freedman"]
    paid = found.paid - found.complexity
    documents, needed = _document_bound(model, corpus, paid, common.candidates, common.seed)
    buffers = sum(b.numel() for b in net.buffers())
    return {
        "parameters": float(trained + buffers),
        "dimension": float(setting.dimension or trained),
        "bits": float(model.bits),
        "risk": found.risk,
        "alpha": model.losses.alpha,
        "payments": paid,
        **{kind: each.bound for kind, each in certificates.items()},
        "documents": documents,
        "documents_needed": needed,
        "says": str(found),
    }


def _document_bound(
    model: CompressedLanguageModel, corpus: Corpus, paid: float, candidates: int, seed: int
) -> tuple[float, float]:
    """Bound on the loss in a new document, and the number of documents that it would need.

    Where a sample of the windows was evaluated, the bound is from a sample of the documents.

    Returns:
        The bound of Lotfi et al. (2023) in bits, and the number of documents at which it would be
        below guessing if all of them were evaluated.
    """
    n, log_prior = len(corpus.documents), model.log_prior - paid
    losses = model.losses
    if not losses.sampled:
        mean = losses.of_documents().mean()
        bound = float(countable(mean, log_prior, n, DELTA, losses.range))
    else:
        m = min(n, _DOCUMENTS)
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randperm(n, generator=generator)[:m].tolist()
        few = Corpus(corpus.name, [corpus.documents[i] for i in drawn], corpus.vocabulary)
        mean = model.evaluate(few).of_documents().mean()
        tried = {"candidates": candidates}
        bound = float(sequences.subsampled(mean, log_prior, n, m, DELTA, losses.range, **tried))
    bound = min(bound, losses.range[1])
    room = math.log2(corpus.vocabulary) - float(mean)
    if room <= 0:
        return bound, math.inf
    spent = (-log_prior - math.log(DELTA)) * losses.width**2 / (2 * room**2)
    return bound, float(math.ceil(spent))


def table(corpus: Corpus, order: int) -> Values:
    """Bounds of a coded table of frequencies, one of two."""
    coded = coded_table(corpus, order)
    log_prior = float(solomonoff(float(coded.bits))) - coded.losses.choice - math.log(2)
    return {
        "table_bits": float(coded.bits),
        "table_risk": coded.losses.risk,
        "table_freedman": coded.losses.freedman(log_prior, DELTA),
        "table_hoeffding": coded.losses.hoeffding(log_prior, DELTA),
    }


def _state(setting: LanguageSetting, mark: list[Any]) -> str:
    """Name of the file with the state of a training; the evaluation does not enter it."""
    trained = replace(setting, sample=0)
    return f"training-{fingerprint(repr(trained), *mark[:-1])}.pt"


_WORDS = {
    "parameters": ("1", "weights of the network, fixed random ones included"),
    "dimension": ("1", "dimension of the subspace"),
    "bits": ("bits", "length of the code"),
    "risk": ("bits per character", "loss of the decoded network on the text"),
    "alpha": ("1", "α of the prediction smoothing"),
    "payments": ("nats", "payments for α and for the setting"),
    "freedman": ("bits per character", "bound for the tokens by Freedman's method"),
    "hoeffding": ("bits per character", "bound for the tokens by Hoeffding's inequality"),
    "documents": ("bits per character", "bound for a new document"),
    "documents_needed": ("1", "documents at which that bound would be below guessing"),
}


def _dataset(
    settings: Sequence[LanguageSetting], cells: Sequence[Values], tables: Sequence[Values]
) -> xr.Dataset:
    variables: dict[str, Any] = {
        name: ("model", [float(cell[name]) for cell in cells], {"units": units, "long_name": words})
        for name, (units, words) in _WORDS.items()
    }
    for name in ("table_bits", "table_risk", "table_freedman", "table_hoeffding"):
        units = "bits" if name == "table_bits" else "bits per character"
        variables[name] = ("table", [float(one[name]) for one in tables], {"units": units})
    names = [each.name for each in settings]
    architectures = [f"{each.width} x {each.layers}" for each in settings]
    coords = {
        "model": names,
        "architecture": ("model", architectures),
        "table": ["characters", "pairs"],
    }
    return xr.Dataset(variables, coords=coords)


def _claim(result: xr.Dataset, corpus: Corpus) -> dict[str, str]:
    """The source's claim against this result."""
    chosen: dict[str, int] = {}
    bounds = result.freedman.values
    for i, architecture in enumerate(result.architecture.values):
        if bounds[i] < bounds[chosen.setdefault(str(architecture), i)]:
            chosen[str(architecture)] = i
    order = sorted(chosen.values(), key=lambda i: float(result.parameters[i]))
    said = ", ".join(
        f"{result.parameters.values[i]:,.0f} weights: {bounds[i]:.2f} (risk "
        f"{result.risk.values[i]:.2f}, {result.bits.values[i]:,.0f} bits, Hoeffding "
        f"{result.hoeffding.values[i]:.2f})"
        for i in order
    )
    guessing, mark = math.log2(corpus.vocabulary), float(result.table_freedman.min())
    found = (
        f"Bounds in bits per character over {corpus.tokens:,} characters, where guessing has "
        f"{guessing:.2f} and the better table of frequencies {mark:.2f}: {said}. For a new "
        f"document, the smallest bound from {len(corpus.documents)} documents is "
        f"{float(result.documents.min()):.1f}, and at least "
        f"{float(result.documents_needed.min()):,.0f} documents would be needed for one below "
        "guessing."
    )
    least = [float(bounds[i]) for i in order]
    valid = max(least) < guessing
    falls = all(after < before for before, after in pairwise(least))
    falls = falls and least[-1] < least[0] - _MARGIN
    return claim(_PAPER, found, "yes" if valid and falls else "partly" if valid else "no")
