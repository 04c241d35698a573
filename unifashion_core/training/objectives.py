"""The losses of a step: those of losses.py, with captions that may be true of many pictures, or of
unknown truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..encoder.model import UniFashionEncoderModel
from .batches import PairBatch, TripletBatch
from .claims import NO, YES
from .config import LossConfig, TrainConfig
from .losses import (
    LossOptions,
    Negatives,
    Texts,
    hard_negatives,
    lm_loss,
    matching_loss,
    phase1_losses,
    phase2_losses,
    similarity,
)

_LEFT_OUT = -1e4  # score of a pair of unknown truth; exp() of it is 0 in float32

Losses = Mapping[str, Tensor]
"""Name -> unweighted value; "total" is the weighted sum."""


class Objective(nn.Module):
    """A whole step as one module, which is what accelerate prepares."""

    def __init__(self, model: UniFashionEncoderModel, config: TrainConfig) -> None:
        super().__init__()
        self.model = model
        self._config = config

    def train(self, mode: bool = True) -> Objective:
        """As any module's; the tower never leaves evaluation, it has nothing to learn."""
        super().train(mode)
        self.model.visual_encoder.eval()
        return self

    def forward(self, pairs: PairBatch | None, triplets: TripletBatch | None) -> Losses:
        """Losses of a phase-1 batch, a phase-2 batch, or both."""
        config = self._config.loss
        if config.reference_compat:
            return self._reference_form(pairs, triplets)
        found: dict[str, Tensor] = {}
        images = None
        if pairs is not None:
            values, images = _pair_losses(self.model, pairs, config, self._config)
            found.update(values)
        if triplets is not None:
            found.update(_triplet_losses(self.model, triplets, images, pairs, config))
        weighted = [getattr(config, name) * value for name, value in found.items()]
        total = torch.stack(weighted).sum()  # each weight has its loss's name
        return {**found, "total": total}

    def _reference_form(self, pairs: PairBatch | None, triplets: TripletBatch | None) -> Losses:
        """The research code's losses, batch by batch as it had them."""
        loss, text = self._config.loss, self._config.encoder.text
        options = LossOptions(
            itc=loss.itc if triplets is None else loss.composed,
            itm=loss.itm,
            lm=loss.lm,
            ttc=loss.caption,
            label_smoothing=loss.lm_smoothing,
            reference_compat=True,
        )
        model = self.model
        if triplets is not None:
            out = phase2_losses(
                model,
                model.normalise(triplets.reference),
                model.normalise(triplets.target),
                triplets.texts,
                triplets.captions,
                options=options,
            )
        else:
            assert pairs is not None
            out = phase1_losses(
                model,
                model.normalise(pairs.tokens),
                pairs.captions,
                bos_id=text.bos_id,
                pad_id=text.pad_id,
                options=options,
            )
        parts = {"itc": out.itc, "itm": out.itm, "lm": out.lm, "caption": out.ttc}
        return {**{k: v for k, v in parts.items() if v is not None}, "total": out.total}


def _pair_losses(
    model: UniFashionEncoderModel, batch: PairBatch, config: LossConfig, run: TrainConfig
) -> tuple[dict[str, Tensor], Tensor]:
    """ITC, ITM, LM and image contrast of a phase-1 batch, and the image features (B, Q, D)."""
    vision = model.normalise(batch.tokens)
    mixture = _mixture(batch, config)
    count = len(vision)
    seen = vision
    if mixture is not None:
        seen = torch.cat([vision, model.normalise(mixture.tokens)])
    states, cache = model.image_cache(seen)
    shown = model.project_images(states)
    images = shown[:count]
    texts = model.text_features(batch.captions.ids, batch.captions.mask)
    logits = similarity(texts, images) / model.temp
    found = {
        "itc": spread_contrast(logits, batch.verdicts) + spread_contrast(logits.T, batch.verdicts.T)
    }
    if batch.prompts is not None and batch.prompt_verdicts is not None:
        asked = model.text_features(batch.prompts.ids, batch.prompts.mask)
        found["prompts"] = _prompts(model, batch, asked, shown, mixture, config)
        if config.itm_prompts:
            scores = similarity(asked.detach(), images.detach()).T / model.temp.detach()
            found["itm_prompts"] = _prompt_matching(model, vision, batch, scores)
    if config.itm:
        found["itm"] = _matching(model, vision, batch.captions, logits, batch.verdicts, config)
    if config.lm:
        ids = batch.full.ids.clone()
        ids[:, 0] = run.encoder.text.bos_id
        if mixture is not None:
            cache = cache.select(torch.arange(count, device=vision.device))
        scores = model.lm_logits(ids, batch.full.mask, cache)
        found["lm"] = lm_loss(scores, ids, run.encoder.text.pad_id, config.lm_smoothing)
    if config.image:
        found["image"] = image_contrast(images, batch.kinship, model.temp)
    return found, images


