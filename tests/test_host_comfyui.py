"""The pack itself inside a real ComfyUI: it loads, tells the same schemas, runs its templates."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("aiohttp", reason="aiohttp talks to the host in these tests")

import host_servers
from host_servers import Client

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / "workflows" / "api").glob("*.json"))
NAME = "ComfyUI-UniFashion"

pytestmark = pytest.mark.comfy


@pytest.fixture(scope="module")
def comfyui(tmp_path_factory: Any) -> Iterator[Client]:
    base = tmp_path_factory.mktemp("comfyui")
    with host_servers.comfyui(base, {NAME: ROOT}) as client:
        yield client


def own(info: dict[str, Any]) -> dict[str, Any]:
    """The pack's nodes, without where they come from."""
    found = {name: dict(entry) for name, entry in info.items() if name.startswith("UniFashion_")}
    for entry in found.values():
        del entry["python_module"]
    return found


def test_both_hosts_tell_the_same_schemas(comfyui, pack, tmp_path):
    expected = json.loads(json.dumps(own(pack.make_host(tmp_path).object_info())))
    assert own(comfyui.get("/object_info")) == expected


def test_the_templates_are_listed(comfyui):
    names = [path.stem for path in WORKFLOWS]
    assert sorted(comfyui.get("/workflow_templates")[NAME]) == names


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_a_template_runs(comfyui, path):
    answer = comfyui.run(json.loads(path.read_text(encoding="utf-8")))
    assert answer.status == 200, answer.body
    assert answer.body["node_errors"] == {}
    assert answer.end == "execution_success", answer.events[-1]
