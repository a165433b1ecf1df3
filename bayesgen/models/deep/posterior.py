"""The posterior of a deep kernel: a Gaussian process posterior on the features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gpytorch
import torch
from torch import Tensor, nn
from torch.distributions import Normal

from bayesgen import provenance
from bayesgen._internal import checks
from bayesgen.evidence import Evidence
from bayesgen.models.gp.posterior import GPPosterior
from bayesgen.models.reporting import Reporting
from bayesgen.networks.admission import first_outputs, scores, undisturbed
from bayesgen.networks.gradients import without_gradients
from bayesgen.networks.inputs import call, read, tensors
from bayesgen.spectrum.spectrum import Spectrum

if TYPE_CHECKING:
    import pandas as pd


class DeepKernelPosterior(Reporting):
    """A `GPPosterior` on trained features; made by `DeepKernel.fit`.

    Attributes:
        evidence: the `Evidence`. Its `complexity_excludes` holds "features" where the features were
            trained on the same targets without a prior on the weights.
        gp: the posterior of the Gaussian process on the features.
        net: the trained copy of the network.
        history: one row for each step, with the objective (nats per observation), the outputscale
            and the noise variance.
        weights_dimension: effective parameters of the weights under their prior; 0 without a prior.
    """

    data_dependent = "the features, trained on the same targets"

    def __init__(
        self,
        gp: GPPosterior,
        net: nn.Module,
        x: Any,
        evidence: Evidence,
        history: pd.DataFrame,
        weights_dimension: Tensor,
        batch: int,
    ) -> None:
        self.gp, self.net, self.history = gp, net, history
        self.weights_dimension = weights_dimension
        self._x, self._batch = x, batch
        self.learnt = gp.learnt | {"features"}
        self._observe(gp.observed, evidence[None])

    @property
    def scale(self) -> Tensor:
        """The outputscale s, a variance, ()."""
        return self.gp.scale

    @property
    def noise(self) -> Tensor:
        """The noise variance σ², ()."""
        return self.gp.noise

    @property
    def kernel(self) -> gpytorch.kernels.Kernel:
        """The kernel on the features, of unit outputscale."""
        return self.gp.kernels[0]

    def features(self, x_new: Any) -> Tensor:
        """The features φ(x_new), (m, D), float64.

        Args:
            x_new: inputs, (m, …), of the network's dtype and on its device.

        Raises:
            TypeError, ValueError: x_new and the training inputs differ in dtype, shape or device; a
                feature is not finite.
        """
        x_new = read("x_new", x_new, self.net)
        if x_new.shape[1:] != self._x.shape[1:] or x_new.device != self._x.device:
            raise ValueError(
                f"x_new must have shape (m, {', '.join(map(str, self._x.shape[1:]))}) on "
                f"{self._x.device}, as x had, got {tuple(x_new.shape)} on {x_new.device}"
            )
        wanted, given = ([part.dtype for part in tensors(x)] for x in (self._x, x_new))
        if wanted != given:
            raise TypeError(
                f"x_new must have the dtype of x, {wanted[0]}, got {given[0]}; convert it, e.g. "
                f"x_new.to({wanted[0]})"
            )
        with without_gradients(), undisturbed(self.net):
            first_outputs(self.net, x_new)
            pieces = [scores(call(self.net, r), len(r)) for r in x_new.split(self._batch)]
            phi = checks.real("net(x_new)", torch.cat(pieces).double())
        if "features" in self.gp.learnt:
            self._record(x_new, phi)
        return phi

    def _record(self, x_new: Any, phi: Tensor) -> None:
        """Record features of training inputs, which depend on their targets."""
        data = self._observations()
        assert data is not None
        known = provenance.shared_rows(x_new, data)
        if known.any():
            own = provenance.Data(phi[known.to(phi.device)])
            provenance.learnt({}, data, "DeepKernel.fit", features=own)

    def _inputs(self) -> Any:
        return self._x

    def mean(self, x_new: Any) -> Tensor:
        """Posterior mean at new inputs, in the targets' layout; see `GPPosterior.mean`."""
        return self.gp.mean(self.features(x_new))

    def fitted(self) -> Tensor:
        """Posterior mean at the training inputs."""
        return self.gp.fitted()

    def predict(self, x_new: Any, *, latent: bool = False) -> Normal:
        """Predictive distribution of each new observation; see `GPPosterior.predict`."""
        return self.gp.predict(self.features(x_new), latent=latent)

    def as_prior(self, x_new: Any, y_new: Tensor) -> tuple[Spectrum, Tensor]:
        """This posterior as a prior for new data; see `ExactPosterior.as_prior`."""
        return self.gp.as_prior(self.features(x_new), y_new)

    def covariance(self, x1: Any, x2: Any) -> Tensor:
        """Posterior covariance of f(x1) and f(x2); see `ExactPosterior.covariance`."""
        first = self.features(x1)
        return self.gp.covariance(first, first if x2 is x1 else self.features(x2))

    def similarity(self, x1: Any, x2: Any) -> Tensor:
        """The learned prior covariance s·k(φ(x1), φ(x2)), (m1, m2)."""
        with torch.no_grad():
            k: Tensor = self.kernel(self.features(x1), self.features(x2)).to_dense()
        return self.scale * k

    def latent_samples(self, count: int, *, task: int = 0, seed: int = 0) -> Tensor:
        """Draws of the latent functions; see `Posterior.latent_samples`."""
        return self.gp.latent_samples(count, task=task, seed=seed)

    def observe(self, f: Tensor, *, task: int = 0) -> Normal:
        """Distribution of targets given f; see `Posterior.observe`."""
        return self.gp.observe(f, task=task)

    def marginals(self, task: int = 0) -> tuple[Tensor, Tensor]:
        """Marginals of the latent functions at the training inputs; see `Posterior.marginals`."""
        return self.gp.marginals(task)

    def __repr__(self) -> str:
        return (
            f"DeepKernelPosterior({type(self.net).__name__}, {type(self.kernel).__name__}, "
            f"targets {tuple(self.observed.shape)}, {self.evidence!r})"
        )
