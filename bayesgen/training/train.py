"""One network on one data set."""

from __future__ import annotations

import copy
import math
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from bayesgen._internal import checks
from bayesgen._internal.hashing import fingerprint
from bayesgen._internal.progress import Progress
from bayesgen.errors import DivergedError, NotAtModeWarning
from bayesgen.evidence import Evidence
from bayesgen.likelihoods import Gaussian
from bayesgen.likelihoods.likelihood import Likelihood
from bayesgen.models.network.model import Laplace
from bayesgen.training import checkpoint as checkpoints
from bayesgen.training.inputs import layers, observations, precisions
from bayesgen.training.progress_bar import reporting
from bayesgen.training.settings import Settings


@dataclass(frozen=True)
class Training:
    """What `train` did.

    Attributes:
        net: the network that was given, trained in place, in evaluation mode.
        history: one row an epoch: loss (mean negative log-likelihood, nats), error (of labels, on
            the run), learning rate, and log evidence an observation where it was computed.
        prior_precision: α of each layer, (L,), as it ended.
        noise: σ² of a Gaussian likelihood, as it ended.
        evidence: the last Evidence computed, if any; of the kept weights.
    """

    net: nn.Module
    history: pd.DataFrame
    prior_precision: Tensor
    noise: Tensor | None
    evidence: Evidence | None


def train(
    net: nn.Module,
    x: Any,
    y: Any,
    likelihood: str | Likelihood = "categorical",
    *,
    epochs: int = 40,
    batch: int | None = 128,
    optimiser: str = "sgd",
    learning_rate: float | None = None,
    momentum: float = 0.9,
    schedule: str = "cosine",
    prior_precision: Any = 0.0,
    noise: Any = None,
    evidence_every: int | None = None,
    burn_in: int = 0,
    curvature: str = "kron",
    structure: str = "layer",
    keep: str = "last",
    arithmetic: str = "native",
    augment: Callable[[Tensor], Tensor] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    seed: int = 0,
    progress: Progress | bool | None = None,
) -> Training:
    """Train a network in place on the log posterior: −(1/n)[log p(D | θ) − ½ Σ αᵢθᵢ²].

    With `evidence_every` the marginal likelihood is in the loop (Immer et al. 2021): every so many
    epochs the Laplace evidence at the weights of the moment chooses the prior precisions (and the
    noise of a Gaussian likelihood) that training goes on with.

    Args:
        net: any module from inputs (n, …) to outputs (n, C); its weights are where training starts.
        x: inputs, of the network's dtype and device, unless `arithmetic` says otherwise.
        y: targets, as for `bayesgen.Laplace`.
        likelihood: as for `bayesgen.Laplace`.
        epochs: passes over the data.
        batch: observations a step; None for full batches.
        optimiser: "sgd" or "adam".
        learning_rate: at the start; by default 0.1 (SGD), 0.001 (Adam).
        momentum: of SGD.
        schedule: "cosine" (to zero) or "constant".
        prior_precision: α ≥ 0, a number or (L,), one a layer: weight decay α/n on the mean loss.
        noise: σ² of a Gaussian likelihood; None starts at 1, and evidence moves it.
        evidence_every: epochs between two looks at the evidence; None for none.
        burn_in: epochs before the first.
        curvature: of those looks, as for `bayesgen.Laplace`.
        structure: "scalar" or "layer": one precision, or one a layer.
        keep: "last", or "best": the weights of the largest evidence seen.
        arithmetic: "native", "bf16" or "tf32".
        augment: a function of each batch's inputs, e.g. random flips. The evidence is of the data
            as they are.
        checkpoint: a file, written after each epoch; where it is there already, training resumes
            from it, to the same end: a kill loses the current epoch only.
        seed: of the order of the data; what is drawn in the network itself follows torch's own.
        progress: called as progress(done, expected, what) after each step; True shows a bar.

    Returns:
        A `Training`; the network is trained in place.

    Raises:
        TypeError, ValueError: an argument of the wrong kind or out of range, by name.
        DivergedError: a loss that is not finite; the network is left as it was after the last
            good epoch, and so is the checkpoint.

    Source: Immer et al. (2021), algorithm 1.

    Example:
        >>> import bayesgen as bg
        >>> data = bg.data.load("digits", train=200, dtype=torch.float32)
        >>> _ = torch.manual_seed(0)
        >>> net = bg.networks.MLP(64, (32,), 10)
        >>> run = train(net, data.x_train, data.y_train, epochs=20, batch=50)
        >>> bool(run.history.error.iloc[-1] < 0.2)
        True
    """
    settings = Settings(
        epochs, batch, optimiser, learning_rate, momentum, schedule, arithmetic, seed
    )
    checks.one_of("structure", structure, ("scalar", "layer"))
    checks.one_of("keep", keep, ("last", "best"))
    checks.whole("burn_in", burn_in, 0)
    if evidence_every is not None:
        checks.whole("evidence_every", evidence_every)
    elif keep == "best":
        raise ValueError('keep="best" wants evidence_every: without it no evidence is computed')
    x, targets, own = observations(net, x, y, likelihood, noise)
    own_layers = layers(net)
    alpha = precisions(prior_precision, len(own_layers))
    run = _Run(net, own_layers, x, targets, own, settings, alpha, augment)
    look = None
    if evidence_every is not None:
        learn_noise = isinstance(own, Gaussian) and noise is None
        look = _Look(evidence_every, burn_in, curvature, structure, learn_noise, y)
    path = None if checkpoint is None else Path(checkpoint)
    mark = "" if path is None else _mark(run, look, keep, alpha)
    state = None if path is None else checkpoints.load(path, mark, x.device)
    first = 0
    if state is not None:
        first = run.restore(state)
    with reporting(progress) as report, settings.products():
        for epoch in range(first, epochs):
            row = run.epoch(epoch, report)
            if look is not None and look.due(epoch, epochs):
                run.look(look, row, keep == "best")
            run.history.append(row)
            if path is not None:
                checkpoints.save(path, {"fingerprint": mark, **run.state(epoch + 1)})
    if keep == "best":
        run.recall()
    net.eval()
    history = pd.DataFrame(run.history).rename_axis("epoch")
    learnt = None if own.log_noise is None else own.log_noise.exp()
    return Training(net, history, run.alpha, learnt, run.evidence)


