"""Independent forms of the encoder's networks: Hugging Face's BLIP-2 classes, and a slow Q-Former
in plain operations.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from unifashion_core.attention import AttentionBackend, math_attention
from unifashion_core.encoder.config import EncoderConfig, QFormerConfig, TowerConfig
from unifashion_core.encoder.model import UniFashionEncoderModel


def random_model(
    config: EncoderConfig, seed: int, attention: AttentionBackend | None = None, **kwargs: Any
) -> UniFashionEncoderModel:
    """A model with weights large enough that every part shows in the output."""
    model = UniFashionEncoderModel(config, attention or math_attention(), **kwargs).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if name.endswith("temp"):
                continue
            norm = "norm" in name.lower() or "ln_" in name
            scale = 0.1 if parameter.ndim < 2 else parameter.shape[-1] ** -0.5
            parameter.copy_(noise * scale + (1.0 if norm and name.endswith("weight") else 0.0))
        for name, buffer in model.named_buffers():
            if name.startswith("stem."):
                noise = torch.randn(buffer.shape, generator=generator)
                buffer.copy_(noise * buffer.shape[-1] ** -0.5)
    return model


def small_config(
    *,
    tower: TowerConfig | None = None,
    **sizes: Any,
) -> EncoderConfig:
    """A tiny encoder of the real topology; none of its sizes equals another."""
    tower = tower or TowerConfig(
        image_size=28, patch_size=7, width=24, layers=2, heads=3, mlp_hidden=52
    )
    defaults: dict[str, Any] = {
        "vocab_size": 61,
        "hidden": 32,
        "layers": 3,
        "heads": 4,
        "intermediate": 40,
        "max_positions": 20,
        "num_query_tokens": 5,
        "vision_width": 24,
        "embed_dim": 12,
        "dropout": 0.1,
    }
    return EncoderConfig(tower=tower, qformer=QFormerConfig(**{**defaults, **sizes}))


class Blip2Oracle:
    """transformers' Blip2 vision model and Q-Former with our weights under its names."""

    def __init__(self, model: UniFashionEncoderModel) -> None:
        from transformers import Blip2QFormerConfig, Blip2QFormerModel, Blip2VisionConfig
        from transformers.models.blip_2.modeling_blip_2 import (
            Blip2TextEmbeddings,
            Blip2VisionModel,
        )

        c, t, state = model.config.qformer, model.config.tower, model.state_dict()
        self.state, self.queries = state, c.num_query_tokens
        vision = Blip2VisionConfig(
            hidden_size=t.width,
            intermediate_size=t.mlp_hidden,
            num_hidden_layers=t.layers,
            num_attention_heads=t.heads,
            image_size=t.image_size,
            patch_size=t.patch_size,
            layer_norm_eps=t.layer_norm_eps,
        )
        qformer = Blip2QFormerConfig(
            vocab_size=c.vocab_size,
            hidden_size=c.hidden,
            num_hidden_layers=c.layers,
            num_attention_heads=c.heads,
            intermediate_size=c.intermediate,
            max_position_embeddings=c.max_positions,
            cross_attention_frequency=c.cross_attention_freq,
            encoder_hidden_size=c.vision_width,
            layer_norm_eps=c.layer_norm_eps,
            use_qformer_text_input=True,
        )
        vision._attn_implementation = qformer._attn_implementation = "eager"
        self.tower = Blip2VisionModel(vision).eval()
        _load(self.tower, _vision_names(state))
        self.qformer = Blip2QFormerModel(qformer).eval()
        _load(self.qformer, _qformer_names(state))
        self.embeddings = Blip2TextEmbeddings(qformer).eval()
        prefix = "Qformer.bert.embeddings."
        words = {
            k.removeprefix(prefix): v
            for k, v in state.items()
            if k.startswith(prefix) and "LayerNorm" not in k
        }
        _load(self.embeddings, words)

    def vit(self, pixels: Tensor) -> Tensor:
        """All tokens of the last block, before its final norm."""
        return self.tower(pixels, output_hidden_states=True).hidden_states[-1]

    def states(self, vision: Tensor | None, ids: Tensor | None, mask: Tensor | None) -> Tensor:
        """Q-Former outputs in image mode (ids None), text mode (vision None) or composed mode."""
        batch = len(ids) if ids is not None else len(vision)  # type: ignore[arg-type] - one is there
        queries = self.state["query_tokens"].expand(batch, -1, -1)
        if ids is None:
            return self.qformer(query_embeds=queries, encoder_hidden_states=vision)[0]
        if vision is None:
            embedded = self.embeddings(input_ids=ids)
            return self.qformer(query_embeds=embedded, query_length=0, attention_mask=mask)[0]
        embedded = self.embeddings(input_ids=ids, query_embeds=queries)
        seen = torch.cat([torch.ones(batch, self.queries, dtype=mask.dtype), mask], dim=1)  # type: ignore[union-attr]
        return self.qformer(
            query_embeds=embedded,
            query_length=self.queries,
            attention_mask=seen,
            encoder_hidden_states=vision,
        )[0]


