"""How time and memory of every engine grow with n, beside GPyTorch and scikit-learn, in one run.

python benchmarks/scaling.py --data-dir DIR [--most N] [--budget SECONDS] [--threads N]

One evidence value of CIFAR-10 (JPEG), RBF kernel, ten outputs, the kernel matrix made in float64
beforehand for all of them alike. Each engine goes on to the next size while it may be expected to
take less than the budget. Errors are against the float64 Cholesky of the same matrix.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing as mp
import resource
import time
import warnings
from collections.abc import Callable

import gpytorch
import numpy as np
import torch
from _report import RESULTS, median, write
from linear_operator import to_linear_operator
from matplotlib.figure import Figure
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from torch import Tensor

import bayesgen as bg
from bayesgen import solvers
from bayesgen.covariance.distances import squared_distances
from bayesgen.spectrum.spectrum import Spectrum

SIZES = (500, 1000, 2000, 4000, 8000, 20_000)
SCALE, NOISE = 0.1, 0.05
STORE = RESULTS / "scaling.json"


def problem(folder: str, n: int) -> tuple[Tensor, Tensor, Tensor, float]:
    """Inputs, kernel matrix, targets (n, 10), length-scale: half the median distance."""
    data = bg.data.load("cifar10", train=n, test=10, data_dir=folder)
    x = data.x_train
    K = squared_distances(x)
    some = K[:500, :500]
    lengthscale = 0.5 * float(some[some > 0].median().sqrt())
    for rows in K.split(512):
        rows.mul_(-0.5 / lengthscale**2).exp_()
    return x, K, bg.likelihoods.one_hot(data.y_train, 10), lengthscale


def covariance(K: Tensor, dtype: torch.dtype) -> Tensor:
    A = K.to(dtype, copy=True).mul_(SCALE)
    A.diagonal().add_(NOISE)
    return A


def cholesky(K: Tensor, y: Tensor, dtype: torch.dtype) -> tuple[float, float]:
    factor = solvers.cholesky(lambda: covariance(K, dtype))
    v = torch.linalg.solve_triangular(factor.lower, y.to(dtype), upper=False)
    n, C = y.shape
    constant = n * math.log(2 * math.pi)
    return float(-0.5 * (v.square().sum() + C * (factor.logdet() + constant))), math.nan


def refined(K: Tensor, y: Tensor) -> tuple[float, float]:
    found = solvers.batched_evidence(covariance(K, torch.float64)[None], y[None],
                                     dtype=torch.float32)  # fmt: skip
    return float(found.log_marginal_likelihood), float(found.error)


def spectrum(K: Tensor, y: Tensor) -> tuple[float, float]:
    e = Spectrum.dense(K, y).evidence(SCALE, NOISE)
    return float(e.log_marginal_likelihood), float(e.error)


def krylov(K: Tensor, y: Tensor, dtype: torch.dtype, seed: int) -> tuple[float, float]:
    made = Spectrum.krylov(K.to(dtype), y.to(dtype), probes=6, steps=6, seed=seed)
    e = made.evidence(SCALE, NOISE)
    return float(e.log_marginal_likelihood), float(e.error)


def interval(K: Tensor, y: Tensor) -> tuple[float, float]:
    found = solvers.evidence_interval(K, y, SCALE, NOISE, rank=min(1000, len(K) // 2))
    low, high = float(found.lower), float(found.upper)
    return 0.5 * (low + high), 0.5 * (high - low)


def gpytorch_value(K: Tensor, y: Tensor) -> tuple[float, float]:
    op = to_linear_operator(K).mul(SCALE).add_jitter(NOISE)
    quadratic, logdet = op.inv_quad_logdet(y, logdet=True)
    n, C = y.shape
    return float(-0.5 * (quadratic + C * (logdet + n * math.log(2 * math.pi)))), math.nan


def gpytorch_cholesky(K: Tensor, y: Tensor) -> tuple[float, float]:
    with gpytorch.settings.max_cholesky_size(10**6):
        return gpytorch_value(K, y)


def gpytorch_cg(K: Tensor, y: Tensor, seed: int) -> tuple[float, float]:
    torch.manual_seed(seed)
    with gpytorch.settings.max_cholesky_size(0):
        return gpytorch_value(K, y)


def sklearn(x: Tensor, y: Tensor, lengthscale: float) -> tuple[float, float]:
    kernel = ConstantKernel(SCALE) * RBF(lengthscale) + WhiteKernel(NOISE)
    model = GaussianProcessRegressor(kernel, optimizer=None, alpha=0.0)
    model.fit(x.numpy(), y.numpy())
    return float(model.log_marginal_likelihood(model.kernel_.theta)), math.nan


ENGINES: dict[str, Callable[..., tuple[float, float]]] = {
    "Cholesky, float64": lambda K, y, *_: cholesky(K, y, torch.float64),
    "Cholesky, float32": lambda K, y, *_: cholesky(K, y, torch.float32),
    "Cholesky, float32, refined": lambda K, y, *_: refined(K, y),
    "spectrum (eigh), float64": lambda K, y, *_: spectrum(K, y),
    "block Lanczos, float64": lambda K, y, *_, seed: krylov(K, y, torch.float64, seed),
    "block Lanczos, float32": lambda K, y, *_, seed: krylov(K, y, torch.float32, seed),
    "interval, float64": lambda K, y, *_: interval(K, y),
    "GPyTorch, Cholesky": lambda K, y, *_: gpytorch_cholesky(K, y),
    "GPyTorch, CG (its defaults)": lambda K, y, *_, seed: gpytorch_cg(K, y, seed),
    "scikit-learn": lambda _, y, x, lengthscale: sklearn(x, y, lengthscale),
}
# Those that draw random probes: several times, with other probes, for the error that is typical.
DRAWN = ("block Lanczos, float64", "block Lanczos, float32", "GPyTorch, CG (its defaults)")
DRAWS = 5


def _one(pipe, folder: str, n: int, name: str, threads: int) -> None:
    """One engine at one size, in a process of its own, so that its memory is its own."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(threads)
    x, K, y, lengthscale = problem(folder, n)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds, values, errors = [], [], []
    for seed in range(DRAWS if name in DRAWN else 1):
        more = {"seed": seed} if name in DRAWN else {}
        start = time.perf_counter()
        value, error = ENGINES[name](K, y, x, lengthscale, **more)
        seconds.append(time.perf_counter() - start)
        values.append(value)
        errors.append(error)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pipe.send({"seconds": float(np.median(seconds)), "value": values, "said": max(errors),
               "memory": 1024 * (after - before)})  # fmt: skip


