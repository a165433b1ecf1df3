"""Exact Gaussian processes of gpytorch and botorch as posteriors."""

from __future__ import annotations

import copy
from typing import Any

import gpytorch
import torch
from torch import Tensor

from bayesgen._internal import checks
from bayesgen.adopt.kept_data import same_values
from bayesgen.models.gp.model import GaussianProcess
from bayesgen.models.standardised import Scaling, StandardisedPosterior
from bayesgen.posterior.posterior import Posterior

# Number of training inputs at which the priors of the source and the posterior are compared.
_FEW = 30


def reads(model: Any) -> bool:
    """Whether a model is an exact Gaussian process of gpytorch."""
    return isinstance(model, gpytorch.models.ExactGP)


def posterior_of(model: Any, x: Any = None, y: Any = None) -> Posterior:
    """The posterior of an `ExactGP` or `SingleTaskGP`; see `bayesgen.evidence_of`."""
    if model.train_inputs is None or model.train_targets is None:
        raise ValueError("model must have training data, got an ExactGP without any")
    for name in ("mean_module", "covar_module"):
        if not hasattr(model, name):
            raise TypeError(
                f"model must have a {name}, as those of gpytorch's examples have, got "
                f"{type(model).__name__} without one"
            )
    if len(model.train_inputs) != 1 or model.train_targets.ndim != 1:
        raise TypeError(
            "model must be of one input tensor and one output, got "
            f"{len(model.train_inputs)} inputs and targets {tuple(model.train_targets.shape)}"
        )
    noise = _noise(model.likelihood)
    inputs = checks.owned(checks.inputs("train_inputs", model.train_inputs[0]))
    targets = checks.owned(checks.targets("train_targets", model.train_targets, len(inputs),
                                          like=inputs))  # fmt: skip
    change = getattr(model, "input_transform", None)
    outcome = getattr(model, "outcome_transform", None)
    raw, scaled = _both_inputs(model, inputs, change)
    kernel, mean = copy.deepcopy(model.covar_module), copy.deepcopy(model.mean_module).eval()
    process: Any = GaussianProcess(kernel, noise, mean=mean, hyperparameters="fixed")
    found = process.fit(scaled, targets)
    found.learnt = frozenset({"kernel", "scale", "noise", "mean"})  # whether or not it was trained
    found.learn(start=False)
    _check_prior(model, found, noise)
    if change is None and outcome is None:
        same_values("x", inputs, x)
        same_values("y", targets, y)
        return found
    if outcome is not None:
        centre, size = _affine(outcome, targets)
        y_scaling = Scaling(centre, size)
    else:
        y_scaling = Scaling(targets.new_zeros(1), targets.new_ones(1))
    if change is None:
        columns = inputs.new_zeros(1, inputs.shape[1])
        x_scaling = Scaling(columns, torch.ones_like(columns))
    else:
        x_scaling = Scaling.of_map(raw, scaled)
    whole = same_values("y", y_scaling.outward(targets), y)
    raw = same_values("x", raw, x)
    return StandardisedPosterior(found, raw, whole, x_scaling, y_scaling)


def _noise(likelihood: Any) -> Any:
    """The noise variance of a Gaussian likelihood: a number, or one for each point."""
    # Their subclasses may have another noise, or other targets.
    if type(likelihood) is gpytorch.likelihoods.FixedNoiseGaussianLikelihood:
        return likelihood.noise.detach().clone()  # with the learnt additional noise
    if type(likelihood) is gpytorch.likelihoods.GaussianLikelihood:
        return float(likelihood.noise.detach())
    raise TypeError(
        "model must have a GaussianLikelihood or FixedNoiseGaussianLikelihood, got "
        f"{type(likelihood).__name__}"
    )


def _check_prior(model: Any, found: Any, noise: Any) -> None:
    """Refuse a model whose own prior of the targets is not that of the posterior made of it.

    A `forward` may do more than call the mean and the kernel at the inputs. Both priors are
    compared at some of the training inputs.

    Raises:
        TypeError: they differ.
    """
    twin = copy.deepcopy(model).train()
    exact = gpytorch.settings.fast_computations(False, False, False)
    with torch.no_grad(), torch.random.fork_rng(devices=[]), exact:
        prior = twin.likelihood(twin(*twin.train_inputs), *twin.train_inputs)
        n = len(prior.mean)
        some = torch.arange(0, n, max(1, n // _FEW))[:_FEW]
        theirs = prior.covariance_matrix[some][:, some]
        x = found._gram.x[some]
        ours = found.scale * found._gram.full(found._theta[0], x)
        ours = ours + torch.as_tensor(noise, dtype=ours.dtype).expand(n)[some].diag()
        means = prior.mean[some], found._mean(x).reshape(-1).expand(len(some))
    for their, our in ((theirs, ours), means):
        size = float(their.abs().max())
        tolerance = max(1e-8, 1e3 * torch.finfo(our.dtype).eps) * size
        if not torch.allclose(their.to(our), our, rtol=0, atol=tolerance):
            raise TypeError(
                "model must have the prior of its mean_module and covar_module at its inputs, but "
                f"{type(model).__name__} has another, as where its forward changes the inputs (for "
                "deep kernel learning there is bayesgen.DeepKernel)"
            )


def _both_inputs(model: Any, inputs: Tensor, change: Any) -> tuple[Tensor, Tensor]:
    """The training inputs as the user gave them, and as the kernel takes them."""
    if change is None:
        return inputs, inputs
    if change.transform_on_train != change.transform_on_eval:
        raise TypeError(
            "model must apply its input_transform to training and new inputs alike, got "
            f"{type(change).__name__} with transform_on_train={change.transform_on_train} and "
            f"transform_on_eval={change.transform_on_eval}"
        )
    raw = getattr(model, "_original_train_inputs", None)
    raw = inputs if raw is None or model.training else checks.owned(raw)
    with torch.no_grad():
        return raw, checks.owned(copy.deepcopy(change).preprocess_transform(raw))


def _affine(outcome: Any, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Centre and size of an outcome transform that is affine.

    Raises:
        TypeError: it is not.
    """
    mean, size = getattr(outcome, "means", None), getattr(outcome, "stdvs", None)
    if mean is None or size is None:
        raise TypeError(
            "model must have the outcome_transform Standardize or none, got "
            f"{type(outcome).__name__}"
        )
    return mean.detach().reshape(-1).to(targets), size.detach().reshape(-1).to(targets)
