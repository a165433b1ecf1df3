"""Small results of every experiment, for tests of figures, in results.json.

They are those of `bayesgen reproduce all --quick` and of four commands, thinned and rounded. To
make the file anew from folders of results:

    python -m tests.plots.results FOLDER [FOLDER ...]
"""

import json
import sys
from pathlib import Path

import numpy as np
import xarray as xr

from bayesgen import experiments

FILE = Path(__file__).with_name("results.json")
EXPERIMENTS = dict(experiments.REPRODUCTIONS) | {
    name: getattr(experiments, name)
    for name in ("corruption", "corruption_models", "certify", "laplace")
}
# Largest numbers of entries along some dims, whose entries are many or alike.
_LENGTHS = {"repetition": 2, "draw": 2, "image": 30, "shown": 8, "other": 8, "point": 60, "d": 40,
            "order": 40, "degree": 40, "plane_point": 9, "k": 10}  # fmt: skip

_MADE = ("command", "versions", "python", "platform", "created", "run", "paper", "found")


def results():
    """Result of each experiment by name."""
    kept = json.loads(FILE.read_text(encoding="utf-8"))
    return {name: xr.Dataset.from_dict(one) for name, one in kept.items()}


def pack(folders):
    """Thin the results in some folders and write them to the file."""
    found = {}
    for name in EXPERIMENTS:
        paths = [Path(folder) / f"{name}.nc" for folder in folders]
        path = next(path for path in paths if path.exists())
        with xr.open_dataset(path, engine="h5netcdf") as stored:
            result = stored.load()
        for dim, length in _LENGTHS.items():
            if result.sizes.get(dim, 0) > length:
                places = np.unique(np.linspace(0, result.sizes[dim] - 1, length).astype(int))
                result = result.isel({dim: places})
        for key in result.variables:
            if result[key].dtype.kind == "f":
                result[key] = result[key].astype(object)
        made = result.to_dict()
        for each in (*made["coords"].values(), *made["data_vars"].values()):
            each["data"] = _rounded(each["data"])
            each["attrs"] = {}
        made["attrs"] = {k: _plain(v) for k, v in made["attrs"].items() if k not in _MADE}
        found[name] = made
    lines = [f"{json.dumps(key)}: {json.dumps(one)}" for key, one in found.items()]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def _rounded(value):
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return float(f"{value:.3g}") if isinstance(value, float) else _plain(value)


def _plain(value):
    return value.item() if isinstance(value, np.generic) else value


if __name__ == "__main__":
    pack(sys.argv[1:])
