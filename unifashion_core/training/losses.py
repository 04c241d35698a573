"""Losses of the encoder's two training phases, as functions on tensors; no optimiser, no data.

Phase 1 (image, caption): ITC + ITM + LM. Phase 2 (reference, text, target, target caption): ITC +
TTC + ITM. Defaults are the research code's losses with its faults mended;
`LossOptions(reference_compat=True)` is that code's own form.

Several captions of a batch may be true of an image, and a caption of several images: `positives[t,
i]` says so. Every pair that it marks is a positive in the contrastive losses and never a hard
negative. Without it, caption i belongs to image i alone.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..encoder.model import Queries, UniFashionEncoderModel
from ..errors import InputError, ShapeError
from .loss_values import DEFAULT_LOSSES, LossOptions, Negatives, PhaseLosses, Texts

_EXCLUDED = -1e4  # added to the score of a pair that may not be drawn; exp() of it is 0 in float32


def phase1_losses(
    model: UniFashionEncoderModel,
    vision: Tensor,
    captions: Texts,
    *,
    bos_id: int,
    pad_id: int = 0,
    positives: Tensor | None = None,
    options: LossOptions = DEFAULT_LOSSES,
    generator: torch.Generator | None = None,
) -> PhaseLosses:
    """Image and caption: ITC + ITM + LM.

    Args:
        model: Must have the groups that a weight above 0 needs ("itm", "lm").
        vision: `model.normalise(stem tokens)`, (B, P, W); gradients reach ln_vision through it.
        captions: One an image.
        bos_id: [DEC], which takes the first place of the LM input.
        pad_id: Ignored by the LM loss.
        positives: (B, B) bool, [caption, image]: which captions are true of which images; the
            diagonal is taken as true.
        options: Weights and forms.
        generator: Of sampled negatives.

    Returns:
        The losses; gradients flow from `total`.

    Source: spec of the paper's code, phase 1a; Li et al. 2023 (BLIP-2), section 3.1.
    """
    states, cache = model.image_cache(vision)
    images = model.project_images(states)  # (B, Q, D)
    texts = model.text_features(captions.ids, captions.mask)  # (B, D)
    logits = similarity(texts, images) / model.temp
    itc = itc_loss(logits, positives)
    total = options.itc * itc
    itm = lm = None
    if options.itm:
        negatives = hard_negatives(
            logits, positives, options, text_ids=captions.ids, generator=generator
        )
        itm = matching_loss(model, vision, captions, captions, negatives)
        total = total + options.itm * itm
    if options.lm:
        ids = captions.ids.clone()
        ids[:, 0] = bos_id
        lm = lm_loss(
            model.lm_logits(ids, captions.mask, cache), ids, pad_id, options.label_smoothing
        )
        total = total + options.lm * lm
    return PhaseLosses(total, itc, itm=itm, lm=lm)


def phase2_losses(
    model: UniFashionEncoderModel,
    reference: Tensor,
    target: Tensor,
    texts: Texts,
    captions: Texts | None,
    *,
    positives: Tensor | None = None,
    caption_positives: Tensor | None = None,
    options: LossOptions = DEFAULT_LOSSES,
    generator: torch.Generator | None = None,
) -> PhaseLosses:
    """Reference image and modification text to target image: ITC + TTC + ITM.

    Args:
        model: Must have the groups that the options need ("itm"; "prompt" where target_queries is
            it).
        reference: `model.normalise` of the reference images' tokens, (B, P, W).
        target: Likewise of the target images.
        texts: Modification texts.
        captions: Captions of the target images; None skips TTC and ITM.
        positives: (B, B) bool, [query, target image]: which targets answer which queries; the
            diagonal is taken as true.
        caption_positives: (B, B) bool, [caption, target image]: which captions are true of which
            targets.
        options: Weights and forms.
        generator: Of sampled negatives.

    Returns:
        The losses; gradients flow from `total`.

    Source: spec of the paper's code, phase 2; UniFashion, ACL Anthology 2024.emnlp-main.89, section
    3.
    """
    compat = options.reference_compat
    queries: Queries = options.target_queries or ("prompt" if compat else "query")
    states = model.composed_states(reference, texts.ids, texts.mask)
    composed = model.project_composed(states)  # (B, D)
    images = model.image_features(target, queries)  # (B, Q, D)
    logits = similarity(composed, images) / model.temp
    itc = itc_loss(logits, positives)
    total = options.itc * itc
    itm = ttc = None
    if captions is not None and (options.ttc or options.itm):
        vectors = model.text_features(captions.ids, captions.mask)  # (B, D)
        if options.ttc:
            ttc = _ttc_loss(model, states, vectors, positives, options)
            total = total + options.ttc * ttc
        if options.itm:
            # The code draws negatives by composed query against target, from the modification
            # texts; ITM itself compares captions with targets, so the mended form draws among
            # those.
            scores = logits if compat else similarity(vectors, images) / model.temp
            negatives = hard_negatives(
                scores,
                positives if compat else caption_positives,
                options,
                text_ids=None if compat else captions.ids,
                generator=generator,
            )
            pool = texts if compat else captions
            itm = matching_loss(model, target, captions, pool, negatives, queries)
            total = total + options.itm * itm
    return PhaseLosses(total, itc, itm=itm, ttc=ttc)


def similarity(texts: Tensor, images: Tensor) -> Tensor:
    """Each text's best query token of each image: (A, D) and (B, Q, D) to (A, B)."""
    if texts.ndim != 2 or images.ndim != 3 or texts.shape[1] != images.shape[2]:
        raise ShapeError(
            f"similarity: texts {tuple(texts.shape)}, images {tuple(images.shape)}. "
            "Pass (A, D) and (B, Q, D)."
        )
    return torch.einsum("ad,bqd->abq", texts, images).amax(dim=-1)


