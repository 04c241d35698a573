"""A tiny try-on model with random weights, and what the chain needs around it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

SIZE = (128, 128)


def tiny_config(config: Any, **changes: Any) -> Any:
    """The pocket model's shape, as small as its blocks allow.

    Args:
        config: The module `unifashion_core.tryon.config`.
        **changes: Of the whole config.
    """
    values = {
        "unet": config.UNetConfig(
            latent_channels=4,
            model_channels=16,
            channel_mult=(1, 2),
            num_res_blocks=1,
            attention_resolutions=(2, 1),
            num_heads=2,
            context_dim=16,
            norm_groups=8,
            prediction_type="v_prediction",
            warp_positions=True,
        ),
        "autoencoder": config.AutoencoderConfig(
            channels=8, channel_mult=(1, 1, 2, 2), num_res_blocks=1, norm_groups=4
        ),
        "text": config.ClipConfig(16, 1, 2, 32, 77, 49408),
        "size": SIZE,
        "pose_map": "parts",
    }
    return config.TryOnConfig(**{**values, **changes})


def tiny_model(tryon: Any, config: Any, attention: Any, seed: int = 0) -> Any:
    """The networks with seeded weights, every zero start made small noise.

    Args:
        tryon: The module `unifashion_core.tryon.checkpoint`.
        config: A `TryOnConfig`.
        attention: The backend.
        seed: Of the weights.
    """
    torch.manual_seed(seed)
    model = tryon.build_tryon(config, attention)
    rng = torch.Generator().manual_seed(seed)
    for module in model.modules.values():
        module.eval().requires_grad_(False)
        for value in module.parameters():
            if not bool(value.any()):
                value.copy_(torch.randn(value.shape, generator=rng) * 0.05)
    free = torch.randn(1, 1, config.unet.context_dim, generator=rng)
    return replace(model, free=free)
