"""The evidence that fits of any kernel reach, and their CPU seconds, beside three peers.

usage: OMP_NUM_THREADS=1 python benchmarks/any_kernel.py [--only NAME] [--restarts 10] [--quick]

pip install statsmodels

Each pair is a data set and a gpytorch kernel. bayesgen fits it with its default search and, where
`GaussianProcess` takes `starts`, from the kernel's own values alone. The peers are scikit-learn's
GaussianProcessRegressor with the same kernel in its own terms and with random restarts; BoTorch's
fit_gpytorch_mll; and L-BFGS-B on bayesgen's gradient from random starts, a plain reference for the
largest evidence. All start from the same values of the kernel, have zero mean and Gaussian noise of
a variance that is learnt, and are fitted to the same targets of mean 0 and variance 1.

The evidence of every fit is computed anew at its hyperparameters, from the kernel written out in
NumPy and one Cholesky factorisation in float64 without jitter.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import inspect
import json
import math
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import gpytorch
import numpy as np
import pandas as pd
import scipy.linalg
import scipy.optimize
import sklearn.datasets
import torch
from _report import RESULTS
from botorch.exceptions.errors import ModelFittingError
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from gpytorch.constraints import GreaterThan
from gpytorch.kernels import (
    Kernel,
    LinearKernel,
    MaternKernel,
    PeriodicKernel,
    RBFKernel,
    RQKernel,
    ScaleKernel,
    SpectralMixtureKernel,
)
from gpytorch.likelihoods import GaussianLikelihood
from sklearn.gaussian_process import GaussianProcessRegressor, kernels as sk
from threadpoolctl import threadpool_limits
from torch import Tensor

import bayesgen as bg
from bayesgen import kernels
from bayesgen.covariance.gram import gram
from bayesgen.errors import NotConvergedError
from bayesgen.models.gp.objective import LogMarginalLikelihood

T = TypeVar("T")
Data = tuple[np.ndarray, np.ndarray]
WIDE = np.array([1e-5, 1e5])  # scikit-learn's own bounds, here in units of the data
LEAST_NOISE = 1e-6  # of BoTorch's model, whose own default is 1e-4
SPREAD = 1.5  # standard deviation of the random starts in each search coordinate
SAME = 1e-6  # largest difference of a kernel's matrices that rounding explains


# Data.


def series(name: str, folder: Path | None) -> pd.DataFrame:
    """A data set of statsmodels by its name, from the CSV file of the package or in a folder."""
    if folder is not None:
        return pd.read_csv(folder / f"{name}.csv")
    package = importlib.util.find_spec("statsmodels")
    if package is None or package.origin is None:
        raise SystemExit("any_kernel.py needs statsmodels for its data, or --data-dir DIR")
    return pd.read_csv(Path(package.origin).parent / "datasets" / name / f"{name}.csv")


def co2(folder: Path | None) -> Data:
    """Monthly means of CO₂ at Mauna Loa, the last 240 months; inputs in years."""
    table = series("co2", folder)
    weekly = table["co2"].set_axis(pd.to_datetime(table["date"].astype(str), format="%Y%m%d"))
    monthly = weekly.resample("MS").mean().dropna()[-240:]
    when = pd.DatetimeIndex(monthly.index)
    return np.asarray(when.year + (when.month - 1) / 12)[:, None], monthly.to_numpy()


def sunspots(folder: Path | None) -> Data:
    """Square roots of the yearly sunspot numbers, the last 200 years; inputs in years."""
    table = series("sunspots", folder).astype(float)[-200:]
    return table["YEAR"].to_numpy()[:, None], np.sqrt(table["SUNACTIVITY"].to_numpy())


def nile(folder: Path | None) -> Data:
    """Yearly flow of the Nile; inputs in years from the middle of the record."""
    table = series("nile", folder).astype(float)
    year = table["year"].to_numpy()
    return (year - year.mean())[:, None], table["volume"].to_numpy()


def inflation(folder: Path | None) -> Data:
    """Quarterly inflation in the United States; inputs in years."""
    table = series("macrodata", folder).astype(float)
    return (table["year"] + (table["quarter"] - 1) / 4).to_numpy()[:, None], table[
        "infl"
    ].to_numpy()


def trend_and_waves() -> Data:
    """A trend with a wave of period 1 and a slow one, 300 points on [0, 20]."""
    t = np.linspace(0, 20, 300)
    noise = np.random.default_rng(0).standard_normal(300)
    y = 0.3 * t + np.sin(2 * np.pi * t) + 0.5 * np.sin(0.7 * t) + 0.1 * noise
    return t[:, None], y


def fast_wave() -> Data:
    """Ten periods of a noisy sine at 300 uniform points on [0, 1]."""
    generator = np.random.default_rng(0)
    x = np.sort(generator.random(300))
    return x[:, None], np.sin(20 * np.pi * x) + 0.3 * generator.standard_normal(300)


def irrelevant(factor: float) -> Data:
    """Forty points of a sine, and a second input of no meaning times a factor."""
    generator = np.random.default_rng(0)
    u, other = np.sort(generator.random(40)), generator.standard_normal(40)
    y = np.sin(9 * u) + 0.1 * generator.standard_normal(40)
    return np.stack([u, factor * other], 1), y


def period() -> Data:
    """A periodic function of period 4.3, 120 points on [0, 30]."""
    generator = np.random.default_rng(0)
    x = np.sort(30 * generator.random(120))
    angle = 2 * np.pi * x / 4.3
    y = np.sin(angle) + 0.5 * np.cos(2 * angle) + 0.2 * generator.standard_normal(120)
    return x[:, None], y


def two_dimensional() -> Data:
    """A product of two waves and a slope on [−2, 2]², 150 points."""
    generator = np.random.default_rng(0)
    x = generator.uniform(-2, 2, (150, 2))
    y = np.sin(3 * x[:, 0]) * np.cos(2 * x[:, 1]) + 0.5 * x[:, 0]
    return x, y + 0.1 * generator.standard_normal(150)


def diabetes() -> Data:
    """The first 200 rows of scikit-learn's diabetes data, 10 columns as they are."""
    x, y = sklearn.datasets.load_diabetes(return_X_y=True)
    return x[:200], y[:200]


