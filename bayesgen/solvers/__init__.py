"""Numerical linear algebra for kernel matrices: factorisations, eigenvalues and Krylov spaces.

The package also chooses the engine for a problem of a given size (`plan`).
"""

from bayesgen._internal import moved as _moved
from bayesgen.solvers.batched import Batched, batched_evidence
from bayesgen.solvers.cholesky_factor import (
    Factor,
    Sensitivity,
    cholesky,
    evidence,
    evidence_parts,
    sensitivity,
)
from bayesgen.solvers.eigen import eigh, eigvalsh, largest_eigenvalue, rounding_norm
from bayesgen.solvers.interval import Interval, evidence_interval
from bayesgen.solvers.krylov import Krylov, block_lanczos
from bayesgen.solvers.matmul import product
from bayesgen.solvers.planning import (
    Machine,
    Plan,
    check_room,
    free_memory,
    out_of_memory,
    plan,
)

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
    "evidence_parts",
    "free_memory",
    "largest_eigenvalue",
    "out_of_memory",
    "plan",
    "product",
    "rounding_norm",
    "sensitivity",
]

__getattr__ = _moved.former_submodules(__name__)
