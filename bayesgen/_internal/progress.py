"""The type of the functions to which long computations report their progress."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# Called as progress(done, expected, what) after each step: number of steps done, number of steps
# expected, and a phrase that names the work.
Progress = Callable[[int, int, str], None]

# What a public function takes as its progress: a function as above, True for a progress bar, or
# None. `bayesgen._internal.progress_bar.shows_progress` replaces True by a function.
ProgressOption = Any
