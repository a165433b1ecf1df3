"""Laplace's approximation to the evidence of a trained network."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from bayesgen._internal import checks
from bayesgen._internal.progress import Progress, ProgressOption
from bayesgen._internal.progress_bar import shows_progress
from bayesgen._internal.user_warning import warn
from bayesgen._internal.words import plural
from bayesgen.curvature.curvature import PriorShape
from bayesgen.curvature.factory import CURVATURES, Request, by_products_only, last_linear
from bayesgen.curvature.gradient_check import RowsDifferError
from bayesgen.curvature.parameters import Weights
from bayesgen.data.columns import ColumnOrder, is_table
from bayesgen.errors import NotAtModeWarning
from bayesgen.evidence import Evidence
from bayesgen.likelihoods import Gaussian
from bayesgen.likelihoods.likelihood import Likelihood, resolve, with_noise
from bayesgen.models.hyperparameters import to_learn
from bayesgen.models.network import linearised, remode
from bayesgen.models.network.data import read, unit
from bayesgen.models.network.posterior import NetworkFit, NetworkPosterior
from bayesgen.models.network.prior_precision import (
    NetworkEvidence,
    PrecisionSetting,
    search_precision,
)
from bayesgen.networks.admission import undisturbed
from bayesgen.networks.copies import own_parameters, plain

R = TypeVar("R")

MODES = ("weights", "linearised", "tangent")
_NAMES = ("prior_precision", "noise")
# Gain of a Newton step, in nats per observation, above which fit warns.
_WORTH = 0.01


class Laplace:
    """Laplace's approximation to the posterior of a network's weights, at their current values θ*.

        log p(D) ≈ log p(D | θ*) − ½ Σ αᵢθᵢ*² − ½ log|I + H diag(α)⁻¹|

    for the prior N(0, diag(α)⁻¹) and the curvature H of −log p(D | θ) at θ*. As fit − complexity:

        fit        = log p(D | θ*) − ½ N_eff,  N_eff = tr H(H + diag α)⁻¹
        complexity = ½ [log|I + H diag(α)⁻¹| − N_eff + Σ αᵢθᵢ*²]

    The network is not trained here. A copy of it is put into evaluation mode: BatchNorm uses its
    stored statistics, and dropout is off. The network itself is not changed.

    Caution: where weights can be rescaled without any change of the function, as in front of a
    BatchNorm, the evidence depends on their arbitrary scale, because the prior on them does not
    restrict the function. Use a network without such layers
    (`bayesgen.networks.PreResNet20(norm="none")`), or one prior precision for each layer.

    Args:
        net: a trained module from inputs (n, …) to outputs (n, C).
        likelihood: likelihood of the outputs: "categorical", "bernoulli", "poisson", "gaussian",
            or a `bayesgen.likelihoods.Likelihood`.
        prior_precision: prior precision α > 0, an inverse variance: one number; "layer" or
            "parameter" for one each, starting at 1; a tensor (L,), one for each module that has
            parameters of its own; or a tensor (P,). Training with weight decay w on the mean loss
            corresponds to α = n·w.
        noise: noise variance σ² of the Gaussian likelihood; None learns it.
        curvature: "ggn" is the exact GGN, in function space or weight space, whichever is smaller.
            Above 20,000 rows n·(C − 1), Lanczos quadrature with an error bar replaces it.
            "hessian" is the Hessian by the same methods; its negative eigenvalues are set to zero,
            with a warning that counts them. "kron" and "diag" are approximations of the GGN.
            "last_layer" is the GGN of the last layer; the other weights define features, which the
            complexity does not include, so that `Evidence.complexity_excludes` holds "features".
        hyperparameters: "evidence" (the prior precision, and the noise variance where it is not
            given, maximise the evidence with the mode kept; see `remode`), "fixed", or some of the
            names "prior_precision" and "noise".
        mode: the point of the approximation. "weights" takes the weights as they are. The others
            replace the network by a linear model and take that model's own mode, so that training
            need not have converged. "linearised" is f* + J(θ − θ*). "tangent" is Jθ, a Gaussian
            process with the network's tangent kernel JJᵀ and a prior mean of zero. (For a network
            of L layers without biases, the prior mean f* − Jθ* of "linearised" is (1 − L)f*, which
            contradicts the network's predictions.) The Jacobian of a trained network depends on the
            same labels, and the complexity does not include this: `Evidence.complexity_excludes`
            holds "linearisation". At weights that do not depend on the labels nothing is excluded
            in fact. Both need curvature "ggn" and at most 20,000 rows n·(C − 1). A prior precision
            for each layer or parameter must be a tensor, of which one common factor is learnt.
        last_layer: name of the linear layer that gives the outputs; the curvature is then
            "last_layer". None takes the last linear layer of the network with that curvature. A
            named layer may be followed by others.
        prior_mean: a network of the same architecture whose weights θ₀ are the prior mean, such as
            a copy made before training; None for zero. With it, the prior mean of "linearised",
            f* − J(θ* − θ₀), is approximately f(θ₀). It must be None for "tangent".
        remode: whether the mode is found anew, in float64, at each value of the hyperparameters.
            Otherwise the weights θ* are kept, and their prior precision is the best one for these
            weights, at which they are not the mode. With True, the evidence is maximised over one
            precision, or one for each layer, and over a noise variance that is learnt, along the
            modes. It takes some dozens to hundreds of climbs to a mode. The network itself is not
            changed; `posterior.theta` holds the weights of the mode, and `posterior.gain` is zero
            to rounding for a smooth network. Precisions that run away are stopped and flagged in
            `posterior.at_bound`. It needs mode "weights" and x and y as arrays, and is not for
            curvature "last_layer".
        dtype: dtype of the curvature; None takes the network's own. float32 halves the time, and
            its rounding error is included in `Evidence.error`.
        batch: observations per pass.
        memory: bytes that rows of the Jacobian may take at a time.
        probes, steps, seed: settings of the Lanczos quadrature; see `Spectrum.lanczos`.
        tolerance: certified bound, in nats per observation, of how far the log evidence can change
            because rows of J are left out. Once a network fits its labels, the likelihood's
            curvature is nearly zero in most directions, and rows of J there hardly matter. What
            they contribute is estimated by random vectors, and the error of the estimate, which is
            usually far below the bound, is included in `Evidence.error`. 0 keeps all rows; another
            value needs curvature "ggn", mode "weights" and hyperparameters "fixed". It takes effect
            where the GGN is computed in function space.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range; the message names
            it.

    Source: MacKay (1992); Immer et al. (2021); Daxberger et al. (2021); for the linearised mode
        Immer, Korzepa & Bauer (2021), section 3.3, and Antorán et al. (2022), section 4.

    Example:
        >>> import bayesgen as bg
        >>> x = torch.linspace(-1, 1, 40, dtype=torch.float64)[:, None]
        >>> net = bg.networks.MLP(1, (), 1).double()
        >>> trained = bg.train(net, x, 2 * x, "gaussian", epochs=200, learning_rate=0.3)
        >>> posterior = Laplace(net, "gaussian", noise=0.01).fit(x, 2 * x)
        >>> posterior.evidence.effective_dimension < 2
        tensor(True)
    """

    def __init__(
        self,
        net: nn.Module,
        likelihood: str | Likelihood = "categorical",
        prior_precision: Any = 1.0,
        noise: Any = None,
        curvature: str = "ggn",
        hyperparameters: str | Iterable[str] = "evidence",
        *,
        mode: str = "weights",
        last_layer: str | None = None,
        prior_mean: nn.Module | None = None,
        remode: bool = False,
        dtype: torch.dtype | None = torch.float64,
        batch: int = 32,
        memory: float = 2e9,
        probes: int = 16,
        steps: int = 64,
        seed: int = 0,
        tolerance: float = 0.0,
    ) -> None:
        self.net = plain(net)
        found = resolve(likelihood)
        given = noise is not None
        self.likelihood: Likelihood = Gaussian(noise if given else 1.0) if found is None else found
        if given and checks.as_tensor("noise", noise).numel() != 1:
            raise ValueError(
                "noise must be one variance for all outputs, got shape "
                f"{tuple(checks.as_tensor('noise', noise).shape)}; scale each output to unit noise"
            )
        if given and not self.likelihood.gaussian_noise:
            raise ValueError(f"noise must be None with a {self.likelihood.name} likelihood")
        self.curvature = checks.one_of("curvature", curvature, tuple(CURVATURES))
        self.mode = checks.one_of("mode", mode, MODES)
        self.last_layer = last_layer
        if last_layer is not None and self.curvature == "ggn" and self.mode == "weights":
            self.curvature = "last_layer"  # the exact GGN of that layer
        if last_layer is not None and self.curvature != "last_layer":
            raise ValueError(
                f"last_layer must be None with curvature={curvature!r} and mode={mode!r}; it names "
                'the head for curvature="last_layer"'
            )
        if self.curvature == "last_layer":
            last_linear(self.net, last_layer)
        self.prior_precision = prior_precision
        if not isinstance(prior_precision, str):
            checks.positive("prior_precision", prior_precision)
        else:
            checks.one_of("prior_precision", prior_precision, ("layer", "parameter"))
        default = {"prior_precision"}
        if self.likelihood.gaussian_noise and not given:
            default.add("noise")
        self.free = to_learn(hyperparameters, _NAMES, frozenset(default))
        if "noise" in self.free and not self.likelihood.gaussian_noise:
            raise ValueError(f"a {self.likelihood.name} likelihood has no noise to learn")
        if self.likelihood.gaussian_noise and not given and "noise" not in self.free:
            raise ValueError("noise must be given (a variance σ² > 0) where it is not learnt")
        if self.mode != "weights":
            self._check_linearised()
        self.remode = remode
        if remode and (self.mode != "weights" or self.curvature == "last_layer"):
            raise ValueError(
                'remode=True needs mode="weights" and a curvature of all weights, got '
                f'mode="{self.mode}" and curvature="{self.curvature}"'
            )
        if remode and prior_precision == "parameter":
            raise ValueError('remode=True learns one prior precision or "layer", got "parameter"')
        self.prior_mean = prior_mean
        if prior_mean is not None:
            checks.twin("prior_mean", plain(prior_mean, "prior_mean"), self.net)
            if mode == "tangent":
                raise ValueError('mode="tangent" has a prior mean of zero: prior_mean must be None')
        if dtype not in (None, torch.float32, torch.float64):
            raise TypeError(f"dtype must be torch.float64, torch.float32 or None, got {dtype!r}")
        self.dtype, self.memory = dtype, checks.positive_number("memory", memory)
        self.batch = checks.whole("batch", batch)
        self.probes, self.steps, self.seed = probes, steps, seed
        self.tolerance = checks.amount("tolerance", tolerance)
        if self.tolerance and (self.curvature != "ggn" or self.mode != "weights" or self.free):
            raise ValueError(
                'tolerance > 0 needs curvature="ggn", mode="weights" and hyperparameters="fixed", '
                f'got curvature="{self.curvature}", mode="{self.mode}" and learnt: '
                f"{', '.join(sorted(self.free)) or 'none'}"
            )

    def _check_linearised(self) -> None:
        if self.curvature != "ggn":
            raise ValueError(f'mode="{self.mode}" needs curvature="ggn", got "{self.curvature}"')
        if isinstance(self.prior_precision, str):
            raise ValueError(
                f'mode="{self.mode}" needs prior_precision as a number or a tensor, of which one '
                f'factor is learnt, got "{self.prior_precision}"; the precisions of another fit, '
                'with curvature="kron", are such a tensor'
            )
        if "noise" in self.free:
            raise ValueError(f'mode="{self.mode}" needs noise, a variance, got None')

    @shows_progress
    def fit(self, x: Any, y: Any = None, *, progress: ProgressOption = None) -> NetworkPosterior:
        """Compute the evidence of the data and the posterior of the weights.

        Args:
            x: inputs (n, …), or a loader of batches (x, y). The batches of a loader are gathered,
                unless the curvature is used only through its products. Then the loader is read in
                every pass and must give the same batches each time, which is checked.
            y: targets in the form that the likelihood needs: labels (n,), or real numbers (n,) or
                (n, C). None with a loader. Labels are the numbers 0 … C − 1 of the outputs, or
                texts, whose numbers are those of their sorted order; `posterior.classes` keeps
                them.
            progress: called as progress(done, expected, what); True shows a progress bar.

        Raises:
            TypeError, ValueError: the inputs are on another device than the network; the outputs
                have the wrong width or are not finite; a label is out of range; the loader's
                batches change between passes.

        Warns:
            NotAtModeWarning: a Newton step would gain more than 0.01 nats per observation; the
                Hessian has negative eigenvalues.
        """
        if is_table(x):
            order = ColumnOrder.of(x)
            by_name = self.fit(checks.as_tensor("x", x), y, progress=progress)
            by_name.columns, by_name._names = order, order.coded
            return by_name
        likelihood, y, texts = self.likelihood.numbered(y)
        if texts is not None:
            own = copy.copy(self)
            own.likelihood = likelihood
            found = own.fit(x, y, progress=progress)
            found._labels = texts
            return found
        if self.remode:
            return self._remoded(x, y, progress)
        only = None
        if self.curvature == "last_layer":
            only = [last_linear(self.net, self.last_layer)]
        with torch.inference_mode(False):
            weights = Weights(self.net, self.dtype, only)
            with undisturbed(weights.net):
                return self._fit(weights, x, y, progress)

    def _fit(self, weights: Weights, x: Any, y: Any, progress: Progress | None) -> NetworkPosterior:
        moved = weights.theta.double() - self._centre(weights)
        # The number of rows is unknown before the outputs are, so a small loader is gathered.
        gather = y is not None or not by_products_only(self.curvature, weights.count, _many(x))
        load = partial(
            read,
            weights,
            self.likelihood,
            x,
            y,
            self.batch,
            named=self.last_layer is not None,
            regroup=self.curvature == "hessian",
        )
        data = load(gather=gather)
        if not gather and not by_products_only(self.curvature, weights.count, data.rows):
            data = load(gather=True)  # a sampler may give fewer observations than the data set has
        if self.mode != "weights":
            prior, start, structure = self._prior(weights, grouped=False)
            begin = PrecisionSetting(
                start, _noise(data.likelihood, start), torch.zeros_like(start).bool()
            )
            passes = linearised.PassSettings(self.batch, self.memory, progress)
            centre = moved if self.mode == "linearised" else None
            return _with_right_rows(
                weights,
                lambda: linearised.fit(
                    weights, data, begin, prior, structure, self.free, passes, centre
                ),
            )
        learnt = "prior_precision" in self.free
        prior, start, structure = self._prior(weights, grouped=learnt)
        request = Request(
            weights,
            unit(data.likelihood),
            None if self.curvature == "hessian" else data.sample(self.batch, self.memory),
            data.batches,
            data.rows,
            data.f.shape[1],
            self.batch,
            prior,
            self.probes,
            self.steps,
            self.seed,
            progress,
            bool(self.free),
            data.features,
            2 * self.tolerance * len(data.f),
            float(start[0] * _noise(data.likelihood, start)),
        )
        make = CURVATURES[self.curvature]
        curvature = _with_right_rows(weights, lambda: make(request))
        squares = prior.sums(prior.base * moved.square())
        objective = NetworkEvidence(curvature, squares, data.log_likelihood)
        best = search_precision(
            objective,
            PrecisionSetting(start, _noise(data.likelihood, start), torch.zeros_like(start).bool()),
            precision="prior_precision" in self.free,
            noise="noise" in self.free,
        )
        if curvature.negative:
            warn(
                f"the Hessian has {plural(curvature.negative, 'negative eigenvalue')} of "
                f"{weights.count}: the weights are not a minimum; negative eigenvalues were set to "
                "zero",
                NotAtModeWarning,
            )
        alpha = prior.precision(best.precision)
        gradient = data.gradient / best.noise - alpha * moved
        own = data.likelihood
        if own.log_noise is not None:
            own = with_noise(own, best.noise.log())
        posterior = NetworkPosterior(
            data.observed(own),
            _assemble(
                objective,
                best,
                len(data.f),
                weights,
                self._words(weights),
                data.rounding(best.noise),
            ),
            NetworkFit(own, data.x, data.f, curvature, best, structure, checks=data.checks),
            gradient,
            self.free,
        )
        worth = _WORTH * len(data.f)
        # Cheap upper and lower bounds of the gain come first; the exact gain needs eigenvectors.
        if float(0.5 * (gradient.square() / alpha).sum()) > worth:
            scaled = best.precision * best.noise
            least = float(best.noise) * curvature.least_gain(gradient, scaled)
            if least > worth or posterior.gain > worth:
                warn(
                    "the network is not at a mode of its log posterior at this prior precision: "
                    f"gradient norm {posterior.gradient_norm:.3g}, and a Newton step would gain "
                    f"{least:.3g} nats or more. Move it to the mode by bayesgen.fit_map(net, x, y, "
                    "prior_precision=posterior.prior_precision), and fit again with this precision "
                    'and hyperparameters="fixed"; or train it by bayesgen.train(..., '
                    "evidence_every=…, to_mode=True); or take Laplace(..., remode=True)",
                    NotAtModeWarning,
                )
        return posterior

    def _remoded(self, x: Any, y: Any, progress: Progress | None) -> NetworkPosterior:
        """The posterior at the best hyperparameters, with the mode found anew at each."""
        if y is None:
            raise TypeError("remode=True needs x and y as arrays, not a loader")

        def fixed(net: nn.Module, precision: Tensor, noise: Tensor | None) -> NetworkPosterior:
            own = copy.copy(self)
            own.net, own.prior_precision, own.remode, own.free = net, precision, False, frozenset()
            if noise is not None:
                own.likelihood = with_noise(self.likelihood, noise.log())
            return own.fit(x, y)

        L = len(own_parameters(self.net))
        if isinstance(self.prior_precision, str):
            start = torch.ones(L, dtype=torch.float64)
        else:
            start = checks.as_tensor("prior_precision", self.prior_precision).double().reshape(-1)
        if len(start) not in (1, L):
            raise ValueError(
                f"prior_precision must be a number or of shape ({L},), one a layer, with "
                f"remode=True, got {tuple(start.shape)}"
            )
        log_noise = self.likelihood.log_noise if self.likelihood.gaussian_noise else None
        noise = None if log_noise is None else float(log_noise.exp())
        begin = remode.RemodeStart(start, noise, self.free)
        return remode.maximise(
            self.net, x, y, self.likelihood, self.prior_mean, begin, fixed, progress
        )

    def _centre(self, weights: Weights) -> Tensor:
        """The prior mean θ₀ of the weights, (P,), float64."""
        if self.prior_mean is None:
            return torch.zeros_like(weights.theta, dtype=torch.float64)
        return weights.packed(checks.twin("prior_mean", plain(self.prior_mean), self.net))

    def _prior(self, weights: Weights, *, grouped: bool) -> tuple[PriorShape, Tensor, str]:
        """The layout of the prior precisions, their starting values, and the layout's name.

        Args:
            weights: weights of the network.
            grouped: whether the precision of each group is learnt. Otherwise the layout has one
                group, a common factor of the given precisions.
        """
        P, L, given = weights.count, len(weights.leaves), self.prior_precision
        ones = torch.ones_like(weights.theta, dtype=torch.float64)
        every = torch.arange(P, device=ones.device)
        layouts = {
            "scalar": PriorShape(ones, torch.zeros_like(every), 1),
            "layer": PriorShape(ones, weights.layers(), L),
            "parameter": PriorShape(ones, every, P),
        }
        if isinstance(given, str):
            structure, start = given, ones.new_ones(layouts[given].count)
        else:
            start = checks.as_tensor("prior_precision", given).to(ones)
            if start.numel() == 1:
                structure, start = "scalar", start.reshape(1)
            elif start.shape == (L,):
                structure = "layer"
            elif start.shape == (P,):
                structure = "parameter"
            else:
                raise ValueError(
                    f"prior_precision must be a number or of shape ({L},), one a layer, or "
                    f"({P},), one a parameter, got {tuple(start.shape)}"
                )
        if structure != "scalar" and not grouped:
            base = layouts[structure].precision(start)
            return PriorShape(base, torch.zeros_like(every), 1), ones.new_ones(1), structure
        if structure == "parameter" and self.curvature in ("ggn", "hessian", "kron"):
            raise ValueError(
                'one prior precision for each parameter is learnt with curvature "diag" or '
                f'"last_layer", not "{self.curvature}"; as a fixed tensor "ggn" takes it too'
            )
        return layouts[structure], start, structure

    def _words(self, weights: Weights) -> str:
        """How the rows of the Jacobian were computed, and whether the mode was kept."""
        words = ""
        if weights.direct and self.curvature != "hessian":
            words += "; Jacobian rows by reverse passes for each observation"
        return words + (", with the mode kept" if self.free else "")

    def __repr__(self) -> str:
        return (
            f"Laplace({type(self.net).__name__}, {self.likelihood.name!r}, "
            f"curvature={self.curvature!r})"
        )


def _noise(likelihood: Likelihood, like: Tensor) -> Tensor:
    """The likelihood's noise variance σ², or 1 where it has none."""
    log_noise = likelihood.log_noise
    return like.new_ones(()) if log_noise is None else log_noise.to(like).exp()


def _many(x: Any) -> int:
    """Number of observations of a loader, or 0 where the loader does not tell it."""
    data = getattr(x, "dataset", None)
    return len(data) if data is not None and hasattr(data, "__len__") else 0


def _with_right_rows(weights: Weights, compute: Callable[[], R]) -> R:
    """The result of a computation, repeated with direct Jacobian rows where fast ones differ."""
    try:
        return compute()
    except RowsDifferError as err:
        weights.direct = err.names
        return compute()


def _assemble(
    objective: NetworkEvidence,
    best: PrecisionSetting,
    n: int,
    weights: Weights,
    words: str,
    rounding: Tensor,
) -> Evidence:
    terms = objective.terms(best.precision, best.noise)
    log_likelihood, _ = objective.log_likelihood(best.noise)
    freedom = terms.effective_parameters.sum()
    pull = (best.precision * objective.squares).sum()
    return Evidence(
        log_likelihood - 0.5 * freedom,
        0.5 * (terms.logdet - freedom + pull),
        n,
        freedom,
        error=0.5 * terms.error + rounding,
        method=f"Laplace, {objective.curvature.method}{words}",
        complexity_excludes=("features",) if weights.partial else (),
    )
