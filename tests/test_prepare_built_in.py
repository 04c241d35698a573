"""Masks by the built-in networks on mannequins of the wardrobe: any size and shape, mirrored,
moved, in batches.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from unifashion_core.imaging import to_tensor
from unifashion_core.pocket import MEDIAPIPE
from unifashion_core.prepare.cache import PreparationCache
from unifashion_core.prepare.mask import agnostic_mask, work_copy
from unifashion_core.prepare.person import PersonNetworks, find_person, load_networks
from unifashion_core.prepare.preparer import Known, MaskRequest, Preparer
from unifashion_core.wardrobe import render_person, sample_garment, sample_person

GROUND = (225, 225, 225)
REQUEST = MaskRequest("upper", "keep", "keep", 3.0, (0.0, 0.0, 0.0, 0.0), ("face", "hair", "hands"))


@pytest.fixture(scope="module")
def networks() -> PersonNetworks:
    return load_networks(MEDIAPIPE, torch.device("cpu"), torch.float32)


def mannequin(seed: int, category: str = "t-shirt") -> Image.Image:
    person = sample_person(seed, sample_garment(seed + 17, category=category), framing="full")
    return render_person(person, 320).image


def mask_of(photo: Image.Image, networks: PersonNetworks, region: str = "upper") -> np.ndarray:
    person = find_person(work_copy(photo), networks)
    assert person is not None
    return agnostic_mask(photo, source=person, region=region).mask.numpy() > 0


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.slow
@pytest.mark.parametrize("seed", [3, 8])
@pytest.mark.parametrize("region", ["upper", "lower"])
def test_a_mirrored_photo_gives_nearly_the_mirrored_mask(networks, seed, region):
    photo = mannequin(seed)
    mirrored = mask_of(ImageOps.mirror(photo), networks, region)
    assert iou(mirrored[:, ::-1], mask_of(photo, networks, region)) > 0.85


@pytest.mark.slow
@pytest.mark.parametrize("seed", [3, 8])
def test_a_moved_person_gives_nearly_the_moved_mask(networks, seed):
    photo = mannequin(seed)
    width, height = photo.size
    masks = []
    for x, y in ((40, 40), (63, 51)):
        ground = Image.new("RGB", (width + 100, height + 100), GROUND)
        ground.paste(photo, (x, y))
        masks.append(mask_of(ground, networks)[y : y + height, x : x + width])
    assert iou(*masks) > 0.85


@pytest.mark.slow
@pytest.mark.parametrize(
    "size", [(64, 85), (64, 320), (320, 64), (1200, 6000), (6000, 1200), (4000, 6000)]
)
def test_any_size_and_shape_gives_the_mask_of_the_person(networks, size):
    photo = mannequin(3)
    wanted = mask_of(photo, networks)
    scale = min(size[0] / photo.width, size[1] / photo.height)
    within = (round(photo.width * scale), round(photo.height * scale))
    whole = Image.new("RGB", size, GROUND)
    left, top = (size[0] - within[0]) // 2, (size[1] - within[1]) // 2
    whole.paste(photo.resize(within, Image.Resampling.BICUBIC), (left, top))
    mask = mask_of(whole, networks)
    assert mask.shape == (size[1], size[0])
    cut = Image.fromarray(mask[top : top + within[1], left : left + within[0]])
    again = np.asarray(cut.resize(photo.size, Image.Resampling.NEAREST))
    assert iou(again, wanted) > 0.75
    assert mask.sum() == mask[top : top + within[1], left : left + within[0]].sum()


@pytest.mark.slow
def test_eight_photos_give_what_each_gives_alone(networks):
    photos = [to_tensor(mannequin(3))] + [to_tensor(ImageOps.mirror(mannequin(3)))] * 3
    shared = Preparer(lambda: networks, PreparationCache())
    batch = [shared.mask(photo, Known(), REQUEST) for photo in photos * 2]
    for made, photo in zip(batch, photos, strict=False):
        alone = Preparer(lambda: networks, PreparationCache(0)).mask(photo, Known(), REQUEST)
        assert torch.equal(made.mask, alone.mask)
        assert torch.equal(made.overlay, alone.overlay)
        assert made.note == alone.note


@pytest.mark.slow
def test_a_large_photo_is_looked_at_in_its_work_copy_and_told_in_its_own_pixels(networks):
    small = mannequin(3)
    large = small.resize((small.width * 8, small.height * 8), Image.Resampling.BICUBIC)
    preparer = Preparer(lambda: networks, PreparationCache())
    image = to_tensor(large)
    person = preparer.person(image)
    assert person is not None
    assert person.mask.shape == (large.height, large.width)
    own = find_person(large, networks)
    assert own is not None
    torso = float((own.landmarks[11, :2] - own.landmarks[23, :2]).norm())
    assert float((own.landmarks[11:25, :2] - person.landmarks[11:25, :2]).abs().max()) < 0.1 * torso
    assert max(abs(a - b) for a, b in zip(own.box, person.box, strict=True)) < 0.1 * torso
    kept = [entry for entry in preparer._cache.entries() if entry.name == "person"]
    assert kept[0].size_bytes < 6 * 1024**2  # the work copy's mask, not the photo's
    drawn, _ = preparer.pose_map(image)
    alone, _ = Preparer(lambda: networks, PreparationCache()).pose_map(to_tensor(small))
    shrunk = torch.nn.functional.avg_pool2d(drawn.permute(2, 0, 1)[None], 8)[0].permute(1, 2, 0)
    assert float(((shrunk > 0.05) != (alone > 0.05)).float().mean()) < 0.03
