"""Certificates of Gaussian functions about a network: by its last layer, or by its tangents.

The prior P has the network's outputs as its mean, and a covariance cK that was chosen without the
certifying observations. Q has a mean that is optimised for the bound and a covariance as in
`bayesgen.pacbayes.certificates.free_mean`. KL(Q ‖ P) is that of the functions at the sample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bayesgen import solvers
from bayesgen._internal.progress import Progress
from bayesgen.curvature.curvature import PriorShape
from bayesgen.curvature.jacobian import Sample
from bayesgen.curvature.jacobian_gram import grams
from bayesgen.curvature.parameters import Weights
from bayesgen.networks import inputs
from bayesgen.networks.gradients import without_gradients
from bayesgen.pacbayes.certificates import losses
from bayesgen.pacbayes.certificates.certificate import Certificate
from bayesgen.pacbayes.certificates.free_mean import certified
from bayesgen.pacbayes.certificates.request import CertificateTerms
from bayesgen.pacbayes.certificates.tuning import TuningProblem, coarse, refine
from bayesgen.pacbayes.trained.unseen import Unseen
from bayesgen.spectrum.spectrum import Spectrum

# Quadrature nodes during the search; an error of 1e-6 suffices for a ranking.
_QUICK = 24
# Share of the average eigenvalue that is added to the second moment of the features.
_RIDGE = 1e-2
# Bytes that rows of the Jacobian may take.
_MEMORY = 1e9
# Largest number of observations whose tangent kernel is decomposed.
LARGEST = 20_000


@dataclass(frozen=True)
class FunctionPrior:
    """A Gaussian prior on functions about a network.

    Attributes:
        spectrum: spectrum of K at the certifying observations.
        unit: size of the network's outputs, without certifying observations; K is scaled by its
            square.
        words: description of the covariance.
        update: (weights α (n, C), c) → a function (x_new) → the change cK(x_new, x)α of the mean.
    """

    spectrum: Spectrum
    unit: float
    words: str
    update: Callable[[Tensor], Callable[[Any], Tensor]]


@dataclass(frozen=True)
class AboutNetwork:
    """A Gaussian Q about a network, whose mean was optimised for a bound.

    Attributes:
        net: the network and its certifying observations.
        change: function of new inputs → what is added to the network's outputs.
    """

    net: Unseen
    change: Callable[[Any], Tensor]

    def mean(self, x_new: Any) -> Tensor:
        """Mean of Q at new inputs, (m, C), up to a function that all outputs share."""
        x_new, outputs = self.net.at(x_new)
        return outputs + self.change(x_new)


def certificate_of(
    net: Unseen,
    prior: FunctionPrior,
    scales: Sequence[float],
    asked: CertificateTerms,
    progress: Progress | None,
) -> Certificate:
    """The best certificate over stated scales c of the covariance, which `asked` pays for."""
    offset = net.outputs(net.x)
    y = torch.nn.functional.one_hot(net.y, net.classes).to(offset)
    residual = prior.unit * (y - offset.softmax(1))
    spectrum = prior.spectrum.load(residual)
    quick = losses.zero_one(y, _QUICK)
    ranked = []
    for i, c in enumerate(scales):
        theorem = asked.bound(spectrum.n)
        problem = TuningProblem.of(spectrum, offset, quick, theorem, c * prior.unit**2)
        ranked.append((refine(problem, coarse(problem)), problem))
        if progress is not None:
            progress(i + 1, len(scales) + 1, f"scale {c:g} of the prior's covariance")
    start, problem = min(ranked, key=lambda each: each[0].bound)

    def predictor(weights: Tensor) -> AboutNetwork:
        return AboutNetwork(net, prior.update(weights))

    made = certified(problem, start, losses.zero_one(y), asked, predictor, (net.note, prior.words))
    if progress is not None:
        progress(len(scales) + 1, len(scales) + 1, "mean of Q")
    return made


# ------------------------------------------------------------------ the last layer


class _Head:
    """The linear layer that computes a network's outputs, and what it receives."""

    def __init__(self, net: Unseen) -> None:
        self.net = net
        heads = [m for m in net.net.modules() if isinstance(m, nn.Linear)]
        found: dict[nn.Linear, Tensor] = {}
        handles = [
            m.register_forward_hook(lambda m, _, out: found.__setitem__(m, out)) for m in heads
        ]
        try:
            outputs = net.outputs(net.x[:1])
        finally:
            for handle in handles:
                handle.remove()
        same = [
            m
            for m, out in found.items()
            if out.shape == outputs.shape and torch.equal(out.double(), outputs)
        ]
        if not same:
            raise ValueError(
                'kind="last_layer" needs a network whose outputs are those of a linear layer, got '
                f'{type(net.net).__name__}, where none is; take kind="deterministic" or "tangent"'
            )
        self.layer = same[-1]

    def features(self, x: Any) -> Tensor:
        """What the layer receives, and a constant where it has a bias, (n, d), float64."""
        rows: list[Tensor] = []
        handle = self.layer.register_forward_pre_hook(
            lambda _, given, named: rows.append((*given, *named.values())[0]), with_kwargs=True
        )
        try:
            self.net.outputs(x)
        finally:
            handle.remove()
        phi = torch.cat(rows).double()
        if len(phi) != len(x):
            raise ValueError(
                'kind="last_layer" needs a last layer that is used once, for one row for each '
                f"observation; got {len(phi)} rows for {len(x)} observations"
            )
        if self.layer.bias is None:
            return phi
        return torch.cat([phi, phi.new_ones(len(phi), 1)], 1)


