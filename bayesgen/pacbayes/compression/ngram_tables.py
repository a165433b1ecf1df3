"""Coded tables of n-gram frequencies, the mark that a certified language model has to beat."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bayesgen._internal import checks
from bayesgen._internal.progress import Progress
from bayesgen.data.corpus import Corpus
from bayesgen.pacbayes.compression import arithmetic_coding
from bayesgen.pacbayes.compression.container import integer, read_integer
from bayesgen.pacbayes.compression.token_losses import TokenLosses, smoothed, token_losses
from bayesgen.pacbayes.compression.windows import Windows

# Largest code length of a token in a table, in bits; rarer tokens share it.
_MOST = 20
# Number of tokens in a window; tables look back over one token.
_WINDOW = 256


@dataclass(frozen=True)
class CodedTable:
    """A table of probabilities that was encoded as bytes, and its losses on the corpus.

    Attributes:
        code: the bytes.
        order: 1 for frequencies of tokens, 2 for those of pairs.
        losses: losses of the decoded table.
    """

    code: bytes
    order: int
    losses: TokenLosses

    @property
    def bits(self) -> int:
        """Length of the code in bits."""
        return 8 * len(self.code)


def coded_table(corpus: Corpus, order: int = 2, resolution: float = 1.0) -> CodedTable:
    """Encode the frequencies of tokens or pairs, decode them, and evaluate them on the corpus.

    The code holds the resolution and −log₂ of each conditional frequency, rounded to multiples of
    the resolution, in an adaptive arithmetic code.

    Args:
        corpus: the text.
        order: 1 or 2.
        resolution: unit of the rounded code lengths, in bits, a multiple of 1/16 up to 15.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> table = coded_table(Corpus("toy", [[0, 1, 1] * 500], 2), 2)
        >>> table.losses.risk < 0.8
        True
    """
    if checks.whole("order", order) > 2:
        raise ValueError(f"order must be 1 or 2, got {order}")
    steps = float(checks.positive("resolution", resolution)) * 16
    if steps != int(steps) or steps > 240:
        raise ValueError(f"resolution must be a multiple of 1/16 up to 15, got {resolution}")
    V, windows = corpus.vocabulary, Windows.of(corpus, _WINDOW)
    mask = windows.mask
    pairs = V * windows.inputs[mask].long() + windows.targets[mask].long()
    counts = torch.bincount(pairs, minlength=V * V).view(V, V).double()
    counts = counts.sum(0, keepdim=True) if order == 1 else counts
    frequencies = counts / counts.sum(1, keepdim=True).clamp(min=1)
    units = (-frequencies.log2() / resolution).round().clamp(max=_MOST / resolution)
    largest = math.floor(_MOST / resolution)
    symbols = units.nan_to_num(posinf=largest).clamp(max=largest).long().reshape(-1)
    body = bytes([order, int(steps)]) + arithmetic_coding.encode(symbols.tolist(), largest + 1)
    code = integer(len(body)) + body
    table = decoded_table(code, V)

    def evaluate(
        rows: Windows, alphas: Sequence[float], _: Progress | None
    ) -> list[tuple[Tensor, Tensor]]:
        before, after = rows.inputs[rows.mask].long(), rows.targets[rows.mask].long()
        context = before if order == 2 else torch.zeros_like(before)
        found = [smoothed(table, alpha, V) for alpha in alphas]
        return [(lengths[context, after], expected[context]) for lengths, expected in found]

    return CodedTable(code, order, token_losses(evaluate, windows, V))


def decoded_table(code: bytes, vocabulary: int) -> Tensor:
    """The conditional probabilities of a code, (1, V) or (V, V); each row adds up to 1.

    Raises:
        ValueError: the code is incomplete or too long.
    """
    length, start = read_integer(code, 0)
    if len(code) != start + length or length < 3:
        raise ValueError(f"code must hold {start + length} bytes, got {len(code)}")
    order, resolution = code[start], code[start + 1] / 16
    rows = 1 if order == 1 else vocabulary
    largest = math.floor(_MOST / resolution)
    symbols = arithmetic_coding.decode(code[start + 2 :], rows * vocabulary, largest + 1)
    weights = torch.exp2(-resolution * torch.tensor(symbols, dtype=torch.float64))
    weights = weights.view(rows, vocabulary)
    return weights / weights.sum(1, keepdim=True)
