"""The fingerprint of an encoder: equal fingerprints make equal embeddings, whatever file they come
from.

It is always computed from the values. What was computed once is remembered in two places, each tied
to the identity of the
files: beside our own files, and in a cache folder for all others.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ..text import Tokenizer
from ..weights import StoredTensor, raw_bytes, write_json
from .config import EncoderConfig

RECORD_FILE = "fingerprint.json"
"""Beside our own weights."""

_log = logging.getLogger("unifashion.encoder")

# A new number makes every gallery ask for a new index: only for a change of what is hashed.
_VERSION = 1
_PARTS = ("visual_encoder.", "stem.", "ln_vision.", "Qformer.bert.", "vision_proj.", "text_proj.")
# Settings that a tower of this kind does not read.
_UNREAD = {
    "eva_vit": ("activation",),
    "clip_vit": (),
    "efficientnet_lite0": (
        "image_size",
        "patch_size",
        "width",
        "layers",
        "heads",
        "mlp_hidden",
        "layer_norm_eps",
        "activation",
    ),
}


def fingerprint(
    config: EncoderConfig, state: Mapping[str, Tensor | StoredTensor], vocabulary: Tokenizer
) -> str:
    """Hash all that makes an embedding, one tensor in memory at a time.

    Of the weights: tower, stem, ln_vision, Qformer.bert, the query tokens in use and both
    projections, under our names, sorted, in fp16. So the layout, the type and the device that they
    are loaded in do not count, nor do heads.

    Args:
        config: The encoder's.
        state: By our names; other names are passed over.
        vocabulary: The encoder's tokenizer.

    Returns:
        Hex SHA-256.
    """
    used = {name: t for name, t in state.items() if makes_embeddings(name, config)}
    return digest_weights(canonical(config, vocabulary), used)


def digest_weights(settings: str, state: Mapping[str, Tensor | StoredTensor]) -> str:
    """Hash settings and tensors, sorted by name and in fp16, one in memory at a time."""
    digest = hashlib.sha256(settings.encode())
    for name in sorted(state):
        stored = state[name]
        tensor = stored.read() if isinstance(stored, StoredTensor) else stored
        if tensor.is_floating_point():
            tensor = tensor.detach().to(torch.float16)
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        digest.update(raw_bytes(tensor))
    return digest.hexdigest()


def makes_embeddings(name: str, config: EncoderConfig) -> bool:
    """Whether a weight takes part in an embedding."""
    if name == "prompt_tokens":
        return config.gallery_queries == "prompt"
    return name == "query_tokens" or name.startswith(_PARTS)


def canonical(config: EncoderConfig, vocabulary: Tokenizer) -> str:
    """The settings that count, as one text.

    Left out is what has its default, so that a setting added later, whose default is the old
    behaviour, keeps old fingerprints; and what no embedding depends on: dropout, and for its tower
    or stem what that kind does not read.
    """
    values = config.to_dict()
    values["qformer"].pop("dropout")
    text = values.pop("text")
    for name in _UNREAD[config.tower.kind]:
        values["tower"].pop(name)
    if config.stem.kind == "identity":
        del values["stem"]["in_width"], values["stem"]["out_width"]
    changed = cast("dict[str, Any]", _changed(values, EncoderConfig().to_dict())) or {}
    changed["text"] = {key: text[key] for key in ("max_tokens", "max_words")}
    words = "\n".join(sorted(vocabulary.vocabulary, key=vocabulary.vocabulary.__getitem__))
    changed["vocabulary"] = hashlib.sha256(words.encode()).hexdigest()
    changed["version"] = _VERSION
    return json.dumps(changed, sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True)
class FileMark:
    """Tells one state of a file from another without reading it.

    Attributes:
        size: In bytes.
        mtime_ns: When it was last written, in ns.
        inode: Its number on the disk: a file that replaces another within one tick of the clock
            differs in it.
    """

    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> FileMark:
        """The mark of a file as it is now."""
        stat = path.stat()
        return cls(stat.st_size, stat.st_mtime_ns, stat.st_ino)


def remembered(
    settings: str, files: Sequence[Path], cache: Path | None, compute: Callable[[], str]
) -> str:
    """The fingerprint of unchanged files from where it was kept, else computed and kept in the
    cache folder.

    Args:
        settings: Of `canonical`.
        files: All weight files.
        cache: Folder for fingerprints of files that are not ours; nothing is kept where None.
        compute: Reads the weights.
    """
    marks = {path: FileMark.of(path) for path in files}
    key = _key(settings, {str(path.resolve()): mark for path, mark in marks.items()})
    kept = _beside(settings, marks) or (_read(cache / f"{key}.json", key) if cache else None)
    if kept is not None:
        return kept
    found = compute()
    if cache is not None and marks == {path: FileMark.of(path) for path in files}:
        _keep(cache, key, found)
    return found


def write_record(folder: Path, settings: str, files: Sequence[Path], value: str) -> None:
    """Keep the fingerprint of our own files beside them."""
    key = _key(settings, {path.name: FileMark.of(path) for path in files})
    write_json(folder / RECORD_FILE, {"key": key, "fingerprint": value})


def _beside(settings: str, marks: Mapping[Path, FileMark]) -> str | None:
    """The record in the folder of the weights, if they all lie there and are the files that it was
    written for.
    """
    folders = {path.parent for path in marks}
    if len(folders) != 1:
        return None
    key = _key(settings, {path.name: mark for path, mark in marks.items()})
    return _read(folders.pop() / RECORD_FILE, key)


def _key(settings: str, marks: Mapping[str, FileMark]) -> str:
    rows = sorted((name, m.size, m.mtime_ns, m.inode) for name, m in marks.items())
    return hashlib.sha256(json.dumps([settings, rows]).encode()).hexdigest()


def _read(path: Path, key: str) -> str | None:
    """A kept fingerprint; a record that is damaged or for other files is as good as none, since it
    can be computed.
    """
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
        value = found["fingerprint"] if found["key"] == key else None
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return value if isinstance(value, str) and len(value) == 64 else None


def _keep(cache: Path, key: str, value: str) -> None:
    """Losing the cache costs seconds at the next start, so a full or read-only disk is no error."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        write_json(cache / f"{key}.json", {"key": key, "fingerprint": value})
    except OSError as e:
        _log.warning("fingerprint not kept in %s (%s): it will be computed again", cache, e)


def _changed(value: Any, default: Any) -> Any:
    """The parts of a setting that differ from the default, or None; whole floats as integers,
    tuples as lists.
    """
    if isinstance(value, dict):
        pairs = cast("dict[str, Any]", value)
        parts = {k: _changed(v, default[k]) for k, v in pairs.items()}
        return {k: v for k, v in parts.items() if v is not None} or None
    if value == default:
        return None
    return int(value) if isinstance(value, float) and value.is_integer() else value