def measure(folder: str, n: int, name: str, threads: int) -> dict:
    here, there = mp.get_context("spawn").Pipe()
    process = mp.get_context("spawn").Process(target=_one, args=(there, folder, n, name, threads))
    process.start()
    there.close()
    try:
        return here.recv()
    except EOFError:
        return {}
    finally:
        process.join()


def rates() -> dict[str, float]:
    """FLOP/s of a matrix product of order 4,000."""
    found = {}
    for dtype in (torch.float64, torch.float32):
        a = torch.randn(4000, 4000, dtype=dtype)
        found[str(dtype)] = 2 * 4000**3 / median(lambda a=a: a @ a, 3)
    return found


def small_problems() -> list[tuple[str, str]]:
    """10,000 problems of n = 50, all at once and, some of them, one by one in GPyTorch."""
    g = torch.Generator().manual_seed(0)
    x = torch.rand(10_000, 50, 2, generator=g, dtype=torch.float64)
    y = torch.sin(6 * x.sum(-1)) + 0.2 * torch.randn(10_000, 50, generator=g, dtype=torch.float64)
    start = time.perf_counter()
    ours = bg.GaussianProcess(gpytorch.kernels.RBFKernel()).fit_batch(x, y)
    took = time.perf_counter() - start
    start, some, gaps = time.perf_counter(), 10, []
    for b in range(some):
        likelihood = gpytorch.likelihoods.GaussianLikelihood().double()

        class Model(gpytorch.models.ExactGP):
            def __init__(self, likelihood=likelihood, b=b) -> None:
                super().__init__(x[b], y[b], likelihood)
                self.mean_module = gpytorch.means.ZeroMean()
                self.kernel = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel())
                self.double()

            def forward(self, z):
                return gpytorch.distributions.MultivariateNormal(
                    self.mean_module(z), self.kernel(z)
                )

        model = Model()
        model.train()
        optimiser = torch.optim.Adam(model.parameters(), lr=0.1)
        mll = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model)
        for _ in range(100):
            optimiser.zero_grad()
            loss = -mll(model(x[b]), y[b])
            loss.backward()
            optimiser.step()
        gaps.append(float(ours.evidence.log_marginal_likelihood[b] + 50 * loss.detach()))
    theirs = (time.perf_counter() - start) / some * len(x)
    return [
        (
            "10,000 data sets, n = 50, hyperparameters of each",
            f"{took:.1f} s, GPyTorch's loop (Adam, 100 steps) {theirs:,.0f} s (10 of them, × 1,000)"
            f": ×{theirs / took:.0f}; ours has {np.mean(gaps):.3f} nats more on average, "
            f"{np.min(gaps):.3f} at least",
        )
    ]


