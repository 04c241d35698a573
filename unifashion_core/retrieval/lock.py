"""The locks of a gallery, held by the operating system, so that they end with their process: the
one writer's, and the readers' mark, which keeps files that a compaction replaced."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
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


@contextmanager
def reading(path: Path) -> Generator[None]:
    """Say that a reader looks at the gallery; any number may.

    Windows has no such lock in Python and needs none: it doesn't remove a file that is mapped.

    Args:
        path: The mark's file; made when absent. Where that can't be, nobody can write either.
    """
    handle = None
    if sys.platform != "win32":
        with contextlib.suppress(OSError):
            handle = _open_mark(path)
            fcntl.flock(handle, fcntl.LOCK_SH)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _open_mark(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return os.open(path, os.O_RDONLY | os.O_CREAT, 0o666)


@contextmanager
def without_readers(path: Path) -> Generator[bool]:
    """Whether no reader looks at the gallery now; while inside, a new one waits.

    Args:
        path: As in `reading`.
    """
    handle, alone = None, sys.platform == "win32"
    if sys.platform != "win32":
        with contextlib.suppress(OSError):
            handle = _open_mark(path)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone = True
    try:
        yield alone
    finally:
        if handle is not None:
            os.close(handle)


def _lock(handle: int) -> None:
    # flock, not lockf: a lockf lock is shared by the whole process and is lost when any other
    # handle of the same file closes.
    if sys.platform == "win32":
        os.lseek(handle, 0, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
