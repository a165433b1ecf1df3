"""Prior means m(x), and the parameters of a mean that is linear in them.

Given the covariances A_c of the outputs, the evidence of y_c = m(X) + H_c β + f + ε has its maximum
at the generalised least squares estimate

    β̂ = (Σ_c H_cᵀ A_c⁻¹ H_c)⁻¹ Σ_c H_cᵀ A_c⁻¹ (y_c − m(X)).

Source: Rasmussen & Williams (2006), section 2.7; Aitken (1936).
"""

from __future__ import annotations

import copy
import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import gpytorch
import numpy as np
import torch
from torch import Tensor, nn

from bayesgen import solvers
from bayesgen._internal import checks
from bayesgen.covariance.gram import Gram
from bayesgen.models.gp.gradient_search import GaussianObjective
from bayesgen.models.gp.objective import covariance, noise_groups, spread
from bayesgen.models.gp.problem import MeanFunction, zero_mean


@dataclass(frozen=True)
class PriorMean:
    """A prior mean given by a function or a module; its values are checked at each call.

    Attributes:
        function: x (m, d) → (), (m,), (m, 1) or (m, C).
        outputs: number of outputs C.
    """

    function: Callable[[Tensor], Any]
    outputs: int

    def __call__(self, x: Tensor) -> Tensor:
        """Values at inputs (m, d), (m, 1) or (m, C), without autograd graph.

        Raises:
            TypeError, ValueError: the values have another dtype or shape, or are not finite.
        """
        with torch.no_grad():
            values = checks.real("mean(x)", self.function(x), like=x)
        values = checks.owned(values)  # it may be a view of a parameter
        m, C = len(x), self.outputs
        if tuple(values.shape) not in ((), (m,), (m, 1), (m, C)):
            allowed = ", ".join(str(s) for s in dict.fromkeys([(m,), (m, 1), (m, C)]))
            raise ValueError(
                f"mean(x) must have one row for each of the {m} inputs, of shape {allowed}, got "
                f"{tuple(values.shape)}"
            )
        if values.ndim == 0:
            return values.expand(m, 1)
        return values[:, None] if values.ndim == 1 else values


@dataclass(frozen=True)
class Constant:
    """A prior mean that does not depend on x: its value for each output, (1,) or (C,)."""

    value: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Values at inputs (m, d), (m, 1) or (m, C)."""
        return self.value.expand(len(x), -1)


@dataclass(frozen=True)
class LinearInParameters(PriorMean):
    """A module of gpytorch whose values are linear in its free parameters β.

    Attributes:
        function: the module.
        outputs: number of outputs C.
    """

    @property
    def module(self) -> nn.Module:
        """The module, which belongs to this mean."""
        assert isinstance(self.function, nn.Module)
        return self.function

    def named(self) -> dict[str, Tensor]:
        """Values of the free parameters by name, such as "mean.constant"."""
        return {
            f"mean.{name.replace('raw_', '')}": value.detach()
            for name, value in self.module.named_parameters()
            if value.requires_grad
        }

    def slopes(self, x: Tensor) -> Tensor:
        """Derivatives H of the values in β, (m, C, q), in float64.

        Raises:
            ValueError: the values are not linear in β.
        """
        own = copy.deepcopy(self.module).double()
        x, free = x.double(), [p for p in own.parameters() if p.requires_grad]
        count, at = sum(p.numel() for p in free), PriorMean(own, self.outputs)

        def values(beta: Tensor) -> Tensor:
            _write(free, beta)
            return at(x).expand(-1, self.outputs)

        base = values(x.new_zeros(count))
        H = torch.stack([values(e) - base for e in torch.eye(count).to(x)], -1)
        generator = torch.Generator().manual_seed(0)
        beta = torch.randn(count, generator=generator, dtype=torch.float64).to(x)
        size = base.abs() + (H * beta).abs().sum(-1)
        if ((values(beta) - base - H @ beta).abs() > 1e-9 * size).any():
            raise ValueError(
                f"mean {type(own).__name__} is not linear in its parameters, so that they cannot "
                'be learnt; keep them, with requires_grad_(False) or hyperparameters="fixed"'
            )
        return H

    def moved(self, change: Tensor) -> LinearInParameters:
        """The mean at β + change, for a change (q,)."""
        module = copy.deepcopy(self.module)
        free = [p for p in module.parameters() if p.requires_grad]
        own = torch.cat([p.detach().reshape(-1) for p in free])
        _write(free, own + change.to(own))
        return replace(self, function=module)


def _write(parameters: list[nn.Parameter], values: Tensor) -> None:
    parts = values.split([p.numel() for p in parameters])
    with torch.no_grad():
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.copy_(part.reshape(parameter.shape))


def has_parameters(mean: Any) -> bool:
    """Whether a user's mean is a module of gpytorch with free parameters, which can be learnt."""
    module = isinstance(mean, gpytorch.means.Mean)
    return module and any(p.requires_grad for p in mean.parameters())


def is_zero(mean: Any) -> bool:
    """Whether a user's mean is the number 0."""
    return isinstance(mean, numbers.Real) and float(mean) == 0


def check(mean: Any) -> Any:
    """Check what can be checked of a user's mean without data, and return it.

    Raises:
        TypeError, ValueError: the mean is neither finite numbers nor a function nor a module.
    """
    if callable(mean) or (isinstance(mean, numbers.Real) and math.isfinite(mean)):
        return mean
    if isinstance(mean, numbers.Real):
        raise ValueError(f"mean must be finite, got {mean}")
    values = checks.as_tensor("mean", mean)
    if values.is_complex() or not values.numel():
        raise ValueError(f"mean must hold real numbers, of shape (C,), got {mean!r}")
    if not torch.isfinite(values).all():
        raise ValueError(f"mean must be finite, got {mean!r}")
    return mean


