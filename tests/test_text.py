"""Captions and tokens: the caption processor, the Fashion-IQ join, the tokenizer and the limits of
a user's text.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from unifashion_core.errors import CheckpointError, InputError
from unifashion_core.pocket import BERT_VOCABULARY
from unifashion_core.text import Tokenizer, join_fashion_iq, prepare_texts, process_caption

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "red",
    "dress",
    "with",
    "long",
    "sleeve",
    "##s",
    ",",
    "t",
    "-",
    "shirt",
    "cafe",
    "no",
]


@pytest.fixture
def tokenizer() -> Tokenizer:
    return Tokenizer(WORDS)


def ids_of(*words: str) -> list[int]:
    return [WORDS.index(w) for w in words]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A Red. Dress!", "a red dress"),
        ("keeps, commas? and-hyphens", "keeps, commas? and-hyphens"),
        ('drops "(*)#:;~ all', "drops all"),
        ("one\n\n two", "one two"),
        ("single\ttab stays", "single\ttab stays"),
        ("ends with newline\n", "ends with newline"),
        ("  spaces  ", "spaces"),
        ("", ""),
        ("...", ""),
    ],
)
def test_caption_processor(text: str, expected: str) -> None:
    assert process_caption(text) == expected


def test_caption_processor_keeps_the_first_words() -> None:
    assert process_caption("a b c d", max_words=2) == "a b"
    assert len(process_caption(" ".join(["w"] * 80)).split(" ")) == 50


def test_fashion_iq_join_capitalises_the_first_caption_only() -> None:
    assert join_fashion_iq("is Shorter, ", " has A belt.") == "Is shorter and has A belt"


def test_tokens_are_cls_words_sep_and_padding(tokenizer: Tokenizer) -> None:
    batch = tokenizer.encode(["red dress", "Dress with long sleeves"])
    assert batch.ids.tolist() == [
        ids_of("[CLS]", "red", "dress", "[SEP]", "[PAD]", "[PAD]", "[PAD]"),
        ids_of("[CLS]", "dress", "with", "long", "sleeve", "##s", "[SEP]"),
    ]
    assert batch.mask.tolist() == [[1, 1, 1, 1, 0, 0, 0], [1] * 7]
    assert batch.ids.dtype == batch.mask.dtype == torch.int64
    assert batch.truncated == (False, False)
    assert batch.unknown_words == ((), ())


def test_long_text_is_cut_on_the_right_and_keeps_its_sep(tokenizer: Tokenizer) -> None:
    batch = tokenizer.encode(["red dress with long sleeves", "red"], max_tokens=5)
    assert batch.ids[0].tolist() == ids_of("[CLS]", "red", "dress", "with", "[SEP]")
    assert batch.truncated == (True, False)


def test_text_that_just_fits_is_not_cut(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode(["red dress with"], max_tokens=5).truncated == (False,)


def test_accents_and_case_are_folded(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode(["CAFÉ"]).ids[0, 1] == WORDS.index("cafe")


def test_unknown_words_are_reported_once_as_written(tokenizer: Tokenizer) -> None:
    batch = tokenizer.encode(["Peplum red peplum Peplum boho", "t-shirt"])
    assert batch.unknown_words == (("Peplum", "peplum", "boho"), ())
    assert (batch.ids[0] == 1).sum() == 4


def test_special_tokens_in_a_text_are_plain_text(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(["red [SEP] [DEC]"]).ids[0].tolist()
    assert ids.count(WORDS.index("[SEP]")) == 1
    assert tokenizer.bos_id not in ids


def test_dec_is_appended_where_it_is_absent() -> None:
    assert Tokenizer(WORDS).bos_id == len(WORDS) == len(Tokenizer(WORDS)) - 1
    own = Tokenizer([*WORDS[:4], "[DEC]", *WORDS[4:]])
    assert own.bos_id == 4
    assert len(own) == len(WORDS) + 1


def test_decode_joins_pieces_and_leaves_special_tokens_out(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(["long sleeves, red t-shirt", "red"]).ids
    assert tokenizer.decode(ids[0]) == "long sleeves, red t - shirt"
    assert tokenizer.decode(ids[1].tolist()) == "red"
    assert tokenizer.decode([]) == ""


def test_tokens_equal_those_of_bert_over_the_shipped_vocabulary() -> None:
    """Against transformers' tokenizer in pure Python, the one that BERT came with."""
    legacy = pytest.importorskip("transformers.models.bert.tokenization_bert_legacy")
    ours, theirs = Tokenizer.from_file(BERT_VOCABULARY), legacy.BertTokenizerLegacy(BERT_VOCABULARY)
    assert len(ours) == 30523
    assert (ours.pad_id, ours.cls_id, ours.sep_id, ours.bos_id) == (0, 101, 102, 30522)
    texts = [
        "is solid black with no sleeves",
        "more coloured, less shiny? and a peplum-waist",
        "Crème brûlée-coloured tülle, naïve",
        "裙 dress\u00a0with odd\u2009spaces",
        "floccinaucinihilipilification 👗 t-shirt's",
        "x" * 120,
        " ".join(f"w{i}" for i in range(90)),
    ]
    batch = ours.encode(texts, 64)
    for i, text in enumerate(texts):
        expected = theirs(text, max_length=64, truncation=True)["input_ids"]
        assert batch.ids[i][batch.mask[i].bool()].tolist() == expected
    assert batch.truncated == (False,) * 6 + (True,)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["[PAD]", "[UNK]", "[CLS]", "red"], "lacks \\[SEP\\]"),
        ([*WORDS, "red"], "holds a word twice"),
        ([], "lacks \\[PAD\\], \\[UNK\\], \\[CLS\\], \\[SEP\\]"),
    ],
)
def test_unusable_vocabulary_is_an_error(words: list[str], problem: str) -> None:
    with pytest.raises(CheckpointError, match=problem):
        Tokenizer(words)


