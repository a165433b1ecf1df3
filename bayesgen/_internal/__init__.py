"""Helpers that every room may use: validation, files, hashes, float32 arithmetic, progress."""
