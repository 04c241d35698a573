"""What one picture is made of, and how it is sampled."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from ..tryon.sampling import SamplerSettings
from .prepared import PreparedGarment, PreparedPerson


@dataclass(frozen=True)
class TryOnItem:
    """One picture to make.

    Attributes:
        person: Who wears it.
        garment: What is worn, or its sketch; None: the text leads.
        text: In words: the garment's caption, or what to design.
        seed: Of its noise.
        query_outputs: An encoder's outputs before projection, (T, hidden), as context: of a picture
            or of sketch and text together. Needs a model with an adapter.
        hint_strength: How much the garment counts; 0 leaves it out.
        context_strength: How much text and embedding count; 0 leaves them out.
    """

    person: PreparedPerson
    garment: PreparedGarment | None = None
    text: str = ""
    seed: int = 0
    query_outputs: torch.Tensor | None = None
    hint_strength: float = 1.0
    context_strength: float = 1.0


@dataclass(frozen=True)
class RenderSettings:
    """How pictures are made.

    Attributes:
        sampler: Solver, steps, guidance.
        batch: How many items are painted together at most; fewer where memory is short.
        paste: Put results back into their photos.
        feather: Width of the seam in pixels of the photo.
        match_colour: Bring a result's colours to the photo's round the mask.
    """

    sampler: SamplerSettings = field(default_factory=SamplerSettings)
    batch: int = 8
    paste: bool = True
    feather: int = 8
    match_colour: bool = False
