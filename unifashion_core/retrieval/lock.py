"""The writer's lock of a gallery: held by the operating system, so it ends with its process."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from types import TracebackType

from ..errors import GalleryBusyError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


_HELD = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)  # what the systems say of a held lock


class WriterLock:
    """An exclusive lock on one file; a second holder, also in this process, gets an error.

    Args:
        path: The lock's file; made when absent, never removed, its content means nothing.
        gallery: Name for the error.

    Raises:
        GalleryBusyError: If another writer holds it.
        OSError: If the file can't be opened, or its disk knows no locks.
    """

    def __init__(self, path: Path, gallery: str) -> None:
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(self._handle)
        except OSError as e:
            os.close(self._handle)
            if e.errno not in _HELD:
                raise
            raise GalleryBusyError(
                f"Gallery '{gallery}': another process is writing to it. "
                "Wait until it has ended, or stop it, and try again."
            ) from e
        self._held = True

    def release(self) -> None:
        """Give the lock back; a second call does nothing."""
        if self._held:
            self._held = False
            os.close(self._handle)  # closing ends the lock on every system

    def __enter__(self) -> WriterLock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def _lock(handle: int) -> None:
    # flock, not lockf: a lockf lock is shared by the whole process and is lost when any other
    # handle of the same file closes.
    if sys.platform == "win32":
        os.lseek(handle, 0, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
