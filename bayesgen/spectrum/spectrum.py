"""`Spectrum`: the spectral measures of a covariance matrix and the evidence computed from them.

For a Gaussian likelihood with prior covariance s·K and noise variance σ², the evidence depends on K
through two measures: the density of its eigenvalues, and the same eigenvalues weighted by the
targets. Given these, the evidence, its derivatives and its maximum over (s, σ²) cost O(n) for each
task.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from bayesgen import solvers
from bayesgen._internal import checks
from bayesgen.evidence import Evidence
from bayesgen.provenance import Payment
from bayesgen.spectrum import constructors
from bayesgen.spectrum.decomposition import Decomposition, Rounding, decompose
from bayesgen.spectrum.derivatives import EvidenceDerivatives, derivatives
from bayesgen.spectrum.evidence import (
    gaussian_evidence,
    log_marginal_likelihood,
    logdet,
    logdet_error,
)
from bayesgen.spectrum.krylov_rules import Errors, KrylovSettings
from bayesgen.spectrum.maximise import Maximum, maximise
from bayesgen.spectrum.solves import Solves


@dataclass(frozen=True)
class Spectrum(Solves):
    """Spectral measures of a PSD operator K on n points: its density and target-weighted measure.

    Attributes:
        density: eigenvalues of K with weight one each (zero eigenvalues may share a node).
        n: order of the operator.
        targets: the same nodes weighted by Σ_c (uᵢᵀy_c)², shape (..., m); None without targets.
        outputs: C, the number of outputs of each task.
        vectors: eigenvectors, (n, m), or None where they are not kept; they are needed for solves.
        projections: Uᵀy, (B, m, C), or None without eigenvectors or targets.
        y: the targets, (B, n, C), where eigenvectors are kept.
        method: description of how it was computed.
        rounding: size of the rounding error of K.
        probes: the density estimated from each random probe, nodes and weights (q, m); None where
            the density is exact. `density` is their mean.
        upper: the target-weighted measure by Gauss–Radau quadrature, where `targets` is the mean of
            it and of Gauss quadrature; the two bracket the quadratic form.
        radau: the density by Gauss–Radau quadrature; an end of the bracket of the log-determinant
            for the probes that were drawn.
        targets_bracket, density_bracket: the ends of the two brackets after each of the last two
            blocks.
        doubt: effect on the sums of `density` of rounding in the moments that it was calibrated on,
            one row for each moment.
        checks: comparisons with a direct computation that were made; see `bayesgen.verify`.
        spanned: whether `vectors` are Ritz vectors. Their span contains the targets but is not
            invariant under K, so they give solves but no variances.
        payments: choices of K that depend on data, which a certificate pays for.

    Source: Rasmussen & Williams (2006), section 2.3 and eq. 2.30, in the eigenbasis of K.

    Example:
        >>> import torch
        >>> K = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
        >>> y = torch.tensor([1.0, 0.0], dtype=torch.float64)
        >>> spectrum = Spectrum.dense(K, y)
        >>> round(float(spectrum.effective_dimension(1.0)), 4)  # 1/2 + 3/4
        1.25
        >>> round(float(spectrum.evidence(1.0, 1.0).log_marginal_likelihood), 4)
        -3.0651
    """

    payments: tuple[Payment, ...] = ()

    def largest_nodes(self, count: int = 3) -> Tensor:
        """The largest eigenvalues, at most `count`, by which a covariance is recognised."""
        nodes = self.density.nodes
        return nodes.topk(min(count, len(nodes))).values

    # ------------------------------------------------------------------ constructors

    @classmethod
    def dense(cls, K: Any, y: Any = None) -> Spectrum:
        """Spectrum of a symmetric positive semi-definite matrix, by a dense eigendecomposition.

        Args:
            K: covariance matrix, (n, n).
            y: targets (n,), (n, C) or (B, n, C), of K's dtype and device; None for no targets.

        Raises:
            ValueError: K is not square, symmetric, finite or PSD up to rounding; the shape of y
                does not match K.
        """
        K = checks.real("K", K).detach()
        if K.ndim != 2 or 0 in K.shape:
            raise ValueError(f"K must have shape (n, n) with n ≥ 1, got {tuple(K.shape)}")
        checks.gram(K, len(K), "K")
        own = None if y is None else checks.owned(checks.targets("y", y, len(K), like=K))
        return cls.of_matrix(K, own)

    @classmethod
    def of_matrix(cls, K: Tensor, y: Tensor | None) -> Spectrum:
        """Spectrum of a symmetric matrix, as by `dense` but without checks of shape and symmetry.

        Args:
            K: symmetric matrix, (n, n).
            y: targets (n,), (n, C) or (B, n, C), or None for no targets.

        Raises:
            ValueError: K is not PSD up to rounding.
        """
        values, vectors = solvers.eigh(K)
        checks.psd(float(values[0]), float(values[-1]), len(K), K.dtype, "K")
        rounding = Rounding(matrix=solvers.rounding_norm(len(K), float(values[-1]), K.dtype))
        method = "exact, by dense eigendecomposition"
        return cls.of_basis(values.clamp(min=0), vectors, len(K), y, method, rounding)

    @classmethod
    def features(cls, Phi: Any, y: Any = None) -> Spectrum:
        """Spectrum of K = ΦΦᵀ, by a singular value decomposition of the features.

        Neither K nor ΦᵀΦ is formed, so that small singular values stay accurate. With more features
        than points, Φ is first replaced by its (n, n) triangular factor, which loses nothing.

        Args:
            Phi: features, (n, d).
            y: as in `dense`.

        Raises:
            ValueError: Φ is not a finite (n, d) matrix; the shape of y does not match Φ.
        """
        return cls._of_features(Phi, y, "svd")

    @classmethod
    def tall(cls, Phi: Any, y: Any = None) -> Spectrum:
        """Spectrum of K = ΦΦᵀ from ΦᵀΦ, (d, d), for many more points than features.

        This is cheaper than the singular value decomposition in `features` but less accurate:
        eigenvalues below n·eps·λ_max are discarded as rounding, and the rounding error is that of a
        matrix and not of its square root. Use it for features of similar size, such as pooled
        activations, with a noise variance well above that level; do not use it for raw powers.

        Args:
            Phi: features, (n, d), d ≤ n.
            y: as in `dense`.

        Raises:
            ValueError: Φ is not a finite (n, d) matrix with d ≤ n; Φ is zero; the shape of y does
                not match Φ.

        Example:
            >>> import torch
            >>> Phi = torch.linspace(-1, 1, 50, dtype=torch.float64)[:, None] ** torch.arange(3)
            >>> tall, svd = Spectrum.tall(Phi), Spectrum.features(Phi)
            >>> bool((tall.logdet(1.0, 0.1) - svd.logdet(1.0, 0.1)).abs() < 1e-10)
            True
        """
        return cls._of_features(Phi, y, "gram")

    @classmethod
    def by_shape(cls, Phi: Any, y: Any = None) -> Spectrum:
        """Spectrum of K = ΦΦᵀ for features of similar size: `tall` for n ≥ d, else `features`.

        Args:
            Phi, y: as in `features`.

        Raises:
            ValueError: as in `tall`.
        """
        return cls._of_features(Phi, y, "auto")

    @classmethod
    def _of_features(cls, Phi: Any, y: Any, decomposition: str) -> Spectrum:
        Phi = checks.inputs("Phi", Phi)
        columns = None
        if y is not None:
            columns = checks.owned(checks.targets("y", y, len(Phi), like=Phi))
        return cls.of_decomposition(decompose(Phi, decomposition), columns)

    @classmethod
    def of_decomposition(cls, parts: Decomposition, y: Tensor | None) -> Spectrum:
        """Spectrum of ΦΦᵀ from Φ's singular vectors, with targets (n,), (n, C) or (B, n, C)."""
        values = parts.singular.square()
        return cls.of_basis(values, parts.left, len(parts.left), y, parts.method, parts.rounding)

    @classmethod
    def of_basis(
        cls,
        values: Tensor,
        vectors: Tensor,
        n: int,
        y: Tensor | None,
        method: str,
        rounding: Rounding,
    ) -> Spectrum:
        """Spectrum from m ≤ n eigenpairs; the other n − m eigenvalues are zero."""
        fields = constructors.of_basis(values, vectors, n, y)
        return cls(**fields, n=n, method=method, rounding=rounding)

    @classmethod
    def lanczos(
        cls, op: Any, y: Any = None, *, probes: int = 16, steps: int = 64, seed: int = 0
    ) -> Spectrum:
        """Spectrum of a symmetric operator from its matrix products, by Lanczos quadrature.

        The density is the mean of Gauss quadratures over random probes (stochastic Lanczos
        quadrature), with a standard error. The target-weighted measures come from Gauss and
        Gauss–Radau quadratures started at y itself. The result is exact in k steps where the
        operator has at most k distinct eigenvalues. No eigenvectors are kept, so there are no
        solves.

        Args:
            op: operator, (n, n): a tensor, or an object with `shape`, `dtype` and `@` (such as
                those of curvlinops and linear_operator). It must be PSD where y is given.
            y: targets, as in `dense`.
            probes: q ≥ 2, the number of random vectors for the density.
            steps: k, the number of Lanczos steps from each vector.
            seed: seed of the random probes.

        Raises:
            TypeError: op has no `shape` or no `@`.
            ValueError: op is not square; a count is out of range; the shape of y does not match op.

        Source: Ubaru, Chen & Saad (2017); Golub & Meurant (2010).

        Example:
            >>> import torch
            >>> op = torch.diag(torch.linspace(0, 1, 50, dtype=torch.float64))
            >>> spectrum = Spectrum.lanczos(op, steps=30)
            >>> gap = spectrum.logdet(1.0, 0.1) - Spectrum.dense(op).logdet(1.0, 0.1)
            >>> bool(gap.abs() < 4 * spectrum.sampling_error(lambda v: (v + 0.1).log()) + 1e-9)
            True
        """
        return cls(**constructors.of_operator(op, y, probes, steps, seed))

    @classmethod
    def krylov(
        cls,
        op: Any,
        y: Any,
        *,
        probes: int = 32,
        steps: int = 32,
        tolerance: float | None = None,
        seed: int = 0,
        folder: Path | None = None,
        mark: str = "",
        progress: Callable[[int], None] | None = None,
    ) -> Spectrum:
        """Spectrum of a PSD operator by block Lanczos, from all targets and probes at once.

        One block Krylov space is built from every column of y and from the random probes. The part
        of the spectrum that the space resolves is known exactly; the probes sample the rest. Where
        tr K and ‖K‖²_F are known (op is a tensor, or its method `moments()` returns them), they
        serve as control variates (`bayesgen.spectrum.control_variates`), which reduces the sampling
        error to about a tenth. Gauss and Gauss–Radau rules bracket the quadratic forms and, for the
        probes drawn, the log-determinant. The spectrum gives solves for its own targets, but no
        variances.

        Args:
            op: PSD operator, (n, n), as in `lanczos`.
            y: targets, as in `dense`.
            probes: number of random probes, at least 2.
            steps: largest number of products with the operator.
            tolerance: error of each task's evidence at its best (s, σ²), in nats, at which the
                iteration stops early; None takes all the steps.
            seed: seed of the random probes.
            folder: where finished blocks are written, so that an interrupted run can continue; None
                writes nothing.
            mark: label of the run; blocks in the folder are used only if they carry the same label.
            progress: called with the number of products done.

        Raises:
            TypeError, ValueError: as in `lanczos`; products with op contradict each other.

        Source: Golub & Meurant (2010), chapters 4 and 6; Gambhir, Stathopoulos & Orginos (2017).

        Example:
            >>> import torch
            >>> x = torch.linspace(0, 1, 200, dtype=torch.float64)[:, None]
            >>> K, y = torch.exp(-8 * (x - x.T) ** 2), torch.sin(6 * x[:, 0])
            >>> krylov, dense = Spectrum.krylov(K, y, probes=4), Spectrum.dense(K, y)
            >>> gap = krylov.evidence(1.0, 0.1).log_marginal_likelihood
            >>> gap = gap - dense.evidence(1.0, 0.1).log_marginal_likelihood
            >>> bool(gap.abs() < 1e-6)
            True
        """

        def errors(fields: dict[str, Any]) -> Errors:
            spectrum = cls(**fields)
            best = maximise(spectrum)
            logdet = logdet_error(spectrum, best.scale[..., None], best.noise[..., None])
            return Errors(best.parts.error, logdet)

        how = KrylovSettings(probes, steps, tolerance, seed, folder, mark, progress)
        return cls(**how.fields(op, y, errors))

    @classmethod
    def reduced(
        cls, R: Tensor, n: int, projections: Tensor | None, dropped: Tensor | None
    ) -> Spectrum:
        """Spectrum of ΦΦᵀ for Φ = QR on n points, from R alone; it gives no solves.

        Args:
            R: the triangular factor, (r, d); the columns of Q are orthonormal.
            n: number of points.
            projections: Qᵀy, (B, r, C), or None for no targets.
            dropped: squared norm of the targets outside the span of Q, Σ_c ‖y_c − QQᵀy_c‖², (B,).
        """
        return cls(**constructors.of_factor(R, n, projections, dropped), n=n)

    # ------------------------------------------------------------------ quantities of K alone

    def effective_dimension(self, alpha: Any) -> Tensor:
        """Effective dimension N_eff(K; α) = Σ λᵢ/(λᵢ + α).

        Args:
            alpha: positive, any shape (...).

        Returns:
            (...), between 0 and n.

        Source: Gull (1989); Maddox et al. (2020), eq. 2.
        """
        alpha = checks.positive("alpha", alpha, like=self.density.nodes)[..., None]
        return self.density.integrate(lambda nodes: nodes / (nodes + alpha))

    def logdet(self, scale: Any, noise: Any) -> Tensor:
        """Log-determinant log|sK + σ²I|, for scale and noise of any broadcastable shapes (...)."""
        return logdet(self, *self.settings(scale, noise))

    def sampling_error(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Standard error of Σ f(λᵢ) over the random probes; 0 where the density is exact.

        Args:
            function: f, applied element by element.
        """
        if self.probes is None:
            return self.density.nodes.new_zeros(())
        each = self.probes.integrate(function)
        return each.std() / len(each) ** 0.5

    # ------------------------------------------------------------------ quantities of K and targets

    def evidence(self, scale: Any, noise: Any) -> Evidence:
        """Exact Evidence of the targets under N(0, sK + σ²I), for every task.

            fit        = −½ [nC log(2πσ²) + σ² Σ tᵢ/(sλᵢ+σ²)² + N_eff]
            complexity = ½ [C Σ log(1 + sλᵢ/σ²) − N_eff + Σ tᵢ sλᵢ/(sλᵢ+σ²)²]

        with tᵢ = Σ_c (uᵢᵀy_c)² and N_eff = C Σ sλᵢ/(sλᵢ+σ²). The error is the first-order effect of
        rounding, with A = sK + σ²I and α = A⁻¹y. It is ½s‖δK‖ (C tr A⁻¹ + ‖α‖²) where K was
        decomposed and s‖δΦ‖ (C Σ √λᵢ/(sλᵢ+σ²) + ‖α‖‖Φᵀα‖) where Φ was decomposed. Spectra by
        Lanczos add their sampling and quadrature errors.

        Args:
            scale: outputscale s > 0, a number or a tensor that broadcasts with the batch shape.
            noise: noise variance σ² > 0, a number or a tensor that broadcasts with the batch shape.

        Raises:
            ValueError: a setting is not positive, or the spectrum was built without targets.
        """
        return gaussian_evidence(self, *self.settings(scale, noise)).evidence()

    def log_marginal_likelihood(self, scale: Any, noise: Any) -> Tensor:
        """Log density log N(y; 0, sK + σ²I) summed over outputs, in nats. Differentiable."""
        return log_marginal_likelihood(self, *self.settings(scale, noise))

    def derivatives(self, scale: Any, noise: Any) -> EvidenceDerivatives:
        """Log marginal likelihood with its analytic gradient and Hessian in (log s, log σ²).

        With dᵢ = sλᵢ+σ² and shares aᵢ = (sλᵢ, σ²)/dᵢ, which sum to one:

            gradient_j = ½ Σ a_ij (tᵢ/dᵢ − C)
            hessian_jk = ½ Σ [δ_jk a_ij (tᵢ/dᵢ − C) − a_ij a_ik (2tᵢ/dᵢ − C)]

        Source: Rasmussen & Williams (2006), eq. 5.9, differentiated once more, in the eigenbasis.
        """
        return derivatives(self, *self.settings(scale, noise))

    def load(self, y: Any) -> Spectrum:
        """The same spectrum with other targets, (n,), (n, C) or (B, n, C).

        Raises:
            ValueError: the spectrum has no eigenvectors or was built by block Lanczos; the shape of
                y does not match.
        """
        if self.vectors is None:
            raise ValueError("this spectrum was built without eigenvectors: it cannot take targets")
        self._whole("solves for other targets")
        y = checks.targets("y", y, self.n, like=self.density.nodes)
        values = self.density.nodes[: self.vectors.shape[1]]
        loaded = Spectrum.of_basis(values, self.vectors, self.n, y, self.method, self.rounding)
        return replace(loaded, payments=self.payments)

    def maximise(self, scale: Any = None, noise: Any = None) -> Maximum:
        """Maximise the evidence over (s, σ²), for every task at once, in O(n) for each task.

        A given setting is kept; the others are searched. With both free, the best s has a closed
        form for each ratio ρ = σ²/s (s = Σ tᵢ/(λᵢ+ρ) / nC), so the search is over log ρ alone. A
        coarse grid covers every ρ from the rounding level of K to 10⁶ times its largest eigenvalue.
        Newton steps on the analytic derivatives then refine the best point within its grid bracket.

        Args:
            scale: outputscale s to keep, or None to search it.
            noise: noise variance σ² to keep, or None to search it.

        Returns:
            A `Maximum` whose parts have the batch shape.

        Raises:
            ValueError: the targets of a task are all zero, so that its evidence has no maximum; a
                given setting is not positive; K is zero.

        Example:
            >>> import torch
            >>> x = torch.linspace(0, 1, 50, dtype=torch.float64)[:, None]
            >>> y = torch.sin(6 * x[:, 0]) + 0.1 * torch.cos(97 * x[:, 0])
            >>> best = Spectrum.dense(torch.exp(-8 * (x - x.T) ** 2), y).maximise()
            >>> round(float(best.noise), 3)
            0.006
        """
        kept = (
            None if value is None else self._kept(name, value)
            for name, value in (("scale", scale), ("noise", noise))
        )
        best = maximise(self, *kept)
        return Maximum(best.scale, best.noise, best.parts.evidence(), best.at_bound)

    def _kept(self, name: str, value: Any) -> Tensor:
        """A setting that the maximisation keeps, as a checked tensor.

        Args:
            name: name of the argument, for the message.
            value: a positive number, or a positive tensor of the batch shape.
        """
        weights = self.target_measure().weights
        tensor = checks.positive(name, value, like=weights)
        if tensor.ndim and tensor.shape != weights.shape[:-1]:
            raise ValueError(
                f"{name} must be a number or of the batch shape {tuple(weights.shape[:-1])}, "
                f"got shape {tuple(tensor.shape)}"
            )
        return tensor
