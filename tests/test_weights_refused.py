"""Incomplete, foreign and hostile checkpoints are refused, by name, before anything is used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from encoder_samples import (
    CONFIG,
    STATE,
    WORDS,
    blip2,
    cls,
    hugging_face_folder,
    load,
    own,
    tiny_config,
    vocabulary,
    without,
    write_extras,
    write_torch,
)
from safetensors.torch import load_file, save_file

from unifashion_core.attention import math_attention
from unifashion_core.encoder.checkpoint import (
    Placement,
    open_encoder,
    save_encoder,
)
from unifashion_core.encoder.config import EncoderConfig, TowerConfig
from unifashion_core.encoder.encoder import MultimodalEncoder
from unifashion_core.encoder.layouts import recognise
from unifashion_core.errors import CheckpointError, InputError
from unifashion_core.weights import read_weights


def test_missing_tower_says_which_file_to_add(tmp_path: Path) -> None:
    path, _ = blip2(tmp_path)
    with pytest.raises(CheckpointError, match=r"no vision tower .*eva_vit_g\.pth"):
        load(path)


@pytest.mark.parametrize(
    ("group", "lost"),
    [
        ("itm_head", "itm_head.bias"),
        ("Qformer.cls", "Qformer.cls.predictions.transform.dense.weight"),
        ("Qformer.cls", "Qformer.cls.predictions.decoder.bias"),
    ],
)
def test_half_a_group_is_named(tmp_path: Path, group: str, lost: str) -> None:
    write_torch(tmp_path / "m", {"model": without(STATE, lost)}, CONFIG)
    with pytest.raises(CheckpointError, match=f"group {group} is half there, missing: {lost}"):
        load(tmp_path / "m")


@pytest.mark.parametrize(
    "lost",
    [
        "query_tokens",
        "text_proj.weight",
        "ln_vision.bias",
        "visual_encoder.blocks.1.attn.q_bias",
        "Qformer.bert.encoder.layer.2.crossattention.self.key.weight",
    ],
)
def test_missing_required_weight_is_named(tmp_path: Path, lost: str) -> None:
    write_torch(tmp_path / "m", {"model": without(STATE, lost)}, CONFIG)
    with pytest.raises(CheckpointError, match=f"1 required weights are missing: {lost}"):
        load(tmp_path / "m")


def test_many_missing_weights_are_counted(tmp_path: Path) -> None:
    write_torch(tmp_path / "m", {"model": without(STATE, "Qformer.bert.encoder.layer.2")}, CONFIG)
    with pytest.raises(CheckpointError, match=r"\d\d required weights .* and \d\d more"):
        load(tmp_path / "m")


def test_wrong_shape_is_named_with_both(tmp_path: Path) -> None:
    state = {**STATE, "itm_head.weight": torch.ones(2, 16)}
    write_torch(tmp_path / "m", {"model": state}, CONFIG)
    with pytest.raises(CheckpointError, match=r"itm_head\.weight is \(2, 16\), wanted \(2, 32\)"):
        load(tmp_path / "m")


def test_config_of_other_sizes_is_refused(tmp_path: Path) -> None:
    path, _ = cls(tmp_path)
    data = CONFIG.to_dict()
    data["qformer"]["layers"] = 2
    (path / "config.json").write_text(json.dumps(data))
    with pytest.raises(CheckpointError, match="its config.json tells other sizes"):
        load(path)


def test_unknown_name_inside_a_known_part_is_refused(tmp_path: Path) -> None:
    name = "Qformer.bert.encoder.layer.0.attention.self.distance_embedding.weight"
    write_torch(tmp_path / "m", {"model": {**STATE, name: torch.ones(2)}}, CONFIG)
    with pytest.raises(CheckpointError, match=f"the network has none: {name}"):
        load(tmp_path / "m")


def test_foreign_file_says_what_was_found_and_what_is_accepted(tmp_path: Path) -> None:
    save_file({"model.diffusion_model.out.0.bias": torch.ones(1)}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match=r"holds model\.diffusion_model\.out.*Accepted are"):
        load(tmp_path / "x.safetensors")


def test_foreign_tower_says_what_is_accepted(tmp_path: Path) -> None:
    path, _ = blip2(tmp_path)
    save_file({"layer4.weight": torch.ones(1)}, tmp_path / "resnet")
    with pytest.raises(CheckpointError, match=r"no vision tower, it holds layer4.*Accepted are"):
        load(path, tmp_path / "resnet")


def test_tower_of_another_width_is_named(tmp_path: Path) -> None:
    path, _ = blip2(tmp_path)
    wide = tiny_config(tower=TowerConfig("eva_vit", 28, 14, 48, 2, 2, 48))
    data = wide.to_dict()
    (path / "config.json").write_text(json.dumps(data))
    with pytest.raises(CheckpointError, match="tokens have width 48, the encoder reads 32"):
        load(path, tmp_path / "eva_vit_g.pth")


def test_unpublished_size_without_config_is_an_error(tmp_path: Path) -> None:
    path, _ = cls(tmp_path)
    (path / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"heads a tower of width 32.*config\.json"):
        load(path)


def test_same_weight_twice_is_an_error(tmp_path: Path) -> None:
    state = {**STATE, "module.query_tokens": STATE["query_tokens"]}
    write_torch(tmp_path / "m", {"model": state}, CONFIG)
    with pytest.raises(CheckpointError, match="are the same weight"):
        load(tmp_path / "m")


def test_hugging_face_key_bias_is_refused(tmp_path: Path) -> None:
    path = hugging_face_folder(tmp_path / "m", STATE)
    state = load_file(path / "model.safetensors")
    state["vision_model.encoder.layers.1.self_attn.qkv.bias"][40] = 0.5
    save_file(state, path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="has a bias for the keys"):
        load(path)


def test_hugging_face_config_is_checked_against_the_shapes(tmp_path: Path) -> None:
    path = hugging_face_folder(tmp_path / "m", STATE)
    data = json.loads((path / "config.json").read_text())
    data["image_text_hidden_size"] = 24
    (path / "config.json").write_text(json.dumps(data))
    with pytest.raises(CheckpointError, match=r"vision_proj\.weight is \(16, 32\), wanted \(24,"):
        load(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_named(tmp_path: Path, value: float) -> None:
    state = {**STATE, "text_proj.bias": torch.full((16,), value)}
    write_torch(tmp_path / "m", {"model": state}, CONFIG)
    with pytest.raises(CheckpointError, match=r"text_proj\.bias is unusable.*no numbers"):
        load(tmp_path / "m")


def test_weights_too_large_for_half_are_named(tmp_path: Path) -> None:
    state = {**STATE, "text_proj.bias": torch.full((16,), 1e6)}
    write_torch(tmp_path / "m", {"model": state}, CONFIG)
    with pytest.raises(CheckpointError, match=r"does not fit torch\.float16. Load it as float32"):
        open_encoder(tmp_path / "m", Placement(math_attention(), dtype=torch.float16))


def test_malicious_checkpoint_does_not_load(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> Any:
            return eval, (f"open({str(tmp_path / 'ran')!r}, 'w')",)

    write_torch(tmp_path / "m", {"Blip2QformerCirCls": STATE, "epoch": Attack()}, CONFIG)
    with pytest.raises(CheckpointError, match="would run code"):
        load(tmp_path / "m")
    assert not (tmp_path / "ran").exists()


def test_config_that_is_not_the_weights_own_is_refused(tmp_path: Path) -> None:
    path, _ = own(tmp_path)
    data = CONFIG.to_dict()
    data["preprocess"]["views"] = ["squash"]
    (path / "config.json").write_text(json.dumps(data))
    with pytest.raises(CheckpointError, match="not the one that its weights were saved with"):
        load(path)


def test_config_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path, _ = cls(tmp_path)
    data = CONFIG.to_dict()
    data["tower"]["magic"] = 1
    (path / "config.json").write_text(json.dumps(data))
    with pytest.raises(CheckpointError, match="does not fit this version"):
        load(path)


def test_saving_refuses_weights_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="query_tokens"):
        save_encoder(
            tmp_path / "m", without(STATE, "query_tokens"), CONFIG, vocabulary=vocabulary()
        )
    with pytest.raises(InputError, match="Pass the vocabulary too"):
        save_encoder(tmp_path / "m", STATE, CONFIG)
    assert not (tmp_path / "m").exists()


def test_vocabulary_of_another_size_is_refused(tmp_path: Path) -> None:
    path, _ = own(tmp_path)
    (path / "vocab.txt").write_text("\n".join([*WORDS, "more"]))
    with pytest.raises(CheckpointError, match="Use the vocab.txt that belongs"):
        load(path)


def test_bert_vocabulary_is_asked_for(tmp_path: Path) -> None:
    data = tiny_config().to_dict()
    data["text"]["tokenizer"] = "bert"
    write_torch(tmp_path / "m", {"model": STATE}, EncoderConfig.from_dict(data))
    with pytest.raises(CheckpointError, match=r"Pass the vocab\.txt that ships"):
        load(tmp_path / "m")
    write_extras(tmp_path / "v", None)
    found = load(tmp_path / "m", bert_vocabulary=tmp_path / "v" / "vocab.txt")
    assert isinstance(found.encoder, MultimodalEncoder)


def test_irregular_cross_attention_is_refused(tmp_path: Path) -> None:
    path = hugging_face_folder(tmp_path / "m", STATE)
    state = load_file(path / "model.safetensors")
    name = "qformer.encoder.layer.{}.crossattention.attention.key.bias"
    state[name.format(3)] = state[name.format(2)].clone()
    save_file(state, path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"cross-attention in layers \[0, 2, 3\] of 4"):
        recognise(read_weights(path))
