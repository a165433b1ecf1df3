"""Kernel matrices factorised, solved and summed up: dense, by block Krylov spaces, in shards."""

from bayesgen.solvers.batched import Batched, batched_evidence
from bayesgen.solvers.dense import (
    Factor,
    Sensitivity,
    cholesky,
    eigh,
    eigvalsh,
    evidence,
    largest_eigenvalue,
    rounding_norm,
    sensitivity,
)
from bayesgen.solvers.interval import Interval, evidence_interval
from bayesgen.solvers.krylov import Krylov, block_lanczos
from bayesgen.solvers.planning import (
    Machine,
    Plan,
    check_room,
    free_memory,
    out_of_memory,
    plan,
)
from bayesgen.solvers.product import product

__all__ = [
    "Batched",
    "Factor",
    "Interval",
    "Krylov",
    "Machine",
    "Plan",
    "Sensitivity",
    "batched_evidence",
    "block_lanczos",
    "check_room",
    "cholesky",
    "eigh",
    "eigvalsh",
    "evidence",
    "evidence_interval",
    "free_memory",
    "largest_eigenvalue",
    "out_of_memory",
    "plan",
    "product",
    "rounding_norm",
    "sensitivity",
]
