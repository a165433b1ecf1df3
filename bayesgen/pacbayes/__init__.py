"""PAC-Bayes bounds as functions of tensors, and certificates of posteriors and networks.

`bounds`, `sequences` and `capacity` hold the inequalities; `certify`, `compress` and
`compress_language_model` build certificates.
"""

from bayesgen._internal import moved as _moved
from bayesgen.pacbayes.binomial import binomial
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
from bayesgen.pacbayes.certificates.text import TextCertificate
from bayesgen.pacbayes.compression.compressed_network import Compressed, compress, decode
from bayesgen.pacbayes.compression.language_model import (
    CompressedLanguageModel,
    compress_language_model,
)
from bayesgen.pacbayes.compression.ngram_tables import CodedTable, coded_table
from bayesgen.pacbayes.compression.selection import compress_best
from bayesgen.pacbayes.compression.token_losses import TokenLosses
from bayesgen.pacbayes.inverse_kl import lower_risk, monte_carlo, upper_risk
from bayesgen.pacbayes.sequences import freedman, subsampled
from bayesgen.pacbayes.trained.network import certify_network
from bayesgen.pacbayes.vote import c_bound

__all__ = [
    "Certificate",
    "CodedTable",
    "Compressed",
    "CompressedLanguageModel",
    "OracleBound",
    "Payment",
    "Statement",
    "TextCertificate",
    "TokenLosses",
    "alquier",
    "binomial",
    "c_bound",
    "catoni",
    "catoni_union",
    "certify",
    "certify_network",
    "coded_table",
    "compress",
    "compress_best",
    "compress_language_model",
    "countable",
    "decode",
    "fat_shattering",
    "fat_shattering_dimension",
    "freedman",
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
    "subsampled",
    "thiemann",
    "upper_risk",
    "vc",
]

__getattr__ = _moved.former_submodules(__name__)
