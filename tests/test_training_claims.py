"""What captions claim, and which pictures satisfy them."""

from __future__ import annotations

import numpy as np
import pytest

from unifashion_core.training.claims import NO, UNKNOWN, YES, Attributes, ClaimReader, ClaimTable
from unifashion_core.training.describe import garment_attributes
from unifashion_core.training.grammar import full_caption, random_caption
from unifashion_core.training.lexicon import CATEGORY_NOUNS
from unifashion_core.wardrobe import sample_garment

RED_DRESS = {"category": "dress", "colours": ["red", "white"], "sleeve": "long"}
SHIRT = {"category": "shirt", "colours": ["blue"]}


def verdict_of(caption: str, image: Attributes) -> int:
    table = ClaimTable([ClaimReader().claims(caption)], [image])
    return int(table.verdicts(np.array([0]), np.array([0]))[0, 0])


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("a red dress", YES),
        ("a photo of a white dress", YES),
        ("a red and white dress with long sleeves", YES),
        ("a blue dress", NO),
        ("a red skirt", NO),
        ("a striped red dress", UNKNOWN),
        ("a striped blue dress", NO),
        ("something nice", UNKNOWN),
    ],
)
def test_caption_is_true_false_or_unknown_of_a_picture(caption: str, expected: int) -> None:
    assert verdict_of(caption, RED_DRESS) == expected


def test_longest_phrase_wins() -> None:
    assert verdict_of("a blue t-shirt", SHIRT) == NO
    assert verdict_of("a blue long sleeve top", SHIRT) == NO
    assert verdict_of("a blue shirt", SHIRT) == YES


def test_values_of_the_data_are_words_too() -> None:
    reader = ClaimReader([{"fabric": "tweed"}])
    assert reader.claims("a tweed thing") == (("fabric", frozenset({"tweed"})),)


@pytest.mark.parametrize("seed", range(40))
def test_every_caption_of_the_grammar_is_true_of_its_garment(seed: int) -> None:
    known = garment_attributes(sample_garment(seed))
    rng = np.random.default_rng(seed)
    captions = [full_caption(known), *(random_caption(known, rng) for _ in range(12))]
    assert [c for c in captions if verdict_of(c, known) != YES] == []


@pytest.mark.parametrize("seed", range(40))
def test_full_caption_names_its_category_and_repeats_no_word(seed: int) -> None:
    known = garment_attributes(sample_garment(seed))
    words = [w for w in full_caption(known).split() if w not in ("a", "an", "and", "with")]
    assert len(words) == len(set(words))


def test_every_category_has_a_noun() -> None:
    for category, nouns in CATEGORY_NOUNS.items():
        for noun in nouns:
            claims = ClaimReader().claims(f"a {noun}")
            assert ("category", frozenset({category})) in claims, noun
