"""The real-size encoder has exactly the keys and shapes of the paper's checkpoint; this list is
written from the spec alone.
"""

from __future__ import annotations

import math

import pytest
import torch

from unifashion_core.attention import math_attention
from unifashion_core.encoder.config import EncoderConfig
from unifashion_core.encoder.model import UniFashionEncoderModel

Shapes = dict[str, tuple[int, ...]]

# Of the rerank checkpoint, 862 tensors; what nothing uses, and the position ids that old
# transformers stored.
DEAD: Shapes = {
    "caption_proj.weight": (256, 768),
    "caption_proj.bias": (256,),
    "query_proj.weight": (256, 256),
    "query_proj.bias": (256,),
    "Qformer.bert.embeddings.position_ids": (1, 512),
}
GROUPS = {"itm": ("itm_head.",), "lm": ("Qformer.cls.",), "prompt": ("prompt_tokens",)}


def pair(name: str, out: int, into: int | None = None) -> Shapes:
    """A linear layer, or a norm."""
    return {f"{name}.weight": (out,) if into is None else (out, into), f"{name}.bias": (out,)}


def checkpoint() -> Shapes:
    keys: Shapes = {
        "query_tokens": (1, 32, 768),
        "prompt_tokens": (1, 32, 768),
        "temp": (),
        "visual_encoder.cls_token": (1, 1, 1408),
        "visual_encoder.pos_embed": (1, 257, 1408),
        "visual_encoder.patch_embed.proj.weight": (1408, 3, 14, 14),
        "visual_encoder.patch_embed.proj.bias": (1408,),
    }
    for i in range(39):
        b = f"visual_encoder.blocks.{i}"
        keys |= pair(f"{b}.norm1", 1408) | pair(f"{b}.norm2", 1408)
        keys |= {f"{b}.attn.q_bias": (1408,), f"{b}.attn.v_bias": (1408,)}
        keys |= {f"{b}.attn.qkv.weight": (4224, 1408)} | pair(f"{b}.attn.proj", 1408, 1408)
        keys |= pair(f"{b}.mlp.fc1", 6144, 1408) | pair(f"{b}.mlp.fc2", 1408, 6144)
    keys |= pair("ln_vision", 1408)
    e = "Qformer.bert.embeddings"
    keys |= {f"{e}.word_embeddings.weight": (30523, 768)}
    keys |= {f"{e}.position_embeddings.weight": (512, 768)} | pair(f"{e}.LayerNorm", 768)
    for i in range(12):
        n = f"Qformer.bert.encoder.layer.{i}"
        kinds = [("attention", 768)] + ([("crossattention", 1408)] if i % 2 == 0 else [])
        for kind, width in kinds:
            keys |= pair(f"{n}.{kind}.self.query", 768, 768)
            keys |= pair(f"{n}.{kind}.self.key", 768, width)
            keys |= pair(f"{n}.{kind}.self.value", 768, width)
            keys |= pair(f"{n}.{kind}.output.dense", 768, 768)
            keys |= pair(f"{n}.{kind}.output.LayerNorm", 768)
        for kind in ("", "_query"):
            keys |= pair(f"{n}.intermediate{kind}.dense", 3072, 768)
            keys |= pair(f"{n}.output{kind}.dense", 768, 3072)
            keys |= pair(f"{n}.output{kind}.LayerNorm", 768)
    p = "Qformer.cls.predictions"
    keys |= {f"{p}.bias": (30523,)} | pair(f"{p}.transform.dense", 768, 768)
    keys |= pair(f"{p}.transform.LayerNorm", 768) | pair(f"{p}.decoder", 30523, 768)
    keys |= pair("vision_proj", 256, 768) | pair("text_proj", 256, 768) | pair("itm_head", 2, 768)
    return keys


def built(groups: frozenset[str] = frozenset(GROUPS)) -> Shapes:
    with torch.device("meta"):
        model = UniFashionEncoderModel(EncoderConfig(), math_attention(), groups)
    return {name: tuple(t.shape) for name, t in model.state_dict().items()}


def elements(shapes: Shapes) -> int:
    return sum(math.prod(shape) for shape in shapes.values())


def test_list_of_the_spec_adds_up() -> None:
    whole = checkpoint() | DEAD
    assert len(whole) == 862
    assert elements(whole) == 1_196_359_929
    tower = {k: v for k, v in whole.items() if k.startswith("visual_encoder.")}
    assert elements(tower) == 985_894_528


def test_real_encoder_has_exactly_those_keys_and_shapes() -> None:
    assert built() == checkpoint()


@pytest.mark.parametrize("absent", [{"itm"}, {"lm"}, {"prompt"}, {"itm", "lm", "prompt"}])
def test_absent_groups_leave_out_their_keys_alone(absent: set[str]) -> None:
    gone = tuple(prefix for group in absent for prefix in GROUPS[group])
    expected = {k: v for k, v in checkpoint().items() if not k.startswith(gone)}
    assert built(frozenset(GROUPS) - absent) == expected


def test_parameters_count_tied_tensors_once() -> None:
    with torch.device("meta"):
        model = UniFashionEncoderModel(EncoderConfig(), math_attention())
    assert sum(p.numel() for p in model.Qformer.parameters()) == 186_282_811
