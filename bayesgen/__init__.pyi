"""The public names of bayesgen; `__init__.py` reads this file and imports each at its first use."""

from bayesgen import (
    data as data,
    experiments as experiments,
    kernels as kernels,
    likelihoods as likelihoods,
    networks as networks,
    pacbayes as pacbayes,
    plots as plots,
    pretrained as pretrained,
    select as select,
    solvers as solvers,
)
from bayesgen.adopt import (
    evidence_of as evidence_of,
)
from bayesgen.data import (
    corrupt_labels as corrupt_labels,
)
from bayesgen.errors import (
    DivergedError as DivergedError,
    NotAtModeWarning as NotAtModeWarning,
    NotConvergedError as NotConvergedError,
    NotMixedWarning as NotMixedWarning,
)
from bayesgen.evidence import (
    Evidence as Evidence,
)
from bayesgen.features import (
    bases as bases,
    priors as priors,
)
from bayesgen.models import (
    BatchPosterior as BatchPosterior,
    DeepKernel as DeepKernel,
    DeepKernelPosterior as DeepKernelPosterior,
    Fourier as Fourier,
    GaussianProcess as GaussianProcess,
    GPPosterior as GPPosterior,
    Laplace as Laplace,
    LaplaceGPPosterior as LaplaceGPPosterior,
    LaplaceLinearPosterior as LaplaceLinearPosterior,
    LaplacePosterior as LaplacePosterior,
    LinearModel as LinearModel,
    LinearPosterior as LinearPosterior,
    NetworkPosterior as NetworkPosterior,
    Polynomial as Polynomial,
    RandomFeatures as RandomFeatures,
)
from bayesgen.reports.report import (
    report as report,
)
from bayesgen.sampling import (
    Annealed as Annealed,
    CodeLength as CodeLength,
    anneal as anneal,
    prequential as prequential,
)
from bayesgen.select.compare import (
    compare as compare,
)
from bayesgen.spectrum import (
    Spectrum as Spectrum,
)
from bayesgen.storage import (
    load as load,
)
from bayesgen.training import (
    MapFit as MapFit,
    Training as Training,
    fit_map as fit_map,
    train as train,
    train_ensemble as train_ensemble,
)

__version__: str
