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
from bayesgen.pacbayes.certificate import Certificate, OracleBound
from bayesgen.pacbayes.search import certify

__all__ = [
    "Certificate",
    "OracleBound",
    "alquier",
    "catoni",
    "catoni_union",
    "certify",
    "countable",
    "germain",
    "maurer",
    "mcallester",
    "quadratic",
    "solomonoff",
    "subgamma",
    "thiemann",
]
