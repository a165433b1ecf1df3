"""Train one network on one data set, with an option to learn prior precisions."""

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

from bayesgen._internal import checkpoint as checkpoints, checks
from bayesgen._internal.hashing import fingerprint
from bayesgen._internal.progress import Progress
from bayesgen._internal.progress_bar import reporting
from bayesgen.errors import DivergedError, NotAtModeWarning
from bayesgen.evidence import Evidence
from bayesgen.likelihoods.likelihood import Likelihood, with_noise
from bayesgen.models.network.model import Laplace
from bayesgen.models.network.posterior import NetworkPosterior
from bayesgen.networks import inputs
from bayesgen.networks.copies import own_parameters
from bayesgen.networks.gradients import differentiating, fill_gradients, trainable
from bayesgen.networks.state import Kept, first_gradient_not_finite, first_not_finite
from bayesgen.provenance import training
from bayesgen.training import settle
from bayesgen.training.inputs import Observations, numbered, observations, precisions
from bayesgen.training.settings import Settings
from bayesgen.training.smallest_batch import smallest_batch


@dataclass(frozen=True)
class Training:
    """Result of `train`: the network, its history and the learnt hyperparameters.

    Attributes:
        net: the given network, trained in place and set to evaluation mode.
        history: one row for each epoch: loss (mean negative log-likelihood, nats), error (fraction
            of labels predicted wrongly during the epoch), learning rate, and log evidence per
            observation where it was computed.
        prior_precision: final α of each layer, (L,).
        noise: final noise variance σ² of a Gaussian likelihood; else None.
        evidence: the last Evidence that was computed for the kept weights, or None.
    """

    net: nn.Module
    history: pd.DataFrame
    prior_precision: Tensor
    noise: Tensor | None
    evidence: Evidence | None


