"""Predictive distributions of blocks of data given earlier blocks, as code lengths in nats."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bayesgen import solvers
from bayesgen._internal import random_state
from bayesgen.likelihoods.likelihood import Likelihood
from bayesgen.posterior.posterior import ExactPosterior
from bayesgen.sampling.target import Target
from bayesgen.training import fit_map, train

# Draws from the prior whose mixture codes the first block of targets that are no labels.
_PRIOR_DRAWS = 256
# A number that no reset of a buffer gives.
_MARK = 12_345.5
# Multipliers that make seeds of members, blocks and orders differ.
_STRIDES = (1_000_003, 10_007, 101)

# Code length of observations `new` given observations `old`, indices (m,) and (k,), in one order.
Predictive = Callable[[Tensor, Tensor, int], float]


def exact(posterior: ExactPosterior) -> Predictive:
    """The exact predictive of a Gaussian model at its hyperparameters, one joint normal a block.

        y_b | y_a ~ N(A_ba A_aa⁻¹ y_a, A_bb − A_ba A_aa⁻¹ A_ab)

    Args:
        posterior: a posterior of one task under Gaussian noise.
    """
    parts = list(posterior.gaussians(0))

    def code(old: Tensor, new: Tensor, order: int) -> float:
        total = 0.0
        for A, _, y in parts:
            mean, inside = torch.zeros_like(y[new]), A[new][:, new]
            if len(old):
                lower = solvers.cholesky(A[old][:, old]).lower
                half = torch.linalg.solve_triangular(lower, A[old][:, new], upper=False)
                back = torch.linalg.solve_triangular(lower, y[old], upper=False)
                mean, inside = half.mT @ back, inside - half.mT @ half
            lower = solvers.cholesky(inside).lower
            z = torch.linalg.solve_triangular(lower, y[new] - mean, upper=False)
            C = y.shape[1]
            logs = lower.diagonal().log().sum() + 0.5 * len(new) * math.log(2 * math.pi)
            total += float(0.5 * z.square().sum() + C * logs)
        return total

    return code


class PlugIn:
    """The mixture of an ensemble of networks that are trained on the earlier observations.

    Each network is initialised anew by `reset_parameters` of its layers, and is taken to a mode of
    its log posterior by `bayesgen.fit_map`, or trained by `bayesgen.train`. The probability of an
    observation is the mean over the networks. Before there are any data, labels are coded with the
    uniform distribution, and other targets with a mixture of networks drawn from the prior.

    Args:
        net: the network, whose weights are not used.
        target: the posterior of its weights on all data, which gives the likelihood and the prior.
        x: inputs, (n, …).
        y: targets as numbers, (n, …).
        inner: targets in the likelihood's inner form, (n, …).
        prior_precision: number or (L,), for the training.
        noise: noise variance or None.
        members: number of networks.
        training: settings of `bayesgen.train`, or None for `bayesgen.fit_map`.
        seed: seed of the initial weights.
    """

    def __init__(
        self,
        net: nn.Module,
        target: Target,
        x: Tensor,
        y: Tensor,
        inner: Tensor,
        *,
        prior_precision: Any,
        noise: Any,
        members: int,
        training: Mapping[str, Any] | None,
        seed: int,
    ) -> None:
        assert target.likelihood is not None
        self.likelihood: Likelihood = target.likelihood
        self.net, self.target, self.x, self.y, self.inner = net, target, x, y, inner
        self.settings = {"prior_precision": prior_precision, "noise": noise}
        self.members, self.training, self.seed = members, training, seed

    def __call__(self, old: Tensor, new: Tensor, order: int) -> float:
        """Code length in nats of observations `new` given observations `old`."""
        if len(old):
            f = torch.stack([self._member(old, k, order)(self.x[new]) for k in range(self.members)])
        elif self.likelihood.labels:
            return len(new) * math.log(self.likelihood.num_guesses(self._outputs))
        else:
            generator = torch.Generator().manual_seed(self.seed)
            z = torch.randn(
                _PRIOR_DRAWS, self.target.dimension, generator=generator, dtype=torch.float64
            )
            assert self.target.outputs is not None
            f = self.target.outputs(self.target.weights(z), self.x[new])
        log_density = self.likelihood.log_density(self.inner[new], f)
        return -float((log_density.logsumexp(0) - math.log(len(f))).sum())

    @property
    def _outputs(self) -> int:
        assert self.target.outputs is not None
        assert self.target.start is not None
        return self.target.outputs(self.target.start[None], self.x[:1]).shape[-1]

    def _member(self, old: Tensor, k: int, order: int) -> Callable[[Tensor], Tensor]:
        net = copy.deepcopy(self.net).double()
        numbers = (order, len(old), k)
        seed = self.seed + sum(a * b for a, b in zip(_STRIDES, numbers, strict=True))
        with random_state.kept([]):
            torch.manual_seed(seed % 2**63)
            _reset(net)
            x, y = self.x[old], self.y[old]
            if self.training is None:
                fit_map(net, x, y, self.likelihood_name, **self._checked())
            else:
                given = {"seed": seed % 2**31, **self._checked(), **self.training}
                train(net, x, y, self.likelihood_name, **given)
        return _evaluated(net)

    def _checked(self) -> dict[str, Any]:
        return {k: v for k, v in self.settings.items() if v is not None}

    @property
    def likelihood_name(self) -> Any:
        """The likelihood in the form that training takes; the noise variance is an argument."""
        return "gaussian" if self.likelihood.gaussian_noise else self.likelihood


def check_resettable(net: nn.Module) -> None:
    """Check that all layers with parameters can be initialised anew.

    Raises:
        ValueError: one has no method `reset_parameters`.
    """
    for name, module in net.named_modules():
        own = list(module.parameters(recurse=False))
        if own and not hasattr(module, "reset_parameters"):
            raise ValueError(
                f"net must have layers that can be initialised anew, but {name or 'net'!r} "
                f"({type(module).__name__}) owns parameters and has no method reset_parameters"
            )


def keeps_buffers(net: nn.Module) -> bool:
    """Whether `reset_parameters` leaves real numbers in buffers as they are, such as data."""
    copied = copy.deepcopy(net)
    marked = [b.fill_(_MARK) for b in copied.buffers() if b.is_floating_point() and b.numel()]
    with random_state.kept([]):
        _reset(copied)
    return any(bool((b == _MARK).any()) for b in marked)


def _reset(net: nn.Module) -> None:
    for module in net.modules():
        reset: Any = getattr(module, "reset_parameters", None)
        if reset is not None:
            reset()


def _evaluated(net: nn.Module) -> Callable[[Tensor], Tensor]:
    """Outputs (m, C) of a trained network, without a graph."""

    def run(x: Tensor) -> Tensor:
        with torch.no_grad():
            f: Tensor = net.eval()(x)
        return f.reshape(len(x), -1)

    return run
