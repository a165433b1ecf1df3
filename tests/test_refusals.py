"""A bad argument of a public function raises TypeError or ValueError, whose message names it.

Each call below is valid. Each of its arguments is replaced by values of the wrong kind, of the
wrong shape, or that are not finite, one at a time.
"""

import copy
import math
import re
import warnings
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from gpytorch.kernels import RBFKernel

import bayesgen as bg
from bayesgen import likelihoods, networks, pacbayes, select, solvers
from bayesgen.features import priors

N = 12
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 2))
Y = np.sin(X[:, 0])
LABELS = (X[:, 0] > 0).astype(np.int64)
K = X @ X.T + np.eye(N)
FRAME = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "y": LABELS})
UNIT = (0.0, 1.0)


@cache
def gp():
    return bg.GaussianProcess(RBFKernel().double(), noise=0.1, hyperparameters="fixed")


@cache
def posterior():
    return gp().fit(X, Y)


@cache
def linear():
    return bg.Polynomial(2, noise=0.1, hyperparameters="fixed").fit(X, Y)


@cache
def labelled():
    return bg.GaussianProcess(
        RBFKernel().double(), likelihood="bernoulli", hyperparameters="fixed"
    ).fit(X, LABELS)


@cache
def dataset():
    return bg.data.from_arrays(X, LABELS, test=4)


@cache
def spectrum():
    return bg.Spectrum.dense(K, Y)


@cache
def net():
    return networks.MLP(2, (3,), 2).double()


def build(s):
    return bg.GaussianProcess(RBFKernel().double(), noise=s, hyperparameters="fixed").fit(X, Y)


