"""Structural similarity, and what `bench tryon` counts."""

from __future__ import annotations

import math

import pytest
import torch
from reference.ssim import slow_ssim
from tryon_tiny import TOKENIZER, box_mask, picture, tiny_model

from unifashion_core.errors import InputError, ShapeError
from unifashion_core.evaluation.ssim import ssim
from unifashion_core.evaluation.tryon_bench import BenchGarment, BenchPerson, measure_tryon
from unifashion_core.tryon.sampling import SamplerSettings


def test_ssim_equals_a_loop_inside_the_mask() -> None:
    first, second = picture(1, (14, 12)), picture(2, (14, 12))
    second = (first + 0.2 * second).clamp(0, 1)
    mask = torch.zeros(14, 12)
    mask[2:9, 3:] = 1
    pair = [torch.stack([p, p.flip(0)]) for p in (first, second)]
    found = ssim(pair[0], pair[1], torch.stack([mask, mask.flip(0)]))
    wanted = slow_ssim(first, second, mask)
    assert found.tolist() == pytest.approx([wanted, wanted], abs=1e-6)
    assert 0 < wanted < 1


def test_ssim_of_equal_pictures_is_one_and_sees_the_mask_alone() -> None:
    image, mask = picture(1)[None], torch.zeros(1, 32, 16)
    mask[:, :8] = 1
    assert float(ssim(image, image, mask)) == pytest.approx(1.0)
    other = image.clone()
    other[:, 20:] = 0
    assert float(ssim(image, other, mask)) == pytest.approx(1.0)
    assert math.isnan(float(ssim(image, image, mask * 0)))
    with pytest.raises(ShapeError, match="Give all of one size"):
        ssim(image, image[:, :16], mask)


@pytest.mark.slow
def test_figures_of_a_tiny_model() -> None:
    model = tiny_model()
    persons = [BenchPerson(picture(i), box_mask(), picture(10 + i)) for i in range(2)]
    garments = [BenchGarment(picture(20 + i), "a red dress") for i in range(2)]
    steps: list[tuple[int, int]] = []
    encoded: list[int] = []
    handle = model.autoencoder.encoder.register_forward_hook(lambda *a: encoded.append(1))
    found = measure_tryon(
        model, TOKENIZER, persons, garments, SamplerSettings("ddim", 25), seeds=2,
        on_step=lambda done, total: steps.append((done, total)),
    )  # fmt: skip
    handle.remove()
    assert found["items"] == 4
    assert found["encodings"] == 4
    assert found["latent_max_rel_error"] <= 1e-4
    assert 0 < found["ssim_min"] <= found["ssim"] <= 1
    assert found["x_default"] > found["x_equal_steps"]
    assert steps[-1][0] == steps[-1][1] == len(steps)
    # Persons are two pictures each, agnostic and pose: 6 encodings a run of ours, 2 of one item.
    ours = 3 * 6 + 2 * 6
    warm = 2 * 3 + 2 + 3
    always = 4 * (2 + 51)
    once = 4 * 3
    assert len(encoded) == ours + warm + always + once
    seconds = found["seconds"]
    assert found["x_equal_steps"] == pytest.approx(
        seconds["loop_encoding_once"] / seconds["ours_equal_steps"]
    )
    with pytest.raises(InputError, match="no person, no garment or no seed"):
        measure_tryon(model, TOKENIZER, [], garments)
