"""From records to the tensors of a step, with the verdict of every caption on every picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..text import Tokenizer, process_caption
from .arrays import as_tensor
from .claims import YES, Attributes, ClaimReader, ClaimTable, values_of
from .config import TrainConfig
from .features import FeatureSource
from .loss_values import Texts
from .prompts import BelievedPrompts, prompt_texts
from .records import ImageRecord, Triplet
from .sampling import EpochSampler, Sampler, SharedSampler

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PairBatch:
    """B pictures with a caption each.

    Attributes:
        tokens: Stem tokens, (B, P, W).
        captions: Of the contrast and the matching.
        full: What the LM head learns.
        verdicts: Each caption (rows) on each picture, (B, B), int8: YES, UNKNOWN or NO; YES on the
            diagonal.
        kinship: How much two pictures are alike by the configured attributes, (B, B), float32.
        prompts: M prompts of the configured template, or None.
        prompt_verdicts: Each of them on each picture, (M, B), int8.
        prompt_beliefs: How much of a picture's target each prompt has by the beliefs on its class,
            (M, B); a column sums to 1, or to 0 where no prompt is true of the picture. None without
            beliefs.
    """

    tokens: Tensor
    captions: Texts
    full: Texts
    verdicts: Tensor
    kinship: Tensor
    prompts: Texts | None = None
    prompt_verdicts: Tensor | None = None
    prompt_beliefs: Tensor | None = None


@dataclass(frozen=True)
class TripletBatch:
    """T triplets.

    Attributes:
        reference: Stem tokens, (T, P, W).
        target: Stem tokens, (T, P, W).
        texts: The edits.
        captions: What the targets show, or None where the data does not say.
        verdicts: Each target caption on each target, then on each reference, then on each picture
            of the pair batch beside
            it, (T, 2 T + B), int8; YES where row and target are the same triplet.
    """

    reference: Tensor
    target: Tensor
    texts: Texts
    captions: Texts | None
    verdicts: Tensor


class CaptionBook:
    """All texts of a data set: their tokens, and their claims on all its pictures."""

    def __init__(
        self,
        texts: Sequence[str],
        images: Sequence[Attributes],
        tokenizer: Tokenizer,
        config: TrainConfig,
    ) -> None:
        self._number = {t: i for i, t in enumerate(dict.fromkeys(texts))}
        unique = list(self._number)
        text = config.encoder.text
        batch = tokenizer.encode(
            [process_caption(t, text.max_words) for t in unique], text.max_tokens
        )
        self._ids, self._mask = batch.ids, batch.mask
        self._unk, self._special = tokenizer.unk_id, max(tokenizer.cls_id, tokenizer.sep_id)
        self._keep = {tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id, tokenizer.bos_id}
        reader = ClaimReader(images)
        self._table = ClaimTable([reader.claims(t) for t in unique], images)

    def numbers(self, texts: Sequence[str]) -> Indices:
        """Indices of texts."""
        return np.array([self._number[t] for t in texts], dtype=np.int64)

    def tokens(
        self, numbers: Indices, rng: np.random.Generator | None = None, unknown: float = 0.0
    ) -> Texts:
        """Token ids cut to the longest; with `rng`, a share of the words becomes [UNK]."""
        rows = as_tensor(numbers)
        mask = self._mask[rows]
        length = int(mask.sum(dim=1).max())
        ids = self._ids[rows][:, :length].clone()
        if rng is not None and unknown:
            lost = as_tensor(rng.random(ids.shape) < unknown)
            special = torch.isin(ids, torch.tensor(sorted(self._keep)))
            ids[lost & ~special] = self._unk
        return Texts(ids, mask[:, :length])

    def verdicts(self, numbers: Indices, pictures: Indices) -> npt.NDArray[np.int8]:
        """As `ClaimTable.verdicts`."""
        return self._table.verdicts(numbers, pictures)


class PairSource:
    """Makes the phase-1 batches."""

    def __init__(
        self,
        records: Sequence[ImageRecord],
        book: CaptionBook,
        features: FeatureSource,
        config: TrainConfig,
    ) -> None:
        self._records, self._book = records, book
        self._features, self._config = features, config
        self._kin = _KinTable([r.attributes for r in records], config.loss.image_attributes)
        self._prompts = [book.numbers(p) for p in prompt_texts(records, config)]
        self._believed = BelievedPrompts(records, features, config)
        self.sampler = pair_sampler(records, config)

    def batch(self, step: int, rng: np.random.Generator) -> tuple[PairBatch, Indices]:
        """The batch of a step, and which records it holds."""
        chosen = self.sampler(step, rng)
        records = [self._records[int(i)] for i in chosen]
        drawn = [r.captions[int(rng.integers(len(r.captions)))] for r in records]
        first = self._config.sampling.lm_caption == "first"
        numbers = self._book.numbers(drawn)
        full = self._book.numbers([r.captions[0] for r in records]) if first else numbers
        verdicts = self._book.verdicts(numbers, chosen)
        np.fill_diagonal(verdicts, YES)
        prompts, prompt_verdicts, prompt_beliefs = self._draw_prompts(chosen, rng)
        return (
            PairBatch(
                tokens=self._features(chosen, rng),
                captions=self._book.tokens(numbers, rng, self._config.sampling.unknown_words),
                full=self._book.tokens(full),
                verdicts=as_tensor(verdicts),
                kinship=self._kin(chosen),
                prompts=prompts,
                prompt_verdicts=prompt_verdicts,
                prompt_beliefs=prompt_beliefs,
            ),
            chosen,
        )

    def _draw_prompts(
        self, chosen: Indices, rng: np.random.Generator
    ) -> tuple[Texts | None, Tensor | None, Tensor | None]:
        if not self._prompts:
            return None, None, None
        template = int(rng.integers(len(self._prompts)))
        numbers = self._prompts[template]
        verdicts = as_tensor(self._book.verdicts(numbers, chosen))
        return self._book.tokens(numbers), verdicts, self._believed(template, verdicts, chosen)


class TripletSource:
    """Makes the phase-2 batches."""

    def __init__(
        self,
        triplets: Sequence[Triplet],
        pictures: Sequence[str],
        book: CaptionBook,
        features: FeatureSource,
        config: TrainConfig,
    ) -> None:
        place = {path: i for i, path in enumerate(pictures)}
        self._reference = np.array([place[t.reference] for t in triplets], dtype=np.int64)
        self._target = np.array([place[t.target] for t in triplets], dtype=np.int64)
        self._triplets, self._book = triplets, book
        self._features, self._config = features, config
        self._captioned = all(t.target_caption for t in triplets)
        shares = config.sampling.triplet_shares
        self.sampler: Sampler = (
            SharedSampler([t.source for t in triplets], None, shares, config.triplets)
            if shares
            else EpochSampler(len(triplets), config.triplets, config.seed)
        )

    def batch(self, step: int, rng: np.random.Generator, beside: Indices) -> TripletBatch:
        """The batch of a step.

        Args:
            step: Its number.
            rng: Of the step.
            beside: Records of the pair batch of the same step, whose pictures are candidates too.
        """
        chosen = self.sampler(step, rng)
        rows = [self._triplets[int(i)] for i in chosen]
        targets, references = self._target[chosen], self._reference[chosen]
        candidates = np.concatenate([targets, references, beside])
        if self._captioned:
            captions = self._book.numbers([t.target_caption or "" for t in rows])
            verdicts = self._book.verdicts(captions, candidates)
            caption_tokens = self._book.tokens(captions)
        else:
            # Without captions only the named target is known to answer; everything else counts as
            # wrong.
            verdicts = np.full((len(rows), len(candidates)), -1, dtype=np.int8)
            verdicts[targets[:, None] == candidates[None]] = YES
            caption_tokens = None
        # The reference itself never answers: something was asked to change.
        verdicts[references[:, None] == candidates[None]] = -1
        np.fill_diagonal(verdicts, YES)
        texts = self._book.numbers([t.text for t in rows])
        return TripletBatch(
            reference=self._features(references, rng),
            target=self._features(targets, rng),
            texts=self._book.tokens(texts, rng, self._config.sampling.unknown_words),
            captions=caption_tokens,
            verdicts=as_tensor(verdicts),
        )


def pair_sampler(records: Sequence[ImageRecord], config: TrainConfig) -> Sampler:
    """By shares where the config has some, else every record once a round."""
    shares, balance = config.sampling.shares, config.sampling.balance
    if not shares:
        return EpochSampler(len(records), config.batch_size, config.seed)
    groups = [next(iter(values_of(r.attributes.get(balance, ""))), "") for r in records]
    return SharedSampler([r.source for r in records], groups, shares, config.batch_size)


class _KinTable:
    """How alike two pictures are: 0 unless the first attribute is equal, then 1 + the others that
    they share."""

    def __init__(self, images: Sequence[Attributes], attributes: Sequence[str]) -> None:
        number: dict[tuple[str, str], int] = {}
        held: list[list[list[int]]] = []
        for name in attributes:
            held.append(
                [
                    [number.setdefault((name, v), len(number)) for v in values_of(a.get(name, ()))]
                    for a in images
                ]
            )
        self._flags = np.zeros((len(attributes), len(images), max(len(number), 1)), dtype=bool)
        for k, rows in enumerate(held):
            for i, row in enumerate(rows):
                self._flags[k, i, row] = True

    def __call__(self, pictures: Indices) -> Tensor:
        flags = self._flags[:, pictures].astype(np.float32)  # (attributes, B, values)
        shared = as_tensor(flags @ np.transpose(flags, (0, 2, 1))) > 0
        return shared[0].float() * (1.0 + shared[1:].float().sum(dim=0))
