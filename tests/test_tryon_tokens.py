"""CLIP's tokens: equal to a slow byte-pair encoding and to transformers, and what a small table
leaves out."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from reference.clip_bpe import SlowBpe

from unifashion_core.errors import CheckpointError, InputError
from unifashion_core.pocket import CLIP_MERGES
from unifashion_core.tryon.config import ClipConfig
from unifashion_core.tryon.tokens import END_ID, START_ID, ClipTokenizer

TEXTS = [
    "a photo of a cat",
    "Red FLORAL wrap-dress, long sleeves & v-neck!!",
    "it's the girl's; they're we've I'm she'll he'd don't",
    "  tabs\tand\nnew   lines ",
    "100% cotton, size 42/44 - 3½ inches",
    "crème brûlée jacket, façade, naïve",
    "cafe\u0301 au lait",
    "紅いドレス と 青いシャツ",
    "👗👚 dress 🧥",
    "платье в полоску",
    "...---... ((x)) [[y]] <|endoftext|>",
    "antidisestablishmentarianism supercalifragilistic",
    "",
    "\"'s\" '' ' 's",
    "a" * 200,
]


def random_texts(count: int) -> list[str]:
    rng = random.Random(4)
    letters = "abcdefghijklmnop ÉßñÅøжΩ'.,-!0123456789 \n\t\"#漢字🧥"
    return ["".join(rng.choices(letters, k=rng.randrange(1, 60))) for _ in range(count)]


@pytest.fixture(scope="module")
def tokenizer() -> ClipTokenizer:
    return ClipTokenizer(CLIP_MERGES)


def ids_of(tokenizer: ClipTokenizer, text: str) -> list[int]:
    return [i for _, ids in tokenizer.encode(text) for i in ids]


def test_known_ids_of_the_published_tokenizer(tokenizer: ClipTokenizer) -> None:
    # The example of CLIP's own documentation and of transformers' tests.
    assert ids_of(tokenizer, "a photo of a cat") == [320, 1125, 539, 320, 2368]


def test_equals_a_slow_byte_pair_encoding(tokenizer: ClipTokenizer) -> None:
    slow = SlowBpe(CLIP_MERGES)
    for text in [*TEXTS, *random_texts(300)]:
        assert ids_of(tokenizer, text) == slow.encode(text), text


def test_equals_transformers(tokenizer: ClipTokenizer, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    slow = SlowBpe(CLIP_MERGES)
    words = {**slow.ids, "<|startoftext|>": START_ID, "<|endoftext|>": END_ID}
    (tmp_path / "vocab.json").write_text(json.dumps(words), "utf-8")
    merges = CLIP_MERGES.read_text("utf-8")
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + merges, "utf-8")
    theirs = transformers.CLIPTokenizer.from_pretrained(tmp_path, local_files_only=True)
    for text in [*TEXTS, *random_texts(200)]:
        if "<|" not in text:  # theirs reads it as a special token
            wanted = theirs(text, add_special_tokens=False)["input_ids"]
            assert ids_of(tokenizer, text) == wanted, text


def test_words_keep_their_spelling(tokenizer: ClipTokenizer) -> None:
    words = [word for word, _ in tokenizer.encode("A Crème-coloured\nKimono, size 42")]
    assert words == ["A", "Crème", "-", "coloured", "Kimono", ",", "size", "4", "2"]


def test_whole_table_gives_clips_ids_padded_with_the_end(tokenizer: ClipTokenizer) -> None:
    found = tokenizer.tokenize(["a photo of a cat", ""], ClipConfig())
    assert found.ids.shape == (2, 77)
    assert found.ids.dtype == torch.int64
    assert found.ids[0, :7].tolist() == [START_ID, 320, 1125, 539, 320, 2368, END_ID]
    assert set(found.ids[0, 7:].tolist()) == {END_ID}
    assert found.ids[1].tolist() == [START_ID, *[END_ID] * 76]
    assert found.unknown_words == ((), ())
    assert found.truncated == (False, False)


def test_long_text_is_cut_and_said(tokenizer: ClipTokenizer) -> None:
    found = tokenizer.tokenize(["cat " * 75, "cat " * 76], ClipConfig())
    assert found.truncated == (False, True)
    assert found.ids[:, -2].tolist() == [2368, 2368]
    assert found.ids[:, -1].tolist() == [END_ID, END_ID]


def small_table(tokenizer: ClipTokenizer, text: str, places: int = 8) -> ClipConfig:
    ids = sorted({*ids_of(tokenizer, text), START_ID, END_ID})
    return ClipConfig(8, 1, 1, 8, places, len(ids), ids=tuple(ids))


def test_small_table_gives_rows_and_names_what_it_has_not(tokenizer: ClipTokenizer) -> None:
    config = small_table(tokenizer, "a red striped dress")
    found = tokenizer.tokenize(["A red, Chartreuse DRESS for Chartreuse parties!"], config)
    assert found.unknown_words == (("Chartreuse", "for", "parties"),)
    rows = [config.ids[i] for i in found.ids[0].tolist()]
    kept = ids_of(tokenizer, "a red dress")
    assert rows == [START_ID, *kept, END_ID, END_ID, END_ID, END_ID]


def test_word_with_one_token_missing_is_left_out_whole(tokenizer: ClipTokenizer) -> None:
    parts = ids_of(tokenizer, "houndstooth")
    assert len(parts) > 1
    ids = sorted({*parts[:-1], START_ID, END_ID})
    config = ClipConfig(8, 1, 1, 8, 8, len(ids), ids=tuple(ids))
    found = tokenizer.tokenize(["houndstooth"], config)
    assert found.unknown_words == (("houndstooth",),)
    assert [config.ids[i] for i in found.ids[0].tolist()] == [START_ID, *[END_ID] * 7]


def test_table_of_other_tokens_is_an_error(tokenizer: ClipTokenizer) -> None:
    with pytest.raises(InputError, match="its table has 50 rows without CLIP's start and end"):
        tokenizer.tokenize(["dress"], ClipConfig(64, 2, 1, 96, 16, 50))
    with pytest.raises(InputError, match="no text was given"):
        tokenizer.tokenize([], ClipConfig())


def test_other_merges_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "merges.txt"
    with pytest.raises(CheckpointError, match=r"merges\.txt: can't be read"):
        ClipTokenizer(path)
    path.write_text("i n\nt h\n", "utf-8")
    with pytest.raises(CheckpointError, match="2 lines, wanted 48894 of two parts each"):
        ClipTokenizer(path)
