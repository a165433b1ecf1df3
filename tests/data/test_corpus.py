"""Tests of `bayesgen.data.corpus`."""

import pickle
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

import bayesgen as bg
from bayesgen.data import Corpus, corpus as module, text

DOCUMENTS = st.lists(st.lists(st.integers(0, 6), max_size=8), min_size=1, max_size=8)


@given(DOCUMENTS)
def test_corpus_holds_the_documents_that_have_tokens(documents):
    kept = [d for d in documents if d]
    if not kept:
        with pytest.raises(ValueError, match="at least one token"):
            Corpus("toy", documents, 7)
        return
    found = Corpus("toy", documents, 7)
    assert [d.tolist() for d in found.documents] == kept
    assert found.tokens == sum(map(len, kept))
    assert all(d.dtype == torch.uint8 for d in found.documents)


@given(DOCUMENTS, st.integers(1, 40), st.integers(0, 5))
def test_sample_holds_whole_documents_and_just_enough(documents, tokens, seed):
    corpus = Corpus("toy", [*documents, [0]], 7)
    some = corpus.sample(tokens, seed)
    assert some.tokens >= min(tokens, corpus.tokens)
    assert some.tokens - len(some.documents[-1]) < tokens
    rest = [d.tolist() for d in corpus.documents]
    for d in some.documents:
        rest.remove(d.tolist())
    assert some.fingerprint == corpus.sample(tokens, seed).fingerprint


def test_sample_takes_documents_in_random_order():
    corpus = Corpus("toy", [[i] for i in range(50)], 50)
    orders = {tuple(int(d) for d in corpus.sample(50, seed).documents) for seed in range(4)}
    assert len(orders) == 4


def test_fingerprint_tells_documents_order_boundaries_and_vocabulary_apart():
    corpora = [
        Corpus("a", [[0, 1], [2]], 3),
        Corpus("a", [[0], [1, 2]], 3),
        Corpus("a", [[2], [0, 1]], 3),
        Corpus("a", [[0, 1], [2]], 4),
        Corpus("a", [[0, 1], [1]], 3),
    ]
    assert len({c.fingerprint for c in corpora}) == 5
    same = Corpus("b", [np.array([0, 1], dtype=np.int16), torch.tensor([2])], 3)
    assert same.fingerprint == corpora[0].fingerprint


def test_corpus_owns_its_tokens_and_can_be_compared_and_pickled():
    tokens = torch.tensor([0, 1, 2], dtype=torch.uint8)
    corpus = Corpus("toy", [tokens], 256)
    tokens.zero_()
    assert corpus.documents[0].tolist() == [0, 1, 2]
    assert corpus == corpus
    assert (corpus == Corpus("toy", [[0, 1, 2]], 256)) is False
    assert len({corpus, corpus}) == 1
    assert pickle.loads(pickle.dumps(corpus)).fingerprint == corpus.fingerprint
    assert repr(corpus) == "Corpus(toy: 1 documents, 3 tokens, V = 256)"


def test_large_vocabularies_have_int64_tokens():
    assert Corpus("toy", [[0, 50_000]], 50_257).documents[0].dtype == torch.int64
    assert Corpus("toy", [np.zeros(3, dtype=np.uint8)], 300).documents[0].dtype == torch.int64


@pytest.mark.parametrize(
    ("documents", "vocabulary", "error", "message"),
    [
        ([[0]], 1, ValueError, "vocabulary must have at least 2 tokens, got 1"),
        ([[0]], 2.0, TypeError, "vocabulary must be an integer"),
        ([[0]], True, TypeError, "vocabulary must be an integer"),
        ([[0, 2]], 2, ValueError, r"documents\[0\] must hold tokens in 0\.\.1"),
        ([[0], [-1]], 2, ValueError, r"documents\[1\] must hold tokens in 0\.\.1"),
        ([[0.0]], 2, TypeError, r"documents\[0\] must hold integer"),
        ([[True]], 2, TypeError, r"documents\[0\] must hold integer"),
        (["abc"], 2, TypeError, r"documents\[0\] must hold integers \(T,\), got str"),
        ([["a"]], 2, TypeError, r"documents\[0\] must be a tensor or an array"),
        ([0, 1], 2, ValueError, r"documents\[0\] must have shape \(T,\)"),
        ([[[0]]], 2, ValueError, r"documents\[0\] must have shape \(T,\)"),
        ([[0], [[0], [0, 1]]], 2, TypeError, r"documents\[1\] must be a tensor"),
        ([], 2, ValueError, "at least one token"),
        ([[], []], 2, ValueError, "at least one token"),
        (3, 2, TypeError, "documents must be a sequence of documents"),
        (None, 2, TypeError, "documents must be a sequence of documents"),
        ("text", 2, TypeError, "documents must be a sequence of documents"),
        ([torch.zeros(3, dtype=torch.int64, device="meta")], 2, ValueError, "must be on the CPU"),
    ],
)
def test_bad_documents_raise(documents, vocabulary, error, message):
    with pytest.raises(error, match=message):
        Corpus("toy", documents, vocabulary)


