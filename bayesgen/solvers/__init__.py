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
from bayesgen.solvers.plan import Machine, Plan, free_memory, plan

__all__ = [
    "Factor",
    "Krylov",
    "Machine",
    "Plan",
    "Sensitivity",
    "block_lanczos",
    "cholesky",
    "eigh",
    "evidence",
    "free_memory",
    "largest_eigenvalue",
    "plan",
    "rounding_norm",
    "sensitivity",
]