def wine(standardise: bool) -> Data:
    """Proline in 178 wines from the other 12 columns."""
    table, _ = sklearn.datasets.load_wine(return_X_y=True)
    x = table[:, :-1]
    return ((x - x.mean(0)) / x.std(0) if standardise else x), table[:, -1]


# Pairs.


@dataclass(frozen=True)
class Pair:
    """A data set and a kernel.

    Attributes:
        name: what the table calls it.
        data: function that returns the inputs, (n, d), and the targets, (n,).
        make: function from the inputs and standardised targets to a new kernel.
    """

    name: str
    data: Callable[[], Data]
    make: Callable[[Tensor, Tensor], Kernel]

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Inputs, (n, d), and targets of mean 0 and variance 1, (n,), in float64."""
        x, y = self.data()
        return torch.tensor(x), torch.tensor((y - y.mean()) / y.std())

    def kernel(self, x: Tensor, y: Tensor) -> Kernel:
        """A new kernel in float64, the same at each call."""
        torch.manual_seed(0)
        return self.make(x, y).double()


def scaled(*factors: Kernel) -> Kernel:
    """The product of the factors with an outputscale."""
    return ScaleKernel(math.prod(factors[1:], start=factors[0]))


def from_data(x: Tensor, y: Tensor) -> Kernel:
    """A spectral mixture that starts where gpytorch's `initialize_from_data` puts it."""
    kernel = SpectralMixtureKernel(3).double()
    kernel.initialize_from_data(x, y)
    return kernel


