"""The evidence of a network's linearisation, a linear model in the weights, at its own mode."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from bayesgen import solvers
from bayesgen._internal.progress import Progress
from bayesgen.curvature.curvature import PriorShape
from bayesgen.curvature.factory import LARGEST_DUAL
from bayesgen.curvature.float32_error import Measured, measured
from bayesgen.curvature.function_space import DualGGN
from bayesgen.curvature.gradient_check import coefficients
from bayesgen.curvature.jacobian import Sample
from bayesgen.curvature.jacobian_gram import grams
from bayesgen.curvature.parameters import Weights
from bayesgen.evidence import Evidence
from bayesgen.models.latent import CoupledCurvature, CoupledProblem, Mode, best
from bayesgen.models.network.data import NetworkData
from bayesgen.models.network.posterior import Linear, NetworkFit, NetworkPosterior
from bayesgen.models.network.prior_precision import PrecisionSetting

# Step of log α while its optimum is being bracketed, and largest distance from the start.
_STRIDE, _REACH = 1.5, 15.0
# Effective dimension below which the posterior equals the prior.
_NOTHING = 1e-6


class PassSettings(NamedTuple):
    """Settings of the passes through the network.

    Attributes:
        batch: observations per pass.
        memory: bytes that rows of the Jacobian may take.
        progress: called as progress(done, expected, what).
    """

    batch: int
    memory: float
    progress: Progress | None


def fit(
    weights: Weights,
    data: NetworkData,
    start: PrecisionSetting,
    prior: PriorShape,
    structure: str,
    free: frozenset[str],
    passes: PassSettings,
    moved: Tensor | None,
) -> NetworkPosterior:
    """The posterior of the linear model f₀ + Jδ with δ ~ N(0, S), S = diag(α)⁻¹, in function space.

    The outputs are f₀ + Hg. Here f₀ is f* − Jδ* or zero, H is a basis of the outputs that change
    the likelihood (the C − 1 contrasts of a softmax), and g ~ N(0, HᵀJSJᵀH). Newton's method finds
    the mode of g. The evidence is Laplace's approximation at the mode, which is exact for a
    Gaussian likelihood. The search over log α finds the root of its gradient, which includes the
    motion of the mode.

    Args:
        weights: weights θ* of the network.
        data: observations, whose inputs are kept.
        start: prior precision to start from, and the noise variance.
        prior: layout of the prior precisions, with one group.
        structure: name of the layout that the user asked for.
        free: names of the hyperparameters to learn.
        passes: settings of the passes through the network.
        moved: displacement δ* = θ* − θ₀ of the weights from their prior mean, (P,); None where f₀
            and θ₀ are zero.

    Raises:
        ValueError: the data give too many rows n·(C − 1) for a dense matrix.
    """
    if data.x is None or data.rows > LARGEST_DUAL:
        raise ValueError(
            f'mode="linearised" and "tangent" take up to {LARGEST_DUAL:,} rows n·(C − 1), '
            f"got {data.rows:,}"
        )
    theta, basis = weights.theta, _basis(data)
    n, K = len(data.f), basis.shape[1]
    ones, wide = theta.new_ones(n, K), basis.to(theta).expand(n, -1, -1)
    c = coefficients(ones, wide, data.slopes)
    sample = Sample(data.x, ones, wide, passes.batch, passes.memory, c, data.gradient)
    gram = grams(weights, sample, prior, passes.progress)[0].double()
    rounded = measured(weights, sample, prior)
    f = torch.zeros_like(data.f) if moved is None else data.f - weights.jvp(data.x, moved)
    problem = CoupledProblem(data.likelihood, data.y.double(), f.double(), basis)
    search = _PrecisionSearch(gram, problem)
    precision, mode = search.best(start.precision, "prior_precision" in free)
    curvature, outputs = mode.curvature, problem.outputs(mode.f)
    assert isinstance(curvature, CoupledCurvature)
    likelihood = data.likelihood
    values, vectors = likelihood.roots(data.y.double(), outputs)
    seen = Sample(
        data.x,
        (values * start.noise).to(theta),
        vectors.to(theta),
        passes.batch,
        passes.memory,
    )
    unit = curvature.whitened().mul_(precision[0] * start.noise)
    dual = DualGGN(weights, seen, prior, [unit], decomposed=False)
    setting = PrecisionSetting(precision, start.noise, search.at_bound)
    back = weights.vjp(data.x, mode.a.reshape(n, K) @ basis.mT)
    step = back / prior.precision(precision)
    linear = Linear(step if moved is None else theta.double() - moved + step, moved is not None)
    return NetworkPosterior(
        data.observed(likelihood),
        _evidence(mode, n, _rounding(mode, gram, precision, rounded, _slope(values, vectors))),
        NetworkFit(likelihood, data.x, outputs, dual, setting, structure, linear, data.checks),
        gram.new_tensor([mode.gradient_norm]),
        free,
    )


def _basis(data: NetworkData) -> Tensor:
    """Basis of the directions of the C outputs that change the likelihood, (C, K).

    For a softmax it excludes the mean of the outputs.
    """
    return data.likelihood.identified(data.f.shape[1]).to(data.f.device)


def _rounding(
    mode: Mode, gram: Tensor, precision: Tensor, rounded: Measured | None, slope: Tensor
) -> Tensor:
    """Effect of rounding in the Gram matrix on log Z, in nats, ().

    To first order, δ log Z = ½ tr (aaᵀ − M)δK with M = (W⁻¹ + K)⁻¹. Where the rows of the Jacobian
    are float32, δK was measured. In float64 the effect is bounded by ‖δK‖_F, with
    ‖M‖_F² ≤ ‖W‖ tr M.

    Args:
        mode: the mode, with its curvature.
        gram: Gram matrix at unit prior precision.
        precision: prior precision α, (1,).
        rounded: measured rounding errors, or None in float64.
        slope: upper bound of ‖W‖, ().
    """
    if rounded is not None:

        def block(rows: Tensor) -> Tensor:
            unit = gram.new_zeros(len(gram), len(rows))
            unit[rows, torch.arange(len(rows), device=rows.device)] = 1
            return mode.a[rows] @ mode.a[rows].mT - mode.curvature.times(unit)[rows]

        return 0.5 * rounded.effect(block, precision)
    size = solvers.largest_eigenvalue(lambda v: gram @ v, gram)
    norm = len(gram) ** 0.5 * solvers.rounding_norm(len(gram), size, gram.dtype) / precision[0]
    trace = mode.curvature.trace()
    return 0.5 * norm * (mode.a.square().sum() + torch.minimum(trace, (slope * trace).sqrt()))


def _slope(values: Tensor, vectors: Tensor) -> Tensor:
    """Largest trace of the curvature Λ of a row, an upper bound of its eigenvalues, ()."""
    return (values * vectors.square().sum(1)).sum(1).max()


def _evidence(mode: Mode, n: int, rounding: Tensor) -> Evidence:
    """The mode's Evidence, with the rounding error of the Gram matrix added to its error."""
    e = mode.evidence
    return Evidence(
        e.fit,
        e.complexity,
        n,
        e.effective_dimension,
        error=e.error + rounding,
        method="Laplace at the mode of the linearised network, by Newton in function space",
        complexity_excludes=("linearisation",),
    )


