"""tests/lowest-python3.11.txt: our lower bounds as exact versions, which `.ci/run` tests first.

What a user's environment may hold is at its lowest; what only the tests use, and torch, is as in
the lock.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ._lock import normal_name

PYTHON = "3.11"
LOWEST = Path("tests") / f"lowest-python{PYTHON}.txt"


def write_lowest(pack: Path, hold: Sequence[str]) -> Path:
    """Resolve the lower bounds with uv, from metadata alone, and write the list.

    Args:
        pack: The pack's folder, with its lock.
        hold: Versions that are kept wherever they are needed, as NAME==VERSION.

    Returns:
        The file.
    """
    import tomllib

    project = tomllib.loads((pack / "pyproject.toml").read_text("utf-8"))
    lock: dict[str, Any] = json.loads((pack / "requirements.lock").read_text("utf-8"))
    rows: list[dict[str, Any]] = lock["pythons"][PYTHON]["packages"]
    held = {row["name"]: row["version"] for row in rows}
    lines, tools = bounded(project, held)
    with tempfile.TemporaryDirectory() as folder:
        asked = Path(folder) / "lowest.in"
        asked.write_text("\n".join([*lines, *tools]) + "\n", "utf-8")
        command = ["uv", "pip", "compile", "--quiet", "--resolution", "lowest-direct"]
        command += ["--python-version", PYTHON, "--no-annotate", "--no-header", str(asked)]
        kept = Path(folder) / "kept.txt"
        kept.write_text("\n".join(hold) + "\n", "utf-8")
        command += ["--constraint", str(kept)]
        found = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, stderr=sys.stderr.fileno(), text=True
        ).stdout
    head = [
        "# The lowest versions that requirements.txt and the extras allow, on Python "
        f"{PYTHON}; made on {datetime.now(timezone.utc):%Y-%m-%d} by",
        "# python run.py lock --lowest",
        "# torch and what only the tests use are at the lock's versions; torch's own CUDA packages "
        "are left out.",
    ]
    chosen = sorted(row for row in found.split() if not is_torchs_own(row))
    (pack / LOWEST).write_text("\n".join([*head, *chosen]) + "\n", "utf-8")
    return pack / LOWEST


def bounded(project: dict[str, Any], held: dict[str, str]) -> tuple[list[str], list[str]]:
    """What is asked for at its lowest, and what is held.

    Args:
        project: pyproject.toml.
        held: The lock's versions by name.

    Returns:
        Requirement lines of users (torch at the lock's version), lines of tools.
    """
    parts: dict[str, Any] = project["project"]
    extras: dict[str, list[str]] = parts["optional-dependencies"]
    own: list[str] = [*parts["dependencies"]]
    own += [line for name, part in extras.items() if name != "xformers" for line in part]
    names = {_name(line) for line in own}
    lines = [f"torch=={held['torch']}" if _name(line) == "torch" else line for line in own]
    tools = [_name(line) for line in project["dependency-groups"]["test"]]
    return lines, [f"{name}=={held[name]}" for name in tools if name not in names]


def is_torchs_own(row: str) -> bool:
    """Whether a version is of CUDA's packages, which no test needs."""
    return row.startswith(("nvidia-", "cuda-", "triton=="))


def _name(line: str) -> str:
    for mark in "[=<>!~; ":
        line = line.split(mark)[0]
    return normal_name(line)
