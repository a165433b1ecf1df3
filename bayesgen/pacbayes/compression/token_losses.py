"""Losses of a language model in bits, with smoothed predictions, and the bounds on their means.

Prediction smoothing mixes the model with the uniform distribution, p' = (1 − α) p + α/V. The loss
−log₂ p' of a token then lies in an interval of length Δ = log₂(1 + (1 − α) V/α).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bayesgen._internal import checks
from bayesgen._internal.progress import Progress, ProgressOption
from bayesgen._internal.progress_bar import shows_progress
from bayesgen.pacbayes import bounds, sequences, validation
from bayesgen.pacbayes.compression.container import LARGEST_SEED
from bayesgen.pacbayes.compression.windows import Windows
from bayesgen.pacbayes.inverse_kl import outwards

# Values of α, chosen before the text was seen.
ALPHAS = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)
# Smallest α, so that the loss of a token is finite.
_LEAST = 1e-300
# Windows for which the value of α is chosen, number of tokens that are predicted at once, and
# largest number of their scores.
_TRIED, _AT_ONCE, _SCORES = 256, 16_384, 1 << 24
# Share of δ that is used for the random choice of windows, where not all are evaluated.
_SAMPLING = 0.1

# Losses and expected losses in bits of the tokens of some windows, for each of some values of α.
Evaluate = Callable[[Windows, Sequence[float], Progress | None], list[tuple[Tensor, Tensor]]]


@dataclass(frozen=True, eq=False)
class TokenLosses:
    """Losses of one model on the tokens of a corpus.

    The bounds take ln P of the model and of α: the log prior of the code minus `choice`, and minus
    all other payments. Where the windows are a sample, a share of δ is spent on its error. This
    error belongs to one model and one draw, and P does not pay for it: where the model was chosen
    among K whose samples were compared, `candidates` must be K, even if a code pays for the choice.

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
        return loss_range(self.alpha, self.vocabulary)

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
    def evaluated(self) -> int:
        """Number of tokens that were evaluated, m; those of a window drawn twice count twice."""
        return len(self.losses)

    @property
    def risk(self) -> float:
        """Mean loss of a token, in bits; an unbiased estimate where not all were evaluated."""
        if not self.sampled:
            return float(self.losses.mean())
        return float(self._sums(self.losses).mean()) * self.total / self.n

    def of_documents(self) -> Tensor:
        """Mean loss of the tokens of each document, in bits, (documents,).

        Raises:
            ValueError: not all tokens were evaluated.
        """
        if self.sampled:
            raise ValueError("losses must be those of all tokens, got a sample of the windows")
        count = int(self.documents.max()) + 1
        sums, tokens = self.losses.new_zeros(2, count)
        sums.index_add_(0, self.documents, self._sums(self.losses))
        return sums / tokens.index_add_(0, self.documents, self.lengths.to(tokens))

    def hoeffding(self, log_prior: float, delta: float = 0.05, *, candidates: int = 1) -> float:
        """Bound on the mean conditional loss by the inequality of Azuma and Hoeffding, in bits.

        Args:
            log_prior: ln P of the model and of α, in nats.
            delta: δ in (0, 1).
            candidates: number K of models whose samples were compared; without effect where all
                tokens were evaluated.

        Raises:
            ValueError: an argument is out of range.

        Source: Lotfi et al. (2024), theorem 3.1.
        """
        mean, rest = self.losses.mean(), self._rest(delta, candidates)
        if self.sampled:
            share = _SAMPLING * delta / candidates
            mean = self._mean_bound(self.losses, self.range[1], share)
        # A mean may leave the range by rounding, and an upper bound of it by more.
        mean = mean.clamp(*self.range)
        return float(bounds.countable(mean, log_prior, self.n, rest, self.range))

    def freedman(self, log_prior: float, delta: float = 0.05, *, candidates: int = 1) -> float:
        """Bound on the mean conditional loss by Freedman's method, in bits.

        The centres Y are the losses that the model expects.

        Args:
            log_prior, delta, candidates: as in `hoeffding`.

        Raises:
            ValueError: an argument is out of range.

        Source: Finzi et al. (2025), theorem 3.2; see `bayesgen.pacbayes.freedman`.
        """
        rest = self._rest(delta, candidates)
        if not self.sampled:
            bound = sequences.freedman(self.losses, self.expected, log_prior, self.width, delta)
            return float(bound)
        return self._sampled_freedman(log_prior, rest, _SAMPLING * delta / candidates)

    def by_documents(self, log_prior: float, delta: float = 0.05) -> float:
        """Bound on the expected mean loss of a new document, in bits, for independent documents.

        It is the smaller of the countable-hypothesis bound and `freedman` with the centre half of
        log₂ V, each at δ/2.

        Args:
            log_prior, delta: as in `hoeffding`.

        Raises:
            ValueError: not all tokens were evaluated; an argument is out of range.

        Source: Lotfi et al. (2023), section 3.
        """
        losses, half = self.of_documents(), math.exp(validation.log_delta(delta)) / 2
        low, high = self.range
        centre = 0.5 * math.log2(self.vocabulary)
        mean = losses.mean().clamp(low, high)
        plain = bounds.countable(mean, log_prior, len(losses), half, self.range)
        near = sequences.freedman(losses, centre, log_prior, high - centre, half)
        return min(float(plain), float(near))

    def _rest(self, delta: float, candidates: int) -> float:
        """What the sample of windows leaves of δ, after a check of the arguments."""
        validation.log_delta(delta)
        checks.whole("candidates", candidates)
        return (1 - _SAMPLING) * delta if self.sampled else delta

    def _sums(self, values: Tensor) -> Tensor:
        """Sums of values of tokens over each evaluated window, (w,)."""
        place = torch.repeat_interleave(torch.arange(len(self.lengths)), self.lengths)
        return values.new_zeros(len(self.lengths)).index_add_(0, place, values)

    def _mean_bound(self, values: Tensor, highest: float, delta: float) -> Tensor:
        """Upper bound of the mean of values in [0, highest] over all tokens of the corpus.

        The windows were drawn uniformly with replacement, so that total/n times their sums are
        independent draws whose expectation is this mean. They are at most highest · longest ·
        total/n. The centre of each is the mean of those before it, and 0 for the first.
        """
        scale = self.total / self.n
        sums = scale * self._sums(values)
        centres = torch.zeros_like(sums)
        centres[1:] = sums[:-1].cumsum(0) / torch.arange(1, len(sums))
        most = highest * scale * self.longest
        return sequences.freedman(sums, centres, 0.0, most, delta)

    def _sampled_freedman(self, log_prior: float, rest: float, delta: float) -> float:
        """The bound by Freedman's method from a random sample of the windows.

        For each scale s, the mean of l + (D/s) v(s(Y − l)/D) over all tokens is bounded from the
        sample, at δ/S. The bound of all tokens, at the rest, holds for all scales at once.

        Args:
            log_prior: ln P of the model and of α, in nats.
            rest: what is left of δ for the draw of the text.
            delta: share of δ for the draw of the windows.
        """
        scales, D = sequences.SCALES, self.width
        paid = bounds.description(log_prior, rest) + math.log(len(scales))
        x = ((self.expected - self.losses) / D).clamp(-1, 1)
        found = []
        for s in scales:
            # The largest of l + (D/s) v(sx): l at its upper end, and v at v(−s), as x ≥ −1.
            highest = self.range[1] + D / s * (-s - math.log1p(-s))
            values = self.losses + D / s * sequences.excess(s * x)
            mean = self._mean_bound(values, highest, delta / len(scales))
            found.append(float(outwards(mean + D / s * paid / self.n)))
        return min(found)