def draw(cells: dict, rate: dict[str, float]) -> list[tuple[str, str]]:
    figure = Figure(figsize=(8.5, 5), layout="constrained")
    axes = figure.subplots()
    rows = []
    for number, name in enumerate(ENGINES):
        points = sorted((int(n), c[name]) for n, c in cells.items() if c.get(name))
        if not points:
            continue
        n, seconds = (
            np.array(v) for v in zip(*[(n, c["seconds"]) for n, c in points], strict=True)
        )
        peer = "GPyTorch" in name or "scikit" in name
        axes.loglog(n, seconds, "--o" if peer else "-o", ms=4, label=name, color=f"C{number}")
        late = n >= 2000
        slope = np.polyfit(np.log(n[late]), np.log(seconds[late]), 1)[0] if late.sum() > 1 else None
        last_n, last = points[-1]
        truth = cells[str(last_n)].get("Cholesky, float64", {}).get("value", [math.nan])[0]
        words = [f"n = {last_n:,}: {last['seconds']:.2f} s"]
        if slope is not None:
            words.append(f"∝ n^{slope:.1f}")
        words.append(f"{last['memory'] / (8 * last_n**2):.1f} n² doubles more")
        if "Cholesky, float" in name and "refined" not in name:
            kind = "torch.float64" if "64" in name else "torch.float32"
            at = dict(points)
            order = 8000 if 8000 in at else last_n
            share = order**3 / 3 / at[order]["seconds"] / rate[kind]
            words.append(f"{share:.0%} of the matrix product's rate at n = {order:,}")
        if truth == truth and name != "Cholesky, float64":
            off = np.array(last["value"]) - truth
            told = f"{off[0]:+.2g}"
            if len(off) > 1:
                told = f"{np.sqrt(np.mean(off**2)):.2g} (root mean square of {len(off)} draws)"
            words.append(f"off by {told} nats of {truth:,.0f}")
        if last["said"] == last["said"]:
            words.append(f"says ±{last['said']:.2g}")
        rows.append((name, ", ".join(words)))
    axes.set_xlabel("n")
    axes.set_ylabel("seconds for one evidence value, 10 outputs")
    axes.grid(True, which="both", lw=0.3)
    axes.legend(frameon=False, fontsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(RESULTS.parent.parent / "docs" / "figures" / "scaling.png", dpi=100)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--most", type=int, default=20_000)
    parser.add_argument("--budget", type=float, default=60.0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rate = rates()
    rows = [(f"matrix product, {k}", f"{v / 1e9:,.0f} GFLOP/s") for k, v in rate.items()]
    rows += small_problems()
    print(rows, flush=True)
    cells: dict[str, dict] = {}
    live = set(ENGINES)
    for n in SIZES:
        if n > options.most:
            break
        cells[str(n)] = {}
        for name in ENGINES:
            # What is compared at the largest size is measured there whatever it takes.
            last = n == options.most and name in ("Cholesky, float64", *DRAWN)
            if name not in live and not last:
                continue
            found = measure(options.data_dir, n, name, options.threads)
            cells[str(n)][name] = found
            grown = 8.0 if "Lanczos" not in name else 4.0
            if not found or found["seconds"] * grown > options.budget:
                live.discard(name)
            print(n, name, found, flush=True)
        STORE.write_text(json.dumps({"rates": rate, "cells": cells}, indent=1) + "\n")
    rows += draw(cells, rate)
    write(
        "scaling",
        "One evidence value as n grows",
        f"python benchmarks/scaling.py --data-dir DIR --most {options.most} --budget "
        f"{options.budget:g} --threads {options.threads}",
        rows,
        "CIFAR-10 (JPEG), RBF, ten outputs, s = 0.1, σ² = 0.05, the kernel matrix given "
        "(scikit-learn makes its own). Exponents from n = 2,000 on. Memory: peak above the data "
        "and the matrix. "
        "Errors against the float64 Cholesky. Block Lanczos: 6 probes, 9 products. "
        "![times](../../docs/figures/scaling.png)",
    )


if __name__ == "__main__":
    main()
