"""Programs of several processes that the tests of `bayesgen.covariance.distributed` start.

The packages are imported once, before the processes are forked, so that many are started cheaply.
"""

import json
import os
import socket
import sys
from pathlib import Path

import gpytorch
import torch

from bayesgen import GaussianProcess
from bayesgen.covariance import distributed
from bayesgen.covariance.gram import gram
from bayesgen.errors import RankLostError
from bayesgen.solvers import planning


def fit(folder):
    """Fit a process twice in the given folder and return what it found."""
    with distributed.joined():
        g = torch.Generator().manual_seed(0)
        x = torch.rand(200, 3, generator=g, dtype=torch.float64)
        y = torch.sin(4 * x) + 0.2 * torch.randn(200, 3, generator=g, dtype=torch.float64)
        gp = GaussianProcess(gpytorch.kernels.RBFKernel(), engine="krylov", work=folder)
        gp.fit(x, y)
        p = gp.fit(x, y)  # A process that finds work done must not leave the others waiting.
        if distributed.first():
            found = [
                float(p.evidence.log_marginal_likelihood), float(p.evidence.error),
                float(p.lengthscale), float(p.noise), p.mean(x[:2]).tolist(),
            ]  # fmt: skip
            (folder / "found.json").write_text(json.dumps(found))


def lose(folder):
    """Multiply by a shared matrix until process 1 ends, and write the error of the others."""
    rank = os.environ["RANK"]
    with distributed.joined():
        x = torch.rand(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        matrices = gram(gpytorch.kernels.RBFKernel().double(), x)
        op = distributed.ShardedGram(matrices, torch.zeros(1).double())
        v = torch.ones(50, 2, dtype=torch.float64)
        for step in range(5):
            if step == 2 and rank == "1":
                os._exit(9)
            try:
                op @ v
            except RankLostError as err:
                (folder / f"error {rank}").write_text(str(err))
                os._exit(3)


def forked(function, count, folder):
    """Exit statuses of this many processes that run a function together."""
    folder.mkdir()
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    children = []
    for rank in range(count):
        child = os.fork()
        if not child:
            status = 1
            try:
                os.environ |= {
                    "MASTER_ADDR": "127.0.0.1",
                    "MASTER_PORT": str(port),
                    "WORLD_SIZE": str(count),
                    "RANK": str(rank),
                }
                function(folder)
                status = 0
            finally:
                sys.stderr.flush()
                os._exit(status)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


if __name__ == "__main__":
    torch.set_num_threads(1)
    # Every process would measure the machine anew, which takes longer than the fits.
    planning._rate = planning._disk_rate = lambda *_: 1e10
    root = Path(sys.argv[1])
    statuses = {str(count): forked(fit, count, root / str(count)) for count in (1, 2, 4)}
    statuses["lost"] = forked(lose, 3, root / "lost")
    (root / "statuses.json").write_text(json.dumps(statuses))
