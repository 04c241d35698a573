"""Every template, opened in the real page on the embedded host, gives exactly its API twin."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import conftest
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
HERE = Path(__file__).resolve().parent
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))

pytestmark = pytest.mark.browser


def playwright(folder: Path) -> Path:
    """The folder with playwright-core, installed from the lock file when it is not there yet."""
    if not (folder / "node_modules" / "playwright-core").is_dir():
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, folder / name)
        command = [
            shutil.which("npm") or "npm",
            "ci",
            "--no-audit",
            "--no-fund",
            "--loglevel=error",
        ]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
        if done.returncode:
            pytest.skip(f"npm ci did not bring playwright-core: {done.stderr.strip()[-300:]}")
    return folder


@pytest.fixture(scope="module")
def seen(request: Any, pack: Any, tmp_path_factory: Any) -> dict[str, dict[str, Any]]:
    """What the page showed of each workflow; one server and one browser for all."""
    base = tmp_path_factory.mktemp("browser")
    cache = getattr(request.config, "cache", None)
    tools = playwright(Path(cache.mkdir("browser")) if cache else base)
    server = pack.module("nodes._host.http").HostServer
    shots = Path(os.environ.get("UNIFASHION_SHOTS") or base)
    out = base / "seen.json"
    with server(pack.make_host(base), workflows=ROOT / "workflows", page=True) as running:
        command = ["node", str(HERE / "check.mjs"), running.url, str(out), str(shots)]
        env = {**os.environ, "PLAYWRIGHT": str(tools), "CHROMIUM": conftest.chromium() or ""}
        done = subprocess.run(
            [*command, *map(str, WORKFLOWS)], env=env, capture_output=True, text=True, timeout=600
        )
    assert done.returncode == 0, done.stderr[-3000:]
    return {entry["name"]: entry for entry in json.loads(out.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_a_template_opens_without_a_fault(seen, path):
    entry = seen[path.stem]
    faults = ("missing", "red", "unlinked", "unknown", "failedRequests", "pageErrors", "dialogs")
    assert {fault: entry[fault] for fault in faults if entry[fault]} == {}
    assert entry["nodes"] > 0


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_a_template_gives_exactly_its_api_twin(seen, path):
    twin = json.loads((path.parent / "api" / path.name).read_text(encoding="utf-8"))
    assert _bare(seen[path.stem]["prompt"]) == _bare(twin)


def _bare(prompt: dict[str, Any]) -> dict[str, Any]:
    """A prompt without the titles that the page adds."""
    return {i: {k: v for k, v in node.items() if k != "_meta"} for i, node in prompt.items()}
