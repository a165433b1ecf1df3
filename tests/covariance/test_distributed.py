"""Tests of `bayesgen.covariance.distributed`.

One Gram matrix over several processes gives the same results, and a clear end where one is lost.
"""

import json
import os
import socket
import subprocess
import sys
import time

import pytest

from bayesgen.covariance import distributed

FIT = """
import json, sys, gpytorch, torch
import bayesgen as bg
from bayesgen import sharded
torch.set_num_threads(1)
with sharded.joined():
    g = torch.Generator().manual_seed(0)
    x = torch.rand(300, 3, generator=g, dtype=torch.float64)
    y = torch.sin(4 * x) + 0.2 * torch.randn(300, 3, generator=g, dtype=torch.float64)
    gp = bg.GaussianProcess(gpytorch.kernels.RBFKernel(), engine="krylov", work=sys.argv[1])
    gp.fit(x, y)
    p = gp.fit(x, y)  # again: what one process finds done must not leave the others waiting
    if sharded.first():
        print(json.dumps([float(p.evidence.log_marginal_likelihood), float(p.evidence.error),
                          float(p.lengthscale), float(p.noise), p.mean(x[:2]).tolist()]))
"""


def launch(script, count, folder=""):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    common = os.environ | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(count),
        "OMP_NUM_THREADS": "1",
    }
    return [
        subprocess.Popen(
            [sys.executable, "-c", script, folder],
            env=common | {"RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]


def result(count, folder):
    running = launch(FIT, count, str(folder))
    outputs = [p.communicate(timeout=120) for p in running]
    assert all(p.returncode == 0 for p in running), outputs
    return json.loads(outputs[0][0])


DIES = """
import os, sys, torch
from bayesgen import sharded
from bayesgen.errors import RankLostError
from bayesgen.covariance.gram import gram
import gpytorch
torch.set_num_threads(1)
with sharded.joined():
    x = torch.rand(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    matrices = gram(gpytorch.kernels.RBFKernel().double(), x)
    op = sharded.ShardedGram(matrices, torch.zeros(1).double())
    v = torch.ones(50, 2, dtype=torch.float64)
    for step in range(5):
        if step == 2 and os.environ["RANK"] == "1":
            os._exit(9)
        try:
            op @ v
        except RankLostError as err:
            print(err, flush=True)
            os._exit(3)
"""


def test_backend_follows_number_of_cards():
    assert distributed.backend(4, 0) == "gloo"
    assert distributed.backend(4, 4) == "cpu:gloo,cuda:nccl"
    assert distributed.backend(4, 1) == "gloo"


def test_any_number_of_processes_finds_the_same(tmp_path):
    alone = result(1, tmp_path / "1")
    for count in (2, 4):
        several = result(count, tmp_path / str(count))
        assert several[0] == pytest.approx(alone[0], rel=1e-6)
        assert several[1] == pytest.approx(alone[1], abs=1e-6)  # of rounding alone
        assert several[2:4] == pytest.approx(alone[2:4], rel=1e-6)
        for a, b in zip(several[4], alone[4], strict=True):
            assert a == pytest.approx(b, rel=1e-6)


def test_lost_process_ends_others_with_error():
    start = time.monotonic()
    running = launch(DIES, 3)
    outputs = [p.communicate(timeout=60) for p in running]
    assert time.monotonic() - start < 60
    assert running[1].returncode == 9
    for rank in (0, 2):
        assert running[rank].returncode == 3, outputs[rank]
        assert "lost another one" in outputs[rank][0]
