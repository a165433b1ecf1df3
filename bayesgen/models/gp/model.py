"""Gaussian process regression whose hyperparameters maximise the exact evidence."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bayesgen import kernels, solvers
from bayesgen._internal import checks
from bayesgen._internal.progress import Progress
from bayesgen.covariance import distributed
from bayesgen.covariance.gram import LengthscaleGram, gram
from bayesgen.likelihoods import Likelihood
from bayesgen.likelihoods import resolve as resolve_likelihood
from bayesgen.models.gp import batched, krylov
from bayesgen.models.gp.batched import BatchPosterior
from bayesgen.models.gp.fit import GPFit, check_kernel
from bayesgen.models.gp.gradient_search import Free
from bayesgen.models.gp.objective import is_per_point, spread
from bayesgen.models.gp.posterior import GPPosterior, MeanFunction
from bayesgen.models.hyperparameters import to_learn
from bayesgen.models.latent import fit
from bayesgen.models.latent.posterior import LaplacePosterior
from bayesgen.solvers import Plan
from bayesgen.solvers.planning import ENGINES

_NAMES = ("kernel", "scale", "noise")
# Up to so many points there is nothing to plan: the dense spectrum takes minutes.
_LARGE = 8000


class GaussianProcess:
    """A Gaussian process prior with Gaussian noise: y = m(x) + f(x) + ε, f ~ GP(0, s·k).

    Args:
        kernel: a `gpytorch.kernels.Kernel` (copied, never changed), or a plain function
            k(x1, x2) → (n1, n2) tensor; `bayesgen.kernels.stationary` gives such a function a
            length-scale. The outputscale of an outermost `ScaleKernel` is s; without one s
            starts at 1. Parameters whose `requires_grad` is off are kept. Priors registered on
            the kernel play no part in the evidence.
        noise: σ², a variance: a number, or a tensor of shape (n,), (n, C) or (B, n, C) for a known
            noise at each point. A number is kept only where "noise" is not among the
            hyperparameters to learn; noise per point is always kept.
        mean: prior mean: a number, a tensor (C,), or a function x → (n,) or (n, C). Targets are
            taken as given: nothing is centred or scaled.
        hyperparameters: "evidence" (kernel, scale and noise maximise the evidence), "fixed"
            (all kept as given), or some of the names "kernel", "scale", "noise", those to learn:
            ("kernel", "scale") keeps a small noise for interpolation.
        tolerance: what a length-scale search may leave ungained, in nats per observation.
        max_spectra: eigendecompositions that search may take at most.
        engine: "spectrum" (dense and exact), "krylov" (block Lanczos, with an error: see
            `bayesgen.models.gp.krylov`), "cholesky" (hyperparameters by block Lanczos, evidence
            exact), or None for the engine that `bayesgen.solvers.plan` prefers on this machine for
            more than 8,000 points, and for "spectrum" up to there.
        work: a folder in which "krylov" keeps its Gram matrix (n² numbers) and its blocks as they
            are done, so that a fit that was cut off goes on; None keeps nothing.
        likelihood: "gaussian", or "bernoulli", "softmax", "poisson", "student-t" or a
            `bayesgen.likelihoods.Likelihood`: then the evidence is Laplace's, found by Newton with
            its exact gradient, and the likelihood's own noise, if it has one, is learnt.

    Raises:
        TypeError, ValueError: an argument of the wrong kind or out of range, by name.

    Source: Rasmussen & Williams (2006), chapters 2 and 5.

    Example:
        >>> import gpytorch
        >>> x = torch.linspace(0, 1, 30, dtype=torch.float64)[:, None]
        >>> y = torch.sin(6 * x[:, 0])
        >>> gp = GaussianProcess(gpytorch.kernels.RBFKernel(), noise=0.01, hyperparameters="fixed")
        >>> round(float(gp.fit(x, y).evidence.per_observation), 2)
        -2.11
    """

    def __init__(
        self,
        kernel: Any,
        noise: Any = None,
        *,
        mean: Any = 0.0,
        hyperparameters: str | Iterable[str] = "evidence",
        tolerance: float = 1e-4,
        max_spectra: int = 40,
        engine: str | None = None,
        work: str | os.PathLike[str] | None = None,
        likelihood: str | Likelihood = "gaussian",
    ) -> None:
        if not callable(kernel):
            raise TypeError(
                "kernel must be a gpytorch.kernels.Kernel or a function k(x1, x2) → (n1, n2) "
                f"tensor, got {type(kernel).__name__}"
            )
        self.kernel = kernel
        self.noise = None if noise is None else checks.positive("noise", noise)
        self.mean = mean
        self.hyperparameters = _free(hyperparameters)
        self.tolerance = float(checks.positive("tolerance", tolerance))
        if not isinstance(max_spectra, int) or max_spectra < 3:
            raise ValueError(f"max_spectra must be an integer of at least 3, got {max_spectra!r}")
        self.max_spectra = max_spectra
        self.engine = None if engine is None else checks.one_of("engine", engine, ENGINES)
        self.work = None if work is None else Path(work)
        self.likelihood = resolve_likelihood(likelihood)
        if self.likelihood is not None and noise is not None:
            raise ValueError(
                f"noise must be None with a {self.likelihood.name} likelihood, which has its own"
            )
        if self.likelihood is not None and not (isinstance(mean, int | float) and mean == 0):
            raise ValueError("mean must be 0 where the likelihood is not Gaussian")

    def fit(
        self,
        x: Any,
        y: Any,
        *,
        hyperparameters: str | Iterable[str] | None = None,
        progress: Progress | None = None,
    ) -> Any:
        """Condition on data, learning the hyperparameters that are free by maximum evidence.

        K does not depend on the targets. A kernel with one scalar length-scale to learn takes one
        eigendecomposition a length-scale for all outputs and tasks together (see
        `bayesgen.models.gp.lengthscale_search`); one with nothing to learn takes one; any other is
        fitted by L-BFGS on the exact gradient, task by task, with one Cholesky
        factorisation a step for all outputs. With everything fixed one Cholesky factorisation does.

        Args:
            x: inputs (n, d) or (n,), float64 or float32; everything follows its dtype and device.
                A batch of data sets (B, n, d) makes one process of each, with hyperparameters of
                its own, all at once: `bayesgen.models.gp.batched`.
            y: targets, (n,), (n, C) with C outputs that share the hyperparameters, or (B, n, C)
                with B tasks of the same inputs, each with hyperparameters of its own.
            hyperparameters: as for the constructor; overrides it for this fit.
            progress: called as progress(done, expected, what) after each step.

        Returns:
            A `GPPosterior`, a `BatchPosterior` of a batch of data sets, or a `LaplacePosterior`
            for a likelihood that is not Gaussian;
            `.evidence` has batch shape () or (B,).

        Raises:
            TypeError: x or y does not hold real numbers, or they differ in dtype.
            ValueError: NaN or infinite values, lengths that do not match, no data; a kernel whose
                matrix is not square, symmetric or PSD beyond rounding; a noise that is wanted and
                was not given.
        """
        free = self.hyperparameters if hyperparameters is None else _free(hyperparameters)
        if getattr(x, "ndim", 2) == 3:
            return self._many(checks.real("x", x), y, free, progress)
        x = checks.inputs("x", x)
        if self.likelihood is not None:
            laplace = self._by_laplace(self.likelihood, x, y, free, progress)
            laplace.learnt = self._learnt(free, x)
            return laplace
        posterior = self._exact(x, y, free, progress)
        posterior.learnt = self._learnt(free, x)
        return posterior

    def _learnt(self, free: Free, x: Tensor) -> frozenset[str]:
        """What a fit did learn: nothing of a kernel without parameters, nor of a given noise."""
        kernel, _, scale_is_free = kernels.resolve(self.kernel, x)
        given = self.noise is not None and self.noise.ndim > 0
        kept = {
            "kernel": not kernels.free_parameters(kernel),
            "scale": not scale_is_free,
            "noise": given,
        }
        return free.names() - {name for name, held in kept.items() if held}

    def _exact(self, x: Tensor, y: Any, free: Free, progress: Progress | None) -> GPPosterior:
        y = checks.targets("y", y, len(x), like=x)
        shape = y.shape
        mean = _mean_function(self.mean, like=x)
        centred = y.reshape(-1, len(x), 1 if y.ndim == 1 else y.shape[-1])
        centred = centred - mean(x)
        kernel, scale, scale_is_free = kernels.resolve(self.kernel, x)
        noise = self._noise(free, shape, x)
        per_point = is_per_point(noise)
        plan = self._plan(x, centred, per_point)
        matrices = gram(kernel, x)
        problem = GPFit(matrices, centred, scale, noise, mean, shape)
        free = Free(free.kernel, free.scale and scale_is_free, free.noise and not per_point)
        if plan is not None and plan.engine != "spectrum":
            return self._at_scale(problem, free, plan, progress)
        try:
            return self._dense(problem, free, per_point, progress)
        except (MemoryError, RuntimeError) as err:
            if per_point or self.engine is not None or not solvers.out_of_memory(err):
                raise
            why = str(err).splitlines()[0]
        plan = self._plan(x, centred, per_point, "krylov")
        assert plan is not None
        warnings.warn(
            f"the dense spectrum ran out of memory ({why[:120]}): block Lanczos instead, "
            f"{plan.reason}",
            RuntimeWarning,
            stacklevel=3,
        )
        return self._at_scale(problem, free, plan, progress)

    def _at_scale(
        self, problem: GPFit, free: Free, plan: Plan, progress: Progress | None
    ) -> GPPosterior:
        base, x = problem.gram.base, problem.gram.x
        few = gram(base, x[:: len(x) // 2000 or 1])
        check_kernel(few, few.start())
        # A grid of length-scales at full size, hence few.
        search = krylov.Search(plan, min(5, self.max_spectra), self.work, progress)
        return problem.at_scale(free, search)

    def _dense(
        self,
        problem: GPFit,
        free: Free,
        per_point: bool,
        progress: Progress | None,
    ) -> GPPosterior:
        matrices, kernel = problem.gram, problem.gram.base
        check_kernel(matrices, matrices.start())
        nothing_in_kernel = not free.kernel or not kernels.free_parameters(kernel)
        if nothing_in_kernel and not free.scale and not free.noise:
            return problem.fixed()
        if nothing_in_kernel and not per_point:
            return problem.by_spectrum(free)
        if isinstance(matrices, LengthscaleGram) and not per_point:
            tolerance = self.tolerance * len(matrices.x)
            return problem.by_lengthscale(free, tolerance, self.max_spectra, progress)
        return problem.by_gradient(free, progress)

    def _plan(
        self, x: Tensor, y: Tensor, per_point: bool, engine: str | None = None
    ) -> Plan | None:
        """None where there is nothing to choose."""
        engine = engine or self.engine
        if per_point and engine in ("krylov", "cholesky"):
            raise ValueError(f'engine="{engine}" wants one noise for all points')
        if per_point or engine == "spectrum" or (engine is None and len(x) <= _LARGE):
            return None
        plan: Plan = distributed.agreed(
            solvers.plan(
                len(x),
                x.shape[1],
                y.shape[0] * y.shape[-1],
                machine=solvers.Machine.here(x.device, self.work),
                dtype=x.dtype,
                engine=engine,
                keep=self.work is not None,
                tasks=len(y),
            )
        )
        if distributed.active() and engine is None and plan.engine == "cholesky":
            plan = replace(plan, engine="krylov")  # the whole factor would be everyone's
        return plan

    def _many(self, x: Tensor, y: Any, free: Free, progress: Progress | None) -> BatchPosterior:
        """One process for each of B data sets (B, n, d)."""
        if 0 in x.shape:
            raise ValueError(f"x must have shape (B, n, d), none of them 0, got {tuple(x.shape)}")
        zero = isinstance(self.mean, int | float) and self.mean == 0
        one_noise = self.noise is None or self.noise.ndim == 0
        if self.likelihood is not None or self.engine is not None or not zero or not one_noise:
            raise ValueError(
                "a batch of data sets (B, n, d) wants a Gaussian likelihood, a prior mean of 0, "
                "one noise and no engine"
            )
        if self.noise is None and not free.noise:
            raise ValueError(
                "noise must be given (a variance σ² > 0) where it is not learnt, got None"
            )
        kernel, scale, scale_is_free = kernels.resolve(self.kernel, x)
        free = Free(
            free.kernel and bool(kernels.free_parameters(kernel)),
            free.scale and scale_is_free,
            free.noise,
        )
        noise = x.new_ones(()) if self.noise is None else self.noise
        return batched.fit(kernel, x, y, scale, noise, free, progress)

    def _by_laplace(
        self, likelihood: Likelihood, x: Tensor, y: Any, free: Free, progress: Progress | None
    ) -> LaplacePosterior:
        kernel, scale, scale_is_free = kernels.resolve(self.kernel, x)
        matrices = gram(kernel, x)
        check_kernel(matrices, matrices.start())
        typical = matrices.parameters(kernels.with_typical_lengthscales(kernel, x))
        return fit.best(
            [matrices],
            likelihood,
            y,
            scale=float(scale),
            learn=fit.Learn(
                free.kernel and len(typical) > 0, free.scale and scale_is_free, free.noise
            ),
            thetas=[] if torch.equal(typical, matrices.start()) else [typical],
            progress=progress,
        )

    def _noise(self, free: Free, shape: torch.Size, x: Tensor) -> Tensor:
        """The noise as given, broadcastable with (B, n, C)."""
        if self.noise is None:
            if not free.noise:
                raise ValueError(
                    "noise must be given (a variance σ² > 0) where it is not learnt, got None"
                )
            return x.new_ones(1, 1, 1)  # a placeholder: the search starts from the spectrum
        noise = self.noise
        if noise.ndim == 0:
            noise = noise.to(dtype=x.dtype, device=x.device)
        noise = checks.real("noise", noise, like=x)
        n, C = len(x), 1 if len(shape) == 1 else shape[-1]
        allowed = {(), (n,), (n, C), (shape[0] if len(shape) == 3 else 1, n, C)}
        if tuple(noise.shape) not in allowed:
            raise ValueError(
                "noise must be a number or have shape (n,), (n, C) or (B, n, C) with "
                f"n = {n} and y of shape {tuple(shape)}, got {tuple(noise.shape)}"
            )
        return spread(noise)

    def __repr__(self) -> str:
        return f"GaussianProcess({self.kernel}, noise={self.noise})"


def _free(hyperparameters: str | Iterable[str]) -> Free:
    names = to_learn(hyperparameters, _NAMES, frozenset(_NAMES))
    return Free(*(name in names for name in _NAMES))


def _mean_function(mean: Any, like: Tensor) -> MeanFunction:
    """The prior mean as a function x → (n, 1) or (n, C)."""
    if callable(mean):
        function: Callable[[Tensor], Tensor] = mean

        def columns(x: Tensor) -> Tensor:
            values = checks.real("mean(x)", function(x), like=x)
            return values[:, None] if values.ndim == 1 else values

        return columns
    value = (
        like.new_tensor(float(mean))
        if isinstance(mean, int | float)
        else checks.real("mean", mean, like=like)
    )
    if value.ndim > 1:
        raise ValueError(f"mean must be a number or of shape (C,), got {tuple(value.shape)}")
    return lambda x: value.reshape(1, -1).expand(len(x), -1)
