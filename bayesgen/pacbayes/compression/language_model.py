"""Compression of a language model to a code, with bounds on its bits per token.

As in `compressed_network`, the weights are trained in a random subspace, quantised and encoded, and
the hypothesis is the network decoded from the bytes, here with smoothed predictions.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bayesgen import provenance, verify
from bayesgen._internal import checkpoint as checkpoints, checks, random_state
from bayesgen._internal.hashing import fingerprint
from bayesgen._internal.progress import Progress, ProgressOption
from bayesgen._internal.progress_bar import shows_progress
from bayesgen.data.corpus import Corpus
from bayesgen.pacbayes import bounds, sequences, validation
from bayesgen.pacbayes.certificates.certificate import Payment
from bayesgen.pacbayes.certificates.text import TextCertificate
from bayesgen.pacbayes.compression import architecture, quantisation
from bayesgen.pacbayes.compression.compressed_network import decode
from bayesgen.pacbayes.compression.container import LARGEST_SEED
from bayesgen.pacbayes.compression.settings import CodeSettings
from bayesgen.pacbayes.compression.subspace import Subspace
from bayesgen.pacbayes.compression.token_losses import (
    ALPHAS,
    TokenLosses,
    alpha_grid,
    evaluation,
    loss_range,
    token_losses,
)
from bayesgen.pacbayes.compression.windows import NONE, Windows

# Largest difference of probabilities of equal predictions, in rounding units.
_SAME = 1e3
# Odd factor that keeps the batches of different seeds apart.
_STRIDE = 2_654_435_761
# Steps between two checkpoints, and steps over which the learning rate rises at the start.
_KEPT, _RISE = 100, 50
# Shortest code in bits: seven bytes of header, two levels of two bytes, and one byte of symbols.
_SHORTEST = 8 * 12
# Number of places at which a network is checked to be causal.
_PLACES = 32


@dataclass(frozen=True, eq=False)
class CompressedLanguageModel:
    """A language model encoded as bytes, with its losses on the corpus.

    Attributes:
        code: the bytes; see `bayesgen.pacbayes.compression.container`.
        net: a copy of the architecture in evaluation mode; its own weights are not used.
        projection: a name of a projection.
        context: T, the number of tokens of a window. The window is part of the hypothesis: a token
            is predicted from those before it in its window.
        losses: losses of the decoded network.
    """

    code: bytes
    net: nn.Module
    projection: str
    context: int
    losses: TokenLosses

    @property
    def bits(self) -> int:
        """Length of the code in bits."""
        return 8 * len(self.code)

    @property
    def log_prior(self) -> float:
        """Log prior probability of the code, −(C ln 2 + 2 ln C) for C bits, in nats."""
        return float(bounds.solomonoff(float(self.bits)))

    def decoded(self) -> nn.Module:
        """The network with the weights decoded from the code."""
        return decode(self.code, self.net, self.projection)

    @shows_progress
    def evaluate(
        self,
        corpus: Corpus,
        *,
        sample: int | None = None,
        seed: int = 0,
        progress: ProgressOption = None,
    ) -> TokenLosses:
        """Losses of the decoded network on a text, with the same α.

        Their bounds take `log_prior` minus the payments on the text of the training, and 0 on a
        text that is independent of it, on which nothing was chosen.

        Args:
            corpus: the text, with the same vocabulary.
            sample: number of windows to draw at random; None for all.
            seed: seed of the draw.
            progress: called as progress(done, expected, what); True shows a progress bar.

        Raises:
            TypeError: the corpus is no `Corpus`.
            ValueError: the vocabulary is another one.
        """
        V = self.losses.vocabulary
        if check_corpus(corpus).vocabulary != V:
            raise ValueError(f"corpus must have a vocabulary of {V}, got {corpus.vocabulary}")
        own = (self.losses.alpha,)
        found = _losses(self.decoded(), corpus, self.context, own, sample, seed, progress)
        return replace(found, alphas=self.losses.alphas)

    def certificate(
        self, delta: float = 0.05, *, candidates: int = 1, bound: str = "freedman"
    ) -> TextCertificate:
        """Bound on the bits per token of the decoded network with smoothed predictions.

        The code holds the dimension, the number of levels, the seed and the levels, so that its
        length pays for their choice, and for that of any checkpoint of the training. The choice of
        α is paid for in addition. What the code does not hold must have been stated before the text
        was seen, or be counted in `candidates`: the architecture, the projection, and the context.

        Args:
            delta: δ in (0, 1).
            candidates: number of combinations of architecture, projection and context, stated
                before the text was seen, that were tried. After a sample of the windows, each model
                that was evaluated counts, also one of another seed, dimension or number of levels:
                the code does not pay for the error of the sample.
            bound: "freedman" or "hoeffding", for the tokens of this text, or "documents", for a new
                document, if the documents are independent.

        Raises:
            ValueError: an argument is out of range; "documents" after a sample of the windows.

        Source: Finzi et al. (2025) for "freedman"; Lotfi et al. (2024) for "hoeffding"; Lotfi et
        al. (2023) for "documents".
        """
        checks.one_of("bound", bound, tuple(_KINDS))
        validation.log_delta(delta)
        paid = math.log(checks.whole("candidates", candidates))
        payments = [
            Payment(f"one of {len(self.losses.alphas)} values of α", self.losses.choice),
            Payment(f"one of {candidates} settings stated beforehand", paid),
        ]
        payments = [payment for payment in payments if payment.nats]
        log_prior = self.log_prior - sum(payment.nats for payment in payments)
        found = self.losses
        if bound == "documents":
            means = found.of_documents()
            n, risk, value = len(means), float(means.mean()), found.by_documents(log_prior, delta)
        else:
            function = TokenLosses.freedman if bound == "freedman" else TokenLosses.hoeffding
            n, risk = found.n, found.risk
            value = function(found, log_prior, delta, candidates=candidates)
        value = min(value, found.range[1])
        notes = [f"The network is a code of {self.bits:,} bits, which decode to it exactly."]
        notes += [
            f"It predicts a token from those before it in its window of {self.context:,} tokens."
        ]
        held = sum(buffer.numel() for buffer in self.net.buffers())
        if held:
            notes += [
                f"The receiver of the code holds the {held:,} numbers in the buffers of the "
                "network, which must have been chosen before the text was seen."
            ]
        if found.sampled:
            notes += [
                f"The mean loss is an estimate from {found.evaluated:,} tokens in "
                f"{len(found.lengths):,} windows drawn at random, and the bound includes its error."
            ]
        return TextCertificate(
            bound=value,
            risk=risk,
            complexity=-self.log_prior,
            delta=delta,
            n=n,
            loss=f"bits per token with predictions smoothed by α = {found.alpha:g}",
            predictor="network",
            theorem=_KINDS[bound],
            payments=tuple(payments),
            guessing=math.log2(found.vocabulary),
            notes=tuple(notes),
            unit="documents" if bound == "documents" else "tokens",
            over="the draw of the windows" if found.sampled else "",
        )


_KINDS = {
    "freedman": "Freedman's method, Finzi et al. (2025)",
    "hoeffding": "The inequality of Azuma and Hoeffding, Lotfi et al. (2024)",
    "documents": "Countable hypotheses, Lotfi et al. (2023)",
}


@shows_progress
@torch.inference_mode(False)
@torch.enable_grad()
def compress_language_model(
    net: nn.Module,
    corpus: Corpus,
    *,
    context: int = 256,
    dimension: int = 16_000,
    levels: int = 11,
    projection: str = "kronecker",
    steps: int = 1000,
    quantised_steps: int = 1000,
    batch: int = 16,
    learning_rate: float = 0.02,
    entropy: float = 0.02,
    alphas: Sequence[float] = ALPHAS,
    sample: int | None = None,
    seed: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: ProgressOption = None,
) -> CompressedLanguageModel:
    """Train a language model in a random subspace, quantise it, encode it, and evaluate the code.

    z is trained by Adam on the mean cross-entropy of random windows, with a cosine schedule of the
    learning rate; then z and the levels are trained with z rounded (straight-through). With
    `bayesgen.networks.low_rank`, this is SubLoRA.

    Args:
        net: a causal network from tokens (n, T) to scores of the next tokens (n, T, V), such as
            `bayesgen.networks.Transformer`. It is not changed, and only its architecture and its
            buffers are used. Its buffers must have been chosen before the text was seen.
        corpus: the text.
        context: T, number of tokens of a window, at most that of the longest document.
        dimension, levels, projection, entropy, seed: as in `compress`; "identity" takes all
            weights, with their number as dimension.
        steps, quantised_steps: training steps before and after quantisation.
        batch: number of windows in a step.
        learning_rate: largest learning rate; half of it after quantisation.
        alphas: values of α for the prediction smoothing, chosen before the text was seen.
        sample: number of windows that are drawn at random to evaluate the code; None evaluates all
            tokens. Bounds from a sample include its error; see `candidates` of
            `CompressedLanguageModel.certificate`.
        checkpoint: file that keeps the state of the training, from which an interrupted call with
            the same arguments continues; None keeps none.
        progress: called as progress(done, expected, what); True shows a progress bar.

    Raises:
        TypeError: the corpus is no `Corpus`; the net is no module.
        ValueError: an argument is out of range; the corpus is too short for any bound; the net is
            not causal, mixes rows, or has scores of another shape; the loss becomes infinite or
            NaN; the checkpoint is of another run.

    Source: Lotfi et al. (2023, 2024), with the quantisation of Lotfi et al. (2022).

    Example:
        >>> import bayesgen as bg
        >>> corpus = bg.data.Corpus("toy", [[0, 1, 1, 0, 2] * 4000], vocabulary=4)
        >>> net = bg.networks.Transformer(8, 1, 2, vocabulary=4)
        >>> small = compress_language_model(
        ...     net, corpus, context=32, dimension=100, levels=5, steps=60, quantised_steps=60)
        >>> small.certificate().bound < 2
        True
    """
    check_corpus(corpus)
    how = CodeSettings(dimension, levels, projection, entropy, seed)
    plan = _Plan(
        checks.whole("context", context),
        checks.whole("steps", steps),
        checks.whole("quantised_steps", quantised_steps),
        checks.whole("batch", batch),
        _rate(learning_rate),
    )
    grid, kept = alpha_grid(alphas), _kept(checkpoint)
    if sample is not None:
        checks.whole("sample", sample, 2)
    check_long_enough(corpus, grid)
    own = architecture.private(net)
    beside = provenance.beside_state(own)
    how.check(own)
    windows = Windows.of(corpus, context)
    device = next(own.parameters()).device
    with random_state.kept([device]):
        check_causal(own, net, corpus.vocabulary, windows)
        if provenance.beside_state(own) != beside:
            raise ValueError(
                "net must keep its attributes in a forward pass, but some of their numbers or "
                "tensors have changed, which the receiver of the code does not know"
            )
        mark = fingerprint(how, plan, corpus.fingerprint, architecture.description(own, projection))
        space = Subspace.of(own, dimension, projection, seed, next(own.parameters()).detach())
        training = _Training(space, windows, how, plan, mark, kept, progress)
        z, codebook = training.run()
        code = how.packed(own, z, codebook)
        decoded = decode(code, architecture.blank(own), projection)
        check_causal(decoded, decoded, corpus.vocabulary, windows)

        found = _losses(decoded, corpus, context, grid, sample, seed, progress)
    return CompressedLanguageModel(code, own, projection, context, found)


def _losses(
    decoded: nn.Module,
    corpus: Corpus,
    context: int,
    alphas: Sequence[float],
    sample: int | None,
    seed: int,
    progress: Progress | None,
) -> TokenLosses:
    """Losses of a decoded network on a text."""
    device = next(decoded.parameters()).device

    def predict(tokens: Tensor) -> Tensor:
        with torch.no_grad():
            found: Tensor = decoded(tokens.to(device)).cpu()
        return found

    V = corpus.vocabulary
    return token_losses(
        evaluation(predict, V),
        Windows.of(corpus, context),
        V,
        alphas,
        sample=sample,
        seed=seed,
        progress=progress,
    )


def check_corpus(corpus: Any) -> Corpus:
    """Check for a `Corpus` and return it.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(corpus, Corpus):
        raise TypeError(f"corpus must be a bayesgen.data.Corpus, got {type(corpus).__name__}")
    return corpus


