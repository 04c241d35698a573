"""Vision-language folders of transformers as captioners, tiny and with the network off."""

from __future__ import annotations

import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from caption_model_samples import FOLDERS, WITH_VIDEO, llava_folder, picture, reciting_folder
from PIL import Image

from unifashion_core.attention import AttentionBackend, math_attention, sdpa_attention
from unifashion_core.caption.loading import load_captioner, recognise_captioner
from unifashion_core.caption.prompts import FAMILIES, GREEDY, LLAVA_CAPTION, PAPER_LLAVA
from unifashion_core.caption.vlm import VlmCaptioner
from unifashion_core.caption.vlm_processor import square
from unifashion_core.errors import (
    AbilityError,
    CheckpointError,
    InputError,
    MissingPackageError,
    ShapeError,
)
from unifashion_core.types import Captioner

pytestmark = [pytest.mark.usefixtures("_offline"), pytest.mark.image_processors]
QUICK = GREEDY.changed(max_tokens=4)
IMAGES = (picture(0), picture(1, (60, 30)), picture(2, (30, 30)))


@pytest.fixture(scope="module")
def _offline() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for name, make in FOLDERS.items():
        make(root / name)
    return root


def load(folder: Path, **changes: Any) -> VlmCaptioner:
    values: dict[str, Any] = {"attention": sdpa_attention(), "settings": QUICK, **changes}
    found = load_captioner(folder, **values)
    assert isinstance(found, VlmCaptioner)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", FOLDERS)
def test_folder_captions_every_picture_whatever_its_batch(folders: Path, name: str) -> None:
    captioner = load(folders / name)
    assert isinstance(captioner, Captioner)
    assert recognise_captioner(folders / name) == "vision-language"
    together = captioner.caption(IMAGES)
    assert len(together) == 3
    assert len(set(together)) > 1
    assert captioner.changed(batch_size=1).caption(IMAGES) == together


