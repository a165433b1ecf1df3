"""Measures of the complexity of one trained network: spectra, evidence, bounds, compressed size."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import scipy.optimize
import torch
from torch import Tensor, nn
from torch.func import functional_call

from bayesgen import pacbayes
from bayesgen._internal.progress import ProgressOption
from bayesgen._internal.progress_bar import shows_progress
from bayesgen.curvature import matrix_free
from bayesgen.curvature.parameters import Weights
from bayesgen.errors import NotAtModeWarning
from bayesgen.experiments.executor import Job, Values, sweep
from bayesgen.experiments.width_families import WidthFamily, WidthTask, restored
from bayesgen.likelihoods import Gaussian
from bayesgen.likelihoods.likelihood import Likelihood
from bayesgen.models import Laplace
from bayesgen.pacbayes import compress
from bayesgen.pacbayes.compression.selection import least_bound
from bayesgen.pacbayes.inverse_kl import monte_carlo
from bayesgen.solvers import lanczos
from bayesgen.spectrum.spectrum import Spectrum

# Standard deviations of the weights among which the certificate chooses.
DEVIATIONS = tuple(2.0**-k for k in range(1, 9))
_DELTA = 0.05
# Increase of the training error that draws of the weights may cause.
_SLACK = 0.1
# Observations on which each draw of the weights is evaluated, at most.
_POINTS_PER_DRAW = 256


@dataclass(frozen=True)
class MeasureSettings:
    """Settings of the measures.

    Attributes:
        alphas: ridges α of the effective dimension of the mean loss.
        exact: largest order of a GGN, in weights or rows, whose eigenvalues are all computed.
        probes, steps: settings of Lanczos quadrature, where they are not; the Hessian takes half
            of the probes, at least 2.
        ritz: number of steps of the single Lanczos run.
        batch: observations for each pass of the Hessian, and for each batch of BatchNorm.
        noise: noise variance of the Laplace evidence under the squared loss.
        draws: number of draws of the weights for each standard deviation of the certificate.
        dimensions: dimensions of the subspaces of the compressed networks.
        compression_steps: steps of their training before quantisation; half as many follow.
        seed: seed of all draws.
    """

    alphas: tuple[float, ...] = (0.1, 1.0, 10.0)
    exact: int = 2500
    probes: int = 16
    steps: int = 64
    ritz: int = 100
    batch: int = 500
    noise: float = 0.05
    draws: int = 128
    dimensions: tuple[int, ...] = (50, 100, 200)
    compression_steps: int = 400
    seed: int = 0


@shows_progress
def measure_all(
    tasks: Sequence[tuple[WidthTask, Values]],
    count: int | None,
    settings: MeasureSettings,
    *,
    store: Any = None,
    progress: ProgressOption = None,
) -> list[list[Values]]:
    """Measure trained networks; each task and seed is one cell of a sweep.

    Args:
        tasks: tasks with their results of `width_families.train_all`.
        count: number of seeds of each task whose networks are measured, at most; None for all.
        settings: settings of the measures.
        store, progress: as in `bayesgen.experiments.executor.sweep`.

    Returns:
        For each task and measured seed, the values of `measured`.
    """
    jobs, marks = [], []
    for task, cell in tasks:
        for seed in task.seeds[:count]:
            state = torch.as_tensor(np.asarray(cell["state"])[task.seeds.index(seed)])
            title = f"measures, {task.title()}, seed {seed}"
            jobs.append(Job(title, _measured, (task, state, seed, settings)))
            marks.append([*task.mark(), state, seed, settings])
    cells = iter(sweep(jobs, marks, store=store, progress=progress))
    return [[next(cells) for _ in task.seeds[:count]] for task, _ in tasks]


def _measured(task: WidthTask, state: Tensor, seed: int, settings: MeasureSettings) -> Values:
    return measured(task, restored(task, state, seed), seed, settings)


def measured(task: WidthTask, net: nn.Module, seed: int, settings: MeasureSettings) -> Values:
    """All measures of one trained network.

    Args:
        task: data and labels that the network was trained on.
        net: the network, in evaluation mode.
        seed: the network's seed, one of the task's.
        settings: settings of the measures.

    Returns:
        `ggn_dimension`, `hessian_dimension` (each with `_error`) and `ritz_dimension`, (A,), the
        effective dimensions of the mean loss at each α; `top_eigenvalue` and `trace` of its GGN,
        `hessian_top`; `log_marginal_likelihood`, `evidence_error` and `prior_precision` of the
        Laplace evidence; `kl`, `deviation`, `gibbs_risk` and `bound` of the certificate; and
        `compressed_bytes`, `description_bytes`, `compressed_dimension`, `compressed_risk` and
        `compressed_bound`.
    """
    family, data = task.family, task.data
    x = family.inputs(data)[0]
    labels = task.labels[task.seeds.index(seed)]
    y = family.targets(labels, data.num_classes)
    start = family.network(task.width, data, seed)
    return {
        **ggn_measures(net, family, x, y, settings),
        **hessian_measures(net, family, x, y, settings),
        **certificate(net, start, x, labels, settings),
        **compressed(start, x, labels, settings),
    }


# --------------------------------------------------------------------------- spectra


def ggn_measures(
    net: nn.Module, family: WidthFamily, x: Tensor, y: Tensor, how: MeasureSettings
) -> Values:
    """Effective dimensions, top eigenvalue and trace of the GGN of the mean loss, and evidence.

    All eigenvalues are computed where the GGN is small, in float64. Else they are sampled by
    Lanczos quadrature and the results have a standard error. The Laplace evidence is that at the
    weights as they are, with one prior precision of maximum evidence; under the squared loss its
    noise variance is `MeasureSettings.noise`.
    """
    classes = y.shape[1] if family.squared else int(net(x[:1]).shape[1])
    rows = len(x) * (classes if family.squared else classes - 1)
    if min(rows, sum(p.numel() for p in net.parameters())) <= how.exact:
        spectrum, row = _exact(net, family, x, y, how)
    else:
        spectrum, row = _by_products(net, family, x, y, how)
    # −log p of unit noise is half of the squared loss.
    scale = len(x) / (2.0 if family.squared else 1.0)
    found, errors = [], []
    for alpha in how.alphas:
        ridge = alpha * scale
        found.append(float(spectrum.effective_dimension(ridge)))
        errors.append(float(spectrum.sampling_error(partial(_share, alpha=ridge))))
    return {
        "ggn_dimension": found,
        "ggn_dimension_error": errors,
        "top_eigenvalue": float(spectrum.density.nodes.max()) / scale,
        "trace": float(spectrum.density.integrate(lambda v: v)) / scale,
        **row,
    }


def _exact(
    net: nn.Module, family: WidthFamily, x: Tensor, y: Tensor, how: MeasureSettings
) -> tuple[Spectrum, Values]:
    """The exact spectrum of the GGN of −log p at unit noise, and the evidence."""
    given: dict[str, Any] = {"noise": how.noise} if family.squared else {}
    kind = "gaussian" if family.squared else "categorical"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotAtModeWarning)  # described in `widths`
        posterior = Laplace(net, kind, hyperparameters="prior_precision", **given).fit(x, y)
    spectrum = posterior.curvature.spectrum
    assert spectrum is not None
    return spectrum, {
        "log_marginal_likelihood": float(posterior.evidence.log_marginal_likelihood),
        "evidence_error": float(posterior.evidence.error),
        "prior_precision": float(posterior.prior_precision.flatten()[0]),
    }


def _by_products(
    net: nn.Module, family: WidthFamily, x: Tensor, y: Tensor, how: MeasureSettings
) -> tuple[Spectrum, Values]:
    """The same by Lanczos quadrature on products of the GGN with vectors."""
    weights = Weights(net, None)
    with torch.no_grad():
        f = torch.cat([weights.evaluate(rows) for rows in x.split(how.batch)])
    kind: Likelihood = Gaussian(1.0) if family.squared else family.likelihood()
    unit = kind.for_outputs(f.shape[1], y.shape)
    inner = unit.targets(y, f)[0].to(f.dtype)
    batches = list(zip(x.split(how.batch), inner.split(how.batch), strict=True))
    op, _ = matrix_free.operator("ggn", weights, unit, batches)
    spectrum = Spectrum.lanczos(op, probes=how.probes, steps=how.steps, seed=how.seed)
    noise = how.noise if family.squared else 1.0
    likelihood = Gaussian(noise) if family.squared else unit
    log_likelihood = float(likelihood.log_density(inner.double(), f.double()).sum())
    squares = float(weights.theta.double().square().sum())
    return spectrum, laplace_evidence(spectrum, log_likelihood, squares, noise)


def laplace_evidence(
    spectrum: Spectrum, log_likelihood: float, squares: float, noise: float
) -> Values:
    """Laplace evidence log p(D | θ*) − ½α‖θ*‖² − ½ log|I + H/α| at the best α.

    Args:
        spectrum: spectrum of the curvature at unit noise variance; H is it divided by the noise.
        log_likelihood: log p(D | θ*), nats.
        squares: ‖θ*‖².
        noise: noise variance σ²; 1 for labels.
    """

    def terms(v: Tensor, log_alpha: float) -> Tensor:
        return 0.5 * (v.clamp(min=0) * math.exp(-log_alpha) / noise).log1p()

    def cost(log_alpha: float) -> float:
        logdet = float(spectrum.density.integrate(lambda v: terms(v, log_alpha)))
        return 0.5 * math.exp(log_alpha) * squares + logdet

    found = scipy.optimize.minimize_scalar(cost, bounds=(-15.0, 15.0), method="bounded")
    best = float(found.x)
    return {
        "log_marginal_likelihood": log_likelihood - cost(best),
        "evidence_error": float(spectrum.sampling_error(lambda v: terms(v, best))),
        "prior_precision": math.exp(best),
    }


class TrainingHessian:
    """The Hessian of the mean training loss with BatchNorm in training mode, as an operator.

    A network with BatchNorm is then no function of one observation, which the curvatures of
    `bayesgen.Laplace` require. Products take two reverse passes. The network is not changed.

    Args:
        net: the network.
        family: its family, for the loss.
        x: inputs, (n, …).
        y: targets.
        batch: observations for each pass, whose statistics BatchNorm uses.
        only: whether to leave out parameters of one dimension, as biases and BatchNorm have.
    """

    def __init__(
        self, net: nn.Module, family: WidthFamily, x: Tensor, y: Tensor, batch: int, *, only: bool
    ) -> None:
        self.net, self.family = copy.deepcopy(net).train(), family
        self.batches = list(zip(x.split(batch), y.split(batch), strict=True))
        self.n = len(x)
        named = list(self.net.named_parameters())
        for _, p in named:
            p.requires_grad_(True)
        self.parameters = [p for _, p in named if p.ndim > 1 or not only]
        count = sum(p.numel() for p in self.parameters)
        self.shape, self.dtype, self.device = (count, count), x.dtype, x.device
        for module in self.net.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = 0.0  # running statistics stay as they are

    def __matmul__(self, v: Tensor) -> Tensor:
        """Product with the columns of v, (P,) or (P, k)."""
        columns = v if v.ndim == 2 else v[:, None]
        total = torch.zeros_like(columns)
        with torch.enable_grad():
            for x, y in self.batches:
                loss = self.family.loss(self.net(x), y) * (len(x) / self.n)
                slopes = torch.autograd.grad(loss, self.parameters, create_graph=True)
                slope = torch.cat([g.reshape(-1) for g in slopes])
                for k, column in enumerate(columns.mT):
                    parts = torch.autograd.grad(
                        slope, self.parameters, column, retain_graph=True, materialize_grads=True
                    )
                    total[:, k] += torch.cat([part.reshape(-1) for part in parts])
        return total if v.ndim == 2 else total[:, 0]


def hessian_measures(
    net: nn.Module, family: WidthFamily, x: Tensor, y: Tensor, how: MeasureSettings
) -> Values:
    """Effective dimensions of the Hessian, by Lanczos quadrature and from Ritz values alone.

    `hessian_dimension` estimates Σ λ/(λ + α) over all positive eigenvalues by Lanczos quadrature,
    with its standard error over the probes. `ritz_dimension` is the sum over the positive Ritz
    values of one Lanczos run of `MeasureSettings.ritz` steps, for the weights with more than one
    dimension (Wilson, 2025, figure 1 (f)). It is no estimate of the former and cannot exceed the
    number of steps.
    """
    whole = TrainingHessian(net, family, x, y, how.batch, only=False)
    sampled = Spectrum.lanczos(
        whole, probes=max(how.probes // 2, 2), steps=how.steps, seed=how.seed
    )
    part = TrainingHessian(net, family, x, y, how.batch, only=True)
    ritz = ritz_values(part, how.ritz, how.seed)
    found, errors, theirs = [], [], []
    for alpha in how.alphas:
        share = partial(_share, alpha=alpha)
        found.append(float(sampled.density.integrate(share)))
        errors.append(float(sampled.sampling_error(share)))
        theirs.append(float(share(ritz).sum()))
    return {
        "hessian_dimension": found,
        "hessian_dimension_error": errors,
        "ritz_dimension": theirs,
        "hessian_top": float(sampled.density.nodes.max()),
    }


def _share(values: Tensor, alpha: float) -> Tensor:
    """λ/(λ + α) of positive eigenvalues, and 0 for the others."""
    return values.clamp(min=0) / (values.clamp(min=0) + alpha)


def ritz_values(op: Any, steps: int, seed: int) -> Tensor:
    """Ritz values of one Lanczos run from a random vector, (min(steps, P),), float64."""
    multiply, P, like = lanczos.operator(op)
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(P, 1, generator=generator).to(like)
    found = lanczos.tridiagonalise(multiply, start, min(steps, P))
    return found.gauss().nodes[0]


# --------------------------------------------------------------------------- bounds and codes


def certificate(
    net: nn.Module,
    start: nn.Module,
    x: Tensor,
    labels: Tensor,
    how: MeasureSettings,
    *,
    paid: float = 0.0,
) -> Values:
    """A PAC-Bayes bound of the 0–1 risk of weights drawn around the trained ones.

    Q = N(θ*, s²I) and P = N(θ₀, s²I) with the initial weights θ₀ as mean, so that
    KL = ‖θ* − θ₀‖²/(2s²). The standard deviation s is the largest in `DEVIATIONS` that raises the
    training error by at most 0.1, so that flat networks have a small KL; the choice is paid for.
    Further nats that are `paid` enter the bound.
    The Gibbs risk is bounded from independent draws with half of δ = 0.05. Networks with buffers
    that were learnt, such as BatchNorm's statistics, have no certificate, and all values are NaN.

    Source: Maurer (2004); Neyshabur et al. (2017), section 2, for the Gaussians; Jiang et al.
    (2020), appendix C, for the choice of s.
    """
    if any(True for _ in net.buffers()):
        return dict.fromkeys(("kl", "deviation", "gibbs_risk", "bound"), math.nan)
    trained = {name: p.detach() for name, p in net.named_parameters()}
    initial = dict(start.named_parameters())
    squares = sum(
        float((p.double() - initial[name].detach().double()).square().sum())
        for name, p in trained.items()
    )
    generator = torch.Generator().manual_seed(how.seed)
    allowed = _risk_of_draws(net, trained, 0.0, x, labels, 1, generator) + _SLACK
    sd = risk = math.nan
    for sd in DEVIATIONS:
        risk = _risk_of_draws(net, trained, sd, x, labels, how.draws, generator)
        if risk <= allowed:
            break
    choices = len(DEVIATIONS)
    gibbs = monte_carlo(risk, how.draws, _DELTA / 2 / choices)
    kl = squares / (2 * sd**2)
    bound = float(pacbayes.maurer(gibbs, kl + math.log(choices) + paid, len(x), _DELTA / 2))
    return {"kl": kl, "deviation": sd, "gibbs_risk": risk, "bound": bound}


def _risk_of_draws(
    net: nn.Module,
    trained: dict[str, Tensor],
    sd: float,
    x: Tensor,
    labels: Tensor,
    draws: int,
    generator: torch.Generator,
) -> float:
    """Mean 0–1 loss over draws of the weights, each on random observations."""
    wrong = []
    with torch.no_grad():
        for _ in range(draws):
            noisy = {
                name: p + sd * torch.randn(p.shape, generator=generator).to(p)
                for name, p in trained.items()
            }
            some, own = x, labels
            if len(x) > _POINTS_PER_DRAW:
                rows = torch.randperm(len(x), generator=generator)[:_POINTS_PER_DRAW].to(x.device)
                some, own = x[rows], labels[rows]
            predicted = functional_call(net, noisy, (some,)).argmax(1)
            wrong.append(float((predicted != own).double().mean()))
    return float(np.mean(wrong))


def compressed(start: nn.Module, x: Tensor, labels: Tensor, how: MeasureSettings) -> Values:
    """The code of the network's architecture with the smallest bound of the 0–1 risk.

    `bayesgen.pacbayes.compress` trains the architecture anew, in random subspaces of the
    dimensions in `MeasureSettings.dimensions` and with the cross-entropy. The trained weights have
    no part in it. The choice among the dimensions is paid for. Dimensions above the number of
    parameters are left out. `description_bytes` adds the code of the labels that the decoded
    network predicts wrongly, so that networks of different risk can be compared.
    """
    parameters = sum(p.numel() for p in start.parameters())
    fitting = [d for d in how.dimensions if d <= parameters] or [parameters]
    batch = min(50, max(len(x) // 4, 1))
    epochs = max(how.compression_steps * batch // len(x), 2)
    codes = [
        compress(
            start,
            x,
            labels,
            dimension=dimension,
            epochs=epochs,
            quantised_epochs=epochs // 2,
            batch=batch,
            learning_rate=0.1,
            seed=how.seed,
        )
        for dimension in fitting
    ]
    best = least_bound(codes, len(how.dimensions))
    size, wrong = len(best.code), round(best.risk * len(x))
    return {
        "compressed_bytes": float(size),
        "description_bytes": size + correction_bits(wrong, len(x), best.classes) / 8,
        "compressed_dimension": float(best.settings["dimension"]),
        "compressed_risk": best.risk,
        "compressed_bound": best.certificate(_DELTA).bound,
    }


def correction_bits(wrong: int, n: int, classes: int) -> float:
    """Bits of a code for the labels that a network predicts wrongly.

    It is log₂(n + 1) + log₂ binom(n, e) + e log₂(C − 1) for the number e of errors, their places
    and the right classes.
    """
    choose = math.lgamma(n + 1) - math.lgamma(wrong + 1) - math.lgamma(n - wrong + 1)
    return math.log2(n + 1) + choose / math.log(2) + wrong * math.log2(max(classes - 1, 1))
