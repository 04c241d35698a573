"""The embedded host's own Python interface: runs, folders, models; and what `_comfy` promises."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import host_rules
import pytest
import torch


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": f"Rules_{kind}", "inputs": inputs}


@pytest.fixture
def host(pack: Any, tmp_path: Path) -> Any:
    return pack.make_host(tmp_path, host_rules.build(pack.comfy))


# --- runs


def test_a_run_gives_values_and_what_was_shown(host):
    prompt = {
        "a": node("Spread", count=2, first=4),
        "x": node("Pair", a=["a", 0], b="w"),
        "show": node("Show", value=["x", 0]),
    }
    result = host.run(prompt)
    assert result.status == "success"
    assert result.values("a") == [4, 5]
    assert result.values("x") == ["4-w", "5-w"]
    assert result.ui["show"] == {"text": ["4-w", "5-w"]}
    assert result.executed == ("a", "x", "show")
    assert host.run(prompt).cached == ("a", "x", "show")
    with pytest.raises(ValueError, match="too many values"):
        result.value("x")


def test_a_run_leaves_its_prompt_alone(host):
    prompt = {"x": node("Plain", whole="3"), "show": node("Show", value=["x", 0])}
    host.run(prompt)
    assert prompt["x"]["inputs"] == {"whole": "3"}


def test_a_link_to_an_input_that_a_node_lacks_is_refused(host):
    prompt = {"x": node("Plain", whole="3"), "show": node("Show", value=["x", 0], more=["x", 0])}
    error = host.execute(prompt).error
    assert (
        error["exception_message"].strip().endswith("no input 'more'. Remove it from the workflow.")
    )


def test_a_run_that_must_end_well_refuses_a_half_sound_graph(pack, host):
    prompt = {
        "good": node("Show", value=1),
        "bad": node("Plain", whole=99),
        "show": node("Show", value=["bad", 0]),
    }
    text = r"node bad \(Rules_Plain\): Value 99 bigger than max of 10 \[value_bigger_than_max\]"
    with pytest.raises(pack.host.PromptError, match=text) as caught:
        host.run(prompt)
    assert list(caught.value.node_errors) == ["bad"]
    assert host.execute(prompt).ui["good"] == {"text": ["1"]}


def test_a_failing_node_is_raised_with_its_cause(pack, host):
    prompt = {"x": node("Fail", number=2), "show": node("Show", value=["x", 0])}
    with pytest.raises(pack.host.NodeError, match="2 is not welcome") as caught:
        host.run(prompt)
    assert isinstance(caught.value.__cause__, ValueError)
    assert caught.value.result.error["node_id"] == "x"


def test_a_run_can_be_interrupted_from_another_thread_and_the_next_one_works(pack, host):
    steps = {"x": node("Steps", count=200, pause_s=0.02), "show": node("Show", value=["x", 0])}

    def stop(node_id: str, done: int, total: int) -> None:
        if done == 2:
            thread = threading.Thread(target=host.interrupt)
            thread.start()
            thread.join()

    with pytest.raises(pack.host.InterruptProcessing):
        host.run(steps, on_progress=stop)
    steps["x"]["inputs"]["count"] = 2
    assert host.run(steps).value("x") == "2 steps"


def test_progress_is_told_with_node_and_total(host):
    seen: list[tuple[str, int, int]] = []
    steps = {"x": node("Steps", count=2, pause_s=0.0), "show": node("Show", value=["x", 0])}
    host.run(steps, on_progress=lambda *step: seen.append(step))
    assert seen == [("x", 1, 2), ("x", 2, 2)]


def test_an_error_tells_a_pictures_shape_instead_of_its_numbers(host):
    prompt = {"x": node("Picture", count=2), "f": node("FailOn", value=["x", 0])}
    prompt["show"] = node("Show", value=["f", 0])
    error = host.execute(prompt).error
    assert error["current_inputs"] == {"value": ["tensor (2, 4, 6, 3) torch.float32"]}


def test_two_inputs_of_one_id_are_refused(pack, tmp_path):
    io = pack.comfy.io

    class Twice(io.ComfyNode):
        @classmethod
        def define_schema(cls):
            return io.Schema(node_id="Twice", inputs=[io.Int.Input("a"), io.Int.Input("a")])

    with pytest.raises(ValueError, match=r"Input ids must be unique, \['a'\] are not"):
        pack.make_host(tmp_path, [Twice])


def test_two_nodes_of_one_id_are_refused(pack, tmp_path):
    nodes = host_rules.build(pack.comfy)
    with pytest.raises(pack.module("unifashion_core.errors").UniFashionError, match="Rename one"):
        pack.make_host(tmp_path, [nodes[0], nodes[0]])


def test_asking_the_host_where_none_runs_says_how(pack):
    with pytest.raises(Exception, match=r"Embedded host: none is running here\. Use `with host"):
        pack.comfy.device()


def test_metadata_can_be_left_out(pack, tmp_path):
    from PIL import Image

    host = pack.make_host(tmp_path, host_rules.build(pack.comfy), metadata=False)
    prompt = {"x": node("Picture", count=1)}
    save = {"class_type": "SaveImage", "inputs": {"images": ["x", 0], "filename_prefix": "bare"}}
    host.run({**prompt, "s": save}, extra={"extra_pnginfo": {"workflow": 1}})
    assert Image.open(tmp_path / "output" / "bare_00001_.png").info == {}


# --- folders


def test_what_a_user_typed_is_added_to_the_folders_and_the_checks_stay_on(pack, tmp_path):
    typed = tmp_path / "far" / "photos"
    typed.mkdir(parents=True)
    folders, gallery = pack.host.Folders.under(tmp_path / "base").with_gallery(
        tmp_path / "g" / "my g"
    )
    folders = folders.with_images(typed)
    host = pack.host.Host(folders, [])
    with host.active():
        assert pack.comfy.gallery_path(gallery) == tmp_path / "g" / "my g"
        assert pack.comfy.resolve_image_folder(str(typed)) == typed.resolve()
        with pytest.raises(pack.module("unifashion_core.errors").FolderError, match="outside"):
            pack.comfy.resolve_image_folder(str(tmp_path / "far"))


def test_a_typed_picture_is_offered_to_load_image_by_a_free_name(pack, tmp_path):
    from PIL import Image

    paths = [tmp_path / name / "a.png" for name in ("one", "two")]
    for path, colour in zip(paths, ("red", "blue"), strict=True):
        path.parent.mkdir()
        Image.new("RGB", (2, 2), colour).save(path)
    folders, first = pack.host.Folders.under(tmp_path / "base").with_input(paths[0])
    folders, second = folders.with_input(paths[1])
    assert folders.with_input(paths[0])[1] == first == "a.png"
    assert second == "a 2.png"
    load = {"class_type": "LoadImage", "inputs": {"image": second}}
    show = {"class_type": "PreviewImage", "inputs": {"images": ["x", 0]}}
    result = pack.host.Host(folders, []).run({"x": load, "s": show})
    assert result.value("x")[0, 0, 0].tolist() == [0.0, 0.0, 1.0]


def test_a_typed_model_is_offered_first(pack, tmp_path):
    file = tmp_path / "typed" / "net.safetensors"
    file.parent.mkdir()
    file.touch()
    folders, name = pack.host.Folders.under(tmp_path).with_model("kind", file)
    with pack.host.Host(folders, []).active():
        assert pack.comfy.list_models("kind") == [name]
        assert pack.comfy.find_model("kind", name) == file


def test_a_link_to_a_folder_above_is_walked_once(pack, tmp_path):
    root = tmp_path / "models" / "kind"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "net.pt").touch()
    (root / "sub" / "up").symlink_to(root, target_is_directory=True)
    with pack.host.Host(pack.host.Folders.under(tmp_path), []).active():
        assert pack.comfy.list_models("kind") == ["sub/net.pt"]


# --- models


def managed(manager: Any, kilobytes: int) -> Any:
    return manager.manage(torch.nn.Linear(256, kilobytes, bias=False))


def test_models_leave_longest_unused_first_when_memory_runs_short(pack):
    manager = pack.host.ModelManager(torch.device("cpu"), budget_bytes=10 * 1024)
    a, b, c = (managed(manager, 4) for _ in range(3))
    manager.load([a])
    manager.load([b])
    manager.load([a])
    manager.load([c])
    assert manager.loaded == (a, c)
    assert not b.loaded
    assert manager.memory().free == 2 * 1024


def test_activations_count_and_models_of_one_step_stay_together(pack):
    manager = pack.host.ModelManager(torch.device("cpu"), budget_bytes=10 * 1024)
    a, b, c = (managed(manager, 4) for _ in range(3))
    manager.load([c])
    manager.load([a, b], memory_bytes=1024)
    assert manager.loaded == (a, b)
    manager.load([a], memory_bytes=20 * 1024)  # can't fit, but is loaded whole all the same
    assert manager.loaded == (a,)
    manager.unload_all()
    assert manager.loaded == ()


def test_half_precision_is_chosen_for_devices_that_are_fast_in_it(pack):
    manager = pack.host.ModelManager
    assert manager(torch.device("cpu")).dtype([torch.float16]) is torch.float32
    assert manager(torch.device("mps")).dtype([torch.bfloat16, torch.float16]) is torch.float16


@pytest.mark.gpu
def test_a_model_moves_to_the_card_and_back(pack):
    manager = pack.host.ModelManager()
    patcher = managed(manager, 4)
    manager.load([patcher])
    assert next(patcher.model.parameters()).device.type == "cuda"
    assert manager.memory().free > 0
    manager.unload_all()
    assert next(patcher.model.parameters()).device.type == "cpu"


# --- the door


def test_the_door_keeps_its_names(pack):
    missing = [name for name in pack.comfy.__all__ if not hasattr(pack.comfy, name)]
    assert missing == []
    assert not pack.comfy.IN_COMFYUI


def test_importing_the_host_does_nothing_but_import(pack, tmp_path):
    """Nor does importing attention and encoder, which register with libraries when asked to."""
    code = (
        "import sys, threading, types\n"
        "for name, path in (('p', sys.argv[1]), ('p.nodes', sys.argv[1] + '/nodes')):\n"
        "    sys.modules[name] = types.ModuleType(name)\n"
        "    sys.modules[name].__path__ = [path]\n"
        "import p.nodes._comfy\n"
        "heavy = {'transformers', 'diffusers', 'aiohttp', 'torchvision'} & set(sys.modules)\n"
        "import p.unifashion_core.attention, p.unifashion_core.encoder.encoder\n"
        "heavy |= {'transformers', 'xformers', 'tokenizers', 'diffusers'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert threading.active_count() == 1\n"
    )
    root = Path(pack.root.__file__).parent
    command = [sys.executable, "-c", code, str(root)]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=120)
    assert list(tmp_path.iterdir()) == []
