"""CLIP's vision transformer as a tower: the tokens before its last block, through transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..attention import AttentionBackend, math_attention, register_with_transformers
from ..deps import require
from ..errors import CheckpointError, ShapeError
from ..weights import place_tensor, read_weights
from .config import TowerConfig

_MINIMUM = "4.53"  # the first with a mask interface
_PREFIX = "vision_model."


class ClipTower(nn.Module):
    """transformers' CLIP vision model with our attention; keys are `vision_model.*` whatever its
    version calls them.

    Source: Radford et al. 2021 (CLIP); the layer as LLaVA takes it, Liu et al. 2023, section 4.1.
    """

    def __init__(self, config: TowerConfig, attention: AttentionBackend) -> None:
        super().__init__()
        self.config = config
        transformers: Any = require("transformers", minimum=_MINIMUM)
        settings = transformers.CLIPVisionConfig(
            hidden_size=config.width,
            intermediate_size=config.mlp_hidden,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            image_size=config.image_size,
            patch_size=config.patch_size,
            hidden_act=config.activation,
            layer_norm_eps=config.layer_norm_eps,
        )
        model: nn.Module = transformers.CLIPVisionModel._from_config(
            settings, attn_implementation=register_with_transformers(attention)
        )
        # transformers 4 wraps the network once more than 5 does.
        self.vision_model: nn.Module = getattr(model, "vision_model", model)

    def forward(self, pixels: Tensor) -> Tensor:
        """Encode images.

        Args:
            pixels: Normalised, (B, 3, S, S) with S = `config.image_size`.

        Returns:
            `hidden_states[-2]`, (B, 1 + (S / patch)^2, width), the class token first.

        Raises:
            ShapeError: If the images have another size.
        """
        side = self.config.image_size
        if pixels.ndim != 4 or tuple(pixels.shape[1:]) != (3, side, side):
            raise ShapeError(
                f"CLIP tower: pixels are {tuple(pixels.shape)}, wanted (B, 3, {side}, {side}). "
                "Preprocess the images with this encoder's own settings."
            )
        return self.vision_model(pixels, output_hidden_states=True).hidden_states[-2]


def read_clip_tower(folder: Path) -> tuple[TowerConfig, dict[str, Tensor]]:
    """A CLIPVisionModel (or CLIPModel) folder as a tower's config and state dict.

    Args:
        folder: Holds config.json and the weights, in any form that transformers reads.

    Returns:
        The config, and `ClipTower`'s state dict, float32 on the CPU.

    Raises:
        CheckpointError: If the folder holds something else, or only some of the weights.
        MissingPackageError: If transformers is absent or too old.
    """
    config = _read_config(folder)
    with torch.device("meta"):
        wanted = ClipTower(config, math_attention()).state_dict().keys()
    # Read here and not by transformers: 5.8 gives one of the two ways to name these weights other
    # values without a word.
    stored = {_PREFIX + k.removeprefix(_PREFIX): v for k, v in read_weights(folder).tensors.items()}
    missing = sorted(k for k in wanted if k not in stored and "position_ids" not in k)
    if missing:
        raise CheckpointError(
            f"CLIP tower {folder.name!r}: {len(missing)} weights are missing ({missing[0]}, ...). "
            "Give a complete CLIPVisionModel folder."
        )
    where = f"CLIP tower {folder.name!r}"
    return config, {
        name: place_tensor(stored[name], "cpu", torch.float32, f"{where}: {name}")
        for name in wanted
        if name in stored
    }


def _read_config(folder: Path) -> TowerConfig:
    transformers: Any = require("transformers", minimum=_MINIMUM)
    try:
        if not (folder / "config.json").is_file():  # transformers would take its defaults
            raise ValueError("there is no config.json")
        found = transformers.CLIPVisionConfig.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, RuntimeError, TypeError) as e:
        raise CheckpointError(
            f"CLIP tower {folder.name!r}: transformers can't read it ({e}). "
            "Give the folder of a CLIPVisionModel: config.json and model.safetensors."
        ) from e
    if found.hidden_act not in ("gelu", "quick_gelu"):
        raise CheckpointError(
            f"CLIP tower {folder.name!r}: its activation is {found.hidden_act!r}, "
            "wanted gelu or quick_gelu. Give an original CLIP vision model."
        )
    return TowerConfig(
        kind="clip_vit",
        image_size=found.image_size,
        patch_size=found.patch_size,
        width=found.hidden_size,
        layers=found.num_hidden_layers,
        heads=found.num_attention_heads,
        mlp_hidden=found.intermediate_size,
        layer_norm_eps=found.layer_norm_eps,
        activation=found.hidden_act,
    )
