"""Take a trained network to a mode at prior precisions that the evidence gives there."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn

from bayesgen._internal.progress import Progress
from bayesgen._internal.user_warning import warn
from bayesgen.errors import NotAtModeWarning
from bayesgen.likelihoods.likelihood import Likelihood
from bayesgen.models.network.posterior import NetworkPosterior
from bayesgen.training.map_fit import fit_map

# Largest number of turns of a mode and its precisions, and of L-BFGS steps to each mode.
_TURNS, _STEPS = 8, 3000
# Gain of a Newton step, in nats per observation, at which the turns end, and that of a warning.
_SMALL, _WORTH = 1e-3, 0.01


class Run(Protocol):
    """A training run, with its network, inputs and prior precisions."""

    net: nn.Module
    x: Any
    alpha: Tensor

    def gaussian(self) -> tuple[str | Likelihood, Tensor | None]:
        """The likelihood as a user names it, and the noise variance of a Gaussian one."""
        ...

    def look(self, look: Any, row: dict[str, float], keep: bool, learn: bool) -> NetworkPosterior:
        """Compute the evidence, and adopt the precisions of largest evidence if asked to."""
        ...


def settle(run: Run, look: Any, x: Any, y: Any, progress: Progress | bool | None) -> None:
    """Take the weights of a run to a mode; see `to_mode` of `bayesgen.train`.

    Without a look, the precisions are those given. With one, modes and the precisions of largest
    evidence with their weights are found in turn, and at the end the mode of the last precisions.

    Warns:
        NotAtModeWarning: no mode was reached.
    """

    def to_mode(tolerance: float) -> None:
        likelihood, noise = run.gaussian()
        fit_map(
            run.net,
            x,
            y,
            likelihood,
            prior_precision=run.alpha,
            noise=noise,
            steps=_STEPS,
            tolerance=tolerance,
            progress=progress,
        )

    if look is None:
        return to_mode(1e-9)
    small = _SMALL * len(run.x)
    for _ in range(_TURNS):
        to_mode(1e-7)
        if run.look(look, {}, keep=False, learn=True).gain <= small:
            break  # nearly at a mode of the new precisions too
    to_mode(1e-9)
    gain = run.look(look, {}, keep=False, learn=False).gain
    if gain > _WORTH * len(run.x):
        warn(
            "train(to_mode=True) reached no mode: a Newton step at the precisions found would gain "
            f"{gain:.3g} nats. A network has none where layers can be rescaled without a change of "
            "the function, as before a BatchNorm, and ReLU networks may end at a kink: take a "
            'smooth network without BatchNorm, or bayesgen.Laplace(net, mode="tangent")',
            NotAtModeWarning,
        )
    return None
