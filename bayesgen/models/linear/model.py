"""Linear models in any basis, whose prior variances may depend on the order of each feature."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Generic, Literal, TypeVar, cast, overload

import torch
from torch import Tensor

from bayesgen._internal import checks
from bayesgen._internal.progress import Progress, ProgressOption
from bayesgen._internal.progress_bar import shows_progress
from bayesgen.covariance.linear import FeatureGram
from bayesgen.evidence import better
from bayesgen.features import bases, priors
from bayesgen.features.priors import Prior
from bayesgen.likelihoods import Likelihood, resolve as resolve_likelihood
from bayesgen.models import profile_search, tables
from bayesgen.models.hyperparameters import Free, check_learnable, to_learn
from bayesgen.models.latent import fit
from bayesgen.models.latent.posterior import LaplaceLinearPosterior
from bayesgen.models.linear.posterior import LinearPosterior, WeightPosterior
from bayesgen.posterior.posterior import Observed
from bayesgen.spectrum.decomposition import CHOICES
from bayesgen.spectrum.maximise import maximise
from bayesgen.spectrum.spectrum import Spectrum

_NAMES = ("scale", "decay", "noise", "order")
# What "evidence" learns. The order is learnt only by request, because it discards features.
_DEFAULT = frozenset({"scale", "decay", "noise"})


# The posterior that a model's fit returns, by its likelihood.
P = TypeVar("P", LinearPosterior, LaplaceLinearPosterior)


class LinearModel(Generic[P]):
    """The linear model y = Φ(x)w + ε with independent weights wⱼ ~ N(0, s·vⱼ) and ε ~ N(0, σ²).

    All outputs share the prior. The evidence is exact. It is computed from a singular value
    decomposition of Φ diag(v)^½, or of its (n, n) triangular factor where there are more features
    than points. The precision matrix of the weights is never formed.

    Args:
        basis: None takes x itself as the features; otherwise a function from x (n, D) to a tensor
            (n, d), or a `bayesgen.features.bases.Basis`.
        prior_variance: prior variances v: a number, a vector (d,), a function of the order (a
            tensor (d,) of integers) or a `bayesgen.features.priors` prior. The prior's `scale` is
            the starting value of s.
        noise: noise variance σ²; required where it is not learnt.
        likelihood: "gaussian", "bernoulli", "softmax", "poisson", "student-t", or a
            `bayesgen.likelihoods.Likelihood`. For all but "gaussian" the evidence is Laplace's
            approximation and `noise` must be None.
        hyperparameters: "evidence" (scale, decay and noise maximise the evidence), "fixed" (all
            are kept as given), or some of the names "scale", "decay" (γ of a geometric or p of a
            power prior, r of a tied and free one), "noise" and "order" (features above the best
            order are dropped).
        tolerance: gain in evidence, in nats per observation, below which the search over the decay
            stops.
        max_spectra: largest number of decompositions in that search.
        decomposition: "svd" decomposes the features. "gram" uses ΦᵀΦ, which is cheaper for many
            more points than features but loses eigenvalues below n·eps·λ_max; the features must
            then be of similar size (see `Spectrum.tall`). "auto" is "gram" where there are at
            least as many points as features, and else "svd".

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range; the message names
            it.

    Source: MacKay (1992); Bishop (2006), section 3.5; Rasmussen & Ghahramani (2000).

    Example:
        >>> x = torch.linspace(-1, 1, 30, dtype=torch.float64)
        >>> model = LinearModel(bases.Polynomial(5), priors.geometric(2.0), noise=0.01)
        >>> posterior = model.fit(x, torch.sin(3 * x), hyperparameters="fixed")
        >>> round(float(posterior.evidence.log_marginal_likelihood), 2)
        -3.04
    """

    @overload
    def __init__(
        self: LinearModel[LinearPosterior],
        basis: Any = None,
        prior_variance: Any = 1.0,
        noise: Any = None,
        *,
        likelihood: Literal["gaussian"] = "gaussian",
        hyperparameters: str | Iterable[str] = "evidence",
        tolerance: float = 1e-4,
        max_spectra: int = 40,
        decomposition: str = "svd",
    ) -> None: ...

    @overload
    def __init__(
        self: LinearModel[LaplaceLinearPosterior],
        basis: Any = None,
        prior_variance: Any = 1.0,
        noise: None = None,
        *,
        likelihood: str | Likelihood,
        hyperparameters: str | Iterable[str] = "evidence",
        tolerance: float = 1e-4,
        max_spectra: int = 40,
        decomposition: str = "svd",
    ) -> None: ...

    def __init__(
        self,
        basis: Any = None,
        prior_variance: Any = 1.0,
        noise: Any = None,
        *,
        likelihood: str | Likelihood = "gaussian",
        hyperparameters: str | Iterable[str] = "evidence",
        tolerance: float = 1e-4,
        max_spectra: int = 40,
        decomposition: str = "svd",
    ) -> None:
        self.decomposition = checks.one_of("decomposition", decomposition, CHOICES)
        self.basis = bases.resolve(basis)
        self.prior = priors.resolve(prior_variance)
        self.noise = None if noise is None else checks.owned(checks.positive("noise", noise))
        if self.noise is not None and self.noise.ndim:
            raise ValueError(f"noise must be one variance, got shape {tuple(self.noise.shape)}")
        self.likelihood = resolve_likelihood(likelihood)
        if self.likelihood is not None and noise is not None:
            raise ValueError(
                f"noise must be None with a {self.likelihood.name} likelihood, which has its own"
            )
        self.hyperparameters = self._free(hyperparameters)
        self.tolerance = checks.positive_number("tolerance", tolerance)
        self.max_spectra = checks.whole("max_spectra", max_spectra, 3)

    @shows_progress
    def fit(
        self,
        x: Any,
        y: Any,
        *,
        hyperparameters: str | Iterable[str] | None = None,
        standardise: bool = False,
        missing: str = "refuse",
        progress: ProgressOption = None,
    ) -> P:
        """Condition on data and learn the free hyperparameters by maximising the evidence.

        One spectrum gives the global optimum of scale and noise. The decay is searched for each
        task by its exact derivative, starting from a grid. The order is found by trying every one.

        Args:
            x: inputs (n, D) or (n,): a tensor, an array or a DataFrame, whose rows count by
                position. Columns of text and dates are coded as in `GaussianProcess.fit`. Data are
                copied, and derivatives with respect to them are not followed.
            y: targets (n,), (n, C) or (B, n, C); other likelihoods describe their own targets.
            hyperparameters: as in the constructor; overrides it for this fit.
            standardise: True scales each column of x, and real targets of each output, to mean 0
                and standard deviation 1 for the model. Stated hyperparameters are then in these
                units, and a noise variance must not be kept. Predictions are in the units of the
                data, and the evidence has the Jacobian −n log s, so that it can be compared with
                that of other models of the same targets; see
                `bayesgen.models.StandardisedPosterior`, which is returned.
            missing: "refuse" raises an error where a value is missing; "drop" leaves out such rows
                and says in `posterior.notes` how many.
            progress: called as progress(done, expected, what); True shows a progress bar.

        Returns:
            A `LinearPosterior`, or a `LaplaceLinearPosterior` for another likelihood than the
            Gaussian.

        Raises:
            TypeError: x or y does not hold numbers; x and y differ in dtype.
            ValueError: a value is NaN or infinite; the lengths of x and y differ; the noise is
                neither given nor learnt; the features overflow.
            NotConvergedError: no mode was found under a likelihood that is not Gaussian.
        """
        again = partial(self.fit, hyperparameters=hyperparameters, progress=progress)
        if torch.is_inference_mode_enabled():  # derivatives need tensors made outside of it
            with torch.inference_mode(False):
                return again(x, y, standardise=standardise, missing=missing)
        free = self.hyperparameters if hyperparameters is None else self._free(hyperparameters)
        reading = tables.Reading(standardise, missing)
        if reading.needed(x):
            kept = self.noise is not None and "noise" not in free
            read: P = reading.fitted(again, x, y, self.likelihood, noise_kept=kept)
            return read
        labels = self.likelihood is not None and self.likelihood.labels  # encoded later
        x, y = checks.data(x, y, labels=labels)
        features = replace(self.basis.on(x), basis=self.basis)
        if self.likelihood is not None:
            whole = FeatureGram(features, x, self.prior)
            grams = [whole.up_to(k) for k in _orders(features, free)]
            result = fit.best(
                grams,
                self.likelihood,
                y,
                scale=self.prior.scale,
                free=Free(
                    "decay" in free and self.prior.decay is not None,
                    "scale" in free,
                    "noise" in free,
                ),
                progress=progress,
            )
            result.learnt = self._learnt(free)
            result.learn(stated={"scale": x.new_tensor([self.prior.scale])})
            return cast(P, result)
        y = checks.targets("y", y, len(x), like=x)
        if self.noise is None and "noise" not in free:
            raise ValueError(
                "noise must be given (a variance σ² > 0) where it is not learnt, got None"
            )
        observed = Observed.real(y)
        gram = FeatureGram(features, x, self.prior, decomposition=self.decomposition)
        scale = None if "scale" in free else x.new_tensor(self.prior.scale)
        noise = None if "noise" in free or self.noise is None else self.noise.to(x)
        chosen: WeightPosterior | None = None
        orders = _orders(features, free)
        spectra = 0
        if "decay" in free and self.prior.decay is not None:
            for k in orders:
                part = gram.up_to(k)
                found, taken = self._by_decay(part, observed.y, scale, noise, k, progress)
                chosen, spectra = _better(chosen, found), spectra + taken
        else:
            for k, spectrum in zip(orders, nested(gram, observed.y, orders), strict=True):
                top = maximise(spectrum, scale, noise)
                theta = gram.start().expand(len(observed.y), -1)
                full = torch.full_like(top.scale, k, dtype=torch.int64)
                found = WeightPosterior(theta, top.scale, top.noise, full, top.parts, top.at_bound)
                chosen, spectra = _better(chosen, found), spectra + 1
        assert chosen is not None
        posterior: Any = LinearPosterior(gram, observed, chosen, spectra)
        posterior.learnt = self._learnt(free)
        posterior.learn()
        return posterior

    def _free(self, hyperparameters: str | Iterable[str]) -> frozenset[str]:
        """What is learnt; of the names given, this model must have one."""
        missing = {}
        if self.prior.decay is None:
            missing["decay"] = f"the prior {self.prior.name} has none"
        if self.likelihood is not None and self.likelihood.log_noise is None:
            missing["noise"] = f"a {self.likelihood.name} likelihood has no noise variance"
        names = to_learn(hyperparameters, _NAMES, _DEFAULT)
        check_learnable(names, missing)
        return names

    def _learnt(self, free: frozenset[str]) -> frozenset[str]:
        return free - ({"decay"} if self.prior.decay is None else set())

    def _by_decay(
        self,
        gram: FeatureGram,
        y: Tensor,
        scale: Tensor | None,
        noise: Tensor | None,
        order: int,
        progress: Progress | None,
    ) -> tuple[WeightPosterior, int]:
        points = [self.prior.coordinate(value) for value in self.prior.search]
        best = profile_search.search_profile(
            _Decays(gram, y, self.prior),
            profile_search.Line(points, points[0], points[-1], 1.0),
            scale=scale,
            noise=noise,
            tolerance=self.tolerance * len(gram.x),
            most=self.max_spectra,
            progress=progress,
        )
        orders = torch.full_like(best.scale, order, dtype=torch.int64)
        # A decay at the end of its range is reported even where the evidence is flat beyond it.
        low, high = sorted((points[0], points[-1]))
        room = 1e-6 * (high - low)
        ended = (best.parameter <= low + room) | (best.parameter >= high - room)
        found = WeightPosterior(
            best.parameter[:, None],
            best.scale,
            best.noise,
            orders,
            best.parts,
            best.at_bound | ended,
        )
        return found, best.spectra

    def __repr__(self) -> str:
        kind = "" if self.likelihood is None else f", likelihood={self.likelihood.name!r}"
        return f"LinearModel({self.basis}, {self.prior.name}, noise={self.noise}{kind})"


def nested(gram: FeatureGram, y: Tensor | None, orders: Iterable[int]) -> Iterator[Spectrum]:
    """Spectra of nested models, one for each order, that use the features up to that order.

    One QR decomposition of all features serves every order, followed by the singular value
    decomposition of a leading block of R for each. The squared norm of the targets outside the span
    of the features is a sum of squares, so nothing cancels.

    Args:
        gram: features sorted by order, with the prior at its given decay.
        y: targets, (B, n, C), or None.
        orders: the largest order of each model.
    """
    theta = gram.start()
    on = gram.log_variance(theta) > -torch.inf
    of_kept = gram.orders[on]
    orders = list(orders)
    if len(orders) == 1:
        yield Spectrum.of_decomposition(gram.up_to(orders[0]).decompose(theta), y)
        return
    rooted = gram.rooted(theta)
    Q, R = torch.linalg.qr(rooted)
    shared = Q.shape[1]
    inside = None if y is None else Q.mT @ y
    outside = None if y is None else (y - Q @ inside).square().sum((-2, -1))
    for k in orders:
        columns = int((of_kept <= k).sum())
        rows = min(shared, columns)
        kept = None if inside is None else inside[:, :rows]
        dropped = None if inside is None else inside[:, rows:].square().sum((-2, -1)) + outside
        yield Spectrum.reduced(R[:rows, :columns], len(gram.x), kept, dropped)


class _Decays:
    """Prior covariances as a function of the decay; implements `profile_search.Family`."""

    def __init__(self, gram: FeatureGram, y: Tensor, prior: Prior) -> None:
        self.gram, self.y, self.prior = gram, y, prior

    def spectrum(self, t: float) -> Spectrum:
        return Spectrum.of_decomposition(self.gram.decompose(self.y.new_tensor([t])), self.y)

    def slope(
        self, t: float, spectrum: Spectrum, scale: Tensor, noise: Tensor, alpha: Tensor
    ) -> Tensor:
        theta = self.y.new_tensor([t])
        gradient = prior_gradient(self.gram.rooted(theta), spectrum, scale, noise)
        on = self.gram.log_variance(theta) > -torch.inf
        full = gradient.new_zeros(len(gradient), len(on))
        full[:, on] = gradient
        return self.gram.chain(theta, full, of_log=True)[:, 0]

    def describe(self, t: float) -> str:
        return f"decay {float(self.prior.natural(torch.tensor(t))):.4g}"


def prior_gradient(rooted: Tensor, spectrum: Spectrum, scale: Tensor, noise: Tensor) -> Tensor:
    """Derivatives of the log marginal likelihood in the log prior variances log vⱼ, (B, d).

        ½ [Σ_c mⱼc²/(s vⱼ) − C hⱼ],  hⱼ = s φ̃ⱼᵀA⁻¹φ̃ⱼ,  φ̃ⱼ = φⱼ vⱼ^½

    where m are the posterior mean weights and hⱼ is the number of effective parameters of weight j.

    Args:
        rooted: scaled features Φ diag(v)^½, (n, d).
        spectrum: spectrum of the scaled features, with targets.
        scale: outputscale of each task, (B,).
        noise: noise variance of each task, (B,).

    Source: Bishop (2006), eq. 3.92 and exercise 3.20; MacKay (1992).
    """
    assert spectrum.vectors is not None
    assert spectrum.projections is not None
    loading = spectrum.vectors.mT @ rooted  # (m, d)
    nodes = spectrum.density.nodes[: len(loading)]
    inverse = 1 / (scale[:, None] * nodes + noise[:, None])
    freedom = scale[:, None] * (inverse @ loading.square())
    size = scale[:, None, None] ** 0.5 * (loading.mT @ (inverse[..., None] * spectrum.projections))
    return 0.5 * (size.square().sum(-1) - spectrum.outputs * freedom)


def _orders(features: bases.Features, free: frozenset[str]) -> list[int]:
    """The orders to try: all of them where the order is learnt, else the largest."""
    top = int(features.orders.max())
    return sorted(set(features.orders.tolist())) if "order" in free else [top]


def _better(old: WeightPosterior | None, new: WeightPosterior) -> WeightPosterior:
    """For each task, the one of two posteriors with more evidence."""
    if old is None:
        return new
    pick = better(old.parts, new.parts)
    return WeightPosterior(
        pick(old.theta, new.theta),
        pick(old.scale, new.scale),
        pick(old.noise, new.noise),
        pick(old.order, new.order),
        old.parts.map(pick, new.parts),
        pick(old.at_bound, new.at_bound),
    )
