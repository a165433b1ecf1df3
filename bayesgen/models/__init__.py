"""Models that carry their evidence: Gaussian processes, linear models, networks, deep kernels.

A public name is imported when it is first used; the names are those of `__init__.pyi`.
"""

from bayesgen._internal import lazy as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(__name__, __file__, {})
