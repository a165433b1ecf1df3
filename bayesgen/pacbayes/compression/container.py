"""The bytes of a compressed network: length, checksum, settings, levels and symbols.

    length · checksum · seed · dimension · levels · codebook (float16) · arithmetic code

Integers are variable-length: seven bits a byte, the lowest first, with the high bit set where more
bytes follow. The length counts the bytes after the checksum, so that the code says where it ends.
The checksum covers those bytes and a description of the architecture, so that a code that is
damaged, cut off or meant for another network is refused. All bytes count as bits of the code.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bayesgen.pacbayes.compression import arithmetic_coding

# Bytes of the checksum; a wrong code or network passes with a probability of 2⁻²⁴.
_CHECKSUM = 3
# Largest seed, which generators of torch distinguish.
LARGEST_SEED = (1 << 32) - 1


@dataclass(frozen=True)
class Container:
    """What a code holds.

    Attributes:
        seed: seed of w₀ and P.
        codebook: the levels, (L,), float16 on the CPU.
        symbols: index of the level of each coordinate, (k,).
    """

    seed: int
    codebook: Tensor
    symbols: Tensor

    def packed(self, architecture: bytes) -> bytes:
        """The code, for a network of an architecture; see `architecture.description`."""
        levels = len(self.codebook)
        body = (
            integer(self.seed)
            + integer(len(self.symbols))
            + bytes([levels])
            + self.codebook.numpy().astype("<f2").tobytes()
            + arithmetic_coding.encode(self.symbols.tolist(), levels)
        )
        return integer(len(body)) + _checksum(architecture, body) + body


def unpacked(code: bytes, architecture: bytes, most: int) -> Container:
    """Read a code that is meant for an architecture.

    Args:
        code: the code.
        architecture: description of the network that it is decoded into.
        most: largest dimension, the number of parameters.

    Raises:
        TypeError: the code is not made of bytes.
        ValueError: the code is incomplete, too long, damaged or of another architecture.
    """
    if not isinstance(code, bytes | bytearray | memoryview):
        raise TypeError(f"code must be bytes, got {type(code).__name__}")
    code = bytes(code)
    length, start = read_integer(code, 0)
    if len(code) - start != _CHECKSUM + length:
        raise ValueError(
            f"code must hold {start + _CHECKSUM + length:,} bytes, as its beginning says, got "
            f"{len(code):,}: it is cut off, too long or no code"
        )
    body = code[start + _CHECKSUM :]
    if code[start : start + _CHECKSUM] != _checksum(architecture, body):
        raise ValueError(
            "code must be that of this network and projection, undamaged: its checksum does not "
            "match; the network that it is decoded into must have the same modules, parameters, "
            "dtype and buffers as the one that was compressed"
        )
    seed, at = read_integer(body, 0)
    dimension, at = read_integer(body, at)
    levels = body[at] if at < len(body) else 0
    stop = at + 1 + 2 * levels
    if levels < 2 or not levels <= dimension <= most or seed > LARGEST_SEED or len(body) < stop:
        raise ValueError(
            f"code must hold 2..255 levels and a dimension from their number to {most:,}, got "
            f"{levels} levels, dimension {dimension:,} and {len(body)} bytes"
        )
    codebook = torch.from_numpy(np.frombuffer(body[at + 1 : stop], dtype="<f2").copy())
    if not torch.isfinite(codebook).all():
        raise ValueError("code must hold finite levels, got NaN or infinite ones")
    symbols = torch.tensor(arithmetic_coding.decode(body[stop:], dimension, levels))
    return Container(seed, codebook, symbols)


def _checksum(architecture: bytes, body: bytes) -> bytes:
    return hashlib.blake2b(architecture + body, digest_size=_CHECKSUM).digest()


def integer(number: int) -> bytes:
    """The bytes of an integer of any size, seven bits each."""
    found = bytearray()
    while True:
        number, low = number >> 7, number & 127
        found.append(low | (128 if number else 0))
        if not number:
            return bytes(found)


def read_integer(code: bytes, start: int) -> tuple[int, int]:
    """The variable-length integer that begins at an index, and the index after it."""
    number = 0
    for place, byte in enumerate(code[start : start + 5]):
        number |= (byte & 127) << (7 * place)
        if not byte & 128:
            return number, start + place + 1
    raise ValueError(f"code must hold at least its header, got {len(code)} bytes")
