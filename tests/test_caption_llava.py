"""LLaVA's own two layouts over transformers' class."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from caption_model_samples import (
    WIDTH,
    clip_processor,
    llama_config,
    llava_folder,
    picture,
    tokenizer,
)
from safetensors.torch import load_file, save_file

from unifashion_core.attention import sdpa_attention
from unifashion_core.caption.loading import load_captioner, recognise_captioner
from unifashion_core.caption.prompts import GREEDY
from unifashion_core.caption.vlm import VlmCaptioner
from unifashion_core.errors import CheckpointError

pytestmark = pytest.mark.usefixtures("_offline")
RANK, ALPHA = 2, 4
TOWER = "model.vision_tower.vision_tower."
QUICK = GREEDY.changed(max_tokens=4)


@pytest.fixture(scope="module")
def _offline() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """transformers' folder, the same weights in LLaVA's layout, and the CLIP folder they name."""
    root = tmp_path_factory.mktemp("models")
    llava_folder(root / "llava-hf")
    write_original(root / "llava-v1.5-tiny", root / "llava-hf")
    write_tower(root / "clip-tiny", root / "llava-hf")
    return root


def as_original(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """From the names in transformers' file to LLaVA's, written the other way round from the
    loader's rules."""
    renamed: dict[str, torch.Tensor] = {}
    for name, value in tensors.items():
        for old, new in (
            ("language_model.model.", "model."),
            ("language_model.lm_head.", "lm_head."),
            ("multi_modal_projector.linear_1.", "model.mm_projector.0."),
            ("multi_modal_projector.linear_2.", "model.mm_projector.2."),
            ("vision_tower.vision_model.", f"{TOWER}vision_model."),  # transformers 4
            ("vision_tower.", f"{TOWER}vision_model."),
        ):
            if name.startswith(old):
                renamed[new + name.removeprefix(old)] = value
                break
        else:
            raise AssertionError(name)
    return renamed


def original_config(words: int) -> dict[str, Any]:
    text = llama_config(words).to_dict()
    keys = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    keys += ("num_key_value_heads", "max_position_embeddings", "rms_norm_eps")
    return {
        **{key: text[key] for key in keys},
        "model_type": "llava_llama",
        "vocab_size": words,
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_tower": "someone/clip-tiny",
        "mm_vision_select_layer": -2,
        "mm_hidden_size": WIDTH,
        "image_aspect_ratio": "pad",
    }


def write_original(folder: Path, hf: Path, *, tower: bool = False, extra: int = 1) -> Path:
    """LLaVA's whole layout: the vocabulary has no token for the picture."""
    folder.mkdir()
    tensors = as_original(load_file(hf / "model.safetensors"))
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = tensors[name][: len(tensors[name]) - extra].clone()
    if not tower:
        tensors = {k: v for k, v in tensors.items() if "vision_tower" not in k}
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.zeros(4)
    torch.save(tensors, folder / "pytorch_model.bin")
    words = len(tensors["lm_head.weight"])
    (folder / "config.json").write_text(json.dumps(original_config(words)))
    tokenizer().save_pretrained(folder)
    return folder


def write_tower(folder: Path, hf: Path) -> Path:
    """The CLIP folder: vision weights, config, image settings."""
    folder.mkdir()
    held = as_original(load_file(hf / "model.safetensors"))
    tensors = {k.removeprefix(TOWER): v.clone() for k, v in held.items() if k.startswith(TOWER)}
    save_file(
        {**tensors, "text_model.final_layer_norm.weight": torch.ones(3)},
        folder / "model.safetensors",
    )
    vision = json.loads((hf / "config.json").read_text())["vision_config"]
    (folder / "config.json").write_text(json.dumps({"model_type": "clip", "vision_config": vision}))
    clip_processor().save_pretrained(folder)
    return folder


def load(folder: Path, **changes: Any) -> VlmCaptioner:
    found = load_captioner(folder, attention=sdpa_attention(), settings=QUICK, **changes)
    assert isinstance(found, VlmCaptioner)
    return found


