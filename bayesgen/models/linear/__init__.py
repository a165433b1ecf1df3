"""Linear models in a basis, with prior variances by order: model, presets and posterior."""

from bayesgen._internal import moved as _moved

__getattr__ = _moved.forwarding(__name__, "presets", "model")
