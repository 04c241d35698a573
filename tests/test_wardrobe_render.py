"""The pictures of garments: the same everywhere, in the named colours, with a true mask."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from unifashion_core.errors import InputError
from unifashion_core.wardrobe import (
    CATEGORIES,
    KINDS,
    PATTERNS,
    Garment,
    edit,
    render,
    render_with_mask,
    rgb,
    sample_garment,
)
from unifashion_core.wardrobe.colours import lab
from unifashion_core.wardrobe.cuts import cut


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def middle_colour(garment: Garment, size: int = 64) -> np.ndarray:
    image, mask = render_with_mask(garment, size)
    return np.median(pixels(image)[np.asarray(mask) > 250], axis=0)


@pytest.mark.parametrize("style", ["studio", "amateur"])
def test_the_same_garment_gives_the_same_picture(style):
    garment = sample_garment(77)
    first = render(garment, 48, style=style)
    assert first.mode == "RGB"
    assert first.size == (48, 48)
    assert first.tobytes() == render(garment, 48, style=style).tobytes()


def test_a_known_picture_has_not_changed():
    """Coarse means of one picture, so that other versions of Pillow may round otherwise."""
    garment = sample_garment(
        2026,
        subtype="t-shirt",
        colours=("navy", "white"),
        pattern="stripes",
        direction="horizontal",
        neckline="crew",
        length="regular",
    )
    small = pixels(render(garment, 64).resize((4, 4), Image.Resampling.BOX))
    assert np.abs(small.mean(axis=2) - KNOWN).max() <= 3


KNOWN = np.array(
    [[206, 160, 158, 209], [171, 134, 124, 165], [211, 138, 140, 213], [207, 168, 168, 210]]
)


def test_other_backgrounds_are_other_photos_of_the_same_garment():
    garment = sample_garment(3)
    a = render(garment, 48, style="amateur", background=1)
    b = render(garment, 48, style="amateur", background=2)
    assert np.abs(pixels(a) - pixels(b)).mean() > 5
    again = render(garment, 48, style="amateur", background=1)
    assert a.tobytes() == again.tobytes()


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_category_renders_in_every_pattern(category: str, pattern: str):
    garment = sample_garment(11, category=category, pattern=pattern)
    image, mask = render_with_mask(garment, 40)
    inside = np.asarray(mask) > 127
    assert 0.05 < inside.mean() < 0.85
    assert pixels(image).std() > 3


@pytest.mark.slow
@pytest.mark.parametrize("subtype", KINDS)
def test_every_kind_fills_the_frame_and_stays_inside(subtype: str):
    for seed in (1, 2, 3):
        mask = np.asarray(render_with_mask(sample_garment(seed, subtype=subtype), 64)[1]) > 127
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        reach = max(rows.max() - rows.min(), columns.max() - columns.min())
        assert reach > 0.7 * 64
        assert rows.min() > 0
        assert columns.min() > 0
        assert rows.max() < 63
        assert columns.max() < 63


@pytest.mark.slow
def test_the_cloth_is_near_its_named_colour():
    far: list[float] = []
    for seed in range(60):
        garment = sample_garment(seed, pattern="plain")
        if garment.category == "shoes":  # soles and linings are of other colours
            continue
        difference = lab(middle_colour(garment)) - lab(rgb(garment)[0])
        far.append(float(np.sqrt((difference * difference).sum())))
    assert max(far) < 14
    assert np.mean(far) < 7


def test_a_second_colour_shows_where_the_pattern_has_it():
    garment = sample_garment(8, subtype="t-shirt", colours=("white", "red"), pattern="stripes")
    image, mask = render_with_mask(garment, 96)
    cloth = lab(pixels(image)[np.asarray(mask) > 250])
    for value in rgb(garment):
        near = np.sqrt(((cloth - lab(value)) ** 2).sum(axis=1)) < 22
        assert near.mean() > 0.08


def test_an_edit_of_colour_leaves_the_outline_alone():
    garment = sample_garment(21, category="outwear")
    _, before = render_with_mask(garment, 64)
    _, after = render_with_mask(edit(garment, colour="yellow"), 64)
    assert before.tobytes() == after.tobytes()


def test_longer_sleeves_reach_further_out():
    garment = sample_garment(4, category="dress", subtype="dress", sleeve="none")
    reach = [
        max(abs(p.outline[:, 0]).max() for p in cut(edit(garment, sleeve=s)).panels.values())
        for s in ("none", "long")
    ]
    assert reach[1] > reach[0] + 0.05


@pytest.mark.parametrize("supersample", [1, 2, 3])
def test_supersampling_changes_smoothness_only(supersample: int):
    garment = sample_garment(30, pattern="plain")
    smooth = pixels(render(garment, 64, supersample=4))
    assert np.abs(pixels(render(garment, 64, supersample=supersample)) - smooth).mean() < 4


def test_size_changes_scale_only():
    garment = sample_garment(31, category="skirt", pattern="plain")
    big = render(garment, 128).resize((32, 32), Image.Resampling.BOX)
    small = render(garment, 64).resize((32, 32), Image.Resampling.BOX)
    assert np.abs(pixels(big) - pixels(small)).mean() < 4


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"size": 8}, "size 8 is outside 16..2048"),
        ({"supersample": 0}, "supersample 0 is outside 1..4"),
        ({"style": "sketch"}, "unknown style 'sketch'"),
    ],
)
def test_wrong_arguments_are_errors(arguments, text: str):
    with pytest.raises(InputError, match=text):
        render(sample_garment(1), **arguments)
