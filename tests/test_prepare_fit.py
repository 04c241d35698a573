"""Fit and paste-back: the laws that give the untouched pixels back."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from unifashion_core.errors import InputError, ShapeError
from unifashion_core.prepare.batch import fit_batch, paste_batch
from unifashion_core.prepare.fit import fit
from unifashion_core.prepare.paste import inner_distance, paste_back
from unifashion_core.prepare.resample import resize


def photo(height: int, width: int, seed: int = 0, channels: int = 3) -> torch.Tensor:
    return torch.rand((height, width, channels), generator=torch.Generator().manual_seed(seed))


def disc(height: int, width: int, y: float, x: float, radius: float) -> torch.Tensor:
    rows, columns = torch.arange(height)[:, None], torch.arange(width)[None]
    return ((rows - y) ** 2 + (columns - x) ** 2 <= radius**2).float()


def there_and_back(image, mask, size=(128, 128), change=0.5, **options):
    """A result that differs everywhere, pasted back."""
    crop, _, fitted = fit(image, mask, size)
    return paste_back((crop + change).fmod(1.0), fitted, image, mask, **options)


def test_an_empty_mask_gives_the_photo():
    image = photo(150, 90)
    back = there_and_back(image, torch.zeros(150, 90), match_colour=True)
    assert torch.equal(back, image)
    assert back.data_ptr() != image.data_ptr()


def test_outside_the_mask_nothing_changes_and_inside_everything_does():
    image, mask = photo(300, 210), disc(300, 210, 120, 90, 50)
    back = there_and_back(image, mask, feather=6)
    assert torch.equal(back[mask == 0], image[mask == 0])
    deep = inner_distance(mask > 0, 8) > 7
    assert ((back[deep] - image[deep]).abs().amax(-1) > 0.05).float().mean() > 0.95


def test_the_unchanged_crop_comes_back_exactly_at_equal_scale():
    image, mask = photo(128, 192), disc(128, 192, 70, 100, 30)
    crop, _, fitted = fit(image, mask, (128, 192), context=4.0)
    assert fitted.scale == 1.0
    assert torch.equal(paste_back(crop, fitted, image, mask, feather=5), image)


def test_the_unchanged_crop_with_matched_colours_is_within_a_step_of_eight_bits():
    image, mask = photo(128, 192), disc(128, 192, 70, 100, 30)
    crop, _, fitted = fit(image, mask, (128, 192), context=4.0)
    back = paste_back(crop, fitted, image, mask, match_colour=True)
    assert torch.equal(back[mask == 0], image[mask == 0])
    assert (back - image).abs().max() <= 1 / 255


def test_a_full_mask_gives_the_result_without_a_seam():
    image = photo(128, 64)
    crop, _, fitted = fit(image, torch.ones(128, 64), (128, 64))
    assert torch.equal(paste_back(1 - crop, fitted, image, torch.ones(128, 64)), 1 - image)


def test_the_seam_rises_inwards_from_the_edge_of_the_mask():
    image, mask = torch.zeros(128, 128, 1), torch.zeros(128, 128)
    mask[:, 40:] = 1.0
    _, _, fitted = fit(image, mask, (128, 128), context=1.0)
    row = paste_back(torch.ones(128, 128, 1), fitted, image, mask, feather=10)[64, :, 0]
    assert (row[:40] == 0).all()
    assert (row[40:50].diff() > 0).all()
    assert 0 < row[40] < 0.1
    assert (row[50:] == 1).all()  # also at the photo's own border


def test_a_soft_mask_blends_by_its_own_value():
    image, mask = torch.zeros(64, 64, 1), torch.full((64, 64), 0.25)
    _, _, fitted = fit(image, mask, (64, 64))
    back = paste_back(torch.ones(64, 64, 1), fitted, image, mask, feather=0)
    assert torch.allclose(back, torch.tensor(0.25))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("shape", [(301, 207), (200, 333), (64, 320), (90, 90)])
def test_a_mirrored_photo_gives_the_mirrored_crop_and_the_mirrored_result(shape, axis):
    image, mask = photo(*shape), disc(*shape, y=0.4 * shape[0], x=0.3 * shape[1], radius=29)
    crop, cut, fitted = fit(image, mask, (192, 128))
    other, other_cut, other_fit = fit(image.flip(axis), mask.flip(axis), (192, 128))
    assert torch.equal(other, crop.flip(axis))
    assert torch.equal(other_cut, cut.flip(axis))
    options: dict[str, Any] = {"feather": 7, "match_colour": True}
    back = paste_back(crop.sqrt(), fitted, image, mask, **options)
    mirrored = paste_back(other.sqrt(), other_fit, image.flip(axis), mask.flip(axis), **options)
    assert torch.equal(mirrored, back.flip(axis))


def test_a_shifted_subject_gives_the_same_crop_and_the_shifted_result():
    image, mask = photo(400, 500), disc(400, 500, 180, 200, 40)
    crop, cut, fitted = fit(image, mask, (128, 128))
    moved: dict[str, Any] = {"shifts": (31, 57), "dims": (0, 1)}
    image2, mask2 = image.roll(**moved), mask.roll(**moved)
    crop2, cut2, fit2 = fit(image2, mask2, (128, 128))
    assert torch.equal(crop, crop2)
    assert torch.equal(cut, cut2)
    back = paste_back(1 - crop, fitted, image, mask)
    assert torch.equal(paste_back(1 - crop2, fit2, image2, mask2), back.roll(**moved))


@pytest.mark.parametrize(
    "shape", [(64, 64), (64, 320), (320, 64), (1000, 200), (37, 911), (6000, 1200), (1200, 6000)]
)
def test_any_size_and_aspect_goes_there_and_back(shape):
    image = photo(*shape, channels=1)
    mask = disc(*shape, y=shape[0] / 2, x=shape[1] / 3, radius=min(shape) / 4)
    crop, cut, fitted = fit(image, mask, (256, 192))
    assert crop.shape == (256, 192, 1)
    assert cut.max() > 0.9
    high, wide = fitted.box_size
    rows, columns = fitted.content
    assert abs(rows - high * fitted.scale) <= 1
    assert abs(columns - wide * rows / high) <= 2.0
    assert (rows, columns) == (256, columns) or columns == 192
    back = paste_back(1 - crop, fitted, image, mask, feather=3)
    assert torch.equal(back[mask == 0], image[mask == 0])


def test_the_crop_keeps_the_context_that_was_asked_for():
    mask = disc(1000, 1000, 500, 500, 100)
    _, _, fitted = fit(photo(1000, 1000, channels=1), mask, (128, 128), context=0.5)
    assert fitted.box == (300, 300, 701, 701)


def test_where_the_photo_ends_the_edge_goes_on():
    image = photo(64, 320)
    crop, _, fitted = fit(image, None, (192, 128))
    assert fitted.content == (26, 128)
    top = fitted.offset[0]
    assert torch.equal(crop[0], crop[top])
    assert torch.equal(crop[-1], crop[top + 25])


def test_a_batch_gives_what_its_items_give_alone():
    images = torch.stack([photo(120, 100, seed) for seed in range(8)])
    masks = torch.stack([disc(120, 100, 30 + 6 * k, 40 + 3 * k, 20) for k in range(8)])
    crops, cuts, fits = fit_batch(images, masks, (64, 64))
    back = paste_batch(1 - crops, fits, images, masks, match_colour=True)
    for k in range(8):
        crop, cut, fitted = fit(images[k], masks[k], (64, 64))
        assert torch.equal(crops[k], crop)
        assert torch.equal(cuts[k], cut)
        alone = paste_back(1 - crop, fitted, images[k], masks[k], match_colour=True)
        assert torch.equal(back[k], alone)


def test_one_mask_serves_a_batch_and_one_photo_takes_many_results():
    images = torch.stack([photo(80, 80, seed) for seed in range(3)])
    mask = disc(80, 80, 40, 40, 20)
    crops, _, fits = fit_batch(images, mask, (64, 64))
    assert len(set(fits)) == 1
    back = paste_batch(crops, fits[:1], images[:1], mask[None])
    assert back.shape == images.shape


def test_alpha_of_the_photo_stays():
    image, mask = photo(100, 100, channels=4), disc(100, 100, 50, 50, 20)
    crop, _, fitted = fit(image, mask, (64, 64))
    back = paste_back(1 - crop[..., :3], fitted, image, mask)
    assert torch.equal(back[..., 3], image[..., 3])
    assert not torch.equal(back[..., 0], image[..., 0])


def test_a_matched_result_loses_its_tint():
    image, mask = photo(160, 160), disc(160, 160, 80, 80, 30)
    crop, _, fitted = fit(image, mask, (128, 128), context=0.6)
    tinted = (crop * 0.8 + torch.tensor([0.1, 0.0, 0.15])).clamp(0, 1)

    def error(**options):
        back = paste_back(tinted, fitted, image, mask, feather=0, **options)
        untinted = paste_back(crop, fitted, image, mask, feather=0)
        return (back - untinted)[mask > 0].abs().mean()

    assert error(match_colour=True) < 0.25 * error()


def test_resize_agrees_with_torch_and_leaves_equal_sizes_alone():
    image = photo(97, 61)
    planes = image.permute(2, 0, 1)[None]
    plain = torch.nn.functional.interpolate(
        planes, (40, 33), mode="bicubic", align_corners=False, antialias=True
    )
    wanted = plain[0].permute(1, 2, 0).clamp(0, 1)
    assert (resize(image, 40, 33) - wanted).abs().max() < 1e-5
    assert torch.equal(resize(image, 97, 61), image)


def test_inner_distance_is_that_of_the_slow_search():
    inside = photo(40, 31, 5)[..., 0] > 0.04
    outside = (~inside).nonzero().float()
    places = torch.stack(torch.meshgrid(torch.arange(40), torch.arange(31), indexing="ij"), -1)
    slow = torch.cdist(places.reshape(-1, 2).float(), outside).amin(1).reshape(40, 31)
    assert torch.allclose(inner_distance(inside, 6), slow.clamp(max=7.0))


def test_wrong_input_is_named():
    image, mask = photo(100, 80), disc(100, 80, 50, 40, 10)
    with pytest.raises(ShapeError, match="frame of 100x128, wanted sides that are multiples of 64"):
        fit(image, mask, (128, 100))
    with pytest.raises(ShapeError, match=r"mask \(80, 100\), wanted the photo's \(100, 80\)"):
        fit(image, mask.T, (128, 128))
    with pytest.raises(ShapeError, match="empty 64x64 one that Load Image gives"):
        fit(image, torch.zeros(64, 64), (128, 128))
    with pytest.raises(InputError, match="context 9.0, wanted 0 to 4"):
        fit(image, mask, (128, 128), context=9.0)
    crop, _, fitted = fit(image, mask, (128, 128))
    with pytest.raises(InputError, match="the mask spans .* Use the mask that Fit to Model got"):
        paste_back(crop, fitted, image, torch.ones(100, 80))
    with pytest.raises(ShapeError, match="Generate at the size of the crop"):
        paste_back(crop[:64], fitted, image, mask)
    with pytest.raises(ShapeError, match="Connect the photo that Fit to Model got"):
        paste_back(crop, fitted, image[:90], mask[:90])
    with pytest.raises(ShapeError, match="2 images, 3 masks"):
        fit_batch(image[None].repeat(2, 1, 1, 1), mask[None].repeat(3, 1, 1), (64, 64))