def _rate(value: Any) -> float:
    """Check for a positive learning rate."""
    rate = checks.number("learning_rate", value)
    return checks.positive_number("learning_rate", rate)


def _kept(path: Any) -> Path | None:
    """Check for the path of a checkpoint, and make its folder."""
    if path is None:
        return None
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"checkpoint must be the path of a file, got {type(path).__name__}")
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise ValueError(
            f"checkpoint must be in a folder that can be made, but {path} is not: {err.strerror}"
        ) from None
    return Path(path)


def check_long_enough(corpus: Corpus, alphas: Sequence[float]) -> None:
    """Check that the best model of the shortest code would have a bound below guessing at δ = 0.05.

    Args:
        corpus: the text.
        alphas: values of α for the prediction smoothing, of which the best is taken.

    Raises:
        ValueError: the corpus is too short for that.
    """
    V, n = corpus.vocabulary, corpus.tokens
    log_prior = float(bounds.solomonoff(float(_SHORTEST))) - math.log(len(alphas))
    ends = [loss_range(alpha, V) for alpha in alphas]
    # Where each loss is its centre, the bound by Freedman's method is l + (D/s) C.
    C = (float(bounds.description(log_prior, 0.05)) + math.log(len(sequences.SCALES))) / n
    near = [low + (high - low) / max(sequences.SCALES) * C for low, high in ends]
    plain = [
        float(bounds.countable(low, log_prior, n, loss_range=(low, high))) for low, high in ends
    ]
    best = min(*near, *plain)
    if best >= math.log2(V):
        raise ValueError(
            f"corpus must be longer: n = {n:,} tokens give at best a bound of {best:.1f} bits, by "
            f"a code of {_SHORTEST} bits that predicts each token, where guessing has "
            f"{math.log2(V):.2f}"
        )


