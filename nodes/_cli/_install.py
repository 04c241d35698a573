"""Makes our own environment: venv, then pip with the lock's exact versions as constraints.

Standard library only. The stamp is written last, so that a set-up that was cut off is gone through
again (pip keeps what is complete). An OS lock, gone when its process dies, lets one process at a
time work on a folder.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ._lock import Lock, Package, SetupError, normal_name, numbers, say_size, this_platform

WAIT_S = 3600.0
_STAMP, _BUSY, _LOG = "unifashion-ready.json", "unifashion-busy", "unifashion-pip.log"
_HELD, _WANTED = "unifashion-constraints.txt", "unifashion-requirements.txt"
_PIP_ELSEWHERE = {"PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_DRY_RUN"}
_TORCH_ON_CPU = 250_000_000  # bytes of a torch without CUDA, the least that any platform downloads


@dataclass(frozen=True)
class Stamp:
    """What a set-up that ended has left."""

    python: str
    digest: str
    sections: tuple[str, ...]


def python_of(folder: Path, windows: bool = os.name == "nt") -> Path:
    """The interpreter of a venv folder."""
    return folder / "Scripts" / "python.exe" if windows else folder / "bin" / "python"


def read_stamp(folder: Path) -> Stamp | None:
    try:
        data = json.loads((folder / _STAMP).read_text("utf-8"))
        return Stamp(data["python"], data["digest"], tuple(data["sections"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def version_there(folder: Path) -> str | None:
    """The Python of an environment that was ready once, so that completing it does not redo it."""
    stamp, python = read_stamp(folder), python_of(folder)
    works = stamp is not None and python.exists() and _answers(python, stamp.python)
    return stamp.python if stamp is not None and works else None


def install(folder: Path, lock: Lock, sections: tuple[str, ...]) -> None:
    """Make or complete the environment in a folder.

    Raises:
        SetupError: If the disk, the network or pip doesn't allow it, or another process is at it
            for too long.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _only_one(folder):
        stamp = read_stamp(folder)
        done: tuple[str, ...] = ()
        if stamp is not None and (stamp.digest, stamp.python) == (lock.digest, lock.python):
            done = stamp.sections
        if set(sections) <= set(done) and python_of(folder).exists():
            return  # another process has just done it
        wanted = tuple(dict.fromkeys(done + sections))
        have = installed(folder) if version_there(folder) == lock.python else {}
        new = new_packages(lock, wanted, have)
        purpose = [s for s in sections if s not in done]
        _say(announcement(folder, lock.python, purpose, new))
        _check_disk(folder, new)
        (folder / _STAMP).unlink(missing_ok=True)
        _make_venv(folder, lock.python)
        _forget_halves(folder)
        _pip_install(folder, lock, wanted)
        _check(folder, lock, wanted)
        _write_stamp(folder, Stamp(lock.python, lock.digest, wanted))
        _say(f"set up in {folder}.")


def _say(text: str) -> None:
    print(f"run.py: {text}", file=sys.stderr, flush=True)


def new_packages(lock: Lock, sections: tuple[str, ...], have: dict[str, str]) -> list[Package]:
    """What a set-up has to download, given the versions that are there.

    A torch that is there brought its CUDA libraries, or needs none.
    """
    versions = {name: numbers(version) for name, version in have.items()}
    new = [
        p
        for p in lock.needed(sections, this_platform())
        if versions.get(normal_name(p.name)) != numbers(p.version)
    ]
    return new if any(p.name == "torch" for p in new) else [p for p in new if not p.is_cuda]


def announcement(folder: Path, python: str, purpose: Sequence[str], new: Sequence[Package]) -> str:
    """What a set-up says before it starts: where, for what, and how much there is to download."""
    on = this_platform()
    total = sum(p.sizes.get(on, 0) for p in new)
    torch = sum(p.sizes.get(on, 0) for p in new if p.is_cuda or p.name == "torch")
    unknown = sum(1 for p in new if not p.sizes.get(on, 0))
    what = {"run": "the pack", "test": "its tests", "train": "training"}
    if not new:
        size = "nothing to download"
    elif total == 0:
        size = "an unknown amount to download"
    else:
        size = f"up to {say_size(total)} to download"
        if torch:
            size += f" (torch and its libraries: {say_size(torch)})"
        if unknown:
            size += f", and {unknown} packages of unknown size"
    named = " and ".join(what.get(s, s) for s in purpose)
    return f"setting up {named} in {folder} for Python {python}: {size}. This happens once."


