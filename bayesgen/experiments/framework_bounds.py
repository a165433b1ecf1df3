"""Five generalisation bounds of linear classifiers sign(wᵀφ(x)) on features of unit length.

The features are stated before the data and there are at least as many as points, so that some w
fits any labels. Each function returns what its framework says of the labels that it is given:

    VC dimension       all w; D = d for hyperplanes through the origin
    Rademacher         ‖w‖ ≤ B, functions wᵀφ with a margin γ; R̂ ≤ B √(tr K)/n = B/√n
    fat shattering     ‖w‖ ≤ B, margin γ; D = min((16B/γ)², d), at most the pseudo-dimension d
    PAC-Bayes          w ~ Q, a Gaussian posterior; the prior is N(0, sI) for any s
    countable          w is decoded from a code; the prior of C bits is 2⁻ᶜ/C²

The sign of wᵀφ does not depend on the length of w, so that all five are about the same classifiers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from bayesgen import pacbayes
from bayesgen._internal import checks
from bayesgen.models import LinearModel, LinearPosterior
from bayesgen.pacbayes import expected_losses
from bayesgen.pacbayes.certificates.certificate import Certificate
from bayesgen.pacbayes.compression import compressed_network
from bayesgen.pacbayes.compression.container import Container, unpacked

FRAMEWORKS = ("PAC-Bayes", "countable hypotheses", "Rademacher", "VC dimension", "fat shattering")
# Candidates of the countable bound, stated before the data: dimensions of a random subspace whose
# coordinates take two levels, and numbers of levels to which an interpolant is rounded.
SUBSPACES = (50, 100, 200)
ROUNDINGS = (15, 255)
CANDIDATES = len(SUBSPACES) + len(ROUNDINGS)
# Training of the candidates in a subspace.
_EPOCHS, _QUANTISED, _BATCH, _RATE = 16, 8, 128, 0.1
# Ridge of the interpolant, relative to the mean eigenvalue of the Gram matrix, and the ridges of
# the fits among which the ball of each label set is chosen.
_INTERPOLATION = 1e-9
_RIDGES = tuple(10.0 ** (k / 2) for k in range(-8, 5))
# Largest training error of a hypothesis that fits its labels.
FITTED = 0.01
# Scales s, relative to that of the certificate, and ratios σ²/s of the posteriors that fit.
_SCALES = (1.0, 1e2, 1e4)
_RATIOS = tuple(10.0 ** (-k / 2) for k in range(9))
# Norms B of the balls, stated before the data; the choice among them is paid for.
NORMS = tuple(2.0**k for k in range(14))


@dataclass(frozen=True)
class Framework:
    """What one framework says about one set of labels.

    Attributes:
        risk: empirical (margin or Gibbs) risk in the bound, in [0, 1].
        bound: the bound, not clipped to 1 where the formula is a sum.
        capacity: native measure: nats of KL(Q‖P), bits of code, R̂, or a dimension.
        fit_error: smallest training error of what the framework was applied to; the bound's own
            hypothesis may have a larger one.
        fit_bound: the bound of a hypothesis with a training error up to `FITTED`; infinite where
            there is none.
        error: function (features, labels) → error of the hypothesis of the bound on other points.
        own_bound: for balls, the bound of the best ball for these labels; NaN elsewhere.
    """

    risk: float
    bound: float
    capacity: float
    fit_error: float
    fit_bound: float
    error: Callable[[Tensor, Tensor], float]
    own_bound: float = math.nan

    @property
    def complexity(self) -> float:
        """What the bound adds to the empirical risk."""
        return self.bound - self.risk


@dataclass(frozen=True)
class LinearFit:
    """A linear function fitted by ridge regression on signs.

    Attributes:
        w: weights, (d,).
        values: its values on the training points, (n,).
        signs: the labels as −1 and 1, (n,).
    """

    w: Tensor
    values: Tensor
    signs: Tensor

    @property
    def norm(self) -> float:
        """The length ‖w‖ of the weights."""
        return float(self.w.norm())

    def margin_risk(self, margin: float) -> float:
        """Share of training points with y f(x) ≤ γ."""
        return float((self.signs * self.values <= margin).double().mean())

    def error(self, phi: Tensor, labels: Tensor) -> float:
        """Error of the sign on other points; a value of 0 is class 0."""
        return float(((phi @ self.w > 0).long() != labels).double().mean())


def unit(features: Tensor) -> Tensor:
    """Features (n, d) scaled to length one; rows of zeros stay zeros."""
    return features / features.norm(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)


def certificates(phi: Tensor, labels: Tensor, delta: float) -> list[Certificate]:
    """PAC-Bayes-kl certificates of Gaussian posteriors, by label set, with the one prior N(0, sI).

    The noise variance shapes the posterior alone, and the 0–1 loss does not depend on s, so that
    both are tuned to the bound at no cost; see `bayesgen.pacbayes.certify`.

    Args:
        phi: features of unit length, (n, d).
        labels: 0 and 1, (B, n).
        delta: δ in (0, 1).
    """
    signs = (2 * labels - 1).to(phi)[..., None]
    found: list[Certificate] = pacbayes.certify(
        {"Gaussian": LinearModel()}, phi, signs, delta=delta
    )
    return found


def decomposed(certificate: Certificate) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of ΦΦᵀ, as the certificate's posterior has them."""
    spectrum = cast(LinearPosterior, certificate.posterior).spectrum()
    assert spectrum.vectors is not None
    return spectrum.density.nodes[: spectrum.vectors.shape[1]], spectrum.vectors