@pytest.mark.parametrize("name", FOLDERS)
def test_answer_is_what_generate_adds_to_the_prompt(folders: Path, name: str) -> None:
    """Against the class and its processor without anything of ours."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    captioner = load(folders / name)
    model: Any = AutoModelForImageTextToText.from_pretrained(folders / name)
    model.eval()
    processor = AutoProcessor.from_pretrained(folders / name, backend="pil")
    image = IMAGES[2]  # a square one, which nothing pads
    text = captioner.prompts.text(captioner.prompt)
    inputs = processor(images=[image], text=[text], return_tensors="pt")
    with torch.inference_mode():
        rows = model.generate(
            **inputs, max_new_tokens=4, min_new_tokens=1, do_sample=False, num_beams=1
        )
    new = rows if model.config.is_encoder_decoder else rows[:, inputs["input_ids"].shape[1] :]
    wanted = processor.tokenizer.decode(new[0], skip_special_tokens=True)
    assert captioner.caption([image]) == (" ".join(wanted.split()),)


@pytest.mark.parametrize("name", FOLDERS)
def test_every_attention_goes_through_the_dispatcher(folders: Path, name: str) -> None:
    calls: list[tuple[int, ...]] = []
    inner = math_attention()

    def counted(q: Any, k: Any, v: Any, bias: Any, dropout: float) -> Any:
        calls.append(tuple(q.shape))
        return inner.run(q, k, v, bias, dropout)

    backend = AttentionBackend(f"counted_{name}", counted)
    assert load(folders / name, attention=backend).caption(IMAGES) == load(folders / name).caption(
        IMAGES
    )
    assert len({shape[-2] for shape in calls}) > 2  # towers, prompts and single tokens


def test_llava_is_asked_as_the_paper_does(folders: Path) -> None:
    captioner = load_captioner(folders / "llava", attention=sdpa_attention())
    assert captioner.prompt == LLAVA_CAPTION
    assert captioner.settings == PAPER_LLAVA
    assert isinstance(captioner, VlmCaptioner)
    text = captioner.prompts.text(captioner.prompt)
    assert text.startswith("A chat between a curious user")
    assert text.endswith(f"USER: <image>\n{LLAVA_CAPTION} ASSISTANT:")


def test_a_chat_template_goes_over_the_family_form(tmp_path: Path) -> None:
    template = "{{ messages[0]['content'][1]['text'] }} <image> !"
    captioner = load(llava_folder(tmp_path / "m", chat=template))
    assert captioner.prompts.text("describe") == "describe <image> !"


def test_prompt_and_settings_change_the_fingerprint(folders: Path) -> None:
    captioner = load(folders / "llava")
    assert load(folders / "llava").fingerprint == captioner.fingerprint
    assert load(folders / "llava", prompt="what is this").fingerprint != captioner.fingerprint
    assert load(folders / "llava_next").fingerprint != captioner.fingerprint
    other = llava_folder(folders.parent / "other_seed", seed=1)
    assert load(other).fingerprint != captioner.fingerprint


def test_a_question_is_answered_and_a_mere_captioner_says_no(folders: Path) -> None:
    answer = load(folders / "llava_next").ask(IMAGES[:2], "what is this ?")
    assert len(answer) == 2
    assert FAMILIES["florence2"].asks is False
    with pytest.raises(AbilityError, match="answers no other prompt"):
        load(folders / "florence2").ask(IMAGES[:1], "what is this ?")
    with pytest.raises(InputError, match="the prompt holds <image>"):
        load(folders / "llava").ask(IMAGES[:1], "what is in <image>")


RECORD = ("{", '"category":', '"dress",', '"colours":', '["red"],', '"sleeve":', "null", "}")


def test_attributes_are_read_from_the_models_json(tmp_path: Path) -> None:
    captioner = load(reciting_folder(tmp_path / "m", RECORD), settings=QUICK)
    assert captioner.abilities == {"caption", "attributes"}
    found = captioner.describe(IMAGES)
    assert len(found) == 3
    record = found[0].to_dict()
    assert record["category"] == {"value": "dress", "confidence": 1.0}
    assert record["colours"] == [{"name": "red", "share": 1.0}]
    assert record["sleeve"] is None


def test_an_answer_that_is_no_record_is_an_error(tmp_path: Path) -> None:
    captioner = load(reciting_folder(tmp_path / "m", ("a", "red", "dress")))
    with pytest.raises(InputError, match="JSON"):
        captioner.describe(IMAGES[:1])


def test_a_model_that_writes_no_json_has_no_attributes(folders: Path) -> None:
    captioner = load(folders / "instructblip")
    assert captioner.abilities == {"caption"}
    with pytest.raises(AbilityError, match="writes no JSON"):
        captioner.describe(IMAGES[:1])


def test_a_mask_hides_what_is_no_garment(folders: Path) -> None:
    shown: list[Image.Image] = []

    class Seen(VlmCaptioner):
        def ask(self, images: Any, prompt: str, **_: Any) -> tuple[str, ...]:
            shown.extend(images)
            return ("{}",) * len(images)

    plain = load(folders / "llava")
    captioner = Seen(**{f.name: getattr(plain, f.name) for f in fields(plain)})
    mask = np.zeros((56, 40), dtype=bool)
    mask[:28] = True
    captioner.describe([IMAGES[0]], masks=[mask])
    pixels, original = np.asarray(shown[0]), np.asarray(IMAGES[0])
    assert np.array_equal(pixels[:28], original[:28])
    assert (pixels[28:] == 255).all()
    with pytest.raises(ShapeError, match=r"a mask is \(3, 3\), its picture \(56, 40\)"):
        captioner.describe([IMAGES[0]], masks=[mask[:3, :3]])


class Stop(Exception):
    pass


@pytest.mark.parametrize("name", ["llava", "florence2"])
def test_progress_and_stop_within_a_token(folders: Path, name: str) -> None:
    captioner = load(folders / name, batch_size=2, settings=QUICK.changed(min_tokens=4))
    seen: list[tuple[int, int]] = []
    captioner.caption(IMAGES, on_step=lambda *at: seen.append(at))
    assert seen[0] == (0, 12)
    assert seen[-1] == (12, 12)
    assert (2, 12) in seen  # two pictures, one token each

    def stop(done: int, total: int) -> None:
        if done:
            raise Stop(done)

    with pytest.raises(Stop, match="^2$"):
        captioner.caption(IMAGES, on_step=stop)


def test_weights_are_where_they_were_put(folders: Path) -> None:
    captioner = load(folders / "llava", dtype=torch.float16)
    (network,) = captioner.modules.values()
    assert {p.dtype for p in network.parameters()} == {torch.float16}
    assert captioner.caption(IMAGES[:1])
    network.to(torch.float32)  # what the host moves, the next call follows
    assert captioner.caption(IMAGES[:1])
    assert captioner.activation_bytes(4) > captioner.activation_bytes(1) > 0


def test_pictures_are_padded_where_the_processor_would_crop() -> None:
    class Crops:
        do_center_crop = True
        image_mean = (1.0, 0.0, 0.0)

    tall = Image.new("RGB", (10, 20), (0, 0, 255))
    padded = square(tall, Crops())
    assert padded.size == (20, 20)
    assert padded.getpixel((0, 10)) == (255, 0, 0)
    assert padded.getpixel((10, 0)) == (0, 0, 255)
    Crops.do_center_crop = False
    assert square(tall, Crops()) is tall


@pytest.mark.parametrize(
    ("remove", "text"),
    [
        ("tokenizer", "no tokenizer in it"),
        ("config.json", "no known layout"),
        ("model.safetensors", "no weight file in it"),
        ("processor_config.json", "preprocessing"),
    ],
)
def test_folder_that_lacks_a_part_is_an_error(
    folders: Path, tmp_path: Path, remove: str, text: str
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(folders / "llava", broken)
    for file in broken.glob(f"{remove}*"):
        file.unlink()
    with pytest.raises(CheckpointError, match=text):
        load(broken)


def test_missing_weights_are_an_error(folders: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(folders / "llava", broken)
    tensors = load_file(broken / "model.safetensors")
    lost = next(name for name in tensors if "multi_modal_projector" in name)
    tensors.pop(lost)
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="1 weights are missing.*multi_modal_projector"):
        load(broken)


def test_code_of_a_folder_is_never_run(folders: Path, tmp_path: Path) -> None:
    import json

    evil = tmp_path / "evil"
    shutil.copytree(folders / "llava", evil)
    config = json.loads((evil / "config.json").read_text())
    config |= {"model_type": "own_vlm", "auto_map": {"AutoModelForImageTextToText": "code.Net"}}
    (evil / "config.json").write_text(json.dumps(config))
    mark = tmp_path / "ran"
    (evil / "code.py").write_text(f"open({str(mark)!r}, 'w')\n")
    with pytest.raises(CheckpointError, match="model_type 'own_vlm'"):
        load(evil)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["llava_onevision", "qwen2_vl"])
def test_models_with_a_video_processor_work_without_torchvision(tmp_path: Path, name: str) -> None:
    captioner = load(WITH_VIDEO[name](tmp_path / name))
    together = captioner.caption(IMAGES)
    assert len(set(together)) > 1
    assert captioner.changed(batch_size=1).caption(IMAGES) == together


def test_smolvlm_captions_or_names_the_package_it_needs(tmp_path: Path) -> None:
    from importlib.util import find_spec

    folder = WITH_VIDEO["smolvlm"](tmp_path / "smolvlm")
    if find_spec("num2words") is None:
        with pytest.raises(MissingPackageError, match="num2words: not installed"):
            load(folder)
    else:
        assert len(load(folder).caption(IMAGES)) == 3