def test_unreadable_vocabulary_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"vocabulary vocab.txt: can't be read"):
        Tokenizer.from_file(tmp_path / "vocab.txt")


def test_windows_line_ends_are_no_words(tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    path.write_bytes("\r\n".join(WORDS).encode() + b"\r\n")
    assert len(Tokenizer.from_file(path)) == len(WORDS) + 1


def test_prepared_text_is_processed_and_reports_cut_words(tokenizer: Tokenizer) -> None:
    batch = prepare_texts(["RED.  dress!", "red " * 60], tokenizer, max_words=50)
    assert batch.ids[0, :4].tolist() == ids_of("[CLS]", "red", "dress", "[SEP]")
    assert batch.truncated == (False, True)
    assert batch.mask[1].sum() == 52


def test_prepared_text_reports_cut_tokens(tokenizer: Tokenizer) -> None:
    batch = prepare_texts(["red " * 40], tokenizer, max_tokens=16)
    assert batch.truncated == (True,)
    assert batch.ids.shape == (1, 16)


def test_a_thousand_words_are_cut_and_one_more_is_an_error(tokenizer: Tokenizer) -> None:
    assert prepare_texts(["red " * 1000], tokenizer).truncated == (True,)
    with pytest.raises(InputError, match="it has 1001 words, at most 1000 are taken"):
        prepare_texts(["red " * 1001], tokenizer)
    with pytest.raises(InputError, match="it has 10000 words"):
        prepare_texts(["red", "red " * 10_000], tokenizer)


def test_one_word_of_a_million_letters_is_quickly_an_error(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match="letters, at most"):
        prepare_texts(["red " + "x" * 1_000_000], tokenizer)


@pytest.mark.parametrize("text", ["", "   ", "\n", "...", "!!"])
def test_empty_text_is_an_error(tokenizer: Tokenizer, text: str) -> None:
    with pytest.raises(InputError, match="it is empty. Describe"):
        prepare_texts([text], tokenizer)


@pytest.mark.parametrize("text", ["peplum boho", "?", ",", "👗", "boho, ?"])
def test_text_of_unknown_words_only_is_an_error(tokenizer: Tokenizer, text: str) -> None:
    with pytest.raises(InputError, match="knows none of its words"):
        prepare_texts(["red", text], tokenizer)


def test_unknown_words_are_named_in_the_error(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match=r"\(peplum, boho\)"):
        prepare_texts(["Peplum boho"], tokenizer)


def test_no_text_is_an_error(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match="none was given"):
        prepare_texts([], tokenizer)


def test_tokenizer_is_safe_in_threads(tokenizer: Tokenizer) -> None:
    from concurrent.futures import ThreadPoolExecutor

    texts = [f"red dress {'with ' * (i % 7)}long" for i in range(200)]
    alone = [tokenizer.encode([t], 8).ids.tolist() for t in texts]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda t: tokenizer.encode([t], 8).ids.tolist(), texts))
    assert together == alone
