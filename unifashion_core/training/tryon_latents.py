"""The records of try-on training as latents: encoded once, kept in memory, drawn by step."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# (numpy's stubs lose the element type, and torch's from_numpy has none)

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors.torch import (
    load_file,  # pyright: ignore[reportUnknownVariableType] - PathLike of anything
    save_file,  # pyright: ignore[reportUnknownVariableType] - likewise
)
from torch import Tensor
from torch.nn import functional as F

from ..errors import FolderError
from ..tryon.autoencoder import Autoencoder
from ..types import OnStep
from .describe import Known
from .grammar import random_caption
from .tryon_config import TryOnTrainConfig
from .tryon_layout import (
    ATTRIBUTES_FILE,
    CAPTIONS_FILE,
    Record,
    read_pairs,
    read_record,
    read_texts,
)

_ENCODED_AT_ONCE = 32
_ORDERS = tuple(permutations(range(3)))[1:]  # of colour channels, but the identity
_PICTURES = ("target", "agnostic", "pose", "hint", "sketch")


@dataclass(frozen=True)
class TryOnLatents:
    """Encoded records.

    Attributes:
        latents: "target", "agnostic", "pose", "hint", "sketch", means times the scale factor,
            (N, z, h, w), float16.
        keep: 1 = keep, (N, 1, h, w), float16.
        worn: The worn garment, (N, 1, H, W), uint8.
        places: x, y, known, (N, h, w, 3), float16.
        texts: Captions of each record.
        has_sketch: Which records have a sketch, (N,).
        own: Row of each record in its own colours, (N,): of a recoloured copy the original's.
    """

    latents: Mapping[str, Tensor]
    keep: Tensor
    worn: Tensor
    places: Tensor
    texts: tuple[tuple[str, ...], ...]
    has_sketch: Tensor
    own: Tensor

    def __len__(self) -> int:
        return len(self.keep)

    def to(self, device: torch.device) -> TryOnLatents:
        """The records on a device, where a graphics card has twice the room that they take; else
        as they are."""
        held = [*self.latents.values(), self.keep, self.worn, self.places]
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            if 2 * sum(t.numel() * t.element_size() for t in held) > free:
                return self
        return replace(
            self,
            latents={name: value.to(device) for name, value in self.latents.items()},
            keep=self.keep.to(device),
            worn=self.worn.to(device),
            places=self.places.to(device),
        )

    def draw(
        self, ids: Sequence[Tensor], config: TryOnTrainConfig, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        """A batch for `TryOnObjective`, without its "progress".

        Args:
            ids: Token ids of each record's captions, (captions, L) each.
            config: Of the run.
            rng: Of the step.
        """
        chosen = torch.from_numpy(rng.integers(len(self), size=config.batch_size))
        return self.take(chosen, ids, config, rng)

    def take(
        self,
        chosen: Tensor,
        ids: Sequence[Tensor],
        config: TryOnTrainConfig,
        rng: np.random.Generator,
    ) -> dict[str, Tensor]:
        """As `draw`, of chosen records, (B,); what is dropped or sketched of them is drawn.

        Where no garment is shown a record comes in its own colours: a recoloured copy's captions
        say nothing of colours, so nothing would.
        """
        count = len(chosen)
        draws = rng.random((4, count))
        sketched = torch.from_numpy(draws[0] < config.sketch_share) & self.has_sketch[chosen]
        dropped = draws[1] < config.drop_garment
        garment_led = ~sketched & torch.from_numpy(~dropped)
        chosen = torch.where(garment_led, chosen, self.own[chosen])
        device = self.keep.device
        rows = chosen.to(device)
        drawn = sketched.to(device)[:, None, None, None]
        hint = torch.where(drawn, self.latents["sketch"][rows], self.latents["hint"][rows])
        free = np.full(count, draws[2, 0]) if config.drop_by_batch else draws[2]
        # A sketch says nothing of colours, and without a garment the text is all there is.
        text_off = (free < config.drop_context) & ~(dropped | sketched.numpy())
        tokens = [
            ids[i][int(d * len(ids[i]))] for i, d in zip(chosen.tolist(), draws[3], strict=True)
        ]
        return {
            **{k: self.latents[k][rows].float() for k in ("target", "agnostic", "pose")},
            "hint": hint.float(),
            "keep": self.keep[rows].float(),
            "worn": self.worn[rows].float(),
            "places": self.places[rows].float(),
            "places_on": garment_led.float(),
            "hint_on": torch.from_numpy(~dropped).float(),
            "text_on": torch.from_numpy(~text_off).float(),
            "ids": torch.stack(tokens),
        }


def encode_records(
    data: Path,
    split: str,
    model: Autoencoder,
    config: TryOnTrainConfig,
    cache: Path | None,
    *,
    part: slice | None = None,
    on_step: OnStep | None = None,
) -> TryOnLatents:
    """Read and encode a split's paired records; what the cache holds is not encoded again.

    Args:
        data: Folder in VITON-HD's layout.
        split: "train" or "test".
        model: The autoencoder.
        config: Of the run.
        cache: Folder for encoded records; None: they are not kept.
        part: Which of the records; None: all.
        on_step: Called with (records read, records in all).

    Raises:
        FolderError: If there are no records, or a picture is missing.
    """
    names = [person for person, _ in read_pairs(data, split)][part or slice(None)]
    if not names:
        raise FolderError(f"Try-on data {data}: no pairs in {split}. Add lines to its pairs file.")
    phrases = read_texts(data, split, CAPTIONS_FILE)
    attributes = read_texts(data, split, ATTRIBUTES_FILE)
    parts: list[dict[str, Tensor]] = []
    texts: list[tuple[str, ...]] = []
    own: list[int] = []
    key = _fingerprint(model, config)
    for start in range(0, len(names), _ENCODED_AT_ONCE):
        some = names[start : start + _ENCODED_AT_ONCE]
        file = None if cache is None else cache / f"{key}-{_named(some)}.safetensors"
        if file is not None and file.is_file():
            parts.append(load_file(file))
        else:
            made = _encoded(data, split, some, model, config)
            if file is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
                save_file(made, file.with_suffix(".partial"))
                file.with_suffix(".partial").replace(file)
            parts.append(made)
        originals = range(len(own), len(own) + len(some))
        for copy in range(1 + config.recolours):
            own += originals
            texts += [_texts(n, phrases, attributes, config, recoloured=copy > 0) for n in some]
        if on_step is not None:
            on_step(start + len(some), len(names))
    joined = {k: torch.cat([p[k] for p in parts]) for k in parts[0]}
    latents = {name: joined[name] for name in _PICTURES}
    return TryOnLatents(
        latents,
        joined["keep"],
        joined["worn"],
        joined["places"],
        tuple(texts),
        joined["has_sketch"].bool(),
        torch.tensor(own),
    )


@torch.inference_mode()
def _encoded(
    data: Path, split: str, names: Sequence[str], model: Autoencoder, config: TryOnTrainConfig
) -> dict[str, Tensor]:
    """Tensors of some records, then of their recoloured copies."""
    with ThreadPoolExecutor() as readers:
        records = list(readers.map(partial(read_record, data, split, size=config.size), names))
    made: list[Record] = list(records)
    for copy in range(config.recolours):
        made += [_recoloured(record, copy) for record in records]
    scale, factor = model.config.scale_factor, model.config.factor
    size = (config.size[0] // factor, config.size[1] // factor)
    found: dict[str, Tensor] = {}
    half = config.encode_precision == "bf16"
    device = next(model.parameters()).device
    model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    blank = torch.ones_like(made[0].garment)
    for name, pictures in (
        ("target", [r.image for r in made]),
        ("agnostic", [r.agnostic for r in made]),
        ("hint", [r.garment for r in made]),
        ("pose", [r.pose for r in records]),
        ("sketch", [blank if r.sketch is None else r.sketch for r in records]),
    ):
        pixels = torch.stack(list(pictures)).to(device).permute(0, 3, 1, 2) * 2 - 1
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=half):
            means = model.encode(pixels.contiguous(memory_format=torch.channels_last)).mean * scale
        if len(means) < len(made):  # neither pose nor sketch has the garment's colours
            means = means.repeat(1 + config.recolours, 1, 1, 1)
        found[name] = means.half().contiguous().cpu()
    masks = torch.stack([r.mask for r in made])[:, None]
    # The reference resizes masks without antialias.
    found["keep"] = F.interpolate(1 - masks, size, mode="bilinear").half()
    found["worn"] = (torch.stack([r.worn for r in made])[:, None] > 0.5).to(torch.uint8)
    found["places"] = torch.stack([_on_grid(r.places, size) for r in made]).half()
    sketched = [float(r.sketch is not None) for r in made]
    found["has_sketch"] = torch.tensor(sketched)
    return found


def _on_grid(places: Tensor | None, size: tuple[int, int]) -> Tensor:
    """Mean place and known share of each latent place, (h, w, 3)."""
    if places is None:
        return torch.zeros(*size, 3)
    planes = places.permute(2, 0, 1)[None]
    known = (planes[:, 2:] > 0.5).float()
    share = F.adaptive_avg_pool2d(known, size)
    mean = F.adaptive_avg_pool2d(planes[:, :2] * known, size) / share.clamp(min=1e-6)
    return torch.cat([mean, (share > 0.45).float()], dim=1)[0].permute(1, 2, 0)


def _recoloured(record: Record, copy: int) -> Record:
    """The record with its garment in other colours, flat and worn alike."""
    number = int.from_bytes(hashlib.sha256(record.name.encode()).digest()[:4], "big")
    order = list(_ORDERS[(number + copy) % len(_ORDERS)])
    power = 0.6 + 1.1 * ((number >> 8) % 256) / 255
    worn, flat = record.worn[..., None], record.garment_mask[..., None]
    image = record.image * (1 - worn) + record.image[..., order] ** power * worn
    bare = ((record.garment - (1 - flat)) / flat.clamp(min=1e-3)).clamp(0, 1)
    garment = bare[..., order] ** power * flat + (1 - flat)
    return Record(
        **{**record.__dict__, "image": image, "garment": garment.clamp(0, 1)}  # pyright: ignore[reportArgumentType]
    )


def _texts(
    name: str,
    phrases: Mapping[str, Any],
    attributes: Mapping[str, Any],
    config: TryOnTrainConfig,
    *,
    recoloured: bool,
) -> tuple[str, ...]:
    """Captions of a record; a recoloured copy's say nothing of colours."""
    known = cast("Known | None", attributes.get(name))
    if known is None:
        # VITON-HD's captions are known by the first five letters of the garment's name.
        said = phrases.get(name, phrases.get(name[:5], []))
        return (", ".join(cast("list[str]", said)),)
    if recoloured:
        known = {k: v for k, v in known.items() if k != "colours"}
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[4:8], "big")
    rng = np.random.default_rng([config.seed, number, int(recoloured)])
    return tuple(random_caption(known, rng) for _ in range(max(config.captions, 1)))


def _fingerprint(model: Autoencoder, config: TryOnTrainConfig) -> str:
    """Of all that latents depend on."""
    digest = hashlib.sha256()
    for name, value in _tensors(model):
        digest.update(name.encode())
        digest.update(value.float().cpu().contiguous().numpy().tobytes())
    settings = [config.size, config.recolours, config.encode_precision]
    digest.update(json.dumps([*settings, model.config.scale_factor]).encode())
    return digest.hexdigest()[:16]


def _tensors(model: Autoencoder) -> Iterator[tuple[str, Tensor]]:
    yield from sorted((n, v) for n, v in model.encoder.state_dict().items())
    yield from sorted((n, v) for n, v in model.quant_conv.state_dict().items())


def _named(names: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
