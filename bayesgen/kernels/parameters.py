"""The free parameters of a kernel as a vector of search coordinates θ.

The coordinate of a parameter that its constraint keeps positive is its logarithm, and a constraint
with further limits bounds the coordinate. Any other parameter is its own coordinate. A change of a
coordinate therefore has the same meaning in every unit of the inputs and targets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import gpytorch
import torch
from gpytorch.kernels import Kernel
from torch import Tensor

from bayesgen.kernels.structure import KernelPart, parts

# Roles of parameters: what they measure, and with it their unit.
LENGTH, PERIOD, FREQUENCY, BANDWIDTH = "length-scale", "period", "frequency", "bandwidth"
VARIANCE, SQUARE, SHAPE, OTHER = "variance", "square", "shape", "other"

UNITS = {
    LENGTH: "units of x",
    PERIOD: "units of x",
    FREQUENCY: "1 / units of x",
    BANDWIDTH: "1 / units of x",
    VARIANCE: "units of y²",
    SQUARE: "units of x²",
    SHAPE: "",
    OTHER: "",
}

_ROLES = {
    "raw_lengthscale": LENGTH,
    "raw_period_length": PERIOD,
    "raw_mixture_means": FREQUENCY,
    "raw_mixture_scales": BANDWIDTH,
    "raw_mixture_weights": VARIANCE,
    "raw_outputscale": VARIANCE,
    "raw_variance": VARIANCE,
    "raw_constant": VARIANCE,
    "raw_alpha": SHAPE,
}
# Relative distance of a coordinate's box from the ends of its constraint, in rounding units: the
# constraints of gpytorch are open intervals.
_INSIDE = 8


def register_role(kernel_type: type, name: str, role: str) -> None:
    """Register the role of a parameter of one kernel type, which determines how starts are drawn.

    Args:
        kernel_type: type of the kernel.
        name: name of the raw parameter, such as "raw_lengthscale".
        role: one of the roles of this module.

    Raises:
        ValueError: the role is unknown.
    """
    if role not in UNITS:
        raise ValueError(f"role must be one of {', '.join(UNITS)}, got {role!r}")
    _OF_TYPE[kernel_type, name] = role


# The length-scale of gpytorch's PeriodicKernel measures the phase and has no unit.
_OF_TYPE: dict[tuple[type, str], str] = {
    (gpytorch.kernels.PeriodicKernel, "raw_lengthscale"): SHAPE,
    (gpytorch.kernels.PolynomialKernel, "raw_offset"): SQUARE,
}


@dataclass(frozen=True)
class Parameter:
    """One free parameter tensor of a kernel.

    Attributes:
        name: name for tables, such as "RBF.lengthscale".
        attribute: name of the raw parameter in its module, such as "raw_lengthscale".
        role: what the parameter measures.
        part: the kernel that the parameter belongs to.
        module: path of the module that holds the parameter.
        shape: shape of the parameter.
        where: its entries in θ.
        log: whether its coordinate is the logarithm.
        low, high: limits of the value in its natural units, each (entries,).
    """

    name: str
    attribute: str
    role: str
    part: KernelPart
    module: str
    shape: torch.Size
    where: slice
    log: bool
    low: Tensor
    high: Tensor

    def natural(self, theta: Tensor) -> Tensor:
        """The value of the parameter at θ (..., p), (..., *shape). Differentiable in θ."""
        own = theta[..., self.where].reshape((*theta.shape[:-1], *self.shape))
        return own.exp() if self.log else own

    def raw_in(self, kernel: Kernel) -> torch.nn.Parameter:
        """The raw parameter in a kernel of the same structure."""
        raw = kernel.get_submodule(self.module)._parameters[self.attribute]
        assert raw is not None
        return raw


class Coordinates:
    """Conversion between a kernel's free parameters and the vector θ of their search coordinates.

    Args:
        kernel: a gpytorch kernel; parameters whose `requires_grad` is False are kept.
        width: number of columns of the inputs.

    Attributes:
        parameters: the free parameters in the order of `kernel.parameters()`.
        parts: all kernels within the kernel.

    Raises:
        ValueError: `active_dims` or `ard_num_dims` does not match the columns of the inputs.

    Example:
        >>> kernel = gpytorch.kernels.RBFKernel().double()
        >>> kernel.lengthscale = 2.0
        >>> coordinates = Coordinates(kernel, 1)
        >>> [p.name for p in coordinates.parameters], coordinates.read(kernel).exp().tolist()
        (['RBF.lengthscale'], [2.0...])
    """

    def __init__(self, kernel: Kernel, width: int) -> None:
        self.kernel = kernel
        self.parts = parts(kernel, width)
        self.parameters = self._free()

    def __len__(self) -> int:
        return self.parameters[-1].where.stop if self.parameters else 0

    def columns(self, kernel: Kernel) -> tuple[int, ...]:
        """The columns of the inputs that a kernel within the kernel uses."""
        return next(part.columns for part in self.parts if part.kernel is kernel)

    def _free(self) -> list[Parameter]:
        owners = {
            path: max(
                (part for part in self.parts if _inside(part.kernel, module)),
                key=lambda part: self.parts.index(part),
            )
            for path, module in self.kernel.named_modules()
        }
        found: dict[int, Parameter] = {}
        start = 0
        for path, module in self.kernel.named_modules():
            for name, raw in module._parameters.items():
                if raw is None or not raw.requires_grad or id(raw) in found:
                    continue
                where = slice(start, start + raw.numel())
                start = where.stop
                found[id(raw)] = _parameter(owners[path], path, module, name, raw, where)
        return list(found.values())

    def natural(self, theta: Tensor) -> Tensor:
        """The values of all parameters at θ (..., p), (..., p)."""
        if all(p.log for p in self.parameters):
            return theta.exp()
        each = [p.natural(theta).reshape(*theta.shape[:-1], -1) for p in self.parameters]
        return torch.cat(each, -1)

    @cached_property
    def low(self) -> Tensor:
        """Lower ends of the box of θ, (p,) on the CPU; −∞ where there is none."""
        return self._box("low")

    @cached_property
    def high(self) -> Tensor:
        """Upper ends of the box of θ, (p,) on the CPU; ∞ where there is none."""
        return self._box("high")

    def _box(self, end: str) -> Tensor:
        ends = [torch.zeros(0, dtype=torch.float64)]
        for p in self.parameters:
            value = getattr(p, end).double().cpu()
            ends.append(value.clamp(min=0).log() if p.log else value)
        return torch.cat(ends)

    def read(self, kernel: Kernel) -> Tensor:
        """Coordinates θ of a kernel of the same structure, (p,)."""
        each = []
        for p in self.parameters:
            raw = p.raw_in(kernel).detach()
            constraint = constraint_of(kernel.get_submodule(p.module), p.attribute)
            value = raw if constraint is None else constraint.transform(raw)
            # A negative length-scale is the same kernel as its absolute value.
            each.append((value.abs().log() if p.log else value).reshape(-1))
        return torch.cat(each) if each else torch.zeros(0)

    def write(self, kernel: Kernel, theta: Tensor) -> None:
        """Set the free parameters of a kernel of the same structure, in place."""
        with torch.no_grad():
            for p in self.parameters:
                p.raw_in(kernel).copy_(self.raw(p, theta))

    def raw(self, p: Parameter, theta: Tensor) -> Tensor:
        """The raw parameter of gpytorch at θ, in its shape. Differentiable in θ."""
        constraint = constraint_of(self.kernel.get_submodule(p.module), p.attribute)
        # A coordinate in another dtype may lie outside the open interval of the constraint.
        value = p.natural(theta).clamp(
            p.low.to(theta).reshape(p.shape), p.high.to(theta).reshape(p.shape)
        )
        raw: Tensor = value if constraint is None else constraint.inverse_transform(value)
        return raw

    def rescaled(self) -> list[int] | None:
        """The entries of θ that multiply the whole kernel by c when log c is added to them.

        Returns:
            One entry for each term of the kernel, or None where a term has no free variance.
        """
        own = {(id(self.kernel.get_submodule(p.module)), p.attribute): p for p in self.parameters}
        return _variances(self.kernel, own)


def _parameter(
    part: KernelPart, path: str, module: torch.nn.Module, name: str, raw: Tensor, where: slice
) -> Parameter:
    constraint = constraint_of(module, name)
    size, log = raw.numel(), False
    low, high = raw.new_full((size,), -math.inf), raw.new_full((size,), math.inf)
    if constraint is not None:
        low = constraint.lower_bound.detach().to(raw).expand(raw.shape).reshape(-1).clone()
        high = constraint.upper_bound.detach().to(raw).expand(raw.shape).reshape(-1).clone()
        if name in _ROLES and bool((high > 0).all()):
            # What these parameters measure is positive, whatever else a constraint allows.
            low = low.clamp(min=0)
        log = bool((low >= 0).all())
        slack = _INSIDE * torch.finfo(raw.dtype).eps
        low = torch.where(low.isinf() | (low == 0), low, low + slack * low.abs())
        high = torch.where(high.isinf(), high, high - slack * high.abs())
    inner = module is not part.kernel
    label = part.label + (f".{path}" if inner else "") + "." + name.removeprefix("raw_")
    role = _OF_TYPE.get((type(part.kernel), name)) or _ROLES.get(name, SHAPE if log else OTHER)
    if inner or not log:
        role = OTHER
    return Parameter(label, name, role, part, path, raw.shape, where, log, low, high)


def constraint_of(module: torch.nn.Module, name: str) -> gpytorch.constraints.Interval | None:
    """The constraint that is registered for a raw parameter of a module, or None."""
    if not isinstance(module, gpytorch.Module):
        return None
    found: gpytorch.constraints.Interval | None = module._constraints.get(f"{name}_constraint")
    return found


def _inside(kernel: Kernel, module: torch.nn.Module) -> bool:
    return any(m is module for m in kernel.modules())


def _variances(kernel: Kernel, own: dict[tuple[int, str], Parameter]) -> list[int] | None:
    """The entries of θ that scale a kernel as a whole; see `Coordinates.rescaled`."""

    def entries(name: str) -> list[int] | None:
        p = own.get((id(kernel), name))
        return list(range(p.where.start, p.where.stop)) if p is not None and p.log else None

    if isinstance(kernel, gpytorch.kernels.ScaleKernel):
        return entries("raw_outputscale") or _variances(kernel.base_kernel, own)
    if isinstance(kernel, gpytorch.kernels.AdditiveKernel):
        each = [_variances(part, own) for part in kernel.kernels]
        found = [e for e in each if e is not None]
        joined = [index for e in found for index in e]
        unique = len(set(joined)) == len(joined)  # tied terms would be scaled twice
        return joined if len(found) == len(each) and unique else None
    if isinstance(kernel, gpytorch.kernels.ProductKernel):
        factors: Sequence[list[int] | None] = [_variances(part, own) for part in kernel.kernels]
        return next((found for found in factors if found is not None), None)
    if isinstance(kernel, gpytorch.kernels.SpectralMixtureKernel):
        # Over several columns the mixture is a product, which scales with a power of the weights.
        return entries("raw_mixture_weights") if kernel.ard_num_dims == 1 else None
    for kind, name in (
        (gpytorch.kernels.LinearKernel, "raw_variance"),
        (gpytorch.kernels.ConstantKernel, "raw_constant"),
    ):
        if isinstance(kernel, kind):
            return entries(name)
    return None
