"""Watches which files a process touches: Python's own audit events, and the kernel's for a folder.

An audit hook can't be taken off again: use it in a process of its own.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_PATHS = {
    "open": (0,),
    "os.listdir": (0,),
    "os.scandir": (0,),
    "os.remove": (0,),
    "os.rename": (0, 1),
    "os.mkdir": (0,),
    "os.rmdir": (0,),
    "os.truncate": (0,),
    "os.link": (0, 1),
    "os.symlink": (0, 1),
    "os.chmod": (0,),
    "os.utime": (0,),
    "shutil.rmtree": (0,),
    "shutil.move": (0, 1),
    "sqlite3.connect": (0,),
}
_NEVER = {"pickle.find_class", "socket.connect", "subprocess.Popen", "os.system", "os.exec"}
_SYSTEM = ("/proc/", "/sys/", "/dev/null", "/dev/urandom", "/dev/shm/", "/etc/localtime")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Watch:
    """Keeps what was touched outside the allowed folders.

    Args:
        own: Folders that may be read and written.
        readable: Folders that may be read.
    """

    def __init__(self, own: Iterable[Path], readable: Iterable[Path]):
        self.own = tuple(os.path.realpath(path) for path in own)
        self.readable = (*self.own, *(os.path.realpath(path) for path in readable))
        self.found: list[str] = []
        self.on = False
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event in _NEVER:
            self.found.append(f"{event} {args!r:.200}")
        elif event in _PATHS:
            changes = event not in ("open", "os.listdir", "os.scandir") or _writes(event, args)
            for number in _PATHS[event]:
                self._look(event, args[number], changes)

    def _look(self, event: str, path: Any, changes: bool) -> None:
        if path is None or isinstance(path, int):
            return
        text = os.fsdecode(path).removeprefix("file:").split("?")[0]
        if text in ("", ":memory:") or text.startswith(_SYSTEM):
            return
        real = os.path.realpath(text) if "\0" not in text else text
        allowed = self.own if changes else self.readable
        if not any(real == folder or real.startswith(folder + os.sep) for folder in allowed):
            self.found.append(f"{event} {'writes' if changes else 'reads'} {text[:200]}")


def _writes(event: str, args: tuple[Any, ...]) -> bool:
    if event != "open":
        return False
    mode, flags = args[1], args[2]
    by_mode = isinstance(mode, str) and any(letter in mode for letter in "wax+")
    return by_mode or (isinstance(flags, int) and bool(flags & _WRITING))


class FolderWatch:
    """The kernel's word on whether anything in some folders was opened or changed (Linux).

    It sees what libraries open without Python, too.
    """

    _ALL = 0x00000FFF
    _EVENT = struct.Struct("iIII")

    def __init__(self, folders: Iterable[Path]):
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._file = self._libc.inotify_init1(os.O_NONBLOCK)
        if self._file < 0:
            raise OSError(ctypes.get_errno(), "inotify is not available")
        for folder in folders:
            if self._libc.inotify_add_watch(self._file, os.fsencode(folder), self._ALL) < 0:
                raise OSError(ctypes.get_errno(), f"inotify can't watch {folder}")

    def events(self) -> list[str]:
        """What has happened since the last look."""
        try:
            data = os.read(self._file, 65536)
        except BlockingIOError:
            return []
        found: list[str] = []
        while data:
            _, mask, _, length = self._EVENT.unpack_from(data)
            name = data[self._EVENT.size : self._EVENT.size + length].rstrip(b"\0")
            found.append(f"kernel event {mask:#x} {os.fsdecode(name)}")
            data = data[self._EVENT.size + length :]
        return found
