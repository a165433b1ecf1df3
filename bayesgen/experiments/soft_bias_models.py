"""Models whose bias the evidence softens, one function for each cell of the study `soft_bias`.

Every function returns numbers and arrays that `executor.sweep` can store.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import gpytorch
import torch
from torch import Tensor, nn
from torch.nn import functional

from bayesgen import likelihoods, networks
from bayesgen.errors import NotAtModeWarning
from bayesgen.experiments import soft_bias_tasks as tasks
from bayesgen.experiments.executor import Values
from bayesgen.experiments.networks import seeded
from bayesgen.features import priors
from bayesgen.kernels import Invariant
from bayesgen.models import GaussianProcess, LinearModel
from bayesgen.networks.transforms import Rotation
from bayesgen.training import Training, train

NETWORKS = ("ConvNet", "residual pathway", "MLP")
# Prior precision at which training starts for the pathway that is at first disfavoured, relative
# to the other; its initial weights are smaller by the second factor.
DISFAVOURED, SHRUNK = 1e3, 0.1
# Channels of the convolution, width of the averaged network, and settings of their training.
CHANNELS, HIDDEN = 12, 16
TRAINING: dict[str, Any] = {"batch": 50, "optimiser": "adam", "learning_rate": 0.01}


def linear(n: int, asymmetries: tuple[float, ...], seed: int) -> Values:
    """Quadratic regression with symmetric, both, or free features.

    Returns:
        rmse: test error, in standard deviations of f, (tasks, 3): hard, soft, free.
        ratio: prior variance of a free weight relative to a symmetric one, of maximum evidence,
            (tasks,).
    """
    data = tasks.quadratic_functions(n, asymmetries, seed)
    ratio = priors.tied_and_free(tasks.INPUTS // 2 + 1)
    soft = LinearModel(tasks.both, ratio).fit(data.x, data.y)
    fits = [
        LinearModel(tasks.symmetric).fit(data.x, data.y),
        soft,
        LinearModel(tasks.quadratic).fit(data.x, data.y),
    ]
    errors = [(fit.mean(data.x_new) - data.y_new).square().mean((1, 2)).sqrt() for fit in fits]
    return {"rmse": torch.stack(errors, 1).numpy(), "ratio": soft.decay.numpy()}


def tied(n: int, deviations: tuple[float, ...], ratios: tuple[float, ...], seed: int) -> Values:
    """A dense layer whose weight covariance is s(TTᵀ + r I), the evidence over r, and its errors.

    Returns:
        evidence: log marginal likelihood at each r, maximised over s and σ², (tasks, ratios).
        ratio: r of maximum evidence, (tasks,).
        rmse: test error in standard deviations of f, (tasks, 3): tied, soft, free.
    """
    data = tasks.linear_maps(n, deviations, seed)
    Phi, new = tasks.map_features(data.x), tasks.map_features(data.x_new)
    free = {"scale", "noise"}
    curve = [
        LinearModel(None, priors.tied_and_free(9, r), hyperparameters=free).fit(Phi, data.y)
        for r in ratios
    ]
    soft = LinearModel(None, priors.tied_and_free(9)).fit(Phi, data.y)
    hard = LinearModel().fit(Phi[:, :9], data.y)
    loose = LinearModel().fit(Phi[:, 9:], data.y)
    means = [hard.mean(new[:, :9]), soft.mean(new), loose.mean(new[:, 9:])]
    errors = [(mean - data.y_new).square().mean((1, 2)).sqrt() for mean in means]
    evidence = [fit.evidence.log_marginal_likelihood for fit in curve]
    return {
        "evidence": torch.stack(evidence, 1).numpy(),
        "ratio": soft.decay.numpy(),
        "rmse": torch.stack(errors, 1).numpy(),
    }


def pathway(kind: str, shuffled: float, n: int, epochs: int, seed: int) -> Values:
    """A network of `NETWORKS` on displaced digits, trained with precisions learnt by evidence.

    The evidence of a residual pathway has one maximum near each of its two parts. Training starts
    near both, and the network of larger evidence is kept.

    Returns:
        error: test error.
        evidence: log marginal likelihood (Laplace, KFAC), nats.
        share: share of the dense map in the prior variance of a hidden unit (residual pathway).
    """
    data = tasks.displaced_digits(n, shuffled, seed)
    starts = ("free", "structured") if kind == "residual pathway" else (None,)
    runs = [_trained(kind, data, epochs, seed, start) for start in starts]
    best = max(runs, key=lambda run: _evidence(run))
    with torch.no_grad():
        error = (best.net(data.x_new).argmax(-1) != data.y_new).double().mean()
    values = {"error": float(error), "evidence": _evidence(best)}
    if kind == "residual pathway":
        values["share"] = dense_share(best.net[0], data.x, best.prior_precision)  # type: ignore[index]
    return values


def dense_share(layer: networks.ResidualPathway, x: Tensor, precision: Tensor) -> float:
    """Share of the dense map in the prior variance of the outputs, averaged over images and units.

    Args:
        layer: convolution with a dense map beside it.
        x: images, (n, channels, height, width).
        precision: prior precisions of the convolution and of the dense map, the first two entries.
    """
    conv: Any = layer.structured
    ones = torch.ones_like(conv.weight[:1])
    patches = functional.conv2d(x.square(), ones, stride=conv.stride, padding=conv.padding)
    variances = patches.mean(), x.square().flatten(1).sum(1).mean()
    structured, free = (float(v / a) for v, a in zip(variances, precision[:2], strict=True))
    return free / (structured + free)


def pathway_network(kind: str, classes: int) -> nn.Sequential:
    """A hidden layer of the given kind, a rectifier, the mean over places, and a linear layer."""
    image = (1, tasks.CANVAS, tasks.CANVAS)
    conv = nn.Conv2d(1, CHANNELS, 5, stride=2, padding=2)
    both = networks.ResidualPathway.of_convolution(conv, image)
    side = tasks.CANVAS // 2
    layer: nn.Module = {"ConvNet": conv, "residual pathway": both}.get(kind) or nn.Sequential(
        nn.Flatten(),
        nn.Linear(tasks.CANVAS**2, CHANNELS * side**2),
        nn.Unflatten(1, (CHANNELS, side, side)),
    )
    pool = nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(layer, nn.ReLU(), pool, nn.Flatten(), nn.Linear(CHANNELS, classes))


def invariant_kernel(degrees: float, orientation: bool, n: int, nodes: int, seed: int) -> Values:
    """A Gaussian process whose kernel is averaged over rotations, on rotated digits.

    Returns:
        range: range of maximum evidence, degrees.
        evidence, base_evidence: log marginal likelihood with and without the average, nats.
        error, base_error: test errors.
    """
    data = tasks.rotated_digits(n, degrees, orientation, seed)
    y = likelihoods.one_hot(data.y, int(data.y.max()) + 1)
    rotate = Rotation((1, tasks.DIGIT, tasks.DIGIT))
    averaged = Invariant(gpytorch.kernels.RBFKernel(), rotate, range=0.5, nodes=nodes)
    fits = [
        GaussianProcess(kernel, starts=1).fit(data.x, y)
        for kernel in (averaged, gpytorch.kernels.RBFKernel())
    ]
    errors = [
        float((fit.mean(data.x_new).argmax(-1) != data.y_new).double().mean()) for fit in fits
    ]
    evidence = [float(fit.evidence.log_marginal_likelihood) for fit in fits]
    return {
        "range": math.degrees(float(fits[0].kernels[0].range.detach())),
        "evidence": evidence[0],
        "base_evidence": evidence[1],
        "error": errors[0],
        "base_error": errors[1],
    }


def averaged_network(
    degrees: float, orientation: bool, span: float, n: int, nodes: int, epochs: int, seed: int
) -> Values:
    """A network averaged over rotations up to `span` degrees, on rotated digits.

    Returns:
        evidence: log marginal likelihood (Laplace, exact GGN, one prior precision), nats.
        error: test error.
    """
    data = tasks.rotated_digits(n, degrees, orientation, seed)
    mean, sd = data.x.mean(), data.x.std()
    x, new = ((each - mean).div(sd).float() for each in (data.x, data.x_new))
    inner = seeded(seed, lambda: networks.MLP(x.shape[1], (HIDDEN,), int(data.y.max()) + 1))
    rotate = Rotation((1, tasks.DIGIT, tasks.DIGIT))
    net = networks.Averaged(inner, rotate, math.radians(span), nodes=nodes)
    every = max(1, epochs // 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotAtModeWarning)
        run = train(
            net, x, data.y, epochs=epochs, prior_precision=1.0, evidence_every=every,
            burn_in=every - 1, curvature="ggn", structure="scalar", seed=seed, **TRAINING,
        )  # fmt: skip
    with torch.no_grad():
        error = (net(new).argmax(-1) != data.y_new).double().mean()
    return {"evidence": _evidence(run), "error": float(error)}


def _trained(
    kind: str, data: tasks.SoftBiasTask, epochs: int, seed: int, disfavoured: str | None
) -> Training:
    """Train a network of `NETWORKS`; one pathway may start with a large prior precision."""
    net = seeded(seed, lambda: pathway_network(kind, int(data.y.max()) + 1))
    precision: Any = 1.0
    if disfavoured is not None:
        with torch.no_grad():
            net.get_submodule(f"0.{disfavoured}").get_parameter("weight").mul_(SHRUNK)
        start = {"structured": (DISFAVOURED, 1.0, 1.0), "free": (1.0, DISFAVOURED, 1.0)}
        precision = torch.tensor(start[disfavoured])
    every = max(1, epochs // 3)
    return train(
        net, data.x, data.y, epochs=epochs, prior_precision=precision, evidence_every=every,
        burn_in=every - 1, seed=seed, **TRAINING,
    )  # fmt: skip


def _evidence(run: Training) -> float:
    assert run.evidence is not None
    return float(run.evidence.log_marginal_likelihood)
