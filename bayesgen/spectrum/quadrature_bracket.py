"""Where between the two ends of a bracket the truth lies, by how the ends have been moving.

Gauss' rule and Gauss–Radau's bound an integral vᵀf(A)v from the two sides, and close in on it as
the Krylov space grows. Both close in at one rate, so that after the last block each is off in
proportion to what that block moved it: an error c·rᵏ has moved by (1/r − 1) times itself. Where f
bends far below the eigenvalues that are resolved nearly all of the bracket is the one rule's
(measured on CIFAR-10: the truth of a quadratic form lies at 0.03 of it for σ² = s/200, at 0.5 for
σ² = s/2, at 0.8 for σ² = 5s), and its middle is no estimate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bayesgen.solvers.quadrature import Measure

# A block that closes so much of a bracket tells where the truth lies in what is left of it.
_CLOSED = 0.15


@dataclass(frozen=True)
class Bracket:
    """The same integrals by Gauss' and Radau's rules of one Krylov space, and of the one before.

    Attributes:
        gauss, radau: of the space.
        gauss_before, radau_before: of the space that was a block smaller.

    Source: Golub & Meurant (2010), section 6.6, for the bracket; Aitken (1926) for the rest.
    """

    gauss: Measure
    radau: Measure
    gauss_before: Measure
    radau_before: Measure

    def share(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """What of the way from Gauss' value to Radau's leads to the truth.

        The middle once they agree to rounding; and towards it where the last block has hardly
        closed the bracket, for then how little the ends moved tells little.
        """
        with torch.no_grad():
            gauss, radau = self.gauss.integrate(function), self.radau.integrate(function)
            gauss_before = self.gauss_before.integrate(function)
            radau_before = self.radau_before.integrate(function)
            one, other = (gauss - gauss_before).abs(), (radau - radau_before).abs()
            moved = one + other
            settled = moved <= 1e3 * torch.finfo(gauss.dtype).eps * gauss.abs()
            width = (radau_before - gauss_before).abs()
            closed = 1 - (radau - gauss).abs() / width.clamp(min=torch.finfo(width.dtype).tiny)
            trust = (closed / _CLOSED).clamp(0, 1)
            share = 0.5 + trust * (one / torch.where(settled, 1.0, moved) - 0.5)
            return torch.where(settled, 0.5, share)


def shift(
    middle: Measure,
    radau: Measure | None,
    bracket: Bracket | None,
    function: Callable[[Tensor], Tensor],
) -> Tensor | float:
    """What Σ f by the middle of a bracket's rules lacks of the truth between its ends.

    Args:
        middle: the mean of Gauss' and Radau's rules.
        radau: Radau's; None where there is no bracket.
        bracket: how the ends have been moving; None leaves the middle.
        function: f.
    """
    if radau is None or bracket is None:
        return 0.0
    with torch.no_grad():
        half = radau.integrate(function) - middle.integrate(function)
        return (2 * bracket.share(function) - 1) * half
