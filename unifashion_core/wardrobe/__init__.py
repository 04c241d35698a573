"""Procedural garments with known attributes: demo and training data that anyone may ship."""

from .captions import Caption, caption, captions, changes, modification, satisfies
from .collection import (
    METADATA,
    Row,
    collection,
    metadata_row,
    name,
    renew_collection,
    save_collection,
)
from .colours import COLOURS, SHADES, nearest_colour
from .garment import Garment, attributes, edit, rgb, sample_garment
from .grammar import GRAMMAR, read, vocabulary_words
from .kinds import CATEGORIES, KINDS, LENGTHS, MATERIALS, NECKLINES, PATTERNS, SLEEVES
from .person import Person, sample_person
from .person_render import PersonPicture, render_person
from .render import Style, render, render_with_mask

__all__ = [
    "CATEGORIES",
    "COLOURS",
    "Caption",
    "GRAMMAR",
    "Garment",
    "KINDS",
    "LENGTHS",
    "MATERIALS",
    "METADATA",
    "NECKLINES",
    "PATTERNS",
    "Person",
    "PersonPicture",
    "Row",
    "SHADES",
    "SLEEVES",
    "Style",
    "attributes",
    "caption",
    "captions",
    "changes",
    "collection",
    "edit",
    "metadata_row",
    "modification",
    "name",
    "nearest_colour",
    "read",
    "render",
    "render_person",
    "render_with_mask",
    "rgb",
    "sample_garment",
    "sample_person",
    "satisfies",
    "renew_collection",
    "save_collection",
    "vocabulary_words",
]