def pairs(folder: Path | None) -> list[Pair]:
    """All pairs of data and kernel; the folder has the CSV files of statsmodels, if it is given."""
    carbon, spots, flow = partial(co2, folder), partial(sunspots, folder), partial(nile, folder)

    def pair(name: str, data: Callable[[], Data], make: Callable[[], Kernel]) -> Pair:
        return Pair(name, data, lambda x, y: make())

    return [
        pair("co2, RBF + Periodic", carbon, lambda: scaled(RBFKernel()) + scaled(PeriodicKernel())),
        pair("sunspots, 3 spectral mixtures", spots, lambda: SpectralMixtureKernel(3)),
        Pair("sunspots, 3 spectral mixtures from data", spots, from_data),
        pair("sunspots, RBF", spots, lambda: scaled(RBFKernel())),
        pair(
            "sunspots, Periodic × RBF + RBF",
            spots,
            lambda: scaled(PeriodicKernel(), RBFKernel()) + scaled(RBFKernel()),
        ),
        pair("nile, Linear + RBF", flow, lambda: scaled(LinearKernel()) + scaled(RBFKernel())),
        pair("nile, RQ", flow, lambda: scaled(RQKernel())),
        pair(
            "waves, RBF + Periodic",
            trend_and_waves,
            lambda: scaled(RBFKernel()) + scaled(PeriodicKernel()),
        ),
        pair(
            "waves, RBF + Periodic × RBF + RQ",
            trend_and_waves,
            lambda: (
                scaled(RBFKernel()) + scaled(PeriodicKernel(), RBFKernel()) + scaled(RQKernel())
            ),
        ),
        pair(
            "diabetes, RBF + Linear",
            diabetes,
            lambda: scaled(RBFKernel()) + scaled(LinearKernel()),
        ),
        pair("diabetes, RBF ARD 10", diabetes, lambda: scaled(RBFKernel(ard_num_dims=10))),
        pair("fast sine, RBF", fast_wave, lambda: scaled(RBFKernel())),
        pair(
            "sine and an irrelevant column, RBF ARD 2",
            lambda: irrelevant(1.0),
            lambda: scaled(RBFKernel(ard_num_dims=2)),
        ),
        pair(
            "sine and an irrelevant column × 10⁴, RBF ARD 2",
            lambda: irrelevant(1e4),
            lambda: scaled(RBFKernel(ard_num_dims=2)),
        ),
        pair(
            "wine, Matérn 5/2 ARD 12",
            lambda: wine(True),
            lambda: scaled(MaternKernel(nu=2.5, ard_num_dims=12)),
        ),
        pair(
            "wine in its own units, Matérn 5/2 ARD 12",
            lambda: wine(False),
            lambda: scaled(MaternKernel(nu=2.5, ard_num_dims=12)),
        ),
        pair(
            "inflation, RBF + Matérn 1/2",
            partial(inflation, folder),
            lambda: scaled(RBFKernel()) + scaled(MaternKernel(nu=0.5)),
        ),
        pair("period 4.3, Periodic", period, lambda: scaled(PeriodicKernel())),
        pair(
            "two dimensions, RBF × RBF + Linear",
            two_dimensional,
            lambda: (
                scaled(RBFKernel(active_dims=(0,)), RBFKernel(active_dims=(1,)))
                + scaled(LinearKernel())
            ),
        ),
    ]


# The same kernels in scikit-learn and in NumPy, and the evidence.


def in_sklearn(kernel: Kernel, x: np.ndarray) -> Any:
    """The same function as a scikit-learn kernel that starts at the same values.

    gpytorch's periodic kernel divides by ℓ and scikit-learn's by ℓ². The bounds are `WIDE` in units
    of the standard deviation of a column (length-scales, periods), and of 1 over the mean square of
    the inputs (variance of a linear kernel). Factors of RBF kernels on one column each are one
    kernel with a length-scale for each column.

    Raises:
        TypeError: scikit-learn has no such kernel.
    """
    unit = x.std(0)

    def values(tensor: Tensor) -> Any:
        flat = tensor.detach().reshape(-1).numpy()
        return float(flat[0]) if len(flat) == 1 else flat

    def lengths(values: Any) -> dict[str, Any]:
        bounds = unit.mean() * WIDE if np.ndim(values) == 0 else unit[:, None] * WIDE
        return {"length_scale": values, "length_scale_bounds": bounds}

    def linear(variance: float) -> Any:
        bounds = WIDE / np.square(x).sum(1).mean()
        # gpytorch's linear kernel has no constant term, which is σ₀² in scikit-learn.
        slope = sk.DotProduct(sigma_0=0.0, sigma_0_bounds="fixed")
        return sk.ConstantKernel(variance, bounds) * slope

    match kernel:
        case ScaleKernel(base_kernel=LinearKernel(active_dims=None) as base):
            return linear(values(kernel.outputscale) * values(base.variance))
        case ScaleKernel():
            return sk.ConstantKernel(values(kernel.outputscale), WIDE) * in_sklearn(
                kernel.base_kernel, x
            )
        case gpytorch.kernels.AdditiveKernel():
            first, *others = (in_sklearn(part, x) for part in kernel.kernels)
            return sum(others, start=first)
        case gpytorch.kernels.ProductKernel():
            parts = list(kernel.kernels)
            if all(isinstance(p, RBFKernel) and p.active_dims is not None for p in parts):
                if [p.active_dims.tolist() for p in parts] != [[j] for j in range(x.shape[1])]:
                    raise TypeError("the factors do not have one column each, in order")
                return sk.RBF(**lengths(values(torch.cat([p.lengthscale for p in parts]))))
            return math.prod((in_sklearn(p, x) for p in parts[1:]), start=in_sklearn(parts[0], x))
        case LinearKernel(active_dims=None):
            return linear(values(kernel.variance))
        case RBFKernel(active_dims=None):
            return sk.RBF(**lengths(values(kernel.lengthscale)))
        case MaternKernel(active_dims=None):
            return sk.Matern(nu=kernel.nu, **lengths(values(kernel.lengthscale)))
        case RQKernel(active_dims=None):
            return sk.RationalQuadratic(
                alpha=values(kernel.alpha), alpha_bounds=WIDE, **lengths(values(kernel.lengthscale))
            )
        case PeriodicKernel(active_dims=None):
            return sk.ExpSineSquared(
                math.sqrt(values(kernel.lengthscale)),
                values(kernel.period_length),
                length_scale_bounds=WIDE,
                periodicity_bounds=unit.mean() * WIDE,
            )
        case _:
            raise TypeError(f"scikit-learn has no {type(kernel).__name__}")


