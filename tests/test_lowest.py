"""tests/lowest-python3.11.txt holds our lower bounds, and `.ci/run` tests them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
tomllib = pytest.importorskip("tomllib")  # Python 3.11 and newer


@pytest.fixture(scope="module")
def lowest(pack):
    return pack.module("nodes._cli._lowest")


@pytest.fixture(scope="module")
def rows(lowest) -> dict[str, str]:
    lines = (ROOT / lowest.LOWEST).read_text("utf-8").splitlines()
    assert [x for x in lines if not re.fullmatch(r"#.*|[a-z0-9-]+==[0-9][\w.]*", x)] == []
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def test_each_lower_bound_is_in_the_list_as_it_stands(pack, lowest, rows):
    lock = pack.module("nodes._cli._lock")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    held = {p.name: p.version for p in lock.read_lock(ROOT / "requirements.lock", "3.11").packages}
    asked, tools = lowest.bounded(project, held)
    bounds = {line for line in asked if not line.startswith("torch==")}
    assert len(bounds) >= 15
    for line in bounds:
        wanted = lock.Requirement.parse(line)
        have = lock.numbers(rows[wanted.name])
        assert wanted.minimum is not None
        assert wanted.accepts(rows[wanted.name]), line
        # The third number is free: a first release may be withdrawn, as tokenizers 0.22.0.
        assert (*have, 0, 0)[:2] == (*lock.numbers(wanted.minimum), 0, 0)[:2], line
    for line in (*tools, f"torch=={held['torch']}"):
        name, version = line.split("==")
        assert rows[name] == version


def test_ci_tests_the_lower_bounds_first():
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    assert "tests/lowest-python3.11.txt" in script
    assert script.index("run.py test --quick --python") < script.index("run.py test </dev/null")
