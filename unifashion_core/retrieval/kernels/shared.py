"""Work that threads share out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np

from ..machine.compiling import address


def share(
    run: Callable[..., None], arguments: Sequence[int], count: int, step: int, threads: int
) -> None:
    """Let threads take from one counter; ctypes lets go of Python's lock meanwhile.

    Args:
        run: Machine code; takes the arguments, and the counter, the count and the step behind them.
        arguments: Addresses and integers.
        count: Pieces of work.
        step: How many a thread takes at once.
        threads: How many threads.
    """
    counter = np.zeros(1, np.int64)
    whole = (*arguments, address(counter), count, step)
    helpers = [threading.Thread(target=run, args=whole) for _ in range(threads - 1)]
    for helper in helpers:
        helper.start()
    run(*whole)
    for helper in helpers:
        helper.join()
