"""Checks of a kernel that a user brings: it must be a function of two inputs and its parameters.

They run once for each fit, on the model's own copy of the kernel.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager

import gpytorch
import numpy as np
import torch
from gpytorch.kernels import AdditiveKernel, Kernel, ProductKernel, ScaleKernel
from torch import Tensor

from bayesgen._internal import random_state
from bayesgen._internal.words import plural
from bayesgen.kernels.evaluation import evaluate
from bayesgen.kernels.functions import FunctionKernel
from bayesgen.kernels.structure import innermost, is_known, parts

# Number of inputs on which a user's kernel is evaluated.
_FEW = 6
# Seed of the random state that a kernel draws when it is first evaluated.
_SEED = 0
# Rounding of covariances, and of a value at its bound, in rounding units.
_ROUNDING, _INSIDE = 1e3, 8


def check_structure(kernel: Kernel, x: Tensor) -> None:
    """Check outputs, columns and constraints of a kernel, without evaluating it.

    Args:
        kernel: the model's own copy, in the dtype of the inputs.
        x: inputs, (n, d) or (B, n, d).

    Raises:
        ValueError: the kernel has a batch shape or several outputs for an input; a parameter is
            outside its constraint; `active_dims` or `ard_num_dims` does not match the columns.
    """
    if kernel.batch_shape:
        raise ValueError(
            f"kernel must have no batch shape, got {tuple(kernel.batch_shape)}: tasks are "
            "batched in y, shape (B, n, C)"
        )
    composed = next(iter(kernel.sub_kernels()), None) is not None
    if composed or kernel.active_dims is not None or kernel.ard_num_dims is not None:
        parts(kernel, x.shape[-1])
    _check_outputs(kernel, x)
    _check_constraints(kernel)


def admit(kernel: Kernel, x: Tensor) -> None:
    """Check the covariances of a kernel on some inputs, and fix its random state, in place.

    Networks within the kernel are put into evaluation mode, without dropout. A kernel that draws
    weights when it is first evaluated, such as `gpytorch.kernels.RFFKernel`, draws them here with a
    fixed seed; the global random state is left as it was.

    Args:
        kernel: the model's own copy, in the dtype of the inputs.
        x: inputs, (n, d).

    Raises:
        TypeError: the covariances have another dtype than the inputs.
        ValueError: a column of an `IndexKernel` does not hold its indices; the covariances cannot
            be computed, are not finite, or differ between two evaluations.
    """
    check_indices("x", kernel, x)
    if not all(is_known(part) for part in kernel.modules() if isinstance(part, Kernel)):
        for module in kernel.modules():
            if not isinstance(module, gpytorch.Module):
                module.eval()
        _check_values(kernel, x)
    elif any(isinstance(part, gpytorch.kernels.RFFKernel) for part in kernel.modules()):
        with _random_state(x.device), torch.no_grad():
            evaluate(kernel, x[:1])


def check_indices(name: str, kernel: Kernel, x: Tensor) -> None:
    """Check that the columns of each `IndexKernel` hold whole numbers in its range.

    Args:
        name: name of the argument.
        kernel: any kernel.
        x: inputs, (n, d).

    Raises:
        ValueError: they do not.
    """
    if not any(isinstance(part, gpytorch.kernels.IndexKernel) for part in kernel.modules()):
        return
    for part in parts(kernel, x.shape[-1]):
        if not isinstance(part.kernel, gpytorch.kernels.IndexKernel):
            continue
        count, columns = part.kernel.raw_var.shape[-1], list(part.columns)
        values = x[:, columns]
        if len(columns) != 1:
            raise ValueError(
                f"kernel IndexKernel needs one column of {name}, but it is used on {len(columns)}; "
                "pass active_dims"
            )
        bad = (values != values.round()) | (values < 0) | (values >= count)
        if bad.any():
            raise ValueError(
                f"{name} must hold whole numbers in 0..{count - 1} in column {columns[0]}, which "
                f"an IndexKernel with num_tasks={count} uses, got {float(values[bad][0]):g}"
            )


def _check_outputs(kernel: Kernel, x: Tensor) -> None:
    """Check that a kernel and the terms and factors it consists of have one output per input."""
    count = int(kernel.num_outputs_per_input(x[:1], x[:1]))
    inner = isinstance(kernel, ScaleKernel | AdditiveKernel | ProductKernel)
    if count != 1 and not inner:
        raise ValueError(
            f"kernel {type(kernel).__name__} has {count} outputs for each input, and a covariance "
            "must be one number k(x, x'): use a kernel with one output; several outputs are "
            "columns of y"
        )
    for part in kernel.sub_kernels() if inner else []:
        _check_outputs(part, x)


def _check_constraints(kernel: Kernel) -> None:
    """Check that each parameter is finite and lies within its constraint."""
    for module in kernel.modules():
        if not isinstance(module, gpytorch.Module):
            continue
        for name, constraint in module._constraints.items():
            raw = module._parameters.get(name.removesuffix("_constraint"))
            if raw is None:
                continue
            value = constraint.transform(raw.detach())
            low, high = constraint.lower_bound.to(value), constraint.upper_bound.to(value)
            slack = _INSIDE * torch.finfo(torch.float32).eps
            under = value < low - slack * low.abs()
            over = value > torch.where(high.isinf(), high, high + slack * high.abs())
            bad = under | over | ~value.isfinite()
            if bad.any():
                own = name.removeprefix("raw_").removesuffix("_constraint")
                raise ValueError(
                    f"kernel {type(module).__name__} has {own} = {float(value[bad][0]):.4g}, "
                    f"outside its constraint {constraint}; set a value inside, such as the "
                    "constraint's initial_value"
                )


def _check_values(kernel: Kernel, x: Tensor) -> None:
    """Check the covariances of a user's kernel on a few inputs, or on all if it needs them."""
    name, few = _name(kernel), x[:: max(1, len(x) // _FEW)][:_FEW]
    try:
        # The numbers of rows differ: of equal inputs, gpytorch may take a root, with a jitter.
        others = torch.cat([few, few[:1]])
        first, again = _twice(kernel, few, others)
        elsewhere = True
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception:  # a kernel may be defined on the training inputs only
        elsewhere = False
        try:
            first, again = _twice(kernel, x, x)
        except (TypeError, ValueError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as err:
            why = (str(err).splitlines() or [""])[0]
            raise ValueError(
                f"kernel {name} cannot be evaluated on inputs of shape {tuple(x.shape)}: "
                f"{type(err).__name__}: {why}"
            ) from err
    bad = ~first.isfinite()
    if bad.any():
        raise ValueError(
            f"kernel {name} must be finite, got {plural(int(bad.sum()), 'NaN or infinite value')}"
        )
    if first.dtype != x.dtype:
        raise TypeError(
            f"kernel {name} must return dtype {x.dtype}, as its inputs have, got {first.dtype}"
        )
    gap, size = float((first - again).abs().max()), float(first.abs().max())
    if gap > _ROUNDING * torch.finfo(first.dtype).eps * size:
        raise ValueError(
            f"kernel {name} must give the same covariances whenever it is evaluated, but two "
            f"evaluations differ by {gap:.2g}: it may draw random numbers"
        )
    if elsewhere:
        _check_entries(kernel, few, others, first)


def _check_entries(kernel: Kernel, x1: Tensor, x2: Tensor, matrix: Tensor) -> None:
    """Check that entries of a matrix are the covariances of their two inputs alone."""
    m, name = len(x1), _name(kernel)
    slack = torch.finfo(matrix.dtype).eps ** 0.4 * float(matrix.abs().max())
    with _random_state(x1.device), torch.no_grad():
        for i, j in {(0, min(1, m - 1)), (m - 1, m // 2)}:
            try:
                alone = float(evaluate(kernel, x1[i : i + 1], x2[j : j + 1]))
            except Exception:  # a kernel may be defined on the training inputs only
                return
            within = float(matrix[i, j])
            if not abs(alone - within) <= slack:
                raise ValueError(
                    f"kernel {name} must be a function of two inputs, got a covariance of "
                    f"{alone:.6g} for two of them alone and {within:.6g} within a matrix: it may "
                    "use the positions of the rows or an average over them"
                )
        variances = kernel(x1, diag=True)
        if not bool(((variances - matrix.diagonal()[:m]).abs() <= slack).all()):
            raise ValueError(
                f"kernel {name} must give the diagonal of its matrix with diag=True, got another"
            )


def _twice(kernel: Kernel, x1: Tensor, x2: Tensor) -> tuple[Tensor, Tensor]:
    """Two evaluations, the second by a copy that shares what the first evaluation made."""
    with _random_state(x1.device), torch.no_grad():
        first = evaluate(kernel, x1, x2)
        return first, evaluate(copy.deepcopy(kernel), x1, x2)


def _name(kernel: Kernel) -> str:
    """The names of the user's kernels within a kernel."""
    own = [part for part in innermost(kernel) if not is_known(part)] or [kernel]
    return ", ".join(
        part.name() if isinstance(part, FunctionKernel) else type(part).__name__ for part in own
    )


@contextmanager
def _random_state(device: torch.device) -> Iterator[None]:
    """A fixed state of all random generators, which are then set back."""
    with random_state.kept([device]):
        torch.default_generator.manual_seed(_SEED)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(_SEED)
        random.seed(_SEED)
        np.random.seed(_SEED)  # noqa: NPY002
        yield
