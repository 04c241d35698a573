"""Templates and help pages of a pack whose folder's name must be quoted in an address."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

pytest.importorskip("aiohttp", reason="aiohttp is what ComfyUI serves with")

import yarl
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

NAMES = ["UniFashion try-on", "pack (1)", "50% {new", "ユニ"]


def ask(folder: Path, add: Any, *addresses: str) -> list[int]:
    """Status of each address, where a pack has the host's routes and those that `add` brings."""

    async def run() -> list[int]:
        app, table = web.Application(), web.RouteTableDef()
        add(table, folder)
        app.add_routes(table)
        for prefix, below in (("/workflow_templates/", "workflows"), ("/extensions/", "web")):
            app.router.add_static(prefix + folder.name, folder / below)
            app.router.add_static(prefix + "other", folder / below)
        async with TestClient(TestServer(app)) as client:
            return [(await client.get(yarl.URL(a, encoded=True))).status for a in addresses]

    return asyncio.run(run())


@pytest.fixture
def make(tmp_path):
    def pack_folder(name: str) -> Path:
        folder = tmp_path / name
        for file in ("workflows/07.json", "workflows/07.jpg", "web/docs/A.md", "secret.txt"):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text("x", encoding="utf-8")
        return folder

    return pack_folder


@pytest.mark.parametrize("name", NAMES)
def test_templates_and_pages_are_found_under_any_name(pack, make, name):
    folder, there = make(name), quote(name)
    addresses = [
        f"/workflow_templates/{there}/07.json",
        f"/workflow_templates/{there}/07.jpg",
        f"/extensions/{there}/docs/A.md",
    ]
    assert ask(folder, lambda table, where: None, *addresses) == [404] * 3  # why this is needed
    assert ask(folder, pack.comfy.add_pack_routes, *addresses) == [200] * 3


def test_nothing_else_is_served(pack, make):
    folder = make("a b")
    (folder / "web" / "link").symlink_to(folder / "secret.txt")
    addresses = [
        "/workflow_templates/a%20b/none.json",
        "/workflow_templates/a%20b/..%2Fsecret.txt",
        "/extensions/a%20b/docs%2F..%2F..%2Fsecret.txt",
        "/extensions/a%20b/%2Fetc%2Fpasswd",
        "/extensions/a%20b/link",
        "/extensions/a%20b/docs",
        "/extensions/axb/docs/A.md",
    ]
    assert ask(folder, pack.comfy.add_pack_routes, *addresses) == [404] * len(addresses)


def test_another_packs_routes_stay(pack, make):
    addresses = ["/workflow_templates/other/07.json", "/extensions/other/docs/A.md"]
    assert ask(make("a b"), pack.comfy.add_pack_routes, *addresses) == [200, 200]
