"""Every checkpoint layout loads to the same encoder, with the same fingerprint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from encoder_samples import (
    CONFIG,
    LAYOUTS,
    STATE,
    TEXTS,
    cls,
    eva_file,
    hugging_face,
    load,
    none_lora,
    none_lora_plain,
    own,
    rerank,
    vocabulary,
    write_torch,
)
from torch import Tensor

from unifashion_core.attention import math_attention
from unifashion_core.encoder.checkpoint import (
    Placement,
    load_encoder,
    open_encoder,
    save_encoder,
)
from unifashion_core.encoder.config import EncoderConfig
from unifashion_core.encoder.encoder import MultimodalEncoder
from unifashion_core.encoder.layouts import recognise
from unifashion_core.errors import AbilityError, InputError
from unifashion_core.weights import StoredTensor, Weights


def features(encoder: Any) -> dict[str, Tensor]:
    assert isinstance(encoder, MultimodalEncoder)
    pixels = torch.linspace(-1, 1, 2 * 3 * 28 * 28).view(2, 1, 3, 28, 28)
    return {
        "image": encoder.encode_pixels(pixels).tokens,
        "text": encoder.encode_texts(TEXTS).vectors,
        "composed": encoder.compose(pixels, TEXTS).vectors,
    }


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Tensor]]:
    found = load(*own(tmp_path_factory.mktemp("reference")))
    return found.encoder.fingerprint, features(found.encoder)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)
def test_every_layout_has_the_same_fingerprint_and_features(
    tmp_path: Path,
    layout: Callable[[Path], tuple[Path, Path | None]],
    reference: tuple[str, dict[str, Tensor]],
) -> None:
    found = load(*layout(tmp_path))
    assert found.encoder.fingerprint == reference[0]
    for name, values in features(found.encoder).items():
        torch.testing.assert_close(values, reference[1][name], rtol=0, atol=0)


@pytest.mark.parametrize("layout", [own, hugging_face, rerank], ids=lambda f: f.__name__)
def test_saved_encoder_loads_back(
    tmp_path: Path, layout: Callable[..., Any], reference: tuple[str, dict[str, Tensor]]
) -> None:
    first = load(*layout(tmp_path)).encoder
    assert isinstance(first, MultimodalEncoder)
    save_encoder(tmp_path / "again", first)
    second = load(tmp_path / "again").encoder
    assert second.fingerprint == first.fingerprint == reference[0]
    assert second.abilities == first.abilities


def test_fingerprint_does_not_depend_on_the_type_it_is_loaded_in(tmp_path: Path) -> None:
    path, _ = own(tmp_path)
    half = open_encoder(path, Placement(math_attention(), dtype=torch.bfloat16)).encoder
    assert half.fingerprint == load(path).encoder.fingerprint
    assert {p.dtype for p in half.model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("name", ["Qformer.bert.encoder.layer.1.output.dense.bias", "query_tokens"])
def test_fingerprint_depends_on_every_weight_of_an_embedding(
    tmp_path: Path, name: str, reference: tuple[str, dict[str, Tensor]]
) -> None:
    changed = {**STATE, name: STATE[name] + 1}
    save_encoder(tmp_path, changed, CONFIG, vocabulary=vocabulary())
    assert load(tmp_path).encoder.fingerprint != reference[0]


@pytest.mark.parametrize("name", ["itm_head.bias", "prompt_tokens", "temp"])
def test_fingerprint_ignores_what_makes_no_embedding(
    tmp_path: Path, name: str, reference: tuple[str, dict[str, Tensor]]
) -> None:
    changed = {**STATE, name: STATE[name] + 1}
    save_encoder(tmp_path, changed, CONFIG, vocabulary=vocabulary())
    assert load(tmp_path).encoder.fingerprint == reference[0]


def test_prompt_queries_are_another_encoder(
    tmp_path: Path, reference: tuple[str, dict[str, Tensor]]
) -> None:
    path, _ = own(tmp_path)
    prompt = load(path, gallery_queries="prompt").encoder
    assert prompt.fingerprint != reference[0]
    assert not torch.equal(features(prompt)["image"], reference[1]["image"])


def test_prompt_queries_need_the_prompt_tokens(tmp_path: Path) -> None:
    path, _ = cls(tmp_path)
    with pytest.raises(AbilityError, match="no prompt_tokens for gallery_queries 'prompt'"):
        load(path, gallery_queries="prompt")
    with pytest.raises(InputError, match="Choose 'query' or 'prompt'"):
        load(path, gallery_queries="both")


def test_report_names_layout_abilities_and_what_is_not_used(tmp_path: Path) -> None:
    report = load(*rerank(tmp_path / "a")).report
    assert report.layout == "original key names in 'Blip2QformerCirRerank', epoch 9"
    assert report.abilities == {"image", "text", "composed", "itm", "lm", "prompt"}
    assert report.dropped == (
        "caption_proj.bias",
        "caption_proj.weight",
        "query_proj.bias",
        "query_proj.weight",
    )
    report = load(*none_lora(tmp_path / "b")).report
    assert report.abilities == {"image", "text", "composed", "itm"}
    assert "llm_proj.weight" in report.dropped
    assert "base_model" not in report.summary()
    assert "llm_proj.weight" in report.summary()
    assert any(note.startswith("of t the tower alone is used, ") for note in report.notes)


def test_absent_temperature_is_the_papers_and_said(tmp_path: Path) -> None:
    found = load(*none_lora_plain(tmp_path))
    assert isinstance(found.encoder, MultimodalEncoder)
    assert found.encoder.model.temp.item() == pytest.approx(0.07)
    assert "no temperature in it, 0.07 is used" in found.report.notes


def test_loaded_weights_do_not_hang_on_the_file(tmp_path: Path) -> None:
    path, _ = own(tmp_path)
    encoder = load(path).encoder
    before = features(encoder)
    file = path / "model.safetensors"
    with file.open("r+b") as out:
        out.seek(file.stat().st_size // 2)
        out.write(b"\0" * (file.stat().st_size // 2))
    assert torch.equal(features(encoder)["image"], before["image"])


def test_second_file_takes_the_place_of_a_tower_that_is_there(tmp_path: Path) -> None:
    path, _ = cls(tmp_path)
    other = {k: v + 0.1 for k, v in STATE.items()}
    found = load(path, eva_file(tmp_path / "eva.pth", other))
    assert isinstance(found.encoder, MultimodalEncoder)
    weight = found.encoder.model.state_dict()["visual_encoder.cls_token"]
    assert torch.equal(weight, other["visual_encoder.cls_token"])
    assert any("second file" in note for note in found.report.notes)


def test_old_buffers_are_dropped(tmp_path: Path) -> None:
    name = "Qformer.bert.embeddings.position_ids"
    write_torch(tmp_path / "m", {"model": {**STATE, name: torch.arange(64)[None]}}, CONFIG)
    assert load(tmp_path / "m").report.dropped == (name,)


def test_saving_keeps_other_files_and_the_card(tmp_path: Path) -> None:
    (tmp_path / "CARD.md").write_text("card")
    save_encoder(tmp_path, STATE, CONFIG, vocabulary=vocabulary(), card={"caption_weight": 0.5})
    encoder = load(tmp_path).encoder
    assert encoder.card == {"caption_weight": 0.5}
    assert (tmp_path / "CARD.md").read_text() == "card"


def test_load_encoder_gives_the_encoder(tmp_path: Path) -> None:
    path, _ = own(tmp_path)
    encoder = load_encoder(path, attention=math_attention())
    assert encoder.abilities >= {"image", "composed"}


def test_published_sizes_need_no_config() -> None:
    def empty(*shape: int) -> StoredTensor:
        return StoredTensor.of(torch.empty(shape, device="meta"))

    bert = "Qformer.bert."
    tensors = {
        "query_tokens": empty(1, 32, 768),
        "vision_proj.weight": empty(256, 768),
        "text_proj.weight": empty(256, 768),
        "ln_vision.weight": empty(1408),
        f"{bert}embeddings.word_embeddings.weight": empty(30523, 768),
        f"{bert}embeddings.position_embeddings.weight": empty(512, 768),
        "visual_encoder.pos_embed": empty(1, 257, 1408),
        "visual_encoder.patch_embed.proj.weight": empty(1408, 3, 14, 14),
        "visual_encoder.blocks.0.mlp.fc1.weight": empty(6144, 1408),
        "visual_encoder.blocks.39.mlp.fc1.weight": empty(6144, 1408),
    }
    for i in range(12):
        tensors[f"{bert}encoder.layer.{i}.intermediate.dense.weight"] = empty(3072, 768)
        if i % 2 == 0:
            name = f"{bert}encoder.layer.{i}.crossattention.self.key.weight"
            tensors[name] = empty(768, 1408)
    state = recognise(Weights(Path("x"), (), "torch", tensors))
    assert state.config == EncoderConfig()
    assert state.dropped == ("visual_encoder.blocks.39.mlp.fc1.weight",)
