"""A small transformer decoder for sequences of tokens."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from bayesgen._internal import checks

# Longest wavelength of the rotary position encoding, in tokens, up to a factor of 2π.
_LONGEST = 1000.0


class Transformer(nn.Module):
    """A causal transformer from tokens (n, T) to scores of the next tokens (n, T, V).

    Pre-norm blocks of causal attention with rotary positions (Su et al. 2021) and of a layer with
    squared rectifiers. The normalisations have no parameters and the layers no biases, so that the
    network has about 12 · layers · width² + 2V · width weights, which all are matrices.

    Args:
        width: number of features of a token; a multiple of twice the number of heads.
        layers: number of blocks.
        heads: number of attention heads.
        vocabulary: V, the number of different tokens.

    Raises:
        ValueError: an argument is out of range.

    Source: Vaswani et al. (2017).

    Example:
        >>> net = Transformer(32, 2, 4, vocabulary=128)
        >>> net(torch.zeros(3, 10, dtype=torch.int64)).shape
        torch.Size([3, 10, 128])
    """

    def __init__(
        self, width: int = 64, layers: int = 2, heads: int = 4, *, vocabulary: int = 128
    ) -> None:
        super().__init__()
        checks.whole("heads", heads)
        if checks.whole("width", width) % (2 * heads):
            raise ValueError(f"width must be a multiple of 2 · heads = {2 * heads}, got {width}")
        checks.whole("vocabulary", vocabulary, 2)
        self.scale = math.sqrt(width)
        self.embedding = nn.Embedding(vocabulary, width)
        blocks = [_Block(width, heads) for _ in range(checks.whole("layers", layers))]
        self.blocks = nn.ModuleList(blocks)
        self.normalise = nn.LayerNorm(width, elementwise_affine=False)
        self.scores = nn.Linear(width, vocabulary, bias=False)
        # Random subspaces begin with uniform predictions.
        self.scores.initial_scale = 0.0  # type: ignore[assignment]

    def forward(self, tokens: Tensor) -> Tensor:
        """Scores of the next token at each place.

        Args:
            tokens: integers in 0..V − 1, (n, T).

        Returns:
            The scores, (n, T, V); those at a place depend on the tokens up to it.

        Raises:
            TypeError: the tokens are not integers.
            ValueError: they have another shape, or there are none.
        """
        if tokens.dtype not in (torch.int64, torch.int32):
            raise TypeError(f"tokens must be integers (int64 or int32), got {tokens.dtype}")
        if tokens.ndim != 2 or not tokens.numel():
            raise ValueError(f"tokens must have shape (n, T), not empty, got {tuple(tokens.shape)}")
        x = self.scale * self.embedding(tokens)
        for block in self.blocks:
            x = block(x)
        found: Tensor = self.scores(self.normalise(x))
        return found


class _Block(nn.Module):
    """Causal attention and a two-layer network, each added to its input."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.normalise = nn.LayerNorm(width, elementwise_affine=False)
        self.queries_keys_values = nn.Linear(width, 3 * width, bias=False)
        self.attended = nn.Linear(width, width, bias=False)
        self.inner = nn.Linear(width, 4 * width, bias=False)
        self.outer = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        n, T, width = x.shape
        parts = self.queries_keys_values(self.normalise(x))
        q, k, v = parts.view(n, T, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        angles = _angles(T, width // self.heads, x)
        attended = functional.scaled_dot_product_attention(
            _rotated(q, angles), _rotated(k, angles), v, is_causal=True
        )
        x = x + self.attended(attended.transpose(1, 2).reshape(n, T, width))
        changed: Tensor = x + self.outer(functional.relu(self.inner(self.normalise(x))).square())
        return changed


def _angles(T: int, size: int, like: Tensor) -> Tensor:
    """Angles of the rotary encoding, (T, size/2)."""
    half = size // 2
    rates = _LONGEST ** (-torch.arange(half, device=like.device, dtype=like.dtype) / half)
    return torch.arange(T, device=like.device, dtype=like.dtype)[:, None] * rates


def _rotated(x: Tensor, angles: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)
