"""Skewness of latent marginals under Laplace's approximation.

Laplace's approximation of a latent value f* is N(m, v). Along the line on which the training values
follow f*, f = f̂ + tc with t = (f* − m)/√v and c = Cov(f, f*)/√v, the prior and the quadratic part
of the log likelihood give exactly −t²/2. The rest of the log likelihood,

    Δ(t) = Σᵢ [l(f̂ᵢ + cᵢt) − l(f̂ᵢ) − cᵢt l′(f̂ᵢ) − ½ cᵢ²t² l″(f̂ᵢ)],

is what the approximation leaves out. The corrected marginal is proportional to e^{−t²/2 + Δ(t)}. It
is exact where f* determines all training values, as under a constant prior covariance.

Source: Rue, Martino & Chopin (2009), section 3.2, without the change of the determinant.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bayesgen.likelihoods.likelihood import Separable

# Slopes below this change log p(y | f) by less than 10⁻⁶ of a curvature of one within the range.
_LEAST = 1e-3


class SkewnessCorrection:
    """The factors e^Δ of m latent values; see the module.

    Args:
        likelihood: likelihood of the training targets.
        y: training targets in their inner form, (B, n, 1).
        f: modes of the training values, (B, n, 1).
        slopes: Cov(f, f*)/√v, (B, m, n).
    """

    def __init__(self, likelihood: Separable, y: Tensor, f: Tensor, slopes: Tensor) -> None:
        self.likelihood = likelihood
        self.points = slopes.shape[1]
        self.slopes = slopes.double().flatten(0, 1)
        self.y, self.f = y.double()[..., 0], f.double()[..., 0]
        at = likelihood.derivatives(self.y, self.f)
        self.value, self.first, self.second = at.value, at.first, at.second
        self.width = slopes.shape[-1]

    def __call__(self, index: Tensor, z: Tensor) -> Tensor:
        """Values Δ (k, Q) of the latent values `index` (k,) at t = z (k, Q)."""
        task = index // self.points
        step = self.slopes[index, None, :] * z[..., None]
        y, f = self.y[task, None, :], self.f[task, None, :]
        # Where a step is small, the difference below would be rounding only.
        rest = (
            self.likelihood.element(y, f + step)
            - self.value[task, None, :]
            - step * (self.first[task, None, :] + 0.5 * step * self.second[task, None, :])
        )
        return torch.where(step.abs() < _LEAST, torch.zeros_like(rest), rest).sum(-1)

    def scale(self, index: Tensor) -> Tensor:
        """Distances 1/max |c|, (k, 1)."""
        steepest = self.slopes[index].abs().amax(-1, keepdim=True)
        return 1 / steepest.clamp(min=_LEAST)
