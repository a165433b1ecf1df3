"""Numbers with their nouns, for messages and figures."""

from __future__ import annotations


def plural(count: int, noun: str, several: str = "") -> str:
    """A count and its noun, in the singular for one.

    Args:
        count: the count.
        noun: the noun in the singular.
        several: the noun in the plural; with an "s" by default.

    Example:
        >>> plural(1, "seed"), plural(1500, "row"), plural(2, "Matérn kernel")
        ('1 seed', '1,500 rows', '2 Matérn kernels')
    """
    return f"{count:,} {noun if count == 1 else several or noun + 's'}"


def without_rows(count: int) -> str:
    """The clause that says how many rows of a table were left out.

    Example:
        >>> without_rows(1)
        '1 row with missing values was left out'
    """
    return f"{plural(count, 'row')} with missing values {'was' if count == 1 else 'were'} left out"