@dataclass(frozen=True)
class _Mixture:
    """Pictures mixed in pairs.

    Attributes:
        tokens: Stem tokens, (B, P, W).
        order: The second picture of each pair, (B,).
        share: Of the second picture.
    """

    tokens: Tensor
    order: Tensor
    share: float


def _mixture(batch: PairBatch, config: LossConfig) -> _Mixture | None:
    """The pictures of the prompt contrast, where the config mixes them."""
    if not config.prompt_mixup or batch.prompts is None:
        return None
    share = float(torch.distributions.Beta(config.prompt_mixup, config.prompt_mixup).sample())
    order = torch.randperm(len(batch.tokens)).to(batch.tokens.device)
    return _Mixture(batch.tokens.lerp(batch.tokens[order], share), order, share)


def _prompts(
    model: UniFashionEncoderModel,
    batch: PairBatch,
    asked: Tensor,
    images: Tensor,
    mixture: _Mixture | None,
    config: LossConfig,
) -> Tensor:
    """The contrast with the prompts in the form that the config names.

    Args:
        model: Gives the temperature.
        batch: B pictures and M prompts.
        asked: The prompts, (M, D).
        images: The pictures, then the mixed ones where there are some, (B or 2 B, Q, D).
        mixture: How they were mixed.
        config: Which form.
    """
    assert batch.prompt_verdicts is not None
    verdicts = batch.prompt_verdicts.T
    if mixture is None and batch.prompt_beliefs is None:
        return prompt_loss(similarity(asked, images).T / model.temp, verdicts)
    targets = spread_targets(verdicts)
    if batch.prompt_beliefs is not None:
        targets = targets.lerp(batch.prompt_beliefs.T, config.beliefs)
    left_out = (verdicts != YES) & (verdicts != NO)
    if mixture is not None:
        share, order = mixture.share, mixture.order
        images = images[len(order) :]
        told = (targets.sum(dim=1) > 0) & (targets[order].sum(dim=1) > 0)
        targets = targets.lerp(targets[order], share) * told[:, None]
        left_out = left_out | left_out[order]
    scores = similarity(asked, images).T / model.temp  # (B, M)
    return soft_contrast(scores, targets, left_out & (targets == 0))


def prompt_loss(scores: Tensor, verdicts: Tensor) -> Tensor:
    """Each image against all prompts, (B, M); one that no prompt is true of has nothing to say."""
    told = (verdicts == YES).any(dim=1)
    if not bool(told.any()):
        return scores.sum() * 0.0
    return spread_contrast(scores[told], verdicts[told])


def spread_targets(verdicts: Tensor) -> Tensor:
    """Each row spread evenly over its YES columns; zeros where it has none."""
    marked = (verdicts == YES).float()
    return marked / marked.sum(dim=1, keepdim=True).clamp_min(1.0)


