"""Methods of fitted posteriors that report or keep: risk, intervals, certificate, ArviZ, files.

They belong to the posteriors in `bayesgen.models` and not to the interface in `bayesgen.posterior`,
because certificates are computed from that interface.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from bayesgen import storage
from bayesgen._internal import checks
from bayesgen.models import arviz, intervals
from bayesgen.models.intervals import PredictiveInterval
from bayesgen.models.log_evidence import LogEvidence
from bayesgen.models.summary import Summary, summarise
from bayesgen.pacbayes import gibbs
from bayesgen.pacbayes.certificates.certificate import Statement
from bayesgen.pacbayes.certificates.posterior import CertificateOptions, certify_posterior
from bayesgen.posterior.posterior import Posterior


class Reporting(Posterior):
    """A posterior with a Gibbs risk and an export of draws to ArviZ."""

    def gibbs_risk(self, tolerance: float = 1.0) -> float | None:
        """Gibbs risk on the training data: the expected loss of a function from the posterior.

        For real targets, the loss is 1 − exp(−(y − f)²/2τ²), averaged over rows and outputs in
        closed form. For labels it is the 0–1 loss. For counts there is no bounded loss, and the
        result is None. The posterior must be of one task.

        Args:
            tolerance: the loss's width τ, a standard deviation in the targets' units.
        """
        return gibbs.gibbs_risk(self, tolerance)

    def to_arviz(self, *, draws: int = 1000, task: int | None = None, seed: int = 0) -> Any:
        """Export draws, posterior predictive, observed data and log likelihood to ArviZ.

        The draws are exact and independent, in the layout of four chains. The evidence and its
        parts are attributes of the result.

        Args:
            draws: number of draws over all chains.
            task: number of the task, for a posterior of a batch of tasks.
            seed: seed of the draws.

        Returns:
            `arviz.InferenceData` on ArviZ 0.x or `xarray.DataTree` on 1.x, which `az.summary`,
            `az.loo`, `az.compare` and `az.plot_ppc` (1.x: `az.plot_ppc_dist`) accept.

        Raises:
            ValueError: the posterior is of a batch and no task is given; there are fewer than eight
                draws.
        """
        return arviz.export(self, draws=draws, task=task, seed=seed)

    def interval(
        self, x_new: Any, level: float = 0.95, *, noise: bool = True
    ) -> PredictiveInterval:
        """Central predictive intervals at new points, for real targets and counts.

        The ends are the quantiles (1 − level)/2 and (1 + level)/2 of the predictive distribution.
        For counts they are the smallest counts at which the distribution function reaches these
        probabilities, so that the interval, its ends included, has at least the probability
        `level`. The probability is that of the model at the learnt hyperparameters, whose own
        uncertainty is not included.

        Args:
            x_new: new inputs, as `predict` takes them.
            level: probability of each interval, in (0, 1).
            noise: True for intervals of a new observation, in the units of y. False for intervals
                of the latent function value: in the units of y, or of the logarithm of the rate for
                counts.

        Returns:
            The pair (lower, upper) of tensors of shape (m,), (m, C) or (B, m, C), as the mean of
            `predict`.

        Raises:
            TypeError: noise is not True or False.
            ValueError: the targets are class labels; level is out of range; noise is True where the
                noise was given per training point; an argument is refused by `predict`.

        Example:
            >>> import torch, bayesgen as bg
            >>> x = torch.linspace(-1, 1, 30, dtype=torch.float64)
            >>> y = 2 * x + 0.3 * torch.cos(40 * x)
            >>> lower, upper = bg.Polynomial(1).fit(x, y).interval(x, 0.9)
            >>> ((lower < y) & (y < upper)).double().mean() > 0.8
            tensor(True)
        """
        return intervals.interval(self, x_new, level, noise=noise)

    def classify(self, x_new: Any) -> np.ndarray:
        """The most probable class of each new point, as one of `posterior.classes`.

        Args:
            x_new: new inputs, as `predict` takes them.

        Returns:
            Labels, (m,) or (B, m): texts, integers or booleans, as the targets were.

        Raises:
            ValueError: the targets are no class labels; an argument is refused by `predict`.

        Example:
            >>> import bayesgen as bg
            >>> x = [-2.0, -1.5, -1.0, 1.0, 1.5, 2.0]
            >>> posterior = bg.LinearModel(likelihood="bernoulli").fit(x, ["no"] * 3 + ["yes"] * 3)
            >>> posterior.classify([-1.2, 3.0])
            array(['no', 'yes'], dtype='<U3')
        """
        classes = self.classes
        if classes is None:
            raise ValueError(
                "classify needs class labels, and the targets have a "
                f"{self.observed.likelihood.name} likelihood: take posterior.predict(x_new), or "
                'fit a model with likelihood="softmax" or "bernoulli"'
            )
        p: Tensor = self.predict(x_new).probs  # type: ignore[attr-defined]
        several = self.observed.likelihood.coupled
        codes = p.argmax(-1) if several else (p > 0.5).long()
        found: np.ndarray = np.asarray(classes)[codes.cpu().numpy()]
        return found

    def plot(
        self,
        column: Any = None,
        *,
        at: Any = None,
        ax: Any = None,
        level: float = 0.95,
        draws: int = 0,
        seed: int = 0,
    ) -> Any:
        """Draw predictions along each input, or along some of them.

        Real targets and counts: the predictive mean, the interval of new observations, and, for one
        input, the observations. Class labels: the probability of each class. With several inputs,
        each panel is a slice: its title says at what values the other inputs are held.

        Args:
            column: input to draw along: a name or number, or a list of them; None for all of up to
                nine inputs.
            at: values at which other inputs are held: (d,), or a dict from names to values; their
                medians by default.
            ax: axes of matplotlib to draw on, one for each input drawn; None makes a figure.
            level: probability of the intervals.
            draws: number of draws of the latent function that are shown, for Gaussian noise.
            seed: seed of the draws.

        Returns:
            The axes, or an array of them where several inputs are drawn; `axes.figure` is the
            figure.

        Raises:
            TypeError, ValueError: an argument has the wrong type or is out of range; the inputs of
                the fit are not a table (n, d), or were not kept.

        Example:
            >>> import torch, bayesgen as bg
            >>> x = torch.linspace(-1, 1, 30, dtype=torch.float64)
            >>> axes = bg.Polynomial(3).fit(x, torch.sin(3 * x)).plot(draws=3)
            >>> axes.get_xlabel()
            'x'
        """
        from bayesgen.models import plotting

        return plotting.plot(self, column=column, at=at, ax=ax, level=level, draws=draws, seed=seed)

    def summary(self, *, standard_errors: bool = True) -> Summary:
        """A table of the hyperparameters and of the evidence, with what to be careful about.

        Standard errors are those of Laplace's approximation to the distribution of the learnt
        hyperparameters under flat priors on their logarithms: H⁻¹, with H the negative Hessian of
        the log marginal likelihood. They need two gradients of the evidence for each
        hyperparameter. Hyperparameters of networks, and those of fits by block Lanczos, have none.

        Args:
            standard_errors: False leaves them out, which saves time for many points.

        Returns:
            A `Summary`: printing it shows everything, and its `hyperparameters` and `evidence` are
            DataFrames.

        Raises:
            ValueError: the posterior is of a batch of tasks.

        Source: MacKay (1992); Rasmussen & Williams (2006), section 5.2.

        Example:
            >>> import torch, bayesgen as bg
            >>> x = torch.linspace(-1, 1, 30, dtype=torch.float64)
            >>> y = 2 * x + 0.3 * torch.cos(40 * x)
            >>> table = bg.Polynomial(1).fit(x, y).summary().hyperparameters
            >>> noise = table.loc["noise"]
            >>> bool(noise.lower < noise.value < noise.upper)
            True
        """
        checks.flag("standard_errors", standard_errors)
        if self.observed.batched:
            raise ValueError(
                "summary is of one task, and this posterior is of "
                f"{len(self.observed.y)}: take posterior.task(0).summary()"
            )
        return summarise(self, self._named(), errors=standard_errors)

    def _axis_inputs(self) -> Any:
        """The training inputs that `plot` draws along."""
        return self._inputs()

    def _named(self) -> Mapping[str, Any]:
        """The hyperparameters of one task by name."""
        return getattr(self, "hyperparameters", {})

    def _log_evidence(self) -> LogEvidence | None:
        """The evidence around the hyperparameters of one task; None where it is not at hand."""
        return None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the posterior to one file, which `bayesgen.load` reads.

        The file is a zip archive of JSON texts and of arrays in the format of `numpy.save`, without
        pickle. The loaded posterior predicts the same to the last bit on the same machine, with the
        same evidence, hyperparameters, provenance and certificates. An existing file is replaced
        when the new one is complete.

        A function or an object of a class of your own, as kernel, mean, basis, prior variance,
        network or likelihood, is code and is not stored. `bayesgen.load` takes it as an argument.
        The learnt parameters of such a kernel or network are stored.

        Args:
            path: the file, such as "posterior.bayesgen"; its folder is made if needed.

        Raises:
            OSError: the file cannot be written.
            TypeError: the posterior holds something that is neither data nor a part of the model
                that can be given again.

        Example:
            >>> import tempfile, torch, bayesgen as bg
            >>> from pathlib import Path
            >>> x = torch.linspace(-1, 1, 30, dtype=torch.float64)
            >>> posterior = bg.Polynomial(3).fit(x, torch.sin(3 * x))
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     posterior.save(Path(folder) / "cubic.bayesgen")
            ...     again = bg.load(Path(folder) / "cubic.bayesgen")
            >>> torch.equal(again.predict(x).mean, posterior.predict(x).mean)
            True
        """
        storage.save(self, path)