def ridge_fits(
    phi: Tensor, labels: Tensor, decomposition: tuple[Tensor, Tensor]
) -> list[list[LinearFit]]:
    """Ridge regressions on the signs of each label set, the interpolant first.

    Args:
        phi: features of unit length, (n, d) with d ≥ n.
        labels: 0 and 1, (B, n).
        decomposition: eigenvalues (n,) and eigenvectors (n, n) of ΦΦᵀ.
    """
    values, vectors = decomposition
    mean = values.mean()
    found = []
    for y in (2 * labels - 1).to(phi):
        turned = vectors.mT @ y
        fits = []
        for ridge in (_INTERPOLATION, *_RIDGES):
            alpha = vectors @ (turned / (values.clamp(min=0) + ridge * mean))
            w = phi.mT @ alpha
            fits.append(LinearFit(w, phi @ w, y))
        found.append(fits)
    return found


def pac_bayes(certificate: Certificate) -> Framework:
    """A PAC-Bayes certificate as a row; its risks are those of a w drawn from the posterior.

    `fit_bound` is the smallest bound over a grid of scales and noise variances with a Gibbs risk
    up to `FITTED`; neither costs anything.

    Args:
        certificate: one of `certificates`.
    """
    posterior = cast(LinearPosterior, certificate.posterior)
    scale, fits = certificate.settings["scale"], []
    for s in (scale * each for each in _SCALES):
        for ratio in _RATIOS:
            moved = posterior.at(scale=s, noise=ratio * s)
            other = moved.certificate(noise="keep", delta=certificate.delta)
            fits.append((other.risk, other.bound))
    return Framework(
        certificate.risk,
        certificate.bound,
        certificate.complexity,
        min(risk for risk, _ in fits),
        _fit_bound(fits),
        partial(_gibbs_error, posterior),
    )


def countable(
    phi: Tensor, labels: Tensor, interpolant: LinearFit, delta: float, seed: int = 0
) -> Framework:
    """Occam's bound of the best of some coded classifiers, with payment for their number.

    Candidates are networks of one layer trained in a random subspace with two levels
    (`bayesgen.pacbayes.compress`), and an interpolant with weights rounded to a few equally spaced
    levels. All are decoded from their bytes before their risk is counted.

    Args:
        phi: features of unit length, (n, d).
        labels: 0 and 1, (n,).
        interpolant: a fit of these labels.
        delta: δ in (0, 1).
        seed: seed of the subspace.
    """
    n, d = phi.shape
    found: list[tuple[float, int, Callable[[Tensor, Tensor], float]]] = []
    for dimension in SUBSPACES:
        net = nn.utils.skip_init(nn.Linear, d, 2, bias=False, dtype=torch.float32)
        nn.init.zeros_(net.weight)
        code = pacbayes.compress(
            net,
            _scaled(phi),
            labels,
            dimension=min(dimension, d),
            levels=2,
            epochs=_EPOCHS,
            quantised_epochs=_QUANTISED,
            batch=_BATCH,
            learning_rate=_RATE,
            seed=seed,
        )
        found.append((code.risk, code.bits, partial(_network_error, code.decoded())))
    for levels in ROUNDINGS:
        w, bits = rounded(interpolant.w, min(levels, d))
        fit = LinearFit(w, phi @ w, interpolant.signs)
        found.append((fit.error(phi, labels), bits, fit.error))
    paid = math.log(CANDIDATES)
    bounds = [
        float(pacbayes.occam(risk, pacbayes.solomonoff(float(bits)) - paid, n, delta))
        for risk, bits, _ in found
    ]
    fits = [(one[0], bound) for one, bound in zip(found, bounds, strict=True)]
    best = min(range(len(found)), key=lambda i: bounds[i])
    risk, bits, error = found[best]
    least = min(one[0] for one in found)
    return Framework(risk, bounds[best], float(bits), least, _fit_bound(fits), error)


def rounded(w: Tensor, levels: int) -> tuple[Tensor, int]:
    """Weights rounded to equally spaced levels and decoded from their code, and its bits.

    Args:
        w: weights, (d,), not all 0.
        levels: number of levels, 2 to 255, at most the number of weights.

    Raises:
        ValueError: the number of levels is out of range; all weights are 0.

    Example:
        >>> rounded(torch.tensor([1.0, -1.0, 0.1], dtype=torch.float64), 3)[0]
        tensor([ 1., -1.,  0.], dtype=torch.float64)
    """
    if not 2 <= checks.whole("levels", levels) <= 255:
        raise ValueError(f"levels must lie in 2..255, got {levels}")
    if levels > len(w):
        raise ValueError(f"levels must be at most the number of weights, {len(w)}, got {levels}")
    codebook = torch.linspace(-1, 1, levels, dtype=torch.float64).half()
    size = w.abs().max()
    if not size > 0:
        raise ValueError("w must hold a weight other than 0, got only zeros")
    symbols = ((w / size + 1) * (levels - 1) / 2).round().long()
    what = f"weights of {len(w)} features".encode()
    code = Container(0, codebook, symbols).packed(what)
    read = unpacked(code, what, len(w))
    return read.codebook.to(w)[read.symbols], 8 * len(code)


