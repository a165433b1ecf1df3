"""Covariances of a gpytorch kernel as dense tensors."""

from __future__ import annotations

from typing import Any

import torch
from gpytorch.kernels import Kernel
from torch import Tensor

from bayesgen.kernels.structure import is_known


def evaluate(kernel: Kernel, x1: Tensor, x2: Tensor | None = None) -> Tensor:
    """Covariance matrix k(x1, x2) as a new dense (n1, n2) tensor; x2 = None means x2 = x1.

    Differentiable. A user's kernel may return a matrix that it keeps, which is copied.
    """
    result: Tensor = dense(kernel, x1, x2)
    return result if is_known(kernel) else result.clone()


def dense(kernel: Kernel, x1: Tensor, x2: Tensor | None) -> Any:
    """As `evaluate`, in memory that may belong to the kernel."""
    # An IndexKernel uses sparse tensors; torch warns where it is not told whether to check them.
    with torch.sparse.check_sparse_tensor_invariants(False):
        return (kernel(x1) if x2 is None else kernel(x1, x2)).to_dense()


def diagonal(kernel: Kernel, x: Tensor) -> Tensor:
    """Variances k(x, x) at the rows x of the inputs, (n,)."""
    with torch.sparse.check_sparse_tensor_invariants(False):
        values: Tensor = kernel(x, diag=True)
    return values