@dataclass(frozen=True)
class _Look:
    """When and how the evidence is looked at."""

    every: int
    burn_in: int
    curvature: str
    structure: str
    learn_noise: bool
    y: Any

    def due(self, epoch: int, epochs: int) -> bool:
        done = epoch + 1
        return done > self.burn_in and (done % self.every == 0 or done == epochs)


class _Run:
    """The state of one training: weights, optimiser, prior precisions, history."""

    def __init__(
        self,
        net: nn.Module,
        layers: list[nn.Module],
        x: Tensor,
        y: Tensor,
        likelihood: Likelihood,
        settings: Settings,
        alpha: Tensor,
        augment: Callable[[Tensor], Tensor] | None,
    ) -> None:
        self.net, self.x, self.y, self.likelihood = net, x, y, likelihood
        self.settings, self.alpha, self.augment = settings, alpha, augment
        self.history: list[dict[str, float]] = []
        self.evidence: Evidence | None = None
        self.best: dict[str, Any] | None = None
        groups = [
            {"params": [p for p in layer.parameters(False) if p.requires_grad]} for layer in layers
        ]
        self.optimiser = settings.make(groups)
        self._decay()

    def _decay(self) -> None:
        """Weight decay α/n on the mean loss is the prior's gradient."""
        for group, alpha in zip(self.optimiser.param_groups, self.alpha.tolist(), strict=True):
            group["weight_decay"] = alpha / len(self.x)

    def epoch(self, epoch: int, progress: Progress | None) -> dict[str, float]:
        """One pass; what it saw."""
        n, settings = len(self.x), self.settings
        steps, before = settings.steps(n), copy.deepcopy(self.net.state_dict())
        loss_sum, wrong, seen = 0.0, 0.0, 0
        self.net.train()
        for step, index in enumerate(settings.order(epoch, n)):
            rate = settings.rate(epoch + step / steps)
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            rows, y = self.x[index], self.y[index]
            rows = rows if self.augment is None else self.augment(rows)
            self.optimiser.zero_grad(set_to_none=True)
            with settings.forward(rows.device):
                f = self.net(rows)
            f = f.to(self.x.dtype) if settings.arithmetic == "bf16" else f
            loss = -self.likelihood.log_density(y, f).mean()
            value = float(loss.detach())
            if not math.isfinite(value):
                self.net.load_state_dict(before)
                raise DivergedError(
                    f"the loss is {value} at step {step + 1} of epoch {epoch + 1}; the network is "
                    "as it was after the epoch before: a smaller learning_rate may help"
                )
            loss.backward()
            self.optimiser.step()
            loss_sum, seen = loss_sum + value * len(index), seen + len(index)
            if y.shape[-1] > 1 and not self.likelihood.density:
                wrong += float((f.detach().argmax(-1) != y.argmax(-1)).sum())
            elif self.likelihood.name == "bernoulli":
                wrong += float(((f.detach() > 0) != (y > 0.5)).sum())
            if progress is not None:
                said = f"epoch {epoch + 1}: loss {loss_sum / seen:.3f}"
                if self.evidence is not None:
                    said += f", log p(D)/n {float(self.evidence.per_observation):.3f}"
                progress(epoch * steps + step + 1, settings.epochs * steps, said)
        row = {"loss": loss_sum / n, "learning_rate": rate}
        if not self.likelihood.density and self.likelihood.name != "poisson":
            row["error"] = wrong / n
        return row

    def look(self, look: _Look, row: dict[str, float], keep: bool) -> None:
        """The evidence at the weights of the moment, and the precisions it asks for."""
        positive = self.alpha.clamp(min=1e-6)
        start = positive.mean() if look.structure == "scalar" else positive
        own: str | Likelihood = self.likelihood
        noise = None
        if self.likelihood.log_noise is not None:
            own, noise = "gaussian", self.likelihood.log_noise.exp()
        learn = {"prior_precision"} | ({"noise"} if look.learn_noise else set())
        laplace = Laplace(self.net, own, start, noise, look.curvature, learn, dtype=None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotAtModeWarning)  # on the way there
            posterior = laplace.fit(self.x, look.y)
        self.evidence = posterior.evidence
        self.alpha = posterior.prior_precision.expand(len(self.alpha)).clone()
        if look.learn_noise:
            self.likelihood.log_noise = posterior.noise.log()
        self._decay()
        row["log_evidence"] = float(self.evidence.per_observation)
        seen = [old["log_evidence"] for old in self.history if "log_evidence" in old]
        if keep and row["log_evidence"] >= max(seen, default=-math.inf):
            self.best = copy.deepcopy(self.state(0))

    def recall(self) -> None:
        """Back to the weights of the largest evidence."""
        if self.best is not None:
            self.net.load_state_dict(self.best["net"])
            self.alpha, self.evidence = self.best["alpha"], _evidence(self.best["evidence"])
            if self.best["log_noise"] is not None:
                self.likelihood.log_noise = self.best["log_noise"]

    def state(self, epoch: int) -> dict[str, Any]:
        """All that it takes to go on."""
        e = self.evidence
        return {
            "epoch": epoch,
            "net": self.net.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "alpha": self.alpha,
            "log_noise": self.likelihood.log_noise,
            "history": self.history,
            "evidence": None
            if e is None
            else [e.fit, e.complexity, e.n, e.effective_dimension, e.error, e.method],
            "best": self.best if epoch else None,
            "random": torch.get_rng_state(),
        }

    def restore(self, state: dict[str, Any]) -> int:
        """To where a checkpoint was; the epoch to go on with."""
        self.net.load_state_dict(state["net"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.alpha, self.history, self.best = state["alpha"], state["history"], state["best"]
        if state["log_noise"] is not None:
            self.likelihood.log_noise = state["log_noise"]
        self.evidence = _evidence(state["evidence"])
        torch.set_rng_state(state["random"].cpu())
        return int(state["epoch"])


def _evidence(parts: list[Any] | None) -> Evidence | None:
    if parts is None:
        return None
    fit, complexity, n, freedom, error, method = parts
    return Evidence(fit, complexity, n, freedom, error=error, method=method)


def _mark(run: _Run, look: _Look | None, keep: str, alpha: Tensor) -> str:
    words = None if look is None else (look.every, look.burn_in, look.curvature, look.structure)
    shapes = [(name, tuple(value.shape)) for name, value in run.net.state_dict().items()]
    return fingerprint(run.x, run.y, run.settings, words, keep, alpha, run.likelihood.name, shapes)
