"""One evidence value with its gradient, 10 outputs, against GPyTorch and the bare factorisations.

usage: python benchmarks/evidence_gradient.py [--n 4000] [--d 3072] [--threads 2] [--repeats 5]
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
from pathlib import Path

import torch
from _report import median, timed, write
from gpytorch_peer import ScaledRBF, value_and_gradient

from bayesgen import kernels
from bayesgen.covariance.gram import gram
from bayesgen.models.gp.objective import LogMarginalLikelihood

OUTPUTS, SCALE, NOISE = 10, 0.05, 0.06


def problem(n: int, d: int) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Random inputs and targets, and half the typical distance."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(n, d, generator=generator, dtype=torch.float64)
    y = torch.randn(n, OUTPUTS, generator=generator, dtype=torch.float64)
    return x, y, (kernels.typical_distance(x) or 1.0) / 2


def objective(x: torch.Tensor, y: torch.Tensor) -> LogMarginalLikelihood:
    return LogMarginalLikelihood(gram(kernels.named("rbf").to(x), x), y)


def peak(n: int, d: int) -> None:
    """Print how many n² doubles above the data one evaluation peaks at (Linux)."""
    x, y, lengthscale = problem(n, d)
    objective(x[:200], y[:200])(x.new_tensor([math.log(lengthscale)]), SCALE, NOISE)

    def field(name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024

    before = field("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    objective(x, y)(x.new_tensor([math.log(lengthscale)]), SCALE, NOISE)
    print((field("VmHWM") - before) / (8 * n * n))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=4000)
    parser.add_argument("--d", type=int, default=3072)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peak", action="store_true", help="print the peak memory and stop")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    n, d = options.n, options.d
    if options.peak:
        return peak(n, d)
    command = [sys.executable, __file__, "--peak", "--n", str(n), "--d", str(d)]
    memory = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    x, y, lengthscale = problem(n, d)
    theta = x.new_tensor([math.log(lengthscale)])
    once, function = timed(lambda: objective(x, y))
    matrix = function.gram.matrix(theta).mul_(SCALE)
    matrix.diagonal().add_(NOISE)
    factor = torch.linalg.cholesky(matrix)
    peer = ScaledRBF(x, y).at(lengthscale, SCALE, NOISE)
    difference = abs(float(function(theta, SCALE, NOISE).value) - value_and_gradient(peer))

    ours, theirs, bare = [], [], []
    for _ in range(options.repeats):  # in turn, so that a drift of the machine meets all alike
        ours.append(median(lambda: function(theta, SCALE, NOISE), 1))
        bare.append(
            median(lambda: torch.linalg.cholesky(matrix), 1)
            + median(lambda: torch.cholesky_inverse(factor), 1)
        )
        theirs.append(median(lambda: value_and_gradient(peer), 1))
    a, b, c = (sorted(times)[len(times) // 2] for times in (ours, theirs, bare))
    write(
        "evidence_gradient",
        f"One evidence value with gradient, {OUTPUTS} outputs, n = {n:,}, d = {d:,}, float64",
        f"python benchmarks/evidence_gradient.py --n {n} --d {d} --threads {options.threads} "
        f"--repeats {options.repeats}",
        [
            ("bayesgen", f"{a:.2f} s"),
            ("GPyTorch, value and backward", f"{b:.2f} s"),
            ("`torch.linalg.cholesky` + `torch.cholesky_inverse`", f"{c:.2f} s"),
            ("**bayesgen / GPyTorch**", f"**{a / b:.2f}**"),
            ("**bayesgen / the two factorisations**", f"**{a / c:.2f}**"),
            ("peak memory above the data, in n² doubles", f"{memory:.2f}"),
            ("pairwise distances, once for a data set", f"{once:.2f} s"),
            ("difference of the two values", f"{difference:.1e} nats"),
        ],
        "Medians, the three in turn. bayesgen computes the pairwise distances once for all "
        "evaluations on a data set; GPyTorch computes them at each. The peak includes them.",
    )
    return None


if __name__ == "__main__":
    main()