def matrix(kernel: Kernel, x: np.ndarray) -> np.ndarray:
    """The matrix of a gpytorch kernel, without gpytorch, (n, n)."""
    if not isinstance(kernel, SpectralMixtureKernel):
        return in_sklearn(kernel, x)(x)
    weights = kernel.mixture_weights.detach().numpy().reshape(-1, 1, 1)
    widths = kernel.mixture_scales.detach().numpy().reshape(-1, 1, 1)
    means = kernel.mixture_means.detach().numpy().reshape(-1, 1, 1)
    lag = x - x.T
    decay = np.exp(-2 * (np.pi * lag * widths) ** 2)
    return (weights * decay * np.cos(2 * np.pi * lag * means)).sum(0)


def log_density(covariance: np.ndarray, y: np.ndarray) -> float:
    """log N(y; 0, covariance), or NaN where the covariance is not finite and positive definite."""
    if not np.isfinite(covariance).all():
        return math.nan
    try:
        lower = np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        return math.nan
    white = scipy.linalg.solve_triangular(lower, y, lower=True)
    logdet = np.log(np.diagonal(lower)).sum()
    return float(-0.5 * white @ white - logdet - 0.5 * len(y) * math.log(2 * math.pi))


def evidence(kernel: Kernel, scale: float, noise: float, x: Tensor, y: Tensor) -> float:
    """log p(y) under the covariance scale · kernel + noise · I, by one Cholesky factorisation."""
    covariance = scale * matrix(kernel, x.numpy())
    covariance[np.diag_indices_from(covariance)] += noise
    return log_density(covariance, y.numpy())


def check_same(pair: Pair) -> float:
    """Largest difference of the kernel's matrix from that without gpytorch, at random values.

    Raises:
        SystemExit: they are not the same function.
    """
    x, y = pair.tensors()
    kernel = pair.kernel(x, y)
    with torch.no_grad():
        for parameter in kernel.parameters():
            parameter += 0.5 * torch.randn_like(parameter)
        theirs = kernel(x).to_dense().numpy()
    gap = float(np.abs(theirs - matrix(kernel, x.numpy())).max() / np.abs(theirs).max())
    if not gap < SAME:
        raise SystemExit(f"{pair.name}: the kernels are not the same function, gap {gap:.1e}")
    return gap


# Fits.


@dataclass(frozen=True)
class Fit:
    """What one fit found.

    Attributes:
        evidence: log p(y) in nats at its hyperparameters; NaN where it failed.
        seconds: CPU seconds.
        where: its hyperparameters, to read.
    """

    evidence: float
    seconds: float
    where: str = ""


def cpu(function: Callable[[], T]) -> tuple[float, T]:
    """Median CPU seconds of up to three runs, one where it takes a second, and the last result."""
    seconds: list[float] = []
    while len(seconds) < 3 and sum(seconds) < 1:
        start = time.process_time()
        result = function()
        seconds.append(time.process_time() - start)
    return statistics.median(seconds), result