@pytest.mark.parametrize("tokens", [0, -1, 1.5, None])
def test_bad_sizes_of_a_sample_raise(tokens):
    with pytest.raises(ValueError, match="tokens must be an integer of at least 1"):
        Corpus("toy", [[0]], 2).sample(tokens)


@pytest.fixture
def folder(tmp_path):
    """Two texts, one in a subfolder, an empty one, and a file of another kind."""
    (tmp_path / "b.txt").write_text("bé\n", encoding="utf-8")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.txt").write_text("a", encoding="utf-8")
    (tmp_path / "empty.txt").touch()
    (tmp_path / "c.md").write_text("c", encoding="utf-8")
    return tmp_path


def test_one_file_is_one_document_of_characters_or_bytes(folder):
    file = folder / "b.txt"
    characters = text(file)
    assert characters.documents[0].tolist() == [ord("b"), 26, ord("\n")]
    assert (characters.name, characters.vocabulary) == ("b.txt", 128)
    raw = text(str(file), alphabet="bytes")
    assert raw.documents[0].tolist() == list("bé\n".encode())
    assert raw.vocabulary == 256


def test_folders_are_read_with_their_subfolders_in_order(folder):
    found = text(folder)
    assert [len(d) for d in found.documents] == [3, 1]
    assert found.name == folder.name
    assert text(folder, pattern="*.md").tokens == 1
    assert text(folder, pattern="*").tokens == 5
    assert text(folder, pattern="sub/*.txt").tokens == 1


def test_a_folder_has_its_name_also_as_a_relative_path(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert text(".").name == folder.name


@given(st.text(max_size=30))
def test_characters_beyond_ascii_are_one_token_each(tmp_path_factory, words):
    file = tmp_path_factory.getbasetemp() / "characters.txt"
    file.write_bytes(words.encode("utf-8", "ignore"))
    wanted = [min(ord(c), 128) if ord(c) < 128 else 26 for c in words]
    if not wanted:
        with pytest.raises(ValueError, match="empty file"):
            text(file)
        return
    assert text(file).documents[0].tolist() == wanted


@pytest.mark.parametrize("size", [1, 70_000])
def test_files_that_are_not_utf8_need_the_alphabet_of_bytes(tmp_path, size):
    file = tmp_path / "x.bin"
    file.write_bytes(b"a" * (size - 1) + b"\xff")
    with pytest.raises(ValueError, match=f"at byte {size - 1}; alphabet='bytes'") as caught:
        text(file)
    assert caught.value.__cause__ is None
    assert "\n" not in str(caught.value)
    assert text(file, alphabet="bytes").tokens == size


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"path": "nowhere"}, ValueError, "a file or a folder, got '.*nowhere', which is neither"),
        ({"path": "nowhere/\0"}, ValueError, "path must be a file or a folder"),
        ({"path": "x" * 5000}, ValueError, "path must be"),
        ({"path": 3}, TypeError, "path must be that of a file or a folder, got int"),
        ({"path": "empty.txt"}, ValueError, "path must hold text, got 1 empty file"),
        ({"pattern": "*.c"}, ValueError, r"path must hold files of the pattern '\*\.c'"),
        ({"pattern": ""}, ValueError, "pattern must be|path must hold files of the pattern ''"),
        ({"pattern": "/x"}, ValueError, "pattern must be"),
        ({"pattern": "**x/"}, ValueError, "pattern must be|path must hold files"),
        ({"pattern": None}, TypeError, "pattern must be a word"),
        ({"pattern": "empty*"}, ValueError, "path must hold text, got 1 empty file"),
        ({"alphabet": "latin"}, ValueError, "alphabet must be one of"),
    ],
)
def test_bad_paths_patterns_and_alphabets_raise(folder, arguments, error, message):
    path = arguments.pop("path", "")
    path = folder / path if isinstance(path, str) else path
    with pytest.raises(error, match=message) as caught:
        text(path, **arguments)
    assert "\n" not in str(caught.value)


def test_files_and_folders_that_cannot_be_read_raise_one_sentence(folder, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", "x")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", refuse)
        with pytest.raises(ValueError, match=r"b\.txt cannot: Permission denied$"):
            text(folder / "b.txt")
    monkeypatch.setattr(module.os, "listdir", refuse)
    with pytest.raises(ValueError, match="path must be readable"):
        text(folder)


def test_standard_library_is_read_without_entering_other_packages(tmp_path, monkeypatch):
    """The search is that of all paths, in the same order."""
    for name in ("b.py", "a.py", "json/x.py", "json/y.txt", "site-packages/z.py", "json/test/t.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name, encoding="utf-8")
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    found = text()
    words = ["".join(map(chr, d.tolist())) for d in found.documents]
    every = sorted(f.relative_to(tmp_path) for f in tmp_path.rglob("*.py"))
    assert words == [str(f) for f in every if not module._APART & set(f.parts)]
    for file in tmp_path.rglob("*.py"):
        file.unlink()
    with pytest.raises(ValueError, match="path must be given"):
        text()


def test_public_names():
    assert bg.data.text is text
    assert bg.data.Corpus is Corpus
