"""Where run.py keeps what it makes: the environment, caches, and results without a folder.

Standard library only. Never the pack's folder, except for `.venv` while that can be written.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path


def data_folder(env: Mapping[str, str] = os.environ, system: str = sys.platform) -> Path:
    """UNIFASHION_HOME, else the user's data directory of this system. It may not exist yet."""
    if env.get("UNIFASHION_HOME"):
        return Path(env["UNIFASHION_HOME"]).expanduser().absolute()
    home = Path(env.get("USERPROFILE" if system == "win32" else "HOME") or Path.home())
    if system == "win32":
        return Path(env.get("LOCALAPPDATA") or home / "AppData" / "Local") / "unifashion"
    if system == "darwin":
        return home / "Library" / "Application Support" / "unifashion"
    return Path(env.get("XDG_DATA_HOME") or home / ".local" / "share") / "unifashion"


def environment_folders(pack: Path, env: Mapping[str, str] = os.environ) -> list[Path]:
    """Where the environment may be, best first.

    UNIFASHION_HOME when set, the pack's folder, the user's data directory. A ready one is used
    wherever it is; a new one goes to the first that can be written.
    """
    folders = [pack / ".venv", data_folder(env) / ".venv"]
    return folders[::-1] if env.get("UNIFASHION_HOME") else folders


def is_writable(folder: Path) -> bool:
    """Whether a file can be made in this folder, or in the nearest parent that exists."""
    folder = folder.absolute()
    while not folder.exists():
        if folder.parent == folder:
            return False
        folder = folder.parent
    try:  # os.access is wrong on Windows, on read-only mounts of a superuser, and on network drives
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def output_folder(name: str, pack: Path, env: Mapping[str, str] = os.environ) -> Path:
    """A folder for results: in the current one, else (ours, or read-only) in the data folder."""
    here = Path.cwd()
    if here == pack or pack in here.parents or not is_writable(here):
        return data_folder(env) / name
    return here / name
