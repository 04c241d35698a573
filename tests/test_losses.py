"""The training losses: against loops written from the spec, with several positives, and in the
research code's form.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from reference.encoder_oracles import random_model, small_config
from torch import Tensor

from unifashion_core.encoder.model import UniFashionEncoderModel
from unifashion_core.errors import AbilityError, InputError, ShapeError
from unifashion_core.training.losses import (
    LossOptions,
    Negatives,
    PhaseLosses,
    Texts,
    contrast,
    hard_negatives,
    itc_loss,
    lm_loss,
    matching_loss,
    phase1_losses,
    phase2_losses,
    similarity,
)

BOS = 3
DEFAULT = LossOptions()
COMPAT = LossOptions(reference_compat=True)


@pytest.fixture(scope="module")
def model() -> UniFashionEncoderModel:
    return random_model(small_config(), seed=21)


def texts(seed: int, batch: int = 4, length: int = 7) -> Texts:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 61, (batch, length), generator=generator)
    ids[:, 0] = 2
    lengths = torch.randint(3, length + 1, (batch, 1), generator=generator)
    mask = (torch.arange(length) < lengths).long()
    return Texts(ids * mask, mask)


def vision(seed: int, batch: int = 4) -> Tensor:
    return torch.randn(batch, 6, 24, generator=torch.Generator().manual_seed(seed))


def logits(batch: int = 5, seed: int = 0) -> Tensor:
    return torch.randn(batch, batch, generator=torch.Generator().manual_seed(seed)) * 3


def phase1(
    model: UniFashionEncoderModel,
    options: LossOptions = DEFAULT,
    positives: Tensor | None = None,
) -> PhaseLosses:
    return phase1_losses(
        model, vision(1), texts(2), bos_id=BOS, positives=positives, options=options
    )


def phase2(model: UniFashionEncoderModel, options: LossOptions = DEFAULT) -> PhaseLosses:
    return phase2_losses(model, vision(1), vision(5), texts(2), texts(4), options=options)


# Contrast


def test_similarity_is_the_best_query_token() -> None:
    t, images = torch.randn(3, 4), torch.randn(2, 5, 4)
    got = similarity(t, images)
    for a in range(3):
        for b in range(2):
            best = max(float(t[a] @ images[b, k]) for k in range(5))
            assert math.isclose(float(got[a, b]), best, abs_tol=1e-6)


def test_similarity_of_single_items_keeps_its_axes() -> None:
    assert similarity(torch.randn(1, 4), torch.randn(1, 1, 4)).shape == (1, 1)


def test_similarity_refuses_other_widths() -> None:
    with pytest.raises(ShapeError, match="Pass \\(A, D\\) and \\(B, Q, D\\)"):
        similarity(torch.randn(2, 4), torch.randn(2, 5, 3))


def test_itc_is_the_sum_of_both_cross_entropies() -> None:
    scores = logits()
    expected = 0.0
    for matrix in (scores, scores.T):
        for i in range(5):
            expected -= float(matrix[i].log_softmax(0)[i]) / 5
    assert math.isclose(float(itc_loss(scores)), expected, abs_tol=1e-5)


def test_own_positives_alone_equal_plain_cross_entropy() -> None:
    scores = logits()
    own = torch.eye(5, dtype=torch.bool)
    torch.testing.assert_close(itc_loss(scores, own), itc_loss(scores), atol=1e-6, rtol=0)
    none = torch.zeros(5, 5, dtype=torch.bool)  # the diagonal is true in any case
    torch.testing.assert_close(itc_loss(scores, none), itc_loss(scores), atol=1e-6, rtol=0)


def test_contrast_spreads_its_target_over_all_positives() -> None:
    scores = logits(3)
    positives = torch.tensor([[1, 1, 0], [0, 1, 0], [1, 1, 1]]).bool()
    log = scores.log_softmax(1)
    rows = [(log[0, 0] + log[0, 1]) / 2, log[1, 1], log[2].mean()]
    expected = -torch.stack(rows).mean()
    torch.testing.assert_close(contrast(scores, positives), expected, atol=1e-6, rtol=0)


def test_itc_reads_positives_as_text_by_image() -> None:
    scores = logits(3)
    positives = torch.tensor([[1, 1, 0], [0, 1, 0], [0, 0, 1]]).bool()
    expected = contrast(scores, positives) + contrast(scores.T, positives.T)
    torch.testing.assert_close(itc_loss(scores, positives), expected)
    other = contrast(scores, positives.T) + contrast(scores.T, positives)
    assert abs(float(expected - other)) > 1e-3


def test_raising_a_positive_lowers_the_loss_and_pulls_its_gradient_up() -> None:
    scores = torch.zeros(3, 3, requires_grad=True)
    positives = torch.tensor([[1, 1, 0], [0, 1, 0], [0, 0, 1]]).bool()
    contrast(scores, positives).backward()
    assert scores.grad is not None
    assert scores.grad[0, 1] < 0 < scores.grad[0, 2]


def test_permuting_the_batch_changes_no_loss() -> None:
    scores, order = logits(), torch.tensor([3, 1, 4, 0, 2])
    positives = torch.rand(5, 5, generator=torch.Generator().manual_seed(1)) > 0.6
    moved = itc_loss(scores[order][:, order], positives[order][:, order])
    torch.testing.assert_close(moved, itc_loss(scores, positives))


def test_positives_of_another_shape_are_refused() -> None:
    with pytest.raises(ShapeError, match="positives are \\(5, 4\\), scores \\(5, 5\\)"):
        contrast(logits(), torch.ones(5, 4))


# Negatives


def test_negatives_are_the_likeliest_wrong_ones() -> None:
    scores = torch.tensor([[9.0, 5, 1], [2, 9, 3], [4, 6, 9]])  # [text, image]
    found = hard_negatives(scores)
    assert found.images.tolist() == [1, 2, 1]  # per text: its best other image
    assert found.texts.tolist() == [2, 2, 1]  # per image: its best other text
    assert found.has_text.all()
    assert found.has_image.all()


def test_positives_are_never_negatives() -> None:
    generator = torch.Generator().manual_seed(0)
    for seed in range(30):
        scores = logits(6, seed)
        positives = torch.rand(6, 6, generator=generator) > 0.4
        for how in ("hardest", "sampled"):
            found = hard_negatives(
                scores, positives, LossOptions(negatives=how), generator=generator
            )
            taken = positives | torch.eye(6, dtype=torch.bool)
            for i in range(6):
                assert bool(found.has_image[i]) == bool((~taken[i]).any())
                assert bool(found.has_text[i]) == bool((~taken[:, i]).any())
                if found.has_image[i]:
                    assert not taken[i, found.images[i]]
                if found.has_text[i]:
                    assert not taken[found.texts[i], i]


def test_texts_with_the_same_tokens_are_true_of_the_same_images() -> None:
    ids = torch.tensor([[2, 7], [2, 8], [2, 7]])
    scores = torch.tensor([[9.0, 1, 8], [0, 9, 0], [8, 1, 9]])
    found = hard_negatives(scores, text_ids=ids)
    assert found.images.tolist()[0] == 1  # image 2 has the same text
    assert found.texts.tolist() == [1, 0, 1]


def test_sampled_negatives_follow_the_generator_and_the_scores() -> None:
    scores = torch.tensor([[0.0, 3, -3], [0, 0, 0], [0, 0, 0]])
    options = LossOptions(negatives="sampled")
    draws = [
        hard_negatives(scores, options=options, generator=torch.Generator().manual_seed(s))
        for s in range(200)
    ]
    again = hard_negatives(scores, options=options, generator=torch.Generator().manual_seed(7))
    assert again.images.equal(draws[7].images)
    assert 190 <= sum(int(d.images[0] == 1) for d in draws) <= 200  # exp(6) : 1
    assert 60 <= sum(int(d.images[1] == 0) for d in draws) <= 140


def test_compat_negatives_swap_the_rows() -> None:
    scores = torch.tensor([[9.0, 5, 1], [2, 9, 3], [4, 6, 9]])
    found = hard_negatives(scores, options=COMPAT)
    assert found.texts.tolist() == [1, 2, 1]
    assert found.images.tolist() == [2, 2, 1]


def test_compat_redraws_duplicates_and_then_all_images() -> None:
    ids = torch.tensor([[2, 7], [2, 7], [2, 9], [2, 10]])
    scores = torch.zeros(4, 4)
    scores[0, 1] = 5  # text 1 equals text 0
    draws = [
        hard_negatives(
            scores, options=COMPAT, text_ids=ids, generator=torch.Generator().manual_seed(s)
        )
        for s in range(60)
    ]
    assert len({int(d.texts[0]) for d in draws}) > 1
    assert len({int(d.images[3]) for d in draws}) > 1  # the flag stays up
    assert all(int(d.texts[b]) != b and int(d.images[b]) != b for d in draws for b in range(4))


def test_compat_form_takes_no_positives() -> None:
    with pytest.raises(InputError, match="the research code knows one positive a text"):
        hard_negatives(logits(), torch.ones(5, 5).bool(), COMPAT)


@pytest.mark.parametrize("name", ["target_queries", "ttc_form", "negatives"])
def test_unknown_choice_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} is 'other'. Choose from"):
        LossOptions(**{name: "other"})  # type: ignore[arg-type] - that is the point


def test_batch_of_one_has_no_negative() -> None:
    for options in (LossOptions(), COMPAT):
        found = hard_negatives(torch.zeros(1, 1), options=options)
        assert not found.has_text.any()
        assert not found.has_image.any()


# Matching and captioning


def test_matching_equals_a_loop_over_pairs(model: UniFashionEncoderModel) -> None:
    images, captions = vision(1), texts(2)
    negatives = Negatives(
        texts=torch.tensor([1, 2, 3, 0]),
        images=torch.tensor([2, 3, 0, 1]),
        has_text=torch.tensor([True, True, False, True]),
        has_image=torch.tensor([True, False, True, True]),
    )

    def log(image: int, text: int, label: int) -> Tensor:
        out = model.itm_logits(
            images[image : image + 1], captions.ids[text : text + 1], captions.mask[text : text + 1]
        )
        return -out.log_softmax(-1)[0, label]

    terms = [log(i, i, 1) for i in range(4)]
    terms += [log(int(negatives.images[i]), i, 0) for i in (0, 2, 3)]
    terms += [log(i, int(negatives.texts[i]), 0) for i in (0, 1, 3)]
    got = matching_loss(model, images, captions, captions, negatives)
    torch.testing.assert_close(got, torch.stack(terms).mean(), atol=1e-5, rtol=0)


def test_negative_texts_may_be_longer_than_the_captions(model: UniFashionEncoderModel) -> None:
    images, captions, pool = vision(1), texts(2, length=5), texts(3, length=9)
    negatives = hard_negatives(logits(4))
    wide = Texts(*(torch.nn.functional.pad(t, (0, 4)) for t in (captions.ids, captions.mask)))
    got = matching_loss(model, images, captions, pool, negatives)
    torch.testing.assert_close(got, matching_loss(model, images, wide, pool, negatives))


def test_lm_loss_smooths_shifts_and_ignores_padding() -> None:
    scores = torch.randn(2, 4, 9, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[3, 5, 6, 7], [3, 8, 0, 0]])
    terms: list[Tensor] = []
    for i, j in ((0, 0), (0, 1), (0, 2), (1, 0)):
        log = scores[i, j].log_softmax(0)
        terms.append(-(0.9 * log[ids[i, j + 1]] + 0.1 * log.mean()))
    torch.testing.assert_close(lm_loss(scores, ids), torch.stack(terms).mean(), atol=1e-6, rtol=0)


# Phases


def test_total_is_the_weighted_sum(model: UniFashionEncoderModel) -> None:
    options = LossOptions(itc=0.5, itm=2.0, lm=3.0, ttc=0.25)
    one, two = phase1(model, options), phase2(model, options)
    assert one.itm is not None
    assert one.lm is not None
    torch.testing.assert_close(one.total, 0.5 * one.itc + 2 * one.itm + 3 * one.lm)
    assert two.itm is not None
    assert two.ttc is not None
    torch.testing.assert_close(two.total, 0.5 * two.itc + 2 * two.itm + 0.25 * two.ttc)


def test_weight_of_zero_skips_a_loss_and_its_group() -> None:
    bare = random_model(small_config(), seed=2, groups=())
    found = phase1(bare, LossOptions(itm=0, lm=0))
    assert found.itm is None
    assert found.lm is None
    torch.testing.assert_close(found.total, found.itc)
    with pytest.raises(AbilityError, match="no itm_head"):
        phase1(bare, LossOptions(lm=0))
    with pytest.raises(AbilityError, match=r"no Qformer\.cls"):
        phase1(bare, LossOptions(itm=0))


def test_phase2_without_captions_has_itc_alone(model: UniFashionEncoderModel) -> None:
    found = phase2_losses(model, vision(1), vision(5), texts(2), None)
    assert found.itm is None
    assert found.ttc is None
    torch.testing.assert_close(found.itc, phase2(model).itc)


def test_phase2_default_reads_targets_with_query_tokens(model: UniFashionEncoderModel) -> None:
    composed = model.composed_features(vision(1), texts(2).ids, texts(2).mask)
    images = model.image_features(vision(5), "query")
    expected = itc_loss(similarity(composed, images) / model.temp)
    torch.testing.assert_close(phase2(model).itc, expected)
    prompt = phase2(model, LossOptions(target_queries="prompt")).itc
    assert abs(float((prompt - expected).detach())) > 1e-3
    torch.testing.assert_close(phase2(model, COMPAT).itc, prompt)


def test_phase2_default_ttc_is_composed_against_captions_both_ways(
    model: UniFashionEncoderModel,
) -> None:
    composed = model.composed_features(vision(1), texts(2).ids, texts(2).mask)
    captions = model.text_features(texts(4).ids, texts(4).mask)
    scores = composed @ captions.T / model.temp
    torch.testing.assert_close(phase2(model).ttc, contrast(scores) + contrast(scores.T))


def test_phase2_code_form_of_ttc_takes_the_best_query_token_one_way(
    model: UniFashionEncoderModel,
) -> None:
    states = model.composed_states(vision(1), texts(2).ids, texts(2).mask)[:, :5]
    tokens = model.project_images(states)
    captions = model.text_features(texts(4).ids, texts(4).mask)
    scores = torch.einsum("aqd,bd->abq", tokens, captions).amax(-1) / model.temp
    expected = contrast(scores)
    torch.testing.assert_close(phase2(model, COMPAT).ttc, expected)
    switched = phase2(model, LossOptions(ttc_form="query_tokens")).ttc
    torch.testing.assert_close(switched, expected)


def test_phase1_positives_reach_both_losses(model: UniFashionEncoderModel) -> None:
    everything = torch.ones(4, 4, dtype=torch.bool)
    found = phase1(model, positives=everything)
    itm = -model.itm_logits(vision(1), texts(2).ids, texts(2).mask).log_softmax(-1)[:, 1].mean()
    torch.testing.assert_close(found.itm, itm)  # nothing is left that could be a negative
    assert abs(float((found.itc - phase1(model).itc).detach())) > 1e-3


def test_batch_of_one_trains(model: UniFashionEncoderModel) -> None:
    for options in (LossOptions(), COMPAT):
        one = phase1_losses(model, vision(1, 1), texts(2, 1), bos_id=BOS, options=options)
        two = phase2_losses(
            model, vision(1, 1), vision(2, 1), texts(2, 1), texts(3, 1), options=options
        )
        assert torch.isfinite(one.total)
        assert torch.isfinite(two.total)


def test_every_trained_weight_gets_a_gradient(model: UniFashionEncoderModel) -> None:
    model.zero_grad()
    tokens = vision(1)
    found = phase1_losses(model, model.normalise(tokens), texts(2), bos_id=BOS)
    second = phase2_losses(
        model,
        model.normalise(tokens),
        model.normalise(vision(5)),
        texts(2),
        texts(4),
        options=replace(LossOptions(), target_queries="prompt"),
    )
    (found.total + second.total).backward()
    without = {
        name
        for name, p in model.named_parameters()
        if not name.startswith("visual_encoder.") and (p.grad is None or not p.grad.any())
    }
    assert without == set()


@pytest.mark.slow
def test_loss_falls_when_trained(model: UniFashionEncoderModel) -> None:
    student = random_model(small_config(dropout=0.0), seed=9).train()
    optimiser = torch.optim.AdamW(student.parameters(), lr=2e-3)
    history: list[float] = []
    for _ in range(25):
        found = phase1_losses(student, student.normalise(vision(1)), texts(2), bos_id=BOS)
        optimiser.zero_grad()
        found.total.backward()
        optimiser.step()
        history.append(float(found.total.detach()))
    assert history[-1] < 0.6 * history[0]
