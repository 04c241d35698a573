"""A tower from a second file: CLIP's folder, and the pocket encoder's EfficientNet-Lite0 behind a
PCA stem.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from encoder_samples import (
    BASE,
    CONFIG,
    STATE,
    blip2,
    load,
    only,
    own,
    tiny_config,
    tiny_state,
    vocabulary,
    without,
    write_torch,
)
from safetensors.torch import save_file

from unifashion_core.attention import math_attention
from unifashion_core.encoder.checkpoint import Placement, open_encoder, save_encoder
from unifashion_core.encoder.config import PreprocessConfig, StemConfig, TowerConfig
from unifashion_core.encoder.efficientnet_lite import LITE0_WIDTH
from unifashion_core.encoder.encoder import MultimodalEncoder
from unifashion_core.errors import CheckpointError

CLIP = tiny_config(
    tower=TowerConfig("clip_vit", 28, 14, 32, 2, 2, 48, 1e-5, "quick_gelu"),
)
POCKET = tiny_config(
    tower=TowerConfig("efficientnet_lite0"),
    stem=StemConfig("pca", LITE0_WIDTH, 32, pooled_token=True),
    preprocess=PreprocessConfig(size=64, views=("centre", "squash")),
)


def clip_folder(folder: Path, *, both_sides: bool = False) -> Path:
    from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig, CLIPVisionModel

    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    torch.manual_seed(0)
    if both_sides:
        text: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        model = CLIPModel(CLIPConfig(vision_config=sizes, text_config={**text, "vocab_size": 99}))
    else:
        model = CLIPVisionModel(CLIPVisionConfig(**sizes))
    model.save_pretrained(folder)
    return folder


def pixels(encoder: MultimodalEncoder) -> torch.Tensor:
    rule = encoder.config.preprocess
    generator = torch.Generator().manual_seed(1)
    return torch.rand(2, len(rule.views), 3, rule.size, rule.size, generator=generator)


@pytest.mark.parametrize("both_sides", [False, True])
def test_clip_folder_completes_an_encoder_that_was_made_with_it(
    tmp_path: Path, both_sides: bool
) -> None:
    tower = clip_folder(tmp_path / "t", both_sides=both_sides)
    write_torch(tmp_path / "m", {"model": without(BASE, "visual_encoder.")}, CLIP)
    encoder = load(tmp_path / "m", tower).encoder
    assert isinstance(encoder, MultimodalEncoder)
    assert encoder.config == CLIP
    found = encoder.encode_pixels(pixels(encoder))
    assert tuple(found.tokens.shape) == (2, 3, 16)
    assert found.vision is not None
    assert tuple(found.vision.shape) == (2, 5, 32)


def test_clip_encoder_saved_whole_loads_back(tmp_path: Path) -> None:
    tower = clip_folder(tmp_path / "t")
    write_torch(tmp_path / "m", {"model": without(BASE, "visual_encoder.")}, CLIP)
    first = load(tmp_path / "m", tower).encoder
    assert isinstance(first, MultimodalEncoder)
    save_encoder(tmp_path / "whole", first)
    second = load(tmp_path / "whole").encoder
    assert second.fingerprint == first.fingerprint
    wanted = first.encode_pixels(pixels(first)).tokens
    assert torch.equal(second.encode_pixels(pixels(first)).tokens, wanted)


def test_tower_of_another_kind_is_refused(tmp_path: Path) -> None:
    path, _ = blip2(tmp_path)
    with pytest.raises(CheckpointError, match="a clip_vit, the encoder was made with eva_vit"):
        load(path, clip_folder(tmp_path / "t"))


@pytest.fixture(scope="module")
def pocket_state() -> dict[str, torch.Tensor]:
    return tiny_state(POCKET, groups="itm lm")


@pytest.mark.slow
@pytest.mark.parametrize("prefix", ["", "visual_encoder."])
def test_pocket_encoder_takes_its_tower_from_a_second_file(
    tmp_path: Path, pocket_state: dict[str, torch.Tensor], prefix: str
) -> None:
    save_encoder(tmp_path / "m", pocket_state, POCKET, vocabulary=vocabulary(), tower=False)
    tower = only(pocket_state, "visual_encoder.")
    named = {prefix + k.removeprefix("visual_encoder."): v for k, v in tower.items()}
    save_file(named, tmp_path / "lite0.safetensors")
    apart = load(tmp_path / "m", tmp_path / "lite0.safetensors").encoder
    save_encoder(tmp_path / "w", pocket_state, POCKET, vocabulary=vocabulary())
    whole = load(tmp_path / "w").encoder
    assert isinstance(apart, MultimodalEncoder)
    assert apart.fingerprint == whole.fingerprint
    assert apart.tokens_per_image == 6
    found = apart.encode_pixels(pixels(apart)).tokens
    assert torch.equal(found, whole.encode_pixels(pixels(apart)).tokens)


def test_pocket_encoder_without_its_tower_says_so(
    tmp_path: Path, pocket_state: dict[str, torch.Tensor]
) -> None:
    save_encoder(tmp_path, pocket_state, POCKET, vocabulary=vocabulary(), tower=False)
    with pytest.raises(CheckpointError, match="the shipped efficientnet_lite0"):
        load(tmp_path)


def test_half_a_stem_is_missing_by_name(
    tmp_path: Path, pocket_state: dict[str, torch.Tensor]
) -> None:
    state = without(pocket_state, "stem.pooled_mean")
    write_torch(tmp_path / "m", {"model": state}, POCKET)
    with pytest.raises(CheckpointError, match=r"missing: stem\.pooled_mean"):
        load(tmp_path / "m")


def test_lite0_of_the_package_is_converted(tmp_path: Path) -> None:
    package = pytest.importorskip("efficientnet_lite_pytorch", reason="a test package")
    network = package.EfficientNet.from_name("efficientnet-lite0")
    torch.save(network.state_dict(), tmp_path / "lite0.pt")
    write_torch(tmp_path / "m", {"model": tiny_state(POCKET, groups="")}, POCKET)
    found = load(tmp_path / "m", tmp_path / "lite0.pt")
    assert any("second file" in note for note in found.report.notes)


def test_every_weight_is_where_and_what_was_asked_for(tmp_path: Path) -> None:
    path, _ = own(tmp_path)
    placed = open_encoder(path, Placement(math_attention(), "cpu", torch.bfloat16)).encoder
    kinds = {(t.device.type, t.dtype) for t in placed.model.state_dict().values()}
    assert kinds == {("cpu", torch.bfloat16)}
    assert not any(p.is_meta for p in [*placed.model.parameters(), *placed.model.buffers()])


def test_original_decoder_that_differs_from_the_words_is_kept(tmp_path: Path) -> None:
    name = "Qformer.cls.predictions.decoder.weight"
    state = {**STATE, name: STATE[name] + 1}
    save_encoder(tmp_path, state, CONFIG, vocabulary=vocabulary())
    assert torch.equal(load(tmp_path).encoder.model.state_dict()[name], state[name])


def test_tower_with_other_heads_is_refused_though_its_shapes_fit(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, tower=dataclasses.replace(CONFIG.tower, heads=8))
    save_encoder(tmp_path / "t", STATE, config, vocabulary=vocabulary())
    write_torch(tmp_path / "m", {"model": without(STATE, "visual_encoder.")}, CONFIG)
    with pytest.raises(CheckpointError, match="its heads is 8, the encoder was made with 2"):
        load(tmp_path / "m", tmp_path / "t")
