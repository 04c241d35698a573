"""What `_comfy` gives to nodes, on the embedded host and, with COMFYUI_PATH, on a real ComfyUI."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("aiohttp", reason="aiohttp serves the hosts to these tests")

import host_rules
import host_servers
from host_servers import Client


@pytest.fixture(scope="module", params=host_servers.HOSTS)
def host(request: Any, pack: Any, tmp_path_factory: Any) -> Iterator[Client]:
    base = tmp_path_factory.mktemp(request.param)
    if request.param == "embedded":
        with host_servers.embedded(pack, base, host_rules) as client:
            yield client
    else:
        with host_servers.comfyui(base) as client:
            yield client


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def ask(host: Client, function: str, argument: str = "") -> str:
    x = node("Rules_Ask", function=function, argument=argument)
    answer = host.run({"x": x, "show": node("Rules_Show", value=["x", 0])})
    assert answer.end == "execution_success", answer.events[-1]
    (text,) = answer.text("show")
    return text


def shown(host: Client, kind: str) -> str:
    answer = host.run({"x": node(kind), "show": node("Rules_Show", value=["x", 0])})
    assert answer.end == "execution_success", answer.events[-1]
    return answer.text("show")[0]


# --- models


def test_a_model_with_a_read_only_device_is_managed(host):
    assert shown(host, "Rules_Model") == "RulesNet (1, 2) torch.float32 False True True"


def test_the_hosts_attention_is_comfyuis_or_none(host):
    expected = "shape (2, 3, 5, 8), close True" if host.kind == "comfyui" else "none"
    assert shown(host, "Rules_Attention") == expected


def test_models_are_listed_from_the_users_folder_and_found_inside_it(host):
    own = host.folders["own_models"]
    (own / "sub" / "folder").mkdir(parents=True, exist_ok=True)
    (own / "a.safetensors").touch()
    (own / "sub" / "b.pt").touch()
    (own / "notes.txt").touch()
    (own / "sub" / "folder" / "config.json").touch()
    (own / "sub" / "folder" / "model.safetensors").touch()
    assert ask(host, "list_models", host_rules.MODEL_KIND) == str(
        ["a.safetensors", "sub/b.pt", "sub/folder"]
    )
    found = ask(host, "find_model", f"{host_rules.MODEL_KIND}|sub/b.pt")
    assert Path(found) == own / "sub" / "b.pt"


@pytest.mark.parametrize("name", ["../secret.pt", "/etc/passwd", "C:\\x.pt", "sub\\..\\..\\x.pt"])
def test_a_models_name_cannot_leave_its_folders(host, name):
    (host.folders["own_models"].parent / "secret.pt").touch()
    text = ask(host, "find_model", f"{host_rules.MODEL_KIND}|{name}")
    assert text.startswith("refused: Model ")


def test_an_unknown_model_names_the_folders(host):
    text = ask(host, "find_model", f"{host_rules.MODEL_KIND}|none.pt")
    assert "'none.pt' was not found in" in text
    assert str(host.folders["own_models"]) in text


# --- folders of pictures


def test_input_output_and_the_listed_folder_may_be_indexed(host):
    (host.folders["output"] / "july").mkdir(parents=True, exist_ok=True)
    (host.folders["wardrobe"] / "coats").mkdir(exist_ok=True)
    wardrobe = host.folders["wardrobe"]
    for text, folder in (
        ("input", host.folders["input"]),
        ("output/july", host.folders["output"] / "july"),
        ("july", host.folders["output"] / "july"),
        ("wardrobe", wardrobe),
        ("wardrobe/coats", wardrobe / "coats"),
        ("coats", wardrobe / "coats"),
        (str(wardrobe), wardrobe),
        (str(wardrobe / "coats"), wardrobe / "coats"),
    ):
        assert ask(host, "resolve_image_folder", text) == str(folder.resolve()), text


@pytest.mark.parametrize(
    "text",
    [
        "..",
        "input/../../secret",
        "/etc",
        "C:\\Windows",
        "C:..\\secret",
        "\\\\server\\share",
        "..\\secret",
        "//server/share",
        "link",
        "~",
        "1, " * 100,
    ],
)
def test_any_other_folder_is_refused_and_the_error_says_how_to_list_it(host, text):
    secret = host.folders["input"].parent / "secret"
    secret.mkdir(exist_ok=True)
    link = host.folders["input"] / "link"
    if not link.is_symlink():
        link.symlink_to(secret, target_is_directory=True)
    answer = ask(host, "resolve_image_folder", text)
    assert answer.startswith(f"refused: Image folder {text!r}: ")
    assert "extra_model_paths.yaml as a line 'unifashion_images: " in answer
    assert str(host.folders["wardrobe"]) in answer


# --- galleries


def test_galleries_lie_in_the_users_folder_and_nothing_is_made(host):
    folder = Path(ask(host, "galleries_folder"))
    assert folder == host.folders["user"] / "__unifashion" / "galleries"
    assert Path(ask(host, "gallery_path", "spring 2026")) == folder / "spring 2026"
    if host.kind == "comfyui":
        assert not folder.exists()
    assert ask(host, "list_galleries") == "[]"


@pytest.mark.parametrize(
    "name",
    ["..", ".", "a/b", "a\\b", "CON", "nul.txt", "com1", " a", "a.", "a ", "x" * 65, "a:b", "-a"],
)
def test_a_gallery_name_that_is_no_folder_everywhere_is_refused(host, name):
    assert ask(host, "gallery_path", name).startswith("refused: Gallery name: ")


# --- pictures


def picture(mode: str, size: tuple[int, int], colour: Any, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, format=kind, **options)
    return buffer.getvalue()


def upload(host: Client, name: str, content: bytes, **more: str) -> dict[str, Any]:
    import aiohttp

    form = aiohttp.FormData(more)
    form.add_field("image", content, filename=name)
    status, body = host.call("POST", "/upload/image", data=form)
    assert status == 200, body
    return body


def test_an_uploaded_picture_is_loaded_with_its_mask(host):
    upload(host, "clear.png", picture("RGBA", (6, 4), (255, 0, 0, 51), "PNG"))
    prompt = {
        "x": node("LoadImage", image="clear.png"),
        "i": node("PreviewImage", images=["x", 0]),
        "m": node("PreviewAny", source=["x", 1]),
    }
    answer = host.run(prompt)
    outputs = {d["node"]: d["output"] for d in answer.of("executed")}
    status, body = host.call("GET", "/view", params=outputs["i"]["images"][0])
    seen = Image.open(io.BytesIO(body))
    assert (status, seen.mode, seen.size) == (200, "RGB", (6, 4))
    assert seen.getpixel((0, 0)) == (255, 0, 0)
    assert "0.8000" in outputs["m"]["text"][0]


def test_a_photo_is_loaded_upright(host):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    upload(host, "turned.jpg", picture("RGB", (8, 4), (0, 90, 0), "JPEG", exif=exif.tobytes()))
    prompt = {"x": node("LoadImage", image="turned.jpg")}
    prompt["s"] = node("SaveImage", images=["x", 0], filename_prefix="up/%width%x%height%")
    (output,) = (d["output"]["images"][0] for d in host.run(prompt).of("executed"))
    assert (output["filename"], output["subfolder"]) == ("4x8_00001_.png", "up")


def save(host: Client, count: int, workflow: str) -> list[str]:
    """Names of the files that SaveImage made."""
    prompt = {"x": node("Rules_Picture", count=count)}
    prompt["s"] = node("SaveImage", images=["x", 0], filename_prefix="graph")
    extra = {"extra_data": {"extra_pnginfo": {"workflow": workflow}}}
    answer = host.run(prompt, body=extra)
    images = next(d for d in answer.of("executed") if d["node"] == "s")["output"]["images"]
    return [image["filename"] for image in images]


def test_a_saved_picture_carries_its_graph_and_gets_the_next_number(host):
    assert save(host, 2, "first") == ["graph_00001_.png", "graph_00002_.png"]
    assert save(host, 1, "second") == ["graph_00003_.png"]
    stored = Image.open(host.folders["output"] / "graph_00003_.png")
    assert stored.info["workflow"] == '"second"'
    assert '"SaveImage"' in stored.info["prompt"]
    assert stored.getpixel((0, 0)) == (127, 127, 127)


@pytest.mark.parametrize("prefix", ["../out", "/tmp/out", "a/../../out"])
def test_a_saved_picture_cannot_leave_the_output_folder(host, prefix):
    prompt = {"x": node("Rules_Picture", count=1)}
    prompt["s"] = node("SaveImage", images=["x", 0], filename_prefix=prefix)
    assert host.run(prompt).end == "execution_error"


@pytest.mark.parametrize("name", ["../secret.png", "none.png", "/etc/passwd"])
def test_an_input_outside_or_missing_is_refused(host, name):
    prompt = {"x": node("LoadImage", image=name)}
    answer = host.run({**prompt, "s": node("PreviewImage", images=["x", 0])})
    assert answer.status == 400


def test_an_input_of_another_folder_is_named_with_it(host):
    (host.folders["output"]).mkdir(exist_ok=True)
    (host.folders["output"] / "made.png").write_bytes(picture("RGB", (2, 2), 0, "PNG"))
    prompt = {"x": node("LoadImage", image="made.png [output]")}
    answer = host.run({**prompt, "s": node("PreviewImage", images=["x", 0])})
    assert answer.end == "execution_success"
    path = ask(host, "annotated_input_path", "made.png [output]")
    assert Path(path) == host.folders["output"] / "made.png"


@pytest.mark.parametrize(
    ("value", "text"),
    [(5, "5"), ("word", "word"), ({"__value__": {"a": [1, "ä"]}}, None)],
)
def test_any_value_is_previewed_as_text(host, value, text):
    answer = host.run({"p": node("PreviewAny", source=value)})
    (shown_text,) = answer.text("p")
    assert shown_text == (text or '{\n    "a": [\n        1,\n        "ä"\n    ]\n}')


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("PrimitiveString", "a", "a"),
        ("PrimitiveStringMultiline", "a\nb", "a\nb"),
        ("PrimitiveInt", 7, "7"),
        ("PrimitiveFloat", 0.25, "0.25"),
    ],
)
def test_primitives_pass_their_value_on(host, kind, value, text):
    answer = host.run({"x": node(kind, value=value), "p": node("PreviewAny", source=["x", 0])})
    assert answer.text("p") == [text]


def test_a_taken_upload_name_gets_a_number_unless_it_is_the_same_file(host):
    red, blue = (picture("RGB", (2, 2), c, "PNG") for c in ("red", "blue"))
    assert upload(host, "taken.png", red)["name"] == "taken.png"
    assert upload(host, "taken.png", red)["name"] == "taken.png"
    assert upload(host, "taken.png", blue)["name"] == "taken (1).png"
    answer = upload(host, "taken.png", blue, overwrite="true", subfolder="sub")
    assert answer == {"name": "taken.png", "subfolder": "sub", "type": "input"}


@pytest.mark.parametrize(
    "query",
    [
        {"filename": "../secret.png", "type": "input"},
        {"filename": "secret.png", "subfolder": "..", "type": "input"},
        {"filename": "/etc/passwd", "type": "input"},
        {"filename": "none.png", "type": "input"},
        {"filename": "a.png", "type": "user"},
    ],
)
def test_nothing_outside_is_shown(host, query):
    (host.folders["input"].parent / "secret.png").write_bytes(picture("RGB", (2, 2), 0, "PNG"))
    assert host.call("GET", "/view", params=query)[0] in (400, 403, 404)


def test_another_sites_page_is_refused(host):
    headers = {"Origin": "http://evil.example"}
    assert host.call("POST", "/interrupt", json={}, headers=headers)[0] == 403
    assert host.call("POST", "/interrupt", json={}, headers={"Origin": host.url})[0] == 200


# --- schemas

_WORDS = ("description", "search_aliases", "output_tooltips")  # left out of the recorded schemas
_CORE = Path(__file__).parent / "browser" / "object_info_core.json"


@pytest.mark.parametrize("name", list(json.loads(_CORE.read_text(encoding="utf-8"))))
def test_a_core_node_has_comfyuis_schema(host, name):
    want = json.loads(_CORE.read_text(encoding="utf-8"))[name]
    got = host.get(f"/object_info/{name}")[name]
    for info in (want, got):
        for word in _WORDS:
            info.pop(word, None)
        for _, *options in info["input"]["required"].values():
            for entry in options:
                entry.pop("tooltip", None)
    if name == "LoadImage":  # the input folder's files, on each host its own
        for info in (want, got):
            info["input"]["required"]["image"][0] = []
    assert got == want


def test_a_foreign_name_for_this_machine_is_refused(pack, tmp_path):
    with host_servers.embedded(pack, tmp_path, host_rules) as host:
        assert host.call("GET", "/queue", headers={"Host": "evil.example"})[0] == 403
