"""The progress line of training."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...unifashion_core.training.loop import Progress


class TrainingLine:
    """One line on stderr that is written over; a line each 50 steps where stderr is a file."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._live = sys.stderr.isatty()
        self._open = False

    def counted(self, done: int, total: int) -> None:
        """Progress of pictures."""
        if self._live or done % 500 == 0 or done == total:
            self._write(f"{self._what} {done}/{total}")

    def progress(self, at: Progress) -> None:
        """Progress of training: losses and the time left."""
        if not (self._live or at.step % 50 == 0 or at.step in (1, at.steps)):
            return
        parts = " ".join(f"{k} {v:.3f}" for k, v in at.losses.items() if k != "total")
        left = f"{int(at.seconds_left) // 60}:{int(at.seconds_left) % 60:02d}"
        total = at.losses["total"]
        self._write(f"step {at.step}/{at.steps}  loss {total:.3f} ({parts})  {left} left")

    def end(self) -> None:
        """Leave the line."""
        if self._open:
            sys.stderr.write("\n")
            self._open = False

    def _write(self, text: str) -> None:
        if self._live:
            sys.stderr.write(f"\r\x1b[K{text}")
            self._open = True
        else:
            sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
