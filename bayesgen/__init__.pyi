"""The public names of bayesgen; `__init__.py` reads this file and imports each at its first use."""

from bayesgen import (
    data as data,
)
from bayesgen import (
    experiments as experiments,
)
from bayesgen import (
    kernels as kernels,
)
from bayesgen import (
    likelihoods as likelihoods,
)
from bayesgen import (
    networks as networks,
)
from bayesgen import (
    pacbayes as pacbayes,
)
from bayesgen import (
    plots as plots,
)
from bayesgen import (
    select as select,
)
from bayesgen import (
    solvers as solvers,
)
from bayesgen.data import (
    corrupt_labels as corrupt_labels,
)
from bayesgen.errors import (
    DivergedError as DivergedError,
)
from bayesgen.errors import (
    NotAtModeWarning as NotAtModeWarning,
)
from bayesgen.errors import (
    NotConvergedError as NotConvergedError,
)
from bayesgen.evidence import (
    Evidence as Evidence,
)
from bayesgen.features import (
    bases as bases,
)
from bayesgen.features import (
    priors as priors,
)
from bayesgen.models import (
    DeepKernel as DeepKernel,
)
from bayesgen.models import (
    DeepKernelPosterior as DeepKernelPosterior,
)
from bayesgen.models import (
    Fourier as Fourier,
)
from bayesgen.models import (
    GaussianProcess as GaussianProcess,
)
from bayesgen.models import (
    GPPosterior as GPPosterior,
)
from bayesgen.models import (
    Laplace as Laplace,
)
from bayesgen.models import (
    LaplacePosterior as LaplacePosterior,
)
from bayesgen.models import (
    LinearModel as LinearModel,
)
from bayesgen.models import (
    LinearPosterior as LinearPosterior,
)
from bayesgen.models import (
    NetworkPosterior as NetworkPosterior,
)
from bayesgen.models import (
    Polynomial as Polynomial,
)
from bayesgen.models import (
    RandomFeatures as RandomFeatures,
)
from bayesgen.select.compare import (
    compare as compare,
)
from bayesgen.spectrum import (
    Spectrum as Spectrum,
)
from bayesgen.training import (
    MapFit as MapFit,
)
from bayesgen.training import (
    Training as Training,
)
from bayesgen.training import (
    fit_map as fit_map,
)
from bayesgen.training import (
    train as train,
)
from bayesgen.training import (
    train_ensemble as train_ensemble,
)

__version__: str
