"""Data sets as tensors: loading them by name, taking parts of them, corrupting their labels."""

from bayesgen._internal import moved as _moved
from bayesgen.data.corruption import corrupt_labels
from bayesgen.data.dataset import Dataset, draw, merge, restrict, subset
from bayesgen.data.loading import load, names

__all__ = ["Dataset", "corrupt_labels", "draw", "load", "merge", "names", "restrict", "subset"]

__getattr__ = _moved.forwarding(__name__, "loading")
