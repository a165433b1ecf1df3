"""All of CIFAR-10 at once: 11 levels of corruption × 10 classes on 50,000 images, one command.

python benchmarks/all_cifar10.py --data-dir DIR --out DIR [--train N] [--threads N] [--device cuda]

The command line runs in a process of its own, whose time and peak memory are what is told; of a
card's memory what is taken at the most, looked at five times a second.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch
import xarray as xr
from _report import write


def watched(command: list[str], device: str) -> float:
    """Peak bytes that a command takes, of the machine's or of the card's memory."""
    if device == "cpu":
        subprocess.run(command, check=True)
        return 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    before = torch.cuda.mem_get_info()[0]
    least = before
    with subprocess.Popen(command) as process:
        while process.poll() is None:
            least = min(least, torch.cuda.mem_get_info()[0])
            time.sleep(0.2)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return before - least


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--train", type=int, default=50_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    words = [
        "corruption", "--data", "cifar10", "--data-dir", options.data_dir, "--train",
        str(options.train), "--seeds", "1", "--threads", str(options.threads), "--out",
        str(options.out), "--device", options.device,
    ]  # fmt: skip
    start = time.perf_counter()
    peak = watched([sys.executable, "-m", "bayesgen", *words], options.device)
    seconds = time.perf_counter() - start
    rows = [("time", f"{seconds / 60:.1f} min"), ("peak memory", f"{peak / 2**30:.1f} GiB")]
    with xr.open_dataset(options.out / "corruption.nc", engine="h5netcdf") as result:
        n = result.attrs["n"]
        one = result.isel(seed=0)
        share = float((one.evidence_error / abs(one.log_marginal_likelihood)).max())
        rows.append(("largest error of an evidence, of its size", f"{share:.1e}"))
        rows.append(("method", result.attrs["method"]))
        for level in one.level.values:
            at = one.sel(level=level)
            rows.append(
                (
                    f"level {level:g}",
                    f"log p(D)/n {float(at.log_marginal_likelihood) / n:.4f} "
                    f"± {float(at.evidence_error) / n:.4f}, "
                    f"KL/n {float(at.complexity) / n:.3f}, "
                    f"N_eff {float(at.effective_dimension):,.0f}, "
                    f"length-scale {float(at.lengthscale):.2f}, "
                    f"train error {float(at.train_error):.3f}, "
                    f"test error {float(at.test_error):.3f}",
                )
            )
    card = options.device != "cpu"
    write(
        "all_cifar10" + (f"_{options.device}" if card else ""),
        f"CIFAR-10 (JPEG), n = {options.train:,}, 110 right-hand sides",
        f"python benchmarks/all_cifar10.py --data-dir DIR --out DIR --train {options.train} "
        f"--threads {options.threads}" + (f" --device {options.device}" if card else ""),
        rows,
        "bayesgen corruption --data cifar10 --train 50000 --seeds 1, from loading to figure. "
        + (
            "Peak memory is the card's."
            if card
            else "Peak memory counts the pages of the Gram matrix's file that are mapped."
        ),
    )


if __name__ == "__main__":
    main()
