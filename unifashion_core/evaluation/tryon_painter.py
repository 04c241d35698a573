"""A try-on model on records whose pictures are known: painted in the frame, nothing pasted back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..tryon.checkpoint import TryOnModel
from ..tryon.condition import encode_person, encode_picture, make_condition
from ..tryon.context import encode_texts, free_context
from ..tryon.decoding import decode, repaint
from ..tryon.sampling import SamplerSettings, sample
from ..tryon.solvers import DESIGN_GUIDANCE
from ..tryon.tokens import ClipTokenizer
from ..types import OnStep
from .tryon_judges import JudgedRecord
from .tryon_quality import Hint

_BATCH = 16


@dataclass
class RecordPainter:
    """Paints records; a `tryon_quality.Painter`.

    Attributes:
        model: The try-on model.
        tokenizer: CLIP's.
        settings: Of the sampler.
        on_step: Called with (records painted, records in all) of each call.
    """

    model: TryOnModel
    tokenizer: ClipTokenizer
    settings: SamplerSettings
    on_step: OnStep | None = None

    def __call__(
        self, records: Sequence[JudgedRecord], hint: Hint, texts: Sequence[str], seed: int
    ) -> Tensor:
        """As the Protocol says."""
        found: list[Tensor] = []
        for start in range(0, len(records), _BATCH):
            some = records[start : start + _BATCH]
            found.append(self._paint(some, hint, texts[start : start + _BATCH], seed))
            if self.on_step is not None:
                self.on_step(start + len(some), len(records))
        return torch.cat(found)

    def ceiling(self, records: Sequence[JudgedRecord]) -> Tensor:
        """The true renders through the autoencoder, (N, 3, H, W)."""
        scale = self.model.config.autoencoder.scale_factor
        found: list[Tensor] = []
        for record in records:
            latents = encode_picture(self.model, record.record.image).mean * scale
            found.append(decode(self.model, latents).permute(0, 3, 1, 2))
        return torch.cat(found)

    def _paint(
        self, records: Sequence[JudgedRecord], hint: Hint, texts: Sequence[str], seed: int
    ) -> Tensor:
        model = self.model
        persons = [
            encode_person(model, r.image, r.mask, r.pose) for r in (j.record for j in records)
        ]
        hints = [
            None if picture is None else encode_picture(model, picture)
            for picture in (_hint(j, hint) for j in records)
        ]
        context = encode_texts(model, self.tokenizer, texts).tokens
        condition = make_condition(persons, hints, context, free_context(model, self.tokenizer))
        settings = self.settings
        if hint == "sketch":  # the text says the colours, as in a design
            settings = replace(settings, guidance=DESIGN_GUIDANCE)
        latents = sample(model, condition, settings, [seed] * len(records))
        # What was not to be painted is the photo, as a paste-back leaves it.
        photos = torch.stack([j.record.image for j in records])
        masks = torch.stack([j.record.mask for j in records])
        return repaint(decode(model, latents), photos, masks).permute(0, 3, 1, 2)


def _hint(record: JudgedRecord, hint: Hint) -> Tensor | None:
    if hint == "garment":
        return record.record.garment
    return record.record.sketch if hint == "sketch" else None
