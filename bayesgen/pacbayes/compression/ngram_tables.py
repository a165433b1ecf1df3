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
from bayesgen.pacbayes.bounds import solomonoff
from bayesgen.pacbayes.compression import arithmetic_coding
from bayesgen.pacbayes.compression.container import integer, read_integer
from bayesgen.pacbayes.compression.token_losses import TokenLosses, smoothed, token_losses
from bayesgen.pacbayes.compression.windows import Windows

# Largest code length of a token in a table, in bits; rarer tokens share it.
_MOST = 20
# Largest number of tokens in a window; tables look back over one token.
_WINDOW = 256


@dataclass(frozen=True, eq=False)
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

    @property
    def log_prior(self) -> float:
        """Log prior probability of the code, −(C ln 2 + 2 ln C) for C bits, in nats."""
        return float(solomonoff(float(self.bits)))


def coded_table(corpus: Corpus, order: int = 2, resolution: float = 1.0) -> CodedTable:
    """Encode the frequencies of tokens or pairs, decode them, and evaluate them on the corpus.

    The code holds the order, the resolution and −log₂ of each conditional frequency, rounded to
    multiples of the resolution, in an adaptive arithmetic code. Its length pays for the choice of
    order and resolution. Tokens after which nothing was seen have equal probabilities.

    Args:
        corpus: the text.
        order: 1 or 2.
        resolution: unit of the rounded code lengths, in bits, a multiple of 1/16 up to 15.

    Returns:
        The table. Bounds on its bits per token are `losses.freedman(log_prior − losses.choice)` and
        its like, where the log prior is that of the code.

    Raises:
        TypeError: the corpus is no `Corpus`; the resolution is no number.
        ValueError: an argument is out of range; the table has more entries than the coder takes.

    Example:
        >>> table = coded_table(Corpus("toy", [[0, 1, 1] * 500], 2), 2)
        >>> table.losses.risk < 0.8
        True
    """
    if not isinstance(corpus, Corpus):
        raise TypeError(f"corpus must be a bayesgen.data.Corpus, got {type(corpus).__name__}")
    if checks.whole("order", order) > 2:
        raise ValueError(f"order must be 1 or 2, got {order}")
    steps = 16 * checks.amount("resolution", resolution)
    if steps not in range(1, 241):
        raise ValueError(f"resolution must be a multiple of 1/16 up to 15, got {resolution}")
    V, longest = corpus.vocabulary, max(len(document) for document in corpus.documents)
    if V**order > arithmetic_coding.MOST:
        raise ValueError(
            f"order must be such that a table has at most {arithmetic_coding.MOST:,} entries, got "
            f"{V**order:,} for {V:,} different tokens"
        )
    windows = Windows.of(corpus, min(_WINDOW, longest))
    mask = windows.mask
    pairs = windows.targets[mask].long()
    if order == 2:
        pairs = pairs + V * windows.inputs[mask].long()
    counts = torch.bincount(pairs, minlength=V**order).view(-1, V).double()
    frequencies = counts / counts.sum(1, keepdim=True).clamp(min=1)
    resolution = steps / 16
    largest = math.floor(_MOST / resolution)
    # The code length of a frequency of zero is infinite.
    units = (-frequencies.log2() / resolution).round().clamp(max=largest)
    symbols = units.long().reshape(-1)
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

    Args:
        code: the code of a `CodedTable`.
        vocabulary: V, the number of different tokens.

    Raises:
        TypeError: the code is not made of bytes.
        ValueError: the code is incomplete, too long or no code of a table.
    """
    if not isinstance(code, bytes | bytearray | memoryview):
        raise TypeError(f"code must be bytes, got {type(code).__name__}")
    code, V = bytes(code), checks.whole("vocabulary", vocabulary, 2)
    length, start = read_integer(code, 0)
    if len(code) != start + length or length < 3:
        raise ValueError(
            f"code must hold {start + max(length, 3)} bytes, as its beginning says, got {len(code)}"
        )
    order, resolution = code[start], code[start + 1] / 16
    if order not in (1, 2) or not 0 < resolution <= 15:
        raise ValueError(
            f"code must hold order 1 or 2 and a resolution of 1/16 to 15 bits, got {order} and "
            f"{resolution}"
        )
    rows = V ** (order - 1)
    largest = math.floor(_MOST / resolution)
    symbols = arithmetic_coding.decode(code[start + 2 :], rows * V, largest + 1)
    weights = torch.exp2(-resolution * torch.tensor(symbols, dtype=torch.float64))
    weights = weights.view(rows, V)
    return weights / weights.sum(1, keepdim=True)
