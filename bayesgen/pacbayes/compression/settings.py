"""Settings of a code of a network, which its bytes hold or its receiver knows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bayesgen._internal import checks
from bayesgen.pacbayes.compression import architecture, arithmetic_coding, quantisation
from bayesgen.pacbayes.compression.container import LARGEST_SEED, Container
from bayesgen.pacbayes.compression.projections import PROJECTIONS, check_complete


@dataclass(frozen=True)
class CodeSettings:
    """Subspace and quantisation of a code.

    Attributes:
        dimension: dimension k of the subspace.
        levels: number of levels L, 2 to 255, at most the dimension.
        projection: a name in `PROJECTIONS`.
        entropy: weight of the code length in the choice of levels, in squared level distances per
            bit.
        seed: seed of the subspace, from 0 to 2³² − 1.

    Raises:
        TypeError: the entropy is no number.
        ValueError: a setting is out of range.
    """

    dimension: int
    levels: int
    projection: str
    entropy: float
    seed: int

    def __post_init__(self) -> None:
        if checks.whole("dimension", self.dimension) > arithmetic_coding.MOST:
            raise ValueError(
                f"dimension must be at most {arithmetic_coding.MOST:,}, got {self.dimension:,}"
            )
        if not 2 <= checks.whole("levels", self.levels) <= 255:
            raise ValueError(f"levels must lie in 2..255, got {self.levels}")
        if self.levels > self.dimension:
            raise ValueError(
                f"levels must be at most the dimension, {self.dimension}, got {self.levels}"
            )
        if checks.seed(self.seed) > LARGEST_SEED:
            raise ValueError(f"seed must be at most {LARGEST_SEED}, got {self.seed}")
        checks.one_of("projection", self.projection, tuple(PROJECTIONS))
        checks.amount("entropy", self.entropy)
        # Numbers of numpy and torch become Python's, so that equal settings have equal hashes.
        for name in ("dimension", "levels", "seed"):
            object.__setattr__(self, name, checks.integer(getattr(self, name)))
        object.__setattr__(self, "entropy", float(self.entropy))

    def check(self, net: nn.Module) -> None:
        """Check that the dimension fits the number of parameters of a network.

        Raises:
            ValueError: it is larger, or smaller with the projection "identity".
        """
        parameters = sum(p.numel() for p in net.parameters())
        if self.dimension > parameters:
            raise ValueError(
                f"dimension must be at most the net's {parameters:,} parameters, got "
                f"{self.dimension:,}"
            )
        if self.projection == "identity":
            check_complete(parameters, self.dimension)

    def packed(self, net: nn.Module, z: Tensor, codebook: Tensor) -> bytes:
        """The bytes that stand for a network whose coordinates z are rounded to the levels.

        Raises:
            ValueError: a level is not finite in float16, in which the code stores it.
        """
        stored = codebook.half()
        if not torch.isfinite(stored).all():
            raise ValueError(
                "learning_rate must be lower: a level of the weights became NaN or exceeds the "
                f"range of float16, {float(codebook.abs().max()):.3g}"
            )
        symbols = quantisation.symbols(z, stored.to(z), self.entropy)
        return Container(self.seed, stored.cpu(), symbols.cpu()).packed(
            architecture.description(net, self.projection)
        )
