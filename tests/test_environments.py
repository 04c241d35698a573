"""Our requirements change nothing in a ComfyUI as users have it: see tests/environments."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LISTS = sorted((ROOT / "tests" / "environments").glob("*.txt"))
ADDED = {"accelerate", "diffusers"}  # what a ComfyUI does not bring
_WAIT_S = 900

pytestmark = pytest.mark.parametrize("path", LISTS, ids=lambda p: p.stem)


def versions(path: Path) -> dict[str, str]:
    lines = path.read_text("utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_a_list_tells_its_date_and_its_command_and_holds_exact_versions_alone(path):
    lines = path.read_text("utf-8").splitlines()
    head = "\n".join(line for line in lines if line.startswith("#"))
    assert re.search(r"20\d\d-\d\d-\d\d", head)
    assert re.search(r"# (python -m pip install --dry-run|uv pip compile --quiet)", head)
    rows = [line for line in lines if not line.startswith("#")]
    assert [row for row in rows if not re.fullmatch(r"[a-z0-9-]+==[0-9][\w.+]*", row)] == []
    assert rows == sorted(rows)
    assert {"torch", "transformers", "numpy"} <= set(versions(path))


def test_what_is_there_is_enough(pack, path):
    """Each of our lines is satisfied by the listed version, so pip leaves that version alone."""
    lock = pack.module("nodes._cli._lock")
    there = versions(path)
    wanted = [lock.Requirement.parse(x) for x in lock.read_requirements(ROOT / "requirements.txt")]
    too_old = [r for r in wanted if r.name in there and not r.accepts(there[r.name])]
    assert too_old == []
    assert {r.name for r in wanted} - set(there) <= ADDED


def test_every_line_but_torch_has_a_lower_bound(pack, path):
    lock = pack.module("nodes._cli._lock")
    wanted = [lock.Requirement.parse(x) for x in lock.read_requirements(ROOT / "requirements.txt")]
    assert [r.name for r in wanted if r.minimum is None] == ["torch"]


@pytest.mark.long
def test_pip_finds_what_we_add_without_changing_anything(path, tmp_path):
    """With the list as constraints, pip resolves all of our requirements, what they need too."""
    python = re.search(r"python(3\.\d+)$", path.stem)
    assert python is not None
    line = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
    line += ["--report", "-", "--only-binary", ":all:", "--python-version", python[1]]
    line += ["--target", str(tmp_path), "-c", str(path), "-r", str(ROOT / "requirements.txt")]
    done = subprocess.run(line, capture_output=True, text=True, timeout=_WAIT_S)
    if "Could not find a version" in done.stderr and "from versions: none" in done.stderr:
        pytest.skip("no package index answers")
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)["install"]
    there = versions(path)
    chosen = {_normal(i["metadata"]["name"]): i["metadata"]["version"] for i in found}
    changed = {n: v for n, v in chosen.items() if n in there and _plain(v) != _plain(there[n])}
    assert changed == {}
    assert set(chosen) >= ADDED


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _plain(version: str) -> str:
    return version.split("+")[0]
