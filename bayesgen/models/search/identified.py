"""Sentences about hyperparameters of a kernel that the data do not identify."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import gpytorch
import torch
from torch import Tensor

from bayesgen.covariance.gram import gram
from bayesgen.kernels.parameters import LENGTH, PERIOD, Coordinates
from bayesgen.kernels.structure import label, labels_of, terms
from bayesgen.models.search.inputs import InputScales

# Number of points whose correlations with all points are looked at.
_ROWS = 100
# Largest correlation with any other point below which a term is white noise at these inputs.
_WHITE = 0.05
# Relative spread of covariances below which a term is a constant, where there is no noise variance
# to compare it with.
_CONSTANT = 1e-4
# Length-scales beyond this multiple of the range of the inputs.
_BEYOND, _IRRELEVANT = 5.0, 10.0
# A term, or a part of one, does not matter where n times its variance is below this share of the
# noise variance.
_ABSENT = 0.1


def unidentified(
    kernel: gpytorch.kernels.Kernel,
    x: Tensor,
    scale: float,
    noise: float | None,
    columns: Sequence[str] = (),
) -> list[str]:
    """Sentences about what the data do not identify; an empty list where nothing was found.

    Args:
        kernel: the fitted kernel, of unit outputscale.
        x: inputs, (n, d).
        scale: outputscale s.
        noise: noise variance σ², or None where there is none.
        columns: names of the columns of x, for the sentences; their numbers by default.

    Example:
        >>> kernel = gpytorch.kernels.RBFKernel().double()
        >>> kernel.lengthscale = 1e-3
        >>> x = torch.linspace(0, 1, 20, dtype=torch.float64)[:, None]
        >>> unidentified(kernel, x, 1.0, 0.1)[0][:38]
        'the term RBF is white noise at these i'
    """
    x = x.detach().double().cpu()
    kernel = kernel.double().cpu()
    coordinates = Coordinates(kernel, x.shape[1])
    inputs = InputScales(x)
    found: list[str] = []
    absent: set[str] = set()
    labels = labels_of(kernel)
    parts = [(label(term, labels), term) for term in terms(kernel)]
    shapes: list[tuple[str, Tensor, float]] = []
    for name, term in parts:
        variance, correlations, spread = _correlations(term, x)
        size = scale * variance
        # Covariances that differ by less than this leave the evidence as it is.
        slack = _CONSTANT * size if noise is None else _ABSENT * noise / len(x)
        if noise is not None and len(x) * size < _ABSENT * noise:
            absent.add(name)
            found.append(
                f"the term {name} has a variance of {size:.2g}, too small beside the noise "
                f"({noise:.2g}) to matter; its other hyperparameters are arbitrary"
            )
        elif _is_white(correlations, x):
            absent.add(name)
            found.append(
                f"the term {name} is white noise at these inputs: neighbouring points are "
                "uncorrelated under it, so that its variance and the noise cannot be told apart "
                "and the split into fit and complexity is arbitrary"
            )
        elif scale * spread < slack:
            absent.add(name)
            found.append(
                f"the term {name} is a constant at these inputs: its hyperparameters other than "
                "the variance are arbitrary"
            )
        else:
            shapes.append((name, correlations, slack / size))
    for (a, one, first), (b, other, second) in combinations(shapes, 2):
        if float((one - other).abs().max()) < max(first, second):
            found.append(
                f"the terms {a} and {b} are one at these inputs: only the sum of their variances "
                "is identified"
            )
    return found + _lengths(coordinates, inputs, absent, columns)


def _correlations(term: gpytorch.kernels.Kernel, x: Tensor) -> tuple[float, Tensor, float]:
    """Mean variance of a term, and correlations of some points with all points, (m, n).

    The last result is the difference between the largest and the smallest covariance.
    """
    rows = torch.linspace(0, len(x) - 1, min(_ROWS, len(x))).round().long()
    matrices = gram(term, x)
    theta = matrices.start()
    K = matrices.between(theta, x[rows], x)
    diagonal = matrices.diagonal(theta, x).clamp(min=torch.finfo(K.dtype).tiny)
    correlations = K / (diagonal[rows, None] * diagonal).sqrt()
    return float(diagonal.mean()), correlations, float(K.max() - K.min())


def _is_white(correlations: Tensor, x: Tensor) -> bool:
    rows = torch.linspace(0, len(x) - 1, len(correlations)).round().long()
    same = (x[rows, None] == x).all(-1)  # a point and its duplicates
    nearest = correlations.abs().masked_fill(same, 0.0).amax(1)
    return bool(len(x) > 1 and nearest.median() < _WHITE)


def _lengths(
    coordinates: Coordinates, inputs: InputScales, absent: set[str], names: Sequence[str]
) -> list[str]:
    """Sentences about length-scales and periods beyond the range of the inputs."""
    found = []
    theta = coordinates.read(coordinates.kernel)
    for p in coordinates.parameters:
        values = p.natural(theta).reshape(-1)
        columns = p.part.columns
        if p.part.label in absent:
            continue
        if p.role == LENGTH and len(values) == len(columns) and len(columns) > 1:
            off = [
                repr(names[c]) if names else str(c)
                for c, v in zip(columns, values, strict=True)
                if float(v) > _IRRELEVANT * float(inputs.ranges[c])
            ]
            if off:
                which = f"column{'s' if len(off) > 1 else ''} {', '.join(off)}"
                found.append(
                    f"{p.name} switches off {which} of x: their length-scales are more than "
                    f"{_IRRELEVANT:.0f} times the range and not identified from above"
                )
        elif p.role == LENGTH and float(values[0]) > _BEYOND * inputs.diameter(columns):
            found.append(
                f"{p.name} is more than {_BEYOND:.0f} times the range of the inputs: the term is a "
                "low-order polynomial there, and only variance and length-scale together are "
                "identified"
            )
        elif p.role == PERIOD:
            spans = [inputs.diameter((c,)) for c in columns[: len(values)]]
            if any(float(v) > span for v, span in zip(values, spans, strict=False)):
                found.append(f"{p.name} is longer than the range of the inputs, so that no period "
                             "is seen")  # fmt: skip
    return found
