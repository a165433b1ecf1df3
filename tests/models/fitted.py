"""One small posterior of every kind, by name, for tests of copies and files."""

import functools
import warnings

import gpytorch
import torch

import bayesgen as bg

F64 = torch.float64
KERNELS, MEANS = gpytorch.kernels, gpytorch.means
RBF = KERNELS.RBFKernel


def data():
    g = torch.Generator().manual_seed(0)
    x = torch.rand(24, 2, generator=g, dtype=F64)
    return x, torch.sin(4 * x[:, 0]) + 0.1 * torch.randn(24, generator=g, dtype=F64)


def gp(kernel, **settings):
    return bg.GaussianProcess(kernel, starts=1, **settings).fit(*data())


def of_targets(model, targets):
    x, y = data()
    return model.fit(x, targets(y))


def labels(y):
    return (y > 0).long()


def three(y):
    return labels(y) + labels(y - 0.5)


def counts(y):
    return (3 * y.abs()).round().long()


def outputs(y):
    return torch.stack([y, -y, y.square()], 1)


def batch(kernel):
    x, y = data()
    return bg.GaussianProcess(kernel).fit_batch(torch.stack([x, x + 0.1]), torch.stack([y, -y]))


def linear(basis=None, **settings):
    return bg.LinearModel(basis, **settings).fit(*data())


def laplace_gp(likelihood, targets):
    return of_targets(bg.GaussianProcess(RBF(), likelihood=likelihood, starts=1), targets)


def network(curvature="ggn", likelihood="bernoulli", targets=labels, net=None, **settings):
    x, y = data()
    if net is None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = bg.networks.MLP(2, (3,), 3 if targets is three else 1, activation="tanh")
    net, target = net.to(F64), targets(y)
    if likelihood == "gaussian":
        target = target[:, None]
    bg.fit_map(net, x, target, likelihood, prior_precision=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bg.NotAtModeWarning)
        return bg.Laplace(net, likelihood, curvature=curvature, **settings).fit(x, target)


def deep(net=None):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = net or bg.networks.MLP(2, (3,), 2)
    return bg.DeepKernel(net.to(F64), RBF(), steps=3).fit(*data())


def tasks():
    x, y = data()
    return bg.GaussianProcess(RBF()).fit(x, torch.stack([y, y.square()])[:, :, None])


def fixed():
    return gp(RBF(), noise=torch.full((24,), 0.1, dtype=F64))


def single():
    x, y = data()
    return bg.GaussianProcess(RBF(), starts=1).fit(x.float(), y.float())


def trends():
    periodic = KERNELS.ScaleKernel(KERNELS.PeriodicKernel(active_dims=[0]))
    return gp(KERNELS.ScaleKernel(RBF(active_dims=[1])) + periodic)


MAKERS = {
    "gp": lambda: gp(RBF()),
    "gp of a sum": lambda: gp(RBF() + KERNELS.LinearKernel()),
    "gp of a product": lambda: gp(RBF() * KERNELS.LinearKernel()),
    "gp of columns": trends,
    "gp of ARD": lambda: gp(RBF(ard_num_dims=2)),
    "gp of RQ": lambda: gp(KERNELS.RQKernel()),
    "gp of a polynomial": lambda: gp(KERNELS.PolynomialKernel(power=2)),
    "gp of a mixture": lambda: gp(KERNELS.SpectralMixtureKernel(num_mixtures=2, ard_num_dims=2)),
    "gp by cholesky": lambda: gp(RBF(), engine="cholesky"),
    "gp by krylov": lambda: gp(RBF(), engine="krylov"),
    "gp with a mean": lambda: gp(RBF(), mean=MEANS.ConstantMean()),
    "gp with a linear mean": lambda: gp(RBF(), mean=MEANS.LinearMean(2)),
    "gp with a fixed mean": lambda: gp(RBF(), mean=0.3),
    "gp with noises": fixed,
    "gp in float32": single,
    "gp of outputs": lambda: of_targets(bg.GaussianProcess(RBF()), outputs),
    "gp of tasks": tasks,
    "gp of labels": lambda: laplace_gp("bernoulli", labels),
    "gp of words": lambda: laplace_gp("bernoulli", lambda y: [["a", "b"][v] for v in labels(y)]),
    "gp of classes": lambda: laplace_gp("softmax", three),
    "gp of counts": lambda: laplace_gp("poisson", counts),
    "gp of outliers": lambda: laplace_gp("student-t", lambda y: y),
    "batch": lambda: batch(RBF()),
    "batch of Matérn": lambda: batch(KERNELS.MaternKernel(nu=1.5)),
    "batch of RQ": lambda: batch(KERNELS.RQKernel()),
    "linear": linear,
    "linear of outputs": lambda: of_targets(bg.LinearModel(), outputs),
    "linear of labels": lambda: of_targets(bg.LinearModel(likelihood="bernoulli"), labels),
    "linear of classes": lambda: of_targets(bg.LinearModel(likelihood="softmax"), three),
    "linear of counts": lambda: of_targets(bg.LinearModel(likelihood="poisson"), counts),
    "polynomial": lambda: linear(bg.bases.Polynomial(2, kind="legendre")),
    "polynomial of best order": lambda: linear(
        bg.bases.Polynomial(3), hyperparameters=("scale", "noise", "order")
    ),
    "fourier": lambda: linear(bg.bases.Fourier(2)),
    "cosines": lambda: linear(bg.bases.RandomFeatures(5)),
    "rectifiers": lambda: linear(bg.bases.RandomFeatures(5, activation="relu")),
    "geometric": lambda: linear(bg.bases.Polynomial(2), prior_variance=bg.priors.geometric(2.0)),
    "power": lambda: linear(bg.bases.Polynomial(2), prior_variance=bg.priors.power(1.0)),
    "given": lambda: linear(prior_variance=torch.tensor([1.0, 2.0])),
    "network": network,
    "network by hessian": lambda: network("hessian"),
    "network by kron": lambda: network("kron"),
    "network by diag": lambda: network("diag"),
    "network by its last layer": lambda: network("last_layer"),
    "network of classes": lambda: network("kron", "categorical", three),
    "network of reals": lambda: network("ggn", "gaussian", lambda y: y, noise=0.1),
    "linearised network": lambda: network(mode="linearised"),
    "tangent of a network": lambda: network(mode="tangent"),
    "deep kernel": deep,
}


@functools.cache
def posterior(name):
    """The posterior of a name, which tests share and must not change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return MAKERS[name]()


def predicted(found):
    """Moments of the latent functions, and of new observations or of labels, at some new points."""
    x = data()[0][:5] * 0.9 + 0.02
    if isinstance(found, bg.BatchPosterior):
        x = torch.stack([x, x])
    x = x.to(torch.float32) if found.observed.y.dtype == torch.float32 else x
    latent = found.predict(x, latent=True)
    values = [latent.mean, latent.stddev]
    if getattr(found, "noise", latent.mean).numel() == 24:
        return values  # noise variances of the training points
    new = found.predict(x)
    return [*values, *([new.probs] if hasattr(new, "probs") else [new.mean, new.variance])]


def same(one, other):
    """Whether two lists of tensors are equal to the last bit."""
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
