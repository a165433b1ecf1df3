"""An adaptive arithmetic coder that turns symbols into bytes and back without a frequency table.

Encoder and decoder count the symbols as they go, starting from one each. The code of k symbols out
of L takes about k times their entropy, plus (L − 1)/2 · log₂ k bits because the frequencies are not
known in advance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bayesgen._internal import checks

_BITS = 32
_TOP = (1 << _BITS) - 1
_HALF, _QUARTER = 1 << (_BITS - 1), 1 << (_BITS - 2)
# Largest number of symbols; larger counts could leave a symbol with an empty interval.
MOST = 1 << 24


def encode(symbols: Sequence[int], alphabet: int) -> bytes:
    """Encode a sequence of symbols as bytes.

    Args:
        symbols: integers in 0..alphabet − 1.
        alphabet: L ≥ 1.

    Raises:
        ValueError: a symbol is outside the alphabet; there are too many symbols.

    Source: Witten, Neal & Cleary (1987).

    Example:
        >>> code = encode([0, 1, 0, 0, 2] * 100, 3)
        >>> len(code) < 100, decode(code, 500, 3)[:5]
        (True, [0, 1, 0, 0, 2])
    """
    checks.whole("alphabet", alphabet)
    if len(symbols) > MOST:
        raise ValueError(f"symbols must be at most {MOST:,}, got {len(symbols):,}")
    for symbol in symbols:
        if not 0 <= symbol < alphabet:
            raise ValueError(f"symbols must lie in 0..{alphabet - 1}, got {symbol}")
    counts, bits = [1] * alphabet, _Bits()
    low, high = 0, _TOP
    for symbol in symbols:
        low, high = _narrow(low, high, counts, symbol)
        counts[symbol] += 1
        while True:
            if high < _HALF:
                bits.put(0)
            elif low >= _HALF:
                bits.put(1)
                low, high = low - _HALF, high - _HALF
            elif low >= _QUARTER and high < 3 * _QUARTER:
                bits.pending += 1
                low, high = low - _QUARTER, high - _QUARTER
            else:
                break
            low, high = 2 * low, 2 * high + 1
    bits.pending += 1
    bits.put(0 if low < _QUARTER else 1)
    return bits.packed()


def decode(code: bytes, count: int, alphabet: int) -> list[int]:
    """Decode the symbols from a code.

    Args:
        code: result of `encode`; bits beyond its end are read as zeros.
        count: number of symbols.
        alphabet: L, the size of the alphabet.
    """
    checks.whole("alphabet", alphabet)
    checks.whole("count", count, 0)
    stream = _read(code)
    value = 0
    for _ in range(_BITS):
        value = 2 * value + next(stream)
    counts, symbols = [1] * alphabet, []
    low, high = 0, _TOP
    for _ in range(count):
        total = sum(counts)
        target = ((value - low + 1) * total - 1) // (high - low + 1)
        symbol, before = 0, 0
        while before + counts[symbol] <= target:
            before += counts[symbol]
            symbol += 1
        low, high = _narrow(low, high, counts, symbol)
        counts[symbol] += 1
        symbols.append(symbol)
        while True:
            if high < _HALF:
                shift = 0
            elif low >= _HALF:
                shift = _HALF
            elif low >= _QUARTER and high < 3 * _QUARTER:
                shift = _QUARTER
            else:
                break
            low, high = 2 * (low - shift), 2 * (high - shift) + 1
            value = 2 * (value - shift) + next(stream)
    return symbols


def _narrow(low: int, high: int, counts: list[int], symbol: int) -> tuple[int, int]:
    """The part of the interval [low, high] that belongs to a symbol."""
    width, total, before = high - low + 1, sum(counts), sum(counts[:symbol])
    return (
        low + width * before // total,
        low + width * (before + counts[symbol]) // total - 1,
    )


class _Bits:
    """Bits of a code in order; pending bits are decided by the next one."""

    def __init__(self) -> None:
        self.bits: list[int] = []
        self.pending = 0

    def put(self, bit: int) -> None:
        self.bits += [bit, *[1 - bit] * self.pending]
        self.pending = 0

    def packed(self) -> bytes:
        padded = self.bits + [0] * (-len(self.bits) % 8)
        return bytes(int("".join(map(str, padded[i : i + 8])), 2) for i in range(0, len(padded), 8))


def _read(code: bytes) -> Iterator[int]:
    for byte in code:
        for place in range(7, -1, -1):
            yield (byte >> place) & 1
    while True:
        yield 0
