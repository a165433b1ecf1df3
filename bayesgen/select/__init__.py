"""Choosing between models by their evidence."""

from bayesgen.select.surface import surface

__all__ = ["surface"]