def ball(fits: Sequence[Sequence[LinearFit]], norms: Sequence[float]) -> float:
    """The smallest ball of the grid that contains the interpolants of all label sets.

    Raises:
        ValueError: none of the norms is large enough.
    """
    needed = max(each[0].norm for each in fits)
    large = [norm for norm in norms if norm >= needed]
    if not large:
        raise ValueError(
            f"norms must hold one of at least {needed:.4g}, the norm of an interpolant, got at "
            f"most {max(norms):.4g}"
        )
    return min(large)


def rademacher(
    fits: Sequence[LinearFit], norm: float, norms: Sequence[float], margin: float, delta: float
) -> Framework:
    """Margin bound by the Rademacher complexity B/√n of the ball ‖w‖ ≤ B.

    Args:
        fits: fits of one label set, the interpolant first.
        norm: B, one of the norms.
        norms: all norms stated before the data; each has δ/(their number).
        margin: γ, stated before the data.
        delta: δ in (0, 1).

    Source: Mohri, Rostamizadeh & Talwalkar (2018), theorem 5.8; Bartlett & Mendelson (2002).
    """
    n = len(fits[0].signs)

    def bound(fit: LinearFit, B: float) -> float:
        return float(
            pacbayes.rademacher(
                fit.margin_risk(margin), B / math.sqrt(n), margin, n, delta / len(norms)
            )
        )

    return _of_ball(fits, norm, norms, margin, bound, norm / math.sqrt(n))


def fat_shattering(
    fits: Sequence[LinearFit], norm: float, norms: Sequence[float], margin: float, delta: float
) -> Framework:
    """Margin bound by the fat-shattering dimension of the ball ‖w‖ ≤ B at scale γ/16.

    Args:
        fits, norm, norms, margin, delta: as in `rademacher`.

    Source: Bartlett (1998), theorem 2; Bartlett & Shawe-Taylor (1999), theorem 1.6.
    """
    n, d = len(fits[0].signs), len(fits[0].w)

    def dimension(B: float) -> float:
        return min(float(pacbayes.fat_shattering_dimension(1.0, B, margin / 16)), float(d))

    def bound(fit: LinearFit, B: float) -> float:
        risk = fit.margin_risk(margin)
        return float(pacbayes.fat_shattering(risk, dimension(B), n, delta / len(norms)))

    return _of_ball(fits, norm, norms, margin, bound, dimension(norm))


def vc(fits: Sequence[LinearFit], delta: float) -> Framework:
    """Bound by the VC dimension d of hyperplanes through the origin, for an interpolant."""
    fit = fits[0]
    risk, d = fit.margin_risk(0.0), len(fit.w)
    bound = float(pacbayes.vc(risk, d, len(fit.signs), delta))
    return Framework(risk, bound, float(d), risk, _fit_bound([(risk, bound)]), fit.error)


def _of_ball(
    fits: Sequence[LinearFit],
    norm: float,
    norms: Sequence[float],
    margin: float,
    bound: Callable[[LinearFit, float], float],
    capacity: float,
) -> Framework:
    """The bound of one ball for an interpolant, and that of the best ball and ridge."""
    fit = fits[0]
    own = [bound(each, B) for each in fits for B in norms if each.norm <= B]
    risk = fit.margin_risk(margin)
    fitted = fit.margin_risk(0.0)
    common = bound(fit, norm)
    fit_bound = _fit_bound([(fitted, common)])
    return Framework(risk, common, capacity, fitted, fit_bound, fit.error, min(own))


def _fit_bound(fits: Sequence[tuple[float, float]]) -> float:
    """The smallest bound among pairs (training error, bound) with an error up to `FITTED`."""
    return min((bound for risk, bound in fits if risk <= FITTED), default=math.inf)


def _gibbs_error(posterior: LinearPosterior, phi: Tensor, labels: Tensor) -> float:
    """Gibbs risk of a posterior on other points."""
    latent = posterior.predict(phi, latent=True)
    return float(expected_losses.zero_one(latent.mean, latent.variance, labels).mean())


def _network_error(net: nn.Module, phi: Tensor, labels: Tensor) -> float:
    """Error of a decoded network on other points."""
    return compressed_network.zero_one_risk(net, _scaled(phi), labels)


def _scaled(phi: Tensor) -> Tensor:
    """Features of size one each in float32, as the training of networks takes them."""
    return (phi * math.sqrt(phi.shape[1])).float()
