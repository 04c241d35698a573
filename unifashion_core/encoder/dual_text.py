"""From a text to the ids that a CLIP or SigLIP model reads, by its folder's own tokenizer."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from ..deps import require
from ..errors import CheckpointError, InputError
from ..text import MAX_INPUT_WORDS, TokenBatch
from ..weights import read_json

TRANSFORMERS = "4.53"
"""The first version with a mask interface."""

READ_ERRORS = (OSError, ValueError, RuntimeError, TypeError, LookupError, AttributeError)
"""What transformers is known to raise for a folder that it can't read."""

_SIGLIP_LENGTH = 64
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True)
class TextRules:
    """How texts become ids.

    Attributes:
        tokenizer: Of the library `tokenizers`, without padding and truncation of its own.
        length: Most tokens that the network reads.
        pad_id: What shorter texts are filled with, on the right.
        fixed: Whether every text is filled to `length` and the filling is read like text: SigLIP
            was trained so. Otherwise a batch is filled to its longest text and the filling is
            masked.
        lower: Whether texts are lower-cased first.
        strip: Whether their punctuation is dropped.
        unknown_id: Of a word that the vocabulary does not hold, or None where it can spell all.
    """

    tokenizer: Any
    length: int
    pad_id: int
    fixed: bool
    lower: bool
    strip: bool
    unknown_id: int | None

    def clean(self, text: str) -> str:
        """A text as the model was trained on it."""
        text = text.lower() if self.lower else text
        text = text.translate(_PUNCTUATION) if self.strip else text
        return re.sub(r"\s+", " ", text).strip()

    def encode(self, texts: Sequence[str]) -> TokenBatch:
        """Check texts and turn them into ids, cut on the right but for the end token.

        Raises:
            InputError: If there is none, or one is empty, longer than `MAX_INPUT_WORDS`, or holds
                only words that the vocabulary does not.
        """
        if not texts:
            raise InputError("text: none was given. Give at least one.")
        cleaned = [_checked(text, self) for text in texts]
        found: list[Any] = self.tokenizer.encode_batch(cleaned)
        rows = [_cut(e.ids, self.length) for e in found]
        length = self.length if self.fixed else max(len(row) for row in rows)
        ids = torch.full((len(rows), length), self.pad_id, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
            mask[i, : len(row)] = 1
        unknown = tuple(_unknown(t, e, self) for t, e in zip(cleaned, found, strict=True))
        return TokenBatch(ids, mask, tuple(len(e.ids) > self.length for e in found), unknown)


def load_text_rules(folder: Path, config: Any) -> TextRules:
    """Read the tokenizer of a folder.

    Args:
        folder: Holds tokenizer.json, or vocab.json and merges.txt; and tokenizer_config.json.
        config: The model's, as transformers gives it.

    Raises:
        CheckpointError: If there is none that can be read, or it belongs to another model.
        MissingPackageError: If `tokenizers` is absent.
    """
    tokenizers: Any = require("tokenizers")
    siglip = config.model_type == "siglip"
    if (folder / "tokenizer.json").is_file():
        # Straight from the file: transformers 5 rebuilds some tokenizers from their parts and loses
        # their clean-up.
        try:
            tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as e:  # the library raises nothing narrower
            raise CheckpointError(
                f"encoder {folder}: tokenizer.json can't be read ({first_line(e)}). Get it again."
            ) from e
    else:
        tokenizer = _tokenizer_of_parts(folder)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    settings = _settings_of(folder)
    end = int(tokenizer.encode("a").ids[-1])
    pad = _token_id(tokenizer, settings.get("pad_token"), end)
    unknown = _token_id(tokenizer, settings.get("unk_token"), -1)
    text = config.text_config
    if not siglip:
        _check_end(folder, tokenizer, end, int(text.eos_token_id))
    return TextRules(
        tokenizer=tokenizer,
        length=int(getattr(text, "max_position_embeddings", _SIGLIP_LENGTH)),
        pad_id=pad,
        fixed=siglip,
        lower=siglip,
        # SigLIP 2 reads with Gemma's vocabulary, punctuation and all.
        strip=siglip and not str(settings.get("tokenizer_class", "")).startswith("Gemma"),
        unknown_id=unknown if unknown not in (-1, end, pad) else None,
    )


def _tokenizer_of_parts(folder: Path) -> Any:
    """A tokenizer from vocab.json and merges.txt, as older CLIP folders have them."""
    transformers: Any = require("transformers", minimum=TRANSFORMERS)
    try:
        found = transformers.AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
        return found.backend_tokenizer
    except (ImportError, *READ_ERRORS) as e:
        raise CheckpointError(
            f"encoder {folder}: no tokenizer that can be read ({first_line(e)}). Put its "
            "tokenizer.json there."
        ) from e


def _check_end(folder: Path, tokenizer: Any, end: int, eos_id: int) -> None:
    """CLIP pools at the end token: by its id, or in old configs (id 2) at the largest id."""
    largest = max(cast("dict[str, int]", tokenizer.get_vocab()).values())
    wanted = largest if eos_id == 2 else eos_id
    if end != wanted:
        raise CheckpointError(
            f"encoder {folder}: its tokenizer ends texts with id {end}, the model looks for "
            f"{wanted}. "
            "Use the tokenizer that belongs to the weights."
        )


def _token_id(tokenizer: Any, token: object, default: int) -> int:
    """The id of a token as tokenizer_config.json names it: a text, or an object with one."""
    if isinstance(token, dict):
        token = cast("dict[str, object]", token).get("content")
    found = tokenizer.token_to_id(token) if isinstance(token, str) else None
    return default if found is None else int(found)


def _settings_of(folder: Path) -> dict[str, Any]:
    path = folder / "tokenizer_config.json"
    return read_json(path) if path.is_file() else {}


def _checked(text: str, rules: TextRules) -> str:
    words = len(text.split())
    shown = text if len(text) <= 40 else text[:37] + "..."
    if words > MAX_INPUT_WORDS:
        raise InputError(
            f"text {shown!r}: it has {words} words, at most {MAX_INPUT_WORDS} are taken. Shorten "
            "it."
        )
    cleaned = rules.clean(text)
    if not cleaned:
        raise InputError(f"text {shown!r}: it is empty. Describe a garment in a few words.")
    return cleaned


def _cut(ids: Sequence[int], length: int) -> list[int]:
    """A text cut on the right that keeps its end token."""
    return list(ids) if len(ids) <= length else [*ids[: length - 1], ids[-1]]


def _unknown(text: str, encoding: Any, rules: TextRules) -> tuple[str, ...]:
    if rules.unknown_id is None:
        return ()
    spans = zip(encoding.ids, encoding.offsets, strict=True)
    words = dict.fromkeys(text[a:b].strip() for i, (a, b) in spans if i == rules.unknown_id)
    real = sum(1 for i in encoding.special_tokens_mask if not i)
    if words and real == sum(1 for i in encoding.ids if i == rules.unknown_id):
        raise InputError(
            f"text {text[:40]!r}: this encoder knows none of its words ({', '.join(words)}). "
            "Use plain words for garment, colour and shape."
        )
    return tuple(words)


def first_line(error: Exception) -> str:
    """The first line of a library's message, for ours."""
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__
