"""Posteriors of standardised data, in the units of the data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal, Normal

from bayesgen._internal import checks
from bayesgen.data.columns import Column, Columns
from bayesgen.models.gp.components import Components, components
from bayesgen.models.gp.posterior import GPPosterior
from bayesgen.models.log_evidence import LogEvidence
from bayesgen.models.reporting import Reporting
from bayesgen.models.search.landscape import Hyperparameters, check_single
from bayesgen.posterior.posterior import Observed, Posterior


@dataclass(frozen=True)
class Scaling:
    """Centre and size of each column, with which values become (value − centre)/size.

    Attributes:
        centre: means, with one axis of length 1 for the rows.
        size: standard deviations, of the same shape.
    """

    centre: Tensor
    size: Tensor

    @classmethod
    def of_columns(cls, values: Tensor) -> Scaling:
        """Means and standard deviations of columns (n, d); of constant ones the size is 1."""
        centre = values.mean(0, keepdim=True)
        size = (values - centre).square().mean(0, keepdim=True).sqrt()
        constant = size <= 1e3 * torch.finfo(values.dtype).eps * values.abs().amax(0, keepdim=True)
        return cls(centre, torch.where(constant, torch.ones_like(size), size))

    @classmethod
    def of_map(cls, values: Tensor, mapped: Tensor) -> Scaling:
        """The scaling that maps values (n, d) to other values column by column.

        Raises:
            ValueError: no scaling does.
        """
        centre = values.mean(0, keepdim=True)
        spread = (values - centre).square().sum(0, keepdim=True)
        slope = ((values - centre) * mapped).sum(0, keepdim=True) / spread
        slope = torch.where(spread > 0, slope, torch.ones_like(slope))
        shift = mapped.mean(0, keepdim=True)
        found = cls(centre - shift / slope, 1 / slope)
        near = max(1e-8, 1e3 * torch.finfo(values.dtype).eps)
        if not torch.allclose(found.inward(values), mapped, rtol=near, atol=near):
            raise ValueError("the inputs must be scaled column by column, but they are not")
        return found

    @classmethod
    def of_targets(cls, y: Tensor) -> Scaling:
        """Means and standard deviations of targets (n,), (n, C) or (B, n, C) over the rows.

        Raises:
            ValueError: the targets of an output are constant.
        """
        axis = 0 if y.ndim == 1 else -2
        centre = y.mean(axis, keepdim=True)
        size = (y - centre).square().mean(axis, keepdim=True).sqrt()
        largest = y.abs().amax(axis, keepdim=True)
        if (size <= 1e3 * torch.finfo(y.dtype).eps * largest).any():
            raise ValueError(
                "y must vary where standardise is True, but the targets of an output are constant"
            )
        return cls(centre, size)

    def inward(self, values: Tensor) -> Tensor:
        """Values in the units of the model."""
        return (values - self.centre) / self.size

    def outward(self, values: Tensor) -> Tensor:
        """Values in the units of the data."""
        return values * self.size + self.centre


@dataclass(frozen=True)
class ScaledTable:
    """The coding of a table whose numbers are then scaled, for the posterior of the scaled data.

    Attributes:
        columns: the coding.
        scaling: the scaling.
    """

    columns: Columns
    scaling: Scaling

    @property
    def each(self) -> tuple[Column, ...]:
        """The columns in order."""
        return self.columns.each

    @property
    def coded(self) -> tuple[str, ...]:
        """Names of the numbers."""
        return self.columns.coded

    def encode(self, table: Any, name: str = "table") -> Tensor:
        """The scaled numbers of a table, (n, d); see `Columns.encode`."""
        return self.scaling.inward(self.columns.encode(table, name))


class StandardisedPosterior(Reporting):
    """The posterior of a model of standardised data, in the units of the data.

    It is made by `fit(x, y, standardise=True)`. The columns of x have mean 0 and standard deviation
    1 for the model, and so have real targets. Predictions are in the units of y. The evidence is
    the density of the targets in their own units:

        log p(y) = log p((y − ȳ)/s) − n log s,  summed over outputs,

    so that it can be compared with that of a model of the targets as they are. Both the centre and
    the size are taken from the data, which the complexity does not include.

    Attributes:
        evidence: the `Evidence`, batch shape () or (B,).
        standardised: the posterior of the standardised data; its hyperparameters are in their
            units.
        x_scaling, y_scaling: centre and size of the columns of x and of the outputs of y; None for
            targets that are not real numbers.
    """

    data_dependent = "the centre and size of the data"

    def __init__(
        self,
        standardised: Posterior,
        x: Tensor,
        y: Tensor | None,
        x_scaling: Scaling,
        y_scaling: Scaling | None,
    ) -> None:
        self.standardised, self.x_scaling, self.y_scaling = standardised, x_scaling, y_scaling
        self._x, self.learnt = x, standardised.learnt
        found, inner = standardised.evidence, standardised.observed
        if y is None or y_scaling is None:
            self._observe(inner, found if inner.batched else found[None])
        else:
            observed = Observed.real(y)
            change = y_scaling.size.log().reshape(-1, observed.y.shape[-1]).sum(-1)
            change = (observed.n * change).expand(len(observed.y)).to(found.fit)
            moved = replace(
                found,
                fit=found.fit - (change if observed.batched else change[0]),
                method=f"{found.method}; targets standardised, with the Jacobian in the fit",
            )
            self._observe(observed, moved if observed.batched else moved[None])
        learn: Any = getattr(standardised, "learn", None)
        if learn is not None:
            learn(self._observations())

    def _inputs(self) -> Tensor:
        return self._x

    def _given(self) -> Any:
        return self.standardised._given()

    def _kind(self) -> str:
        return self.standardised._kind()

    def _named(self) -> Any:
        inner: Any = self.standardised
        found = inner._named()
        if not isinstance(found, Hyperparameters):
            return found
        units = {
            name: unit.replace("units of", "standardised") for name, unit in found.units.items()
        }
        return Hyperparameters(found, units, found.at_bound, found.unidentified)

    def _log_evidence(self) -> LogEvidence | None:
        inner: Any = self.standardised
        local: LogEvidence | None = inner._log_evidence()
        return local

    def task(self, task: int) -> Posterior:
        """The posterior of one task; see `Posterior.task`."""
        if not self.observed.batched:
            return self
        task, y_scaling = checks.index("task", task, len(self.observed.y)), self.y_scaling
        if y_scaling is not None:
            y_scaling = Scaling(y_scaling.centre[task], y_scaling.size[task])
        y, part = self.observed.y[task], self.standardised.task(task)
        found = type(self)(part, self._x, y, self.x_scaling, y_scaling)
        result: Posterior = self._part(found)
        return result

    def _new(self, x_new: Any) -> Tensor:
        x_new = checks.real("x_new", checks.inputs("x_new", x_new), like=self._x)
        if x_new.shape[1] != self._x.shape[1]:
            raise ValueError(
                f"x_new must have {self._x.shape[1]} columns, as x had, got {x_new.shape[1]}"
            )
        return self.x_scaling.inward(x_new)

    def mean(self, x_new: Any) -> Tensor:
        """Posterior mean at new points, in the layout and units of the targets."""
        found: Tensor = self.standardised.mean(self._new(x_new))  # type: ignore[attr-defined]
        return found if self.y_scaling is None else self.y_scaling.outward(found)

    def covariance(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Posterior covariance of f(x1) and f(x2), (m1, m2), for one output of real targets."""
        inner: Any = self.standardised
        found: Tensor = inner.covariance(self._new(x1), self._new(x2))
        if self.y_scaling is None:
            return found
        return self.y_scaling.size.reshape(-1)[0].square() * found

    def predict(self, x_new: Any, *, latent: bool = False) -> Distribution:
        """Marginal predictive distribution of each new observation, in the units of the targets.

        Args:
            x_new: new inputs, (m, d), in the units of x.
            latent: True gives the distribution of the latent function, without the noise.
        """
        return self._moved_out(self.standardised.predict(self._new(x_new), latent=latent))

    def joint(self, x_new: Any, *, latent: bool = False) -> MultivariateNormal:
        """Joint predictive distribution of all new points, for each output and task.

        Args:
            x_new: new inputs, (m, d).
            latent: as in `predict`.

        Raises:
            AttributeError: the model of the standardised data has none.
        """
        inner: Any = self.standardised
        found: MultivariateNormal = inner.joint(self._new(x_new), latent=latent)
        if self.y_scaling is None:
            return found
        shape = found.batch_shape
        centre, size = (v.reshape(*shape, 1) for v in (self.y_scaling.centre, self.y_scaling.size))
        covariance = size[..., None].square() * found.covariance_matrix
        return MultivariateNormal(size * found.mean + centre, covariance)

    def components(self, x_new: Any) -> Components:
        """Posterior of each additive part of a Gaussian process, in the units of the targets.

        The means of the parts and the prior mean, which here includes the centre of the targets,
        sum to `mean(x_new)`. The sentences have lengths and periods in the units of x. See
        `GPPosterior.components` for the formulas.

        Args:
            x_new: new inputs, (m, d), in the units of x.

        Returns:
            Name of each part → `Normal` of shape (m,) or (m, C).

        Raises:
            AttributeError: the model of the standardised data has no such parts.
            ValueError: the posterior is of a batch; x_new is refused as by `predict`.

        Example:
            >>> import bayesgen as bg
            >>> t = torch.linspace(2000, 2006, 60, dtype=torch.float64)
            >>> y = 300 + 2 * (t - 2000) + torch.sin(6 * t)
            >>> model = bg.GaussianProcess(bg.kernels.parsed("linear + periodic"))
            >>> found = model.fit(t, y, standardise=True)
            >>> parts = found.components(t)
            >>> total = sum(part.mean for part in parts.values()) + parts.prior_mean
            >>> torch.allclose(total, found.mean(t))
            True
        """
        if not isinstance(self.standardised, GPPosterior) or self.y_scaling is None:
            raise AttributeError(
                f"a {type(self.standardised).__name__} has no components; they are those of a "
                "Gaussian process with Gaussian noise"
            )
        check_single("components", len(self.observed.y))
        inner = self._new(x_new)
        sizes = self.x_scaling.size.reshape(-1).tolist()
        found = components(self.standardised, inner, sizes)
        centre, size = self.y_scaling.centre, self.y_scaling.size
        if found.prior_mean.ndim == 1:
            centre, size = centre.reshape(()), size.reshape(())
        else:
            centre, size = centre.reshape(1, -1), size.reshape(1, -1)
        parts = {name: Normal(size * p.mean, size * p.stddev) for name, p in found.items()}
        prior_mean = size * found.prior_mean + centre
        own = self.x_scaling.outward(inner)
        return Components(parts, found.sentences, own, prior_mean, found.columns)

    def fitted(self) -> Tensor:
        """Posterior mean at the training inputs, of the targets' shape."""
        return self.mean(self._x)

    def latent_samples(self, count: int, *, task: int = 0, seed: int = 0) -> Tensor:
        """Draws of the latent functions; see `Posterior.latent_samples`."""
        drawn = self.standardised.latent_samples(count, task=task, seed=seed)
        return drawn if self.y_scaling is None else self._columns(task).outward(drawn)

    def observe(self, f: Tensor, *, task: int = 0) -> Distribution:
        """Distribution of targets given f; see `Posterior.observe`."""
        if self.y_scaling is None:
            return self.standardised.observe(f, task=task)
        columns = self._columns(task)
        found = self.standardised.observe(columns.inward(f), task=task)
        assert isinstance(found, Normal)
        return Normal(columns.outward(found.loc), columns.size * found.scale)

    def log_likelihood(self, f: Tensor, *, task: int = 0) -> Tensor:
        """Log likelihood of each row given f; see `Posterior.log_likelihood`."""
        if self.y_scaling is None:
            return self.standardised.log_likelihood(f, task=task)
        return super().log_likelihood(f, task=task)

    def marginals(self, task: int = 0) -> tuple[Tensor, Tensor]:
        """Marginals of the latent functions at the training inputs; see `Posterior.marginals`."""
        mean, variance = self.standardised.marginals(task)
        if self.y_scaling is None:
            return mean, variance
        columns = self._columns(task)
        return columns.outward(mean), columns.size.square() * variance

    def certificate(self, *_: Any, **__: Any) -> Any:
        """There is no certificate, because the scaling depends on the data.

        Raises:
            ValueError: always; the message says what to do.
        """
        raise ValueError(
            "a certificate needs a prior that was stated before the data, and the centre and size "
            "of standardise=True were taken from them: standardise by constants that were chosen "
            "beforehand, and fit without standardise"
        )

    def _columns(self, task: int) -> Scaling:
        """Centre and size of each output of one task, (1, C)."""
        assert self.y_scaling is not None
        C = self.observed.y.shape[-1]
        centre, size = (v.reshape(-1, 1, C) for v in (self.y_scaling.centre, self.y_scaling.size))
        return Scaling(centre[task], size[task])

    def _moved_out(self, found: Distribution) -> Distribution:
        if self.y_scaling is None:
            return found
        assert isinstance(found, Normal)
        return Normal(self.y_scaling.outward(found.loc), self.y_scaling.size * found.scale)

    def __repr__(self) -> str:
        return f"StandardisedPosterior({type(self.standardised).__name__}, {self.evidence!r})"
