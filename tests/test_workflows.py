"""The templates: each equals its API twin, brings its note, and runs on the embedded host."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NAMES = sorted(path.stem for path in (ROOT / "workflows" / "api").glob("*.json"))


def twin(name: str):
    return json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def host(pack, tmp_path_factory):
    return pack.make_host(tmp_path_factory.mktemp("workflows"))


def test_every_template_has_its_twin_its_note_and_its_picture():
    folder = ROOT / "workflows"
    assert NAMES
    assert sorted(p.stem for p in folder.glob("*.json")) == NAMES
    assert sorted(p.stem for p in (folder / "notes").glob("*.md")) == NAMES
    assert sorted(p.stem for p in folder.glob("*.jpg")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_template_is_made_from_its_twin(pack, host, name):
    note = (ROOT / "workflows" / "notes" / f"{name}.md").read_text("utf-8")
    made = pack.module("nodes._cli.workflows").to_template(twin(name), host.object_info(), note)
    assert json.loads((ROOT / "workflows" / f"{name}.json").read_text("utf-8")) == made


@pytest.mark.parametrize("name", NAMES)
def test_twin_has_every_widget_that_the_page_sends(pack, host, name):
    workflows = pack.module("nodes._cli.workflows")
    assert twin(name) == workflows.completed(twin(name), host.object_info())


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_template_runs_with_the_weights_that_ship(host, name):
    graph = twin(name)
    if graph["1"]["inputs"]["what"] == "collection":
        graph["1"]["inputs"] |= {"count": 12, "size": 128}
    result = host.run(graph)
    assert result.status == "success"
    assert set(graph) == {*result.executed, *result.cached}
    assert any(ui.get("images") for ui in result.ui.values())