def _check_disk(folder: Path, new: Sequence[Package]) -> None:
    """Refuse when even the least won't fit; warn when the most may not.

    Three times the download: a wheel and its content lie there at once, packed about 1 to 2.
    """
    free = shutil.disk_usage(folder).free
    on = this_platform()
    most = 3 * sum(p.sizes.get(on, 0) for p in new)
    small = sum(p.sizes.get(on, 0) for p in new if not p.is_cuda and p.name != "torch")
    least = 3 * small + (4 * _TORCH_ON_CPU if any(p.name == "torch" for p in new) else 0)
    if free < least:
        raise SetupError(
            f"{folder}: {say_size(free)} free on this disk, at least {say_size(least)} needed. "
            "Free some space, or set UNIFASHION_HOME to a folder on another disk."
        )
    if free < most:
        _say(f"{say_size(free)} free on this disk; up to {say_size(most)} may be needed at times.")


def _make_venv(folder: Path, python: str) -> None:
    """Make the venv; one that is broken or of another Python is emptied first."""
    there = python_of(folder)
    if there.exists() and _answers(there, python):
        return
    for entry in folder.iterdir():
        if entry.name == _BUSY:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    made = subprocess.run(
        [sys.executable, "-m", "venv", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if made.returncode != 0:
        last = made.stdout.strip().splitlines()[-1:] or ["no reason given"]
        hint = (
            "Install your system's python3-venv package"
            if "ensurepip" in made.stdout
            else "Correct that"
        )
        raise SetupError(f"{folder}: no venv could be made ({last[0]}). {hint}, then run it again.")


def _answers(python: Path, version: str) -> bool:
    """Whether a venv's Python starts, is of this version, and has its pip."""
    code = "import sys, pip; print('%d.%d' % sys.version_info[:2])"
    try:
        answer = subprocess.run(
            [str(python), "-I", "-c", code], capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return answer.returncode == 0 and answer.stdout.strip() == version


def _forget_halves(folder: Path) -> None:
    """Remove the record of packages whose installation was cut off, so that pip does them again.

    pip writes INSTALLER when all files of a package are there; the wheel's own METADATA, by which
    it takes a package for installed, may come long before.
    """
    for info in _infos(folder):
        if not (info / "INSTALLER").exists():
            shutil.rmtree(info)


def _pip_install(folder: Path, lock: Lock, sections: tuple[str, ...]) -> None:
    """One pip call: the plain requirements, held to the lock's versions.

    Constraints and not a list of everything: where a machine's pip finds a torch without CUDA of
    the same version, the CUDA libraries that only the other one needs stay out.
    """
    packages = lock.needed(sections, this_platform())
    held = "".join(f"{p.name}=={p.version}\n" for p in packages)
    (folder / _HELD).write_text(held, "utf-8")
    (folder / _WANTED).write_text("".join(f"{x}\n" for x in lock.roots(sections)), "utf-8")
    log = folder / _LOG
    log.unlink(missing_ok=True)
    line = [str(python_of(folder).absolute()), "-I", "-m", "pip", "install", "--no-input"]
    line += ["--disable-pip-version-check", "--only-binary", ":all:"]
    line += ["--no-compile"]  # what is used is compiled at first use, into our own cache
    line += ["--log", _LOG, "-c", _HELD, "-r", _WANTED]
    env = {name: value for name, value in os.environ.items() if name not in _PIP_ELSEWHERE}
    sys.stderr.flush()
    code = subprocess.run(
        line, cwd=folder, stdout=sys.stderr.fileno(), stdin=subprocess.DEVNULL, env=env
    ).returncode
    if code in (-2, 130, 0xC000013A):  # pip got the Ctrl-C
        raise KeyboardInterrupt
    if code != 0:
        text = log.read_text("utf-8", "replace") if log.exists() else ""
        raise SetupError(explain(text, folder))


_NO_NETWORK = re.compile(
    r"NewConnectionError|NameResolutionError|Failed to establish a new connection"
    r"|Temporary failure in name resolution|getaddrinfo failed|ConnectTimeoutError|ReadTimeoutError"
    r"|Read timed out|ProxyError|Network is unreachable|Connection refused|Connection aborted"
    r"|Connection reset|SSLError",
    re.IGNORECASE,
)
_NO_SPACE = re.compile(
    r"No space left on device|not enough space on the disk|Errno 28\b", re.IGNORECASE
)


def explain(log: str, folder: Path) -> str:
    """The sentence for a pip that failed, from its log."""
    if _NO_SPACE.search(log):
        return (
            f"{folder}: the disk is full. Free some space (pip also unpacks in TMPDIR), or set "
            "UNIFASHION_HOME to a folder on another disk, then run it again."
        )
    if _NO_NETWORK.search(log):
        return (
            "set-up: the package index can't be reached. Connect to the network (or check the "
            "proxy in pip's settings), then run it again; or name an environment that has "
            "everything with --python PATH."
        )
    errors = [line for line in log.splitlines() if "ERROR: " in line]
    reason = errors[-1].split("ERROR: ", 1)[1].strip() if errors else "no reason given"
    log_file = folder / _LOG
    return f"set-up: pip stopped ({reason}). See {log_file}; correct that, then run it again."


def _check(folder: Path, lock: Lock, sections: tuple[str, ...]) -> None:
    """Look for every requirement in its exact version, whatever pip's exit code says."""
    found = installed(folder)
    versions = {normal_name(p.name): p.version for p in lock.packages}
    for line in lock.roots(sections):
        name = normal_name(re.split(r"[\[<>=!~ ]", line, maxsplit=1)[0])
        have, want = found.get(name), versions.get(name)
        if have is None or (want is not None and numbers(have) != numbers(want)):
            raise SetupError(
                f"{folder}: {name} is {have or 'missing'} after the set-up, {want} wanted. "
                "Delete this folder and run it again."
            )


def _infos(folder: Path) -> list[Path]:
    return [
        *folder.glob("lib/python*/site-packages/*.dist-info"),
        *folder.glob("Lib/site-packages/*.dist-info"),
    ]


def installed(folder: Path) -> dict[str, str]:
    """Versions in a venv by normal name, from the names of its `.dist-info` folders."""
    pairs: dict[str, str] = {}
    for info in _infos(folder):
        name, _, version = info.name[: -len(".dist-info")].partition("-")
        pairs[normal_name(name)] = version
    return pairs


def torch_has_cuda(folder: Path) -> bool | None:
    """Whether the torch in a venv was built with CUDA, as its version file says."""
    for file in [
        *folder.glob("lib/python*/site-packages/torch/version.py"),
        *folder.glob("Lib/site-packages/torch/version.py"),
    ]:
        found = re.search(r"^cuda\b[^=]*=\s*(.+)$", file.read_text("utf-8"), re.MULTILINE)
        if found:
            return found[1].strip() != "None"
    return None


def _write_stamp(folder: Path, stamp: Stamp) -> None:
    data = {"python": stamp.python, "digest": stamp.digest, "sections": list(stamp.sections)}
    beside = folder / f"{_STAMP}.part"
    with beside.open("w", encoding="utf-8") as file:
        json.dump(data, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, folder / _STAMP)


@contextmanager
def _only_one(folder: Path) -> Generator[None]:
    """Hold the folder's lock; wait for another process that holds it, and say so once."""
    with (folder / _BUSY).open("a+b") as file:
        ends, said = time.monotonic() + WAIT_S, False
        while not _try_lock(file):
            if not said:
                _say(f"another process is setting up {folder}; waiting for it.")
                said = True
            if time.monotonic() > ends:
                raise SetupError(
                    f"{folder}: another process has been setting it up for an hour. "
                    "Stop that one, then run it again."
                )
            time.sleep(0.5)
        yield  # closing the file lets go


def _try_lock(file: IO[bytes]) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