def soft_contrast(scores: Tensor, targets: Tensor, left_out: Tensor) -> Tensor:
    """Cross-entropy against targets of any shape, the mean over the rows that have one.

    Args:
        scores: (B, M).
        targets: Rows sum to 1, or to 0 for a row that has nothing to say.
        left_out: Columns that do not count in a row, bool, (B, M).
    """
    chances = scores.masked_fill(left_out, _LEFT_OUT).log_softmax(dim=1)
    return -(targets * chances).sum() / targets.sum().clamp_min(1.0)


def _prompt_matching(
    model: UniFashionEncoderModel, vision: Tensor, batch: PairBatch, scores: Tensor
) -> Tensor:
    """ITM of each image with any prompt that is true of it, and with a likely one that is not."""
    assert batch.prompts is not None
    assert batch.prompt_verdicts is not None
    verdicts = batch.prompt_verdicts.T
    rows = ((verdicts == YES).any(dim=1) & (verdicts == NO).any(dim=1)).nonzero()[:, 0]
    if not len(rows):
        return scores.sum() * 0.0
    right = _drawn(torch.zeros_like(scores[rows]), verdicts[rows] == YES)
    wrong = _drawn(scores[rows], verdicts[rows] == NO)
    texts = batch.prompts[torch.cat([right, wrong])]
    found = model.itm_logits(vision[torch.cat([rows, rows])], texts.ids, texts.mask)
    labels = torch.zeros(len(found), dtype=torch.int64, device=found.device)
    labels[: len(rows)] = 1
    return F.cross_entropy(found, labels)


def _drawn(scores: Tensor, allowed: Tensor) -> Tensor:
    """One allowed column of each row, by likelihood, (B,)."""
    chances = scores.detach().float().masked_fill(~allowed, _LEFT_OUT).softmax(dim=1)
    return torch.multinomial(chances, 1)[:, 0]


def _triplet_losses(
    model: UniFashionEncoderModel,
    batch: TripletBatch,
    beside: Tensor | None,
    pairs: PairBatch | None,
    config: LossConfig,
) -> dict[str, Tensor]:
    """Composed query against targets, references and the pictures beside; and against the targets'
    captions."""
    reference, target = model.normalise(batch.reference), model.normalise(batch.target)
    composed = model.composed_features(reference, batch.texts.ids, batch.texts.mask)
    count = len(composed)
    both = model.image_features(torch.cat([target, reference]))
    candidates = both if beside is None else torch.cat([both, beside])
    verdicts = batch.verdicts[:, : len(candidates)]
    logits = similarity(composed, candidates) / model.temp
    back = logits[:, :count].T
    found = {
        "composed": spread_contrast(logits, verdicts) + spread_contrast(back, verdicts[:, :count].T)
    }
    if config.rerank:
        seen = [target, reference]
        seen += [] if pairs is None else [model.normalise(pairs.tokens)]
        found["rerank"] = _rerank_loss(model, batch, torch.cat(seen), logits, verdicts)
    if batch.captions is None:
        return found
    captions = model.text_features(batch.captions.ids, batch.captions.mask)
    if config.caption:
        scores = composed @ captions.T / model.temp
        found["caption"] = spread_contrast(scores, verdicts[:, :count].T.contiguous())
    if config.itm and beside is None:
        square = verdicts[:, :count]
        scores = similarity(captions, both[:count]) / model.temp
        found["itm"] = _matching(model, target, batch.captions, scores, square, config)
    return found


def _rerank_loss(
    model: UniFashionEncoderModel,
    batch: TripletBatch,
    vision: Tensor,
    logits: Tensor,
    verdicts: Tensor,
) -> Tensor:
    """ITM over reference and target together, as a rerank of a composed search asks it: the target
    matches, two likely wrong candidates do not.

    Args:
        model: Must have the group "itm".
        batch: T triplets.
        vision: Of the candidates after ln_vision, targets first, then references, (N, P, W).
        logits: Composed queries against the candidates, (T, N).
        verdicts: (T, N).
    """
    count = len(batch.reference)
    own = torch.arange(count, device=logits.device)
    wrong = verdicts == NO
    rows = wrong.any(dim=1).nonzero()[:, 0].repeat(2)
    drawn = _drawn(logits[rows], wrong[rows])
    asks, shown = torch.cat([own, rows]), torch.cat([own, drawn])
    texts = batch.texts[asks]
    both = torch.cat([vision[count + asks], vision[shown]], dim=1)
    found = model.itm_logits(both, texts.ids, texts.mask)
    labels = torch.zeros(len(found), dtype=torch.int64, device=found.device)
    labels[:count] = 1
    return F.cross_entropy(found, labels)