def _load(module: torch.nn.Module, state: dict[str, Tensor]) -> None:
    report = module.load_state_dict(state, strict=False)
    missing = [k for k in report.missing_keys if "position_ids" not in k]
    assert not missing, missing
    assert not report.unexpected_keys, report.unexpected_keys


def _vision_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    found = {
        "embeddings.class_embedding": state["visual_encoder.cls_token"],
        "embeddings.position_embedding": state["visual_encoder.pos_embed"],
        "embeddings.patch_embedding.weight": state["visual_encoder.patch_embed.proj.weight"],
        "embeddings.patch_embedding.bias": state["visual_encoder.patch_embed.proj.bias"],
        # Unused by `vit`, which reads the tokens before it.
        "post_layernorm.weight": state["ln_vision.weight"],
        "post_layernorm.bias": state["ln_vision.bias"],
    }
    names = {
        "norm1": "layer_norm1",
        "norm2": "layer_norm2",
        "attn.qkv": "self_attn.qkv",
        "attn.proj": "self_attn.projection",
        "mlp": "mlp",
    }
    for key, value in state.items():
        if not key.startswith("visual_encoder.blocks.") or key.endswith("_bias"):
            continue
        number, _, rest = key.removeprefix("visual_encoder.blocks.").partition(".")
        ours = next(n for n in names if rest.startswith(n))
        new = rest.replace(ours, names[ours], 1)
        found[f"encoder.layers.{number}.{new}"] = value
        if ours == "attn.qkv":
            prefix = f"visual_encoder.blocks.{number}.attn."
            q, v = state[prefix + "q_bias"], state[prefix + "v_bias"]
            found[f"encoder.layers.{number}.self_attn.qkv.bias"] = torch.cat(
                [q, torch.zeros_like(q), v]
            )
    return found


def _qformer_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for key, value in state.items():
        if key.startswith("Qformer.bert.embeddings.LayerNorm."):
            found[key.replace("Qformer.bert.embeddings.LayerNorm", "layernorm")] = value
        elif key.startswith("Qformer.bert.encoder."):
            name = key.removeprefix("Qformer.bert.")
            found[name.replace("attention.self.", "attention.attention.")] = value
    return found


def slow_qformer(
    state: dict[str, Tensor],
    config: QFormerConfig,
    queries: Tensor | None,
    ids: Tensor | None,
    allowed: Tensor,
    vision: Tensor | None,
    *,
    text_ffn_for_queries: bool = False,
) -> Tensor:
    """One joint pass over [queries ; text] with any attention pattern, one item, one head, one
    place at a time.

    Args:
        state: Of `UniFashionEncoderModel`.
        config: Its sizes.
        queries: (Q, hidden).
        ids: (L,).
        allowed: (Q + L, Q + L), bool: row may look at column.
        vision: (P, W).
        text_ffn_for_queries: The research code's rule for queries and text without an image.
    """
    s = {k.removeprefix("Qformer.bert."): v.double() for k, v in state.items()}
    c = config

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ s[f"{name}.weight"].T + s[f"{name}.bias"]

    def norm(x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.pow(2).mean(-1, keepdim=True) + c.layer_norm_eps).sqrt()
        return scaled * s[f"{name}.weight"] + s[f"{name}.bias"]

    def attend(x: Tensor, source: Tensor, may: Tensor, name: str) -> Tensor:
        q, k, v = (
            linear(y, f"{name}.self.{part}")
            for part, y in (("query", x), ("key", source), ("value", source))
        )
        out = torch.zeros_like(q)
        width = c.hidden // c.heads
        for head in range(c.heads):
            cols = slice(head * width, (head + 1) * width)
            for row in range(len(x)):
                keys = may[row].nonzero()[:, 0]
                weights = (k[keys][:, cols] @ q[row, cols] / width**0.5).softmax(0)
                out[row, cols] = weights @ v[keys][:, cols]
        return norm(linear(out, f"{name}.output.dense") + x, f"{name}.output.LayerNorm")

    def ffn(x: Tensor, prefix: str, kind: str) -> Tensor:
        inner = F.gelu(linear(x, f"{prefix}intermediate{kind}.dense"))
        return norm(
            linear(inner, f"{prefix}output{kind}.dense") + x, f"{prefix}output{kind}.LayerNorm"
        )

    parts = [] if queries is None else [queries.double()]
    count = 0 if queries is None else len(queries)
    if ids is not None:
        positions = s["embeddings.position_embeddings.weight"][: len(ids)]
        parts.append(s["embeddings.word_embeddings.weight"][ids] + positions)
    x = norm(torch.cat(parts), "embeddings.LayerNorm")
    for i in range(c.layers):
        layer = f"encoder.layer.{i}."
        x = attend(x, x, allowed, f"{layer}attention")
        q, t = x[:count], x[count:]
        if vision is not None and count and i % c.cross_attention_freq == 0:
            everything = torch.ones(count, len(vision), dtype=torch.bool)
            q = attend(q, vision.double(), everything, f"{layer}crossattention")
        kind = "" if text_ffn_for_queries else "_query"
        x = torch.cat([ffn(q, layer, kind), ffn(t, layer, "")])
    return x
