"""The templates: each equals its API twin, brings its note, and runs on the embedded host."""

from __future__ import annotations

import json
import math
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


@pytest.mark.slow  # lays every template out anew
@pytest.mark.parametrize("name", NAMES)
def test_template_is_made_from_its_twin(pack, host, name):
    note = (ROOT / "workflows" / "notes" / f"{name}.md").read_text("utf-8")
    made = pack.module("nodes._page.graph").to_template(twin(name), host.object_info(), note)
    assert json.loads((ROOT / "workflows" / f"{name}.json").read_text("utf-8")) == made


def crossed(boxes, wires, title=30):
    """Wires with each node that they pass behind, point by point."""
    found = []
    for source, down, target, to in wires:
        x, y, width, _ = boxes[source]
        start, end = (x + width, y + down), (boxes[target][0], boxes[target][1] + to)
        reach = math.dist(start, end) / 4
        pulls = (start, (start[0] + reach, start[1]), (end[0] - reach, end[1]), end)
        for name, (left, top, wide, high) in boxes.items():
            if name in (source, target):
                continue
            for step in range(201):
                t = step / 200
                shares = ((1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2, t**3)
                a, b = (sum(s * p[k] for s, p in zip(shares, pulls, strict=True)) for k in (0, 1))
                if left <= a <= left + wide and top - title <= b <= top + high:
                    found.append((source, target, name))
                    break
    return found


@pytest.mark.parametrize("name", NAMES)
def test_no_wire_of_a_template_passes_behind_a_node(pack, host, name):
    saved = json.loads((ROOT / "workflows" / f"{name}.json").read_text("utf-8"))
    boxes = {str(node["id"]): (*node["pos"], *node["size"]) for node in saved["nodes"]}
    wires = pack.module("nodes._page.graph").wires(twin(name), host.object_info())
    assert len(wires) == len(saved["links"]) > 0
    assert crossed(boxes, wires) == []


def test_a_wire_behind_a_node_is_found_and_freed(pack):
    wires = pack.module("nodes._page.wires")
    boxes = {"a": (0, 0, 300, 200), "b": (350, 0, 300, 400), "c": (700, 0, 300, 200)}
    through = [("a", 14, "b", 14), ("b", 14, "c", 14), ("a", 34, "c", 34)]
    assert [node for _, node in wires.behind(boxes, through)] == ["b"]
    assert crossed(boxes, through) == [("a", "c", "b")]
    made = wires.freed(boxes, through)
    assert wires.behind(made, through) == crossed(made, through) == []
    assert {name: box[2:] for name, box in made.items()} == {n: b[2:] for n, b in boxes.items()}
    assert wires.freed(made, through) == made


@pytest.mark.parametrize("name", NAMES)
def test_twin_has_every_widget_that_the_page_sends(pack, host, name):
    page = pack.module("nodes._page.graph")
    assert twin(name) == page.completed(twin(name), host.object_info())


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
