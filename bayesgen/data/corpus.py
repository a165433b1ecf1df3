"""Texts as documents of tokens: a user's files, or the sources of Python's standard library."""

from __future__ import annotations

import hashlib
import os
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bayesgen._internal import checks
from bayesgen._internal.words import plural

# Number of tokens of each alphabet.
_ALPHABETS = {"ascii": 128, "bytes": 256}
# Token of a character that is not in ASCII; the control character "substitute".
_SUBSTITUTE = 26
# Largest share of such characters in a text of so many or more.
_BEYOND, _MANY = 0.5, 100
# Parts of the standard library that are left out: what some systems package apart, tests, and
# modules that are tables made by a program.
_APART = {
    *("site-packages", "dist-packages", "test", "tests", "idle_test", "encodings", "pydoc_data"),
    *("idlelib", "tkinter", "turtledemo", "lib2to3", "distutils"),
}


@dataclass(frozen=True, eq=False, repr=False)
class Corpus:
    """Documents of tokens 0..V − 1.

    Two corpora hold the same documents where their fingerprints are equal.

    Attributes:
        name: name of the text.
        documents: the tokens of each document that has any, uint8 for V up to 256, else int64.
        vocabulary: V, the number of different tokens, chosen before the text was seen.

    Raises:
        TypeError: the documents are not a sequence, or tokens are not integers.
        ValueError: the vocabulary has fewer than two tokens; there are no tokens; one is out of
            range; a document is not on the CPU.

    Example:
        >>> Corpus("toy", [[0, 1, 1], [1]], vocabulary=2).tokens
        4
    """

    name: str
    documents: tuple[Tensor, ...]
    vocabulary: int

    def __init__(self, name: str, documents: Iterable[Any], vocabulary: int) -> None:
        V = checks.integer(vocabulary)
        if V is None:
            raise TypeError(f"vocabulary must be an integer, got {vocabulary!r}")
        if V < 2:
            raise ValueError(
                f"vocabulary must have at least 2 tokens, got {vocabulary!r}: a text with one "
                "possible token has nothing to predict"
            )
        kind = torch.uint8 if V <= 256 else torch.int64
        kept = []
        if isinstance(documents, str | bytes) or not isinstance(documents, Iterable | Tensor):
            raise TypeError(
                "documents must be a sequence of documents, each with integers (T,), got "
                f"{type(documents).__name__}; bayesgen.data.text reads files"
            )
        for i, document in enumerate(documents):
            if isinstance(document, str | bytes):
                raise TypeError(
                    f"documents[{i}] must hold integers (T,), got {type(document).__name__}; "
                    "bayesgen.data.text reads files"
                )
            tokens = checks.as_tensor(f"documents[{i}]", document)
            if tokens.ndim != 1:
                raise ValueError(
                    f"documents[{i}] must have shape (T,), got {tuple(tokens.shape)}; one document "
                    "is a sequence with one element"
                )
            if tokens.device.type != "cpu":
                raise ValueError(f"documents[{i}] must be on the CPU, got {tokens.device}")
            if not len(tokens):
                continue
            if tokens.dtype != torch.uint8 or V < 256:
                tokens = _in_vocabulary(f"documents[{i}]", tokens, V)
            kept.append(checks.owned(tokens.to(kind)))
        if not kept:
            raise ValueError(f"documents must hold at least one token, got none in {name!r}")
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "documents", tuple(kept))
        object.__setattr__(self, "vocabulary", V)

    @property
    def tokens(self) -> int:
        """Number of tokens of all documents, n."""
        return sum(len(document) for document in self.documents)

    @property
    def fingerprint(self) -> str:
        """A hash of all documents in order."""
        digest = hashlib.sha256(f"{self.vocabulary}".encode())
        for document in self.documents:
            digest.update(f" {len(document)} ".encode() + document.cpu().numpy().tobytes())
        return digest.hexdigest()[:16]

    def sample(self, tokens: int, seed: int = 0) -> Corpus:
        """Whole documents in random order, until they hold at least this number of tokens.

        Args:
            tokens: number of tokens, at least 1; all documents are taken if they hold fewer.
            seed: seed of the order.

        Raises:
            ValueError: an argument is out of range.

        Example:
            >>> Corpus("toy", [[0, 1], [1, 1], [0, 0]], 2).sample(3).tokens
            4
        """
        checks.whole("tokens", tokens)
        generator = torch.Generator().manual_seed(checks.seed(seed))
        chosen, count = [], 0
        for i in torch.randperm(len(self.documents), generator=generator).tolist():
            if count >= tokens:
                break
            chosen.append(self.documents[i])
            count += len(chosen[-1])
        return Corpus(self.name, chosen, self.vocabulary)

    def __repr__(self) -> str:
        return (
            f"Corpus({self.name}: {len(self.documents):,} documents, {self.tokens:,} tokens, "
            f"V = {self.vocabulary})"
        )


