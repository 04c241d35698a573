"""What is known of a garment: drawing by seed, and exact counterparts by editing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from unifashion_core.errors import InputError
from unifashion_core.wardrobe import (
    CATEGORIES,
    COLOURS,
    KINDS,
    Garment,
    attributes,
    edit,
    nearest_colour,
    rgb,
    sample_garment,
)
from unifashion_core.wardrobe.cuts import cut


def test_a_seed_always_gives_the_same_garment():
    assert sample_garment(41) == sample_garment(41)
    # written down, so that a change of the random streams is noticed
    assert sample_garment(41, category="t-shirt") == Garment(
        seed=41,
        category="t-shirt",
        subtype="t-shirt",
        colours=("grey",),
        shades=("grey",),
        pattern="plain",
        direction=None,
        sleeve="short",
        neckline="v",
        length="cropped",
        material="cotton",
    )


def test_seeds_vary_every_attribute():
    drawn = [sample_garment(seed) for seed in range(400)]
    assert {g.category for g in drawn} == set(CATEGORIES)
    assert {g.subtype for g in drawn} == set(KINDS)
    assert {g.colours[0] for g in drawn} == set(COLOURS)


def test_fixed_values_are_kept_and_change_nothing_else():
    free = sample_garment(7, category="dress", subtype="dress")
    fixed = sample_garment(
        7, category="dress", subtype="dress", colours="red", pattern=free.pattern
    )
    assert fixed.colours[0] == "red"
    assert (fixed.sleeve, fixed.neckline, fixed.length) == (free.sleeve, free.neckline, free.length)


def test_two_given_colours_are_kept_in_order():
    garment = sample_garment(3, category="t-shirt", colours=("navy", "white"), pattern="stripes")
    assert garment.colours == ("navy", "white")


@pytest.mark.parametrize("seed", range(40))
def test_values_are_those_that_the_kind_allows(seed: int):
    garment = sample_garment(seed)
    kind = KINDS[garment.subtype]
    assert garment.category == kind.category
    assert (garment.sleeve is None) == (kind.sleeves == ())
    assert garment.sleeve is None or garment.sleeve in kind.sleeves
    assert len(garment.colours) == (1 if garment.pattern == "plain" else 2)
    assert (garment.direction is not None) == (garment.pattern == "stripes")


@pytest.mark.parametrize("seed", range(30))
def test_edit_changes_only_the_colour_that_it_says(seed: int):
    garment = sample_garment(seed)
    colour = next(c for c in COLOURS if c not in garment.colours)
    edited = edit(garment, colour=colour)
    assert edited.colours[0] == colour
    same = replace(edited, colours=garment.colours, shades=garment.shades)
    assert same == garment


def test_edit_keeps_the_shape_of_what_it_does_not_change():
    garment = sample_garment(12, category="t-shirt", subtype="t-shirt", pattern="plain")
    edited = edit(garment, colour="yellow", pattern="dots")
    before, after = cut(garment), cut(edited)
    assert set(before.panels) == set(after.panels)
    for name, panel in before.panels.items():
        assert (panel.outline == after.panels[name].outline).all()


def test_a_t_shirt_with_long_sleeves_is_a_longsleeve_of_the_same_body():
    garment = sample_garment(5, category="t-shirt", subtype="t-shirt")
    edited = edit(garment, sleeve="long")
    assert (edited.category, edited.sleeve) == ("longsleeve", "long")
    assert edited.colours == garment.colours
    body = cut(garment).panels["body"].outline
    assert (cut(edited).panels["body"].outline == body).all()
    assert edit(edited, sleeve="short") == garment


def test_shorts_and_pants_turn_into_one_another_by_length():
    pants = sample_garment(5, category="pants", subtype="jeans", length="long")
    shorts = edit(pants, length="short")
    assert (shorts.category, shorts.subtype) == ("shorts", "denim shorts")
    assert edit(shorts, length="long") == pants


def test_a_pattern_brings_a_second_colour_and_plain_drops_it():
    plain = sample_garment(9, category="skirt", pattern="plain")
    dotted = edit(plain, pattern="dots")
    assert len(dotted.colours) == 2
    assert dotted.colours[0] == plain.colours[0]
    assert edit(dotted, pattern="plain") == plain


def test_rgb_lies_within_the_colour_that_it_is_named():
    for seed in range(300):
        garment = sample_garment(seed)
        if garment.material != "denim":  # denim is a greyer blue than the word's middle
            assert nearest_colour(rgb(garment)[0]) == garment.colours[0], garment


def test_attributes_hold_what_a_caption_may_say():
    garment = sample_garment(2)
    known = attributes(garment)
    assert known["category"] == garment.category
    assert "seed" not in known
    assert "shades" not in known


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: sample_garment(1, category="sock"), "unknown category 'sock'"),
        (lambda: sample_garment(1, colour="red"), "unknown attribute 'colour'"),
        (lambda: sample_garment(1, colours="mauve"), "unknown colour 'mauve'"),
        (lambda: sample_garment(1, colours=()), "wanted one or two"),
        (lambda: sample_garment(1, category="hat", sleeve="long"), "no hat with"),
        (lambda: sample_garment(1, subtype="kilt"), "'kilt' is no kind of garment"),
        (lambda: edit(sample_garment(1, category="hat"), sleeve="long"), "can't have sleeve"),
        (lambda: edit(sample_garment(1), pattern="zebra"), "can't have pattern 'zebra'"),
    ],
)
def test_impossible_wishes_are_errors(call, text: str):
    with pytest.raises(InputError, match=text):
        call()
