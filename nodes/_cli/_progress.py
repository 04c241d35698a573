"""A progress line on stderr: rewritten in place on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TextIO

_QUIET_S = 5.0  # between lines where there is no terminal


class ProgressLine:
    """An `on_step` that tells how far a job is and how long it will take.

    Args:
        what: Such as "indexing".
        stream: stderr when None.
    """

    def __init__(self, what: str, stream: TextIO | None = None):
        self.what = what
        self.stream = stream or sys.stderr
        self.started = time.monotonic()
        self._shown = 0.0
        self._before: tuple[int, int] | None = None

    def __call__(self, done: int, total: int) -> None:
        """Show (done, total)."""
        if (done, total) == self._before:  # a whole line is shown once
            return
        now, last = time.monotonic(), done >= total
        terminal = self.stream.isatty()
        if not last and now - self._shown < (0.1 if terminal else _QUIET_S):
            return
        self._shown, self._before = now, (done, total)
        text = self.text(done, total, now - self.started)
        self.stream.write(f"\r{text}\033[K" if terminal else f"{text}\n")
        if terminal and last:
            self.stream.write("\n")
        self.stream.flush()

    def text(self, done: int, total: int, seconds: float) -> str:
        """The line, such as "indexing: 120 of 300 (40 %), 61.3 a second, 3 s left"."""
        share = 100 * done // max(total, 1)
        rate = done / max(seconds, 1e-9)
        text = f"{self.what}: {done} of {total} ({share} %)"
        if done and seconds > 0.5:
            text += f", {rate:.1f} a second"
            if done < total:
                text += f", {(total - done) / rate:.0f} s left"
        return text