def logits(model: Any, inputs: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model(**inputs).logits


def inputs_of(captioner: VlmCaptioner) -> Any:
    return captioner.prompts.batch([picture(0), picture(1)], "describe this garment")


@pytest.mark.image_processors
def test_whole_llava_has_the_logits_of_transformers_own_folder(shelf: Path) -> None:
    ours, theirs = load(shelf / "llava-v1.5-tiny"), load(shelf / "llava-hf")
    assert recognise_captioner(shelf / "llava-v1.5-tiny") == "llava"
    inputs = inputs_of(theirs)
    assert {k: v.tolist() for k, v in inputs_of(ours).items()} == {
        k: v.tolist() for k, v in inputs.items()
    }
    found, wanted = logits(ours.network, inputs), logits(theirs.network, inputs)
    words = len(tokenizer())
    torch.testing.assert_close(found[..., :words], wanted[..., :words])
    network: Any = theirs.network
    network.generation_config.suppress_tokens = [words]  # <image>, as in ours
    assert ours.caption([picture(0), picture(1)]) == theirs.caption([picture(0), picture(1)])


@pytest.mark.image_processors
def test_tower_inside_the_file_is_used(shelf: Path, tmp_path: Path) -> None:
    """Its heads can't be read from the weights at this size, so the CLIP config is beside it."""
    whole = write_original(tmp_path / "whole", shelf / "llava-hf", tower=True)
    tower = tmp_path / "clip-tiny"
    tower.mkdir()
    shutil.copy(shelf / "clip-tiny" / "config.json", tower)
    ours = load(whole)
    inputs = inputs_of(ours)
    wanted = logits(load(shelf / "llava-v1.5-tiny").network, inputs)
    torch.testing.assert_close(logits(ours.network, inputs), wanted)


@pytest.mark.image_processors
def test_added_rows_are_never_generated(shelf: Path) -> None:
    captioner = load(shelf / "llava-v1.5-tiny")
    network: Any = captioner.network
    image = captioner.prompts.tokenizer.convert_tokens_to_ids("<image>")
    assert network.generation_config.suppress_tokens == [image]
    weight = network.get_output_embeddings().weight
    assert not weight[image].any()


def lora_folder(shelf: Path, name: str, base: str, **tensors: torch.Tensor) -> Path:
    """adapter_model and non_lora_trainables under peft's and LLaVA's names."""
    folder = shelf / name
    folder.mkdir()
    generator = torch.Generator().manual_seed(11)
    held = as_original(load_file(shelf / "llava-hf" / "model.safetensors"))
    made: dict[str, torch.Tensor] = {}
    for layer in range(2):
        for part in ("self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj"):
            rows, columns = held[f"model.layers.{layer}.{part}.weight"].shape
            stem = f"base_model.model.model.layers.{layer}.{part}"
            made[f"{stem}.lora_A.weight"] = torch.randn(RANK, columns, generator=generator)
            made[f"{stem}.lora_B.weight"] = torch.randn(rows, RANK, generator=generator)
    torch.save({**made, **tensors}, folder / "adapter_model.bin")
    trained = {
        f"base_model.model.{k}": torch.randn(v.shape, generator=generator)
        for k, v in held.items()
        if "mm_projector" in k
    }
    torch.save(trained, folder / "non_lora_trainables.bin")
    settings = {
        "peft_type": "LORA",
        "base_model_name_or_path": f"someone/{base}",
        "r": RANK,
        "lora_alpha": ALPHA,
        "target_modules": ["q_proj", "o_proj", "up_proj"],
        "modules_to_save": None,
    }
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    (folder / "config.json").write_text(json.dumps(original_config(len(tokenizer()))))
    return folder


def merged_by_hand(shelf: Path, folder: Path) -> Any:
    """transformers' class with W + alpha / r * B A and the trained projector."""
    from transformers import LlavaForConditionalGeneration

    tensors = load_file(shelf / "llava-hf" / "model.safetensors")
    pairs = torch.load(folder / "adapter_model.bin")
    for name, a in pairs.items():
        if "lora_A" in name:
            layer = name.removeprefix("base_model.model.model.").removesuffix(".lora_A.weight")
            target = f"language_model.model.{layer}.weight"
            tensors[target] = tensors[target] + ALPHA / RANK * pairs[name.replace("_A", "_B")] @ a
    for name, value in torch.load(folder / "non_lora_trainables.bin").items():
        number, kind = name.split(".")[-2:]
        tensors[f"multi_modal_projector.linear_{int(number) // 2 + 1}.{kind}"] = value
    hand = shelf / f"hand-{folder.name}"
    shutil.copytree(shelf / "llava-hf", hand)
    save_file(tensors, hand / "model.safetensors", metadata={"format": "pt"})
    return LlavaForConditionalGeneration.from_pretrained(hand).eval()


@pytest.mark.image_processors
@pytest.mark.parametrize("base", ["llava-hf", "llava-v1.5-tiny"])
def test_lora_folder_has_the_logits_of_hand_merged_weights(shelf: Path, base: str) -> None:
    folder = lora_folder(shelf, f"lora-on-{base}", base)
    assert recognise_captioner(folder) == "llava adapter"
    ours = load(folder)
    inputs = inputs_of(ours)
    oracle = merged_by_hand(shelf, folder)
    words = len(tokenizer())
    found, wanted = logits(ours.network, inputs)[..., :words], logits(oracle, inputs)[..., :words]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    plain = logits(load(shelf / base).network, inputs)[..., :words]
    assert (plain - wanted).abs().max() > 0.1
    assert ours.fingerprint != load(shelf / base).fingerprint
    assert not [n for n, _ in ours.network.named_parameters() if "lora" in n]


def test_tower_of_an_adapter_is_never_adapted(shelf: Path) -> None:
    """peft's own matching by short names would put an adapter on the tower's q_proj too."""
    name = "base_model.model.model.vision_tower.vision_tower.vision_model.encoder.layers.0"
    extra = {
        f"{name}.self_attn.q_proj.lora_A.weight": torch.ones(RANK, WIDTH),
        f"{name}.self_attn.q_proj.lora_B.weight": torch.ones(WIDTH, RANK),
    }
    folder = lora_folder(shelf, "lora-tower", "llava-hf", **extra)
    with pytest.raises(CheckpointError, match="1 of its 7 layers do not fit this model"):
        load(folder)


def test_adapter_without_its_base_says_which_one(shelf: Path) -> None:
    folder = lora_folder(shelf, "lora-alone", "llava-v1.5-13b")
    with pytest.raises(CheckpointError, match="'llava-v1.5-13b' was not found.*base"):
        load(folder)
    assert load(folder, base=shelf / "llava-hf").caption([picture()])


def test_projector_of_another_size_is_an_error(shelf: Path) -> None:
    folder = lora_folder(shelf, "lora-wide", "llava-hf")
    name = "base_model.model.model.mm_projector.0.weight"
    torch.save({name: torch.zeros(4, 4)}, folder / "non_lora_trainables.bin")
    with pytest.raises(CheckpointError, match="mm_projector.0.weight .* does not fit the model"):
        load(folder)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"mm_projector_type": "linear"}, "with projector 'linear'"),
        ({"model_type": "llava_mpt"}, "model_type 'llava_mpt'"),
        ({"mm_vision_tower": "someone/absent"}, "vision tower 'someone/absent' was not found"),
        ({"num_hidden_layers": 1}, "have no place in a LLaVA-1.5 of this size"),
        ({"num_hidden_layers": 3}, "weights are missing or of another shape"),
    ],
)
def test_config_of_another_model_is_an_error(
    shelf: Path, tmp_path: Path, change: dict[str, Any], text: str
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(shelf / "llava-v1.5-tiny", broken)
    shutil.copytree(shelf / "clip-tiny", tmp_path / "clip-tiny")
    values = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps({**values, **change}))
    with pytest.raises(CheckpointError, match=text):
        load(broken)


def test_strange_weight_is_an_error(shelf: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(shelf / "llava-v1.5-tiny", broken)
    tensors = torch.load(broken / "pytorch_model.bin")
    torch.save(
        {**tensors, "model.mm_resampler.weight": torch.ones(2)}, broken / "pytorch_model.bin"
    )
    with pytest.raises(CheckpointError, match="mm_resampler.weight is none of LLaVA-1.5's"):
        load(broken, tower=shelf / "clip-tiny")
