"""Losses of a language model in bits, with smoothed predictions, and the bounds on their means.

Prediction smoothing mixes the model with the uniform distribution, p' = (1 − α) p + α/V. The loss
−log₂ p' of a token then lies in an interval of length Δ = log₂(1 + (1 − α) V/α).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bayesgen._internal import checks
from bayesgen._internal.progress import Progress
from bayesgen.pacbayes import bounds, sequences
from bayesgen.pacbayes.compression.windows import Windows

# Values of α, chosen before the text was seen.
ALPHAS = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)
# Windows for which the value of α is chosen, and number of tokens that are predicted at once.
_TRIED, _AT_ONCE = 1024, 16_384
# Share of δ that is used for the random choice of windows, where not all are evaluated.
_SAMPLING = 0.1

# Losses and expected losses in bits of the tokens of some windows, for each of some values of α.
Evaluate = Callable[[Windows, Sequence[float], Progress | None], list[tuple[Tensor, Tensor]]]


@dataclass(frozen=True)
class TokenLosses:
    """Losses of one model on the tokens of a corpus.

    Attributes:
        losses: −log₂ p' of each token that was evaluated, in bits, (m,).
        expected: loss that the model itself expects at each of them, −Σ p' log₂ p', in bits, (m,).
        lengths: number of tokens of each window that was evaluated, (w,).
        documents: index of the document of each of these windows, (w,).
        n: number of tokens of the corpus; m where all were evaluated.
        total: number of windows of the corpus.
        longest: number of tokens of the longest window of the corpus.
        sampled: whether the windows are a random sample, with replacement, and not all of them.
        alpha: α of the smoothing.
        alphas: the values of which α was chosen.
        vocabulary: V.
    """

    losses: Tensor
    expected: Tensor
    lengths: Tensor
    documents: Tensor
    n: int
    total: int
    longest: int
    sampled: bool
    alpha: float
    alphas: tuple[float, ...]
    vocabulary: int

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest possible loss of a token, in bits."""
        low = -math.log2(1 - self.alpha + self.alpha / self.vocabulary)
        return low, math.log2(self.vocabulary / self.alpha)

    @property
    def width(self) -> float:
        """Length Δ of the range of the loss, in bits."""
        low, high = self.range
        return high - low

    @property
    def choice(self) -> float:
        """Payment in nats for the choice of α."""
        return math.log(len(self.alphas))

    @property
    def risk(self) -> float:
        """Mean loss of a token, in bits; estimated where not all were evaluated."""
        if not self.sampled:
            return float(self.losses.mean())
        return float(self._sums(self.losses).mean()) * self.total / self.n

    def of_documents(self) -> Tensor:
        """Mean loss of the tokens of each document, in bits, (documents,)."""
        count = int(self.documents.max()) + 1
        sums, tokens = self.losses.new_zeros(2, count)
        sums.index_add_(0, self.documents, self._sums(self.losses))
        return sums / tokens.index_add_(0, self.documents, self.lengths.to(tokens))

    def hoeffding(self, log_prior: float, delta: float = 0.05) -> float:
        """Bound on the mean conditional loss by the inequality of Azuma and Hoeffding, in bits."""
        losses, delta = self._sampled(self.losses, self.range, delta)
        return float(bounds.countable(losses, log_prior, self.n, delta, self.range))

    def freedman(self, log_prior: float, delta: float = 0.05) -> float:
        """Bound on the mean conditional loss by Freedman's method, in bits.

        The centres Y are the losses that the model expects.
        """
        if not self.sampled:
            bound = sequences.freedman(self.losses, self.expected, log_prior, self.width, delta)
            return float(bound)
        return self._sampled_freedman(log_prior, delta)

    def by_documents(self, log_prior: float, delta: float = 0.05) -> float:
        """Bound on the expected mean loss of a new document, in bits, for independent documents.

        It is the smaller of the countable-hypothesis bound and `freedman` with the centre half of
        log₂ V, each at δ/2.

        Raises:
            ValueError: not all tokens were evaluated.
        """
        if self.sampled:
            raise ValueError("losses must be those of all tokens, got a sample of the windows")
        losses = self.of_documents()
        n, half = len(losses), delta / 2
        centre = 0.5 * math.log2(self.vocabulary)
        plain = bounds.countable(losses.mean(), log_prior, n, half, self.range)
        near = sequences.freedman(losses, centre, log_prior, self.range[1] - centre, half)
        return min(float(plain), float(near))

    def _sums(self, values: Tensor) -> Tensor:
        """Sums of values of tokens over each evaluated window, (w,)."""
        place = torch.repeat_interleave(torch.arange(len(self.lengths)), self.lengths)
        return values.new_zeros(len(self.lengths)).index_add_(0, place, values)

    def _sampled(
        self, values: Tensor, ends: tuple[float, float], delta: float
    ) -> tuple[Tensor, float]:
        """Mean of values over all tokens, or an upper bound of it from the evaluated windows.

        Returns:
            The mean or bound, at most the upper end, and what is left of δ.
        """
        if not self.sampled:
            return values.mean(), delta
        bound = self._mean_bound(values, ends[1], _SAMPLING * delta)
        return torch.tensor(min(bound, ends[1])), (1 - _SAMPLING) * delta

    def _mean_bound(self, values: Tensor, highest: float, delta: float) -> float:
        """Upper bound of the mean of values in [0, highest] over all tokens of the corpus.

        The windows were drawn at random, so that their sums are independent; the centre of each is
        the mean of those before it.
        """
        scale = self.total / self.n
        sums = scale * self._sums(values)
        before = sums.cumsum(0) - sums
        centres = before / torch.arange(len(sums)).clamp(min=1)
        most = highest * scale * self.longest
        return float(sequences.freedman(sums, centres, 0.0, most, delta))

    def _sampled_freedman(self, log_prior: float, delta: float) -> float:
        """The bound by Freedman's method from a random sample of the windows."""
        scales, D = sequences.SCALES, self.width
        rest = (1 - _SAMPLING) * delta
        C = (math.log(len(scales)) - log_prior - math.log(rest)) / self.n
        x = (self.expected - self.losses) / D
        found = []
        for s in scales:
            # The largest of l + (D/s) v(x): l at most its upper end, and v at most v(−s).
            highest = self.range[1] + D / s * (-s - math.log1p(-s))
            values = self.losses + D / s * (s * x - torch.log1p(s * x))
            share = _SAMPLING * delta / len(scales)
            found.append(self._mean_bound(values, highest, share) + D / s * C)
        return min(found)


