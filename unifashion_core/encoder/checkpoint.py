"""Load an encoder of any known layout, and save one in ours: config.json, model.safetensors and,
where it is its own, vocab.txt.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ..attention import AttentionBackend, math_attention
from ..errors import AbilityError, CheckpointError, InputError
from ..text import Tokenizer
from ..weights import (
    StoredTensor,
    place_tensor,
    read_config,
    read_weights,
    replace_files,
    shorten,
    stream_safetensors,
)
from .config import EncoderConfig
from .dual import DUAL_TYPES, DualEncoder, load_dual
from .encoder import MultimodalEncoder
from .fingerprint import canonical, fingerprint, remembered, write_record
from .layouts import TOWER, EncoderState, check_state, recognise
from .model import UniFashionEncoderModel
from .sizes import CONFIG_KEY
from .towers import add_tower

WEIGHTS_FILE, CONFIG_FILE, VOCABULARY_FILE = "model.safetensors", "config.json", "vocab.txt"

_log = logging.getLogger("unifashion.encoder")

_DEFAULT_TEMP = 0.07


@dataclass(frozen=True)
class LoadReport:
    """What was found in the files of an encoder.

    Attributes:
        layout: What they are, in words.
        files: The weight files.
        dropped: Names in them that nothing uses.
        abilities: What the encoder can do.
        notes: What the user should know.
    """

    layout: str
    files: tuple[Path, ...]
    dropped: tuple[str, ...]
    abilities: frozenset[str]
    notes: tuple[str, ...]

    def summary(self) -> str:
        """One line."""
        parts = [self.layout, f"can {', '.join(sorted(self.abilities))}"]
        if self.dropped:
            parts.append(f"{len(self.dropped)} weights not used: {shorten(self.dropped)}")
        return "; ".join([*parts, *self.notes])


@dataclass(frozen=True)
class LoadedEncoder:
    """An encoder and how it was found."""

    encoder: MultimodalEncoder | DualEncoder
    report: LoadReport


@dataclass(frozen=True)
class Placement:
    """Where and how an encoder computes.

    Attributes:
        attention: What every attention of it goes through.
        device: Of its weights.
        dtype: Of its weights.
    """

    attention: AttentionBackend
    device: torch.device | str = "cpu"
    dtype: torch.dtype = torch.float32


# More than six arguments: they are the choices of the loader node, which the command line has too.
def load_encoder(
    path: Path,
    *,
    tower: Path | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    attention: AttentionBackend,
    gallery_queries: str | None = None,
    bert_vocabulary: Path | None = None,
    cache: Path | None = None,
) -> MultimodalEncoder | DualEncoder:
    """Load an encoder from a file or folder of any known layout, and log what was found.

    Args:
        path: The checkpoint, or a CLIP / SigLIP folder.
        tower: Second file for the vision tower, where the first has none.
        device: Where the weights go.
        dtype: What they become; the file's own does not matter.
        attention: What every attention goes through.
        gallery_queries: "query" or "prompt": which tokens ask a gallery's images; the checkpoint's
            own choice where None.
        bert_vocabulary: The bert-base-uncased vocab.txt, for encoders that do not bring their own.
        cache: Folder that keeps fingerprints of large files.

    Raises:
        AbilityError: If the prompt tokens are asked for and absent.
        CheckpointError: If the files are unknown, unsafe, damaged, incomplete or do not fit.
        FolderError: If there is nothing at the path.
    """
    place = Placement(attention, device, dtype)
    found = open_encoder(
        path,
        place,
        tower=tower,
        gallery_queries=gallery_queries,
        bert_vocabulary=bert_vocabulary,
        cache=cache,
    )
    _log.info("encoder %s: %s", path.name, found.report.summary())
    return found.encoder


def open_encoder(
    path: Path,
    place: Placement,
    *,
    tower: Path | None = None,
    gallery_queries: str | None = None,
    bert_vocabulary: Path | None = None,
    cache: Path | None = None,
) -> LoadedEncoder:
    """`load_encoder` that gives the report too."""
    if path.is_dir() and (read_config(path) or {}).get("model_type") in DUAL_TYPES:
        return _open_dual(path, place, tower, gallery_queries, cache)
    state = _complete(path, tower, gallery_queries)
    with torch.device("meta"):
        model = UniFashionEncoderModel(state.config, place.attention, state.groups)
    check_state(path, state, _shapes(model))
    folder = path if path.is_dir() else path.parent
    tokenizer = Tokenizer.from_file(_vocabulary(state.config, folder, bert_vocabulary))
    identity = remembered(
        canonical(state.config, tokenizer),
        state.files,
        cache,
        lambda: fingerprint(state.config, state.tensors, tokenizer),
    )
    _fill(model, state, place, path)
    card = cast("dict[str, Any]", (read_config(folder) or {}).get("card") or {})
    encoder = MultimodalEncoder(
        model, tokenizer, identity, name=folder.name if path.is_dir() else path.stem, card=card
    )
    report = LoadReport(state.layout, state.files, state.dropped, encoder.abilities, _notes(state))
    return LoadedEncoder(encoder, report)


def save_encoder(
    folder: Path,
    source: MultimodalEncoder | Mapping[str, Tensor],
    config: EncoderConfig | None = None,
    *,
    vocabulary: Tokenizer | None = None,
    dtype: torch.dtype | None = None,
    tower: bool = True,
    card: Mapping[str, Any] | None = None,
) -> None:
    """Save an encoder in our layout, each file whole or not at all.

    The safetensors file carries the config too, so it works alone; a config.json that differs from
    it is refused on loading.

    Args:
        folder: Made where it does not exist; files of the same names are replaced, others stay.
        source: An encoder, or a network's state dict.
        config: The sizes, for a state dict.
        vocabulary: The tokenizer, for a state dict; written as vocab.txt where the config says
            "folder".
        dtype: Of the floating-point weights in the file; their own where None.
        tower: Whether to write `visual_encoder.*`; without it, loading takes a second file.
        card: Measured defaults to keep in config.json.

    Raises:
        CheckpointError: If the weights do not fit the config.
        InputError: If a state dict comes without config, or without the vocabulary that it must
            bring.
    """
    if isinstance(source, MultimodalEncoder):
        config, vocabulary = source.config, source.tokenizer
        card = source.card if card is None else card
        source = source.model.state_dict()
    if config is None:
        raise InputError("save encoder: a state dict came without its config. Pass both.")
    own_words = config.text.tokenizer == "folder"
    if own_words and vocabulary is None:
        raise InputError("save encoder: the config says 'folder'. Pass the vocabulary too.")
    state = {name: t for name, t in source.items() if tower or not name.startswith(TOWER)}
    _check_savable(folder, state, config, tower=tower)
    values = config.to_dict()
    metadata = {"format": "pt", CONFIG_KEY: json.dumps(values)}
    folder.mkdir(parents=True, exist_ok=True)
    with replace_files(folder) as temporary:
        stream_safetensors(temporary(WEIGHTS_FILE), state, metadata=metadata, dtype=dtype)
        if own_words and vocabulary is not None:
            words = sorted(vocabulary.vocabulary, key=vocabulary.vocabulary.__getitem__)
            temporary(VOCABULARY_FILE).write_bytes(("\n".join(words) + "\n").encode())
        text = json.dumps({**values, **({"card": dict(card)} if card else {})}, indent=2)
        temporary(CONFIG_FILE).write_bytes((text + "\n").encode())
    if tower and vocabulary is not None:
        stored = read_weights(folder / WEIGHTS_FILE)
        value = fingerprint(config, stored.tensors, vocabulary)
        write_record(folder, canonical(config, vocabulary), stored.files, value)


def _open_dual(
    path: Path,
    place: Placement,
    tower: Path | None,
    gallery_queries: str | None,
    cache: Path | None,
) -> LoadedEncoder:
    if tower is not None or gallery_queries is not None:
        raise InputError(
            f"encoder {path}: a CLIP or SigLIP model has its own tower and no query tokens. "
            "Leave the second file and gallery_queries out."
        )
    encoder = load_dual(
        path, attention=place.attention, device=place.device, dtype=place.dtype, cache=cache
    )
    report = LoadReport(encoder.layout, encoder.files, (), encoder.abilities, (encoder.blend_note,))
    return LoadedEncoder(encoder, report)


def _complete(path: Path, tower: Path | None, gallery_queries: str | None) -> EncoderState:
    """The recognised checkpoint with its tower and the asked-for query tokens."""
    state = recognise(read_weights(path))
    if tower is not None:
        state = add_tower(state, tower)
    if not state.has_tower:
        raise CheckpointError(
            f"encoder {path}: it holds no vision tower ({state.layout}). Give the tower as a "
            "second "
            "file: eva_vit_g.pth for BLIP-2 and none_lora, the shipped efficientnet_lite0 for a "
            "pocket encoder."
        )
    if gallery_queries is None:
        gallery_queries = state.config.gallery_queries
    if gallery_queries not in ("query", "prompt"):
        raise InputError(
            f"encoder {path}: gallery_queries is {gallery_queries!r}. Choose 'query' or 'prompt'."
        )
    if gallery_queries == "prompt" and "prompt" not in state.groups:
        raise AbilityError(
            f"encoder {path}: it has no prompt_tokens for gallery_queries 'prompt'. "
            "Choose 'query', or load a phase-2 (rerank) checkpoint."
        )
    return replace(state, config=replace(state.config, gallery_queries=gallery_queries))


def _notes(state: EncoderState) -> tuple[str, ...]:
    if "temp" in state.tensors:
        return state.notes
    return (*state.notes, f"no temperature in it, {_DEFAULT_TEMP} is used")


def _shapes(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(t.shape) for name, t in model.state_dict().items()}


def _vocabulary(config: EncoderConfig, folder: Path, bert: Path | None) -> Path:
    if config.text.tokenizer == "folder":
        return folder / VOCABULARY_FILE
    if bert is None:
        raise CheckpointError(
            f"encoder {folder}: it reads the bert-base-uncased vocabulary, which was not given. "
            "Pass the vocab.txt that ships with the pack."
        )
    return bert


def _fill(model: UniFashionEncoderModel, state: EncoderState, place: Placement, path: Path) -> None:
    """Give a network built on the meta device its weights, one tensor at a time."""
    values = {
        name: place_tensor(stored, place.device, place.dtype, f"encoder {path}: {name}")
        for name, stored in state.tensors.items()
    }
    values.setdefault("temp", torch.tensor(_DEFAULT_TEMP, device=place.device, dtype=place.dtype))
    model.load_state_dict(values, assign=True)
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.is_meta and name == "position_ids":  # transformers' CLIP; not in state dicts
                count = buffer.shape[-1]
                module.register_buffer(
                    name, torch.arange(count, device=place.device)[None], persistent=False
                )


def _check_savable(
    folder: Path, tensors: Mapping[str, Tensor], config: EncoderConfig, *, tower: bool
) -> None:
    stored = {name: StoredTensor.of(t) for name, t in tensors.items()}
    state = EncoderState(config, stored, "state dict", (), (), (), settled=True)
    with torch.device("meta"):
        model = UniFashionEncoderModel(config, math_attention(), state.groups)
    shapes = _shapes(model)
    wanted = {n: s for n, s in shapes.items() if tower or not n.startswith(TOWER)}
    check_state(folder, state, wanted)
