"""Data sets and texts as tensors: loading them, taking parts of them, corrupting labels."""

from bayesgen._internal import moved as _moved
from bayesgen.data.corpus import Corpus, text
from bayesgen.data.corruption import corrupt_labels
from bayesgen.data.dataset import Dataset, draw, merge, restrict, subset
from bayesgen.data.loading import load, names
from bayesgen.data.tables import from_arrays, from_table, read_table

__all__ = [
    "Corpus",
    "Dataset",
    "corrupt_labels",
    "draw",
    "from_arrays",
    "from_table",
    "load",
    "merge",
    "names",
    "read_table",
    "restrict",
    "subset",
    "text",
]

__getattr__ = _moved.forwarding(__name__, "loading")
