"""Tests of `bayesgen.experiments.executor`.

Sweeps run on executors of all kinds, with workers that die and files that are cut in half.
"""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from bayesgen import experiments
from bayesgen.experiments.executor import Job, Workers, executor, sweep


def square(x):
    return {"square": float(x * x), "said": f"{x}"}


def squares(count=5):
    return [Job(f"square {x}", square, (x,)) for x in range(count)], [[x] for x in range(count)]


WANTED = [square(x) for x in range(5)]


def fails(x):
    raise ValueError(f"no {x}")


def kills_once(x, folder):
    """A job that kills its worker the first time that it is run."""
    flag = Path(folder) / "killed"
    if x == 2 and not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)
    return square(x)


def kills_workers(x, parent):
    if os.getpid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
    return square(x)


def test_any_executor_gives_serial_result(tmp_path):
    assert sweep(*squares()) == WANTED
    with ThreadPoolExecutor(2) as threads:
        assert sweep(*squares(), executor=threads, store=tmp_path) == WANTED
    assert len(list(tmp_path.glob("*.nc"))) == 5


def test_sweep_resumes_from_store(tmp_path):
    jobs, marks = squares()
    sweep(jobs[:3], marks[:3], store=tmp_path)
    broken = next(iter(tmp_path.glob("square 1*.nc")))
    broken.write_bytes(broken.read_bytes()[:50])
    heard = []
    again = sweep(jobs, marks, store=tmp_path, progress=lambda *said: heard.append(said[2]))
    assert again == WANTED
    assert heard == ["square 1", "square 3", "square 4"]
    other = sweep(jobs, [["other", x] for x in range(5)], store=tmp_path)
    assert other == WANTED
    assert len(list(tmp_path.glob("*.nc"))) == 10


def test_failed_task_raises_and_keeps_earlier_results(tmp_path):
    jobs, marks = squares(2)
    jobs.append(Job("bad", fails, (7,)))
    with pytest.raises(ValueError, match="no 7"):
        sweep(jobs, [*marks, [7]], store=tmp_path)
    assert len(list(tmp_path.glob("*.nc"))) == 2


def test_dead_workers_are_replaced(forked_workers, tmp_path):
    jobs = [Job(f"t {x}", kills_once, (x, str(tmp_path))) for x in range(5)]
    with Workers(2, threads=2) as pool:
        assert sweep(jobs, [[x] for x in range(5)], executor=pool) == WANTED
    assert (tmp_path / "killed").exists()


def test_own_process_takes_over_when_all_workers_die(forked_workers):
    jobs = [Job(f"t {x}", kills_workers, (x, os.getpid())) for x in range(2)]
    with (
        Workers(1, threads=1) as pool,
        pytest.warns(RuntimeWarning, match="and this process runs 2 of 2 jobs"),
    ):
        assert sweep(jobs, [[0], [1]], executor=pool) == WANTED[:2]


@pytest.mark.filterwarnings("ignore")
def test_dask_cluster_losing_a_worker_gives_serial_result(tmp_path):
    distributed = pytest.importorskip("dask.distributed")
    settings = {"models": ["gp", "polynomial"], "levels": [0.0, 1.0], "train": 40, "test": 30}
    serial = experiments.corruption_models(**settings)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        jobs = [Job(f"t {x}", kills_once, (x, str(tmp_path))) for x in range(5)]
        with executor(None, cluster.scheduler_address) as pool:
            assert sweep(jobs, [[x] for x in range(5)], executor=pool) == WANTED
            assert (tmp_path / "killed").exists()
            spread = experiments.corruption_models(**settings, executor=pool)
    for name in serial.data_vars:
        if serial[name].dtype.kind == "f":  # Threads sum in another order.
            np.testing.assert_allclose(spread[name], serial[name], rtol=1e-9, err_msg=name)
        else:
            assert (serial[name].values == spread[name].values).all(), name


def test_workers_and_scheduler_together_raise():
    with (
        pytest.raises(ValueError, match="must not be given together"),
        executor(2, "tcp://localhost:1"),
    ):
        pass
    with pytest.raises(ValueError, match="workers must be"):
        Workers(0)
