"""A tiny, random try-on model of every network, and conditions for it."""

from __future__ import annotations

import torch
from torch import Tensor

from unifashion_core.attention import math_attention
from unifashion_core.pocket import CLIP_MERGES
from unifashion_core.tryon.checkpoint import TryOnModel, build_tryon
from unifashion_core.tryon.condition import Condition, encode_person, encode_picture, make_condition
from unifashion_core.tryon.config import AutoencoderConfig, ClipConfig, TryOnConfig, UNetConfig
from unifashion_core.tryon.context import encode_texts, free_context
from unifashion_core.tryon.tokens import END_ID, START_ID, ClipTokenizer

TOKENIZER = ClipTokenizer(CLIP_MERGES)
WORDS = "a red blue striped plain dress with long sleeves"
SIZE = (32, 16)  # height, width


def table() -> tuple[int, ...]:
    ids = {i for _, tokens in TOKENIZER.encode(WORDS) for i in tokens}
    return tuple(sorted({*ids, START_ID, END_ID}))


def tiny_config(prediction: str = "v_prediction", **changes: object) -> TryOnConfig:
    unet = UNetConfig(
        4, 16, (1, 2), 1, (1, 2), 2, 24, 4, "v_prediction" if prediction[0] == "v" else "epsilon"
    )
    vae = AutoencoderConfig(8, (1, 1, 2), 1, 4, 4, 0.5)
    ids = table()
    text = ClipConfig(24, 1, 2, 32, 12, len(ids), ids=ids)
    values: dict[str, object] = {"unet": unet, "autoencoder": vae, "text": text, "size": SIZE}
    return TryOnConfig(**{**values, **changes})  # pyright: ignore[reportArgumentType] # as given


def tiny_model(config: TryOnConfig | None = None, *, free: bool = True) -> TryOnModel:
    torch.manual_seed(11)
    model = build_tryon(config or tiny_config(), math_attention())
    for module in model.modules.values():
        module.eval().requires_grad_(False)
    context = torch.randn(1, 1, model.config.unet.context_dim) if free else None
    fields = {n: getattr(model, n) for n in model.__dataclass_fields__}
    return TryOnModel(**{**fields, "free": context})


def picture(seed: int, size: tuple[int, int] = SIZE) -> Tensor:
    return torch.rand(*size, 3, generator=torch.Generator().manual_seed(seed))


def box_mask(size: tuple[int, int] = SIZE) -> Tensor:
    mask = torch.zeros(size)
    mask[size[0] // 4 : -size[0] // 4, 4:-4] = 1.0
    return mask


def tiny_condition(model: TryOnModel, count: int = 3) -> Condition:
    """Items of different persons, garments and texts."""
    persons = [
        encode_person(model, picture(i), box_mask(), picture(100 + i), whole=True)
        for i in range(count)
    ]
    hints = [encode_picture(model, picture(200 + i)) for i in range(count)]
    texts = ["a red dress", "a blue striped dress", "plain dress with long sleeves", ""]
    context = encode_texts(model, TOKENIZER, [texts[i % 4] for i in range(count)]).tokens
    free = free_context(model, TOKENIZER)
    return make_condition(persons, hints, context, free)
