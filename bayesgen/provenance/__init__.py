"""Where the numbers of a model come from: stated, or learnt on which data, and whether paid for.

A PAC-Bayes certificate holds for a prior that was chosen without the data in the bound. Whether a
number was learnt is a property of the number and not of the name or object that holds it. Each fit
therefore records what it has learnt, by value, with the inputs that it was learnt on. A certificate
looks up every number that shapes its prior: hyperparameters, weights of networks in kernels, bases
and prior means, and what functions of the user refer to. A number that coincides with one that was
learnt on some of the same observations counts as learnt on them. Numbers that were learnt on other
observations count as stated, which is the point of a split.

The record belongs to the process. Kernels that a posterior returns and networks that were trained
here also carry a `Mark`, which copies and pickles of them keep. It counts while at least one value
is the recorded one.

`bayesgen.provenance.data` says when two data sets share observations.
"""

from bayesgen.provenance.contents import (
    ENTRIES,
    beside_state,
    coincide,
    digests,
    digests_of,
    is_round,
    mark,
)
from bayesgen.provenance.data import Data, shared_rows
from bayesgen.provenance.record import (
    ORDER,
    Learnt,
    Untrained,
    entries,
    feature_sources,
    learnt,
    now,
    order_sources,
    restore,
    sources,
    trained,
    training,
)
from bayesgen.provenance.statement import Payment, Provenance, Source

__all__ = [
    "ENTRIES",
    "ORDER",
    "Data",
    "Learnt",
    "Payment",
    "Provenance",
    "Source",
    "Untrained",
    "beside_state",
    "coincide",
    "digests",
    "digests_of",
    "entries",
    "feature_sources",
    "is_round",
    "learnt",
    "mark",
    "now",
    "order_sources",
    "restore",
    "shared_rows",
    "sources",
    "trained",
    "training",
]