def resolve(mean: Any, like: Tensor, outputs: int) -> MeanFunction:
    """A user's mean as a function from x (m, d) to (m, 1) or (m, C).

    Modules are copied, in the dtype of the inputs, and put into evaluation mode.

    Args:
        mean: a number, a tensor (C,), a function or a module.
        like: inputs of the fit.
        outputs: number of outputs C.

    Raises:
        TypeError, ValueError: the mean is none of these; it has another shape or is not finite.
    """
    if is_zero(mean):
        return zero_mean
    if isinstance(mean, nn.Module):
        module = copy.deepcopy(mean).to(dtype=like.dtype, device=like.device).eval()
        kind = LinearInParameters if has_parameters(mean) else PriorMean
        return kind(module, outputs)
    if callable(mean):
        if isinstance(mean, type):
            raise TypeError(f"mean must be an instance, got the class {mean.__name__}")
        return PriorMean(mean, outputs)
    number = isinstance(mean, numbers.Real)
    given = like.new_tensor(float(mean)) if number else checks.as_tensor("mean", mean)
    value = checks.owned(checks.real("mean", given.to(like.dtype), like=like))
    if tuple(value.shape) not in ((), (1,), (outputs,)):
        raise ValueError(
            f"mean must be a number, of shape (C,) = ({outputs},), or a function of x, got shape "
            f"{tuple(value.shape)}"
        )
    return Constant(value.reshape(-1))


class MeanSpace:
    """The values Hβ at the inputs that a mean can take, with an orthonormal basis U (n, C, r).

    Args:
        slopes: derivatives H of the values in β, (n, C, q).
    """

    def __init__(self, slopes: Tensor) -> None:
        n, C, q = slopes.shape
        size = slopes.square().sum((0, 1)).sqrt()
        self._unit = torch.where(size > 0, size, 1.0)
        left, values, right = torch.linalg.svd(
            (slopes / self._unit).reshape(n * C, q), full_matrices=False
        )
        keep = values > n * C * torch.finfo(values.dtype).eps * values[:1]
        self.basis = left[:, keep].reshape(n, C, -1)
        self._back = right[keep].mT / values[keep]

    def coefficients(self, gamma: Tensor) -> Tensor:
        """The parameters β (q,) of smallest norm, in units of H, whose values are Uγ."""
        return (self._back @ gamma) / self._unit

    def project(self, y: Tensor) -> Tensor:
        """Least squares estimate of γ for targets (n, C)."""
        return torch.einsum("ncr,nc->r", self.basis, y)

    def estimate(
        self, gram: Gram, y: Tensor, theta: Tensor, scale: Tensor, noise: Tensor
    ) -> Tensor:
        """Generalised least squares estimate of γ at given hyperparameters.

        Args:
            gram: kernel on the inputs.
            y: targets, (n, C).
            theta, scale: kernel parameters (p,) and outputscale ().
            noise: noise variance, (), (n,) or (n, C).
        """
        r = self.basis.shape[-1]
        normal, right = y.new_zeros(r, r), y.new_zeros(r)
        for group in noise_groups(spread(noise)):
            factor = solvers.cholesky(partial(covariance, gram, theta, scale, group.noise))
            U = self.basis[:, group.outputs]
            solved = factor.solve(U.reshape(len(U), -1)).reshape(U.shape)
            normal += torch.einsum("ncr,ncs->rs", U, solved)
            right += torch.einsum("ncr,nc->r", solved, y[:, group.outputs])
        return torch.linalg.solve(normal, right)

    def values(self, gamma: Tensor) -> Tensor:
        """The values Uγ at the inputs, (n, C)."""
        return self.basis @ gamma


class ProfiledObjective:
    """The log marginal likelihood of one task at the best mean; see `multistart.Objective`.

    By the envelope theorem, its gradient is that with the mean kept. Covariances and mean are
    orthogonal in Fisher's information, so that the curvatures are those of the base.

    Args:
        base: the log marginal likelihood with another mean, on the same points.
        space: values that the mean can take.
    """

    def __init__(self, base: GaussianObjective, space: MeanSpace) -> None:
        self.base, self.space, self.size = base, space, base.size

    def __call__(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values in nats (S,) and gradients (S, P) at z (S, P)."""
        values, gradients = np.full(len(z), np.nan), np.full(z.shape, np.nan)
        failure: ValueError | None = None
        for k, one in enumerate(z):
            try:
                found = self._at(one)(one[None])
            except ValueError as err:
                failure = err
                continue
            values[k], gradients[k] = found[0][0], found[1][0]
        if failure is not None and not np.isfinite(values).any():
            raise failure
        return values, gradients

    def values(self, z: np.ndarray) -> np.ndarray:
        """Values in nats (S,) at z (S, P), NaN where there is none."""
        try:
            return self(z)[0]
        except ValueError:
            return np.full(len(z), np.nan)

    def curvatures(self, z: np.ndarray) -> np.ndarray:
        """Fisher information (S, P, P) at z (S, P)."""
        return self.base.curvatures(z)

    def estimate(self, z: np.ndarray) -> Tensor:
        """The best γ at z (P,)."""
        base = self.base
        return self.space.estimate(base.gram, base.y, *base.split(z))

    def _at(self, z: np.ndarray) -> GaussianObjective:
        rest = self.base.y - self.space.values(self.estimate(z))
        return GaussianObjective(self.base.gram, rest, self.base.noise)
