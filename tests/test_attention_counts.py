"""Every attention of every network goes through the dispatcher: counted against the number of
layers.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from reference.encoder_oracles import random_model, small_config
from torch import Tensor

from unifashion_core.attention import AttentionBackend, math_attention, sdpa_attention
from unifashion_core.encoder.clip_tower import ClipTower
from unifashion_core.encoder.config import TowerConfig
from unifashion_core.encoder.eva_vit import EvaVit
from unifashion_core.encoder.model import UniFashionEncoderModel


class Counter:
    """A backend that counts its calls and can make a difference: what bypasses it would not show
    it.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.backend = AttentionBackend("math", self.run)

    def run(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, dropout: float) -> Tensor:
        self.calls += 1
        return math_attention().run(q, k, v, bias, dropout)


@pytest.fixture(autouse=True)
def _no_other_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's own kernels and softmax-free tricks are out of reach while counting."""

    def forbidden(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("attention beside the dispatcher")

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", forbidden)
    monkeypatch.setattr(torch.nn.functional, "multi_head_attention_forward", forbidden)


def test_eva_tower_calls_once_a_block() -> None:
    counter = Counter()
    config = TowerConfig(image_size=28, patch_size=14, width=16, layers=5, heads=2, mlp_hidden=24)
    EvaVit(config, counter.backend)(torch.zeros(1, 3, 28, 28))
    assert counter.calls == 5


def clip_config() -> TowerConfig:
    return TowerConfig(
        kind="clip_vit",
        image_size=28,
        patch_size=14,
        width=16,
        layers=4,
        heads=2,
        mlp_hidden=24,
        layer_norm_eps=1e-5,
        activation="quick_gelu",
    )


def test_clip_tower_calls_once_a_layer() -> None:
    counter = Counter()
    ClipTower(clip_config(), counter.backend)(torch.zeros(1, 3, 28, 28))
    assert counter.calls == 4


@pytest.fixture
def counted() -> tuple[UniFashionEncoderModel, Counter]:
    counter = Counter()
    config = small_config(layers=5, cross_attention_freq=2)  # cross-attention in layers 0, 2, 4
    return random_model(config, seed=0, attention=counter.backend), counter


@pytest.mark.parametrize(
    ("mode", "calls"), [("image", 8), ("text", 5), ("composed", 8), ("lm", 8 + 5), ("step", 8 + 5)]
)
@torch.inference_mode()
def test_qformer_calls_once_a_layer_and_once_a_cross_attention(
    counted: tuple[UniFashionEncoderModel, Counter], mode: str, calls: int
) -> None:
    model, counter = counted
    vision = torch.zeros(2, 4, model.config.qformer.vision_width)
    ids = torch.ones(2, 6, dtype=torch.int64)
    if mode == "image":
        model.image_states(vision)
    elif mode == "text":
        model.text_states(ids, ids)
    elif mode == "composed":
        model.composed_states(vision, ids, ids)
    elif mode == "lm":
        model.lm_logits(ids, ids, model.image_cache(vision)[1])
    else:
        model.decode_step(ids[:, 0], model.image_cache(vision)[1])
    assert counter.calls == calls


@torch.inference_mode()
def test_whole_encoder_on_sdpa_equals_math(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    config = small_config()
    models = [
        random_model(config, seed=4, attention=backend)
        for backend in (math_attention(), sdpa_attention())
    ]
    pixels = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[4, 9, 7, 5], [4, 8, 5, 0]])
    mask = (ids > 0).long()
    found: list[Tensor] = []
    for model in models:
        vision = model.encode_vision(pixels)
        found.append(
            torch.cat(
                [
                    model.image_features(vision).flatten(),
                    model.text_features(ids, mask).flatten(),
                    model.composed_features(vision, ids, mask).flatten(),
                    model.lm_logits(ids, mask, model.image_cache(vision)[1])[mask.bool()].flatten(),
                ]
            )
        )
    torch.testing.assert_close(found[0], found[1], atol=2e-5, rtol=0)
