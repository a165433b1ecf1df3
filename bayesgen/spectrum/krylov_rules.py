"""The fields of a `Spectrum` from the block Krylov space of its targets and of random probes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bayesgen import solvers, verify
from bayesgen._internal import checks
from bayesgen.solvers import lanczos
from bayesgen.solvers.quadrature import Measure, between
from bayesgen.spectrum.control_variates import calibrate, moments
from bayesgen.spectrum.decomposition import Rounding
from bayesgen.spectrum.deflation import Deflated, deflate, nothing_resolved
from bayesgen.spectrum.quadrature_bracket import Bracket
from bayesgen.verify import Check

# Power of the rounding unit by which the Lanczos relation may fail, times √m.
_POWER = 0.7
# What the check of a Krylov space compares.
LANCZOS_RELATION = "Lanczos relation, along a random vector outside the space"
# The moments n, tr K and ‖K‖²_F.
Moments = tuple[float, float, float]


@dataclass(frozen=True)
class Errors:
    """Error of each task's evidence at its best (s, σ²), in nats.

    Attributes:
        total: the whole error.
        logdet: the part that comes from the log-determinants.
    """

    total: Tensor
    logdet: Tensor


@dataclass(frozen=True)
class KrylovSettings:
    """Settings of `Spectrum.krylov`, with the method that runs it.

    The attributes are the arguments of `Spectrum.krylov`.
    """

    probes: int
    steps: int
    tolerance: float | None
    seed: int
    folder: Path | None
    mark: str
    progress: Callable[[int], None] | None

    def fields(self, op: Any, y: Any, errors: Callable[[dict[str, Any]], Errors]) -> dict[str, Any]:
        """Run block Lanczos and return the fields of the spectrum.

        Args:
            op: the operator, (n, n).
            y: targets, (n,), (n, C) or (B, n, C).
            errors: function of the fields that returns the errors, which are compared with the
                tolerance.
        """
        multiply, n, like = lanczos.operator(op)
        checks.whole("probes", self.probes, 2)
        checks.whole("steps", self.steps)
        y = checks.targets("y", y, n, like=like)
        outputs = 1 if y.ndim == 1 else y.shape[-1]
        columns = y.reshape(-1, n, outputs).movedim(0, 1).reshape(n, -1)
        start = torch.cat([columns, lanczos.probes(n, self.probes, self.seed, like)], 1)
        # Columns of equal norm: a column far below another would count as rounding error.
        top = start.abs().amax(0).clamp(min=torch.finfo(start.dtype).tiny)
        start = start / top
        norms = start.double().norm(dim=0)
        norms = torch.where(norms > 0, norms, 1.0)  # a column of zeros stays one
        start, sizes = start / norms.to(start), top.double() * norms
        # Evaluated after the first product, because the operator may compute the moments during it.
        known = functools.cache(lambda: moments(op))
        tolerance, last = self.tolerance, None

        def enough(space: solvers.Krylov) -> bool:
            nonlocal last
            last = Rules(space, sizes, n, y, self.probes, known())
            assert tolerance is not None
            rough = errors(last.fields(last.sampled))
            if rough.total.max() <= tolerance:
                return True
            if (rough.total - rough.logdet).max() > tolerance:
                return False
            return bool(errors(last.fields(last.deflated)).total.max() <= tolerance)

        witness = Witness(multiply, n, like)
        space = solvers.block_lanczos(
            witness,
            start,
            self.steps,
            enough=None if tolerance is None else enough,
            folder=self.folder,
            mark=self.mark,
            progress=self.progress,
        )
        if last is None or last.space is not space:
            last = Rules(space, sizes, n, y, self.probes, known())
        loads = last.loads
        fields = last.fields(last.deflated)
        largest = float(space.values.abs().max())
        check = Check(
            LANCZOS_RELATION,
            witness.error(space) / (largest or 1.0),
            len(space.values) ** 0.5 * last.eps**_POWER,
        )
        if not check.passed:
            raise ValueError(
                "op must be symmetric and give the same product at each call: its products with "
                f"a random vector and with the Krylov space disagree by {check.difference:.2g} of "
                f"its largest eigenvalue, where rounding explains {check.allowed:.2g}"
            )
        rounding = fields["rounding"]
        return {
            **fields,
            **last.brackets(),
            "rounding": replace(
                rounding, entries=max(rounding.entries, check.difference * largest)
            ),
            "checks": (check,),
            "vectors": space.ritz(),
            "projections": loads.reshape(len(loads), -1, outputs).movedim(1, 0),
        }


class Witness:
    """An operator that multiplies a random vector together with the first block.

    The vector g is not in the Krylov space. For exact arithmetic and a symmetric operator,
    gᵀKQ = gᵀ(QT + Q⁺B), with Q⁺ the next block. The difference has the expected squared norm
    ‖KQ − QT − Q⁺B‖²_F, so it measures the rounding error of the space, and it shows an operator
    that is not symmetric or not the same at each product.

    Args:
        multiply: function V (n, b) → KV.
        n: order of the operator.
        like: tensor of the operator's dtype and device.
    """

    def __init__(self, multiply: Callable[[Tensor], Tensor], n: int, like: Tensor) -> None:
        self.multiply, self.vector = multiply, verify.random_vector(n, like)
        self.image: Tensor | None = None

    def __call__(self, block: Tensor) -> Tensor:
        """Product KV of the operator with a block V, (n, b)."""
        if self.image is not None:
            return self.multiply(block)
        both = self.multiply(torch.cat([block, self.vector], 1))
        self.image = both[:, -1:]
        return both[:, :-1]

    def error(self, space: solvers.Krylov) -> float:
        """Norm of the difference, an estimate of ‖KQ − QT − Q⁺B‖_F."""
        if self.image is None:  # all blocks were read from files
            self.image = self.multiply(self.vector)
        inside = (self.vector.mT @ space.basis).double()
        right = (inside @ space.vectors * space.values) @ space.vectors.mT
        right[:, -space.out.shape[1] :] += (self.vector.mT @ space.ahead).double() @ space.out
        return float(((self.image.mT @ space.basis).double() - right).norm())


@dataclass(frozen=True)
class Trace:
    """Rules for the sum of a function of all eigenvalues.

    Attributes:
        fields: the fields "density", and "probes", "doubt" and "radau" where it is sampled.
        method: description of how it was computed.
    """

    fields: dict[str, Any]
    method: str


@dataclass(frozen=True)
class Rules:
    """Gauss and Gauss–Radau rules of a Krylov space started from targets and then probes.

    Attributes:
        space: the Krylov space, started from columns of norm 1.
        sizes: norms of the targets and probes, by which the columns were divided.
        n: order of the operator.
        y: targets, (n,), (n, C) or (B, n, C).
        probes: q, the number of probes; they are the last columns of the start.
        known: (n, tr K, ‖K‖²_F), or None where they are unknown.
    """

    space: solvers.Krylov
    sizes: Tensor
    n: int
    y: Tensor = field(repr=False)
    probes: int
    known: Moments | None

    @cached_property
    def values(self) -> Tensor:
        """Nodes of the Gauss rule, (m,)."""
        return self.space.values.clamp(min=0)

    @cached_property
    def radau(self) -> tuple[Tensor, Tensor]:
        """Nodes (m + b'), and vectors (m, m + b') in the Ritz basis, of the Gauss–Radau rule."""
        nodes, around = self.space.radau(0.0)
        return nodes.clamp(min=0), self.space.vectors.mT @ around

    @cached_property
    def coordinates(self) -> Tensor:
        """Coordinates of the targets and probes along the Ritz vectors, (m, B·C + q)."""
        return self.space.coordinates() * self.sizes

    @property
    def loads(self) -> Tensor:
        """Coordinates of the targets along the Ritz vectors, (m, B·C)."""
        return self.coordinates[:, : -self.probes]

    @property
    def outputs(self) -> int:
        """Number of outputs C."""
        return 1 if self.y.ndim == 1 else self.y.shape[-1]

    @property
    def eps(self) -> float:
        """Rounding unit of the basis."""
        return torch.finfo(self.y.dtype).eps

    def fields(self, trace: Trace) -> dict[str, Any]:
        """Fields of the spectrum except the brackets, and the vectors that solves need."""
        density, columns = trace.fields["density"], len(self.space.start.mT)
        return {
            **trace.fields,
            **self.targets,
            "n": self.n,
            "outputs": self.outputs,
            "y": self.y.reshape(-1, self.n, self.outputs),
            "method": f"block Lanczos, {len(self.values):,} dimensions from {columns} columns, "
            + trace.method,
            # Each product has independent rounding errors of eps per entry; dropped directions add
            # to it.
            "rounding": Rounding(
                entries=self.eps * max(0.0, float(density.integrate(torch.square))) ** 0.5
                + self.space.dropped
            ),
            "spanned": True,
        }

    @cached_property
    def targets(self) -> dict[str, Measure]:
        """The target-weighted measure and its upper end."""
        nodes, around = self.radau
        upper = Measure(nodes, self._of_targets(around.mT @ self.loads))
        return {
            "targets": between(Measure(self.values, self._of_targets(self.loads)), upper),
            "upper": upper,
        }

    @cached_property
    def sampled(self) -> Trace:
        """The trace by the probes alone."""
        probes = self.coordinates[:, -self.probes :]
        return self._trace(nothing_resolved(probes, len(self.radau[0])))

    @cached_property
    def deflated(self) -> Trace:
        """The trace by resolved directions, and by the probes for the rest.

        See `bayesgen.spectrum.deflation`. A space of dimension n resolves everything.
        """
        if len(self.values) == self.n:
            density = Measure(self.values, torch.ones_like(self.values))
            return Trace({"density": density}, "all of the space")
        return self._trace(
            deflate(self.space, self.coordinates, self.radau[1], self.n, self.probes, self.eps)
        )

    def _trace(self, parts: Deflated) -> Trace:
        """Rules from a resolved part and from probes, calibrated on the known moments."""
        values, (nodes, around) = self.values, self.radau
        weights = parts.probes.square().mT
        other = (around.mT @ parts.probes).square().mean(1) + parts.radau.mean(0)
        # Gauss and Gauss–Radau rules share these moments, so calibration changes both by the same
        # sum.
        change, doubt = torch.zeros_like(values), None
        if self.known is not None:
            exact, unsure = self._rest(parts, self.known)
            told, off = calibrate(values, weights, exact, unsure)
            change, weights, doubt = (told - weights).mean(0), told, Measure(values, off)
        each = Measure(values.expand(self.probes, -1), weights + parts.gauss)
        radau = Measure(torch.cat([values, nodes]), torch.cat([change, other]))
        density = between(Measure(values, each.weights.mean(0)), radau)
        method = f"{self.probes} probes past {int(parts.dimensions.min()):,} resolved dimensions"
        if self.known is not None:
            method += ", calibrated on tr K and ‖K‖²"
        return Trace({"density": density, "probes": each, "doubt": doubt, "radau": radau}, method)

    def _rest(self, parts: Deflated, known: Moments) -> tuple[Tensor, Tensor]:
        """Moments that each probe's Gauss rule should have on (I − VVᵀ)K(I − VVᵀ), (q, 3).

        The moments of the resolved vectors are subtracted from the known ones. A rule on the space
        omits the part of Kz outside the space, so that part is subtracted from the second moment.

        Returns:
            The moments, and the uncertainty of each by rounding, (3,).
        """
        space, eps = self.space, self.eps
        exact = parts.moments.new_tensor(known) - parts.moments
        exact[:, 2] -= space.outside(parts.probes).square().sum(0)
        largest = float(space.values.max())
        # Every Ritz value has a rounding error of a few eps times the largest one.
        first = 4 * eps * largest * len(space.values) ** 0.5
        return exact, exact.new_tensor([eps * known[0], first, 8 * eps * largest * known[2] ** 0.5])

    def brackets(self) -> dict[str, Bracket]:
        """The ends of the brackets of this space and of the space one block smaller."""
        earlier = self.space.before()
        if earlier is None:
            return {}
        smaller = Rules(earlier, self.sizes, self.n, self.y, self.probes, None)
        q = self.probes
        return {
            name: Bracket(*self._ends(some, weigh), *smaller._ends(some, weigh))
            for name, some, weigh in (
                ("targets_bracket", slice(None, -q), self._of_targets),
                ("density_bracket", slice(-q, None), _summed),
            )
        }

    def _ends(self, some: slice, weigh: Callable[[Tensor], Tensor]) -> tuple[Measure, Measure]:
        """Gauss and Gauss–Radau rule of some columns, their weights combined by weigh()."""
        columns, (nodes, around) = self.coordinates[:, some], self.radau
        return Measure(self.values, weigh(columns)), Measure(nodes, weigh(around.mT @ columns))

    def _of_targets(self, columns: Tensor) -> Tensor:
        batch = self.y.shape[:-2] if self.y.ndim == 3 else self.y.shape[:0]
        each = columns.square().reshape(len(columns), -1, self.outputs).sum(-1)
        return each.mT.reshape(*batch, -1)


def _summed(columns: Tensor) -> Tensor:
    return columns.square().sum(1)
