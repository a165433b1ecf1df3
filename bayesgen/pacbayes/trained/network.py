"""Certificates of a trained network, of Gaussian functions about it, and of its noisy weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from bayesgen._internal import checks
from bayesgen._internal.progress import ProgressOption
from bayesgen._internal.progress_bar import shows_progress
from bayesgen.networks.gradients import differentiating
from bayesgen.pacbayes.binomial import binomial
from bayesgen.pacbayes.certificates.certificate import Certificate, Payment
from bayesgen.pacbayes.certificates.request import CertificateTerms, terms
from bayesgen.pacbayes.trained import function_space, noisy_weights
from bayesgen.pacbayes.trained.noisy_weights import TrainingSettings
from bayesgen.pacbayes.trained.unseen import Unseen, unseen as observed

KINDS = ("deterministic", "last_layer", "tangent", "weights")
# Scales of the prior's covariance that are tried by default, stated before the data.
SCALES: dict[str, tuple[float, ...]] = {
    "deterministic": (),
    "last_layer": (1.0, 0.25, 0.0625, 0.015625),
    "tangent": (1.0, 0.1, 0.01, 0.001),
    "weights": (0.3, 0.1, 0.03, 0.01),
}
# Largest scale, and the inverse of the smallest.
_WIDEST = 1e9


@shows_progress
@differentiating()
def certify_network(
    net: nn.Module | Callable[[], nn.Module],
    x: Any,
    y: Any,
    *,
    kind: str = "deterministic",
    split: float | None = None,
    train: Callable[[nn.Module, Any, Tensor], Any] | None = None,
    unseen: bool = False,
    candidates: int = 1,
    scales: Sequence[float] | None = None,
    epochs: int = 30,
    learning_rate: float = 3e-3,
    draws: int = 4_000,
    delta: float = 0.05,
    bound: str = "maurer",
    batch: int = 256,
    seed: int = 0,
    progress: ProgressOption = None,
) -> Certificate:
    """Bound on the true risk of a classifier that is a network, or is distributed about one.

    The network must not have seen the observations that certify it. With `split` and `train`, a
    random share of the data trains it, and the rest certifies it. Without them, all data certify
    the network as it is: trained elsewhere, or with random weights. The kinds are

    | kind | classifier | complexity |
    | --- | --- | --- |
    | "deterministic" | the network itself | none: an exact binomial tail |
    | "last_layer" | Gaussian weights of the last layer | KL in closed form, risk by quadrature |
    | "tangent" | Gaussian weights of its linearisation | KL of functions, risk by quadrature |
    | "weights" | Gaussian weights of the network | KL in closed form, risk by Monte Carlo |

    The last three are Gibbs classifiers. The mean of their prior is the network, and its covariance
    is one matrix times each of `scales`; the choice among them is paid for. Q is optimised for the
    bound.

    Args:
        net: a network from (n, …) to outputs (n, C), or a function that makes a new one at each
            call. A network is copied and left as it is.
        x: inputs, (n, …), as the network takes them.
        y: labels, integers (n,).
        kind: see above.
        split: share of the observations that train the network, in (0, 1).
        train: function (net, x, y) that trains a network in place, such as
            `lambda net, x, y: bg.train(net, x, y, epochs=20)`.
        unseen: True states that the weights of `net` were chosen without the certifying
            observations. It is needed unless `net` is a function that is not seen to use a
            tensor, an array or a file from outside (`bayesgen.provenance.making`). Training that
            bayesgen has on record with some of these observations is refused in any case; changed
            copies of them, and training elsewhere, are not recognised.
        candidates: number of networks among which these observations chose this one; the bound pays
            its logarithm.
        scales: scales of the prior's covariance to try, stated before the data. They multiply the
            variance of the outputs ("last_layer"), the mean square of each parameter tensor
            ("tangent"), or its root mean square ("weights").
        epochs, learning_rate: of the optimisation of Q by Adam, for "weights"; 0 epochs keep Q = P.
        draws: independent draws of weights that estimate the Gibbs risk, for "weights". The bound
            uses the upper end of the estimate, which takes half of δ.
        delta: δ in (0, 1).
        bound: as in `Posterior.certificate`; "deterministic" uses the binomial tail.
        batch: observations in a pass, and in a step of the optimisation.
        seed: seed of the split and of all random numbers here; `train` has its own.
        progress: called as progress(done, expected, what); True shows a progress bar.

    Returns:
        A `Certificate`. Its `posterior` has a method `mean(x_new)`, the outputs of the mean
        classifier, (m, C).

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range; the network has
            seen certifying observations, or may have; `train` does not change it; its outputs are
            random, or not those of a linear layer for "last_layer".
        DivergedError: the optimisation of Q for "weights" diverges.

    Source: Langford (2005), theorem 3.3, for the tail; Maurer (2004); Dziugaite & Roy (2017) and
    Pérez-Ortiz et al. (2021) for weights; Ambroladze et al. (2006) for priors from a part of the
    data.

    Example:
        >>> import torch, bayesgen as bg
        >>> data = bg.data.load("digits", dtype=torch.float32)
        >>> def make():
        ...     return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        >>> def train(net, x, y):
        ...     bg.train(net, x, y, epochs=10, learning_rate=0.05)
        >>> found = certify_network(make, data.x_train, data.y_train, split=0.5, train=train)
        >>> found.bound < 0.5
        True
    """
    checks.one_of("kind", kind, KINDS)
    asked = terms(delta, bound, "gibbs")
    how = TrainingSettings(
        checks.whole("epochs", epochs, 0),
        checks.positive_number("learning_rate", learning_rate),
        checks.whole("draws", draws),
        checks.seed(seed),
    )
    stated = _scales(scales, kind)
    tried = checks.whole("candidates", candidates)
    held = observed(
        net,
        x,
        y,
        split=split,
        train=train,
        stated=checks.flag("unseen", unseen),
        batch=checks.whole("batch", batch),
        seed=how.seed,
    )
    if tried > 1:
        reason = f"the choice among {tried:,} networks by these observations"
        asked = asked.paying([Payment(reason, math.log(tried))])
    if len(stated) > 1:
        reason = f"the choice among {len(stated)} scales of the prior's covariance"
        asked = asked.paying([Payment(reason, math.log(len(stated)))])
    if kind == "deterministic":
        return _deterministic(held, asked)
    if kind == "weights":
        return noisy_weights.certificate_of(held, stated, asked, how, progress)
    if kind == "tangent":
        prior = function_space.tangent(held, how.seed, progress)
    else:
        prior = function_space.last_layer(held)
    return function_space.certificate_of(held, prior, stated, asked, progress)


def _scales(scales: Any, kind: str) -> tuple[float, ...]:
    if scales is None:
        return SCALES[kind]
    if isinstance(scales, str) or not isinstance(scales, Iterable):
        raise TypeError(f"scales must be a sequence of positive numbers, got {scales!r}")
    if kind == "deterministic":
        raise ValueError('scales must be None for kind="deterministic", which has no prior')
    found = tuple(checks.positive_number("scales", c) for c in scales)
    if not found:
        raise ValueError("scales must hold at least one scale of the prior's covariance")
    if max(found) > _WIDEST or min(found) < 1 / _WIDEST:
        raise ValueError(
            f"scales must lie between {1 / _WIDEST:g} and {_WIDEST:g}, got values from "
            f"{min(found):.3g} to {max(found):.3g}"
        )
    return found


def _deterministic(net: Unseen, asked: CertificateTerms) -> Certificate:
    """The exact binomial bound of the network itself; payments divide δ."""
    wrong, n = int(net.wrong.sum()), len(net.y)
    share = asked.delta * math.exp(-asked.paid)  # 0 in floating point for very many candidates
    return Certificate(
        bound=binomial(wrong, n, share) if share > 0 else 1.0,
        risk=wrong / n,
        complexity=0.0,
        delta=asked.delta,
        n=n,
        loss="0–1 loss",
        predictor="network",
        theorem="Exact binomial tail, Langford (2005), theorem 3.3",
        payments=asked.payments,
        guessing=1 - 1 / net.classes,
        notes=(net.note,),
        posterior=_Network(net),
    )


class _Network:
    """A certified network.

    Args:
        net: the network and its certifying observations.
    """

    def __init__(self, net: Unseen) -> None:
        self.net = net.net
        self._at = net.at

    def mean(self, x_new: Any) -> Tensor:
        """Outputs of the network at new inputs, (m, C)."""
        return self._at(x_new)[1]
