"""The prequential code length of data, an estimate of −log p(D) from predictions alone."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bayesgen._internal import checks
from bayesgen._internal.progress import Progress
from bayesgen._internal.progress_bar import reporting
from bayesgen._internal.words import plural
from bayesgen.data.columns import is_table
from bayesgen.likelihoods.likelihood import Likelihood
from bayesgen.models.gp.model import GaussianProcess
from bayesgen.models.linear.model import LinearModel
from bayesgen.networks.copies import plain
from bayesgen.posterior.posterior import ExactPosterior
from bayesgen.sampling.code_length import CodeLength
from bayesgen.sampling.predictives import PlugIn, Predictive, check_resettable, exact, keeps_buffers
from bayesgen.sampling.target import check_own_prior, hint, network, stated_likelihood
from bayesgen.training import train

# Arguments of `bayesgen.train` that are those of `prequential`.
_OWN = {"net", "x", "y", "likelihood", "prior_precision", "noise"}
# Number of observations before the first training, and the factor from one block's end to the next.
_FIRST, _GROWTH = 8, 1.5


def prequential(
    model: Any,
    x: Any = None,
    y: Any = None,
    likelihood: str | Likelihood = "categorical",
    prior_precision: Any = 1.0,
    *,
    noise: Any = None,
    blocks: Sequence[int] | None = None,
    orders: int = 3,
    members: int = 4,
    training: Mapping[str, Any] | None = None,
    seed: int = 0,
    progress: Progress | bool | None = None,
) -> CodeLength:
    """The code length Σₖ −log p(yₖ | xₖ, D_<k) of data in blocks, each predicted from those before.

    For the exact predictive distribution of a Bayesian model, the chain rule makes it −log p(D), in
    any order and for any blocks. `GaussianProcess`, `LinearModel` and their posteriors are coded so
    at their hyperparameters. If these were learnt on the same data, the code does not include them
    and `excludes` says so.

    For a network, the predictive distribution is that of an ensemble trained on D_<k: the mean of
    the members' probabilities. Such a plug-in code is a code that a receiver can decode, because
    block k uses nothing but earlier blocks; its length is therefore a fair comparison between
    models. It is not −log p(D) of the prior on the weights: it may be longer (each block is
    predicted from a part of the data before each observation) or shorter (training and averaging
    may predict better than the posterior). It needs no Laplace approximation. The network itself
    gives the architecture alone: its weights, which may have been trained on the same data, are not
    used and not changed. Random generators are left as they are.

    Args:
        model: a network; a `bayesgen.GaussianProcess` or `bayesgen.LinearModel`, which is fitted to
            x and y; or its posterior of one task.
        x: inputs (n, …), a tensor or an array; None for a posterior.
        y: targets, as in `bayesgen.Laplace.fit`; None for a posterior.
        likelihood: likelihood of a network's outputs, as in `bayesgen.Laplace`.
        prior_precision: prior precision α > 0 of a network's weights in training, a number or (L,),
            one for each module that has parameters of its own.
        noise: noise variance σ² of a network with a Gaussian likelihood.
        blocks: numbers of observations at which a block ends, increasing, below n; None takes 8,
            12, 18, …, by a factor of 1.5. Shorter blocks give a shorter code for more trainings.
        orders: number of orders of the data. The first is the given order, and the others are
            random.
        members: number of networks in the ensemble.
        training: settings of `bayesgen.train`, such as {"epochs": 200}; None takes each network to
            a mode of its log posterior by `bayesgen.fit_map`.
        seed: seed of the orders and of the initial weights.
        progress: called as progress(done, expected, what) after each block; True shows a progress
            bar.

    Returns:
        A `CodeLength`, with the length of each block in each order.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range; a layer of the
            network cannot be initialised anew.

    Source: Dawid (1984); Lotfi et al. (2022), section 5; Lyle et al. (2020); Blier & Ollivier
        (2018), section 3.

    Example:
        >>> import bayesgen as bg
        >>> x = torch.linspace(-1, 1, 30, dtype=torch.float64)
        >>> posterior = bg.Polynomial(3).fit(x, torch.sin(3 * x))
        >>> code = prequential(posterior)
        >>> abs(code.log_evidence - float(posterior.evidence.log_marginal_likelihood)) < 1e-8
        True
    """
    orders, members = checks.whole("orders", orders), checks.whole("members", members)
    seed = checks.seed(seed)
    with torch.inference_mode(False):
        if isinstance(model, nn.Module):
            predictive, n, method = _network(
                model, x, y, likelihood, prior_precision, noise, members, training, seed
            )
            excludes: tuple[str, ...] = ("buffers",) if keeps_buffers(plain(model)) else ()
        else:
            if (noise, training) != (None, None):
                raise ValueError("noise and training must be None where model is not a network")
            check_own_prior(likelihood, prior_precision)
            posterior = _fitted(model, x, y)
            predictive, n = exact(posterior), posterior.observed.n
            method = "exact predictive distribution at the hyperparameters of the model"
            excludes = ("hyperparameters",) if posterior.learnt else ()
        ends = _ends(blocks, n)
        generator = torch.Generator().manual_seed(seed)
        rows = []
        with reporting(progress) as report:
            for number in range(orders):
                order = torch.arange(n)
                if number:
                    order = torch.randperm(n, generator=generator)
                row = []
                for start, end in zip((0, *ends[:-1]), ends, strict=True):
                    row.append(predictive(order[:start], order[start:end], number))
                    if report is not None:
                        done = number * len(ends) + len(row)
                        report(done, orders * len(ends), f"order {number + 1}, n = {end}")
                rows.append(row)
    return CodeLength(torch.tensor(rows, dtype=torch.float64), ends, method, excludes)


def _network(
    net: nn.Module,
    x: Any,
    y: Any,
    likelihood: str | Likelihood,
    prior_precision: Any,
    noise: Any,
    members: int,
    training: Mapping[str, Any] | None,
    seed: int,
) -> tuple[Predictive, int, str]:
    """The plug-in code of a network, the number of observations, and a description."""
    if training is not None:
        if not isinstance(training, Mapping):
            raise TypeError(
                "training must be a mapping of settings of bayesgen.train, got "
                f"{type(training).__name__}"
            )
        taken = _OWN & set(training)
        if taken:
            raise ValueError(
                f"training must not hold {', '.join(sorted(taken))}, which prequential sets"
            )
        known = [name for name in inspect.signature(train).parameters if name not in _OWN]
        for name in training:
            if name not in known:
                raise ValueError(
                    f"training must hold settings of bayesgen.train, {', '.join(known)}, got "
                    f"{name!r}"
                )
    check_resettable(plain(net))
    if isinstance(x, tuple | Mapping):
        raise TypeError(f"x must be one tensor of inputs, got a {type(x).__name__}")
    if is_table(x):
        x = checks.as_tensor("x", x)
    own, y, _ = stated_likelihood(likelihood, noise).numbered(y)
    target = network(net, x, y, own, prior_precision, None, None)
    assert target.likelihood is not None
    rows = checks.as_tensor("x", x)
    rows = rows.double() if rows.is_floating_point() else rows
    targets = checks.as_tensor("y", y)
    targets = targets.double() if targets.is_floating_point() else targets
    inner = target.likelihood.targets(targets, torch.zeros(len(rows), 1, dtype=torch.float64))[0]
    code = PlugIn(
        plain(net),
        target,
        rows,
        targets,
        inner,
        prior_precision=prior_precision,
        noise=noise,
        members=members,
        training=training,
        seed=seed,
    )
    how = "at modes of their log posterior" if training is None else "trained by bayesgen.train"
    return code, len(rows), f"mixture of {plural(members, 'network')} {how}"


def _fitted(model: Any, x: Any, y: Any) -> ExactPosterior:
    """The posterior of one task of a model under Gaussian noise."""
    if isinstance(model, GaussianProcess | LinearModel):
        if x is None or y is None:
            raise TypeError("x and y must be given with a model that is fitted to them")
        model = model.fit(x, y)
    elif (x is not None or y is not None) and isinstance(model, ExactPosterior):
        raise ValueError("x and y must be None where model is a posterior, which has its own")
    if not isinstance(model, ExactPosterior):
        raise TypeError(
            "model must be a network, or a GaussianProcess or LinearModel under Gaussian noise or "
            f"its posterior, got {type(model).__name__}{hint(model)}"
        )
    if model.observed.batched:
        raise ValueError(
            f"model must be of one task, got a posterior of {len(model.observed.y)} tasks; choose "
            "one, e.g. posterior.task(0)"
        )
    return model


def _ends(blocks: Sequence[int] | Tensor | None, n: int) -> tuple[int, ...]:
    """Ends of the blocks, of which the last is n."""
    if blocks is not None:
        found = checks.increasing("blocks", blocks)
        if found[-1] >= n:
            raise ValueError(f"blocks must be below the number of observations {n}, got {found}")
        return (*found, n)
    ends, end = [], float(_FIRST)
    while round(end) < n:
        ends.append(round(end))
        end *= _GROWTH
    return (*ends, n)