def text(
    path: str | os.PathLike[str] | None = None,
    *,
    pattern: str = "*.txt",
    alphabet: str = "ascii",
) -> Corpus:
    """Read a text as a `Corpus` of characters or bytes; one file is one document.

    Args:
        path: a file, or a folder whose files are read in the order of their paths; None for the
            sources of the running Python's standard library, without tests, without modules that
            are tables, and without what some systems package apart. They are 8 million characters.
        pattern: pattern of the file names in a folder and in its subfolders. Hidden files and
            folders are left out, and a file with several names is read once.
        alphabet: "ascii", V = 128, where a character beyond ASCII is one "substitute" token; or
            "bytes" of UTF-8, V = 256. It must be chosen before the text is seen. "ascii" refuses a
            text with more than half of its characters beyond ASCII.

    Raises:
        TypeError: the path or the pattern is of another type.
        ValueError: there is no such file; a file or folder cannot be read, or is not UTF-8 text and
            the alphabet is "ascii"; there is no text; the pattern is not one of relative paths.

    Example:
        >>> library = text()
        >>> len(library.documents) > 100, library.vocabulary
        (True, 128)
    """
    checks.one_of("alphabet", alphabet, tuple(_ALPHABETS))
    name, files = _files(path, pattern)
    documents = [_tokens(file, alphabet) for file in files]
    if not any(len(document) for document in documents):
        raise ValueError(f"path must hold text, got {plural(len(files), 'empty file')} in {name}")
    if alphabet == "ascii":
        beyond = sum(int((document == _SUBSTITUTE).sum()) for document in documents)
        count = sum(len(document) for document in documents)
        share = beyond / count
        if share > _BEYOND and count >= _MANY:
            raise ValueError(
                f"path must hold text in ASCII, but {share:.0%} of the characters in {name} are "
                "not; alphabet='bytes' takes any text"
            )
    return Corpus(name, documents, _ALPHABETS[alphabet])


def _files(path: str | os.PathLike[str] | None, pattern: str) -> tuple[str, list[Path]]:
    """Name of a text, and its files."""
    if path is None:
        files = _library(Path(sysconfig.get_path("stdlib")))
        if not files:
            raise ValueError(
                "path must be given, because this Python holds no sources of its standard library"
            )
        return "python-standard-library", files
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path must be that of a file or a folder, got {type(path).__name__}")
    if not isinstance(pattern, str):
        raise TypeError(f"pattern must be a word such as '*.txt', got {type(pattern).__name__}")
    if not str(path):
        raise ValueError("path must be a file or a folder, got an empty path")
    place = Path(path)
    try:
        if place.is_file():
            return place.name, [place]
        folder = place.is_dir()
        if folder:
            os.listdir(place)  # rglob passes over folders that cannot be read
    except OSError as err:
        raise ValueError(f"path must be readable, but {place} is not: {err.strerror}") from None
    except ValueError as err:
        raise ValueError(f"path must be a file or a folder, got {str(path)!r}: {err}") from None
    if not folder:
        raise ValueError(f"path must be a file or a folder, got {str(path)!r}, which is neither")
    try:
        if ".." in pattern:
            raise ValueError
        files = sorted(file for file in place.rglob(pattern) if file.is_file())
    except (ValueError, NotImplementedError, IndexError):
        raise ValueError(
            f"pattern must be one of names in the folder, such as '*.txt', got {pattern!r}"
        ) from None
    own = {file.resolve(): file for file in reversed(files) if not _hidden(file, place)}
    if not own:
        raise ValueError(
            f"path must hold files of the pattern {pattern!r}, got a folder without any, {place}; "
            "pattern='*.md' would take others"
        )
    return place.resolve().name, sorted(own.values())


def _hidden(file: Path, folder: Path) -> bool:
    """Whether a part of a path below a folder begins with a dot."""
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _in_vocabulary(name: str, tokens: Tensor, V: int) -> Tensor:
    """Check for integers 0..V − 1."""
    if tokens.dtype == torch.bool or tokens.is_floating_point() or tokens.is_complex():
        raise TypeError(f"{name} must hold integer tokens, got dtype {tokens.dtype}")
    if int(tokens.min()) < 0 or int(tokens.max()) >= V:
        raise ValueError(
            f"{name} must hold tokens in 0..{V - 1}, as vocabulary is {V}, got values from "
            f"{int(tokens.min())} to {int(tokens.max())}"
        )
    return tokens.long()


def _library(folder: Path) -> list[Path]:
    """Source files of a standard library; the folders that are left out are not entered."""
    files = []
    for here, inside, names in os.walk(folder):
        inside[:] = [name for name in inside if name not in _APART]
        files += [Path(here, name) for name in names if name.endswith(".py")]
    return sorted(files)


def _tokens(file: Path, alphabet: str) -> Tensor:
    """The tokens of one file."""
    try:
        content = file.read_bytes()
    except OSError as err:
        raise ValueError(
            f"path must hold files that can be read, but {file} cannot: {err.strerror or err}"
        ) from None
    if alphabet == "bytes":
        return torch.from_numpy(np.frombuffer(content, dtype=np.uint8).copy())
    try:
        points = np.frombuffer(content.decode("utf-8-sig").encode("utf-32-le"), dtype=np.uint32)
    except UnicodeDecodeError as err:
        raise ValueError(
            f"path must hold UTF-8 text, but {file} does not at byte {err.start}; "
            "alphabet='bytes' takes any file"
        ) from None
    return torch.from_numpy(np.where(points < 128, points, _SUBSTITUTE).astype(np.uint8))
