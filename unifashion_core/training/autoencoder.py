"""Train the autoencoder of a try-on model on the pictures that the model will read and paint."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# (numpy's stubs lose the element type, and torch's from_numpy has none)

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..attention import AttentionBackend
from ..errors import FolderError
from ..imaging import open_image
from ..tryon.autoencoder import Autoencoder
from ..tryon.config import AutoencoderConfig
from ..tryon.parts import save_autoencoder
from ..types import OnStep
from .config import OptimConfig, config_of
from .loop import OnProgress, Stage, run_loop
from .tryon_layout import AGNOSTIC, CLOTH, IMAGE, POSE, SKETCH

_COMPONENT_PICTURES = 600
_SPREAD = 0.05  # of fresh posteriors: little beside latents of unit size
_FOLDER_SHARES = {IMAGE: 0.42, CLOTH: 0.28, AGNOSTIC: 0.1, POSE: 0.08, SKETCH: 0.12}


def _optim() -> OptimConfig:
    return OptimConfig(
        learning_rate=1e-4, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.0, warmup_share=0.02
    )


@dataclass(frozen=True)
class AutoencoderTrainConfig:
    """A run. The sizes' defaults are Stable Diffusion's.

    Attributes:
        autoencoder: Sizes; its scale factor is measured at the end.
        size: Height and width of the training pictures.
        crop: Side of the random square that is cut out of each, a multiple of the factor; 0 = the
            whole picture. Small ones make steps cheap: convolutions learn the same from them.
        gradient: Weight of the difference of neighbouring pixels' differences: edges and patterns.
        chroma: Weight of the error of colour apart from brightness, which is small in most pictures
            and learned late without it.
        kl: Weight of the divergence from a standard normal, a latent value.
        principal: Share of the run in which the encoder learns the principal components of the
            pictures' patches and the decoder learns to read them, before both go on together; 0 =
            together from the start. In few steps it finds what else takes many.
        anchor: Weight of the latents' squared distance to the principal components; while only
            those are learned it is 1.
        train_encoder: False trains the decoder alone: the latents stay as they are.
        optim: Optimiser.
        steps: Optimiser steps.
        batch_size: Pictures a step.
        save_every: Steps between checkpoints.
        seed: Of weights, batches and noise.
        precision: Of accelerate: "no" or "bf16".
    """

    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    size: tuple[int, int] = (512, 384)
    crop: int = 0
    gradient: float = 1.0
    chroma: float = 0.0
    kl: float = 1e-6
    principal: float = 0.0
    anchor: float = 0.0
    train_encoder: bool = True
    optim: OptimConfig = field(default_factory=_optim)
    steps: int = 100_000
    batch_size: int = 8
    save_every: int = 500
    seed: int = 0
    precision: Literal["no", "bf16"] = "no"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as the JSON file holds them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> AutoencoderTrainConfig:
        """The value that `to_dict` gave; what is absent keeps its default.

        Raises:
            InputError: If a name is unknown.
        """
        parts = {"autoencoder": AutoencoderConfig, "optim": OptimConfig}
        return config_of(cls, data, parts, {"optim": asdict(_optim())}, "Autoencoder config")


class Pictures:
    """The pictures of a split, by folder, decoded once and kept as bytes.

    Args:
        root: Folder in VITON-HD's layout.
        split: "train" or "test".
        size: Height and width.
        on_step: Called with (pictures read, pictures in all).

    Raises:
        FolderError: If there are none.
    """

    def __init__(
        self, root: Path, split: str, size: tuple[int, int], on_step: OnStep | None = None
    ) -> None:
        found = {name: sorted((root / split / name).glob("*.[pj][np]g")) for name in _FOLDER_SHARES}
        self._names = [name for name, files in found.items() if files]
        if IMAGE not in self._names:
            raise FolderError(f"Try-on data {root / split}: no pictures in {IMAGE}.")
        shares = np.array([_FOLDER_SHARES[name] for name in self._names])
        self._shares = shares / shares.sum()
        total, done = sum(map(len, found.values())), 0
        self.pictures: dict[str, Tensor] = {}
        self.stems = {name: [path.stem for path in found[name]] for name in self._names}
        for name in self._names:
            made = torch.empty(len(found[name]), 3, *size, dtype=torch.uint8)
            for number, path in enumerate(found[name]):
                image = open_image(path)
                if (image.height, image.width) != size:
                    image = image.resize((size[1], size[0]))
                made[number] = torch.from_numpy(np.array(image)).permute(2, 0, 1)
                done += 1
                if on_step is not None:
                    on_step(done, total)
            self.pictures[name] = made

    def draw(self, rng: np.random.Generator, count: int, crop: int = 0) -> Tensor:
        """Pictures in [-1, 1], (count, 3, H, W), or random squares of them."""
        chosen: list[Tensor] = []
        for name in rng.choice(self._names, count, p=self._shares):
            pictures = self.pictures[str(name)]
            picture = pictures[int(rng.integers(len(pictures)))]
            if crop:
                top, left = (int(rng.integers(side - crop + 1)) for side in picture.shape[1:])
                picture = picture[:, top : top + crop, left : left + crop]
            chosen.append(picture)
        return torch.stack(chosen).float() / 127.5 - 1.0


class PrincipalComponents(nn.Module):
    """Patches of pictures as their first principal components, each of unit variance.

    Source: Hotelling 1933; a latent of this kind is what an autoencoder finds first.

    Args:
        pictures: To learn from, in [-1, 1], (N, 3, H, W).
        side: Of a patch: the autoencoder's factor.
        count: Components: its latent channels.
    """

    basis: Tensor
    mean: Tensor

    def __init__(self, pictures: Tensor, side: int, count: int) -> None:
        super().__init__()
        self._side = side
        patches = F.unfold(pictures, side, stride=side).transpose(1, 2).flatten(0, 1)
        mean = patches.mean(dim=0)
        values, vectors = torch.linalg.eigh(torch.cov((patches - mean).T))
        scales = values[-count:].clamp(min=1e-8).rsqrt()
        basis = (vectors[:, -count:] * scales).flip(1)  # largest first
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("basis", basis, persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Pictures, (B, 3, H, W), to components, (B, count, h, w)."""
        side = self._side
        height, width = pixels.shape[2] // side, pixels.shape[3] // side
        patches = F.unfold(pixels.float(), side, stride=side).transpose(1, 2)
        found = (patches - self.mean) @ self.basis  # (B, h*w, count)
        return found.transpose(1, 2).unflatten(2, (height, width))


