"""The type of the functions to which long computations report their progress."""

from __future__ import annotations

from collections.abc import Callable

# Called as progress(done, expected, what) after each step: number of steps done, number of steps
# expected, and a phrase that names the work.
Progress = Callable[[int, int, str], None]
