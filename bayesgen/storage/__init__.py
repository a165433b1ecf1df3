"""Posteriors as files: plain numbers and text, which are read without running code of the file."""

from bayesgen.storage.file import load, load_columns, save

__all__ = ["load", "load_columns", "save"]
