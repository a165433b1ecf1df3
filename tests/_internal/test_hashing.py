"""Tests of `bayesgen._internal.hashing`."""

import subprocess
import sys

import torch

from bayesgen._internal.hashing import fingerprint


def test_equal_parts_have_equal_fingerprints():
    x = torch.arange(6.0).reshape(2, 3)
    assert fingerprint(x, "a", 1) == fingerprint(x.clone(), "a", 1)
    assert fingerprint(x.mT) == fingerprint(x.mT.contiguous())  # The layout in memory is ignored.
    assert fingerprint(x.requires_grad_()) == fingerprint(x.detach())


def test_values_shapes_dtypes_and_order_change_the_fingerprint():
    x = torch.arange(6.0)
    found = {
        fingerprint(x),
        fingerprint(x.reshape(2, 3)),
        fingerprint(x.double()),
        fingerprint(x + 1e-6),
        fingerprint(x.int()),
        fingerprint(x, "a"),
        fingerprint("a", x),
    }
    assert len(found) == 7


def test_fingerprint_is_the_same_in_every_process():
    code = "from bayesgen._internal.hashing import fingerprint as f; print(f('text', 1.5, (2, 3)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == fingerprint("text", 1.5, (2, 3))