@dataclass(frozen=True)
class LayerChange:
    """What a change of the last layer's weights adds to the outputs, a function of new inputs.

    Attributes:
        head: the last layer.
        root: a linear map of its inputs, (d, d), or None for the identity.
        weights: the change, in the mapped inputs, (d, C).
    """

    head: _Head
    root: Tensor | None
    weights: Tensor

    def __call__(self, x_new: Any) -> Tensor:
        """The change of the outputs at new inputs, (m, C)."""
        new = self.head.features(x_new)
        return (new if self.root is None else new @ self.root) @ self.weights


def last_layer(net: Unseen) -> FunctionPrior:
    """The prior of Gaussian weights of the last layer about those of the network.

    Their covariance is the inverse second moment of the features on the observations that trained
    the network, or the identity where there are none.
    """
    head = _Head(net)
    if net.first is None:
        phi, root, words = head.features(net.x), None, "the identity"
        unit = float(head.layer.weight.double().square().mean().sqrt())
    else:
        seen = head.features(net.first)
        moment = seen.mT @ seen / len(seen)
        ridge = _RIDGE * moment.diagonal().mean()
        L = solvers.cholesky(moment + ridge * torch.eye(len(moment)).to(moment)).lower
        root = torch.linalg.solve_triangular(L, torch.eye(len(L)).to(L), upper=False).mT
        root = root / (seen @ root).square().sum(1).mean().sqrt()
        phi, words = head.features(net.x) @ root, "the inverse second moment of its inputs"
        outputs = net.outputs(net.first)
        unit = float((outputs - outputs.mean(1, keepdim=True)).square().mean().sqrt())

    def update(weights: Tensor) -> LayerChange:
        return LayerChange(head, root, phi.mT @ weights)

    words = f"The prior is Gaussian in the weights of the last layer, with {words} as covariance."
    return FunctionPrior(Spectrum.by_shape(phi), unit or 1.0, words, update)


# ------------------------------------------------------------------ the tangents


class _Summed(nn.Module):
    """Signed sum of a network's outputs, (n, 1)."""

    def __init__(self, net: nn.Module, signs: Tensor) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("signs", signs)
        self.signs: Tensor

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """The signed sum of the outputs at some inputs, (n, 1)."""
        outputs: Tensor = self.net(*args, **kwargs)
        return (outputs * self.signs).sum(1, keepdim=True)


@dataclass(frozen=True)
class TangentChange:
    """What a change of all weights adds to the linearised outputs, a function of new inputs.

    Attributes:
        weights: the network's sum of outputs, and its weights.
        steps: the change of the weights for each output, (P,) each.
        batch: observations in a pass.
    """

    weights: Weights
    steps: list[Tensor]
    batch: int

    def __call__(self, x_new: Any) -> Tensor:
        """The change of the outputs at new inputs, (m, C)."""
        new = inputs.converted(x_new, self.weights.theta)
        with without_gradients():
            return torch.cat([self.weights.jvp(new, v, self.batch) for v in self.steps], 1)


def tangent(net: Unseen, seed: int, progress: Progress | None) -> FunctionPrior:
    """The prior of the network's linearisation, with Gaussian changes of all weights.

    The outputs are independent, with the tangent kernel K = JSJᵀ of the outputs' sum with random
    signs, divided by √C. In expectation over the signs, it is the average of the tangent kernels
    of the outputs. S holds the mean square of each parameter tensor.

    Raises:
        ValueError: there are too many observations.
    """
    n = len(net.y)
    if n > LARGEST:
        raise ValueError(
            f'kind="tangent" decomposes an n × n matrix: n must be at most {LARGEST:,}, got {n:,}'
        )
    generator = torch.Generator().manual_seed(seed)
    signs = (2.0 * torch.randint(2, (net.classes,), generator=generator) - 1).double()
    like = next(p for p in net.net.parameters())
    summed = _Summed(net.net, (signs / net.classes**0.5).to(like))
    for p in summed.parameters():
        p.requires_grad_(True)
    weights = Weights(summed, torch.float64)
    x = inputs.converted(net.x, weights.theta)
    base = torch.cat([_precision(p) for p in weights.unpacked(weights.theta).values()])
    prior = PriorShape(base, torch.zeros_like(base, dtype=torch.int64), 1)
    ones = weights.theta.new_ones(n, 1)
    K = grams(weights, Sample(x, ones, ones[:, :, None], net.batch, _MEMORY), prior, progress)[0]
    if K.shape != (n, n):
        K = K @ K.mT

    def update(alpha: Tensor) -> TangentChange:
        steps = [weights.vjp(x, a[:, None], net.batch) / base for a in alpha.mT]
        return TangentChange(weights, steps, net.batch)

    words = (
        "The prior is Gaussian in the weights about those of the network, which is linearised "
        f"there; its kernel is that of the outputs' sum with random signs (seed {seed})."
    )
    return FunctionPrior(Spectrum.dense(K), 1.0, words, update)


def _precision(parameter: Tensor) -> Tensor:
    """Inverse mean square of a parameter tensor for each of its entries; 1 for one of zeros."""
    square = float(parameter.detach().double().square().mean())
    value = 1 / square if square > 0 else 1.0
    return torch.full((parameter.numel(),), value, dtype=torch.float64, device=parameter.device)