def token_losses(
    evaluate: Evaluate,
    windows: Windows,
    vocabulary: int,
    alphas: Sequence[float] = ALPHAS,
    *,
    sample: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> TokenLosses:
    """Evaluate a language model on the tokens of a corpus, with the best α of a grid.

    α is chosen on some random windows; it is paid for by ln(number of values), however it is
    chosen.

    Args:
        evaluate: the model; see `evaluation`.
        windows: windows of the corpus.
        vocabulary: V.
        alphas: values of α in (0, 1), chosen before the text was seen.
        sample: number of windows, drawn at random with replacement, to evaluate; None for all.
        seed: seed of the draw.
        progress: called as progress(done, expected, what).

    Raises:
        ValueError: a value of α is out of range.
    """
    grid = tuple(float(checks.positive("alphas", a)) for a in alphas)
    if not grid or max(grid) >= 1:
        raise ValueError(f"alphas must lie in (0, 1), got {alphas!r}")
    generator = torch.Generator().manual_seed(checks.seed(seed))
    few = windows[torch.randperm(len(windows), generator=generator)[:_TRIED]]
    ranks = [_rank(*each, alpha, vocabulary) for each, alpha in
             zip(evaluate(few, grid, None), grid, strict=True)]  # fmt: skip
    alpha = grid[ranks.index(min(ranks))]
    chosen = windows
    if sample is not None:
        drawn = (checks.whole("sample", sample, 2),)
        chosen = windows[torch.randint(len(windows), drawn, generator=generator)]
    ((losses, expected),) = evaluate(chosen, (alpha,), progress)
    return TokenLosses(
        losses,
        expected,
        chosen.lengths,
        chosen.documents,
        n=int(windows.lengths.sum()),
        total=len(windows),
        longest=int(windows.lengths.max()),
        sampled=sample is not None,
        alpha=alpha,
        alphas=grid,
        vocabulary=vocabulary,
    )


def _rank(losses: Tensor, expected: Tensor, alpha: float, vocabulary: int) -> float:
    """Approximate bound at one α, for a code of 0.01 bits a token, as its penalty governs."""
    C = 0.01 * math.log(2)
    width = math.log2(1 + (1 - alpha) * vocabulary / alpha)
    spread = float((expected - losses).square().mean())
    return float(losses.mean()) + math.sqrt(2 * C * spread) + width * C / 3


def evaluation(predict: Callable[[Tensor], Tensor], vocabulary: int) -> Evaluate:
    """The losses of a model, batch by batch.

    Args:
        predict: from the tokens before, (N, T), to scores of the tokens, (N, T, V).
        vocabulary: V.
    """

    def evaluate(
        windows: Windows, alphas: Sequence[float], progress: Progress | None
    ) -> list[tuple[Tensor, Tensor]]:
        at_once = max(1, _AT_ONCE // windows.inputs.shape[1])
        parts: list[list[tuple[Tensor, Tensor]]] = [[] for _ in alphas]
        for start in range(0, len(windows), at_once):
            batch = windows[torch.arange(start, min(start + at_once, len(windows)))]
            mask = batch.mask
            p = predict(batch.inputs.long())[mask].double().softmax(-1)
            if not torch.isfinite(p).all():
                raise ValueError("net must return finite scores, got NaN or infinite ones")
            targets = batch.targets[mask].long()
            for own, alpha in zip(parts, alphas, strict=True):
                lengths, expected = smoothed(p, alpha, vocabulary)
                own.append((lengths.gather(1, targets[:, None])[:, 0], expected))
            if progress is not None:
                progress(start + len(batch), len(windows), "evaluated windows")
        return [
            (torch.cat([a for a, _ in each]), torch.cat([b for _, b in each])) for each in parts
        ]

    return evaluate


def smoothed(p: Tensor, alpha: float, vocabulary: int) -> tuple[Tensor, Tensor]:
    """Loss −log₂ p' of each token, and the loss that is expected, for probabilities (…, V)."""
    mixed = (1 - alpha) * p + alpha / vocabulary
    lengths = -mixed.log2()
    return lengths, (mixed * lengths).sum(-1)
