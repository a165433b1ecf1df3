"""Tests of `bayesgen._internal.files`."""

import pytest
import torch
import xarray as xr

from bayesgen._internal import files


def test_folder_is_made_with_its_parents_and_left_empty(tmp_path):
    made = files.writable(tmp_path / "a" / "b")
    assert made.is_dir()
    assert list(made.iterdir()) == []


def test_folder_that_is_a_file_raises(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(OSError, match="the output folder must be writable"):
        files.writable(tmp_path / "taken")


def test_file_is_replaced_by_a_whole_one(tmp_path):
    path = tmp_path / "result.txt"
    path.write_text("before")
    files.write(path, lambda p: p.write_text("after"))
    assert path.read_text() == "after"
    assert list(tmp_path.iterdir()) == [path]


def test_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path):
    path = tmp_path / "result.txt"
    path.write_text("before")

    def fails(place):
        assert place.suffix == ".txt"
        place.write_text("half")
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        files.write(path, fails)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_truncated_missing_and_unsafe_files_are_none(tmp_path):
    path = tmp_path / "kept.pt"
    assert files.saved(path) is None
    torch.save({"a": torch.ones(100)}, path)
    assert torch.equal(files.saved(path)["a"], torch.ones(100))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert files.saved(path) is None
    path.write_bytes(b"")
    assert files.saved(path) is None
    torch.save({"net": torch.nn.Linear(1, 1)}, path)  # Code is not loaded.
    assert files.saved(path) is None


def test_results_are_netcdf_files_in_memory(tmp_path, monkeypatch):
    result = xr.Dataset({"a": ("x", [1.0, 2.0])}, attrs={"n": 2})
    tree = xr.DataTree.from_dict({"one": result})
    files.write_bytes(tmp_path / "a.nc", files.netcdf(result))
    files.write_bytes(tmp_path / "b.nc", files.netcdf(tree))
    with xr.open_dataset(tmp_path / "a.nc", engine="h5netcdf") as read:
        assert read.identical(result)
    with xr.open_datatree(tmp_path / "b.nc", engine="h5netcdf") as read:
        assert set(read.children) == {"one"}
    modern = xr.Dataset.to_netcdf

    def old(self, path=None, **more):
        if path is None:
            raise ValueError("only scipy writes to memory")
        return modern(self, path, **more)

    monkeypatch.setattr(xr.Dataset, "to_netcdf", old)
    files.write_bytes(tmp_path / "c.nc", files.netcdf(result))
    with xr.open_dataset(tmp_path / "c.nc", engine="h5netcdf") as read:
        assert read.identical(result)
