"""Losses of try-on training: the denoising error, and what the warp attention is told."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..tryon.autoencoder import Autoencoder
from ..tryon.blocks import ResBlock, SpatialTransformer
from ..tryon.checkpoint import TryOnModel
from ..tryon.condition_encoders import ClipText
from ..tryon.schedule import TRAIN_STEPS, alphas_cumprod
from ..tryon.solvers import clean_estimate, signal_and_spread
from ..tryon.unet import OnWarp
from .tryon_config import TryOnTrainConfig
from .warp_loss import WarpLoss

_LAST_SHARE = 0.2  # of the places' weight at the end of a run


class TryOnObjective(nn.Module):
    """A try-on model under training.

    A batch holds latents, scaled, and what is drawn with them:
    "target", "agnostic", "pose", "hint", (B, z, h, w); "keep", (B, 1, h, w), 1 = keep;
    "hint_on", "text_on", "places_on", (B,), 0 or 1; "ids", (B, L);
    "worn", (B, 1, H, W), 1 = the worn garment;
    "places", (B, h, w, 3), x and y of each place on the garment as shares, and 1 where known;
    "progress", (), the share of the run that is done.

    Source: Kim et al. 2024 (StableVITON), section 3; v-prediction: Salimans and Ho 2022, section 4.
    """

    def __init__(
        self, model: TryOnModel, config: TryOnTrainConfig, channel_weights: Tensor | None = None
    ) -> None:
        super().__init__()
        count = config.unet.latent_channels
        weights = torch.ones(count) if channel_weights is None else channel_weights
        self.register_buffer("_channels", weights, persistent=False)
        assert isinstance(model.context, ClipText)
        self.unet, self.garment, self.text = model.unet, model.garment, model.context
        dim = config.unet.context_dim
        free = torch.zeros(1, 1, dim) if model.free is None else model.free.detach().clone()
        self.free = nn.Parameter(free)
        self._config = config
        self.register_buffer("_alphas", alphas_cumprod(config.unet.zero_terminal), persistent=False)
        self.requires_grad_(True)
        if not config.train_all:
            for part in (self.unet.input_blocks, self.unet.middle_block, self.unet.time_embed):
                part.requires_grad_(False)
            self.text.requires_grad_(False)

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Losses by name; "total" is their weighted sum."""
        target = batch["target"]
        steps = self._steps(len(target), target.device)
        noise = torch.randn_like(target)
        alphas = cast("Tensor", self._alphas)[steps][:, None, None, None]
        noisy = alphas.sqrt() * target + (1 - alphas).sqrt() * noise
        watchers = _Watchers(batch, self._config, len(self.unet.warp_flow_blks))
        made = self._predict(batch, noisy, steps, watchers.watch)
        if self._config.unet.prediction_type == "v_prediction":
            wanted = alphas.sqrt() * noise - (1 - alphas).sqrt() * target
        else:
            wanted = noise
        weight = 1.0 - (1.0 - self._config.outside) * batch["keep"]
        error = (made - wanted).square() * cast("Tensor", self._channels)[:, None, None]
        mse = (error * weight).mean() / weight.mean()
        losses = {"total": mse, "mse": mse}
        if self._config.places:
            fade = 1.0 - (1.0 - _LAST_SHARE) * batch["progress"]
            losses["places"] = watchers.places()
            losses["total"] = losses["total"] + self._config.places * fade * losses["places"]
        if self._config.atv:
            losses["atv"] = watchers.variation.total()
            losses["total"] = losses["total"] + losses["atv"]
        return losses

    def guess(self, batch: Mapping[str, Tensor], steps: Tensor) -> Tensor:
        """The clean latents, scaled, (B, z, h, w), that the UNet sees in noisy ones.

        Args:
            batch: As `forward` reads it, but for what only losses need.
            steps: Time steps of the noise that is drawn here, (B,).
        """
        target = batch["target"]
        unet = self._config.unet
        signal, spread = signal_and_spread(steps, target, unet.zero_terminal)
        noisy = signal * target + spread * torch.randn_like(target)
        made = self._predict(batch, noisy, steps, None)
        return clean_estimate(made, noisy, steps, unet.prediction_type, unet.zero_terminal)

    def _steps(self, count: int, device: torch.device) -> Tensor:
        if self._config.late == 1.0:
            return torch.randint(0, TRAIN_STEPS, (count,), device=device)
        shares = torch.rand(count, device=device) ** self._config.late
        return (TRAIN_STEPS * shares).long().clamp(max=TRAIN_STEPS - 1)  # a root may round to 1

    def _predict(
        self, batch: Mapping[str, Tensor], noisy: Tensor, steps: Tensor, on_warp: OnWarp | None
    ) -> Tensor:
        x = torch.cat([noisy, batch["agnostic"], batch["keep"], batch["pose"]], dim=1)
        context = self._context(batch)
        hint_on = batch["hint_on"][:, None, None, None]
        maps = [m * hint_on for m in self.garment(x, steps, context, batch["hint"])]
        return self.unet(x, steps, context, maps, on_warp).float()

    def _context(self, batch: Mapping[str, Tensor]) -> Tensor:
        ids = batch["ids"]
        text = self.text(ids)
        free = self.free.to(text.dtype).expand(len(ids), ids.shape[1], -1)
        return torch.where(batch["text_on"][:, None, None] > 0, text, free)