def spread_contrast(logits: Tensor, verdicts: Tensor) -> Tensor:
    """Cross-entropy of each row, its target spread evenly over the YES columns; UNKNOWN columns
    are left out.

    Args:
        logits: (A, B), column i of row i is its own.
        verdicts: (A, B): YES, UNKNOWN or NO; YES on the diagonal.
    """
    marked = (verdicts == YES).to(logits.dtype)
    kept = logits.masked_fill((verdicts != YES) & (verdicts != NO), _LEFT_OUT)
    return F.cross_entropy(kept, marked / marked.sum(dim=1, keepdim=True))


def image_contrast(images: Tensor, kinship: Tensor, temperature: Tensor) -> Tensor:
    """Contrast of pictures with pictures, scored as a search by picture is: the mean over tokens
    of the best token.

    Args:
        images: (B, Q, D), unit vectors.
        kinship: How much two pictures are alike, (B, B), 0 = not.
        temperature: What scores are divided by.

    Source: Khosla et al. 2020 (supervised contrastive learning), equation 2, weighted.
    """
    scores = torch.einsum("aqd,bpd->abqp", images, images).amax(dim=-1).mean(dim=-1)
    own = torch.eye(len(images), dtype=torch.bool, device=images.device)
    weights = kinship.masked_fill(own, 0.0)
    rows = weights.sum(dim=1) > 0
    if not bool(rows.any()):
        return scores.sum() * 0.0
    logits = (scores / temperature).masked_fill(own, _LEFT_OUT)[rows]
    weights = weights[rows]
    return F.cross_entropy(logits, weights / weights.sum(dim=1, keepdim=True))


def _matching(
    model: UniFashionEncoderModel,
    vision: Tensor,
    captions: Texts,
    logits: Tensor,
    verdicts: Tensor,
    config: LossConfig,
) -> Tensor:
    """ITM with hard negatives among the NO pairs, over all pairs or the first `itm_positives`.

    A batch is in random order within each source, so "the first" of a strided choice is as good as
    a draw.
    """
    how = config.itm_negatives
    # Alike scores make every wrong pair as likely as any other.
    scores = torch.zeros_like(logits) if how == "random" else logits.detach()
    options = LossOptions(negatives="hardest" if how == "hardest" else "sampled")
    negatives = hard_negatives(scores, verdicts != NO, options, text_ids=captions.ids)
    count = config.itm_positives
    if 0 < count < len(vision):
        rows = torch.linspace(0, len(vision) - 1, count, device=vision.device).round().long()
        return _matching_of_some(model, vision, captions, negatives, rows)
    return matching_loss(model, vision, captions, captions, negatives)


def _matching_of_some(
    model: UniFashionEncoderModel,
    vision: Tensor,
    captions: Texts,
    negatives: Negatives,
    rows: Tensor,
) -> Tensor:
    """`matching_loss` for some of the pairs; their negatives come from the whole batch."""
    wrong_image = negatives.images[rows][negatives.has_image[rows]]
    wrong_text = negatives.texts[rows][negatives.has_text[rows]]
    images = torch.cat([vision[rows], vision[wrong_image], vision[rows[negatives.has_text[rows]]]])
    order = torch.cat([rows, rows[negatives.has_image[rows]], wrong_text])
    texts = captions[order]
    scores = model.itm_logits(images, texts.ids, texts.mask)
    labels = torch.zeros(len(images), dtype=torch.int64, device=scores.device)
    labels[: len(rows)] = 1
    return F.cross_entropy(scores, labels)
