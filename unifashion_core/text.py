"""From a user's text to token ids: the paper's caption processor and a WordPiece tokenizer built
from a vocabulary file.

Built with `tokenizers` alone: transformers 5's BertTokenizer(vocab_file=...) silently makes a
vocabulary of six.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .deps import require
from .errors import CheckpointError, InputError

MAX_INPUT_WORDS = 1000
MAX_INPUT_LETTERS = 20_000
"""More words or letters than this are an error; up to it they are cut and reported."""

PAD, UNK, CLS, SEP, BOS = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[DEC]"

_PUNCTUATION = re.compile(r"[.!\"()*#:;~]")
_SPACES = re.compile(r"\s{2,}")
_JOIN_STRIP = ".?, "


@dataclass(frozen=True)
class TokenBatch:
    """B tokenized texts, padded to the longest of them.

    Attributes:
        ids: (B, L), int64; [CLS] text [SEP], then padding.
        mask: 1 where a token is real, (B, L), int64.
        truncated: Whether each text was cut.
        unknown_words: Words of each text that the vocabulary does not hold, in order, each once.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    truncated: tuple[bool, ...]
    unknown_words: tuple[tuple[str, ...], ...]


def process_caption(text: str, max_words: int = 50) -> str:
    """Lower-case a caption, drop its punctuation but commas and question marks, and keep its first
    words.

    Source: the caption processor of LAVIS (BLIP), as the paper's code evaluates with.
    """
    text = _SPACES.sub(" ", _PUNCTUATION.sub(" ", text.lower()))
    text = text.rstrip("\n").strip(" ")
    return " ".join(text.split(" ")[:max_words])


def join_fashion_iq(first: str, second: str) -> str:
    """One modification text of Fashion-IQ's two captions, the first one capitalised."""
    return f"{first.strip(_JOIN_STRIP).capitalize()} and {second.strip(_JOIN_STRIP)}"