class Certified(Reporting):
    """A posterior with a PAC-Bayes certificate, which bounds its risk on new data."""

    def certificate(
        self,
        delta: float = 0.05,
        loss: str = "zero_one",
        bound: str = "maurer",
        *,
        predictor: str = "gibbs",
        noise: str | None = None,
        grid: Mapping[str, Any] | str | None = None,
        clip: Any = None,
        subgamma: tuple[float, float] | None = None,
        task: int | None = None,
    ) -> Statement:
        """A PAC-Bayes bound on this posterior's risk on new data, with its assumptions.

        KL(Q ‖ P) is the complexity of the Evidence. The Gibbs risk is an integral, in closed form
        or by quadrature. A hyperparameter that was learnt from the data and shapes the prior must
        be on a grid, or the certificate is refused. Kernel, decay and order shape the prior. The
        outputscale does too, except for the 0–1 loss, which does not depend on it. The noise
        variance shapes only the posterior. Where the fit learnt it, it is tuned again to minimise
        this bound, at no cost in the bound, and `Certificate.posterior` is the certified posterior.
        With one-hot targets and the 0–1 loss, the KL is that of the differences between outputs,
        because the loss depends on them only.

        Args:
            delta: δ in (0, 1); the bound holds with probability at least 1 − δ over training
                samples.
            loss: "zero_one" (one-hot targets, signs, or class labels), "squared" or "nll".
            bound: "maurer", "mcallester", "quadratic", "thiemann", "catoni", "catoni_union" or
                "alquier".
            predictor: "gibbs", which draws a new function for each prediction; or "vote", the
                deterministic classifier, with the smaller of twice the Gibbs bound and the C-bound
                (both are Maurer's at δ/2).
            noise: "tune" or "keep"; by default it is tuned where it was learnt.
            grid: values stated before seeing the data, such as {"lengthscale": [1.0, 2.0, 4.0]}.
                The posterior is recomputed at the nearest values. The bound increases by the
                logarithm of the number of values, or by −ln of a value's probability for a dict
                from values to probabilities. "geometric", for one name or as the whole grid, means
                all powers of √2, where the k-th has a probability proportional to 1/(1 + |k|)².
            clip: limits of an unbounded loss, chosen without the data: c for "squared", or a range
                (a, b) in nats for "nll".
            subgamma: (s², c) of the oracle bound on the unclipped "nll"; the result is then an
                `OracleBound`, which is not a certificate.
            task: number of the task in a batch.

        Returns:
            A `bayesgen.pacbayes.Certificate` with `bound`, `risk`, `complexity`, `delta` and
            `vacuous`; printing it lists how it was obtained.

        Raises:
            ValueError: a learnt hyperparameter shapes the prior and is not on the grid; the loss
                has no finite range; the targets are not labels; an argument is out of range; the
                error of the Evidence is too large.

        Source: Maurer (2004); Germain et al. (2016).

        Example:
            >>> import gpytorch, bayesgen as bg
            >>> data = bg.data.restrict(bg.data.load("digits"), (3, 8))
            >>> kernel = gpytorch.kernels.RBFKernel()
            >>> kernel.lengthscale = 2.0
            >>> gp = bg.GaussianProcess(kernel, hyperparameters=("scale", "noise"))
            >>> certificate = gp.fit(data.x_train, 2 * data.y_train.double() - 1).certificate()
            >>> certificate.risk < certificate.bound < 0.2
            True
        """
        options = CertificateOptions(delta, loss, bound, predictor, noise, grid, clip, subgamma)
        return certify_posterior(self, options, task)