def check_causal(net: nn.Module, original: nn.Module, vocabulary: int, windows: Windows) -> None:
    """Check that scores are of shape (n, T, V), causal, the same twice, and row by row.

    Probabilities are compared, because one large score would hide differences of the others. The
    rows are two of random tokens and one of the text.

    Args:
        net: a private copy.
        original: the network that was copied.
        vocabulary: V.
        windows: windows of the text.

    Raises:
        ValueError: they are not.
    """
    device = next(net.parameters()).device
    generator = torch.Generator().manual_seed(0)
    context = windows.inputs.shape[1]
    tokens = torch.randint(vocabulary, (3, context), generator=generator)
    tokens[0] = windows.inputs[len(windows) // 2].long()
    tokens = tokens.to(device)
    # Row i of `changed` has other tokens than the first row of `tokens` from place i on.
    places = verify.some_rows(context - 1, _PLACES).to(device)[:, None] + 1
    later = torch.arange(context, device=device) >= places
    changed = torch.where(later, (tokens[:1] + 1) % vocabulary, tokens[:1])
    with torch.no_grad():
        try:
            first = net(tokens.clone())
            twice, alone = net(tokens.clone()), net(tokens[1:2].clone())
            others = [net(rows.clone()) for rows in changed.split(len(tokens)) if len(rows)]
        except Exception as err:
            raise ValueError(
                f"net must take tokens 0..{vocabulary - 1} of shape {tuple(tokens.shape)}: "
                f"{str(err).splitlines()[0] if str(err) else type(err).__name__}"
            ) from err
    wanted = (3, context, vocabulary)
    if not isinstance(first, Tensor) or tuple(first.shape) != wanted:
        got = tuple(first.shape) if isinstance(first, Tensor) else type(first).__name__
        raise ValueError(f"net must return scores (n, T, V) = {wanted} for tokens, got {got}")
    if not torch.isfinite(first).all():
        raise ValueError("net must return finite scores, got NaN or infinite ones")
    same = first[:1].expand(len(places), -1, -1)
    seen = torch.cat(others) if others else same
    pairs = {
        "the same scores twice": (first, twice),
        "scores of a row that do not depend on the other rows": (first[1:2], alone),
        "scores that depend on the tokens up to their place only (a causal network)": (
            same[~later],
            seen[~later],
        ),
    }
    for words, (a, b) in pairs.items():
        difference = (a.double().softmax(-1) - b.double().softmax(-1)).abs()
        if difference.numel() and float(difference.max()) > _SAME * torch.finfo(a.dtype).eps:
            raise ValueError(f"net must give {words}, but they differ in evaluation mode")
    if original is not net:
        with torch.enable_grad():
            architecture.check_copied(net(tokens), original)


@dataclass(frozen=True)
class _Plan:
    """Lengths of the training."""

    context: int
    steps: int
    quantised_steps: int
    batch: int
    learning_rate: float


@dataclass
class _Training:
    """Training of z and the levels on random windows, from its last checkpoint."""

    space: Subspace
    windows: Windows
    how: CodeSettings
    plan: _Plan
    mark: str
    checkpoint: Path | None
    progress: Progress | None

    def run(self) -> tuple[Tensor, Tensor]:
        """Train, and return z and the levels."""
        like = self.space.origin
        state = None
        if self.checkpoint is not None:
            state = checkpoints.load(self.checkpoint, self.mark, like.device)
        if state is None:
            z = torch.zeros(self.how.dimension, dtype=like.dtype, device=like.device)
            state = {"phase": 0, "step": 0, "z": z, "levels": z[: self.how.levels].clone()}
        if state["phase"] == 0:
            z = state["z"].requires_grad_()
            self._descend([z], lambda: z, state, self.plan.steps, self.plan.learning_rate)
            z = z.detach()
            levels = quantisation.evenly_spaced(z, self.how.levels)
            state = {"phase": 1, "step": 0, "z": z, "levels": levels}
        z, levels = state["z"].requires_grad_(), state["levels"].requires_grad_()

        def rounded() -> Tensor:
            return quantisation.rounded(z, levels, self.how.entropy)

        steps, rate = self.plan.quantised_steps, self.plan.learning_rate / 2
        self._descend([z, levels], rounded, state, steps, rate)
        return z.detach(), levels.detach()

    def _descend(
        self,
        parameters: list[Tensor],
        value: Callable[[], Tensor],
        state: dict[str, Any],
        steps: int,
        rate: float,
    ) -> None:
        optimiser = torch.optim.Adam(parameters, lr=rate, betas=(0.9, 0.98))
        if "optimiser" in state:
            optimiser.load_state_dict(state["optimiser"])
        done, expected = self._done(state["phase"]), self.plan.steps + self.plan.quantised_steps
        for step in range(state["step"], steps):
            rise = min(1.0, (step + 1) / _RISE)
            scale = rise * 0.5 * (1 + math.cos(math.pi * step / steps))
            optimiser.param_groups[0]["lr"] = rate * scale
            loss = self._loss(value(), 2 * step + state["phase"])
            if not torch.isfinite(loss):
                raise ValueError(
                    f"the loss became {float(loss.detach())} in step {step + 1}; lower "
                    "learning_rate"
                )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if (step + 1) % _KEPT == 0 or step + 1 == steps:
                self._keep(state, step + 1, optimiser)
                if self.progress is not None:
                    bits = float(loss.detach()) / math.log(2)
                    self.progress(done + step + 1, expected, f"training: {bits:.2f} bits a token")

    def _done(self, phase: int) -> int:
        return self.plan.steps if phase else 0

    def _loss(self, z: Tensor, number: int) -> Tensor:
        """Mean cross-entropy in nats of the batch of a step."""
        mixed = (self.how.seed * _STRIDE + number) % (LARGEST_SEED + 1)
        generator = torch.Generator().manual_seed(mixed)
        rows = torch.randint(len(self.windows), (self.plan.batch,), generator=generator)
        inputs, targets = (each.to(z.device) for each in self.windows[rows].labelled())
        scores = self.space.outputs(z, inputs)
        return nn.functional.cross_entropy(
            scores.flatten(0, 1), targets.flatten(), ignore_index=NONE
        )

    def _keep(self, state: dict[str, Any], step: int, optimiser: torch.optim.Optimizer) -> None:
        if self.checkpoint is not None:
            kept = {"phase": state["phase"], "step": step, "optimiser": optimiser.state_dict()}
            kept |= {name: state[name].detach() for name in ("z", "levels")}
            checkpoints.save(self.checkpoint, {"fingerprint": self.mark, **kept})
