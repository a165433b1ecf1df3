"""Tests of `bayesgen.solvers.planning`."""

import pytest

from bayesgen.solvers import Machine, plan

LAPTOP = Machine(20e9, 100e9, {"float32": 2e11, "float64": 1e11}, 1e9, "cpu")


def test_plans_follow_size_and_memory():
    assert plan(4000, 3072, 110, machine=LAPTOP).engine == "spectrum"
    large = plan(50_000, 3072, 110, machine=LAPTOP)
    assert (large.engine, large.storage, large.dtype) == ("krylov", "memory", "float32")
    assert "91.2 GB" in large.reason
    assert plan(50_000, 3072, 110, machine=LAPTOP, keep=True).storage == "disk"
    # What memory does not hold is read or made anew, whichever is faster on this machine.
    fast, slow = (Machine(4e9, 100e9, LAPTOP.flops, rate, "cpu") for rate in (3e9, 1e8))
    assert plan(50_000, 3072, 20, machine=fast, keep=True).storage == "disk"
    assert plan(50_000, 3072, 20, machine=slow, keep=True).storage == "none"
    assert plan(50_000, 3072, 20, machine=fast).storage == "none"  # There is no folder.
    poor = Machine(4e9, 1e9, LAPTOP.flops, 3e9, "cpu")
    assert plan(50_000, 3072, 20, machine=poor, keep=True).storage == "none"
    card = Machine(140e9, 1e9, {"float32": 5e13, "float64": 5e13}, 1e9, "card", card=True)
    assert plan(50_000, 3072, 110, machine=card).engine == "cholesky"
    assert plan(20_000, 3072, 110, machine=card).engine == "spectrum"
    one = plan(50_000, 3072, 110, machine=card, tasks=11, keep=True)
    assert one.storage == "memory"  # A card keeps no file.
    assert "then 11 exact Cholesky factorisations" in one.reason
    # On a CPU a few tasks may be made exact too, many may not.
    assert plan(18_000, 3072, 10, machine=LAPTOP, tasks=1).engine == "cholesky"
    assert plan(18_000, 3072, 110, machine=LAPTOP, tasks=11).engine == "krylov"


def test_impossible_plan_raises():
    tiny = Machine(1e8, 1e8, LAPTOP.flops, 1e9, "cpu")
    with pytest.raises(ValueError, match="no engine fits: n = 50,000"):
        plan(50_000, 3072, 110, machine=tiny)
    with pytest.raises(ValueError, match="n must be"):
        plan(0, 1, 1, machine=LAPTOP)
    with pytest.raises(ValueError, match="engine must be"):
        plan(10, 1, 1, machine=LAPTOP, engine="lu")


def test_machine_is_measured(tmp_path):
    machine = Machine.here()
    assert machine.memory > 1e8
    assert machine.flops["float64"] > 1e8
    assert machine.disk_rate == 0
    assert Machine.here(folder=tmp_path / "to come").disk_rate > 1e6
    assert list(tmp_path.iterdir()) == []
