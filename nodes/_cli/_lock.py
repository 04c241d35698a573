"""requirements.lock: which exact versions run.py installs, and how large their downloads are.

Standard library only. The file is made by `run.py lock`; its first lines tell what is in it.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...unifashion_core.errors import UniFashionError

PLATFORMS = ("linux-x86_64", "linux-aarch64", "windows-x86_64", "macos-arm64")
"""Those for which the lock knows what is needed and how large it is."""

_CUDA = re.compile(r"^(nvidia-|cuda-|triton$)")


class SetupError(UniFashionError):
    """The environment can't be made or used; the text says what to do."""


class LockError(SetupError):
    """requirements.lock is missing, damaged, or has nothing for this Python."""


@dataclass(frozen=True)
class Package:
    """One exact version.

    `sizes` is in bytes by platform (0: unknown); a platform that is absent doesn't need it.
    """

    name: str
    version: str
    sections: tuple[str, ...]
    sizes: dict[str, int]

    def is_in(self, sections: tuple[str, ...]) -> bool:
        return any(s in sections for s in self.sections)

    @property
    def is_cuda(self) -> bool:
        return _CUDA.match(self.name) is not None


@dataclass(frozen=True)
class Lock:
    """The part of the lock that is for one Python."""

    python: str
    requires: dict[str, tuple[str, ...]]
    packages: tuple[Package, ...]
    digest: str

    def needed(self, sections: tuple[str, ...], on: str) -> list[Package]:
        """What these sections install on a platform; on an unknown one, what any needs."""
        chosen = [p for p in self.packages if p.is_in(sections)]
        return [p for p in chosen if on in p.sizes] if on in PLATFORMS else chosen

    def roots(self, sections: tuple[str, ...]) -> list[str]:
        """The requirement lines of these sections, as a person would write them."""
        return list(dict.fromkeys(line for s in sections for line in self.requires[s]))

    def has_cuda(self, on: str) -> bool | None:
        """Whether the index's torch for this platform brings CUDA; None where nobody knows."""
        return any(p.is_cuda for p in self.needed(("run",), on)) if on in PLATFORMS else None


def read_requires(path: Path) -> dict[str, tuple[str, ...]]:
    """The requirement lines of each section.

    Raises:
        LockError: If the file can't be read.
    """
    return _read(path)[0]


def _read(path: Path) -> tuple[dict[str, tuple[str, ...]], dict[str, Any]]:
    try:
        data: dict[str, Any] = json.loads(path.read_text("utf-8"))
        requires = {name: tuple(lines) for name, lines in data["requires"].items()}
        return requires, {python: part["packages"] for python, part in data["pythons"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise LockError(
            f"{path.name}: not readable ({e}). Take the file from the release again."
        ) from e


def read_lock(path: Path, python: str) -> Lock:
    """Read the part for one Python, such as "3.11".

    Raises:
        LockError: If the file can't be read, or does not know this Python.
    """
    requires, sections = _read(path)
    rows = sections.get(python)
    if not rows:
        raise LockError(
            f"Python {python}: {path.name} has sections for {', '.join(sections)} only. Start "
            "run.py with one of these, or name an environment that has everything: --python PATH."
        )
    text = json.dumps([requires, rows], sort_keys=True)
    try:
        packages = tuple(_package(row) for row in rows)
    except (KeyError, TypeError, AttributeError) as e:
        raise LockError(
            f"{path.name}: damaged for Python {python} ({e!r}). Take it from the release again."
        ) from e
    return Lock(python, requires, packages, hashlib.sha256(text.encode()).hexdigest())


def _package(row: dict[str, Any]) -> Package:
    size = row["size"]
    if not isinstance(size, dict):
        size = dict.fromkeys(PLATFORMS, size)
    sizes = {on: n if isinstance(n, int) else 0 for on, n in size.items()}
    return Package(row["name"], row["version"], tuple(row["sections"]), sizes)


def this_platform() -> str:
    """The platform that runs now, in the lock's words: "linux-x86_64"."""
    system = {"win32": "windows", "darwin": "macos"}.get(sys.platform, sys.platform)
    machine = platform.machine().lower()
    machine = {"amd64": "x86_64", "x64": "x86_64"}.get(machine, machine)
    if system == "linux" and machine == "arm64":
        machine = "aarch64"
    return f"{system}-{machine}"


def say_size(size: int) -> str:
    """Bytes as a person reads them: "2.9 GB", "37 MB"."""
    if size >= 1_000_000_000:
        return f"{size / 1e9:.1f} GB"
    return f"{max(1, round(size / 1e6))} MB"


@dataclass(frozen=True)
class Requirement:
    """A line such as `transformers>=4.50`: a name and the lowest version that will do."""

    name: str
    minimum: str | None

    @classmethod
    def parse(cls, line: str) -> Requirement:
        found = re.fullmatch(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?(?:\s*>=\s*([0-9][0-9.]*))?", line)
        if found is None:
            raise LockError(f"requirement '{line}': neither NAME nor NAME>=VERSION. Write it so.")
        return cls(normal_name(found[1]), found[2])

    def accepts(self, version: str) -> bool:
        return self.minimum is None or numbers(version) >= numbers(self.minimum)


def normal_name(name: str) -> str:
    """A package's name as all tools compare it: lower case, runs of `-_.` as one hyphen."""
    return re.sub(r"[-_.]+", "-", name).lower()


def numbers(version: str) -> tuple[int, ...]:
    """The release numbers of a version without trailing zeros: "2.13.0+cpu" -> (2, 13)."""
    found = re.match(r"v?(?:\d+!)?(\d+(?:\.\d+)*)", version.strip())
    parts = [int(p) for p in found[1].split(".")] if found else []
    while parts and parts[-1] == 0:
        parts.pop()
    return tuple(parts)


def read_requirements(path: Path) -> list[str]:
    """The lines of a requirements.txt, without comments."""
    lines = (line.split("#")[0].strip() for line in path.read_text("utf-8").splitlines())
    return [line for line in lines if line]