def told(kernel: Kernel, scale: float, noise: float) -> str:
    """The hyperparameters of a fit, to read."""
    parts = [f"scale {scale:.5g}", f"noise {noise:.5g}"]
    for name, raw, constraint in kernel.named_parameters_and_constraints():
        values = constraint.transform(raw) if constraint is not None else raw
        numbers = " ".join(f"{v:.5g}" for v in values.detach().reshape(-1).tolist())
        parts.append(f"{name.replace('raw_', '')} {numbers}")
    return ", ".join(parts)


def by_bayesgen(pair: Pair, **options: Any) -> tuple[Fit, float]:
    """A fit by bayesgen, and how far the evidence that it reports is from that computed anew."""
    x, y = pair.tensors()
    kernel = pair.kernel(x, y)

    def fit() -> tuple[Any, float]:
        posterior = bg.GaussianProcess(kernel, **options).fit(x, y)
        return posterior, float(posterior.evidence.log_marginal_likelihood)

    seconds, (posterior, reported) = cpu(fit)
    scale, noise = float(posterior.scale), float(posterior.noise)
    value = evidence(posterior.kernels[0], scale, noise, x, y)
    return Fit(value, seconds, told(posterior.kernels[0], scale, noise)), abs(value - reported)


def by_sklearn(pair: Pair, restarts: int) -> Fit | None:
    """A fit by scikit-learn with random restarts, or None where it has no such kernel."""
    x, y = pair.tensors()
    try:
        kernel = in_sklearn(pair.kernel(x, y), x.numpy())
    except TypeError:
        return None
    kernel += sk.WhiteKernel(math.log(2), WIDE)  # where gpytorch's noise variance starts

    def fit() -> GaussianProcessRegressor | None:
        model = GaussianProcessRegressor(kernel, n_restarts_optimizer=restarts, random_state=0)
        try:
            return model.fit(x.numpy(), y.numpy())
        except np.linalg.LinAlgError:
            return None

    seconds, model = cpu(fit)
    if model is None:
        return Fit(math.nan, seconds)
    return Fit(log_density(model.kernel_(x.numpy()), y.numpy()), seconds, str(model.kernel_))


def by_botorch(pair: Pair) -> Fit:
    """A fit by BoTorch, without priors."""
    x, y = pair.tensors()

    def fit() -> SingleTaskGP | None:
        model = SingleTaskGP(
            x,
            y[:, None],
            likelihood=GaussianLikelihood(noise_constraint=GreaterThan(LEAST_NOISE)),
            covar_module=pair.kernel(x, y),
            mean_module=gpytorch.means.ZeroMean(),
            outcome_transform=None,
        )
        try:
            fit_gpytorch_mll(gpytorch.ExactMarginalLogLikelihood(model.likelihood, model))
        except ModelFittingError:
            return None
        return model

    seconds, model = cpu(fit)
    if model is None:
        return Fit(math.nan, seconds)
    kernel, noise = model.covar_module, float(model.likelihood.noise)
    return Fit(evidence(kernel, 1.0, noise, x, y), seconds, told(kernel, 1.0, noise))


def by_restarts(pair: Pair, restarts: int) -> Fit:
    """The best of L-BFGS-B on bayesgen's gradient from the kernel's own values and random ones."""
    x, y = pair.tensors()
    kernel, scale, _ = kernels.resolve(pair.kernel(x, y), x)
    matrices = gram(kernel, x)
    objective = LogMarginalLikelihood(matrices, y[:, None])
    own = np.array([*matrices.start().tolist(), float(scale.log()), math.log(0.1)])
    bounds = [(None, None)] * (len(own) - 2) + [(-23, 23), (-23, 7)]

    def negative(values: np.ndarray) -> tuple[float, np.ndarray]:
        at = torch.tensor(values)
        try:
            result = objective(at[:-2], at[-2].exp(), at[-1].exp())
        except (ValueError, RuntimeError, NotConvergedError):
            return 1e8, np.zeros_like(values)
        slopes = [*result.kernel.tolist(), float(result.log_scale), float(result.log_noise)]
        if not np.isfinite([float(result.value), *slopes]).all():
            return 1e8, np.zeros_like(values)
        return -float(result.value), -np.array(slopes)

    def fit() -> tuple[float, str]:
        generator, best = np.random.default_rng(0), (math.nan, "")
        for k in range(restarts + 1):
            start = own + (SPREAD * generator.standard_normal(len(own)) if k else 0.0)
            found = scipy.optimize.minimize(
                negative,
                start,
                jac=True,
                method="L-BFGS-B",
                bounds=bounds,
                options={"maxiter": 500, "ftol": 1e-12, "gtol": 1e-6},
            )
            at = torch.tensor(found.x)
            try:
                setting = (matrices.kernel(at[:-2]), float(at[-2].exp()), float(at[-1].exp()))
                value = evidence(*setting, x, y)
            except ValueError:  # parameters that are not finite, or not positive
                continue
            if math.isnan(best[0]) or value > best[0]:
                best = (value, told(*setting))
        return best

    seconds, (value, where) = cpu(fit)
    return Fit(value, seconds, where)


