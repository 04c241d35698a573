"""Work that threads share out.

Where torch works by GNU's OpenMP its own team is asked: torch's threads go on waiting for work for
some milliseconds after each of its operations, such as the encoding of the query, and threads of
ours would have to share the processor with them.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ..machine.compiling import Program, address


def share(run: Program, arguments: Sequence[int], count: int, step: int, threads: int) -> None:
    """Let threads take from one counter.

    Args:
        run: Takes the arguments, and the counter, the count and the step behind them.
        arguments: Addresses and integers.
        count: Pieces of work.
        step: How many a thread takes at once.
        threads: How many threads.
    """
    counter = np.zeros(1, np.int64)
    whole = (*arguments, address(counter), count, step)
    team = team_of_threads() if threads > 1 else None
    if team is not None:
        given = np.array(whole, np.int64)
        team(run.from_memory, address(given), threads, 0)
        return
    helpers = [threading.Thread(target=run, args=whole) for _ in range(threads - 1)]
    for helper in helpers:
        helper.start()
    run(*whole)
    for helper in helpers:
        helper.join()


@lru_cache(maxsize=1)
def team_of_threads() -> Any:
    """GNU's OpenMP: runs the function at an address on some threads; None where torch has none.

    Another number of threads than before costs new ones, so torch's own number is best.
    """
    if not sys.platform.startswith("linux"):
        return None
    try:  # only the one that is loaded already
        team = ctypes.CDLL("libgomp.so.1", mode=os.RTLD_NOLOAD).GOMP_parallel
    except (OSError, AttributeError):
        return None
    team.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    team.restype = None
    return team
