"""Kernel matrices factorised, solved and summed up: dense, by block Krylov spaces, in shards."""

from bayesgen.solvers.dense import (
    Factor,
    Sensitivity,
    cholesky,
    eigh,
    evidence,
    largest_eigenvalue,
    rounding_norm,
    sensitivity,
)
from bayesgen.solvers.krylov import Krylov, block_lanczos

__all__ = [
    "Factor",
    "Krylov",
    "Sensitivity",
    "block_lanczos",
    "cholesky",
    "eigh",
    "evidence",
    "largest_eigenvalue",
    "rounding_norm",
    "sensitivity",
]
