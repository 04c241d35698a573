"""A fingerprint is kept beside our files or in a cache, and never survives a change of what it
stands for.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from encoder_samples import CONFIG, STATE, cls, load, own, rerank, tiny_config, vocabulary

from unifashion_core.encoder import checkpoint
from unifashion_core.encoder.config import EncoderConfig, PreprocessConfig, QFormerConfig
from unifashion_core.encoder.fingerprint import RECORD_FILE, canonical, fingerprint
from unifashion_core.text import Tokenizer
from unifashion_core.weights import StoredTensor, write_safetensors


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The fingerprints that were computed from the values."""
    seen: list[str] = []

    def count(*args: object) -> str:
        seen.append(fingerprint(*args))  # type: ignore[arg-type] - handed through
        return seen[-1]

    monkeypatch.setattr(checkpoint, "fingerprint", count)
    return seen


def test_own_folder_keeps_its_fingerprint(tmp_path: Path, computed: list[str]) -> None:
    path, _ = own(tmp_path)
    saved = computed.pop()
    assert load(path).encoder.fingerprint == saved
    assert computed == []


@pytest.mark.parametrize("in_place", [True, False])
def test_edited_weights_get_a_new_fingerprint(
    tmp_path: Path, computed: list[str], in_place: bool
) -> None:
    path, _ = own(tmp_path)
    old = load(path).encoder.fingerprint
    file = path / "model.safetensors"
    changed = {**STATE, "query_tokens": STATE["query_tokens"] + 1}
    metadata = {"unifashion_config": json.dumps(CONFIG.to_dict()), "format": "pt"}
    write_safetensors(tmp_path / "new", changed, metadata=metadata)
    if in_place:
        file.write_bytes((tmp_path / "new").read_bytes())
        os.utime(file, ns=(1, 1))  # a clock that stands still must not hide it
    else:
        os.replace(tmp_path / "new", file)
    computed.clear()
    new = load(path).encoder.fingerprint
    assert new != old
    assert computed == [new]


def test_copied_or_damaged_record_is_computed_again(tmp_path: Path, computed: list[str]) -> None:
    path, _ = own(tmp_path)
    saved = computed.pop()
    shutil.copytree(path, tmp_path / "copy")
    assert load(tmp_path / "copy").encoder.fingerprint == saved
    assert len(computed) == 1
    for content in ("", "[]", '{"key": 1}', '{"key": 1, "fingerprint": "x"}'):
        (path / RECORD_FILE).write_text(content)
        assert load(path).encoder.fingerprint == saved


def test_cache_keeps_the_fingerprint_of_other_files(tmp_path: Path, computed: list[str]) -> None:
    path, _ = cls(tmp_path)
    first = load(path, cache=tmp_path / "cache").encoder.fingerprint
    again = load(path, cache=tmp_path / "cache").encoder.fingerprint
    assert computed == [first] == [again]
    assert not (path / RECORD_FILE).exists()


def test_cache_is_not_used_for_a_changed_file_or_setting(
    tmp_path: Path, computed: list[str]
) -> None:
    path, _ = rerank(tmp_path)
    cache = tmp_path / "cache"
    load(path, cache=cache)
    load(path, cache=cache, gallery_queries="prompt")
    assert len(set(computed)) == 2
    torch.save({**STATE, "query_tokens": STATE["query_tokens"] + 1}, path / "weights.pt")
    load(path, cache=cache)
    assert len(set(computed)) == 3


def test_unwritable_cache_is_no_error(tmp_path: Path, computed: list[str]) -> None:
    path, _ = cls(tmp_path)
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert load(path, cache=tmp_path / "cache").encoder.fingerprint == computed[0]


def test_types_and_order_do_not_count() -> None:
    half = {k: v.half() for k, v in reversed(STATE.items())}
    lazy = {k: StoredTensor.of(v.double()) for k, v in STATE.items()}
    wanted = fingerprint(CONFIG, STATE, vocabulary())
    assert fingerprint(CONFIG, half, vocabulary()) == wanted
    assert fingerprint(CONFIG, lazy, vocabulary()) == wanted


@pytest.mark.parametrize(
    "changed",
    [
        tiny_config(preprocess=PreprocessConfig(size=28, views=("targetpad", "squash"))),
        tiny_config(preprocess=PreprocessConfig(size=28, target_ratio=2.0)),
        tiny_config(gallery_queries="prompt"),
        tiny_config(ln_vision_eps=1e-6),
        tiny_config(qformer=dataclasses.replace(CONFIG.qformer, heads=2)),
        tiny_config(tower=dataclasses.replace(CONFIG.tower, heads=4)),
        tiny_config(text=dataclasses.replace(CONFIG.text, max_words=20)),
    ],
)
def test_settings_that_change_embeddings_count(changed: EncoderConfig) -> None:
    assert canonical(changed, vocabulary()) != canonical(CONFIG, vocabulary())


@pytest.mark.parametrize(
    "changed",
    [
        tiny_config(qformer=dataclasses.replace(CONFIG.qformer, dropout=0.0)),
        tiny_config(stem=dataclasses.replace(CONFIG.stem, in_width=7, out_width=7)),
        tiny_config(tower=dataclasses.replace(CONFIG.tower, activation="quick_gelu")),
        tiny_config(text=dataclasses.replace(CONFIG.text, tokenizer="bert")),
    ],
)
def test_settings_that_no_embedding_reads_do_not_count(changed: EncoderConfig) -> None:
    assert canonical(changed, vocabulary()) == canonical(CONFIG, vocabulary())


def test_vocabulary_counts() -> None:
    words = sorted(vocabulary().vocabulary, key=vocabulary().vocabulary.__getitem__)
    words[4], words[5] = words[5], words[4]
    assert canonical(CONFIG, Tokenizer(words)) != canonical(CONFIG, vocabulary())


def test_settings_of_the_papers_encoder_stay_as_they_are() -> None:
    """A change here makes every gallery ask for a new index: add a setting with its old behaviour
    as default.
    """
    found = json.loads(canonical(EncoderConfig(), vocabulary()))
    found.pop("vocabulary")
    assert found == {"text": {"max_tokens": 64, "max_words": 50}, "version": 1}
    other = dataclasses.replace(EncoderConfig(), qformer=QFormerConfig(hidden=64, heads=2))
    assert json.loads(canonical(other, vocabulary()))["qformer"] == {"hidden": 64, "heads": 2}