def peers(pair: Pair, restarts: int) -> dict[str, Fit | None]:
    """The fits of all peers, by their names."""
    return {
        "sklearn": by_sklearn(pair, restarts),
        "sklearn_one_start": by_sklearn(pair, 0),
        "botorch": by_botorch(pair),
        "restarts": by_restarts(pair, restarts),
    }


def warm_up() -> None:
    """Fit a few points by each method, so that imports and first calls are not in the seconds."""
    x, y = period()
    two = scaled(RBFKernel()) + scaled(PeriodicKernel())
    for kernel in (two, scaled(RBFKernel())):
        small = Pair("warm-up", lambda: (x[:20], y[:20]), lambda x, y, k=kernel: copy.deepcopy(k))
        by_bayesgen(small)
        peers(small, 0)


# Peers' results in a file, and the table.


def stored(fits: dict[str, Fit | None], restarts: int) -> dict[str, Any]:
    """The peers' results as JSON can keep them; NaN becomes null."""
    result: dict[str, Any] = {"number_of_restarts": restarts}
    for name, fit in fits.items():
        for key, value in asdict(fit).items() if fit is not None else ():
            label = name if key == "evidence" else f"{name}_{key}"
            result[label] = None if value != value else value
    return result


def recalled(entry: dict[str, Any]) -> dict[str, Fit | None]:
    """The peers' results that `stored` made."""

    def fit(name: str) -> Fit | None:
        if f"{name}_seconds" not in entry:
            return None
        value = math.nan if entry[name] is None else entry[name]
        return Fit(value, entry[f"{name}_seconds"], entry[f"{name}_where"])

    return {name: fit(name) for name in ("sklearn", "sklearn_one_start", "botorch", "restarts")}


@dataclass(frozen=True)
class Row:
    """The results of one pair.

    Attributes:
        name: the pair's name.
        n: number of points.
        parameters: number of hyperparameters, of the kernel and the noise.
        own: bayesgen's default fit.
        one: bayesgen's fit from one start, where it can be asked for.
        peers: the peers' fits.
        error: how far bayesgen's own value of its evidence is from that computed anew.
    """

    name: str
    n: int
    parameters: int
    own: Fit
    one: Fit | None
    peers: dict[str, Fit | None]
    error: float

    @property
    def shortfall(self) -> float:
        """How much more evidence than bayesgen the best of all has, in nats; ∞ if it has none."""
        if math.isnan(self.own.evidence):
            return math.inf
        values = [fit.evidence for fit in self.peers.values() if fit is not None]
        return max([v - self.own.evidence for v in values if not math.isnan(v)] + [0.0])

    @property
    def ratio(self) -> float | None:
        """CPU seconds of bayesgen over those of scikit-learn with its restarts."""
        return _over(self.own, self.peers["sklearn"])

    @property
    def ratio_of_one(self) -> float | None:
        """CPU seconds of bayesgen from one start over those of scikit-learn from one start."""
        return _over(self.one, self.peers["sklearn_one_start"])

    def cells(self) -> list[str]:
        """The row of the table."""
        fits = [self.own, *(self.peers[k] for k in ("sklearn", "botorch", "restarts"))]
        first = self.peers["sklearn_one_start"]
        timed = [self.own, self.one, self.peers["sklearn"], first, *fits[2:]]
        return [
            self.name,
            str(self.n),
            str(self.parameters),
            *("—" if f is None or math.isnan(f.evidence) else f"{f.evidence:.3f}" for f in fits),
            f"{self.shortfall:.3f}",
            *("—" if f is None else f"{f.seconds:.2f}" for f in timed),
            *("—" if r is None else f"{r:.2f}" for r in (self.ratio, self.ratio_of_one)),
        ]


def _over(ours: Fit | None, theirs: Fit | None) -> float | None:
    return None if ours is None or theirs is None else ours.seconds / theirs.seconds


