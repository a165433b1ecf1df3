"""The type of the functions that long computations report their progress to."""

from __future__ import annotations

from collections.abc import Callable

# Called as progress(done, expected, what) after each step: steps done, steps expected, a phrase
# that says what was done.
Progress = Callable[[int, int, str], None]
