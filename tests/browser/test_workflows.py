"""Every template in the real page on the embedded host: it opens, gives its API twin, and runs.

UNIFASHION_SHOTS names a folder that the page's pictures are kept in.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import conftest
import pytest
from PIL import Image
from test_render_variations_node import graph as plan_graph
from test_tryon_nodes import save_model

ROOT = Path(__file__).resolve().parent.parent.parent
HERE = Path(__file__).resolve().parent
RENDERERS = ("canvas", "vue")
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
BLUEPRINTS = sorted((ROOT / "subgraphs").glob("*.json"))

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


def plan_picture(host: Any, base: Path) -> Path:
    """A picture of a plan, of garments and a person that have no file."""
    made = host.run(plan_graph(folder_name="dropped", name="{index:03}"))
    return base / "output" / "dropped" / made.ui["5"]["images"][1]["filename"]


@pytest.fixture(scope="module")
def seen(request: Any, pack: Any, tmp_path_factory: Any) -> dict[str, Any]:
    """What the page showed; one server and one browser for everything."""
    base = tmp_path_factory.mktemp("browser")
    cache = getattr(request.config, "cache", None)
    tools = playwright(Path(cache.mkdir("browser")) if cache else base)
    server = pack.module("nodes._host.http").HostServer
    shots = Path(os.environ.get("UNIFASHION_SHOTS") or base)
    out = base / "seen.json"
    save_model(pack, base / "models" / "unifashion_tryon" / "tiny")
    host = pack.make_host(base)
    picture = plan_picture(host, base)
    with server(host, pack=ROOT, page=True) as running:
        command = ["node", str(HERE / "check.mjs"), running.url, str(out), str(shots)]
        env = {**os.environ, "PLAYWRIGHT": str(tools), "CHROMIUM": conftest.chromium() or ""}
        done = subprocess.run(
            [*command, *map(str, [*WORKFLOWS, *BLUEPRINTS, picture])],
            env=env,
            capture_output=True,
            text=True,
            timeout=3600,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    return {**json.loads(out.read_text(encoding="utf-8")), "picture": picture}


def _entry(
    seen: dict[str, Any], path: Path, renderer: str, kind: str = "workflows"
) -> dict[str, Any]:
    (entry,) = (
        entry for entry in seen[kind] if (entry["name"], entry["renderer"]) == (path.stem, renderer)
    )
    return entry


def _faults(notes: dict[str, Any]) -> dict[str, Any]:
    """What went wrong on the page, and what of ours its console complains of."""
    ours = [text for text in notes["consoleErrors"] if "unifashion" in text.lower()]
    found = {"consoleErrors": ours, **{k: notes[k] for k in ("failedRequests", "pageErrors")}}
    return {fault: texts for fault, texts in found.items() if texts}


def test_the_page_starts_without_a_fault(seen):
    assert _faults(seen["start"]) == {}


@pytest.mark.parametrize("renderer", RENDERERS)
@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_a_template_opens_and_runs_without_a_fault(seen, path, renderer):
    entry = _entry(seen, path, renderer)
    faults = ("missing", "red", "unlinked", "unknown", "dialogs", "overlapping")
    assert {fault: entry[fault] for fault in faults if entry[fault]} | _faults(entry) == {}
    assert entry["run"] == "execution_success"
    assert (entry["nodes"] > 0, entry["vueNodes"] > 0) == (True, renderer == "vue")


@pytest.mark.parametrize("renderer", RENDERERS)
@pytest.mark.parametrize("path", BLUEPRINTS, ids=lambda p: p.stem)
def test_a_blueprint_opens_without_a_fault(seen, path, renderer):
    entry = _entry(seen, path, renderer, "blueprints")
    faults = ("missing", "red", "unlinked", "unknown", "overlapping")
    assert {fault: entry[fault] for fault in faults if entry[fault]} | _faults(entry) == {}
    assert entry["nodes"] > 1


def test_the_page_lists_blueprints_and_finds_every_help_page(seen):
    assert sorted(seen["help"]["blueprints"]) == [path.stem for path in BLUEPRINTS]
    status = seen["help"]["status"]
    assert status
    assert {path: code for path, code in status.items() if code != 200} == {}
    assert [text for text in seen["start"]["consoleErrors"] if "blueprint" in text.lower()] == []


def test_the_page_shows_nodes_in_the_users_language(seen):
    assert _faults(seen["languages"]) == {}
    for language in ("en", "zh", "ja"):
        path = ROOT / "locales" / language / "nodeDefs.json"
        words = json.loads(path.read_text(encoding="utf-8"))
        want = {name: node["display_name"] for name, node in words.items()}
        assert seen["languages"][language] == want, language


@pytest.mark.parametrize("renderer", RENDERERS)
@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_a_template_gives_exactly_its_api_twin(seen, path, renderer):
    twin = json.loads((path.parent / "api" / path.name).read_text(encoding="utf-8"))
    assert _bare(_entry(seen, path, renderer)["prompt"]) == _bare(twin)


def test_a_plans_picture_dropped_into_the_page_makes_itself_and_no_other(seen):
    path: Path = seen["picture"]
    (dropped,) = (entry for entry in seen["dropped"] if entry["name"] == path.stem)
    faults = {fault: dropped[fault] for fault in ("missing", "red") if dropped[fault]}
    assert faults | _faults(dropped) == {}
    with Image.open(path) as image:
        wanted = json.loads(image.info["prompt"])
    found = _bare(dropped["prompt"])
    assert {i: node["class_type"] for i, node in found.items()} == {
        i: node["class_type"] for i, node in wanted.items()
    }
    for number, node in wanted.items():
        for name, value in node["inputs"].items():
            assert found[number]["inputs"][name] == value, (number, name)
    assert dropped["types"].count("LoadImage") == 2
    assert dropped["overlapping"] == []


def test_a_saved_picture_dropped_into_the_page_restores_its_workflow(seen):
    savers = {
        path.stem: json.loads((path.parent / "api" / path.name).read_text(encoding="utf-8"))
        for path in WORKFLOWS
    }
    wanted = [
        _bare(twin)
        for twin in savers.values()
        if any(node["class_type"] == "SaveImage" for node in twin.values())
    ]
    dropped = [entry for entry in seen["dropped"] if entry["name"] != seen["picture"].stem]
    assert [_faults(entry) for entry in dropped if _faults(entry)] == []
    found = [_bare(entry["prompt"]) for entry in dropped]
    assert len(found) == len(wanted) > 0
    assert all(graph in found for graph in wanted)


def _bare(prompt: dict[str, Any]) -> dict[str, Any]:
    """A prompt without the titles that the page adds."""
    return {i: {k: v for k, v in node.items() if k != "_meta"} for i, node in prompt.items()}
