"""Context tokens: of texts, of the garment's picture, and of nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import AbilityError, ShapeError
from .checkpoint import TryOnModel
from .condition_encoders import ClipText, ImageContext
from .tokens import ClipTokenizer

_MEAN = (0.48145466, 0.4578275, 0.40821073)
_SPREAD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class TextContext:
    """B texts as context.

    Attributes:
        tokens: (B, N, context_dim), float32 on the CPU.
        unknown_words: Of each text, what the encoder's table has no rows for.
        truncated: Whether each text was cut.
    """

    tokens: Tensor
    unknown_words: tuple[tuple[str, ...], ...]
    truncated: tuple[bool, ...]


@torch.inference_mode()
def encode_texts(model: TryOnModel, tokenizer: ClipTokenizer, texts: Sequence[str]) -> TextContext:
    """Texts as context; an empty one is the context of nothing.

    Args:
        model: Its text encoder is used.
        tokenizer: CLIP's.
        texts: As typed.

    Raises:
        AbilityError: If the model reads the garment's picture instead of a text.
        InputError: If there is no text.
    """
    encoder = model.context
    if not isinstance(encoder, ClipText):
        raise AbilityError(
            "try-on: this model (StableVITON) reads the garment's picture, not a text. Leave the "
            "text empty, or load a UniFashion model."
        )
    found = tokenizer.tokenize(texts, encoder.config)
    device = next(encoder.parameters()).device
    tokens = encoder(found.ids.to(device)).float().cpu()
    blank = torch.tensor([not text.strip() for text in texts])
    if model.free is not None and bool(blank.any()):
        nothing = model.free.float().cpu().expand(1, tokens.shape[1], -1)
        tokens = torch.where(blank[:, None, None], nothing, tokens)
    return TextContext(tokens, found.unknown_words, found.truncated)


@torch.inference_mode()
def encode_garment_context(model: TryOnModel, pictures: Tensor) -> Tensor:
    """The garments' pictures as context, for a model that reads these.

    Args:
        model: Its image encoder is used.
        pictures: (B, H, W, 3), 0..1.

    Returns:
        (B, 1, context_dim), float32 on the CPU.

    Raises:
        AbilityError: If the model reads texts.
        ShapeError: If these are no pictures.
    """
    encoder = model.context
    if not isinstance(encoder, ImageContext):
        raise AbilityError(
            "try-on: this model (UniFashion) reads a text as context, not the garment's picture. "
            "Give a text or a caption."
        )
    if pictures.ndim != 4 or pictures.shape[-1] != 3:
        raise ShapeError(
            f"try-on: pictures of shape {tuple(pictures.shape)}, wanted (B, H, W, 3). "
            "Give RGB pictures."
        )
    like = next(encoder.parameters())
    side = encoder.transformer.config.image_size
    pixels = pictures.permute(0, 3, 1, 2).to(like.device, torch.float32)
    pixels = F.interpolate(pixels, (side, side), mode="bilinear", antialias=True)
    mean, spread = (pixels.new_tensor(v)[None, :, None, None] for v in (_MEAN, _SPREAD))
    return encoder(((pixels - mean) / spread).to(like.dtype)).float().cpu()


@torch.inference_mode()
def free_context(
    model: TryOnModel, tokenizer: ClipTokenizer | None = None, tokens: int | None = None
) -> Tensor | None:
    """The context of nothing, that guidance leads away from: learned, else an empty text's.

    Args:
        model: A try-on model.
        tokenizer: CLIP's; where None, a model without a learned one has none.
        tokens: How many the context has, where that is not the text's alone.

    Returns:
        (1, N, context_dim), float32 on the CPU, or None where the model has none.
    """
    places = model.config.text.places if model.config.text is not None else 1
    if model.free is not None:
        return model.free.float().cpu().expand(1, tokens or places, -1)
    if tokens not in (None, places):  # nothing is known of a longer one
        return None
    if isinstance(model.context, ClipText) and tokenizer is not None:
        return encode_texts(model, tokenizer, [""]).tokens
    return None