class Tokenizer:
    """BERT's lower-casing WordPiece over a given vocabulary; [DEC] is appended where it is absent.

    Special tokens in a text are read as plain text. Safe in threads.
    """

    def __init__(self, words: Sequence[str]) -> None:
        """Build it from the vocabulary in id order.

        Raises:
            CheckpointError: If a special token is missing, or a word stands twice.
            MissingPackageError: If `tokenizers` is absent.
        """
        tokenizers: Any = require("tokenizers")
        words = list(words)
        if BOS not in words:
            words.append(BOS)
        self.vocabulary = {word: i for i, word in enumerate(words)}
        missing = [t for t in (PAD, UNK, CLS, SEP) if t not in self.vocabulary]
        if missing or len(self.vocabulary) != len(words):
            problem = f"lacks {', '.join(missing)}" if missing else "holds a word twice"
            raise CheckpointError(
                f"vocabulary of {len(words)} words: it {problem}. Give a BERT vocab.txt."
            )
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.bos_id = (
            self.vocabulary[t] for t in (PAD, UNK, CLS, SEP, BOS)
        )
        model = tokenizers.models.WordPiece(
            self.vocabulary, unk_token=UNK, max_input_chars_per_word=100
        )
        self._tokenizer: Any = tokenizers.Tokenizer(model)
        self._tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
        self._tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
        self._tokenizer.decoder = tokenizers.decoders.WordPiece(cleanup=True)

    @classmethod
    def from_file(cls, path: Path) -> Tokenizer:
        """Read a vocab.txt, one word a line.

        Raises:
            CheckpointError: If it can't be read, or is no BERT vocabulary.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as e:
            raise CheckpointError(
                f"vocabulary {path.name}: can't be read ({e}). Put the encoder's vocab.txt there."
            ) from e
        return cls(text.rstrip("\n").replace("\r\n", "\n").split("\n"))

    def __len__(self) -> int:
        return len(self.vocabulary)

    def encode(self, texts: Sequence[str], max_tokens: int = 64) -> TokenBatch:
        """Texts as they are (no caption processor) to ids, cut on the right to `max_tokens`,
        special tokens included.

        A word is unknown when it becomes [UNK]; a vocabulary that holds every single letter knows
        every word.

        Raises:
            InputError: If there is no text, or room for none.
        """
        if not texts or max_tokens < 3:
            raise InputError(
                f"tokenizer: {len(texts)} texts at {max_tokens} tokens. Give a text and room."
            )
        found: list[Any] = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        rows = [[self.cls_id, *e.ids[: max_tokens - 2], self.sep_id] for e in found]
        length = max(len(row) for row in rows)
        ids = torch.full((len(rows), length), self.pad_id, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
            mask[i, : len(row)] = 1
        return TokenBatch(
            ids,
            mask,
            tuple(len(e.ids) > max_tokens - 2 for e in found),
            tuple(self._unknown(text, e) for text, e in zip(texts, found, strict=True)),
        )

    def decode(self, ids: Sequence[int] | torch.Tensor) -> str:
        """Ids to text, special tokens left out."""
        special = {self.pad_id, self.cls_id, self.sep_id, self.bos_id}
        kept = [int(i) for i in ids if int(i) not in special]
        return self._tokenizer.decode(kept, skip_special_tokens=False)

    def known_words(self, text: str) -> int:
        """How many words of a text the vocabulary holds; punctuation is no word."""
        encoding: Any = self._tokenizer.encode(text, add_special_tokens=False)
        words: dict[int, bool] = {}
        for token, word, span in zip(
            encoding.ids, encoding.word_ids, encoding.offsets, strict=True
        ):
            if _is_word(text[slice(*span)]):
                words[word] = words.get(word, True) and token != self.unk_id
        return sum(words.values())

    def _unknown(self, text: str, encoding: Any) -> tuple[str, ...]:
        spans = zip(encoding.ids, encoding.offsets, strict=True)
        return tuple(dict.fromkeys(text[a:b] for token, (a, b) in spans if token == self.unk_id))


def prepare_texts(
    texts: Sequence[str], tokenizer: Tokenizer, *, max_words: int = 50, max_tokens: int = 64
) -> TokenBatch:
    """Check user texts, run the caption processor, and tokenize them.

    Args:
        texts: As the user typed them.
        tokenizer: The encoder's.
        max_words: What the caption processor keeps.
        max_tokens: What the network reads.

    Returns:
        Ids; `truncated` also tells that words were cut.

    Raises:
        InputError: If a text is empty, longer than `MAX_INPUT_WORDS`, or holds only words that the
            vocabulary does not.
    """
    if not texts:
        raise InputError("text: none was given. Give at least one.")
    processed = [_checked(text, max_words) for text in texts]
    batch = tokenizer.encode([text for text, _ in processed], max_tokens)
    for text, unknown in zip(texts, batch.unknown_words, strict=True):
        if tokenizer.known_words(process_caption(text, max_words)) == 0:
            listed = ", ".join(unknown) or _short(text)
            raise InputError(
                f"text {_short(text)!r}: this encoder knows none of its words ({listed}). "
                "Use plain words for garment, colour and shape."
            )
    cut = tuple(a or b for (_, a), b in zip(processed, batch.truncated, strict=True))
    return TokenBatch(batch.ids, batch.mask, cut, batch.unknown_words)


def _checked(text: str, max_words: int) -> tuple[str, bool]:
    """A processed text, and whether words were cut from it."""
    words = len(text.split())
    if words > MAX_INPUT_WORDS:
        raise InputError(
            f"text {_short(text)!r}: it has {words} words, at most {MAX_INPUT_WORDS} are taken. "
            f"Shorten it; the first {max_words} words count."
        )
    if len(text) > MAX_INPUT_LETTERS:
        raise InputError(
            f"text {_short(text)!r}: it has {len(text)} letters, at most {MAX_INPUT_LETTERS} are "
            f"taken. Shorten it; the first {max_words} words count."
        )
    whole = process_caption(text, MAX_INPUT_WORDS * 100)
    if not whole:
        raise InputError(f"text {_short(text)!r}: it is empty. Describe a garment in a few words.")
    kept = process_caption(text, max_words)
    return kept, kept != whole


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."


def _is_word(text: str) -> bool:
    return any(c.isalnum() for c in text)