HEADER = [
    "pair",
    "n",
    "parameters",
    "bayesgen",
    "scikit-learn",
    "BoTorch",
    "random starts",
    "shortfall",
    "bayesgen, s",
    "one start, s",
    "scikit-learn, s",
    "its first start, s",
    "BoTorch, s",
    "random starts, s",
    "bayesgen / scikit-learn",
    "one start / one start",
]


def report(rows: list[Row], command: str, restarts: int, again: bool) -> str:
    """The table in Markdown, with the largest shortfall and ratios in the last line."""

    def largest(name: str) -> str:
        known = [(getattr(r, name), r.name) for r in rows if getattr(r, name) is not None]
        return "unknown" if not known else "{:.3f} ({})".format(*max(known))

    versions = ", ".join(
        f"{name} {metadata.version(name)}"
        for name in ("torch", "gpytorch", "scikit-learn", "botorch", "scipy")
    )
    notes = (
        "Evidence log p(y) in nats, computed anew at the hyperparameters of each fit by one "
        "Cholesky factorisation in float64; CPU seconds of one thread, the median of up to three "
        "fits where a fit takes less than a second. The shortfall is how much more evidence than "
        "bayesgen the best of all has. scikit-learn and the random starts have "
        f"{restarts} restarts after a first start from the kernel's own values."
        + (" The peers' results are from an earlier run." if again else "")
    )
    missing = "" if any(r.one for r in rows) else " This bayesgen cannot be asked for one start."
    lines = [
        "# Evidence and time of fits of any kernel",
        "",
        f"`{command}`",
        "",
        f"| {' | '.join(HEADER)} |",
        f"| --- |{' ---: |' * (len(HEADER) - 1)}",
        *(f"| {' | '.join(row.cells())} |" for row in rows),
        "",
        notes + missing,
        "",
        f"Machine: {platform.machine()}, one thread; {versions}.",
        "",
        f"The evidence that bayesgen reports is within {max(r.error for r in rows):.1e} nats of "
        f"that computed anew. The largest shortfall in nats is {largest('shortfall')}. The largest "
        f"ratio to scikit-learn with {restarts} restarts is {largest('ratio')}, and with one start "
        f"each {largest('ratio_of_one')}.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", help="pairs whose name contains this")
    parser.add_argument("--restarts", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="two restarts, and no file")
    parser.add_argument("--data-dir", type=Path, help="folder with the CSV files of statsmodels")
    parser.add_argument("--peers", type=Path, help="JSON file to keep the peers' results in")
    parser.add_argument("--out", type=Path, help="the table; benchmarks/results/any_kernel.md")
    options = parser.parse_args()
    every = pairs(options.data_dir)
    restarts = 2 if options.quick else options.restarts
    chosen = [p for p in every if not options.only or any(o in p.name for o in options.only)]
    if not chosen:
        parser.error(f"no pair has such a name: {'; '.join(p.name for p in every)}")
    can_start_once = "starts" in inspect.signature(bg.GaussianProcess.__init__).parameters
    kept = options.peers is not None and options.peers.exists()
    known: dict[str, Any] = json.loads(options.peers.read_text()) if kept else {}
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of bounds, of steps that needed a jitter, of raw inputs
    rows, again = [], False
    with threadpool_limits(1):
        warm_up()
        for pair in chosen:
            check_same(pair)
            x, y = pair.tensors()
            size = sum(p.numel() for p in kernels.free_parameters(pair.kernel(x, y))) + 1
            entry = known.get(pair.name)
            if entry is not None and entry["number_of_restarts"] == restarts:
                others, again = recalled(entry), True
            else:
                others = peers(pair, restarts)
                known[pair.name] = stored(others, restarts)
                if options.peers is not None:
                    options.peers.write_text(json.dumps(known, indent=1, ensure_ascii=False))
            own, error = by_bayesgen(pair)
            one = by_bayesgen(pair, starts=1)[0] if can_start_once else None
            row = Row(pair.name, len(x), size, own, one, others, error)
            rows.append(row)
            print(" | ".join(row.cells()), flush=True)
    command = "OMP_NUM_THREADS=1 python benchmarks/any_kernel.py"
    for only in options.only or ():
        command += f' --only "{only}"'
    command += " --quick" if options.quick else f" --restarts {restarts}"
    text = report(rows, command, restarts, again)
    print(text)
    whole = not options.only and not options.quick
    out = options.out or (RESULTS / "any_kernel.md" if whole else None)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text)


if __name__ == "__main__":
    main()
