"""What the losses take and give: options, texts, negatives, and the losses of one step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ..encoder.model import Queries
from ..errors import InputError


@dataclass(frozen=True)
class LossOptions:
    """What the phases add up, and how.

    Attributes:
        itc: Weight of the contrastive loss (phase 2: composed query against target images).
        itm: Weight of the matching loss; 0 skips it.
        lm: Weight of the captioning loss, phase 1; 0 skips it.
        ttc: Weight of the contrastive loss against target captions, phase 2; 0 skips it.
        label_smoothing: Of the captioning loss.
        target_queries: Which tokens read target images in phase 2. Search reads them with "query";
            the paper's code trains "prompt". None = "prompt" under `reference_compat`, else
            "query".
        ttc_form: "composed" = the composed vector against captions, both ways, as paper and search
            have it; "query_tokens" = best query token of the composed pass, one way, as the code
            has it. None = by `reference_compat`.
        negatives: "hardest" = argmax, "sampled" = drawn by likelihood.
        reference_compat: The research code's form: both negatives' rows swapped, duplicates
            redrawn, text negatives of phase 2 taken from the modification texts, `prompt` targets,
            `query_tokens` TTC.
    """

    itc: float = 1.0
    itm: float = 1.0
    lm: float = 1.0
    ttc: float = 1.0
    label_smoothing: float = 0.1
    target_queries: Queries | None = None
    ttc_form: Literal["composed", "query_tokens"] | None = None
    negatives: Literal["hardest", "sampled"] = "hardest"
    reference_compat: bool = False

    def __post_init__(self) -> None:
        choices = {
            "target_queries": (None, "query", "prompt"),
            "ttc_form": (None, "composed", "query_tokens"),
            "negatives": ("hardest", "sampled"),
        }
        for name, allowed in choices.items():
            value = getattr(self, name)
            if value not in allowed:
                raise InputError(
                    f"losses: {name} is {value!r}. "
                    f"Choose from {', '.join(str(a) for a in allowed)}."
                )


DEFAULT_LOSSES = LossOptions()
"""The spec's losses with their faults mended."""


@dataclass(frozen=True)
class Texts:
    """Tokenized texts of a batch: ids (B, L) with [CLS] first, mask (B, L) with 1 where a token is
    real.
    """

    ids: Tensor
    mask: Tensor

    def __getitem__(self, rows: Tensor) -> Texts:
        return Texts(self.ids[rows], self.mask[rows])


@dataclass(frozen=True)
class Negatives:
    """Hard negatives of a batch of B pairs.

    Attributes:
        texts: For image i, the index of a text that is not true of it, (B,).
        images: For text i, the index of an image that it is not true of, (B,).
        has_text: Whether there is such a text, (B,), bool.
        has_image: Whether there is such an image, (B,), bool.
    """

    texts: Tensor
    images: Tensor
    has_text: Tensor
    has_image: Tensor


@dataclass(frozen=True)
class PhaseLosses:
    """Unweighted losses of a step, None where skipped, and their weighted sum."""

    total: Tensor
    itc: Tensor
    itm: Tensor | None = None
    lm: Tensor | None = None
    ttc: Tensor | None = None
