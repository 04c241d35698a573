"""A query of a server gallery: what the server is asked, and the exact score of what it gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..types import Query
from .points import CAPTION, TOKENS, Condition

Single: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Asked:
    """One query and how it is to be answered."""

    query: Query
    conditions: tuple[Condition, ...]
    top_k: int
    total: int
    caption_weight: float
    prefetch: int

    @property
    def parts(self) -> list[tuple[Single, float]]:
        """Tokens of each part and its share of the score."""
        whole = sum(abs(part.weight) for part in self.query.parts)
        return [
            (part.tokens.detach().to("cpu").float().numpy(), part.weight / whole)
            for part in self.query.parts
        ]

    @property
    def plain(self) -> bool:
        """Whether the server's own order is that of the scores."""
        parts = self.query.parts
        fused = self.caption_weight > 0 and any(len(part.tokens) == 1 for part in parts)
        return len(parts) == 1 and parts[0].weight > 0 and not fused

    @property
    def rounding(self) -> float:
        """How far a score may be off when its query was rounded to float16."""
        bound = 1e-6
        for tokens, share in self.parts:
            lost = np.linalg.norm(tokens - tokens.astype(np.float16).astype(np.float32), axis=1)
            bound += abs(share) * 1.01 * float(lost.max())
        return bound

    def fused(self, image: float, caption: float) -> float:
        """The score of an item with a caption."""
        return (image + self.caption_weight * caption) / (1.0 + self.caption_weight)

    def score(self, vectors: dict[str, Any]) -> float:
        """The exact score of an item's vectors."""
        stored = np.array(vectors[TOKENS], np.float32)
        caption = vectors.get(CAPTION)
        total = 0.0
        for tokens, share in self.parts:
            score = float(np.einsum("qd,td->qt", tokens, stored).max(1).mean())
            if caption is not None and self.caption_weight and len(tokens) == 1:
                score = self.fused(score, float(tokens[0] @ np.array(caption, np.float32)))
            total += share * score
        return total


def mean_of(tokens: Single) -> list[float]:
    """The unit vector of the mean of some tokens, (Q, D)."""
    """The mean of tokens, (Q, D), as one unit vector."""
    mean = tokens.mean(0)
    return (mean / max(float(np.linalg.norm(mean)), 1e-12)).tolist()
