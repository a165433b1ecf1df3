"""The length of a prequential code: the sum of the code lengths of blocks given those before."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd
from torch import Tensor

from bayesgen._internal import checks
from bayesgen._internal.words import plural


@dataclass(frozen=True, eq=False, repr=False)
class CodeLength:
    """Result of `bayesgen.prequential`: code lengths −log p(y_k | x_k, D_<k) of blocks, in nats.

    Attributes:
        lengths: code length of each block in each order of the data, (orders, blocks), float64.
        ends: number of observations up to the end of each block.
        method: description of the predictive distribution.
        excludes: names of what was fitted to the same data and is not included in the code.
    """

    lengths: Tensor
    ends: tuple[int, ...]
    method: str
    excludes: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        """Number of observations in all blocks."""
        return self.ends[-1]

    @property
    def totals(self) -> Tensor:
        """Code length of all data in each order, (orders,)."""
        return self.lengths.sum(1)

    @property
    def total(self) -> float:
        """Code length of all data in nats, the mean over orders."""
        return float(self.totals.mean())

    @property
    def error(self) -> float:
        """Standard error of `total` over orders; nan for one order."""
        count = len(self.lengths)
        return float(self.totals.std()) / math.sqrt(count) if count > 1 else math.nan

    @property
    def log_evidence(self) -> float:
        """The log probability that the code assigns to the data, −total, in nats."""
        return -self.total

    @property
    def bits(self) -> float:
        """The value `total` in bits."""
        return self.total / math.log(2)

    def after(self, m: int) -> float:
        """Code length of the observations after the first m, in nats, the mean over orders.

        Its negative is the conditional log evidence log p(D_{>m} | D_{≤m}) of Lotfi et al. (2022).

        Args:
            m: 0, or the end of a block before the last.

        Raises:
            ValueError: no block ends there.
        """
        known = (0, *self.ends[:-1])
        if checks.integer(m) not in known:
            raise ValueError(f"m must be an end of a block, one of {known}, got {m!r}")
        return float(self.lengths[:, known.index(m) :].sum(1).mean())

    def table(self) -> pd.DataFrame:
        """One row for each block: observations before it, its size, and nats per observation."""
        before = (0, *self.ends[:-1])
        sizes = [end - start for start, end in zip(before, self.ends, strict=True)]
        each = self.lengths.mean(0).numpy() / sizes
        return pd.DataFrame({"before": before, "size": sizes, "nats per observation": each})

    def __repr__(self) -> str:
        bar = f" ± {self.error:.2g}" if len(self.lengths) > 1 else ""
        text = (
            f"CodeLength({self.total:.6g}{bar} nats, {self.total / self.n:.4g} per observation, "
            f"n = {self.n}, {plural(len(self.ends), 'block')}, mean over "
            f"{plural(len(self.lengths), 'order')}; {self.method}"
        )
        if self.excludes:
            text += f"; the code excludes {' and '.join(self.excludes)}"
        return text + ")"
