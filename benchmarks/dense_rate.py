"""Achieved FLOP/s of the dense engines against the device's matrix product, in one run.

python benchmarks/dense_rate.py [--device cuda] [--most N] [--budget SECONDS]
    [--threads N]

A kernel matrix of uniform points (RBF, noise 0.1, ten outputs), made on the device; the evidence by
one Cholesky, with the diagonal of the inverse or without, and by one spectrum, as n doubles while
the matrix and its copies fit and a value is expected within the budget; then 10,000
Cholesky factorisations and 1,000 spectra of order 50 at once. Operations are counted as n³/3 for a
Cholesky, n³ with the inverse's diagonal, and 9n³ for a spectrum with vectors.
"""

from __future__ import annotations

import argparse
import math

import torch
from _report import median, write
from torch import Tensor

from bayesgen import solvers
from bayesgen.covariance.distances import squared_distances
from bayesgen.spectrum.spectrum import Spectrum

NOISE = 0.1


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def problem(n: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """K, (n, n), and targets (n, 10), float64."""
    g = torch.Generator().manual_seed(0)
    x = torch.rand(n, 8, generator=g, dtype=torch.float64).to(device)
    y = torch.sin(3 * x.sum(1, keepdim=True) + torch.arange(10, device=device))
    K = squared_distances(x)
    for rows in K.split(512):
        rows.mul_(-2.0).exp_()
    return K, y


def covariance(K: Tensor) -> Tensor:
    A = K.clone()
    A.diagonal().add_(NOISE)
    return A


def cholesky(K: Tensor, y: Tensor) -> float:
    factor = solvers.cholesky(lambda: covariance(K))
    v = torch.linalg.solve_triangular(factor.lower, y, upper=False)
    n, C = y.shape
    return float(-0.5 * (v.square().sum() + C * (factor.logdet() + n * math.log(2 * math.pi))))


def whole(K: Tensor, y: Tensor) -> float:
    """With fit, complexity and effective dimension."""
    e, _ = solvers.evidence(solvers.cholesky(lambda: covariance(K)), y[None], K.new_tensor(NOISE))
    return float(e.log_marginal_likelihood)


def spectrum(K: Tensor, y: Tensor) -> float:
    return float(Spectrum.dense(K, y).evidence(1.0, NOISE).log_marginal_likelihood)


def many(count: int, device: torch.device) -> Tensor:
    x = torch.rand(count, 50, 2, dtype=torch.float64, device=device)
    K = (-8 * torch.cdist(x, x).square()).exp()
    K.diagonal(dim1=1, dim2=2).add_(NOISE)
    return K


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--most", type=int, default=50_000)
    parser.add_argument("--budget", type=float, default=600.0, help="seconds of one value")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    machine = solvers.Machine.here(device)
    rate = machine.flops["float64"]
    rows = [("matrix product, float64", f"{rate / 1e9:,.0f} GFLOP/s")]
    # Copies that each holds beside K, and operations over n³.
    for name, engine, copies, flops in (
        ("Cholesky", cholesky, 1.5, 1 / 3),
        ("evidence by Cholesky", whole, 1.5, 1.0),
        ("spectrum", spectrum, 3.5, 9.0),
    ):
        n = 2000
        while n <= options.most and (1 + copies) * 8 * n**2 < 0.8 * machine.memory:
            K, y = problem(n, device)
            values = []

            def once(engine=engine, K=K, y=y, values=values) -> None:
                values.append(engine(K, y))
                wait(device)

            seconds = median(once, 3 if n <= 4000 else 1)
            done = flops * n**3 / seconds
            rows.append(
                (
                    f"{name}, n = {n:,}",
                    f"{seconds:.2f} s, {done / 1e9:,.0f} GFLOP/s, {done / rate:.0%} of the "
                    f"product's; log p(D) = {values[-1]:,.3f}",
                )
            )
            print(rows[-1], flush=True)
            del K, y, once
            last, n = n, min(2 * n, options.most)
            if last == n or seconds * (n / last) ** 3 > options.budget:
                break
    A = many(10_000, device)
    for name, batch, factorise, flops in (
        ("10,000 Cholesky factorisations of order 50", A, torch.linalg.cholesky, 1 / 3),
        ("1,000 spectra of order 50", A[:1000], torch.linalg.eigh, 9.0),
    ):

        def together(batch=batch, factorise=factorise) -> None:
            factorise(batch)
            wait(device)

        together()
        seconds = median(together, 3)
        done = flops * len(batch) * 50**3 / seconds
        rows.append((name, f"{seconds:.3f} s, {done / 1e9:,.1f} GFLOP/s"))
    write(
        f"dense_rate_{device.type}",
        f"Dense engines on {machine.name}",
        f"python benchmarks/dense_rate.py --device {options.device} --most {options.most} "
        f"--budget {options.budget:g} --threads {options.threads}",
        rows,
        __doc__.split("\n\n")[2].strip(),
    )


if __name__ == "__main__":
    main()
