"""What a step of `train caption` reads: the picture alone as a prefix, then the caption.

The research code fed the caption to the Q-Former too, so that the answer stood in the prefix. Here
the prefix comes from an image-only pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..caption.llm import instruction_ids, query_outputs
from ..errors import InputError
from ..imaging import open_image
from ..types import ImageEncoder
from .caption_config import CaptionConfig
from .records import ImageRecord
from .sampling import EpochSampler

IGNORED = -100
"""A label that is not learned: prefix, instruction and filling."""


@dataclass(frozen=True)
class CaptionTokens:
    """Instruction and captions of a batch as one text each.

    Attributes:
        ids: Instruction, caption, end, filling, (B, L).
        mask: 1 where a token is real, (B, L).
        labels: The ids of caption and end, `IGNORED` elsewhere, (B, L).
    """

    ids: Tensor
    mask: Tensor
    labels: Tensor

    @property
    def learned(self) -> int:
        """How many tokens the loss is over."""
        return int((self.labels != IGNORED).sum())

    def rows(self, start: int, end: int) -> CaptionTokens:
        """A part of the batch."""
        return CaptionTokens(self.ids[start:end], self.mask[start:end], self.labels[start:end])


@dataclass(frozen=True)
class CaptionBatch:
    """One step's pictures and texts.

    Attributes:
        queries: The Q-Former's outputs of the pictures alone, (B, Q, hidden).
        tokens: Texts.
    """

    queries: Tensor
    tokens: CaptionTokens


def caption_tokens(
    tokenizer: Any, instruction: str, captions: Sequence[str], max_tokens: int
) -> CaptionTokens:
    """Texts to ids and labels.

    Args:
        tokenizer: The language model's.
        instruction: What stands before every caption.
        captions: Of the batch.
        max_tokens: Of a caption with its end; a longer one is cut and has no end.

    Raises:
        InputError: If the tokenizer has no end token: a caption would never learn to stop.
    """
    end = tokenizer.eos_token_id
    if end is None:
        raise InputError(
            "train caption: the language model's tokenizer has no end token (eos_token). Add it to "
            "its tokenizer_config.json."
        )
    asked = [int(i) for i in instruction_ids(tokenizer, instruction)[0]]
    rows: list[list[int]] = []
    for caption in captions:
        words: list[int] = tokenizer(caption, add_special_tokens=False)["input_ids"]
        rows.append([*words, end][:max_tokens])
    length = len(asked) + max(len(row) for row in rows)
    ids = torch.full((len(rows), length), tokenizer.pad_token_id, dtype=torch.int64)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
    for i, row in enumerate(rows):
        stop = len(asked) + len(row)
        ids[i, :stop] = torch.tensor([*asked, *row])
        labels[i, len(asked) : stop] = torch.tensor(row)
        mask[i, :stop] = 1
    return CaptionTokens(ids, mask, labels)


class CaptionSource:
    """Makes the batches; each is a function of seed and step."""

    def __init__(
        self,
        records: Sequence[ImageRecord],
        folder: Path,
        encoder: ImageEncoder,
        tokenizer: Any,
        config: CaptionConfig,
    ) -> None:
        self._records, self._folder = records, folder
        self._encoder, self._tokenizer, self._config = encoder, tokenizer, config
        self.sampler = EpochSampler(len(records), config.batch_size, config.seed)

    def batch(self, step: int, rng: np.random.Generator) -> CaptionBatch:
        """The batch of a step."""
        config = self._config
        records = [self._records[int(i)] for i in self.sampler(step, rng)]
        captions = [r.captions[int(rng.integers(len(r.captions)))] for r in records]
        instruction = config.instructions[int(rng.integers(len(config.instructions)))]
        tokens = caption_tokens(self._tokenizer, instruction, captions, config.max_tokens)
        return CaptionBatch(self._queries(records), tokens)

    def _queries(self, records: Sequence[ImageRecord]) -> Tensor:
        found: list[Tensor] = []
        size = self._config.micro_batch
        for start in range(0, len(records), size):
            images = [
                open_image(self._folder / r.image, min_side=self._encoder.input_size)
                for r in records[start : start + size]
            ]
            found.append(query_outputs(self._encoder, images))
        return torch.cat(found).clone()  # out of inference mode, so that a gradient may follow
