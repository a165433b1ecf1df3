"""Reports on a fitted posterior: its Gibbs risk, its certificate, its export to ArviZ.

They are methods of the posteriors in `bayesgen.models`, not of the interface in
`bayesgen.posterior`, because certificates are computed from that interface.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bayesgen.models import arviz
from bayesgen.pacbayes import gibbs
from bayesgen.pacbayes.certificates.certificate import Statement
from bayesgen.pacbayes.certificates.posterior import certify_posterior
from bayesgen.posterior.posterior import Posterior


class Reporting(Posterior):
    """A posterior that reports its Gibbs risk and its draws."""

    def gibbs_risk(self, tolerance: float = 1.0) -> float | None:
        """Expected training loss of a function drawn from the posterior, of one task.

        Real targets: 1 − exp(−(y − f)²/2τ²), averaged over rows and outputs, in closed form.
        Labels: the 0–1 loss. None where no bounded loss is at hand (counts).

        Args:
            tolerance: τ, in the targets' units.
        """
        return gibbs.gibbs_risk(self, tolerance)

    def to_arviz(self, *, draws: int = 1000, task: int | None = None, seed: int = 0) -> Any:
        """Draws, posterior predictive, observed data, log likelihood and evidence for ArviZ.

        The draws are exact and independent, laid out as four chains. The evidence and its parts
        are in the attributes.

        Args:
            draws: how many, over all chains.
            task: which one, where the posterior is of a batch of tasks.
            seed: of the draws.

        Returns:
            `arviz.InferenceData` on ArviZ 0.x, `xarray.DataTree` on 1.x: what `az.summary`,
            `az.loo`, `az.compare` and `az.plot_ppc` (1.x: `az.plot_ppc_dist`) take.

        Raises:
            ValueError: a batch of tasks and none chosen; fewer than eight draws.
        """
        return arviz.export(self, draws=draws, task=task, seed=seed)


class Certified(Reporting):
    """A posterior whose risk on new data a PAC-Bayes certificate can bound."""

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
        """A PAC-Bayes bound on this posterior's risk on new data, with everything it assumes.

        KL(Q ‖ P) is the complexity of the Evidence; the Gibbs risk is an integral in closed form
        or by quadrature. What the data chose is paid for or refused: kernel, decay and order
        shape the prior, and so does the outputscale unless the loss is the 0–1 loss, which does
        not know it. The noise only shapes the posterior: where the fit had learnt it, it is tuned
        again, to this bound, free of charge, and `Certificate.posterior` is the one certified. The
        KL is then that of the outputs' differences, all that the 0–1 loss knows.

        Args:
            delta: δ in (0, 1): the bound holds for a share of at least 1 − δ of training samples.
            loss: "zero_one" (one-hot targets, a sign, or class labels), "squared" or "nll".
            bound: "maurer", "mcallester", "quadratic", "thiemann", "catoni", "catoni_union" or
                "alquier".
            predictor: "gibbs", a function drawn anew for each prediction; or "vote", the
                deterministic classifier, by twice the Gibbs bound or the C-bound, whichever is
                smaller (both are Maurer's at δ/2).
            noise: "tune" or "keep"; by default tuned where it was learnt.
            grid: values stated beforehand, e.g. {"lengthscale": [1.0, 2.0, 4.0]}: the posterior
                is recomputed at the nearest ones, and the bound pays the logarithm of their number,
                or −ln of a value's probability where a dict value → probability is given.
                "geometric", for one or as the whole grid, is all powers of √2, the k-th with a
                probability falling as 1/(1 + |k|)².
            clip: where unbounded losses are clipped, chosen without the data: c for "squared",
                a range (a, b) in nats for "nll".
            subgamma: (s², c) for the oracle bound on the unclipped "nll"; it returns an
                `OracleBound`, which is no certificate.
            task: which one, of a batch.

        Returns:
            A `bayesgen.pacbayes.Certificate`: `bound`, `risk`, `complexity`, `delta`, `vacuous`;
            `print` tells its story.

        Raises:
            ValueError: hyperparameters that were learnt and are not paid for; a loss without a
                range; targets that are no labels; an argument out of range; an Evidence too
                uncertain.

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
        return certify_posterior(
            self,
            delta=delta,
            loss=loss,
            bound=bound,
            predictor=predictor,
            noise=noise,
            grid=grid,
            clip=clip,
            subgamma=subgamma,
            task=task,
        )
