"""The adapter of an encoder's query outputs, and LoRA files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from tryon_tiny import TOKENIZER, box_mask, picture, tiny_config, tiny_model

from unifashion_core.attention import math_attention
from unifashion_core.errors import AbilityError, CheckpointError, InputError, ShapeError
from unifashion_core.tryon.adapter import (
    attach_adapter,
    encode_query_outputs,
    join_context,
    query_outputs,
)
from unifashion_core.tryon.checkpoint import convert_tryon, load_tryon, save_tryon
from unifashion_core.tryon.condition import encode_person, make_condition
from unifashion_core.tryon.config import AdapterConfig, TryOnConfig, UNetConfig
from unifashion_core.tryon.context import encode_texts, free_context
from unifashion_core.tryon.lora import apply_lora, diffusers_name, with_lora
from unifashion_core.tryon.sampling import SamplerSettings, sample
from unifashion_core.tryon.unet import TryOnUNet
from unifashion_core.types import Embedding, Query, QueryPart


def none_lora(hidden: int = 24, intermediate: int = 40) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(8)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng) * 0.3

    return {
        "query_tokens": draw(1, 5, hidden),
        "proj_layer.dense1.weight": draw(intermediate, hidden),
        "proj_layer.dense1.bias": draw(intermediate),
        "proj_layer.dense2.weight": draw(hidden, intermediate),
        "proj_layer.dense2.bias": draw(hidden),
        "proj_layer.LayerNorm.weight": 1 + draw(hidden),
        "proj_layer.LayerNorm.bias": draw(hidden),
    }


def outputs(count: int = 2, hidden: int = 24) -> Tensor:
    return torch.randn(count, 5, hidden, generator=torch.Generator().manual_seed(9))


def test_adapter_of_a_none_lora_file_is_its_residual_layer(tmp_path: Path) -> None:
    state = none_lora()
    torch.save(state, tmp_path / "none_lora_0.pt")
    model = attach_adapter(tiny_model(), tmp_path / "none_lora_0.pt")
    x = outputs()
    mean, spread = x.mean(-1, keepdim=True), x.var(-1, unbiased=False, keepdim=True)
    h = (x - mean) / (spread + 1e-12).sqrt()
    h = h * state["proj_layer.LayerNorm.weight"] + state["proj_layer.LayerNorm.bias"]
    h = h @ state["proj_layer.dense1.weight"].T + state["proj_layer.dense1.bias"]
    h = h * torch.sigmoid(1.702 * h)
    wanted = x + h @ state["proj_layer.dense2.weight"].T + state["proj_layer.dense2.bias"]
    assert torch.allclose(encode_query_outputs(model, x), wanted, atol=1e-5)
    assert model.config.adapter == AdapterConfig(24, 40)


def test_adapter_is_saved_loaded_and_converted(tmp_path: Path) -> None:
    torch.save(none_lora(), tmp_path / "x.pt")
    model = attach_adapter(tiny_model(), tmp_path / "x.pt")
    save_tryon(tmp_path / "ours", model)
    convert_tryon(tmp_path / "ours", tmp_path / "again")
    for folder in ("ours", "again"):
        found = load_tryon(tmp_path / folder, attention=math_attention())
        assert found.config == model.config
        assert torch.equal(
            encode_query_outputs(found, outputs()), encode_query_outputs(model, outputs())
        )


def test_other_width_goes_through_a_linear_layer() -> None:
    model = tiny_model(tiny_config(adapter=AdapterConfig(10, 20)))
    assert encode_query_outputs(model, outputs(hidden=10)).shape == (2, 5, 24)
    with pytest.raises(ShapeError, match=r"wanted \(B, T, 10\). Connect the encoder"):
        encode_query_outputs(model, outputs())


def test_model_without_adapter_refuses_and_says_so() -> None:
    with pytest.raises(AbilityError, match=r"no adapter for an encoder's embedding.*give a text"):
        encode_query_outputs(tiny_model(), outputs())


def test_adapters_tokens_follow_the_texts_and_reach_the_result(tmp_path: Path) -> None:
    torch.save(none_lora(), tmp_path / "x.pt")
    model = attach_adapter(tiny_model(), tmp_path / "x.pt")
    texts = encode_texts(model, TOKENIZER, ["a red dress", ""]).tokens
    adapted = encode_query_outputs(model, outputs())
    context = join_context(texts, adapted)
    assert context.shape == (2, 12 + 5, 24)
    assert torch.equal(context[:, 12:], adapted)
    person = encode_person(model, picture(1), box_mask(), picture(2))
    free = free_context(model, tokens=17)
    assert free is not None
    results: list[Tensor] = []
    for tokens in (context, context.clone()):
        if results:
            tokens[:, 12:] = 0
        made = make_condition([person] * 2, [None] * 2, tokens, free)
        results.append(sample(model, made, SamplerSettings("plms", 2, guidance=2.0), [1, 2]))
    assert not torch.allclose(results[0], results[1], atol=1e-3)
    with pytest.raises(ShapeError, match="Give one of each an item"):
        join_context(texts[:1], adapted)


def test_embedding_without_query_outputs_is_an_error() -> None:
    token = torch.zeros(1, 4)

    def embedding(*parts: QueryPart) -> Embedding:
        return Embedding((Query(parts),), "x")

    live = QueryPart(token, "image", query_outputs=torch.ones(5, 24))
    assert query_outputs(embedding(live)).shape == (1, 5, 24)
    with pytest.raises(InputError, match=r"1 parts \(text\) without .* encoded again"):
        query_outputs(embedding(QueryPart(token, "text")))
    with pytest.raises(InputError, match="2 parts"):
        query_outputs(embedding(live, live))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda s: s.pop("proj_layer.dense1.weight"), "no proj_layer.dense1.weight in it"),
        (lambda s: s.pop("proj_layer.dense2.bias"), "1 weights are missing: proj_layer.dense2"),
        (lambda s: s.update(none_lora(32)), "it is 32 wide, this model's context 24"),
    ],
)
def test_file_without_the_layer_or_of_another_width_is_an_error(
    change: object, text: str, tmp_path: Path
) -> None:
    state = none_lora()
    change(state)  # pyright: ignore[reportCallIssue] # a parameter of any kind
    torch.save(state, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=text):
        attach_adapter(tiny_model(), tmp_path / "x.pt")


def test_folder_whose_config_knows_no_adapter_does_not_drop_it(tmp_path: Path) -> None:
    torch.save(none_lora(), tmp_path / "x.pt")
    model = attach_adapter(tiny_model(), tmp_path / "x.pt")
    save_tryon(tmp_path / "ours", replace(model, config=replace(model.config, adapter=None)))
    with pytest.raises(CheckpointError, match="weights of adapter, which its config does not have"):
        load_tryon(tmp_path / "ours", attention=math_attention())


# LoRA

QUERY = "input_blocks.1.1.transformer_blocks.0.attn1.to_q"
CONV = "input_blocks.1.0.in_layers.2"
FIRST = "down_blocks.0.attentions.0.transformer_blocks.0.attn1"
MIDDLE = "mid_block.attentions.0.transformer_blocks.0.attn2"


def halves(layer: nn.Module, rank: int = 2) -> tuple[Tensor, Tensor]:
    weight = layer.get_parameter("weight")
    rng = torch.Generator().manual_seed(4)
    down = torch.randn(rank, *weight.shape[1:], generator=rng)
    up = torch.randn(weight.shape[0], rank, *[1] * (weight.ndim - 2), generator=rng)
    return down, up


@pytest.mark.parametrize(
    ("down_name", "up_name", "alpha_name"),
    [
        (
            "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.lora_down.weight",
            "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.lora_up.weight",
            "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.alpha",
        ),
        (
            "lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q.lora_down.weight",
            "lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q.lora_up.weight",
            "lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q.alpha",
        ),
        (
            f"unet.{FIRST}.to_q.lora_A.weight",
            f"unet.{FIRST}.to_q.lora_B.weight",
            "",
        ),
        (
            f"unet.{FIRST}.to_q.lora.down.weight",
            f"unet.{FIRST}.to_q.lora.up.weight",
            "",
        ),
        (
            f"unet.{FIRST}.processor.to_q_lora.down.weight",
            f"unet.{FIRST}.processor.to_q_lora.up.weight",
            "",
        ),
        (
            f"base_model.model.{FIRST}.to_q.lora_A.weight",
            f"base_model.model.{FIRST}.to_q.lora_B.weight",
            "",
        ),
    ],
)
def test_lora_of_each_form_changes_its_layer_alone(
    down_name: str, up_name: str, alpha_name: str, tmp_path: Path
) -> None:
    model, plain = tiny_model(), tiny_model()
    layer = model.unet.get_submodule(QUERY)
    down, up = halves(layer)
    state = {down_name: down, up_name: up}
    if alpha_name:
        state[alpha_name] = torch.tensor(1.0)
    save_file(state, tmp_path / "x.safetensors")
    assert apply_lora(model, tmp_path / "x.safetensors", 0.5) == 1
    scale = 0.5 * (1.0 / 2 if alpha_name else 1.0)
    before = plain.unet.state_dict()
    for name, weight in model.unet.state_dict().items():
        wanted = before[name]
        if name == f"{QUERY}.weight":
            wanted = wanted + scale * (up @ down)
        assert torch.allclose(weight, wanted, atol=1e-6), name


def test_lora_of_convolutions_text_encoder_and_output(tmp_path: Path) -> None:
    model, plain = tiny_model(), tiny_model()
    conv = model.unet.get_submodule(CONV)
    down, up = halves(conv)
    text = "text_model.encoder.layers.0.mlp.fc1"
    text_down, text_up = halves(model.context.get_submodule(text))
    out = "middle_block.1.transformer_blocks.0.attn2.to_out.0"
    out_down, out_up = halves(model.unet.get_submodule(out))
    state = {
        "lora_unet_down_blocks_0_resnets_0_conv1.lora_down.weight": down,
        "lora_unet_down_blocks_0_resnets_0_conv1.lora_up.weight": up,
        "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": text_down,
        "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight": text_up,
        f"unet.{MIDDLE}.processor.to_out_lora.down.weight": out_down,
        f"unet.{MIDDLE}.processor.to_out_lora.up.weight": out_up,
    }
    save_file(state, tmp_path / "x.safetensors")
    assert apply_lora(model, tmp_path / "x.safetensors") == 3
    x = torch.randn(1, 16, 6, 6, generator=torch.Generator().manual_seed(0))
    before = plain.unet.get_submodule(CONV)(x)
    change = nn.functional.conv2d(nn.functional.conv2d(x, down, padding=1), up)
    assert torch.allclose(conv(x), before + change, atol=1e-4)
    got = model.context.get_submodule(text).get_parameter("weight")
    was = plain.context.get_submodule(text).get_parameter("weight")
    assert torch.allclose(got, was + text_up @ text_down, atol=1e-6)
    got, was = (m.unet.get_submodule(out).get_parameter("weight") for m in (model, plain))
    assert torch.allclose(got, was + out_up @ out_down, atol=1e-6)


@pytest.mark.slow
def test_a_lora_on_a_copy_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    model, plain, merged = tiny_model(), tiny_model(), tiny_model()
    down, up = halves(model.unet.get_submodule(QUERY))
    path = tmp_path / "x.safetensors"
    save_file({f"unet.{FIRST}.to_q.lora_A.weight": down, f"unet.{FIRST}.to_q.lora_B.weight": up},
              path)  # fmt: skip
    made = with_lora(model, path, 0.5)
    apply_lora(merged, path, 0.5)
    assert made.changed == {"unet": 1}
    assert made.model.context is model.context
    assert made.model.garment is model.garment
    wanted, kept, before = (m.unet.state_dict() for m in (merged, model, plain))
    for name, weight in made.model.unet.state_dict().items():
        assert torch.equal(weight, wanted[name]), name
        assert torch.equal(kept[name], before[name]), name
    ours = {p.data_ptr() for p in made.model.unet.parameters()}
    assert not ours & {p.data_ptr() for p in model.unet.parameters()}
    back = with_lora(made.model, path, -0.5).model.unet.state_dict()
    for name, weight in plain.unet.state_dict().items():
        assert torch.allclose(back[name], weight, atol=1e-6), name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("lora_unet_down_blocks_9_x.lora_up.weight", "1 tensors have no place in this model"),
        ("lora_te2_text_model_x.lora_up.weight", "no place in this model: lora_te2"),
        (f"unet.{QUERY}.hada_w1_a", "tensors of an unknown form: .*hada_w1_a"),
        ("lora_unet_mid_block_attentions_0_proj_in.lora_up.weight", "only one half of its pair"),
    ],
)
def test_tensor_that_nothing_reads_is_an_error_and_changes_nothing(
    name: str, text: str, tmp_path: Path
) -> None:
    model, plain = tiny_model(), tiny_model()
    down, up = halves(model.unet.get_submodule(QUERY))
    known = "lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q"
    state = {f"{known}.lora_down.weight": down, f"{known}.lora_up.weight": up, name: up.clone()}
    save_file(state, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match=text):
        apply_lora(model, tmp_path / "x.safetensors")
    changed = model.unet.get_submodule(QUERY).get_parameter("weight")
    assert torch.equal(changed, plain.unet.get_submodule(QUERY).get_parameter("weight"))


def test_lora_of_another_width_is_an_error(tmp_path: Path) -> None:
    model = tiny_model()
    known = "lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q"
    state = {
        f"{known}.lora_down.weight": torch.zeros(2, 320),
        f"{known}.lora_up.weight": torch.zeros(320, 2),
    }
    save_file(state, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match=r"\(320, 2\) times \(2, 320\), the layer is"):
        apply_lora(model, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match="strength nan"):
        apply_lora(model, tmp_path / "x.safetensors", float("nan"))


def test_every_layer_of_the_librarys_unet_has_a_name_here() -> None:
    diffusers = pytest.importorskip("diffusers")
    config = UNetConfig()
    with torch.device("meta"):
        theirs = diffusers.UNet2DConditionModel(
            in_channels=13, cross_attention_dim=768, attention_head_dim=8
        )
        ours = TryOnUNet(config, math_attention())
    kinds = (nn.Linear, nn.Conv2d)
    wanted = {n: tuple(m.weight.shape) for n, m in theirs.named_modules() if isinstance(m, kinds)}
    found = {
        diffusers_name(n, config): tuple(m.weight.shape)
        for n, m in ours.named_modules()
        if isinstance(m, kinds) and not n.startswith("warp_")
    }
    assert found == wanted
    assert TryOnConfig().unet == config
