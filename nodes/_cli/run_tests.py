"""Check the code and run the tests.

ruff (format and rules), pyright and pytest run one after the other, pytest last. With --quick the
core and node tests alone: no checks, and nothing slow or in need of a browser, a GPU or a ComfyUI.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

_MOST_WORKERS = 8
_QUICK = "not slow and not long and not browser and not gpu and not comfy"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--quick", action="store_true", help="core and node tests alone, without checks"
    )
    parser.epilog = "Any other argument goes to pytest, such as -k NAME or tests/test_setup.py."


def run(args: argparse.Namespace) -> int:
    cache = Path(os.environ.get("UNIFASHION_CACHE") or args.pack / ".venv" / "cache")
    env = {
        **os.environ,
        "RUFF_CACHE_DIR": str(cache / "ruff"),
        "HYPOTHESIS_STORAGE_DIRECTORY": str(cache / "hypothesis"),
        "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1",
        # One thread a process: small networks gain nothing from more, and processes fill the cores.
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        # Threads that wait for work leave the cores to the others instead of spinning.
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "passive"),
    }
    failed = (
        []
        if args.quick
        else [line for line in checks(args.pack) if not _passes(line, args.pack, env)]
    )
    if failed:
        names = ", ".join(" ".join(line[2:4]) for line in failed)
        print(f"run.py test: found something to correct: {names}", file=sys.stderr, flush=True)
    code = subprocess.run(pytest_line(args, cache), cwd=args.pack, env=env).returncode
    return code if code else int(bool(failed))


def checks(pack: Path) -> list[list[str]]:
    """The checks. pyright's JavaScript and its node come in wheels: nothing is fetched."""
    python = sys.executable
    return [
        [python, "-m", "ruff", "format", "--check", "--quiet", "."],
        [python, "-m", "ruff", "check", "--quiet", "."],
        [python, "-m", "pyright", "--project", str(pack), "--pythonpath", python],
    ]


def pytest_line(args: argparse.Namespace, cache: Path) -> list[str]:
    """pytest's command line; its cache stays out of the pack's folder."""
    line = [sys.executable, "-m", "pytest", "-o", f"cache_dir={cache / 'pytest'}"]
    # It changes all of torch's loggers around every phase of every test; the tests have their own.
    line += ["-p", "no:logging"]
    # A file's tests share its fixtures, so a file stays in one process.
    line += ["-n", str(min(os.cpu_count() or 1, _MOST_WORKERS)), "--dist", "loadfile"]
    if args.quick:
        line += ["-m", _QUICK]
    return line + list(args.rest)


def _passes(line: list[str], folder: Path, env: dict[str, str]) -> bool:
    print(f"run.py test: {' '.join(line[2:4])}", file=sys.stderr, flush=True)
    return subprocess.run(line, cwd=folder, env=env, stdin=subprocess.DEVNULL).returncode == 0
