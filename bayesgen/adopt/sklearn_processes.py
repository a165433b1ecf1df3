"""Gaussian process regressors of scikit-learn as posteriors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import gpytorch
import numpy as np
import torch
from torch import Tensor

from bayesgen import kernels
from bayesgen._internal import checks
from bayesgen.adopt.kept_data import same_values
from bayesgen.covariance.gram import gram
from bayesgen.models.gp.model import GaussianProcess
from bayesgen.models.standardised import Scaling, StandardisedPosterior
from bayesgen.posterior.posterior import Posterior

# Largest relative difference between scikit-learn's covariances and those of a kernel made of them.
_SAME = 1e-10
# Number of points at which they are compared.
_FEW = 30


def reads(model: Any) -> bool:
    """Whether a model is a `GaussianProcessRegressor`."""
    from sklearn.gaussian_process import GaussianProcessRegressor

    return isinstance(model, GaussianProcessRegressor)


def posterior_of(model: Any, x: Any = None, y: Any = None) -> Posterior:
    """The posterior of a `GaussianProcessRegressor`; see `bayesgen.evidence_of`."""
    if not hasattr(model, "X_train_"):
        raise ValueError("model must be fitted, got a GaussianProcessRegressor that is not")
    inputs = checks.owned(checks.inputs("X_train_", np.asarray(model.X_train_, dtype=float)))
    targets = checks.owned(checks.as_tensor("y_train_", np.asarray(model.y_train_, dtype=float)))
    inputs = same_values("x", inputs, x)
    if not model.normalize_y:
        targets = same_values("y", targets, y)
    theirs, white = _without_noise(model.kernel_)
    alpha = np.asarray(model.alpha, dtype=float)
    noise = torch.from_numpy(np.broadcast_to(alpha + white, len(inputs)).copy())
    if bool((noise == noise[0]).all()):
        noise = noise[:1].reshape(())
    process: Any = GaussianProcess(_kernel(theirs, inputs), noise, hyperparameters="fixed")
    found = process.fit(inputs, targets)
    _check_covariances(model, found, noise)
    if model.optimizer is not None:
        found.learnt = frozenset({"kernel", "scale", "noise"})
        found.learn(start=False)
    if not model.normalize_y:
        posterior: Posterior = found
        return posterior
    centre = torch.as_tensor(model._y_train_mean, dtype=torch.float64).reshape(-1)
    size = torch.as_tensor(model._y_train_std, dtype=torch.float64).reshape(-1)
    y_scaling = Scaling(centre, size)
    none = Scaling(inputs.new_zeros(1, inputs.shape[1]), inputs.new_ones(1, inputs.shape[1]))
    whole = same_values("y", y_scaling.outward(targets), y)
    return StandardisedPosterior(found, inputs, whole, none, y_scaling)


def _check_covariances(model: Any, found: Any, noise: Tensor) -> None:
    """Refuse a posterior whose covariances of the targets are not those of the fit.

    A subclass of a kernel of scikit-learn may have another covariance than its name says, and
    hyperparameters may have been set after the fit. Some of the covariances are compared.

    Raises:
        ValueError: they differ.
    """
    lower = torch.from_numpy(np.asarray(model.L_, dtype=float))[:_FEW, :_FEW]
    theirs = lower @ lower.mT
    ours = found.scale * found._gram.full(found._theta[0], found._gram.x[:_FEW])
    ours = ours + noise.expand(len(model.X_train_))[:_FEW].diag()
    size = float(theirs.abs().max())
    if not torch.allclose(ours, theirs, rtol=0, atol=1e-4 * size):
        raise ValueError(
            "model must have the covariances of its fit, but those of kernel_ and alpha differ "
            f"from the matrix that it has decomposed: {model.kernel_} was set after the fit, or "
            "has parts that are not those of scikit-learn"
        )


def _without_noise(kernel: Any) -> tuple[Any, float]:
    """A kernel without the terms of its sum that are white noise, and their variance."""
    from sklearn.gaussian_process import kernels as sk

    if isinstance(kernel, sk.WhiteKernel):
        return None, float(kernel.noise_level)
    if isinstance(kernel, sk.Sum):
        (one, first), (two, second) = map(_without_noise, (kernel.k1, kernel.k2))
        if one is None or two is None:
            return (two if one is None else one), first + second
        return sk.Sum(one, two), first + second
    inside = [k for k in kernel.get_params().values() if isinstance(k, sk.WhiteKernel)]
    if inside:
        raise TypeError(
            f"kernel_ must have a WhiteKernel as a term of its sum only, got one inside of {kernel}"
        )
    return kernel, 0.0


def _kernel(theirs: Any, x: Tensor) -> Any:
    """A kernel of gpytorch with the same covariances, or a function that calls scikit-learn's."""
    if theirs is None:
        return _constant(1e-300)
    own = _translated(theirs, x.shape[1])
    if own is None:
        return _called(theirs)
    few = x[:: max(1, len(x) // _FEW)][:_FEW]
    wanted = torch.from_numpy(theirs(few.numpy()))
    kernel, scale, _ = kernels.resolve(own.double(), few)
    matrices = gram(kernel, few)
    got = scale * matrices.matrix(matrices.start())
    if float((got - wanted).abs().max()) <= _SAME * float(wanted.abs().max()):
        return own
    return _called(theirs)


def _called(theirs: Any) -> Callable[[Tensor, Tensor], Tensor]:
    def covariance(x1: Tensor, x2: Tensor) -> Tensor:
        found = theirs(x1.detach().cpu().numpy(), x2.detach().cpu().numpy())
        return torch.from_numpy(np.asarray(found)).to(x1)

    return covariance


def _translated(k: Any, d: int) -> Any:
    """The gpytorch kernel of the same form, or None where there is none."""
    from sklearn.gaussian_process import kernels as sk

    if isinstance(k, sk.Sum | sk.Product):
        parts = [_translated(part, d) for part in (k.k1, k.k2)]
        if None in parts:
            return None
        return _added(*parts) if isinstance(k, sk.Sum) else _multiplied(*parts)
    if isinstance(k, sk.ConstantKernel):
        return _constant(float(k.constant_value))
    if isinstance(k, sk.Matern) and k.nu in (0.5, 1.5, 2.5):
        return _scaled(gpytorch.kernels.MaternKernel, k.length_scale, nu=k.nu)
    if type(k) is sk.RBF or (isinstance(k, sk.Matern) and k.nu == math.inf):
        return _scaled(gpytorch.kernels.RBFKernel, k.length_scale)
    if isinstance(k, sk.RationalQuadratic):
        found = _scaled(gpytorch.kernels.RQKernel, k.length_scale)
        found.alpha = _exact(k.alpha)
        return found
    if isinstance(k, sk.ExpSineSquared) and d == 1:
        found = gpytorch.kernels.PeriodicKernel().double()
        found.lengthscale = _exact(k.length_scale**2)
        found.period_length = _exact(k.periodicity)
        return found
    if isinstance(k, sk.DotProduct):
        linear = gpytorch.kernels.LinearKernel().double()
        linear.variance = _exact(1.0)
        if k.sigma_0 == 0:
            return linear
        return _added(linear, _constant(float(k.sigma_0) ** 2))
    return None


def _exact(value: Any) -> Tensor:
    """A number in double precision, which gpytorch would round to single precision."""
    return torch.tensor(float(value), dtype=torch.float64)


def _constant(value: float) -> Any:
    kernel = gpytorch.kernels.ConstantKernel().double()
    kernel.constant = _exact(value)
    return kernel


def _scaled(kind: Any, lengthscale: Any, **more: Any) -> Any:
    values = np.atleast_1d(np.asarray(lengthscale, dtype=float))
    ard = {"ard_num_dims": len(values)} if len(values) > 1 else {}
    kernel = kind(**more, **ard).double()
    kernel.lengthscale = torch.from_numpy(values)
    return kernel


def _added(*parts: Any) -> Any:
    return gpytorch.kernels.AdditiveKernel(*parts)


def _multiplied(*parts: Any) -> Any:
    """A product, in which a constant factor is an outputscale."""
    constants = [p for p in parts if isinstance(p, gpytorch.kernels.ConstantKernel)]
    others = [p for p in parts if not isinstance(p, gpytorch.kernels.ConstantKernel)]
    if len(constants) != 1 or len(others) != 1:
        return gpytorch.kernels.ProductKernel(*parts)
    scaled = gpytorch.kernels.ScaleKernel(others[0]).double()
    scaled.outputscale = constants[0].constant.detach().reshape(())
    return scaled
