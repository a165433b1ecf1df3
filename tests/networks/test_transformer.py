"""Tests of `bayesgen.networks.transformer`."""

import math

import pytest
import torch
from torch.nn.functional import layer_norm, linear

from bayesgen.networks import Transformer


def rotated(x, place):
    """One head's vector at a place, turned pair by pair by angles in plain loops."""
    half = len(x) // 2
    out = x.clone()
    for i in range(half):
        angle = place * 1000.0 ** (-i / half)
        a, b = float(x[i]), float(x[half + i])
        out[i] = a * math.cos(angle) - b * math.sin(angle)
        out[half + i] = a * math.sin(angle) + b * math.cos(angle)
    return out


def reference(net, tokens):
    """Scores of one sequence with explicit attention, place by place and head by head."""
    x = net.scale * net.embedding.weight[tokens]
    width = x.shape[1]
    for block in net.blocks:
        q, k, v = linear(layer_norm(x, (width,)), block.queries_keys_values.weight).chunk(3, -1)
        size = width // block.heads
        rows = []
        for t in range(len(tokens)):
            heads = []
            for h in range(block.heads):
                own = slice(h * size, (h + 1) * size)
                query = rotated(q[t, own], t)
                keys = torch.stack([rotated(k[j, own], j) for j in range(t + 1)])
                weights = (keys @ query / math.sqrt(size)).softmax(0)
                heads.append(weights @ v[: t + 1, own])
            rows.append(torch.cat(heads))
        x = x + linear(torch.stack(rows), block.attended.weight)
        inner = linear(layer_norm(x, (width,)), block.inner.weight).clamp(min=0) ** 2
        x = x + linear(inner, block.outer.weight)
    return linear(layer_norm(x, (width,)), net.scores.weight)


def test_scores_are_those_of_explicit_attention():
    net = Transformer(16, 2, 2, vocabulary=11).double()
    tokens = torch.randint(11, (2, 6))
    with torch.no_grad():
        for row, found in zip(tokens, net(tokens), strict=True):
            torch.testing.assert_close(found, reference(net, row))


@pytest.mark.parametrize("T", [1, 2, 9])
def test_scores_depend_on_earlier_tokens_of_their_row_only(T):
    net, tokens = Transformer(16, 2, 2, vocabulary=11), torch.randint(11, (3, T))
    whole = net(tokens)
    for t in range(T):
        changed = tokens.clone()
        changed[:, t + 1 :] = (changed[:, t + 1 :] + 1) % 11
        torch.testing.assert_close(net(changed)[:, : t + 1], whole[:, : t + 1])
    torch.testing.assert_close(net(tokens[1:2]), whole[1:2])
    if T > 1:
        changed = tokens.clone()
        changed[:, 0] = (changed[:, 0] + 1) % 11
        assert not torch.allclose(net(changed)[:, -1], whole[:, -1])


def test_number_of_weights_is_as_stated_and_all_are_matrices():
    net = Transformer(32, 3, 4, vocabulary=50)
    assert sum(p.numel() for p in net.parameters()) == 12 * 3 * 32**2 + 2 * 50 * 32
    assert all(p.ndim == 2 for p in net.parameters())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 30}, "width must be a multiple of 2 · heads = 8, got 30"),
        ({"width": 0}, "width must be an integer"),
        ({"layers": 0}, "layers must be an integer"),
        ({"heads": 0}, "heads must be an integer"),
        ({"vocabulary": 1}, "vocabulary must be an integer of at least 2"),
        ({"vocabulary": 2.5}, "vocabulary must be an integer"),
    ],
)
def test_bad_settings_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        Transformer(**arguments)


@pytest.mark.parametrize(
    ("tokens", "error"),
    [
        (torch.zeros(3, dtype=torch.int64), ValueError),
        (torch.zeros(3, 0, dtype=torch.int64), ValueError),
        (torch.zeros(3, 4), TypeError),
        (torch.zeros(3, 4, dtype=torch.uint8), TypeError),
    ],
)
def test_bad_tokens_raise(tokens, error):
    with pytest.raises(error, match="tokens must"):
        Transformer(16, 1, 2)(tokens)
