"""Files of posteriors: what they hold beside the posterior, and the checks when one is read.

A file is an archive with two texts. "about" says what the file is: format, versions, the kind of
posterior, the fingerprint of its data, and which parts must be given again. "content" holds the
nodes of `bayesgen.storage.encoding`: the posterior, what the record of provenance holds of it, and
a few predictions, with which parts that are given again are compared.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bayesgen import provenance
from bayesgen._internal import archive, files
from bayesgen.data.scaled_columns import ScaledColumns
from bayesgen.posterior.posterior import Posterior
from bayesgen.storage.decoding import Decoder, PartError
from bayesgen.storage.encoding import Encoder

# Version of the format of files.
FORMAT = 1
_KIND = "bayesgen posterior"
# Number of training inputs whose predictions are stored, and the allowed relative difference.
_ROWS, _ALLOWED = 3, 1e-4


def save(
    posterior: Posterior, path: str | os.PathLike[str], *, columns: ScaledColumns | None = None
) -> None:
    """Write a posterior to a file; see `bayesgen.models.reporting.Reporting.save`.

    Args:
        posterior: the posterior.
        path: the file.
        columns: the columns of the table that it was fitted to, which `load_columns` reads.
    """
    path = _path(path)
    if path.is_dir():
        raise IsADirectoryError(f"path must be a file, got the folder {path}")
    files.writable(path.parent)
    data = posterior._observations()
    posterior.learnt_from()  # the file holds the provenance that is known here
    encoder = Encoder()
    content = {"posterior": encoder.value(posterior)}
    content["record"] = encoder.value(provenance.entries(posterior._given(), data))
    content["examples"] = encoder.value(_examples(posterior) if encoder.given else None)
    found = encoder.finish(content)
    about = {
        "kind": _KIND,
        "format": FORMAT,
        "versions": {name: metadata.version(name) for name in ("bayesgen", "torch", "gpytorch")},
        "posterior": type(posterior).__name__,
        "data": None if data is None else data.fingerprint,
        "observations": posterior.observed.n,
        "given": [list(part) for part in found.given],
        "arrays": len(found.arrays),
    }
    texts = {"about": about, "content": {"nodes": found.nodes, "root": content}}
    if columns is not None:
        texts["columns"] = columns.to_text()
    archive.write(path, archive.Archive(texts, found.arrays))


def load(
    path: str | os.PathLike[str],
    *,
    kernel: Any = None,
    mean: Any = None,
    basis: Any = None,
    prior_variance: Any = None,
    net: Any = None,
    likelihood: Any = None,
) -> Any:
    """Read a posterior that `posterior.save` has written.

    No code of the file is run: it names only classes of this package, and kernels, means and layers
    of gpytorch and torch. Parts of the model that are code of yours are given again. Each is what
    the model was made with; where a model has several functions of one kind, a dict from the names
    in the error message to the functions. Parameters of a kernel or network are those of the file,
    and the object that is given is left as it is. A few predictions are compared with stored ones.

    Args:
        path: the file.
        kernel: a kernel function, or a kernel of a class of your own.
        mean: a prior mean that is a function, or a module of a class of your own.
        basis: a basis that is a function or of a class of your own.
        prior_variance: a prior variance that is a function of the order.
        net: a network of a class of your own.
        likelihood: a likelihood of a class of your own.

    Returns:
        The posterior, of the class that was saved, on the devices that it was saved from.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, is not of `posterior.save`, or is of a newer format; a part
            of the model must be given again, does not belong to the posterior, or is not needed;
            a device is not available. The message names the file.

    Example:
        >>> import tempfile, torch, bayesgen as bg
        >>> from pathlib import Path
        >>> x = torch.linspace(-1, 1, 30, dtype=torch.float64)
        >>> posterior = bg.LinearModel(lambda x: torch.cat([x, x**2], 1)).fit(x, x.square())
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     posterior.save(Path(folder) / "squares.bayesgen")
        ...     again = bg.load(
        ...         Path(folder) / "squares.bayesgen", basis=lambda x: torch.cat([x, x**2], 1))
        >>> torch.equal(again.weights, posterior.weights)
        True
    """
    path = _path(path)
    about = _about(path)
    parts = {
        "kernel": kernel,
        "mean": mean,
        "basis": basis,
        "prior_variance": prior_variance,
        "net": net,
        "likelihood": likelihood,
    }
    given = {role: part for role, part in parts.items() if part is not None}
    return _read(path, about, given)


def load_columns(path: str | os.PathLike[str]) -> ScaledColumns | None:
    """The columns of the table that a posterior was fitted to, or None where the file has none.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or not of `posterior.save`.
    """
    path = _path(path)
    _about(path)
    try:
        return ScaledColumns.from_text(archive.read_text(path, "columns"))
    except KeyError:
        return None
    except ValueError as err:
        raise ValueError(f"{path} is damaged: {err}") from None


def _read(path: Path, about: Mapping[str, Any], given: Mapping[str, Any]) -> Posterior:
    damaged = ValueError(f"{path} is damaged: its contents cannot be read")
    try:
        needed = {role for role, _ in about["given"]}
        content = archive.read_text(path, "content")
        arrays = archive.read_arrays(path, about["arrays"])
        root = content["root"]
    except (KeyError, TypeError, ValueError):
        raise damaged from None
    spare = sorted(set(given) - needed)
    if spare:
        raise ValueError(
            f"{' and '.join(spare)} must not be given for {path}, which holds all of it"
        )
    try:
        decoder = Decoder(content["nodes"], arrays, given)
        found = {name: decoder.value(value) for name, value in root.items()}
        posterior = found["posterior"]
        if not isinstance(posterior, Posterior) or type(posterior).__name__ != about["posterior"]:
            raise damaged
        same = _fingerprint(posterior) == about["data"]
    except PartError as err:
        raise ValueError(f"{path} cannot be loaded, because {err}") from None
    except Exception:
        raise damaged from None
    if not same:
        raise ValueError(f"{path} is damaged: its data are not those that it was saved with")
    _compare(path, found["examples"], posterior, given)
    provenance.restore(found["record"])
    return posterior


def _about(path: Path) -> dict[str, Any]:
    """What a file says of itself, after a check that it can be read."""
    foreign = ValueError(f"{path} is not a file of posterior.save, or it is damaged")
    try:
        about = archive.read_text(path, "about")
    except FileNotFoundError:
        raise FileNotFoundError(
            f"path must be a file of posterior.save, there is no {path}"
        ) from None
    except (KeyError, ValueError):
        raise foreign from None
    if not isinstance(about, dict) or about.get("kind") != _KIND:
        raise foreign
    number = about.get("format")
    if not isinstance(number, int):
        raise foreign
    if number > FORMAT:
        version = about.get("versions", {}).get("bayesgen", "a newer version")
        raise ValueError(
            f"{path} is in format {number} of bayesgen {version}, and bayesgen "
            f"{metadata.version('bayesgen')} reads formats up to {FORMAT}: use that version"
        )
    return about


def _path(path: Any) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path must be a path of a file, got {type(path).__name__}")
    return Path(path)


def _fingerprint(posterior: Posterior) -> str | None:
    """The fingerprint of the data, computed from the data themselves."""
    known, posterior._data = posterior._data, None
    data = posterior._observations()
    posterior._data = known
    return None if data is None else data.fingerprint


def _examples(posterior: Any) -> dict[str, Tensor] | None:
    """Some inputs and the posterior mean there, or None where the inputs are no tensor."""
    x = posterior._inputs()
    if not isinstance(x, Tensor):
        return None
    some = x[:_ROWS].clone()
    return {"x": some, "mean": posterior.mean(some).detach()}


def _compare(path: Path, examples: Any, posterior: Any, given: Mapping[str, Any]) -> None:
    """Compare predictions with the stored ones, where parts were given again."""
    if not given or examples is None:
        return
    x, wanted = examples["x"], examples["mean"]
    try:
        found = posterior.mean(x)
    except Exception as err:
        raise ValueError(
            f"{path} cannot be loaded with this {' and '.join(given)}: "
            f"{str(err).splitlines()[0] if str(err) else type(err).__name__}"
        ) from err
    scale = float(wanted.abs().max().clamp(min=torch.finfo(wanted.dtype).tiny))
    if found.shape != wanted.shape or float((found - wanted).abs().max()) > _ALLOWED * scale:
        raise ValueError(
            f"{path} cannot be loaded with this {' and '.join(given)}, because the predictions "
            "differ from those of the posterior that was saved"
        )
