"""bayesgen: models judged by their marginal likelihood.

`GaussianProcess`, `LinearModel`, `Polynomial`, `Laplace` and `DeepKernel` are models. Their `fit`
returns a posterior with an `evidence`; `compare` ranks posteriors, `pacbayes` turns them into
certificates, and `experiments` measures how the evidence changes as labels are corrupted.

A public name is imported when it is first used, so that `import bayesgen` and the help of the
command line need neither torch nor matplotlib. The names are those of `__init__.pyi`.
"""

from importlib import metadata as _metadata

from bayesgen._internal import lazy as _lazy, moved as _moved

__version__ = _metadata.version("bayesgen")
__getattr__, __dir__, __all__ = _lazy.attach(__name__, __file__, _moved.RENAMED)
_moved.install()
