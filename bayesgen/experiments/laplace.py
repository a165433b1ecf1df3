"""Experiment: the Laplace evidence of one network under different curvatures."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
import xarray as xr
from torch import Tensor, nn

from bayesgen import networks, plots
from bayesgen._internal import checks
from bayesgen._internal.progress import ProgressOption
from bayesgen._internal.progress_bar import shows_progress
from bayesgen.curvature.factory import CURVATURES, last_linear
from bayesgen.data.dataset import Dataset
from bayesgen.errors import NotAtModeWarning
from bayesgen.experiments.calibration import scores
from bayesgen.experiments.corruption import corruptions, loaded
from bayesgen.experiments.corruption_models import EVIDENCE_VARIABLES, evidence_values
from bayesgen.experiments.experiment import experiment, provenance
from bayesgen.experiments.networks import seeded, standardised
from bayesgen.models import Laplace
from bayesgen.networks.copies import own_parameters
from bayesgen.training import fit_map, train


@dataclass(frozen=True)
class Kind:
    """A network architecture of the study and how to train it.

    Attributes:
        make: (classes, channels or inputs, side) → network. None of the networks has normalisation
            layers, for whose weights a prior precision has no meaning.
        images: whether inputs are (n, channels, s, s), standardised by channel.
        settings: settings of training.
        least: smallest side of the images, in pixels.
    """

    make: Callable[[int, int, int], nn.Module]
    images: bool
    settings: dict[str, Any]
    least: int = 1


_ADAM = {"optimiser": "adam", "learning_rate": 3e-3, "batch": 64}
NETWORKS = {
    "mlp": Kind(lambda C, d, _: networks.MLP(d, (64,), C), False, _ADAM),
    "convnet": Kind(lambda C, channels, _: networks.ConvNet(8, C, channels=channels), True, _ADAM),
    "lenet": Kind(
        lambda C, channels, side: networks.LeNet(C, channels=channels, size=side), True, _ADAM, 12
    ),
    "preresnet20": Kind(
        lambda C, channels, _: networks.PreResNet20(8, C, channels=channels, norm="none"),
        True,
        _ADAM | {"learning_rate": 2e-3, "batch": 25},
    ),
    "resnet18": Kind(
        lambda C, channels, _: networks.ResNet18(8, C, channels=channels, norm="none"),
        True,
        _ADAM | {"learning_rate": 1e-3, "batch": 25},
    ),
}
DEFAULT = ("ggn", "kron", "diag", "last_layer")
# Number of times that the evidence is computed while prior precisions are learnt.
_LOOKS = 5


@experiment(plot=plots.laplace)
@shows_progress
def laplace(
    data: str | Dataset = "digits",
    network: str = "mlp",
    curvatures: Sequence[str] = DEFAULT,
    *,
    level: float = 0.0,
    prior_precision: float | None = None,
    epochs: int = 100,
    steps: int = 300,
    seed: int = 0,
    train_points: int | None = None,
    test: int | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    dtype: torch.dtype = torch.float64,
    device: str | torch.device = "cpu",
    progress: ProgressOption = None,
    command: str | None = None,
) -> xr.Dataset:
    """Train a network, take it to a mode, and compute the Laplace evidence with each curvature.

    The prior precisions, one for each layer, are learnt during training from the evidence by
    Kronecker factors, unless a number is given. L-BFGS then takes the network to a mode. All
    curvatures use the same weights and the same prior, so the log joint is the same and only the
    log-determinants differ.

    Args:
        data: a name for `bayesgen.data.load`, or a `Dataset`.
        network: "mlp", "convnet", "lenet", "preresnet20" or "resnet18" (the last two of width 8,
            with Fixup instead of normalisation).
        curvatures: names of curvatures, as in `bayesgen.Laplace`.
        level: fraction of labels to redraw.
        prior_precision: α of every weight; None learns one for each layer.
        epochs: number of epochs of Adam.
        steps: largest number of L-BFGS steps towards a mode.
        seed: seed of the corruption, the weights and the order of the data.
        train_points, test, data_dir, dtype, device: as `train`, … in `bayesgen.data.load`.
        progress: called as progress(done, expected, what); True shows a progress bar.
        command: command to record in the result; None records this call.

    Returns:
        Dataset over `curvature` with log_marginal_likelihood, fit, complexity,
        effective_dimension, evidence_error, `gain` (nats that a Newton step would still gain) and
        `seconds`; test_error, test_nll and test_ece of the linearised network's average; the same
        for the mode as mode_test_error, …; and `prior_precision` of each layer.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Source: Daxberger et al. (2021); Immer et al. (2021).

    Example:
        >>> result = laplace(train_points=80, test=50, epochs=5, steps=20, curvatures=["diag"])
        >>> dict(result.sizes)["curvature"], float(result.log_marginal_likelihood[0]) < 0
        (1, True)
    """
    kind = NETWORKS[checks.one_of("network", network, tuple(NETWORKS))]
    if not curvatures or len(set(curvatures)) < len(curvatures):
        raise ValueError(f"curvatures must be one or more different names, got {list(curvatures)}")
    for name in curvatures:
        checks.one_of("curvatures", name, tuple(CURVATURES))
    if prior_precision is not None:
        checks.positive("prior_precision", prior_precision)
    checks.whole("steps", steps)
    data = loaded(
        data, train=train_points, test=test, data_dir=data_dir, dtype=dtype, device=device
    )
    y = corruptions(data.y_train, [level], [seed], data.num_classes, "uniform")[0][0]
    x, new = standardised(data) if kind.images else (data.x_train, data.x_test)
    C, side = data.num_classes, x.shape[-1]
    if side < kind.least:
        raise ValueError(
            f'network="{network}" needs images of at least {kind.least} pixels a side, got {side}'
        )
    net = seeded(seed, lambda: kind.make(C, x.shape[1], side)).to(x)
    run = train(
        net,
        x,
        y,
        epochs=epochs,
        prior_precision=prior_precision or 1.0,
        seed=seed,
        progress=progress,
        evidence_every=max(epochs // _LOOKS, 1) if prior_precision is None else None,
        **kind.settings,
    )
    alpha = run.prior_precision
    found = fit_map(net, x, y, prior_precision=alpha, steps=steps, progress=progress)
    with torch.no_grad():
        fitted, mode = net(x), net(new).softmax(-1)
    rows = []
    for done, name in enumerate(curvatures):
        if progress is not None:
            progress(done, len(curvatures), f"curvature {name}")
        rows.append(_row(net, name, alpha, x, y, new, data.y_test))
    table = pd.DataFrame(rows, index=pd.Index(curvatures, name="curvature"))
    point = scores(mode, data.y_test)
    if command is None:
        command = f"bayesgen.experiments.laplace({data.name!r}, {network!r}, {list(curvatures)})"
    result = xr.Dataset.from_dataframe(table)
    for name, (units, words) in _VARIABLES.items():
        result[name].attrs = {"units": units, "long_name": words}
    result["prior_precision"] = ("layer", alpha.cpu().numpy())
    result = result.assign_attrs(
        title="Laplace evidence of one network by every curvature",
        data=data.name,
        data_fingerprint=data.fingerprint,
        network=network,
        parameters=sum(p.numel() for p in net.parameters()),
        n=len(y),
        n_test=len(data.y_test),
        classes=C,
        level=level,
        train_error=float((fitted.argmax(1) != y).double().mean()),
        log_posterior=found.log_posterior,
        at_mode=int(found.converged),
        dtype=str(x.dtype).removeprefix("torch."),
        device=str(x.device),
        **provenance(command),
    )
    return result.assign(
        mode_test_error=point.error, mode_test_nll=point.nll, mode_test_ece=point.ece
    )


_VARIABLES = EVIDENCE_VARIABLES | {
    "gain": ("nats", "what a Newton step to the mode would gain"),
    "seconds": ("s", "time for the evidence"),
    "test_error": ("1", "error on clean test labels"),
    "test_nll": ("nats", "mean negative log-likelihood of clean test labels"),
    "test_ece": ("1", "expected calibration error on clean test labels"),
}


def _row(
    net: nn.Module, curvature: str, alpha: Tensor, x: Tensor, y: Tensor, new: Tensor, truth: Tensor
) -> dict[str, float | str]:
    if curvature == "last_layer":
        alpha = alpha[[each.name == last_linear(net) for each in own_parameters(net)]]
    start = time.perf_counter()
    model = Laplace(
        net, prior_precision=alpha, curvature=curvature, hyperparameters="fixed", dtype=None
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotAtModeWarning)  # reported as `gain`
        posterior = model.fit(x, y)
    e, seconds = posterior.evidence, time.perf_counter() - start
    predicted: Any = posterior.predict(new, method="probit")
    found = scores(predicted.probs, truth)
    return evidence_values(e) | {
        "gain": posterior.gain,
        "seconds": seconds,
        "test_error": found.error,
        "test_nll": found.nll,
        "test_ece": found.ece,
    }


def summary(result: xr.Dataset) -> pd.DataFrame:
    """Table with a row for each curvature, in nats per observation, and one for the mode."""
    n = result.attrs["n"]
    table = pd.DataFrame(
        {
            "log p(D)/n": result.log_marginal_likelihood / n,
            "±": result.evidence_error / n,
            "KL/n": result.complexity / n,
            "N_eff": result.effective_dimension,
            "gain/n": result.gain / n,
            "error": result.test_error,
            "NLL": result.test_nll,
            "ECE": result.test_ece,
        },
        index=pd.Index(result.curvature.values, name="curvature"),
    )
    point = {
        "error": float(result.mode_test_error),
        "NLL": float(result.mode_test_nll),
        "ECE": float(result.mode_test_ece),
    }
    return pd.concat([table, pd.DataFrame(point, index=pd.Index(["the mode"], name="curvature"))])
