"""The subgraph blueprints: made from the chains in the command line, and whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted((ROOT / "subgraphs").glob("*.json"))


@pytest.fixture(scope="module")
def blueprints(pack):
    return pack.module("nodes._cli._blueprints")


@pytest.fixture(scope="module")
def host(pack, tmp_path_factory):
    return pack.make_host(tmp_path_factory.mktemp("blueprints"))


def test_every_file_is_made_from_its_chain(blueprints, host):
    made = {b.name: blueprints.to_blueprint(b, host.object_info()) for b in blueprints.BLUEPRINTS}
    found = {path.stem: json.loads(path.read_text("utf-8")) for path in FILES}
    assert found == made, "run `python run.py workflows`"


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_link_joins_two_ends_of_one_type(path):
    graph = json.loads(path.read_text("utf-8"))
    (inner,) = graph["definitions"]["subgraphs"]
    (outer,) = graph["nodes"]
    assert outer["type"] == inner["id"]
    nodes = {node["id"]: node for node in inner["nodes"]}
    links = {link["id"]: link for link in inner["links"]}
    for link in links.values():
        ends = (link["origin_id"], link["target_id"])
        output = (
            inner["inputs"][link["origin_slot"]]
            if ends[0] == -10
            else nodes[ends[0]]["outputs"][link["origin_slot"]]
        )
        target = (
            inner["outputs"][link["target_slot"]]
            if ends[1] == -20
            else nodes[ends[1]]["inputs"][link["target_slot"]]
        )
        assert output["type"] == target["type"] == link["type"]
        assert link["id"] in (output.get("linkIds") or output.get("links"))
        assert link["id"] in (target.get("linkIds") or [target.get("link")])
    used = [i for node in nodes.values() for i in (s["link"] for s in node["inputs"]) if i]
    used += [i for socket in inner["outputs"] for i in socket["linkIds"]]
    assert sorted(used) == sorted(links)
    for side in ("inputs", "outputs"):
        assert [s["name"] for s in outer[side]] == [s["name"] for s in inner[side]]


def test_a_chain_runs_on_the_embedded_host(blueprints, host, pack):
    values = {"gallery": "chain", "text": "a red dress", "exclude": "", "top_k": 3}
    graph = {
        "w": {
            "class_type": "UniFashion_SampleWardrobe",
            "inputs": {"what": "collection", "count": 6, "size": 64, "folder_name": "chain"},
        }
    }
    completed = pack.module("nodes._page.graph").completed
    for node_id, node in blueprints.FIND.graph.items():
        inputs = {
            field: (["w", 1] if value[1] == "folder" else values[value[1]])
            if isinstance(value, list) and value[0] == blueprints.INPUT
            else value
            for field, value in node["inputs"].items()
        }
        graph[node_id] = {**node, "inputs": inputs}
    result = host.run(completed(graph, host.object_info()))
    assert len(result.value("4").rows[0]) == 3
