"""Helpers used across the package: checks, files, hashes, float32 precision, progress."""