@shows_progress
def token_losses(
    evaluate: Evaluate,
    windows: Windows,
    vocabulary: int,
    alphas: Sequence[float] = ALPHAS,
    *,
    sample: int | None = None,
    seed: int = 0,
    progress: ProgressOption = None,
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
        progress: called as progress(done, expected, what); True shows a progress bar.

    Raises:
        TypeError: alphas is no sequence of numbers.
        ValueError: a value of α or another argument is out of range.
    """
    grid = alpha_grid(alphas)
    # Small seeds belong to the draws of trainings, of which these draws must be independent.
    generator = torch.Generator().manual_seed(LARGEST_SEED - checks.seed(seed))
    alpha = grid[0]
    if len(grid) > 1:
        few = windows[torch.randperm(len(windows), generator=generator)[:_TRIED]]
        tried = zip(evaluate(few, grid, None), grid, strict=True)
        ranks = [_rank(*each, one, vocabulary) for each, one in tried]
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


def alpha_grid(alphas: Sequence[float]) -> tuple[float, ...]:
    """Check values of α for the prediction smoothing.

    Raises:
        TypeError: they are no sequence of numbers.
        ValueError: there are none; one lies outside of [1e-300, 1).
    """
    if isinstance(alphas, str) or not isinstance(alphas, Iterable):
        raise TypeError(f"alphas must be a sequence of numbers, got {alphas!r}")
    grid = tuple(checks.number("alphas", alpha) for alpha in alphas)
    if len(set(grid)) < len(grid):
        raise ValueError(f"alphas must be different numbers, got {grid}")
    if not grid or min(grid) < _LEAST or max(grid) >= 1:
        raise ValueError(f"alphas must lie in (0, 1), with {_LEAST:g} or more, got {grid}")
    return grid


def loss_range(alpha: float, vocabulary: int) -> tuple[float, float]:
    """Smallest and largest loss of a token with smoothed predictions, in bits.

    Example:
        >>> loss_range(0.5, 2)
        (0.4150374992788438, 2.0)
    """
    low = -math.log2(1 - alpha + alpha / vocabulary)
    return low, math.log2(vocabulary) - math.log2(alpha)


def _rank(losses: Tensor, expected: Tensor, alpha: float, vocabulary: int) -> float:
    """Approximate bound at one α, for a code of 0.01 bits a token, as its penalty governs."""
    C = 0.01 * math.log(2)
    low, high = loss_range(alpha, vocabulary)
    spread = float((expected - losses).square().mean())
    return float(losses.mean()) + math.sqrt(2 * C * spread) + (high - low) * C / 3


def evaluation(predict: Callable[[Tensor], Tensor], vocabulary: int) -> Evaluate:
    """The losses of a model, batch by batch.

    Args:
        predict: from the tokens before, (N, T), to scores of the tokens, (N, T, V).
        vocabulary: V.

    Returns:
        A function of windows, values of α and a progress function. It returns, for each α, the
        losses and the expected losses of the tokens of these windows in bits, in float64. It raises
        a ValueError where scores are not finite.
    """

    def evaluate(
        windows: Windows, alphas: Sequence[float], progress: Progress | None
    ) -> list[tuple[Tensor, Tensor]]:
        at_once = max(1, min(_AT_ONCE, _SCORES // vocabulary) // windows.inputs.shape[1])
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
    """Losses of each token and their expectation, for smoothed probabilities.

    Args:
        p: probabilities of the tokens, (…, V).
        alpha: α of the smoothing p' = (1 − α) p + α/V.
        vocabulary: V.

    Returns:
        −log₂ p' of each token, (…, V), and −Σ p' log₂ p', (…,), in bits.
    """
    mixed = (1 - alpha) * p + alpha / vocabulary
    lengths = -mixed.log2()
    return lengths, (mixed * lengths).sum(-1)
