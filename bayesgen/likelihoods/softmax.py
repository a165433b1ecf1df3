"""The softmax likelihood of class labels with C latent functions."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution

from bayesgen._internal import checks
from bayesgen.likelihoods.labels import Classes, read
from bayesgen.likelihoods.likelihood import Likelihood, named
from bayesgen.likelihoods.mixture import log_expectation

# Largest number of values of a softmax at a time.
_ENTRIES = 2**22


@named("softmax", "categorical")
class Softmax(Likelihood):
    """Labels of C classes with p(y = c | f) = e^{f_c} / Σ e^{f_c'}.

    Latent function c belongs to class c in the order of `classes`. A fit of a process or a linear
    model takes the classes from its labels: the different values in sorted order, over all tasks of
    a batch. Labels that are all 0 or 1 have both classes. The outputs of a network are the classes
    0 … C − 1.

    Args:
        num_classes: C ≥ 2 for labels 0 … C − 1, some of which may be absent from the data.
        classes: the labels in the order of the latent functions, integers or strings; some of them
            may be absent from the data.
        samples: number of draws of the latent functions in a predictive probability of three or
            more classes, at least 1. It is rounded up to a power of 2.
        seed: seed of these draws, which are the same for every prediction.

    Raises:
        TypeError, ValueError: an argument is invalid; the arguments contradict each other.

    Source: Rasmussen & Williams (2006), section 3.5.

    Example:
        >>> likelihood = Softmax(classes=["low", "high"])
        >>> likelihood.targets(["high", "low"], torch.zeros(2, 1))
        tensor([[[0., 1.],
                 [1., 0.]]])
    """

    name = "softmax"
    labels = True
    coupled = True
    log_concave = True

    def __init__(
        self,
        num_classes: int | None = None,
        *,
        classes: Any = None,
        samples: int = 4096,
        seed: int = 0,
    ) -> None:
        if num_classes is not None:
            num_classes = checks.whole("num_classes", num_classes, 2)
        self._classes = None if classes is None else Classes(classes)
        if None not in (num_classes, self._classes) and num_classes != len(self._classes or ()):
            raise ValueError(
                f"num_classes must be the number of classes, {len(self._classes or ())}, "
                f"got {num_classes}"
            )
        self.num_classes = num_classes if self._classes is None else len(self._classes)
        self.samples, self.seed = checks.whole("samples", samples), checks.seed(seed)

    @property
    def classes(self) -> tuple[Any, ...] | None:
        """The label of each latent function, or None where the data decide."""
        if self._classes is not None:
            return self._classes.labels
        return None if self.num_classes is None else tuple(range(self.num_classes))

    def for_targets(self, y: Any) -> Likelihood:
        """A softmax likelihood with the classes of these labels, where none were given."""
        if self.classes is not None:
            return self
        own = copy.copy(self)
        own._classes = Classes.of(read(y, whole=False))
        own.num_classes = len(own._classes)
        return own

    def _of_numbers(self, count: int) -> Likelihood:
        own = copy.copy(self)
        own._classes, own.num_classes = None, count
        return own

    def targets(self, y: Any, like: Tensor) -> Tensor:
        """Convert labels, (n,) or (B, n), to one-hot targets, (B, n, C)."""
        if self.num_classes is None:
            return self.for_targets(y).targets(y, like)
        if self._classes is None:
            labels = checks.class_labels("y", y, self.num_classes)
        else:
            labels = self._classes.encode(read(y, whole=False))
        if labels.ndim not in (1, 2) or labels.shape[-1] != len(like):
            raise ValueError(
                f"y must have shape (n,) or (B, n) with n = {len(like)}, got {tuple(labels.shape)}"
            )
        coded = torch.nn.functional.one_hot(labels.reshape(-1, len(like)), self.num_classes)
        return coded.to(like)

    def log_density(self, y: Tensor, f: Tensor) -> Tensor:
        """Log probability of the label of each row, (..., n)."""
        return (y * f).sum(-1) - f.logsumexp(-1)

    def roots(self, y: Tensor, f: Tensor) -> tuple[Tensor, Tensor]:
        """Curvature diag(π) − ππᵀ of each row by C − 1 vectors; along (1, …, 1) it is zero.

        It equals diag(√π)(I − √π√πᵀ)diag(√π). The projection is expanded in the other C − 1 columns
        of the Householder reflection that maps √π to the axis m of the largest πₘ. This gives Σⱼ
        πⱼvⱼvⱼᵀ over j ≠ m with vⱼ = eⱼ − q, where qₘ = √πₘ and q = π/(1 + √πₘ) elsewhere. The
        vectors have size one and are accurate for any πⱼ, however small.
        """
        p = f.softmax(-1)
        largest = p.argmax(-1, keepdim=True)
        top = p.gather(-1, largest).sqrt()
        q = (p / (1 + top)).scatter(-1, largest, top)
        others = torch.arange(p.shape[-1] - 1, device=p.device).expand_as(p[..., 1:])
        others = others + (others >= largest)
        axes = torch.nn.functional.one_hot(others, p.shape[-1]).mT
        return p.gather(-1, others), axes.to(p) - q[..., :, None]

    def observe(self, f: Tensor) -> Distribution:
        """Categorical distribution of labels given f."""
        return Categorical(logits=f)

    def predictive(self, mean: Tensor, covariance: Tensor) -> Distribution:
        """Categorical distribution with probabilities E[softmax(f)], f ~ N(mean, covariance).

        The covariance is (..., C, C). For two classes the integral over the difference of the
        latent functions is computed by quadrature. For more, the softmax is averaged over the
        points of a scrambled Sobol sequence, which all predictions share; with the default the
        error of a probability is below 2·10⁻³ up to variances of 10, and 10⁻² at any variance.

        Source: Rasmussen & Williams (2006), Algorithm 3.4; Owen (1998) for the scrambling.
        """
        if mean.shape[-1] == 2:
            difference = mean[..., 1] - mean[..., 0]
            variance = covariance[..., 0, 0] + covariance[..., 1, 1] - 2 * covariance[..., 0, 1]
            logsigmoid = torch.nn.functional.logsigmoid
            one = log_expectation(logsigmoid, difference, variance)
            zero = log_expectation(lambda f: logsigmoid(-f), difference, variance)
            return Categorical(logits=torch.stack([zero, one], -1))
        z = _normal_points(self.samples, mean.shape[-1], self.seed).to(mean)
        values, vectors = torch.linalg.eigh(covariance)
        # The symmetric root does not depend on the choice of eigenvectors.
        root = (vectors * values.clamp(min=0).sqrt()[..., None, :]) @ vectors.mT
        flat, roots = mean.reshape(-1, mean.shape[-1]), root.reshape(-1, *root.shape[-2:])
        size = max(1, _ENTRIES // z.numel())
        parts = [
            torch.softmax(m[:, None] + z @ r.mT, -1).mean(1)
            for m, r in zip(flat.split(size), roots.split(size), strict=True)
        ]
        return Categorical(probs=torch.cat(parts).reshape(mean.shape))

    def probit(self, mean: Tensor, variance: Tensor) -> Distribution:
        """Categorical distribution by the probit approximation; see `Likelihood.probit`."""
        return Categorical(logits=mean / (1 + math.pi / 8 * variance).sqrt())

    def for_outputs(self, outputs: int, shape: torch.Size) -> Likelihood:
        """A softmax likelihood with the number of classes fixed; see `Likelihood.for_outputs`."""
        if outputs < 2 or self.num_classes not in (None, outputs):
            raise ValueError(
                f"net must have {self.num_classes or 'at least 2'} outputs for a "
                f"categorical likelihood, got {outputs}"
            )
        # The classes of a network without given ones are the numbers of its outputs.
        own = copy.copy(self)
        own.num_classes = outputs
        return own

    def identified(self, outputs: int) -> Tensor:
        """Orthonormal directions orthogonal to (1, …, 1), on which p(y | f) depends, (C, C − 1)."""
        eye = torch.eye(outputs, dtype=torch.float64)
        return torch.linalg.eigh(eye - 1 / outputs).eigenvectors[:, 1:]

    def drawing(self, outputs: int, samples: int, seed: int) -> Likelihood:
        """A softmax likelihood whose predictions average over this number of draws."""
        own = copy.copy(self)
        own.num_classes, own.samples, own.seed = outputs, samples, seed
        return own

    def averaged(self, draws: Tensor) -> Distribution:
        """Categorical distribution with probabilities averaged over the draws."""
        return Categorical(probs=draws.softmax(-1).mean(0))


def _normal_points(count: int, dimension: int, seed: int) -> Tensor:
    """Points of the standard normal distribution from a scrambled Sobol sequence, (count', d)."""
    engine = torch.quasirandom.SobolEngine(dimension, scramble=True, seed=seed)
    uniform = engine.draw_base2(math.ceil(math.log2(count)), dtype=torch.float64)
    return torch.special.ndtri(uniform.clamp(1e-12, 1 - 1e-12))
