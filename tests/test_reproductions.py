import numpy as np
import pytest
import torch
import xarray as xr

import bayesgen as bg
from bayesgen import cli, experiments
from bayesgen.select import surface


def test_structured_data_are_fitted_and_noise_is_interpolated():
    result = experiments.flexible_polynomial()
    assert (result.train_rmse < 1e-3).all()
    gap = (result.fitted - result.truth)[:2]
    assert float(np.sqrt((gap**2).mean())) < 0.05


def test_the_regularised_model_is_best_or_within_its_band():
    rmse = experiments.soft_against_hard(sizes=[10, 40, 100], repetitions=60).test_rmse
    mean, sd = rmse.mean("repetition"), rmse.std("repetition")
    ours = {"model": "degree 15, regularised"}
    assert (mean.sel(ours) - sd.sel(ours) <= mean.min("model")).all()
    assert (mean.sel(ours) < mean.sel(model="degree 15")).all()


def test_one_batched_solve_equals_one_by_one():
    few = experiments.soft_against_hard(sizes=[12, 30], repetitions=4)
    alone = experiments.soft_against_hard(sizes=[30], repetitions=4)
    assert few.test_rmse.sel(n=30).shape == alone.test_rmse.sel(n=30).shape
    assert np.isfinite(few.test_rmse).all()


def test_isotropic_evidence_peaks_and_falls_order_dependent_levels_off():
    curves = experiments.order_selection(n=50, largest=80).log_marginal_likelihood
    for basis in curves.basis.values:
        isotropic = curves.sel(basis=basis, prior="isotropic").values
        ordered = curves.sel(basis=basis, prior="order-dependent").values
        assert isotropic.argmax() <= 6
        assert isotropic.max() - isotropic[80] > 10
        assert np.ptp(ordered[20:]) < 0.1
        assert ordered.max() - ordered[80] < 10
        assert ordered[80] > isotropic[80]


def test_a_deep_kernel_learns_what_is_similar():
    result = bg.experiments.rotation(train=300, test=150, steps=40)
    fixed, deep = result.test_rmse.values
    assert deep < 0.7 * fixed
    assert list(result.excludes.values) == ["", "features"]
    # Images of one angle correlate under the learned prior, not under the fixed one.
    near = np.abs(np.subtract.outer(result.shown.values, result.shown.values)) < 10
    np.fill_diagonal(near, False)
    mean = [c.values[near].mean() - c.values[~near].mean() for c in result.correlation]
    assert mean[1] > mean[0] + 0.1
    assert len(bg.experiments.rotation.plot(result).axes) == 5


@pytest.mark.parametrize("name", ["fig1abc", "fig5"])
def test_reproduce_writes_figure_and_data(monkeypatch, tmp_path, capsys, name):
    monkeypatch.setattr("sys.argv", ["bayesgen", "reproduce", name, "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code
    assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    with xr.open_dataset(tmp_path / f"{name}.nc", engine="h5netcdf") as result:
        assert result.attrs["command"].startswith("bayesgen reproduce")
    assert name in capsys.readouterr().out


def test_reproduce_names_what_it_knows(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("sys.argv", ["bayesgen", "reproduce", "fig9", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert "'fig1abc', 'fig5', 'occam'" in capsys.readouterr().err


def test_surface_equals_fits_with_everything_fixed():
    x = torch.linspace(-1, 1, 30, dtype=torch.float64)
    y = torch.stack([torch.sin(3 * x), x**2 + 0.1 * torch.cos(50 * x)], 1)
    model = bg.Polynomial(6, bg.priors.geometric(2.0))
    got = surface(model, x, y, scales=[0.1, 2.0], noises=[0.01, 0.1, 1.0])
    for k in (0, 3, 6):
        prior = bg.priors.geometric(2.0, scale=2.0)
        one = bg.Polynomial(k, prior, 0.1, hyperparameters="fixed").fit(x, y)
        want = float(one.evidence.log_marginal_likelihood)
        assert float(got.sel(order=k, scale=2.0, noise=0.1)) == pytest.approx(want, rel=1e-10)
    with pytest.raises(ValueError, match=r"orders must lie in 0\.\.6"):
        surface(model, x, y, scales=[1.0], noises=[1.0], orders=[7])