class _Watchers:
    """What looks at the warp blocks' attention during one call."""

    def __init__(self, batch: Mapping[str, Tensor], config: TryOnTrainConfig, blocks: int) -> None:
        self._batch, self._config = batch, config
        self._blocks = {number % blocks for number in config.places_blocks}
        self._share = config.places_share
        size = (batch["target"].shape[2], batch["target"].shape[3])
        self._size = size
        self._terms: list[Tensor] = []
        self.variation = WarpLoss(
            batch["worn"], size, blocks=config.atv_blocks, key_limits=config.atv_limits
        )

    def watch(self, number: int, q: Tensor, k: Tensor) -> None:
        if self._config.atv:
            self.variation.watch(number, q, k)
        if self._config.places and number in self._blocks:
            count = math.ceil(self._share * len(q))
            places, counts = self._batch["places"][:count], self._batch["places_on"][:count]
            self._terms.append(places_loss(q[:count], k[:count], places, counts, self._size))

    def places(self) -> Tensor:
        if not self._terms:
            return self._batch["target"].new_zeros(())
        return torch.stack(self._terms).mean()


def places_loss(
    q: Tensor, k: Tensor, places: Tensor, counts: Tensor, latent_size: tuple[int, int]
) -> Tensor:
    """Cross-entropy between where each worn place looks and where it comes from.

    Args:
        q: Queries of a warp block, (B, H, M, K).
        k: Keys, (B, H, M, K), of the garment's places on the same grid.
        places: x, y as shares of the garment's sides, and 1 where known, (B, h, w, 3).
        counts: Which samples count, (B,), 0 or 1.
        latent_size: h and w.

    Returns:
        Mean over known places, (); the head-averaged attention is what is judged.
    """
    height, width = latent_size
    while height * width > q.shape[2]:
        height, width = height // 2, width // 2
    known = places[..., 2:].permute(0, 3, 1, 2)  # (B, 1, h, w)
    where = places[..., :2].permute(0, 3, 1, 2) * known
    share = F.adaptive_avg_pool2d(known, (height, width))
    mean = F.adaptive_avg_pool2d(where, (height, width)) / share.clamp(min=1e-6)
    sure = (share[:, 0] > 0.45).flatten(1) * counts[:, None]  # (B, M)
    logits = (q.float() @ k.float().transpose(-1, -2)) / math.sqrt(q.shape[-1])
    attention = torch.softmax(logits, dim=-1).mean(dim=1)  # (B, M, N)
    x = (mean[:, 0].flatten(1) * width - 0.5).clamp(0, width - 1)
    y = (mean[:, 1].flatten(1) * height - 0.5).clamp(0, height - 1)
    left, top = x.floor(), y.floor()
    hit = torch.zeros_like(x)
    for down in (0, 1):
        for across in (0, 1):
            column = (left + across).clamp(max=width - 1)
            row = (top + down).clamp(max=height - 1)
            weight = (1 - (x - left - across).abs()) * (1 - (y - top - down).abs())
            index = (row * width + column).long()[..., None]
            near = attention.gather(2, index)[..., 0]
            hit = hit + weight * torch.log(near + 1e-6)
    return -(hit * sure).sum() / sure.sum().clamp(min=1)


@torch.no_grad()
def channel_weights(autoencoder: Autoencoder, latents: Tensor, seed: int) -> Tensor:
    """How much each channel of a latent changes the decoded picture, with a mean of 1.

    Args:
        autoencoder: Its decoder is asked.
        latents: Some of the training's, unscaled, (N, z, h, w).
        seed: Of the change: a normal number a place.

    Returns:
        Root mean square changes of the pixels, relative to their mean over the channels, (z,).
    """
    generator = torch.Generator().manual_seed(seed)
    whole = autoencoder.decode(latents)
    found: list[Tensor] = []
    for channel in range(latents.shape[1]):
        moved = latents.clone()
        drawn = torch.randn(moved[:, channel].shape, generator=generator)
        moved[:, channel] += drawn * moved[:, channel].std()
        found.append((autoencoder.decode(moved) - whole).square().mean().sqrt())
    weights = torch.stack(found)
    return weights / weights.mean()


def prepare_fresh(model: TryOnModel, warp_start: float) -> None:
    """Start fresh weights as diffusion models do: residual branches and the output at zero, the
    warp blocks' outputs scaled.

    Source: Dhariwal and Nichol 2021; Zhang et al. 2023 (ControlNet), section 3.
    """
    warps = {id(m) for m in model.unet.warp_flow_blks}
    zeroed: list[nn.Module] = [model.unet.out[-1]]
    for network in (model.unet, model.garment):
        for part in network.modules():
            if isinstance(part, ResBlock):
                zeroed.append(part.out_layers[-1])
            if isinstance(part, SpatialTransformer) and id(part) not in warps:
                zeroed.append(part.proj_out)
    for part in zeroed:
        for value in part.parameters():
            nn.init.zeros_(value)
    with torch.no_grad():
        for convolution in cast("Sequence[nn.Conv2d]", model.unet.warp_zero_convs):
            for value in convolution.parameters():
                value.mul_(warp_start)
