"""What makes the context: CLIP's text encoder (UniFashion), or its vision encoder and a mapper
(StableVITON); and the adapter of an encoder's query outputs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..attention import AttentionBackend, register_with_transformers
from ..deps import require
from ..errors import ShapeError
from .config import AdapterConfig, ClipConfig, TryOnConfig

_MINIMUM = "4.53"  # the first transformers with a mask interface


class ClipText(nn.Module):
    """transformers' CLIP text model with our attention; keys are `text_model.*`.

    Source: Radford et al. 2021 (CLIP), section 2.4.
    """

    def __init__(self, config: ClipConfig, attention: AttentionBackend) -> None:
        super().__init__()
        self.config = config
        transformers: Any = require("transformers", minimum=_MINIMUM)
        settings = transformers.CLIPTextConfig(
            hidden_size=config.width,
            intermediate_size=config.intermediate,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            max_position_embeddings=config.places,
            vocab_size=config.vocabulary,
            # CLIP's are the last two of its vocabulary.
            bos_token_id=config.vocabulary - 2,
            eos_token_id=config.vocabulary - 1,
        )
        model: nn.Module = transformers.CLIPTextModel._from_config(
            settings, attn_implementation=register_with_transformers(attention)
        )
        # transformers 4 wraps the network once more than 5 does.
        self.text_model: nn.Module = getattr(model, "text_model", model)

    def forward(self, ids: Tensor) -> Tensor:
        """Token ids, (B, places), to the last hidden state, (B, places, width).

        Raises:
            ShapeError: If there are more tokens than positions.
        """
        if ids.shape[1] > self.config.places:
            raise ShapeError(
                f"text encoder: {ids.shape[1]} tokens, it has {self.config.places} positions. "
                "Cut the text."
            )
        return self.text_model(input_ids=ids).last_hidden_state


class ClipImage(nn.Module):
    """transformers' CLIP vision model with our attention; keys are `vision_model.*`."""

    def __init__(self, config: ClipConfig, attention: AttentionBackend) -> None:
        super().__init__()
        self.config = config
        transformers: Any = require("transformers", minimum=_MINIMUM)
        settings = transformers.CLIPVisionConfig(
            hidden_size=config.width,
            intermediate_size=config.intermediate,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            image_size=config.image_size,
            patch_size=config.patch_size,
        )
        model: nn.Module = transformers.CLIPVisionModel._from_config(
            settings, attn_implementation=register_with_transformers(attention)
        )
        self.vision_model: nn.Module = getattr(model, "vision_model", model)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pictures, (B, 3, S, S), to one pooled token each, (B, 1, width)."""
        return self.vision_model(pixels).pooler_output[:, None]


class _MapperAttention(nn.Module):
    def __init__(self, width: int, attention: AttentionBackend) -> None:
        super().__init__()
        self._attention = attention
        self.c_qkv = nn.Linear(width, 3 * width)
        self.c_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (t[:, None] for t in self.c_qkv(x).chunk(3, dim=-1))  # (B, 1, M, width)
        return self.c_proj(self._attention(q, k, v)[:, 0])


class _MapperFeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(F.gelu(self.c_fc(x)))


class _MapperBlock(nn.Module):
    def __init__(self, width: int, attention: AttentionBackend) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = _MapperAttention(width, attention)
        self.mlp = _MapperFeedForward(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class _Mapper(nn.Module):
    def __init__(self, width: int, layers: int, attention: AttentionBackend) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList([_MapperBlock(width, attention) for _ in range(layers)])


class ImageContext(nn.Module):
    """CLIP's pooled picture through the mapper to one context token.

    Source: Yang et al. 2023 (Paint by Example), section 3.2, as StableVITON took it.
    """

    def __init__(self, config: TryOnConfig, attention: AttentionBackend) -> None:
        super().__init__()
        assert config.image is not None
        width = config.image.width
        self.transformer = ClipImage(config.image, attention)
        self.mapper = _Mapper(width, config.mapper_layers, attention)
        self.final_ln = nn.LayerNorm(width)
        self.proj_out = nn.Linear(width, config.unet.context_dim)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pictures, (B, 3, S, S), to context, (B, 1, context_dim)."""
        x = self.transformer(pixels)
        for block in self.mapper.resblocks:
            x = block(x)
        return self.proj_out(self.final_ln(x))


class _ProjectionLayer(nn.Module):
    def __init__(self, hidden: int, intermediate: int) -> None:
        super().__init__()
        self.LayerNorm = nn.LayerNorm(hidden, eps=1e-12)
        self.dense1 = nn.Linear(hidden, intermediate)
        self.dense2 = nn.Linear(intermediate, hidden)

    def forward(self, x: Tensor) -> Tensor:
        wide = self.dense1(self.LayerNorm(x))
        return x + self.dense2(wide * torch.sigmoid(1.702 * wide))


class ContextAdapter(nn.Module):
    """A residual layer over an encoder's query outputs, and a linear one where widths differ.

    Source: Zhao et al. 2024 (UniFashion); Li et al. 2023 (BLIP-Diffusion), whose layer it is.
    """

    def __init__(self, config: AdapterConfig, context_dim: int) -> None:
        super().__init__()
        self.config = config
        self.proj_layer = _ProjectionLayer(config.hidden, config.intermediate)
        if config.hidden != context_dim:
            self.to_context = nn.Linear(config.hidden, context_dim)

    def forward(self, outputs: Tensor) -> Tensor:
        """Query outputs, (B, T, hidden), to context, (B, T, context_dim)."""
        x = self.proj_layer(outputs)
        return self.to_context(x) if hasattr(self, "to_context") else x


def repair_positions(module: nn.Module, device: torch.device | str) -> None:
    """Count out transformers' position ids, which are in no state dict and stay on the meta
    device."""
    for part in module.modules():
        for name, buffer in part.named_buffers(recurse=False):
            if buffer.is_meta and name == "position_ids":
                ids = torch.arange(buffer.shape[-1], device=device)[None]
                part.register_buffer(name, ids, persistent=False)
