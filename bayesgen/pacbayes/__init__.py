"""PAC-Bayes bounds: functions of tensors, nats in, a bound out."""

from bayesgen.pacbayes.bounds import (
    alquier,
    catoni,
    catoni_union,
    countable,
    germain,
    maurer,
    mcallester,
    quadratic,
    solomonoff,
    subgamma,
    thiemann,
)

__all__ = [
    "alquier",
    "catoni",
    "catoni_union",
    "countable",
    "germain",
    "maurer",
    "mcallester",
    "quadratic",
    "solomonoff",
    "subgamma",
    "thiemann",
]
