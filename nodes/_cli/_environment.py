"""The Python that the commands run in: a given one, never changed, or our own, made once.

Standard library only. Everything that is said goes to stderr.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from . import _homes, _install
from ._lock import (
    LockError,
    Requirement,
    SetupError,
    normal_name,
    read_lock,
    read_requirements,
    read_requires,
    this_platform,
)


@dataclass(frozen=True)
class Environment:
    """A Python that has what the command needs, and a folder for caches."""

    python: Path
    cache: Path
    given: bool = False


def prepare(pack: Path, sections: tuple[str, ...], python: str | None) -> Environment:
    """Find or make the environment for a command.

    Raises:
        SetupError: If it can't be made, or the given one lacks something.
    """
    if python:
        return _given(pack, sections, python)
    for folder in _homes.environment_folders(pack):
        if (found := _ready(pack, folder, sections)) is not None:
            return found
    folder = _new_folder(pack)
    version = _install.version_there(folder) or f"{sys.version_info[0]}.{sys.version_info[1]}"
    lock = read_lock(pack / "requirements.lock", version)
    expected = lock.has_cuda(this_platform())
    _warn_without_cuda(expected)
    _install.install(folder, lock, sections)
    ready = _ready(pack, folder, sections)
    if ready is None:
        raise SetupError(f"{folder}: set up, but not usable. Delete this folder and run it again.")
    if expected is not False:  # pip may have found another build than the index has
        _warn_without_cuda(_install.torch_has_cuda(folder))
    return ready


def enter(ready: Environment, pack: Path, argv: list[str], mark: str) -> int:
    """Run the same command line in that environment; give its exit code.

    On POSIX this process becomes the other one, and the call does not return.
    """
    env = {
        **os.environ,
        mark: str(pack),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "UNIFASHION_CACHE": str(ready.cache),
    }
    if ready.given:  # its packages are compiled already, and nothing is written into it
        env["PYTHONDONTWRITEBYTECODE"] = "1"
    else:
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        env["PYTHONPYCACHEPREFIX"] = str(ready.cache / "pycache")
    line = [str(ready.python), str(pack / "run.py"), *argv]
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name == "posix":
        os.execve(line[0], line, env)
    while True:  # Ctrl-C reaches the child as well, which ends in its own way
        process = subprocess.Popen(line, env=env)
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue


def _ready(pack: Path, folder: Path, sections: tuple[str, ...]) -> Environment | None:
    """The environment in this folder, if a set-up of these sections with the present lock ended."""
    stamp = _install.read_stamp(folder)
    python = _install.python_of(folder)
    if stamp is None or not python.exists():
        return None
    try:
        lock = read_lock(pack / "requirements.lock", stamp.python)
    except LockError:  # a Python that the lock no longer knows; a damaged lock is found below
        return None
    if stamp.digest != lock.digest or not set(sections) <= set(stamp.sections):
        return None
    cache = folder / "cache"
    return Environment(
        python, cache if _homes.is_writable(folder) else _homes.data_folder() / "cache"
    )


def _new_folder(pack: Path) -> Path:
    folders = _homes.environment_folders(pack)
    for folder in folders:
        if _homes.is_writable(folder):
            return folder
    tried = " and ".join(str(f.parent) for f in folders)
    raise SetupError(
        f"set-up: neither {tried} can be written. Set UNIFASHION_HOME to a folder that can, "
        "or name an environment that has everything with --python PATH."
    )


def _warn_without_cuda(has_cuda: bool | None) -> None:
    if has_cuda is False and has_nvidia_card():
        print(
            "run.py: this machine has an NVIDIA card, but the torch of this set-up has no CUDA and "
            "will use the processor. To use the card, name an environment whose torch has CUDA, "
            "such as ComfyUI's own: --python PATH (or UNIFASHION_PYTHON).",
            file=sys.stderr,
        )


def has_nvidia_card() -> bool:
    """Whether an NVIDIA driver is here, without asking torch."""
    driver = Path("/proc/driver/nvidia/version")
    windows = Path(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32", "nvcuda.dll")
    return driver.exists() or windows.exists() or shutil.which("nvidia-smi") is not None


# A given environment: looked at, never changed.

_PROBE = """
import json, sys
if sys.version_info < (3, 10):
    print(json.dumps({"version": list(sys.version_info[:3]), "packages": {}}))
else:
    from importlib.metadata import distributions
    print(json.dumps({
        "version": list(sys.version_info[:3]),
        "packages": {d.metadata["Name"] or "": d.version for d in reversed(list(distributions()))},
    }))
"""


def _given(pack: Path, sections: tuple[str, ...], python: str) -> Environment:
    path = shutil.which(os.path.expanduser(python))
    if path is None:
        raise SetupError(
            f"--python {python}: no such program. Give the path of a Python, such as "
            f"{Path('venv', 'bin', 'python')} or {Path('python_embeded', 'python.exe')}."
        )
    path = os.path.abspath(
        path
    )  # not resolved: a venv's python is a link, and where it lies matters
    version, packages = probe(path)
    if version < (3, 10):
        raise SetupError(
            f"--python {python}: this is Python {'.'.join(map(str, version))}, 3.10 or newer is "
            "needed. Name a newer one."
        )
    lacking = missing(requirement_lines(pack, sections), packages)
    if lacking:
        names = ", ".join(f"{line} ({have or 'missing'})" for line, have in lacking)
        wanted = " ".join(f'"{line}"' for line, _ in lacking)
        raise SetupError(
            f"--python {python}: lacks {names}. Nothing is ever installed into a given "
            f'environment; install it there yourself with: "{path}" -m pip install {wanted}'
        )
    return Environment(Path(path), _homes.data_folder() / "cache", given=True)


def probe(python: str) -> tuple[tuple[int, ...], dict[str, str]]:
    """The version of a Python and of the packages that it sees, by normal name.

    Raises:
        SetupError: If it does not answer as a Python does.
    """
    try:
        answer = subprocess.run(
            [python, "-c", _PROBE], capture_output=True, check=True, timeout=120
        )
        found = json.loads(answer.stdout)
        packages = {normal_name(name): version for name, version in found["packages"].items()}
        return tuple(found["version"]), packages
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as e:
        raise SetupError(
            f"--python {python}: does not answer as a Python does ({e}). Give the path of a Python."
        ) from e


def requirement_lines(pack: Path, sections: tuple[str, ...]) -> list[str]:
    """What a given environment must have: requirements.txt, the lock's lines for more sections."""
    lines = read_requirements(pack / "requirements.txt")
    others = tuple(s for s in sections if s != "run")
    if others:
        requires = read_requires(pack / "requirements.lock")
        lines += [line for s in others for line in requires[s]]
    return list(dict.fromkeys(lines))


def missing(lines: Iterable[str], packages: dict[str, str]) -> list[tuple[str, str | None]]:
    """The lines that these packages do not satisfy, each with the version that is there."""
    found: list[tuple[str, str | None]] = []
    for line in lines:
        requirement = Requirement.parse(line)
        have = packages.get(requirement.name)
        if have is None or not requirement.accepts(have):
            found.append((line, have))
    return found
