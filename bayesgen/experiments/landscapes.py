"""Losses, errors and evidence of one architecture at given weights."""

from __future__ import annotations

import copy
import warnings
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import vector_to_parameters
from torch.optim.swa_utils import update_bn

from bayesgen.errors import NotAtModeWarning
from bayesgen.models import Laplace


class LossScores(NamedTuple):
    """Mean negative log-likelihoods, in nats, and shares of wrong labels."""

    train_loss: float
    train_error: float
    test_loss: float
    test_error: float


class LossLandscape:
    """Scores of one architecture at given weights, with BatchNorm statistics of these weights.

    The statistics that BatchNorm stores belong to the weights with which they were computed. They
    are therefore computed anew, on the training inputs, for each vector of weights; this is done on
    a copy of the network.

    Args:
        net: a network of the architecture.
        x, y: training inputs (n, …) and labels (n,).
        x_test, y_test: test inputs and labels.
        batch: observations per pass.

    Example:
        >>> from bayesgen import networks
        >>> from bayesgen.training.curves import flat
        >>> x, y = torch.randn(20, 2), torch.arange(20) % 2
        >>> net = networks.MLP(2, (), 2)
        >>> LossLandscape(net, x, y, x, y).at(torch.zeros(6)).train_loss
        0.693...
    """

    def __init__(
        self,
        net: nn.Module,
        x: Tensor,
        y: Tensor,
        x_test: Tensor,
        y_test: Tensor,
        *,
        batch: int = 1000,
    ) -> None:
        self._net = copy.deepcopy(net)
        self._x, self._y, self._batch = x, y, batch
        self._test = x_test, y_test

    def net(self, theta: Tensor) -> nn.Module:
        """The network with weights θ (P,) and its BatchNorm statistics, in evaluation mode.

        The next call changes the weights of the same module.
        """
        with torch.no_grad():
            vector_to_parameters(theta.clone(), self._net.parameters())
            # BatchNorm averages the statistics of batches with equal weights.
            count = -(-len(self._x) // self._batch)
            update_bn(self._x.tensor_split(count), self._net)
        return self._net.eval()

    @torch.no_grad()
    def at(self, theta: Tensor) -> LossScores:
        """Scores at the weights θ, (P,)."""
        net = self.net(theta)
        found = []
        for x, y in ((self._x, self._y), self._test):
            f = torch.cat([net(rows) for rows in x.split(self._batch)]).double()
            wrong = (f.argmax(1) != y).double().mean()
            found += [float(cross_entropy(f, y)), float(wrong)]
        return LossScores(*found)


class PointEvidence(NamedTuple):
    """Evidences at one vector of weights, in nats, and the gain of a Newton step.

    Attributes:
        log_marginal_likelihood: evidence of the linearised network, at its own mode.
        effective_dimension: N_eff of the GGN of the linearised network.
        laplace_log_marginal_likelihood: Laplace's evidence of the network at these weights, which
            assumes that they are a mode.
        gain: increase of the log posterior that a Newton step from these weights predicts; zero at
            a mode.
        prior_precision: α of both.
    """

    log_marginal_likelihood: float
    effective_dimension: float
    laplace_log_marginal_likelihood: float
    gain: float
    prior_precision: float


def evidence_at(
    net: nn.Module, x: Tensor, y: Tensor, prior_precision: float | None = None
) -> PointEvidence:
    """Evidences of a network at its weights, whether or not they are a mode.

    Laplace's evidence assumes a mode, and points between two solutions are none. The linearised
    network f* + J(θ − θ*) is a linear model of its own, whose mode and evidence exist at any
    weights θ*.

    Args:
        net: a network in evaluation mode.
        x, y: inputs (n, …) and labels (n,).
        prior_precision: α; None takes that of the largest evidence of the linearised network.

    Example:
        >>> from bayesgen import networks
        >>> x, y = torch.randn(20, 2), torch.arange(20) % 2
        >>> evidence_at(networks.MLP(2, (4,), 2), x, y, 1.0).gain > 0
        True
    """
    fixed = prior_precision is not None
    linear = Laplace(
        net,
        prior_precision=prior_precision if fixed else 1.0,
        mode="linearised",
        hyperparameters="fixed" if fixed else "evidence",
    ).fit(x, y)
    alpha = float(linear.prior_precision.reshape(-1)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotAtModeWarning)  # the gain is reported instead
        plain = Laplace(net, prior_precision=alpha, hyperparameters="fixed").fit(x, y)
    return PointEvidence(
        float(linear.evidence.log_marginal_likelihood),
        float(linear.evidence.effective_dimension),
        float(plain.evidence.log_marginal_likelihood),
        float(plain.gain),
        alpha,
    )
