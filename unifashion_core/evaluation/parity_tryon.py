"""Reference sets of the try-on: autoencoder, UNet with sampler, warp loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..attention import AttentionBackend
from ..training.warp_loss import WarpLoss
from ..tryon.autoencoder import Autoencoder, Posterior
from ..tryon.condition import Condition
from ..tryon.config import AutoencoderConfig, TryOnConfig, UNetConfig
from ..tryon.denoiser import Denoiser
from ..tryon.plms import sample_plms
from ..tryon.unet import GarmentEncoder, TryOnUNet
from .reference_sets import Comparison, ReferenceSet

_INPUTS = frozenset(
    {
        "x",
        "timesteps",
        "sample_timesteps",
        "agnostic_latent",
        "agnostic_mask",
        "densepose_latent",
        "garment_latent",
        "context",
        "uncond_context",
        "garment_region_mask",
    }
)
_UNET, _GARMENT, _VAE = "model.diffusion_model.", "control_model.", "first_stage_model."


def check_vae(reference: ReferenceSet, attention: AttentionBackend) -> Comparison:
    """Encode the image, decode the posterior's mean."""
    meta, io = reference.meta, reference.tensors
    config = AutoencoderConfig(
        channels=meta["ch"],
        channel_mult=tuple(meta["ch_mult"]),
        num_res_blocks=meta["num_res_blocks"],
        latent_channels=meta["z_channels"],
        norm_groups=meta.get("norm_groups", 32),
        scale_factor=meta.get("scale_factor", 0.18215),
    )
    model = Autoencoder(config, attention).eval()
    model.load_state_dict(_under(reference.weights, _VAE))
    comparison = Comparison(reference, lambda name: name == "image")
    with torch.inference_mode():
        posterior = model.encode(io["image"])
        comparison.add("posterior_mean", posterior.mean, 2e-4)
        comparison.add("posterior_logvar", posterior.logvar, 2e-4)
        comparison.add("decoded_mean", model.decode(io["posterior_mean"]), 2e-4)
    return comparison


def check_tryon(reference: ReferenceSet, attention: AttentionBackend) -> Comparison:
    """The garment's maps, one prediction, and our sampler's results with and without guidance."""
    io = reference.tensors
    unet, garment = _networks(reference, attention)
    comparison = Comparison(reference, _INPUTS.__contains__)
    condition = _condition(io)

    def predict(x: Tensor, times: Tensor, context: Tensor) -> tuple[Tensor, list[Tensor]]:
        joined = torch.cat([x, condition], dim=1)
        maps = garment(joined, times, context, io["garment_latent"])
        return unet(joined, times, context, maps), maps

    with torch.inference_mode():
        noise, maps = predict(io["x"], io["timesteps"], io["context"])
        for number, values in enumerate(maps):
            comparison.add(f"control_{number}", values, 2e-4)
        comparison.add("eps", noise, 2e-4)
        networks = _Networks(
            TryOnConfig(unet.config, AutoencoderConfig(scale_factor=1.0)), unet, garment
        )
        for scale in {1.0, float(reference.meta.get("guidance", 1.0))}:
            denoiser = Denoiser(networks, _whole_condition(io), scale)
            final = sample_plms(denoiser, io["x"], io["sample_timesteps"])
            comparison.add(f"plms_cfg{scale:g}_final", final, 2e-3, relative=True)
    return comparison


@dataclass(frozen=True)
class _Networks:
    config: TryOnConfig
    unet: TryOnUNet
    garment: GarmentEncoder


def _whole_condition(io: Mapping[str, Tensor]) -> Condition:
    """What the sampler is led by; the set's latents are scaled already."""

    def exact(name: str) -> Posterior:
        return Posterior(io[name], torch.full_like(io[name], -30.0))

    count = len(io["x"])
    return Condition(
        agnostic=exact("agnostic_latent"),
        pose=exact("densepose_latent"),
        keep=io["agnostic_mask"],
        hint=exact("garment_latent"),
        hint_strength=torch.ones(count),
        context=io["context"],
        free=io.get("uncond_context"),
        empty=(False,) * count,
    )


def check_atv(reference: ReferenceSet, attention: AttentionBackend) -> Comparison:
    """One prediction, and the loss over its warp attention."""
    io = reference.tensors
    unet, garment = _networks(reference, attention)
    comparison = Comparison(reference, _INPUTS.__contains__)
    joined = torch.cat([io["x"], _condition(io)], dim=1)
    height, width = io["x"].shape[2:]
    loss = WarpLoss(io["garment_region_mask"], (height, width))
    with torch.inference_mode():
        maps = garment(joined, io["timesteps"], io["context"], io["garment_latent"])
        noise = unet(joined, io["timesteps"], io["context"], maps, loss.watch)
        comparison.add("eps", noise, 2e-4)
        comparison.add("atv_loss", loss.total(), 1e-6)
    return comparison


def _networks(
    reference: ReferenceSet, attention: AttentionBackend
) -> tuple[TryOnUNet, GarmentEncoder]:
    meta: Mapping[str, Any] = reference.meta
    config = UNetConfig(
        latent_channels=(meta["in_channels"] - 1) // 3,
        model_channels=meta["model_channels"],
        channel_mult=tuple(meta["channel_mult"]),
        num_res_blocks=meta["num_res_blocks"],
        attention_resolutions=tuple(meta["attention_resolutions"]),
        num_heads=meta["num_heads"],
        context_dim=meta["context_dim"],
        norm_groups=meta.get("norm_groups", 32),
    )
    unet, garment = TryOnUNet(config, attention), GarmentEncoder(config, attention)
    unet.load_state_dict(_under(reference.weights, _UNET))
    garment.load_state_dict(_under(reference.weights, _GARMENT))
    return unet.eval(), garment.eval()


def _condition(io: Mapping[str, Tensor]) -> Tensor:
    """What the UNet reads beside the noisy latent, (B, 2 z + 1, h, w)."""
    return torch.cat([io["agnostic_latent"], io["agnostic_mask"], io["densepose_latent"]], dim=1)


def _under(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