BOUND = {"risk": 0.1, "kl": 2.0, "n": 100, "delta": 0.05}
OCCAM = {"risk": 0.1, "log_prior": -2.0, "n": 100, "delta": 0.05}
FIT = {"epochs": 1, "batch": 4, "optimiser": "sgd", "learning_rate": 0.1, "momentum": 0.9}
# Name → function without arguments that gives the callable and its arguments.
CALLS = {
    # models
    "GaussianProcess": lambda: (
        bg.GaussianProcess,
        {
            "kernel": RBFKernel().double(),
            "noise": 0.1,
            "mean": 0.0,
            "hyperparameters": "evidence",
            "tolerance": 1e-4,
            "max_spectra": 10,
            "engine": "cholesky",
            "likelihood": "gaussian",
            "starts": 2,
            "seed": 0,
        },
    ),
    "GaussianProcess.fit": lambda: (gp().fit, {"x": X, "y": Y, "hyperparameters": "fixed"}),
    "LinearModel": lambda: (
        bg.LinearModel,
        {
            "prior_variance": 1.0,
            "noise": 0.1,
            "likelihood": "gaussian",
            "hyperparameters": "evidence",
            "tolerance": 1e-4,
            "max_spectra": 10,
        },
    ),
    "LinearModel.fit": lambda: (bg.Polynomial(2).fit, {"x": X, "y": Y}),
    "Polynomial": lambda: (
        bg.Polynomial,
        {"degree": 2, "prior_variance": 1.0, "kind": "legendre", "interactions": True},
    ),
    "Fourier": lambda: (bg.Fourier, {"order": 2, "prior_variance": 1.0, "period": 1.0}),
    "RandomFeatures": lambda: (
        bg.RandomFeatures,
        {"d": 5, "prior_variance": 1.0, "lengthscale": 1.0, "activation": "cos", "seed": 0},
    ),
    "Laplace": lambda: (
        bg.Laplace,
        {
            "net": net(),
            "likelihood": "categorical",
            "prior_precision": 1.0,
            "curvature": "ggn",
            "hyperparameters": "evidence",
            "mode": "weights",
        },
    ),
    "DeepKernel": lambda: (
        bg.DeepKernel,
        {
            "net": net(),
            "kernel": RBFKernel().double(),
            "noise": 0.1,
            "objective": "evidence",
            "conditioned": 0.8,
            "prior_precision": 1.0,
            "steps": 1,
            "learning_rate": 1e-3,
        },
    ),
    # posteriors
    "predict": lambda: (posterior().predict, {"x_new": X}),
    "predict of a linear model": lambda: (linear().predict, {"x_new": X}),
    "predict of labels": lambda: (labelled().predict, {"x_new": X}),
    "interval": lambda: (posterior().interval, {"x_new": X, "level": 0.9, "noise": True}),
    "latent_samples": lambda: (posterior().latent_samples, {"count": 2, "task": 0, "seed": 0}),
    "latent_samples of labels": lambda: (
        labelled().latent_samples,
        {"count": 2, "task": 0, "seed": 0},
    ),
    "parameters": lambda: (linear().parameters, {"count": 2, "task": 0, "seed": 0}),
    "sample_weights": lambda: (linear().sample_weights, {"count": 2, "seed": 0}),
    "learning_curve": lambda: (
        posterior().learning_curve,
        {"orderings": 2, "task": 0, "seed": 0},
    ),
    "conditional_evidence": lambda: (
        posterior().conditional_evidence,
        {"m": 3, "orderings": 2, "seed": 0},
    ),
    "at": lambda: (posterior().at, {"task": 0, "scale": 1.0, "noise": 0.1}),
    "task": lambda: (posterior().task, {"task": 0}),
    # spectra and solvers
    "Spectrum.dense": lambda: (bg.Spectrum.dense, {"K": K, "y": Y}),
    "Spectrum.features": lambda: (bg.Spectrum.features, {"Phi": X, "y": Y}),
    "Spectrum.lanczos": lambda: (
        bg.Spectrum.lanczos,
        {"op": K, "y": Y, "probes": 2, "steps": 4, "seed": 0},
    ),
    "Spectrum.krylov": lambda: (
        bg.Spectrum.krylov,
        {"op": K, "y": Y, "probes": 2, "steps": 4, "seed": 0},
    ),
    "Spectrum.evidence": lambda: (spectrum().evidence, {"scale": 1.0, "noise": 0.1}),
    "Spectrum.logdet": lambda: (spectrum().logdet, {"scale": 1.0, "noise": 0.1}),
    "Spectrum.derivatives": lambda: (spectrum().derivatives, {"scale": 1.0, "noise": 0.1}),
    "Spectrum.maximise": lambda: (spectrum().maximise, {"scale": 1.0}),
    "Spectrum.effective_dimension": lambda: (spectrum().effective_dimension, {"alpha": 1.0}),
    "Spectrum.load": lambda: (spectrum().load, {"y": Y}),
    "evidence_interval": lambda: (
        solvers.evidence_interval,
        {"K": K, "y": Y, "scale": 1.0, "noise": 1.0, "rank": 5, "tolerance": 1.0},
    ),
    "batched_evidence": lambda: (
        solvers.batched_evidence,
        {"A": K[None], "y": Y[None], "seed": 0},
    ),
    "plan": lambda: (solvers.plan, {"n": 100, "d": 3, "outputs": 1, "engine": "krylov"}),
    # likelihoods and priors
    "one_hot": lambda: (likelihoods.one_hot, {"labels": LABELS, "num_classes": 2}),
    "dirichlet": lambda: (
        likelihoods.dirichlet,
        {"labels": LABELS, "num_classes": 2, "concentration": 0.01},
    ),
    "Gaussian": lambda: (likelihoods.Gaussian, {"noise": 1.0}),
    "StudentT": lambda: (likelihoods.StudentT, {"df": 4.0, "noise": 1.0}),
    "Softmax": lambda: (likelihoods.Softmax, {"num_classes": 3, "samples": 16, "seed": 0}),
    "geometric": lambda: (priors.geometric, {"rate": 2.0, "scale": 1.0}),
    "isotropic": lambda: (priors.isotropic, {"scale": 1.0}),
    # data and selection
    "corrupt_labels": lambda: (
        bg.corrupt_labels,
        {"labels": LABELS, "level": 0.2, "num_classes": 2, "seed": 0, "kind": "uniform"},
    ),
    "from_arrays": lambda: (
        bg.data.from_arrays,
        {"x": X, "y": LABELS, "test": 0.25, "seed": 0, "standardise": "no"},
    ),
    "from_table": lambda: (
        bg.data.from_table,
        {
            "table": FRAME,
            "target": "y",
            "test": 0.25,
            "seed": 0,
            "standardise": "no",
            "missing": "drop",
        },
    ),
    "load": lambda: (bg.data.load, {"name": "digits", "train": 10, "seed": 0}),
    "subset": lambda: (bg.data.subset, {"data": dataset(), "train": 4, "test": 2, "seed": 0}),
    "restrict": lambda: (bg.data.restrict, {"data": dataset(), "classes": (0, 1)}),
    "merge": lambda: (bg.data.merge, {"data": dataset(), "groups": ((0,), (1,))}),
    "from_frame": lambda: (
        select.from_frame,
        {"frame": FRAME, "target": "y", "task": "regression"},
    ),
    "surface": lambda: (
        select.surface,
        {"model": bg.Polynomial(2), "x": X, "y": Y, "scales": np.ones(2), "noises": np.ones(2)},
    ),
    "optimise": lambda: (
        select.optimise,
        {
            "build": build,
            "space": {"s": (0.1, 1.0)},
            "trials": 1,
            "initial": 1,
            "seed": 0,
            "progress": False,
        },
    ),
    "compare": lambda: (
        bg.compare,
        {"models": {"a": posterior()}, "delta": 0.05, "tolerance": 1.0},
    ),
    # networks
    "MLP": lambda: (
        networks.MLP,
        {"inputs": 2, "hidden": (3,), "outputs": 2, "activation": "relu"},
    ),
    "low_rank": lambda: (networks.low_rank, {"net": net(), "rank": 1, "seed": 0}),
    "train": lambda: (
        bg.train,
        {"net": net(), "x": X, "y": LABELS, "likelihood": "categorical", **FIT},
    ),
    "train_ensemble": lambda: (
        bg.train_ensemble,
        {"nets": [net(), copy.deepcopy(net())], "x": X, "y": np.stack([LABELS] * 2), **FIT},
    ),
    "fit_map": lambda: (
        bg.fit_map,
        {"net": net(), "x": X, "y": LABELS, "prior_precision": 1.0},
    ),
    "anneal": lambda: (
        bg.anneal,
        {
            "model": net(),
            "x": X,
            "y": LABELS,
            "likelihood": "categorical",
            "prior_precision": 1.0,
            "chains": 4,
            "rungs": 3,
            "settle": 10,
            "leaps": 1,
            "confidence": 0.9,
            "seed": 0,
        },
    ),
    "prequential": lambda: (
        bg.prequential,
        {
            "model": net(),
            "x": X,
            "y": LABELS,
            "likelihood": "categorical",
            "prior_precision": 1.0,
            "orders": 1,
            "members": 1,
            "seed": 0,
        },
    ),
    # bounds
    "maurer": lambda: (pacbayes.maurer, BOUND),
    "mcallester": lambda: (pacbayes.mcallester, {**BOUND, "loss_range": UNIT}),
    "catoni": lambda: (pacbayes.catoni, {**BOUND, "loss_range": UNIT, "constant": 1.0}),
    "catoni_union": lambda: (pacbayes.catoni_union, {**BOUND, "alpha": 0.1}),
    "alquier": lambda: (pacbayes.alquier, {**BOUND, "loss_range": UNIT, "form": "sqrt"}),
    "quadratic": lambda: (pacbayes.quadratic, BOUND),
    "thiemann": lambda: (pacbayes.thiemann, {**BOUND, "lam": 1.0}),
    "subgamma": lambda: (pacbayes.subgamma, {**BOUND, "s2": 1.0, "c": 0.0}),
    "germain": lambda: (
        pacbayes.germain,
        {"log_marginal_likelihood": -10.0, "n": 100, "loss_range": UNIT, "delta": 0.05},
    ),
    "occam": lambda: (pacbayes.occam, OCCAM),
    "countable": lambda: (pacbayes.countable, {**OCCAM, "loss_range": UNIT}),
    "subsampled": lambda: (
        pacbayes.subsampled,
        {**OCCAM, "m": 50, "loss_range": UNIT, "candidates": 1},
    ),
    "vc": lambda: (pacbayes.vc, {"risk": 0.1, "dimension": 3.0, "n": 100, "delta": 0.05}),
    "fat_shattering": lambda: (
        pacbayes.fat_shattering,
        {"margin_risk": 0.1, "dimension": 3.0, "n": 100, "delta": 0.05},
    ),
    "fat_shattering_dimension": lambda: (
        pacbayes.fat_shattering_dimension,
        {"radius": 1.0, "norm": 1.0, "scale": 0.5},
    ),
    "rademacher": lambda: (
        pacbayes.rademacher,
        {"margin_risk": 0.1, "complexity": 0.1, "margin": 1.0, "n": 100, "delta": 0.05},
    ),
    "rademacher_norm": lambda: (pacbayes.rademacher_norm, {"x": X, "norm": 1.0}),
    "rademacher_trace": lambda: (pacbayes.rademacher_trace, {"K": K, "norm": 1.0}),
    "rademacher_sampled": lambda: (
        pacbayes.rademacher_sampled,
        {"K": K, "norm": 1.0, "draws": 10, "seed": 0},
    ),
    "monte_carlo": lambda: (
        pacbayes.monte_carlo,
        {"risk": 0.1, "draws": 100, "delta": 0.05},
    ),
    "c_bound": lambda: (pacbayes.c_bound, {"gibbs_risk": 0.2, "joint_risk": 0.1}),
    "upper_risk": lambda: (pacbayes.upper_risk, {"risk": 0.2, "budget": 0.1}),
    "lower_risk": lambda: (pacbayes.lower_risk, {"risk": 0.2, "budget": 0.1}),
    "solomonoff": lambda: (pacbayes.solomonoff, {"code_length_bits": 10.0}),
    "freedman": lambda: (
        pacbayes.freedman,
        {
            "losses": np.full(9, 0.2),
            "centres": np.full(9, 0.1),
            "log_prior": -2.0,
            "width": 1.0,
            "delta": 0.05,
        },
    ),
    "certify": lambda: (
        pacbayes.certify,
        {
            "models": {"a": gp()},
            "x": X,
            "y": np.where(LABELS, 1.0, -1.0),
            "delta": 0.05,
            "bound": "maurer",
            "predictor": "gibbs",
        },
    ),
    "compress": lambda: (
        pacbayes.compress,
        {
            "net": net(),
            "x": X,
            "y": LABELS,
            "dimension": 5,
            "levels": 3,
            "projection": "kronecker",
            "epochs": 1,
            "quantised_epochs": 1,
            "batch": 4,
            "learning_rate": 0.1,
            "entropy": 0.0,
            "seed": 0,
        },
    ),
}
# Arguments that may be None or without values, and shapes that a function takes on purpose.
ALLOWED = {
    ("Spectrum.dense", "y", "none"),
    ("Spectrum.features", "y", "none"),
    ("Spectrum.lanczos", "y", "none"),
    # They are one row, which has other labels than those given; the message names y.
    ("from_arrays", "x", "five axes"),
    # They are read in the order of their entries.
    ("surface", "scales", "five axes"),
    ("surface", "noises", "five axes"),
}
# The network of the user is what refuses inputs of a wrong shape; the message says on which.
BY_NET = {"train", "train_ensemble", "fit_map", "compress", "anneal", "prequential"}


