"""PAC-Bayes certificates of fitted posteriors: requests, tuning, payments and statements."""

from bayesgen._internal import moved as _moved

__getattr__ = _moved.forwarding(__name__, "posterior")
