"""Gaussian process regression with hyperparameters that maximise the exact evidence."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, cast, overload

import torch
from torch import Tensor

from bayesgen import kernels, solvers
from bayesgen._internal import checks, deprecation
from bayesgen._internal.progress import Progress, ProgressOption
from bayesgen._internal.progress_bar import reporting, shows_progress
from bayesgen._internal.user_warning import warn
from bayesgen.covariance import distributed
from bayesgen.covariance.gram import LengthscaleGram, gram
from bayesgen.likelihoods import Likelihood, resolve as resolve_likelihood
from bayesgen.models import tables
from bayesgen.models.gp import batched, fit, krylov, mean as means
from bayesgen.models.gp.batched import BatchPosterior
from bayesgen.models.gp.objective import is_per_point, spread
from bayesgen.models.gp.posterior import GPPosterior
from bayesgen.models.gp.problem import Found, GPSetting, Problem, zero_mean
from bayesgen.models.hyperparameters import Free, check_learnable, to_learn
from bayesgen.models.latent import fit as latent
from bayesgen.models.latent.posterior import LaplaceGPPosterior, LaplacePosterior
from bayesgen.posterior.posterior import Observed
from bayesgen.solvers import Plan
from bayesgen.solvers.planning import ENGINES

_NAMES = ("kernel", "scale", "noise", "mean")
# Largest number of points for which the dense spectrum is always used; it takes minutes.
_LARGE = 8000
# Seconds after which a progress bar appears.
_LATE = 2.0


# The posterior that a model's fit returns, by its likelihood.
P = TypeVar("P", GPPosterior, LaplaceGPPosterior)


class GaussianProcess(Generic[P]):
    """A Gaussian process prior with Gaussian noise: y = m(x) + f(x) + ε, f ~ GP(0, s·k).

    Args:
        kernel: a `gpytorch.kernels.Kernel` (copied, never changed), or a plain function from x1 and
            x2 to a tensor (n1, n2); `bayesgen.kernels.stationary` gives such a function a
            length-scale. The outputscale of an outermost `ScaleKernel` is s; without one, s starts
            at 1. Parameters whose `requires_grad` is False are kept. Priors registered on the
            kernel do not enter the evidence. The kernel must be one number k(x, x') that depends on
            nothing else than its parameters; networks in it are in evaluation mode, and weights
            that it draws when first evaluated are drawn with a fixed seed.
        noise: noise variance σ²: a number, or a tensor of shape (n,), (n, C) or (B, n, C) for a
            known noise variance at each point. A number is a value to keep, unless "noise" is among
            the hyperparameters to learn. Noise variances per point are always kept.
        mean: prior mean: a number, a tensor (C,), or a function or module from x to (n,) or (n, C).
            Targets are used as given; they are not centred or scaled. A function or a
            `torch.nn.Module` is kept as it is. The parameters of a `gpytorch.means` module that is
            linear in them, such as `ConstantMean` and `LinearMean`, are learnt for one task.
        hyperparameters: "evidence" (kernel, scale, noise and mean maximise the evidence), "fixed"
            (all are kept as given), or some of the names "kernel", "scale", "noise" and "mean",
            which are then learnt. For example, ("kernel", "scale") keeps a small noise variance for
            interpolation.
        tolerance: gain in evidence, in nats per observation, below which the length-scale search
            stops.
        max_spectra: largest number of eigendecompositions in that search.
        engine: "spectrum" is dense and exact. "krylov" is block Lanczos, with an error (see
            `bayesgen.models.gp.krylov`). "cholesky" finds hyperparameters by block Lanczos and
            computes the exact evidence at them. None takes "spectrum" for up to 8,000 points, and
            above it the engine that `bayesgen.solvers.plan` chooses for this machine.
        work: folder in which "krylov" writes its Gram matrix (n² numbers) and its finished blocks,
            so that an interrupted fit can continue; None writes nothing.
        likelihood: "gaussian", "bernoulli", "softmax", "poisson", "student-t", or a
            `bayesgen.likelihoods.Likelihood`. For all but "gaussian", the evidence is Laplace's
            approximation, maximised on its exact gradient; the likelihood's own noise variance, if
            it has one, is learnt.
        starts: number of starts from which the hyperparameters are searched, for a kernel of up to
            five parameters; more for more parameters. With 1, only the given values are climbed.
        seed: seed of the starts; a fit is deterministic.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range; the message names
            it.

    Source: Rasmussen & Williams (2006), chapters 2 and 5.

    Example:
        >>> import gpytorch
        >>> x = torch.linspace(0, 1, 30, dtype=torch.float64)[:, None]
        >>> y = torch.sin(6 * x[:, 0])
        >>> gp = GaussianProcess(gpytorch.kernels.RBFKernel(), noise=0.01, hyperparameters="fixed")
        >>> round(float(gp.fit(x, y).evidence.per_observation), 2)
        -2.11
    """

    @overload
    def __init__(
        self: GaussianProcess[GPPosterior],
        kernel: Any,
        noise: Any = None,
        *,
        mean: Any = 0.0,
        hyperparameters: str | Iterable[str] = "evidence",
        tolerance: float = 1e-4,
        max_spectra: int = 40,
        engine: str | None = None,
        work: str | os.PathLike[str] | None = None,
        likelihood: Literal["gaussian"] = "gaussian",
        starts: int = 6,
        seed: int = 0,
    ) -> None: ...

    @overload
    def __init__(
        self: GaussianProcess[LaplaceGPPosterior],
        kernel: Any,
        noise: None = None,
        *,
        mean: float = 0.0,
        hyperparameters: str | Iterable[str] = "evidence",
        tolerance: float = 1e-4,
        max_spectra: int = 40,
        engine: str | None = None,
        work: str | os.PathLike[str] | None = None,
        likelihood: str | Likelihood,
        starts: int = 6,
        seed: int = 0,
    ) -> None: ...

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
        starts: int = 6,
        seed: int = 0,
    ) -> None:
        kernels.check_kernel(kernel)
        self.kernel = kernel
        self.noise = None if noise is None else checks.owned(checks.positive("noise", noise))
        self.mean = means.check(mean)
        self.tolerance = checks.positive_number("tolerance", tolerance)
        self.max_spectra = checks.whole("max_spectra", max_spectra, 3)
        self.engine = None if engine is None else checks.one_of("engine", engine, ENGINES)
        self.work = None if work is None else Path(work)
        self.starts = checks.whole("starts", starts)
        self.seed = checks.seed(seed)
        self.likelihood = resolve_likelihood(likelihood)
        if self.likelihood is not None and noise is not None:
            raise ValueError(
                f"noise must be None with a {self.likelihood.name} likelihood, which has its own"
            )
        if self.likelihood is not None and not means.is_zero(mean):
            raise ValueError("mean must be 0 where the likelihood is not Gaussian")
        self.hyperparameters = self._free(hyperparameters)

    def fit(
        self,
        x: Any,
        y: Any,
        *,
        hyperparameters: str | Iterable[str] | None = None,
        standardise: bool = False,
        missing: str = "refuse",
        progress: Progress | bool | None = None,
    ) -> P:
        """Condition on data and learn the free hyperparameters by maximising the evidence.

        K does not depend on the targets, so all outputs and tasks share its decompositions:

        - With no free kernel parameter, one eigendecomposition gives the best scale and noise.
        - With one scalar length-scale to learn, each length-scale takes one eigendecomposition (see
          `bayesgen.models.gp.lengthscale_search`).
        - Other kernels are fitted from many starts on the exact gradient for each task (see
          `bayesgen.models.gp.gradient_search`).
        - With all hyperparameters fixed, one Cholesky factorisation is enough.

        Args:
            x: inputs (n, d) or (n,), float64 or float32: a tensor, an array or a DataFrame, whose
                rows count by position. A column of text is coded by one indicator for each of its
                values, and one of dates by its years; `posterior.columns` keeps the coding, and
                new tables are read by column name. All results have its dtype and device. Data are
                copied, and derivatives with respect to them are not followed. A batch of data
                sets, (B, n, d), is for `fit_batch`.
            y: targets: (n,); (n, C) with C outputs that share the hyperparameters; or (B, n, C)
                with B tasks on the same inputs, each with its own hyperparameters.
            hyperparameters: as in the constructor; overrides it for this fit.
            standardise: True scales each column of x, and real targets of each output, to mean 0
                and standard deviation 1 for the model. Stated hyperparameters are then in these
                units, and a noise variance must not be kept. Predictions are in the units of the
                data, and the evidence has the Jacobian −n log s, so that it can be compared with
                that of other models of the same targets; see
                `bayesgen.models.StandardisedPosterior`, which is returned.
            missing: "refuse" raises an error where a value is missing; "drop" leaves out such rows
                and says in `posterior.notes` how many.
            progress: called as progress(done, expected, what) after each step, or True for a
                progress bar on stderr that appears after 2 seconds.

        Returns:
            A `GPPosterior`, or a `LaplaceGPPosterior` for a likelihood that is not Gaussian; its
            `evidence` has batch shape () or (B,).

        Raises:
            TypeError: x or y does not hold real numbers; x and y differ in dtype.
            ValueError: a value is NaN or infinite; the lengths of x and y differ; there are no
                data; the kernel's matrix is not square, symmetric or PSD up to rounding, or differs
                between two evaluations; the noise is neither given nor learnt; the parameters of
                the mean cannot be learnt from these targets or by this engine.
            NotConvergedError: no mode was found under a likelihood that is not Gaussian.
        """
        if getattr(x, "ndim", 2) == 3:
            deprecation.warn_renamed("fit(x, y) with x (B, n, d)", "fit_batch(x, y)")
            with reporting(progress, "hyperparameters", _LATE) as report:
                batch = self.fit_batch(x, y, hyperparameters=hyperparameters, progress=report)
            return cast(P, batch)
        again = partial(self.fit, hyperparameters=hyperparameters, progress=progress)
        if torch.is_inference_mode_enabled():  # derivatives need tensors made outside of it
            with torch.inference_mode(False):
                return again(x, y, standardise=standardise, missing=missing)
        free = self.hyperparameters if hyperparameters is None else self._free(hyperparameters)
        reading = tables.Reading(standardise, missing)
        if reading.needed(x):
            kept = self.noise is not None and (self.noise.ndim > 0 or not free.noise)
            read: P = reading.fitted(again, x, y, self.likelihood, noise_kept=kept)
            return read
        labels = self.likelihood is not None and self.likelihood.labels  # encoded later
        x, y = checks.data(x, y, labels=labels)
        _check_span(x)
        with reporting(progress, "hyperparameters", _LATE) as report:
            if self.likelihood is not None:
                return cast(P, self._by_laplace(self.likelihood, x, y, free, report))
            posterior: Any = self._exact(x, y, free, report)
            return posterior

    def _exact(self, x: Tensor, y: Any, free: Free, progress: Progress | None) -> GPPosterior:
        problem = self._problem(x, y, free)
        if problem.free.mean:
            fit.check_kernel(problem.gram, problem.given.theta)
            problem, found = fit.with_mean(problem, self.starts, self.seed, progress)
            return _learnt(problem, found)
        plan = self._plan(problem)
        try:
            found = self._way(problem, plan, progress)()
        except (MemoryError, RuntimeError) as err:
            dense = plan is None or plan.engine == "spectrum"
            kept = self.engine is not None or is_per_point(problem.given.noise)
            if not dense or kept or not solvers.out_of_memory(err):
                raise
            found = self._way(problem, self._smaller_plan(problem, err), progress)()
        return _learnt(problem, found)

    @shows_progress
    def fit_batch(
        self,
        x: Any,
        y: Any,
        *,
        hyperparameters: str | Iterable[str] | None = None,
        progress: ProgressOption = None,
    ) -> BatchPosterior:
        """Fit a Gaussian process to each of B data sets at once, each with its own hyperparameters.

        The likelihood must be Gaussian, the prior mean 0, and the kernel radial with one
        length-scale. See `bayesgen.models.gp.batched` for the method.

        Args:
            x: inputs, (B, n, d).
            y: targets, (B, n) or (B, n, C).
            hyperparameters: as in the constructor; overrides it for this fit.
            progress: called as progress(done, expected, what) after each step; True shows a
                progress bar.

        Returns:
            A `BatchPosterior`, whose `evidence` has batch shape (B,).

        Raises:
            TypeError: x or y does not hold real numbers; x and y differ in dtype.
            ValueError: the shapes do not match; the likelihood, mean, kernel, noise or engine is
                not supported for a batch.

        Example:
            >>> import gpytorch
            >>> x = torch.linspace(0, 1, 20, dtype=torch.float64).expand(3, 20)[..., None]
            >>> y = torch.stack([torch.sin(k * x[0, :, 0]) for k in (2, 4, 6)])
            >>> posterior = GaussianProcess(gpytorch.kernels.RBFKernel()).fit_batch(x, y)
            >>> posterior.evidence.batch_shape, posterior.task(2).evidence.batch_shape
            (torch.Size([3]), torch.Size([]))
        """
        if torch.is_inference_mode_enabled():  # derivatives need tensors made outside of it
            with torch.inference_mode(False):
                return self.fit_batch(x, y, hyperparameters=hyperparameters, progress=progress)
        x = checks.owned(batched.finite("x", x))
        free = self.hyperparameters if hyperparameters is None else self._free(hyperparameters)
        if x.ndim != 3 or 0 in x.shape:
            raise ValueError(f"x must have shape (B, n, d), none of them 0, got {tuple(x.shape)}")
        _check_span(x)
        zero = means.is_zero(self.mean)
        one_noise = self.noise is None or self.noise.ndim == 0
        if self.likelihood is not None or self.engine is not None or not zero or not one_noise:
            raise ValueError(
                "fit_batch needs a Gaussian likelihood, a prior mean of 0, one noise for all "
                "points and engine=None"
            )
        kernel, scale, scale_is_free = kernels.resolve(self.kernel, x)
        limits = (0.0, math.inf)
        if kernels.has_limited_scale(kernel):
            constraint = kernel.raw_outputscale_constraint
            limits = float(constraint.lower_bound), float(constraint.upper_bound)
            kernel, scale = kernel.base_kernel, kernel.outputscale.detach().clone()
        free = free.within(kernel, scale_is_free, False)
        noise = self._noise(free, x.shape[1:2], x).reshape(())
        return batched.fit(kernel, x, y, scale, noise, free, progress, limits)

    def _problem(self, x: Tensor, y: Any, free: Free) -> Problem:
        """Check all that the user passed and collect it in a `Problem`."""
        y = checks.targets("y", y, len(x), like=x)
        noise = self._noise(free, y.shape, x)
        kernel, scale, scale_is_free = kernels.resolve(self.kernel, x)
        free = free.within(kernel, scale_is_free, is_per_point(noise))
        matrices, observed = gram(kernel, x), Observed.real(y)
        if free.mean:
            self._check_mean(observed)
        mean = means.resolve(self.mean, x, observed.y.shape[-1])
        given = GPSetting(matrices.start(), scale, noise)
        return Problem(
            matrices,
            observed,
            observed.y if mean is zero_mean else observed.y - mean(x),
            mean,
            given,
            free,
        )

    def _check_mean(self, observed: Observed) -> None:
        """Check that the parameters of the mean can be learnt from these targets."""
        keep = 'keep it by hyperparameters=("kernel", "scale", "noise")'
        if self.engine in ("krylov", "cholesky"):
            raise ValueError(
                f'engine="{self.engine}" does not learn the parameters of mean; {keep}'
            )
        if len(observed.y) > 1:
            raise ValueError(
                f"mean has parameters to learn, which needs y of one task, (n,) or (n, C), got "
                f"{tuple(observed.shape)}; {keep}"
            )

    def _way(
        self, problem: Problem, plan: Plan | None, progress: Progress | None
    ) -> Callable[[], Found]:
        """Choose the function of `fit` that solves the problem.

        Args:
            problem: the problem to solve.
            plan: plan of a large fit, or None.
            progress: called as progress(done, expected, what).
        """
        matrices, free = problem.gram, problem.free
        if plan is not None and plan.engine != "spectrum":
            few = gram(matrices.base, matrices.x[:: len(matrices.x) // 2000 or 1])
            fit.check_kernel(few, few.start())
            # Each length-scale costs a spectrum of all points, so only a few are tried.
            search = krylov.Search(plan, min(5, self.max_spectra), self.work, progress)
            return partial(fit.by_krylov, problem, search)
        fit.check_kernel(matrices, problem.given.theta)
        if not (free.kernel or free.scale or free.noise):
            return partial(fit.fixed, problem)
        per_point = is_per_point(problem.given.noise)
        if not free.kernel and not per_point:
            return partial(fit.by_spectrum, problem)
        if isinstance(matrices, LengthscaleGram) and not per_point:
            tolerance = self.tolerance * len(matrices.x)
            most, starts, seed = self.max_spectra, self.starts, self.seed
            return partial(fit.by_lengthscale, problem, tolerance, most, starts, seed, progress)
        return partial(fit.by_gradient, problem, self.starts, self.seed, progress)

    def _smaller_plan(self, problem: Problem, error: Exception) -> Plan | None:
        """The plan for block Lanczos, with a warning that the dense spectrum needs more memory."""
        plan = self._plan(problem, "krylov")
        assert plan is not None
        why = str(error).splitlines()[0]
        warn(
            f"the dense spectrum ran out of memory ({why[:120]}): block Lanczos instead, "
            f"{plan.reason}"
        )
        return plan

    def _plan(self, problem: Problem, engine: str | None = None) -> Plan | None:
        """The plan of a large fit, or None for a dense spectrum."""
        x, y = problem.gram.x, problem.y
        engine = engine or self.engine
        if engine is None and len(x) <= _LARGE:
            return None
        per_point = is_per_point(problem.given.noise)
        if per_point and engine in ("krylov", "cholesky"):
            raise ValueError(
                f'engine="{engine}" needs one noise for all points, got a noise per point'
            )
        if per_point or engine == "spectrum":
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
            plan = replace(plan, engine="krylov")  # each process would hold the whole factor
        return plan

    def _by_laplace(
        self, likelihood: Likelihood, x: Tensor, y: Any, free: Free, progress: Progress | None
    ) -> LaplacePosterior:
        kernel, scale, scale_is_free = kernels.resolve(self.kernel, x)
        free = free.within(kernel, scale_is_free, False)
        matrices = gram(kernel, x)
        fit.check_kernel(matrices, matrices.start())
        posterior = latent.best(
            [matrices],
            likelihood,
            y,
            scale=float(scale),
            free=free,
            starts=self.starts,
            seed=self.seed,
            progress=progress,
        )
        posterior.learn(stated={"kernel": matrices.natural(matrices.start()), "scale": scale})
        return posterior

    def _free(self, hyperparameters: str | Iterable[str]) -> Free:
        """What is learnt of what this model has."""
        missing = {}
        if self.likelihood is not None and self.likelihood.log_noise is None:
            missing["noise"] = f"a {self.likelihood.name} likelihood has no noise variance"
        if self.noise is not None and self.noise.ndim:
            missing["noise"] = "noise variances per point are kept"
        if not means.has_parameters(self.mean):
            missing["mean"] = "mean is no gpytorch.means module with free parameters"
        names = to_learn(hyperparameters, _NAMES, frozenset(_NAMES))
        check_learnable(names, missing)
        names -= {"mean"} & set(missing)
        return Free(*(name in names for name in _NAMES))

    def _noise(self, free: Free, shape: torch.Size, x: Tensor) -> Tensor:
        """The given noise variance, checked and broadcastable with (B, n, C)."""
        if self.noise is None:
            if not free.noise:
                raise ValueError(
                    "noise must be given (a variance σ² > 0) where it is not learnt, got None"
                )
            return x.new_ones(1, 1, 1)  # a placeholder: the search starts from the spectrum
        noise = self.noise
        if noise.ndim == 0:
            return noise.to(dtype=x.dtype, device=x.device).reshape(1, 1, 1)
        noise = checks.positive("noise", noise, like=x)
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


def _learnt(problem: Problem, found: Found) -> GPPosterior:
    """The posterior of a fit, after recording what the fit has learnt."""
    posterior = GPPosterior(problem, found, problem.free.names())
    posterior.learn()
    return posterior


def _check_span(x: Tensor) -> None:
    """Check that squared distances of inputs (..., n, d) do not overflow."""
    size, limit = x.abs().flatten(0, -2).amax(0), torch.finfo(x.dtype).max ** 0.49
    if (size > limit).any():
        column = int(size.argmax())
        raise ValueError(
            f"x must not exceed {limit:.0e}, so that squares are finite in {x.dtype}, got "
            f"{float(size[column]):.3g} in column {column}: divide the column by a constant"
        )