def bad(value):
    """Name → a value that must be refused in place of a valid one."""
    if isinstance(value, np.ndarray):
        numbers = value.astype(float)
        broken = numbers.copy()
        broken.flat[0] = math.nan
        return {
            "nan": broken,
            "empty": numbers[:0],
            "five axes": numbers.reshape((1,) * (5 - numbers.ndim) + numbers.shape),
            "text": "text",
            "object": object(),
            "none": None,
            "complex": numbers.astype(complex),
        }
    if isinstance(value, bool):
        return {"text": "text", "object": object(), "two": 2}
    if isinstance(value, int):
        return {
            "half": 2.5,
            "nan": math.nan,
            "minus": -3,
            "text": "text",
            "object": object(),
            "array": np.ones(3),
            "true": True,
        }
    if isinstance(value, float):
        return {"nan": math.nan, "text": "text", "object": object(), "complex": 1j}
    if isinstance(value, str):
        return {"other": "nonsense", "number": 3.5, "object": object()}
    return {"object": object(), "number": 3.5, "none": None}


@pytest.mark.parametrize("name", CALLS)
def test_bad_argument_is_refused_by_name(name):
    function, valid = CALLS[name]()
    wrong = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tiny training runs that do not converge
        function(**valid)
        for argument, value in valid.items():
            for kind, other in bad(value).items():
                if (name, argument, kind) in ALLOWED:
                    continue
                try:
                    function(**{**valid, argument: other})
                except (TypeError, ValueError) as err:
                    named = rf"\b{re.escape(argument)}\b" + (r"|\bnet\b" if name in BY_NET else "")
                    if not re.search(named, str(err)):
                        wrong.append((argument, kind, str(err)))
                except Exception as err:
                    wrong.append((argument, kind, repr(err)))
                else:
                    wrong.append((argument, kind, "is accepted"))
    assert not wrong


@pytest.mark.parametrize("name", [n for n, call in CALLS.items() if "seed" in call()[1]])
def test_seed_above_63_bits_is_refused(name):
    function, valid = CALLS[name]()
    with pytest.raises(ValueError, match="seed"):
        function(**{**valid, "seed": 2**64})


def test_torch_is_left_as_it_was():
    """What is refused changes no global state."""
    before = torch.get_rng_state()
    for name in ("compress", "train", "optimise"):
        function, valid = CALLS[name]()
        with pytest.raises((TypeError, ValueError)):
            function(**{**valid, "seed": -1})
    assert torch.equal(torch.get_rng_state(), before)