@training("bayesgen.train")
@differentiating()
def train(
    net: nn.Module,
    x: Any,
    y: Any = None,
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
    to_mode: bool = False,
    arithmetic: str = "native",
    augment: Callable[[Any], Any] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    seed: int = 0,
    progress: Progress | bool | None = None,
) -> Training:
    """Train a network in place on the log posterior: −(1/n)[log p(D | θ) − ½ Σ αᵢθᵢ²].

    With `evidence_every`, training uses the marginal likelihood (Immer et al. 2021). At regular
    intervals, the Laplace evidence at the current weights determines the prior precisions (and the
    noise variance of a Gaussian likelihood) with which training continues.

    In training, dropout is on and BatchNorm uses the statistics of each batch. At the end the
    network is in evaluation mode. After an exception or an interruption it has its weights from
    after the last complete epoch, and its modules are in their former modes. The `.grad` fields are
    left as they are.

    Args:
        net: any module from inputs (n, …) to outputs (n, C), or (n,) for one output; training
            starts at its weights. With `evidence_every` it must be deterministic in evaluation
            mode.
        x: inputs (n, …) of the network's dtype and on its device. Integers, such as tokens, are
            passed on as they are. A tuple of tensors gives the positional arguments of `forward`,
            a dict its keyword arguments.
        y: targets, as in `Laplace.fit`: numbers, or texts as class labels, in sorted order. They
            must be given, since loaders are not accepted.
        likelihood: as in `bayesgen.Laplace`.
        epochs: number of passes over the data.
        batch: number of observations in a step; None for full batches. Where the last step of an
            epoch would have one observation, on which the network fails in training mode (as one
            with BatchNorm does), that observation joins the step before.
        optimiser: "sgd" or "adam".
        learning_rate: initial learning rate; by default 0.1 (SGD) or 0.001 (Adam).
        momentum: momentum of SGD.
        schedule: "cosine" (decreasing to zero) or "constant".
        prior_precision: α ≥ 0, a number or one value for each layer, (L,); it is a weight decay of
            α/n on the mean loss. A layer is a module that owns trainable parameters; parameters
            that layers share belong to the first of them.
        noise: noise variance σ² of a Gaussian likelihood; None starts at 1 and learns it from the
            evidence.
        evidence_every: number of epochs between two computations of the evidence; None for none.
        burn_in: number of epochs before the first computation.
        curvature: curvature for the evidence, as in `bayesgen.Laplace`.
        structure: "scalar" for one precision, "layer" for one for each layer.
        keep: weights to keep: "last", or "best" for those of the largest evidence.
        to_mode: True takes the trained network to a mode of its log posterior by `bayesgen.fit_map`
            at the end. With `evidence_every`, modes and the precisions of largest evidence are
            found in turn, and at last the mode of the precisions that are returned, so that
            `bayesgen.Laplace` with `prior_precision=result.prior_precision` and
            `hyperparameters="fixed"` is at a mode.
        arithmetic: "native", "bf16" or "tf32".
        augment: function applied to the inputs of each batch, e.g. random flips; it takes and
            returns inputs in the form of x. The evidence is computed on the inputs without it.
        checkpoint: file written after each epoch. If it exists, training resumes from it and gives
            the same result; an interruption loses only the current epoch.
        seed: seed of the order of the data; random numbers in the network itself follow torch's
            generator.
        progress: called as progress(done, expected, what) after each step; True shows a progress
            bar.

    Returns:
        A `Training`; the network is trained in place.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.
        DivergedError: a loss, a gradient or a weight is not finite. The network and the checkpoint
            keep the state after the last complete epoch.

    Warns:
        NotAtModeWarning: with `to_mode`, no mode was reached, as where layers can be rescaled
            without a change of the function.

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
        raise ValueError('keep="best" needs evidence_every: without it no evidence is computed')
    checks.flag("to_mode", to_mode)
    likelihood, y = numbered(likelihood, y)
    whole = trainable(net)
    alpha = precisions(prior_precision, len(own_parameters(whole)))
    if to_mode and evidence_every is None and not bool((alpha > 0).any()):
        raise ValueError(
            "to_mode needs prior_precision > 0 or evidence_every, because the likelihood alone has "
            f"no mode where it can grow for ever, got prior_precision={prior_precision}"
        )
    with Kept(net) as kept:
        looks = evidence_every is not None
        data = observations(whole, x, y, likelihood, noise, fixed=looks)
        run = _Run(whole, data, settings, alpha, augment)
        look = None
        if evidence_every is not None:
            learn_noise = data.likelihood.gaussian_noise and noise is None
            look = _Look(evidence_every, burn_in, curvature, structure, learn_noise, y)
        path = None if checkpoint is None else Path(checkpoint)
        mark = "" if path is None else _mark(run, look, keep, alpha)
        state = None if path is None else checkpoints.load(path, mark, data.x.device)
        first = 0
        if state is not None:
            first = run.restore(state)
            kept.record()
        with reporting(progress) as report, settings.products():
            for epoch in range(first, epochs):
                row = run.epoch(epoch, report)
                kept.record()
                if look is not None and look.due(epoch, epochs):
                    run.look(look, row, keep == "best")
                run.history.append(row)
                if path is not None:
                    checkpoints.save(path, {"fingerprint": mark, **run.state(epoch + 1)})
        if keep == "best":
            run.recall()
        if to_mode:
            settle.settle(run, look, x, y, progress)
    history = pd.DataFrame(run.history).rename_axis("epoch")
    log_noise = run.likelihood.log_noise
    learnt = None if log_noise is None else log_noise.exp()
    return Training(net, history, run.alpha, learnt, run.evidence)


@dataclass(frozen=True)
class _Look:
    """Settings that say when and how the evidence is computed during training."""

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
    """State of one training run: weights, optimiser, prior precisions and history."""

    def __init__(
        self,
        net: nn.Module,
        data: Observations,
        settings: Settings,
        alpha: Tensor,
        augment: Callable[[Any], Any] | None,
    ) -> None:
        self.net, self.pass_through = net, data.run
        self.x, self.y, self.likelihood = data.x, data.y, data.likelihood
        self.settings, self.alpha, self.augment = settings, alpha, augment
        self.least = smallest_batch(net, data.run, data.x, settings)
        self.history: list[dict[str, float]] = []
        self.evidence: Evidence | None = None
        self.best: dict[str, Any] | None = None
        self.groups = [list(each.parameters.values()) for each in own_parameters(net)]
        self.optimiser = settings.make([{"params": group} for group in self.groups])
        self._decay()

    def _decay(self) -> None:
        """Set the weight decay to α/n, which on the mean loss is the gradient of the log prior."""
        for group, alpha in zip(self.optimiser.param_groups, self.alpha.tolist(), strict=True):
            group["weight_decay"] = alpha / len(self.x)

    def epoch(self, epoch: int, progress: Progress | None) -> dict[str, float]:
        """Train for one epoch and return its row of the history.

        Raises:
            DivergedError: a loss, a gradient or a weight is not finite.
        """
        n, settings = len(self.x), self.settings
        steps = settings.steps(n, self.least)
        loss_sum, wrong, seen = 0.0, 0.0, 0
        self.net.train()
        for step, index in enumerate(settings.order(epoch, n, self.least)):
            rate = settings.rate(epoch + step / steps)
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            index = index.to(self.x.device)
            rows, y = self._augmented(self.x[index]), self.y[index]
            self.optimiser.zero_grad(set_to_none=True)
            with settings.forward(self.x.device):
                f = self._outputs(rows).to(self.y.dtype)
            loss = -self.likelihood.log_density(y, f).mean()
            value = float(loss.detach())
            if not math.isfinite(value):
                raise _diverged(f"the loss is {value}", epoch, step)
            loss.backward()
            for weights in self.groups:
                fill_gradients(weights)  # the prior acts on unused parameters too
            bad = first_gradient_not_finite(self.net)
            if bad is not None:
                raise _diverged(f"the gradient of {bad!r} is not finite", epoch, step)
            self.optimiser.step()
            loss_sum, seen = loss_sum + value * len(index), seen + len(index)
            if self.likelihood.labels:
                wrong += float(self.likelihood.errors(y, f.detach()).sum())
            if progress is not None:
                said = f"epoch {epoch + 1}: loss {loss_sum / seen:.3f}"
                if self.evidence is not None:
                    said += f", log p(D)/n {float(self.evidence.per_observation):.3f}"
                progress(epoch * steps + step + 1, settings.epochs * steps, said)
        bad = first_not_finite(self.net)
        if bad is not None:
            raise _diverged(f"{bad!r} is not finite", epoch, steps - 1)
        row = {"loss": loss_sum / n, "learning_rate": rate}
        if self.likelihood.labels:
            row["error"] = wrong / n
        return row

    def _outputs(self, rows: Any) -> Tensor:
        try:
            return self.pass_through(rows)
        except RuntimeError as err:
            if self.augment is None or isinstance(err, torch.OutOfMemoryError):
                raise
            raise ValueError(
                "augment must return inputs that net takes, but net fails on them: "
                f"{str(err).splitlines()[0]}"
            ) from err

    def _augmented(self, rows: Any) -> Any:
        """Inputs of a batch after the user's function, which must keep their number."""
        return rows if self.augment is None else inputs.mapped("augment", self.augment, rows)

    def gaussian(self) -> tuple[str | Likelihood, Tensor | None]:
        """The likelihood as a user names it, and the noise variance of a Gaussian one."""
        if self.likelihood.log_noise is None:
            return self.likelihood, None
        return "gaussian", self.likelihood.log_noise.exp()

    def look(
        self, look: _Look, row: dict[str, float], keep: bool, learn: bool = True
    ) -> NetworkPosterior:
        """Compute the evidence at the current weights and adopt the precisions that it gives."""
        positive = self.alpha.clamp(min=1e-6)
        start = positive.mean() if look.structure == "scalar" else positive
        own, noise = self.gaussian()
        free = {"prior_precision"} | ({"noise"} if look.learn_noise else set())
        chosen: str | set[str] = free if learn else "fixed"
        laplace = Laplace(self.net, own, start, noise, look.curvature, chosen, dtype=None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotAtModeWarning)  # expected before training has ended
            posterior = laplace.fit(self.x, look.y)
        self.evidence = posterior.evidence
        if not learn:
            return posterior
        self.alpha = posterior.prior_precision.expand(len(self.alpha)).clone()
        if look.learn_noise:
            self.likelihood = with_noise(self.likelihood, posterior.noise.log())
        self._decay()
        row["log_evidence"] = float(self.evidence.per_observation)
        seen = [old["log_evidence"] for old in self.history if "log_evidence" in old]
        if keep and row["log_evidence"] >= max(seen, default=-math.inf):
            self.best = copy.deepcopy(self.state(0))
        return posterior

    def recall(self) -> None:
        """Restore the weights of the largest evidence."""
        if self.best is not None:
            self.net.load_state_dict(self.best["net"])
            self.alpha, self.evidence = self.best["alpha"], _evidence(self.best["evidence"])
            if self.best["log_noise"] is not None:
                self.likelihood = with_noise(self.likelihood, self.best["log_noise"])

    def state(self, epoch: int) -> dict[str, Any]:
        """All values that are needed to resume training."""
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
        """Restore the state of a checkpoint and return the number of the next epoch."""
        self.net.load_state_dict(state["net"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.alpha, self.history, self.best = state["alpha"], state["history"], state["best"]
        if state["log_noise"] is not None:
            self.likelihood = with_noise(self.likelihood, state["log_noise"])
        self.evidence = _evidence(state["evidence"])
        torch.set_rng_state(state["random"].cpu())
        return int(state["epoch"])


def _evidence(parts: list[Any] | None) -> Evidence | None:
    if parts is None:
        return None
    fit, complexity, n, freedom, error, method = parts
    return Evidence(fit, complexity, n, freedom, error=error, method=method)


def _diverged(what: str, epoch: int, step: int) -> DivergedError:
    before = "after the epoch before" if epoch else "before the training"
    return DivergedError(
        f"{what} at step {step + 1} of epoch {epoch + 1}; the network is as it was {before}: a "
        "smaller learning_rate may help"
    )


def _mark(run: _Run, look: _Look | None, keep: str, alpha: Tensor) -> str:
    words: Any = None
    if look is not None:
        words = look.every, look.burn_in, look.curvature, look.structure, look.learn_noise
    own = run.likelihood
    words = words, own.kind, own.log_noise, run.augment is not None
    shapes = [(name, tuple(value.shape)) for name, value in run.net.state_dict().items()]
    x = inputs.tensors(run.x)
    return fingerprint(*x, run.y, run.settings, words, keep, alpha, shapes)