def itc_loss(logits: Tensor, positives: Tensor | None = None) -> Tensor:
    """Contrast both ways: the sum (not the mean, as BLIP-2 has it) of both cross-entropies.

    Args:
        logits: Scores over the temperature, (B, B), [text, image].
        positives: (B, B) bool; None = the diagonal. The target is spread evenly over the positives
            of a row.
    """
    back = None if positives is None else positives.T
    return contrast(logits.T, back) + contrast(logits, positives)


def contrast(logits: Tensor, positives: Tensor | None = None) -> Tensor:
    """Cross-entropy of each row against its positives, (B, B) to a scalar; the diagonal is one of
    them.
    """
    if positives is None:
        return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))
    marked = _with_diagonal(positives, logits).to(logits.dtype)
    return F.cross_entropy(logits, marked / marked.sum(dim=1, keepdim=True))


@torch.no_grad()
def hard_negatives(
    logits: Tensor,
    positives: Tensor | None = None,
    options: LossOptions = DEFAULT_LOSSES,
    *,
    text_ids: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Negatives:
    """For each image the likeliest wrong text, for each text the likeliest wrong image.

    Args:
        logits: (B, B), [text, image].
        positives: (B, B) bool, [text, image]: never drawn; None = the diagonal.
        options: Hardest or sampled, and whether in the research code's form.
        text_ids: (B, L): texts that are equal token for token are never negatives of each other's
            images.
        generator: Of sampled negatives, on the CPU.

    Raises:
        InputError: If positives are given in the research code's form.
        ShapeError: If they have another shape than the scores.
    """
    if options.reference_compat:
        if positives is not None:
            raise InputError(
                "losses: the research code knows one positive a text. "
                "Leave positives out, or reference_compat off."
            )
        return _compat_negatives(logits, text_ids, generator)
    taken = _with_diagonal(positives, logits)
    if text_ids is not None:
        # What is true of an image in one text is true of it in another with the same tokens.
        same = (text_ids[:, None] == text_ids[None]).all(dim=-1)
        taken = (same.float() @ taken.float()) > 0
    scores = logits.masked_fill(taken, _EXCLUDED)
    return Negatives(
        texts=_draw(scores.T, options.negatives, generator),
        images=_draw(scores, options.negatives, generator),
        has_text=(~taken).any(dim=0),
        has_image=(~taken).any(dim=1),
    )


def matching_loss(
    model: UniFashionEncoderModel,
    vision: Tensor,
    captions: Texts,
    negative_texts: Texts,
    negatives: Negatives,
    queries: Queries = "query",
) -> Tensor:
    """ITM over (image, caption) = 1, (wrong image, caption) = 0, (image, wrong text) = 0,
    unweighted.

    Args:
        model: Must have the group "itm".
        vision: After ln_vision, (B, P, W).
        captions: One an image.
        negative_texts: What `negatives.texts` points into.
        negatives: Rows without a negative add none.
        queries: Which tokens read the image.
    """
    wrong_image, wrong_text = negatives.has_image, negatives.has_text
    images = torch.cat(
        [vision, vision[negatives.images[wrong_image]], vision[wrong_text.nonzero()[:, 0]]]
    )
    texts = _stack(
        [
            captions,
            captions[wrong_image.nonzero()[:, 0]],
            negative_texts[negatives.texts[wrong_text]],
        ]
    )
    logits = model.itm_logits(images, texts.ids, texts.mask, queries)
    labels = torch.zeros(len(images), dtype=torch.int64, device=logits.device)
    labels[: len(vision)] = 1
    return F.cross_entropy(logits, labels)


def lm_loss(logits: Tensor, ids: Tensor, pad_id: int = 0, label_smoothing: float = 0.1) -> Tensor:
    """Next-token cross-entropy, the mean over real tokens.

    Args:
        logits: (B, L, vocabulary), of `ids` themselves.
        ids: (B, L), [DEC] first.
        pad_id: Not learned.
        label_smoothing: Share of the target spread over the vocabulary.
    """
    labels = ids.masked_fill(ids == pad_id, -100)[:, 1:]
    return F.cross_entropy(
        logits[:, :-1].flatten(0, 1), labels.flatten(), label_smoothing=label_smoothing
    )


def _ttc_loss(
    model: UniFashionEncoderModel,
    states: Tensor,
    captions: Tensor,
    positives: Tensor | None,
    options: LossOptions,
) -> Tensor:
    """Composed query against target captions, in the form that the options name."""
    default = "query_tokens" if options.reference_compat else "composed"
    if (options.ttc_form or default) == "composed":
        return itc_loss(model.project_composed(states) @ captions.T / model.temp, positives)
    tokens = model.project_images(states[:, : model.config.qformer.num_query_tokens])
    return contrast(similarity(captions, tokens).T / model.temp, positives)


def _with_diagonal(positives: Tensor | None, logits: Tensor) -> Tensor:
    """Positives as bool, with every text true of its own image."""
    own = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    if positives is None:
        return own
    if positives.shape != logits.shape:
        raise ShapeError(
            f"losses: positives are {tuple(positives.shape)}, scores {tuple(logits.shape)}. "
            "Pass one entry a pair, (B, B)."
        )
    return positives.bool() | own


def _draw(scores: Tensor, how: str, generator: torch.Generator | None) -> Tensor:
    """One column a row."""
    if how == "hardest":
        return scores.argmax(dim=1)
    chances = scores.float().softmax(dim=1).cpu()
    return torch.multinomial(chances, 1, generator=generator)[:, 0].to(scores.device)


def _compat_negatives(
    logits: Tensor, text_ids: Tensor | None, generator: torch.Generator | None
) -> Negatives:
    """The research code's rows: images' texts are drawn by text row, texts' images by image row;
    after a duplicate text was met, the rest of the batch draws images at random.
    """
    own = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    scores = logits.masked_fill(own, _EXCLUDED)
    texts, images = scores.argmax(dim=1), scores.T.masked_fill(own, _EXCLUDED).argmax(dim=1)
    met = False
    for b in range(len(logits)) if text_ids is not None else ():
        assert text_ids is not None
        if torch.equal(text_ids[texts[b]], text_ids[b]):
            met = True
            texts[b] = _draw(scores[b : b + 1], "sampled", generator)[0]
        if met:
            images[b] = _draw(scores.T[b : b + 1], "sampled", generator)[0]
    there = torch.full((len(logits),), len(logits) > 1, device=logits.device)
    return Negatives(texts, images, there, there)


def _stack(batches: list[Texts]) -> Texts:
    """Batches of texts under each other, padded to the longest."""
    length = max(texts.ids.shape[1] for texts in batches)
    pad = [(0, length - texts.ids.shape[1]) for texts in batches]
    return Texts(
        torch.cat([F.pad(t.ids, p) for t, p in zip(batches, pad, strict=True)]),
        torch.cat([F.pad(t.mask, p) for t, p in zip(batches, pad, strict=True)]),
    )
