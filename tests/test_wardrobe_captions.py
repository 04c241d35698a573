"""Texts about garments: in the grammar's words, true of the garment, and readable again."""

from __future__ import annotations

import numpy as np
import pytest

from unifashion_core.wardrobe import (
    COLOURS,
    GRAMMAR,
    Garment,
    attributes,
    caption,
    captions,
    changes,
    edit,
    modification,
    read,
    sample_garment,
    satisfies,
    vocabulary_words,
)
from unifashion_core.wardrobe.grammar import pieces

GARMENTS = [sample_garment(seed) for seed in range(250)]
WORDS = set(vocabulary_words())


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def tee(**fixed: str | tuple[str, ...]) -> Garment:
    chosen = {"subtype": "t-shirt", "neckline": "crew", "length": "regular", **fixed}
    return sample_garment(1, **chosen)


def test_captions_use_words_of_the_grammar_only(rng):
    for garment in GARMENTS:
        texts = [caption(garment), *(c.text for c in captions(garment, rng, 6))]
        for text in texts:
            assert set(pieces(text)) <= WORDS, text


def test_modifications_use_words_of_the_grammar_only(rng):
    for a, b in zip(GARMENTS, GARMENTS[1:], strict=False):
        for _ in range(4):
            text = modification(a, b, rng)
            assert set(pieces(text)) <= WORDS, text


def test_a_garment_satisfies_its_captions(rng):
    for garment in GARMENTS:
        for said in captions(garment, rng, 6):
            assert satisfies(attributes(garment), said.attributes), said


def test_a_garment_satisfies_what_its_captions_read_as(rng):
    for garment in GARMENTS:
        for said in captions(garment, rng, 6):
            found = read(said.text)
            assert satisfies(attributes(garment), found), said
            missing = {k for k in said.attributes if k not in found} - {"subtype", "material"}
            assert not missing, said


def test_captions_vary(rng):
    texts = {c.text for c in captions(tee(colours=("red", "white"), pattern="stripes"), rng, 60)}
    assert len(texts) > 25


@pytest.mark.parametrize(
    ("garment", "text"),
    [
        (tee(colours="red", pattern="plain"), "a red t-shirt"),
        (
            tee(colours=("navy", "white"), pattern="stripes"),
            "a navy and white striped t-shirt",
        ),
        (
            sample_garment(2, subtype="shirt", colours="orange", pattern="plain", sleeve="long"),
            "an orange shirt with long sleeves",
        ),
        (sample_garment(3, subtype="jeans", colours="blue"), "blue jeans"),
    ],
)
def test_the_usual_caption_reads_well(garment: Garment, text: str):
    assert caption(garment) == text


def test_a_labelled_photo_is_captioned_by_what_is_known(rng):
    photo = {"category": "skirt", "colours": ("green",)}
    assert caption(photo) == "a green skirt"
    for said in captions(photo, rng, 20):
        assert set(said.attributes) <= {"category", "colours"}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"colour": "red"}, "in red"),
        ({"sleeve": "long"}, "with long sleeves"),
        ({"sleeve": "none"}, "sleeveless"),
        ({"pattern": "dots"}, "with dots"),
        ({"neckline": "v"}, "with a v-neck"),
        ({"length": "cropped"}, "shorter"),
        ({"colour": "red", "sleeve": "long"}, "in red, with long sleeves"),
    ],
)
def test_a_modification_says_what_changes(change: dict[str, str], text: str):
    garment = tee(colours="blue", pattern="plain")
    assert modification(garment, edit(garment, **change)) == text


def test_taking_a_print_away_is_said(rng):
    garment = tee(colours=("red", "white"), pattern="print")
    plain = edit(garment, pattern="plain")
    said = {modification(garment, plain, rng) for _ in range(80)}
    assert {"without the print", "plain", "plain instead of printed"} <= said


def test_modifications_have_variants(rng):
    garment = tee(colours="blue", pattern="plain")
    other = edit(garment, colour="red", sleeve="none")
    said = {modification(garment, other, rng) for _ in range(120)}
    assert {"in red, sleeveless", "is red and sleeveless"} <= said


def test_no_change_is_the_same():
    assert modification(GARMENTS[0], GARMENTS[0]) == "the same"
    assert changes(GARMENTS[0], GARMENTS[0]) == {}


def test_a_modification_states_values_of_the_target(rng):
    for garment in GARMENTS[:120]:
        colour = next(c for c in COLOURS if c not in garment.colours)
        target = edit(garment, colour=colour)
        found = read(modification(garment, target, rng))
        assert satisfies(attributes(target), found)
        assert not satisfies(attributes(garment), found)


@pytest.mark.parametrize(
    ("stated", "holds"),
    [
        ({"category": "t-shirt"}, True),
        ({"category": "dress"}, False),
        ({"colours": ("navy",)}, True),
        ({"colours": ("navy", "white")}, True),
        ({"colours": ("white",)}, False),
        ({"colours": ("navy", "red")}, False),
        ({"colours": "navy", "pattern": "stripes"}, True),
        ({"pattern": "dots"}, False),
        ({"sleeve": "short", "neckline": None}, True),
    ],
)
def test_satisfies_wants_every_stated_value(stated, holds: bool):
    garment = attributes(tee(colours=("navy", "white"), pattern="stripes"))
    assert satisfies(garment, stated) is holds


def test_what_is_not_known_counts_as_the_caller_says():
    photo = {"category": "shirt", "colours": ("red",)}
    assert not satisfies(photo, {"category": "shirt", "sleeve": "long"})
    assert satisfies(photo, {"category": "shirt", "sleeve": "long"}, unknown=True)
    assert not satisfies(photo, {"category": "dress", "sleeve": "long"}, unknown=True)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "a scarlet polka dot tee",
            {"colours": ("red",), "pattern": "dots", "category": "t-shirt"},
        ),
        ("in red, with long sleeves", {"colours": ("red",), "sleeve": "long"}),
        ("a maroon jumper", {"colours": ("red",), "subtype": "sweater", "category": "longsleeve"}),
        ("striped instead of plain", {"pattern": "stripes"}),
        ("in blue, not floral", {"colours": ("blue",)}),
        ("without the print, longer", {"pattern": "plain"}),
        ("NAVY Jeans!", {"colours": ("navy",), "subtype": "jeans", "category": "pants"}),
        ("a spaceship", {}),
    ],
)
def test_read_finds_the_longest_phrases(text: str, found: dict[str, object]):
    assert read(text) == found


def test_every_phrase_of_the_grammar_is_of_known_words():
    for phrase in GRAMMAR:
        assert set(pieces(phrase)) <= WORDS
