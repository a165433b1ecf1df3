"""Tests of `bayesgen.select.optimise`."""

import json
import math

import pytest
import torch

import bayesgen as bg
from bayesgen import select

F64 = torch.float64


def data(n=30):
    x = torch.linspace(-1, 1, n, dtype=F64)
    return x, torch.sin(4 * x) + 0.1 * torch.cos(57 * x)


def test_discrete_space_is_exhausted():
    x, y = data()
    optimum = select.optimise(
        lambda degree: bg.Polynomial(degree).fit(x, y),
        {"degree": (0, 7)},
        trials=30,
        progress=False,
    )
    values = [float(bg.Polynomial(k).fit(x, y).evidence.log_marginal_likelihood) for k in range(8)]
    assert len(optimum.trials) == 8
    assert optimum.setting["degree"] == max(range(8), key=values.__getitem__)


def test_mixed_space_improves_on_random_start():
    x, y = data()

    def build(kernel, lengthscale, degree):
        base = bg.kernels.named(kernel)
        base.lengthscale = torch.tensor(lengthscale, dtype=F64)
        return bg.GaussianProcess(base, 0.01 * (1 + degree), hyperparameters=("scale",)).fit(x, y)

    space = {"kernel": ["rbf", "matern32"], "lengthscale": (0.01, 10.0, "log"), "degree": (0, 3)}
    optimum = select.optimise(build, space, trials=12, initial=4, progress=False)
    trials = optimum.trials
    assert optimum.value == trials.value.max()
    assert optimum.value > trials.value[:4].max()
    assert trials.lengthscale.between(0.01, 10.0).all()


def test_killed_run_resumes_from_log(tmp_path):
    x, y = data()
    log, calls = tmp_path / "runs" / "log.jsonl", []

    def build(degree, rate):
        calls.append(degree)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return bg.Polynomial(degree, bg.priors.geometric(rate)).fit(x, y, hyperparameters=["noise"])

    space = {"degree": (1, 9), "rate": (1.0, 5.0)}
    with pytest.raises(KeyboardInterrupt):
        select.optimise(build, space, trials=7, log=log, progress=False)
    assert len(log.read_text().splitlines()) == 3
    with log.open("a") as handle:
        handle.write('{"setting": {"deg')  # The last line is cut short.
    optimum = select.optimise(build, space, trials=7, log=log, progress=False)
    assert len(optimum.trials) == 7
    assert len(calls) == 4 + 4
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert [row["value"] for row in rows] == optimum.trials.value.tolist()
    again = select.optimise(build, space, trials=7, log=log, progress=False)
    assert len(calls) == 8
    assert again.setting == optimum.setting
    with pytest.raises(ValueError, match="of another space"):
        select.optimise(build, {"degree": (1, 9)}, log=log, progress=False)
    with pytest.raises(ValueError, match="lies outside it"):
        select.optimise(build, {"degree": (10, 12), "rate": (1.0, 5.0)}, log=log, progress=False)


def test_failed_trials_are_skipped():
    x, y = data()

    def build(degree):
        if degree % 2:
            raise ValueError("odd")
        return bg.Polynomial(degree).fit(x, y).evidence

    optimum = select.optimise(build, {"degree": (0, 5)}, trials=6, progress=False)
    assert optimum.setting["degree"] % 2 == 0
    assert optimum.trials.value.isna().sum() == 3
    with pytest.raises(ValueError, match="no trial of 2 succeeded; the last said: odd"):
        select.optimise(lambda degree: build(1), {"degree": [1, 3]}, trials=2, progress=False)


@pytest.mark.parametrize("value", [(), (1, 0), (0.0, 1.0, "log"), [], (1, math.inf), "rbf", (1,)])
def test_invalid_spaces_raise(value):
    with pytest.raises(ValueError, match=r"space\['a'\] must be"):
        select.optimise(lambda a: None, {"a": value})


def test_invalid_builds_raise():
    with pytest.raises(TypeError, match="must return a posterior or an Evidence, got float"):
        select.optimise(lambda a: 1.0, {"a": (0, 3)}, progress=False)
