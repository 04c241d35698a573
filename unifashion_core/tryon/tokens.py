"""From a text to the token rows that a CLIP text encoder reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..deps import require
from ..errors import CheckpointError, InputError
from .config import ClipConfig

START_ID, END_ID = 49406, 49407
"""CLIP's tokens around a text; the end also fills up what is left of its places."""

_BYTES = 256
_MERGES = START_ID - 2 * _BYTES
_END_OF_WORD = "</w>"
_PIECES = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


@dataclass(frozen=True)
class ClipTokens:
    """B texts as a text encoder reads them.

    Attributes:
        ids: Rows of its token table, (B, places), int64.
        unknown_words: Of each text, the words that were left out since the table has no rows for
            them, in order, each once.
        truncated: Whether each text was cut to the encoder's places.
    """

    ids: Tensor
    unknown_words: tuple[tuple[str, ...], ...]
    truncated: tuple[bool, ...]


class ClipTokenizer:
    """CLIP's lower-casing byte-pair encoding. Special tokens in a text are read as plain text.

    Safe in threads.

    Source: Radford et al. 2021 (CLIP), section 2.4; rules as in openai/CLIP (MIT).
    """

    def __init__(self, merges: Path) -> None:
        """Build it from CLIP's merges, one a line in order of rank.

        Raises:
            CheckpointError: If the file can't be read or holds other merges.
            MissingPackageError: If `tokenizers` is absent.
        """
        tokenizers: Any = require("tokenizers")
        pairs = _read_merges(merges)
        words = [*_byte_letters(), *(letter + _END_OF_WORD for letter in _byte_letters())]
        words += ["".join(pair) for pair in pairs]
        model = tokenizers.models.BPE(
            {word: i for i, word in enumerate(words)}, pairs, end_of_word_suffix=_END_OF_WORD
        )
        self._tokenizer: Any = tokenizers.Tokenizer(model)
        steps, split = tokenizers.normalizers, tokenizers.pre_tokenizers
        self._tokenizer.normalizer = steps.Sequence([steps.NFC(), steps.Lowercase()])
        pieces = split.Split(tokenizers.Regex(_PIECES), behavior="removed", invert=True)
        letters = split.ByteLevel(add_prefix_space=False, use_regex=False)
        self._tokenizer.pre_tokenizer = split.Sequence([pieces, letters])

    def encode(self, text: str) -> list[tuple[str, tuple[int, ...]]]:
        """Words of a text, as written, each with its CLIP ids."""
        encoding: Any = self._tokenizer.encode(text, add_special_tokens=False)
        words: dict[int, tuple[list[int], int, int]] = {}
        spans = zip(encoding.ids, encoding.word_ids, encoding.offsets, strict=True)
        for token, word, (start, end) in spans:
            ids, first, last = words.get(word, ([], start, end))
            words[word] = ([*ids, token], min(first, start), max(last, end))
        return [(text[a:b], tuple(ids)) for ids, a, b in words.values()]

    def tokenize(self, texts: Sequence[str], config: ClipConfig) -> ClipTokens:
        """Texts to the rows of an encoder's table: start, tokens, end, and ends up to its places.

        A word of which any token has no row is left out whole; it is named if it has a letter or
        a digit.

        Args:
            texts: As the user typed them; an empty one is start and ends alone.
            config: The text encoder's; `ids` names the CLIP token of each row where it has not all.

        Raises:
            InputError: If there is no text, or the encoder's table is not of CLIP's tokens.
        """
        if not texts:
            raise InputError("text encoder: no text was given. Give one for each picture.")
        rows = _rows(config)
        found = [self._encode_known(text, rows) for text in texts]
        room = config.places - 2
        ids = torch.full((len(texts), config.places), rows[END_ID], dtype=torch.int64)
        ids[:, 0] = rows[START_ID]
        for row, (known, _) in zip(ids, found, strict=True):
            kept = known[:room]
            row[1 : 1 + len(kept)] = torch.tensor(kept, dtype=torch.int64)
        return ClipTokens(
            ids,
            tuple(unknown for _, unknown in found),
            tuple(len(known) > room for known, _ in found),
        )

    def _encode_known(self, text: str, rows: dict[int, int]) -> tuple[list[int], tuple[str, ...]]:
        """Rows of the words that the table has, and the words that it has not."""
        known: list[int] = []
        unknown: list[str] = []
        for word, ids in self.encode(text):
            if all(i in rows for i in ids):
                known += [rows[i] for i in ids]
            elif any(c.isalnum() for c in word):
                unknown.append(word)
        return known, tuple(dict.fromkeys(unknown))


def _rows(config: ClipConfig) -> dict[int, int]:
    """CLIP id -> row of the encoder's token table."""
    rows = {i: row for row, i in enumerate(config.ids or range(config.vocabulary))}
    if START_ID not in rows or END_ID not in rows or len(rows) > END_ID + 1:
        raise InputError(
            f"text encoder: its table has {config.vocabulary} rows without CLIP's start and end, "
            f"or more than CLIP's {END_ID + 1}. Take the config.json that came with the weights."
        )
    return rows


def _read_merges(path: Path) -> list[tuple[str, str]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise CheckpointError(
            f"CLIP merges {path.name}: can't be read ({e}). Install the pack again."
        ) from e
    pairs = [tuple(line.split(" ")) for line in lines]
    if len(pairs) != _MERGES or any(len(pair) != 2 for pair in pairs):
        raise CheckpointError(
            f"CLIP merges {path.name}: {len(pairs)} lines, wanted {_MERGES} of two parts each. "
            "Install the pack again."
        )
    return [(pair[0], pair[1]) for pair in pairs]


def _byte_letters() -> list[str]:
    """The letter that stands for each byte, in the order of CLIP's ids: printable bytes stand for
    themselves and come first."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(b) for b in printable] + [chr(_BYTES + n) for n in range(_BYTES - len(printable))]
