"""Rank features of networks, such as layers of published ones, by the evidence of linear models."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from bayesgen import likelihoods, pacbayes
from bayesgen._internal import checks
from bayesgen._internal.progress import ProgressOption
from bayesgen._internal.progress_bar import shows_progress
from bayesgen.likelihoods.labels import Classes, has_texts, read
from bayesgen.spectrum.spectrum import Spectrum

# Largest number of classes.
_CLASSES = 1_000


@shows_progress
def features(
    candidates: Mapping[str, Any],
    y: Any,
    *,
    certify: bool = True,
    delta: float = 0.05,
    progress: ProgressOption = None,
) -> pd.DataFrame:
    """Rank features by the exact evidence of a linear model on each, best first.

    The model is y = φᵀw + ε with independent Gaussian weights of one variance. Labels are coded
    one-hot minus their average, one output for each class. The variances of the weights and of the
    noise are those of the largest evidence, shared by the outputs. They are found from one
    decomposition of the features.

    Each row has a certificate of the Gibbs classifier of the linear model, whose prior does not
    depend on the labels. The choice among the candidates is paid for in each row, so that the
    smallest bound is valid.

    Args:
        candidates: name → features (n, d), computed without the labels; see
            `bayesgen.pretrained.features`.
        y: class labels (n,), integers or texts, or real targets (n,) or (n, C), for which there are
            no certificates. The classes are those that occur; for the certificates, their set
            counts as known before the data.
        certify: whether to compute the certificates, which takes longer than the evidence.
        delta: δ in (0, 1), the probability that some of the bounds fail.
        progress: called as progress(done, expected, what) after each candidate; True shows a
            progress bar.

    Returns:
        DataFrame with one row for each candidate: `log_evidence` (nats), `per_observation`,
        `probability` (among the candidates), `fit`, `complexity` (KL, nats), `n_eff`, `d`, `scale`
        (variance of a weight), `noise` (variance) and, with `certify`, `bound` and `gibbs_risk`.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range; features are not
            finite, or do not have one row for each target.

    Source: You et al. (2021), LogME, where each class has variances of its own and the evidence is
    found by fixed-point iterations; MacKay (1992).

    Example:
        >>> import bayesgen as bg
        >>> data = bg.data.load("digits", train=300)
        >>> noise = torch.randn(300, 5, generator=torch.Generator().manual_seed(0))
        >>> found = features({"pixels": data.x_train, "noise": noise}, data.y_train)
        >>> list(found.index)
        ['pixels', 'noise']
    """
    if not isinstance(candidates, Mapping) or not candidates:
        raise TypeError(
            f"candidates must be a mapping from names to features (n, d), got {candidates!r:.60}"
        )
    named = {str(k): checks.inputs(f"candidates[{k!r}]", v).double() for k, v in candidates.items()}
    if len(named) < len(candidates):
        raise ValueError("candidates must have different names as texts, got some that coincide")
    lengths = {len(Phi) for Phi in named.values()}
    if len(lengths) > 1:
        raise ValueError(
            f"candidates must have one number of rows, got {', '.join(map(str, sorted(lengths)))}"
        )
    coded, labels = _targets(y, lengths.pop())
    for name, Phi in named.items():
        if not Phi.any():
            raise ValueError(f"candidates[{name!r}] must have features that are not all zero")
    cost = math.log(len(named))
    rows: dict[str, dict[str, float]] = {}
    for i, (name, Phi) in enumerate(named.items()):
        spectrum = Spectrum.by_shape(Phi).load(coded)
        best = spectrum.maximise()
        evidence = best.evidence[0] if best.evidence.batch_shape else best.evidence
        rows[name] = {
            "log_evidence": float(evidence.log_marginal_likelihood),
            "per_observation": float(evidence.log_marginal_likelihood) / len(coded),
            "fit": float(evidence.fit),
            "complexity": float(evidence.complexity),
            "n_eff": coded.shape[1] * float(
                spectrum.effective_dimension(float(best.noise) / float(best.scale))
            ),
            "d": Phi.shape[1],
            "scale": float(best.scale),
            "noise": float(best.noise),
        }  # fmt: skip
        if labels is not None and certify:
            made = pacbayes.certify(
                {name: spectrum}, None, labels, delta=delta, log_prior={name: -cost}
            )
            rows[name] |= {"bound": made.bound, "gibbs_risk": made.risk}
        if progress is not None:
            progress(i + 1, len(named), f"features {name}")
    table = pd.DataFrame.from_dict(rows, orient="index")
    table = table.sort_values("log_evidence", ascending=False)
    logs = torch.tensor(table["log_evidence"].to_numpy())
    table.insert(2, "probability", logs.softmax(0).numpy())
    return table


def _targets(y: Any, n: int) -> tuple[Tensor, Tensor | None]:
    """Real targets (n, C), and the one-hot rows of labels or None."""
    given = None if has_texts(y) else checks.as_tensor("y", y)
    if given is not None and given.is_floating_point():
        found = checks.targets("y", given.double(), n, like=torch.zeros((), dtype=torch.float64))
        if found.ndim > 2:
            raise ValueError(f"y must have shape (n,) or (n, C), got {tuple(found.shape)}")
        return found.reshape(n, -1), None
    labels = read(y, whole=False)
    if labels.shape != (n,):
        raise ValueError(f"y must hold one class label for each of {n} rows, got {labels.shape}")
    different = np.unique(labels)
    if not 2 <= len(different) <= _CLASSES:
        raise ValueError(f"y must hold labels of 2 to {_CLASSES:,} classes, got {len(different):,}")
    one_hot = likelihoods.one_hot(Classes(different).encode(labels), len(different))
    return one_hot - one_hot.mean(0), one_hot