class AutoencoderObjective(nn.Module):
    """Reconstruction by absolute differences of pixels and of their neighbours' differences, and
    the divergence from a standard normal."""

    def __init__(
        self,
        autoencoder: Autoencoder,
        config: AutoencoderTrainConfig,
        components: PrincipalComponents | None = None,
    ) -> None:
        super().__init__()
        self.autoencoder, self._config = autoencoder, config
        self.components = components

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Losses of "pixels" in [-1, 1], (B, 3, H, W), at "progress", the share of the run."""
        pixels, config = batch["pixels"], self._config
        posterior = self.autoencoder.encode(pixels)
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        noise, apart = torch.randn_like(mean), batch["progress"] < config.principal
        losses: dict[str, Tensor] = {}
        if self.components is None:
            latents = mean + torch.exp(0.5 * logvar) * noise
        else:
            wanted = self.components(pixels)
            losses["anchor"] = (mean - wanted).square().mean()
            latents = torch.where(apart, wanted, mean) + torch.exp(0.5 * logvar) * noise
        made = self.autoencoder.decode(latents).float()
        seen = picture_losses(made, pixels, config.gradient, config.chroma)
        kl = 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).mean()
        total = seen["total"] + config.kl * kl
        if "anchor" in losses:
            weight = torch.where(apart, 1.0, config.anchor)
            total = total + weight * losses["anchor"]
        return {**seen, "total": total, "kl": kl, **losses}


def picture_losses(
    made: Tensor, pixels: Tensor, gradient: float, chroma: float
) -> dict[str, Tensor]:
    """Absolute differences of pictures, (B, 3, H, W): "pixel", "edges" of neighbouring pixels'
    differences, "chroma" of colour apart from brightness; "total" is their weighted sum."""
    off = made - pixels
    edges = off.diff(dim=2).abs().mean() + off.diff(dim=3).abs().mean()
    colour = (off - off.mean(dim=1, keepdim=True)).abs().mean()
    pixel = off.abs().mean()
    total = pixel + gradient * edges + chroma * colour
    return {"total": total, "pixel": pixel, "edges": edges, "chroma": colour}


def train_autoencoder(
    data: Path,
    out: Path,
    config: AutoencoderTrainConfig,
    attention: AttentionBackend,
    *,
    start: Autoencoder | None = None,
    on_step: OnStep | None = None,
    on_progress: OnProgress | None = None,
    stop_after: int | None = None,
) -> Path:
    """Train, or go on training, and save the autoencoder.

    Args:
        data: Folder in VITON-HD's layout.
        out: Folder of checkpoints; the result is its subfolder `autoencoder`.
        config: Of the run.
        attention: What the middle attention goes through.
        start: Weights to start from; None: fresh ones.
        on_step: Called with (pictures read, pictures in all).
        on_progress: Called after every step.
        stop_after: Save and stop at this step.

    Returns:
        The folder of the saved autoencoder.

    Raises:
        FolderError: If there are no pictures.
        CheckpointError: As `run_loop`.
    """
    pictures = Pictures(data, "train", config.size, on_step)
    torch.manual_seed(config.seed)  # pyright: ignore[reportUnknownMemberType] - untyped in torch
    model = start or prepare_fresh_autoencoder(Autoencoder(config.autoencoder, attention))
    model.requires_grad_(True)
    if not config.train_encoder:
        model.encoder.requires_grad_(False)
        model.quant_conv.requires_grad_(False)
    components = None
    if config.principal or config.anchor:
        some = pictures.draw(np.random.default_rng([config.seed, 78]), _COMPONENT_PICTURES)
        latents = config.autoencoder.latent_channels
        components = PrincipalComponents(some, config.autoencoder.factor, latents)
    objective = AutoencoderObjective(model, config, components)
    objective.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    stage = Stage(
        objective,
        config,
        lambda rng, step: {
            "pixels": pictures.draw(rng, config.batch_size, config.crop),
            "progress": torch.tensor(step / max(config.steps, 1)),
        },
    )
    run_loop(stage, out, on_progress=on_progress, stop_after=stop_after)
    model.eval()
    settings = model.config
    if config.train_encoder:
        settings = replace(settings, scale_factor=scale_factor(model, pictures, config))
    model.to("cpu")
    folder = out / "autoencoder"
    save_autoencoder(folder, model, settings)
    return folder


def prepare_fresh_autoencoder(model: Autoencoder) -> Autoencoder:
    """Start residual branches at zero and the path around them norm-preserving: the network begins
    as a nearly linear one, which learns colours and coarse shapes in a tenth of the steps.

    Source: Zhang et al. 2019 (Fixup), section 3; Saxe et al. 2014 for orthogonal weights.
    """
    for name, part in model.named_modules():
        if not isinstance(part, nn.Conv2d):
            continue
        if name.endswith((".conv2", ".proj_out")):
            nn.init.zeros_(part.weight)
        elif not name.endswith((".conv1", ".q", ".k", ".v")):
            nn.init.orthogonal_(part.weight)
        if part.bias is not None:
            nn.init.zeros_(part.bias)
    latents = model.config.latent_channels
    with torch.no_grad():
        model.quant_conv.weight[latents:] = 0.0
        assert model.quant_conv.bias is not None
        model.quant_conv.bias[latents:] = 2 * math.log(_SPREAD)
    return model


@torch.inference_mode()
def scale_factor(
    model: Autoencoder, pictures: Pictures, config: AutoencoderTrainConfig, count: int = 256
) -> float:
    """1 / standard deviation of the latents of some pictures: what brings them to unit size.

    Source: Rombach et al. 2022, appendix G.
    """
    rng = np.random.default_rng([config.seed, 77])
    device = next(model.parameters()).device
    means: Sequence[Tensor] = [
        model.encode(pictures.draw(rng, 16).to(device)).mean for _ in range(max(count // 16, 1))
    ]
    return 1.0 / float(torch.cat(list(means)).std())


@torch.inference_mode()
def reconstruction(model: Autoencoder, pictures: Tensor, batch: int = 16) -> dict[str, float]:
    """How well pictures survive the way to latents and back.

    Args:
        model: The autoencoder.
        pictures: (N, 3, H, W), uint8.
        batch: At a time.

    Returns:
        "psnr" in dB over all pixels, and "l1", of values 0..1.
    """
    squared, absolute = 0.0, 0.0
    for part in pictures.split(batch):
        pixels = part.float() / 127.5 - 1.0
        off = (model.decode(model.encode(pixels).mean).clamp(-1, 1) - pixels) / 2
        squared += float(off.square().mean()) * len(part)
        absolute += float(off.abs().mean()) * len(part)
    count = len(pictures)
    psnr = -10 * float(np.log10(max(squared / count, 1e-12)))
    return {"psnr": psnr, "l1": absolute / count}
