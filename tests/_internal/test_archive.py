"""Tests of `bayesgen._internal.archive`: texts and arrays in a zip file."""

import zipfile

import numpy as np
import pytest

from bayesgen._internal import archive
from bayesgen._internal.archive import Archive

CONTENTS = Archive(
    {"about": {"a": [1, 2.5, None, "ψ"]}, "more": []},
    [np.arange(6.0).reshape(2, 3), np.zeros(0, dtype=np.int32)],
)


def test_contents_are_read_as_they_were_written(tmp_path):
    path = tmp_path / "a.zip"
    archive.write(path, CONTENTS)
    assert archive.read_text(path, "about") == CONTENTS.texts["about"]
    assert archive.read_text(path, "more") == []
    for found, wanted in zip(archive.read_arrays(path, 2), CONTENTS.arrays, strict=True):
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)


def test_equal_contents_give_equal_files(tmp_path):
    for name in ("a", "b"):
        archive.write(tmp_path / name, CONTENTS)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.zip"
    archive.write(path, CONTENTS)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        archive.write(path, Archive({"about": float("nan")}, []))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_numpy_reads_the_arrays(tmp_path):
    path = tmp_path / "a.npz"
    archive.write(path, CONTENTS)
    np.testing.assert_array_equal(np.load(path)["arrays/0"], CONTENTS.arrays[0])


@pytest.mark.parametrize("length", [0, 1, 30, 200])
def test_a_truncated_file_is_refused(tmp_path, length):
    path = tmp_path / "a.zip"
    archive.write(path, CONTENTS)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"."):
        archive.read_text(path, "about")
    with pytest.raises(ValueError, match=r"."):
        archive.read_arrays(path, 1)


def test_objects_are_neither_written_nor_read(tmp_path):
    path = tmp_path / "a.zip"
    objects = np.array([{}], dtype=object)
    with pytest.raises(ValueError, match="Object arrays"):
        archive.write(path, Archive({}, [objects]))
    with zipfile.ZipFile(path, "w") as target, target.open("arrays/0.npy", "w") as stream:
        np.lib.format.write_array(stream, objects, allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        archive.read_arrays(path, 1)


def test_what_is_missing_is_an_error(tmp_path):
    path = tmp_path / "a.zip"
    with pytest.raises(FileNotFoundError):
        archive.read_text(path, "about")
    archive.write(path, CONTENTS)
    with pytest.raises(KeyError):
        archive.read_text(path, "other")
    with pytest.raises(KeyError):
        archive.read_arrays(path, 3)