class _PrecisionSearch:
    """The mode at each prior precision; each search starts from the previous mode."""

    def __init__(self, gram: Tensor, problem: CoupledProblem) -> None:
        self.gram, self.problem = gram, problem
        self.a = gram.new_zeros(len(gram), 1)
        self.at_bound = torch.zeros(1, dtype=torch.bool, device=gram.device)
        self._last: tuple[float, Mode] | None = None

    def mode(self, log_scale: float) -> Mode:
        """The mode at prior covariance e^log_scale times the Gram matrix."""
        if self._last is None or self._last[0] != log_scale:
            self._last = None  # frees the memory of its factor
            K = self.gram * math.exp(log_scale)
            found = best(K, self.problem, [self.a, torch.zeros_like(self.a)])[0]
            self.a, self._last = found.a, (log_scale, found)
        return self._last[1]

    def slope(self, log_scale: float) -> float:
        """Derivative ∂ log Z/∂ log s = ½ aᵀg − ½ N_eff + uᵀg, with u = `Mode.pulled`."""
        m = self.mode(log_scale)
        dof = m.evidence.effective_dimension
        return float(0.5 * ((m.a * m.f).sum() - dof) + (m.pulled * m.f).sum())

    def best(self, precision: Tensor, learn: bool) -> tuple[Tensor, Mode]:
        """The prior precision, (1,), and the mode at it.

        Args:
            precision: prior precision to keep or to start from, (1,).
            learn: whether to search the precision of largest evidence.
        """
        start = -float(precision[0].log())
        at = self._root(start) if learn else start
        mode = self.mode(at)
        return torch.full_like(precision, math.exp(-at)), mode

    def _root(self, start: float) -> float:
        import scipy.optimize

        low = high = start
        up = self.slope(start) > 0
        while True:
            ahead = high + _STRIDE if up else low - _STRIDE
            nothing = self.mode(high).evidence.effective_dimension < _NOTHING
            if abs(ahead - start) > _REACH or (nothing and not up):
                self.at_bound[0] = True
                return high if up else low
            if (self.slope(ahead) > 0) != up:
                low, high = (high, ahead) if up else (ahead, low)
                break
            low = high = ahead
        return float(scipy.optimize.brentq(self.slope, low, high, xtol=1e-2))
