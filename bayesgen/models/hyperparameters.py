"""Which hyperparameters a fit is to learn."""

from __future__ import annotations

from collections.abc import Iterable


def to_learn(
    hyperparameters: str | Iterable[str], names: tuple[str, ...], default: frozenset[str]
) -> frozenset[str]:
    """The names that are free: those of "evidence", none for "fixed", or those given.

    Args:
        hyperparameters: what the user passed.
        names: all that the model knows.
        default: those that "evidence" stands for.

    Raises:
        ValueError: a name that the model does not know.

    Example:
        >>> sorted(to_learn("evidence", ("scale", "noise"), frozenset({"scale", "noise"})))
        ['noise', 'scale']
    """
    if hyperparameters == "evidence":
        return default
    if hyperparameters == "fixed":
        return frozenset()
    given = {hyperparameters} if isinstance(hyperparameters, str) else set(hyperparameters)
    unknown = sorted(str(name) for name in given if name not in names)
    if unknown:
        raise ValueError(
            'hyperparameters must be "evidence", "fixed" or some of the names '
            f"{', '.join(names)}, got {', '.join(unknown)}"
        )
    return frozenset(given)
