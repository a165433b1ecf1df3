"""PAC-Bayes bounds as functions of tensors, and certificates of posteriors and networks.

`bounds` and `capacity` hold the inequalities; `certify` and `compress` build certificates.
"""

from bayesgen._internal import moved as _moved
from bayesgen.pacbayes.bounds import (
    alquier,
    catoni,
    catoni_union,
    countable,
    germain,
    maurer,
    mcallester,
    occam,
    quadratic,
    solomonoff,
    subgamma,
    thiemann,
)
from bayesgen.pacbayes.capacity import (
    fat_shattering,
    fat_shattering_dimension,
    rademacher,
    rademacher_norm,
    rademacher_sampled,
    rademacher_trace,
    vc,
)
from bayesgen.pacbayes.certificates.certificate import Certificate, OracleBound, Payment, Statement
from bayesgen.pacbayes.certificates.search import certify
from bayesgen.pacbayes.compression.compressed_network import Compressed, compress, decode
from bayesgen.pacbayes.compression.selection import compress_best
from bayesgen.pacbayes.inverse_kl import lower_risk, monte_carlo, upper_risk
from bayesgen.pacbayes.vote import c_bound

__all__ = [
    "Certificate",
    "Compressed",
    "OracleBound",
    "Payment",
    "Statement",
    "alquier",
    "c_bound",
    "catoni",
    "catoni_union",
    "certify",
    "compress",
    "compress_best",
    "countable",
    "decode",
    "fat_shattering",
    "fat_shattering_dimension",
    "germain",
    "lower_risk",
    "maurer",
    "mcallester",
    "monte_carlo",
    "occam",
    "quadratic",
    "rademacher",
    "rademacher_norm",
    "rademacher_sampled",
    "rademacher_trace",
    "solomonoff",
    "subgamma",
    "thiemann",
    "upper_risk",
    "vc",
]

__getattr__ = _moved.former_submodules(__name__)
