"""Losses where a caption may be true of many pictures: against those of pairs, and against
hand-made cases."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from training_samples import tiny_model

from unifashion_core.training.batches import PairBatch
from unifashion_core.training.claims import NO, UNKNOWN, YES
from unifashion_core.training.config import LossConfig, TrainConfig
from unifashion_core.training.losses import Texts, itc_loss, phase1_losses
from unifashion_core.training.objectives import Objective, image_contrast, spread_contrast


def pair_batch(count: int, verdicts: torch.Tensor) -> PairBatch:
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(5, 30, (count, 6), generator=generator)
    ids[:, 0] = 2
    texts = Texts(ids, torch.ones_like(ids))
    tokens = torch.randn(count, 4, 16, generator=generator)
    return PairBatch(tokens, texts, texts, verdicts, torch.zeros(count, count))


def own_only(count: int) -> torch.Tensor:
    verdicts = torch.full((count, count), NO, dtype=torch.int8)
    return verdicts.fill_diagonal_(YES)


def test_step_over_plain_pairs_equals_the_papers_losses() -> None:
    model = tiny_model()
    model.eval()
    config = TrainConfig(encoder=model.config)
    batch = pair_batch(5, own_only(5))
    ours = Objective(model, config)(batch, None)
    theirs = phase1_losses(model, model.normalise(batch.tokens), batch.captions, bos_id=4, pad_id=0)
    assert torch.allclose(ours["itc"], theirs.itc)
    assert theirs.itm is not None
    assert theirs.lm is not None
    assert torch.allclose(ours["itm"], theirs.itm)
    assert torch.allclose(ours["lm"], theirs.lm)
    assert torch.allclose(ours["total"], theirs.total)


def test_contrast_of_own_pairs_is_the_itc_loss() -> None:
    logits = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    ours = spread_contrast(logits, own_only(6)) + spread_contrast(logits.T, own_only(6))
    assert torch.allclose(ours, itc_loss(logits))


def test_pair_of_unknown_truth_changes_nothing() -> None:
    logits = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    verdicts = own_only(4)
    verdicts[0, 2] = UNKNOWN
    other = logits.clone()
    other[0, 2] += 7.0
    assert torch.allclose(spread_contrast(logits, verdicts), spread_contrast(other, verdicts))


def test_second_positive_is_pulled_not_pushed() -> None:
    logits = torch.zeros(3, 3, requires_grad=True)
    verdicts = own_only(3)
    verdicts[0, 1] = YES
    spread_contrast(logits, verdicts).backward()
    assert logits.grad is not None
    assert logits.grad[0, 1] < 0 < logits.grad[0, 2]


def test_image_contrast_falls_when_kin_are_near() -> None:
    torch.manual_seed(0)
    far = torch.nn.functional.normalize(torch.randn(4, 2, 8), dim=-1)
    near = far.clone()
    near[1], near[3] = near[0], near[2]
    kin = torch.zeros(4, 4)
    kin[0, 1] = kin[1, 0] = kin[2, 3] = kin[3, 2] = 1
    temperature = torch.tensor(0.1)
    assert image_contrast(near, kin, temperature) < image_contrast(far, kin, temperature)


def test_image_contrast_without_kin_is_zero() -> None:
    images = torch.nn.functional.normalize(torch.randn(3, 2, 8), dim=-1)
    assert float(image_contrast(images, torch.zeros(3, 3), torch.tensor(0.1))) == 0.0


@pytest.mark.parametrize("count", [0, 3])
def test_matching_over_some_pairs_is_finite(count: int) -> None:
    model = tiny_model()
    config = TrainConfig(encoder=model.config, loss=LossConfig(itm_positives=count))
    losses = Objective(model, config)(pair_batch(6, own_only(6)), None)
    assert np.isfinite(losses["total"].item())
