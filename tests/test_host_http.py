"""Routes of the embedded server beside the graph's: queue, history, templates, the page's files."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("aiohttp", reason="aiohttp is the server")

import host_rules
import host_servers
from host_servers import Client


@pytest.fixture
def host(pack: Any, tmp_path: Path) -> Iterator[Client]:
    with host_servers.embedded(pack, tmp_path, host_rules) as client:
        yield client


def steps(count: int, pause_s: float) -> dict[str, Any]:
    x = {"class_type": "Rules_Steps", "inputs": {"count": count, "pause_s": pause_s}}
    return {"x": x, "show": {"class_type": "Rules_Show", "inputs": {"value": ["x", 0]}}}


def post(host: Client, prompt: dict[str, Any], **body: Any) -> str:
    status, answer = host.call("POST", "/prompt", json={"prompt": prompt, **body})
    assert status == 200, answer
    return answer["prompt_id"]


def wait_for(test: Any) -> None:
    for _ in range(200):
        if test():
            return
        time.sleep(0.05)
    raise AssertionError("it never came to that")


def queued(host: Client) -> tuple[list[str], list[str]]:
    queue = host.get("/queue")
    running, pending = queue["queue_running"], queue["queue_pending"]
    return [item[1] for item in running], [item[1] for item in pending]


def test_prompts_wait_in_order_and_can_be_removed(host):
    first = post(host, steps(200, 0.05))
    wait_for(lambda: queued(host)[0] == [first])
    second = post(host, steps(1, 0.0))
    third = post(host, steps(2, 0.0), front=True)
    assert queued(host) == ([first], [third, second])
    assert host.get("/prompt") == {"exec_info": {"queue_remaining": 3}}
    host.call("POST", "/queue", json={"delete": [third]})
    assert queued(host)[1] == [second]
    host.call("POST", "/queue", json={"clear": True})
    assert queued(host)[1] == []
    host.call("POST", "/interrupt", json={"prompt_id": first})
    wait_for(lambda: queued(host)[0] == [])
    assert list(host.get("/history")) == [first]
    host.call("POST", "/history", json={"clear": True})
    assert host.get("/history") == {}


def test_freeing_waits_for_the_end_of_a_run(host):
    first = post(host, steps(20, 0.02))
    wait_for(lambda: queued(host)[0] == [first])
    started = time.monotonic()
    host.call("POST", "/free", json={"unload_models": True, "free_memory": True})
    assert time.monotonic() - started > 0.05
    assert host.get(f"/history/{first}")[first]["status"]["completed"] is True


def test_a_body_without_a_graph_is_refused(host):
    status, answer = host.call("POST", "/prompt", json={"client_id": "a"})
    assert (status, answer["error"]["type"]) == (400, "no_prompt")


def test_two_servers_run_side_by_side(pack, tmp_path):
    answers: dict[str, str] = {}

    def run(name: str) -> None:
        with host_servers.embedded(pack, tmp_path / name, host_rules) as client:
            answers[name] = client.run(steps(2, 0.01)).end

    threads = [threading.Thread(target=run, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {"a": "execution_success", "b": "execution_success"}


def test_the_pages_files_are_kept_in_the_user_folder_and_nowhere_else(host):
    path = "/api/userdata/workflows%2Fmine.json"
    assert host.call("GET", path)[0] == 404
    assert host.call("POST", path, data=b'{"a": 1}')[:2] == (200, "workflows/mine.json")
    assert host.call("POST", f"{path}?overwrite=false", data=b"{}")[0] == 409
    assert host.call("GET", path)[1] == {"a": 1}
    assert host.get("/api/userdata", dir="workflows", recurse="true") == ["mine.json"]
    (about,) = host.get("/api/userdata", dir="workflows", recurse="true", full_info="true")
    assert (about["path"], about["size"]) == ("mine.json", 8)
    assert (host.folders["user"] / "default" / "workflows" / "mine.json").is_file()
    for name in ("..%2F..%2Fout.json", "%2Fetc%2Fout.json", "C%3A%5Cout.json"):
        assert host.call("POST", f"/api/userdata/{name}", data=b"x")[0] == 403
    assert host.call("DELETE", path)[0] == 204
    assert host.call("GET", path)[0] == 404


def test_settings_last_as_long_as_the_server(host):
    host.call("POST", "/api/settings", json={"Comfy.A": 1})
    host.call("POST", "/api/settings/Comfy.B", json=[2])
    settings = host.get("/api/settings")
    assert (settings["Comfy.A"], settings["Comfy.B"]) == (1, [2])
    assert host.get("/api/settings/Comfy.B") == [2]


def test_templates_are_listed_and_served_with_their_pictures(pack, tmp_path):
    workflows = tmp_path / "workflows"
    workflows.mkdir()
    (workflows / "a.json").write_text("{}")
    (workflows / "a.jpg").write_bytes(b"\xff\xd8")
    (workflows / "notes.txt").write_text("no")
    server = pack.module("nodes._host.http").HostServer
    host = pack.make_host(tmp_path, [])
    with server(host, pack=tmp_path) as running:
        client = Client(running.url, "embedded", {})
        assert client.get("/workflow_templates") == {"ComfyUI-UniFashion": ["a"]}
        route = "/workflow_templates/ComfyUI-UniFashion"
        assert client.call("GET", f"{route}/a.json") == (200, {})
        assert client.call("GET", f"{route}/a.jpg")[0] == 200
        for name in ("notes.txt", "b.json", "..%2Fa.json"):
            assert client.call("GET", f"{route}/{name}")[0] == 404


def test_a_packs_help_words_and_blueprints_are_served_as_comfyui_does(pack, tmp_path):
    (tmp_path / "secret.md").write_text("no")
    for name, text in {
        "web/docs/A.md": "# A",
        "web/x.js": "1",
        "locales/zh/main.json": '{"nodeCategories": {"a": "b"}}',
        "locales/zh/nodeDefs.json": '{"A": {"display_name": "c"}}',
        "subgraphs/Find.json": '{"nodes": []}',
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    server = pack.module("nodes._host.http").HostServer
    with server(pack.make_host(tmp_path, []), pack=tmp_path) as running:
        client = Client(running.url, "embedded", {})
        base = "/extensions/ComfyUI-UniFashion"
        assert client.get("/extensions") == [f"{base}/x.js"]
        assert client.call("GET", f"{base}/docs/A.md")[:2] == (200, b"# A")
        for name, status in (("docs/B.md", 404), ("..%2Fsecret.md", 403), ("docs", 404)):
            assert client.call("GET", f"{base}/{name}")[0] == status
        words = {"nodeCategories": {"a": "b"}, "nodeDefs": {"A": {"display_name": "c"}}}
        assert client.get("/i18n") == {"zh": words}
        ((key, about),) = client.get("/global_subgraphs").items()
        assert (about["name"], about["data"]) == ("Find", "")
        assert client.get(f"/global_subgraphs/{key}")["data"] == '{"nodes": []}'
        assert client.call("GET", "/global_subgraphs/none")[0] == 404


def test_a_taken_port_is_told(pack, tmp_path):
    server = pack.module("nodes._host.http").HostServer
    host = pack.make_host(tmp_path, [])
    with server(host) as first:
        port = int(first.url.rsplit(":", 1)[1])
        with (
            pytest.raises(Exception, match=rf"Server on port {port}: it did not start"),
            server(host, port=port),
        ):
            pass


def test_a_picture_that_was_typed_on_the_command_line_can_be_seen(pack, tmp_path):
    from PIL import Image

    path = tmp_path / "typed" / "a.png"
    path.parent.mkdir()
    Image.new("RGB", (2, 2)).save(path)
    folders, name = pack.host.Folders.under(tmp_path).with_input(path)
    server = pack.module("nodes._host.http").HostServer
    with server(pack.host.Host(folders, [])) as running:
        client = Client(running.url, "embedded", {})
        assert client.call("GET", "/view", params={"filename": name, "type": "input"})[0] == 200
        assert client.get("/system_stats")["system"]["comfyui_version"]
