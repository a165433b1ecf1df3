"""Deep kernel learning: a Gaussian process on a network's features, trained on exact evidence."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from bayesgen import kernels, provenance
from bayesgen._internal import checks
from bayesgen._internal.progress import Progress, ProgressOption
from bayesgen._internal.progress_bar import shows_progress
from bayesgen._internal.user_warning import warn
from bayesgen.curvature.parameters import Weights
from bayesgen.data.columns import ColumnOrder, is_table
from bayesgen.errors import DivergedError, NotAtModeWarning
from bayesgen.evidence import Evidence
from bayesgen.models.deep import weight_prior
from bayesgen.models.deep.features import DeepFeatures
from bayesgen.models.deep.objective import Head, Objective, conditional, evidence, step
from bayesgen.models.deep.posterior import DeepKernelPosterior
from bayesgen.models.gp.model import GaussianProcess
from bayesgen.models.gp.posterior import GPPosterior
from bayesgen.networks.admission import undisturbed
from bayesgen.networks.copies import plain
from bayesgen.networks.gradients import differentiating, fill_gradients, trainable
from bayesgen.networks.inputs import Inputs, read
from bayesgen.networks.state import first_gradient_not_finite

_OBJECTIVES = ("evidence", "conditional")
# Smallest noise variance in training, as a share of the targets' mean square.
_NOISE_FLOOR = 1e-6
# Gain of a Newton step, in nats per observation, above which fit warns.
_WORTH = 0.01


class DeepKernel:
    """A Gaussian process on the features φ of a network: y = f(φ(x)) + ε with f ~ GP(0, s·k).

    Network, kernel and noise variance are trained together by Adam on the exact evidence. Each step
    computes the features in mini-batches without a graph, takes one Cholesky factorisation for all
    outputs, and pulls the gradient back through the network in mini-batches. At the end
    `GaussianProcess` refits the kernel's hyperparameters on the features.

    Caution: the complexity includes the function given the features, but not the features. With
    enough weights, log p(y) becomes far too high while the test error worsens (Ober et al. 2021;
    for a rebuttal see arXiv:2509.21228). `Evidence.complexity_excludes` then holds "features".
    Remedies are `objective="conditional"`, `lipschitz`, and `prior_precision`. With
    `prior_precision`, the complexity includes the weights:

        log p(D) ≈ log p(y | φ_w*) − ½α‖w*‖² − ½ log|I + F/α|

    where F is the Fisher information of N(0, A(w)) (`bayesgen.models.deep.weight_prior.Fisher`).

    Args:
        net: module from inputs (n, …) to features (n, D), or (n,) for one feature. A copy of it is
            put into evaluation mode: BatchNorm uses its stored statistics, and dropout is off. In
            this mode it must be a deterministic function of each observation alone. The network
            itself and the random generators are left as they are.
        kernel: kernel on the features, as in `GaussianProcess`.
        noise: noise variance σ² to keep; None learns it.
        objective: "evidence", or "conditional" for log p(y_{>m} | y_{≤m}) in a new order at each
            step.
        conditioned: m as a share of n, for "conditional".
        lipschitz: largest spectral norm of the weights of each linear layer, each convolution
            (transposed ones included) and each embedding; None sets no bound. A network in which
            other layers own matrices, such as recurrent, attention and bilinear ones, is refused.
            In a network with residual connections the features are then bi-Lipschitz.
        prior_precision: prior precision α > 0 of the weights' prior N(0, 1/α); None for no prior.
        steps: number of Adam steps, each on all the data.
        learning_rate: learning rate of the network.
        head_rate: learning rate of the Gaussian process's hyperparameters.
        batch: observations per pass through the network.
        probes, lanczos_steps: settings of log|I + F/α| above 1,000 weights; see `Spectrum.lanczos`.
        seed: seed of the orders of "conditional".

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range; the message names
            it.

    Source: Wilson et al. (2016); Lotfi et al. (2022) for the conditional objective; van Amersfoort
        et al. (2021) for bounded norms.

    Example:
        >>> import gpytorch, bayesgen as bg
        >>> x = torch.linspace(-1, 1, 40, dtype=torch.float64)[:, None]
        >>> y = torch.sin(4 * x[:, 0])
        >>> _ = torch.manual_seed(0)
        >>> net = bg.networks.MLP(1, (16,), 2, activation="tanh").double()
        >>> posterior = DeepKernel(net, gpytorch.kernels.RBFKernel(), steps=20).fit(x, y)
        >>> posterior.evidence.complexity_excludes
        ('features',)
    """

    def __init__(
        self,
        net: nn.Module,
        kernel: Any,
        noise: Any = None,
        *,
        objective: str = "evidence",
        conditioned: float = 0.8,
        lipschitz: float | None = None,
        prior_precision: float | None = None,
        steps: int = 300,
        learning_rate: float = 1e-3,
        head_rate: float = 0.03,
        batch: int = 256,
        probes: int = 8,
        lanczos_steps: int = 48,
        seed: int = 0,
    ) -> None:
        plain(net)
        kernels.check_kernel(kernel)
        self.net, self.kernel = net, kernel
        self.noise = None if noise is None else checks.positive("noise", noise).double()
        if self.noise is not None and self.noise.ndim:
            raise ValueError(f"noise must be one number, got shape {tuple(self.noise.shape)}")
        self.objective = checks.one_of("objective", objective, _OBJECTIVES)
        self.conditioned = checks.share("conditioned", conditioned)
        if not 0 < self.conditioned < 1:
            raise ValueError(f"conditioned must be between 0 and 1, got {conditioned}")
        if lipschitz is not None:
            checks.positive("lipschitz", lipschitz)
        if prior_precision is not None:
            checks.positive("prior_precision", prior_precision)
        if prior_precision is not None and objective == "conditional":
            raise ValueError(
                'prior_precision must be None with objective="conditional": the Laplace '
                "approximation needs weights at the mode of the whole evidence"
            )
        if prior_precision is not None and lipschitz is not None:
            raise ValueError(
                "prior_precision must be None with lipschitz: a bounded norm makes the function "
                "independent of some directions of the weights, on which a prior has no meaning"
            )
        self.lipschitz, self.prior_precision = lipschitz, prior_precision
        self.steps = checks.whole("steps", steps, 0)
        self.learning_rate = checks.positive_number("learning_rate", learning_rate)
        self.head_rate = checks.positive_number("head_rate", head_rate)
        self.batch = checks.whole("batch", batch)
        self.probes, self.lanczos_steps = probes, lanczos_steps
        self.seed = checks.seed(seed)

    @shows_progress
    @differentiating()
    def fit(self, x: Any, y: Any, *, progress: ProgressOption = None) -> DeepKernelPosterior:
        """Train the network and the Gaussian process on data, and condition on the data.

        Args:
            x: inputs (n, …), of the network's dtype and on its device; integers, tuples and dicts
                as in `bayesgen.train`.
            y: real targets, (n,) or (n, C); all outputs share features and hyperparameters.
            progress: called as progress(done, expected, what) after each step; True shows a
                progress bar.

        Raises:
            TypeError, ValueError: the network cannot take the inputs; it is random or mixes the
                observations of a batch; the targets do not match.
            DivergedError: the objective or a gradient is not finite.

        Warns:
            NotAtModeWarning: with a prior on the weights, a Newton step would gain more than 0.01
                nats per observation.
        """
        if is_table(x):
            order = ColumnOrder.of(x)
            by_name = self.fit(checks.as_tensor("x", x), y, progress=progress)
            by_name.columns, by_name._names = order, order.coded
            return by_name
        net = trainable(self.net, in_place=False)
        with undisturbed(net):
            return self._fit(net, self._inputs(net, x), y, progress)

    def _inputs(self, net: nn.Module, x: Any) -> Any:
        """A copy of the inputs, after a check."""
        x = read("x", x, net)
        where = next(p.device for p in net.parameters() if p.requires_grad)
        if x.device != where:
            raise ValueError(
                f"x is on device {x.device} but the network is on {where}; move one of them "
                "explicitly"
            )
        return x.clone() if isinstance(x, Inputs) else checks.owned(x)

    def _fit(
        self, net: nn.Module, x: Any, y: Any, progress: Progress | None
    ) -> DeepKernelPosterior:
        features = DeepFeatures(net, self.batch, x, self.lipschitz)
        features.run.admit(x)
        phi = checks.real("net(x)", features(x))
        y = checks.owned(checks.reals("y", y)).to(phi)
        y = checks.targets("y", y, len(x), like=phi)
        if y.ndim > 2:
            raise ValueError(
                f"y must have shape (n,) or (n, C), got {tuple(y.shape)}: each task "
                "needs its own features; fit the tasks one by one"
            )
        columns = y.reshape(len(x), -1)
        before = provenance.Untrained.of(net)
        head = self._head(phi, columns)
        history = self._train(features, head, x, columns, progress)
        phi = features(x)
        gp = self._refit(phi, y, head)
        found, dimension = self._evidence(features, head, gp, x, columns)
        net = features.frozen()
        if self.steps:
            own = provenance.Data(phi)
            provenance.trained(net, x, y, "DeepKernel.fit", before=before, features=own)
        self._record(gp, x, y)
        return DeepKernelPosterior(gp, net, x, found, history, dimension, self.batch)

    def _head(self, phi: Tensor, y: Tensor) -> Head:
        """The Gaussian process with hyperparameters of largest evidence on the initial features."""
        kernel, scale, free_scale = kernels.resolve(self.kernel, phi)
        noise = phi.new_ones(1, 1) if self.noise is None else self.noise.to(phi).reshape(1, 1)
        if kernels.free_parameters(kernel):
            kernel = kernels.with_typical_lengthscales(kernel, phi)
        size = y.square().mean().clamp(min=torch.finfo(y.dtype).tiny)
        head = Head(
            kernel,
            size if free_scale else scale,
            noise.reshape(()),
            learn_noise=self.noise is None,
            floor=_NOISE_FLOOR * float(size),
        )
        head.log_scale.requires_grad_(free_scale)
        return head

    def _train(
        self, features: DeepFeatures, head: Head, x: Any, y: Tensor, progress: Progress | None
    ) -> pd.DataFrame:
        objective: Objective = evidence
        if self.objective == "conditional":
            objective = conditional(self.conditioned)
        generator = torch.Generator().manual_seed(self.seed)
        weights, own, n = features.parameters(), head.free(), len(x)
        groups = [{"params": weights, "lr": self.learning_rate}]
        if own:
            groups.append({"params": own, "lr": self.head_rate})
        optimiser, rows = torch.optim.Adam(groups), []
        with warnings.catch_warnings():
            # Intermediate steps may need a jitter; only that of the final fit is reported.
            warnings.filterwarnings("ignore", message="the covariance is singular")
            for number in range(self.steps):
                optimiser.zero_grad(set_to_none=True)
                value, slope = step(head, features(x), y, objective, generator)
                if not math.isfinite(value) or not torch.isfinite(slope).all():
                    raise DivergedError(
                        f"the objective is {value} at step {number + 1} of {self.steps}: a smaller "
                        "learning_rate may help"
                    )
                features.pull(x, slope)
                fill_gradients(weights)  # the prior acts on unused parameters too
                bad = first_gradient_not_finite(features.net)
                if bad is not None:
                    raise DivergedError(
                        f"the gradient of {bad!r} is not finite at step {number + 1} of "
                        f"{self.steps}: a smaller learning_rate may help"
                    )
                if self.prior_precision is not None:
                    for w in weights:
                        assert w.grad is not None
                        w.grad += self.prior_precision * w.detach()
                optimiser.step()
                head.clip()
                rows.append(
                    {
                        "objective": value / n,
                        "scale": float(head.scale.detach()),
                        "noise": float(head.noise.detach()),
                    }
                )
                if progress is not None:
                    said = f"{self.objective} {value / n:.3f} nats per observation"
                    progress(number + 1, self.steps, said)
        return pd.DataFrame(rows).rename_axis("step")

    def _refit(self, phi: Tensor, y: Tensor, head: Head) -> GPPosterior:
        """The posterior of the Gaussian process on the trained features.

        With objective "evidence" its hyperparameters are refitted; otherwise they are kept.
        """
        import gpytorch

        learn: str | tuple[str, ...] = "fixed"
        if self.objective == "evidence":
            learn = ("kernel", "scale") if self.noise is not None else "evidence"
        kernel = gpytorch.kernels.ScaleKernel(head.kernel).double()
        kernel.outputscale = head.scale.detach()
        kernel.raw_outputscale.requires_grad_(head.log_scale.requires_grad)
        noise = None if learn == "evidence" else head.noise.detach()
        posterior: GPPosterior = GaussianProcess(kernel, noise, hyperparameters=learn).fit(phi, y)
        return posterior

    def _record(self, gp: GPPosterior, x: Tensor, y: Tensor) -> None:
        """Record by value what training has learnt, on the inputs and on their features."""
        if self.steps:
            learnt = {"features", "kernel", "scale"} | ({"noise"} if self.noise is None else set())
            gp.learnt |= learnt
        gp.learn(start=False)
        gp.learn(provenance.Data(x, y), start=False)

    def _evidence(
        self, features: DeepFeatures, head: Head, gp: GPPosterior, x: Any, y: Tensor
    ) -> tuple[Evidence, Tensor]:
        e = gp.evidence
        nothing = torch.zeros_like(e.fit)
        said = f"deep kernel, {e.method}"
        if self.prior_precision is None:
            excludes = ("features",) if self.steps else ()
            own = Evidence(
                e.fit,
                e.complexity,
                e.n,
                e.effective_dimension,
                error=e.error,
                method=said,
                jitter=e.jitter,
                complexity_excludes=excludes,
            )
            return own, nothing
        final = Head(gp.kernels[0], gp.scale, gp.noise, learn_noise=False, floor=0.0)
        weights = Weights(features.net, None)
        gradient = self._gradient(features, final.requires_grad_(False), x, y)
        gradient -= self.prior_precision * weights.theta.double()
        found = weight_prior.spectrum(
            weight_prior.Fisher(weights, final, x, y.shape[1], self.batch),
            gradient,
            probes=self.probes,
            steps=self.lanczos_steps,
        )
        alpha = self.prior_precision
        gain = 0.5 * float(
            found.target_measure().integrate(lambda v: 1 / (v.clamp(min=0) + alpha)).sum()
        )
        if gain > _WORTH * len(x):
            warn(
                "the weights are not at a mode of their log posterior: gradient norm "
                f"{float(gradient.norm()):.3g}, and a Newton step would gain {gain:.3g} nats. "
                "Train on with more steps or a smaller learning_rate",
                NotAtModeWarning,
            )
        pull = alpha * weights.theta.double().square().sum()
        logdet, freedom = found.logdet(1 / alpha, 1.0), found.effective_dimension(alpha)
        error = 0.5 * found.sampling_error(lambda v: (v.clamp(min=0) / alpha).log1p())
        return (
            Evidence(
                e.fit - 0.5 * freedom,
                e.complexity + 0.5 * (logdet - freedom + pull),
                e.n,
                e.effective_dimension + freedom,
                error=e.error + error,
                method=f"{said}; weights by Laplace, Fisher information {found.method}",
                jitter=e.jitter,
            ),
            freedom,
        )

    def _gradient(self, features: DeepFeatures, head: Head, x: Any, y: Tensor) -> Tensor:
        """The gradient ∂ log p(y | φ_w)/∂w, (P,), float64."""
        for w in features.parameters():
            w.grad = None
        _, slope = step(head, features(x), y, evidence, torch.Generator())
        features.pull(x, slope)
        fill_gradients(features.parameters())
        found = [w.grad for w in features.parameters()]
        return -torch.cat([g.reshape(-1).double() for g in found if g is not None])

    def __repr__(self) -> str:
        return f"DeepKernel({type(self.net).__name__}, {self.kernel}, objective={self.objective!r})"
