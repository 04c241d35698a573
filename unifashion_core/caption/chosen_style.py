"""A style with its options, as a run over many captions takes it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..types import GarmentAttributes
from .styles import DEFAULT_STYLE, Style, StyleOptions, format_caption, load_styles
from .styles import style_fingerprint as fingerprint_of
from .vocabulary import AttributeVocabulary, load_vocabulary


@dataclass(frozen=True)
class ChosenStyle:
    """Satisfies `TextStyle`.

    Attributes:
        style: How a caption is written.
        options: Trigger, prefix, suffix and replacements.
        vocabulary: Whose words are written.
        key: Name, and a digest of style, options and vocabulary.
    """

    style: Style
    options: StyleOptions
    vocabulary: AttributeVocabulary
    key: str

    @classmethod
    def of(
        cls, style: Style, options: StyleOptions, vocabulary: AttributeVocabulary
    ) -> ChosenStyle:
        """With its key."""
        parts = f"{fingerprint_of(style, options)} {vocabulary.source}"
        digest = hashlib.sha256(parts.encode()).hexdigest()
        return cls(style, options, vocabulary, f"{style.name} {digest[:16]}")

    def apply(self, caption: str, attributes: GarmentAttributes | None) -> str:
        """The text of what a captioner said."""
        return format_caption(
            self.style, caption, attributes, self.options, vocabulary=self.vocabulary
        )


def choose_style(
    name: str = DEFAULT_STYLE,
    options: StyleOptions | None = None,
    *,
    styles: Path | None = None,
    vocabulary: AttributeVocabulary | None = None,
) -> ChosenStyle:
    """A style by its name, refused before anything is captioned where it lacks something.

    Args:
        name: Of a style.
        options: None adds nothing.
        styles: A file of styles; None takes those that ship.
        vocabulary: Whose words are written; None takes the one that ships.

    Raises:
        InputError: If there is no such style, or it needs a trigger and there is none.
    """
    known = load_styles(styles)
    if name not in known:
        raise InputError(f"Style: there is no '{name}'. Choose one of: {', '.join(known)}.")
    words = load_vocabulary() if vocabulary is None else vocabulary
    chosen = ChosenStyle.of(known[name], options or StyleOptions(), words)
    chosen.apply("a dress", None)
    return chosen
