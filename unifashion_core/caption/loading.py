"""The one door to the captioners with a language model: recognise what is at a path, and load it.

Recognised by keys and config, never by a file's name: our own folder, the paper's layout (a flat
file with `llm_proj` and an adapter near it), LLaVA's two layouts, and any image-text-to-text folder
that transformers reads.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from ..attention import AttentionBackend
from ..errors import AbilityError, CheckpointError, FolderError
from ..types import ImageEncoder
from ..weights import (
    StoredTensor,
    Weights,
    read_config,
    read_weights,
    replace_files,
    shorten,
    stream_safetensors,
)
from .adapters import Adapter, find_adapter, merge_adapter, read_adapter, save_adapter
from .decoding import DecodingSettings
from .layouts import is_original_llava
from .llm import LlmCaptioner, PrefixModel, make_projection
from .llm_folder import LanguageModel, Placement, digest_tensors, load_language_model
from .prompts import INSTRUCTIONS, PAPER_LLM
from .vlm import VlmCaptioner
from .vlm_folder import (
    Beside,
    image_text_types,
    load_llava,
    load_llava_adapter,
    load_vision_language,
    trained_beside,
)

CONFIG_KEY = "unifashion_captioner"
"""In config.json of a folder that `save_llm_captioner` wrote."""

PROJECTION_FILE = "llm_proj.safetensors"
ADAPTER_FOLDER = "adapter"

Kind = Literal["own", "paper", "llava", "llava adapter", "vision-language"]
"""What a path holds."""

# Before the names of the paper's files, after how they were trained.
_BARE = re.compile(r"^(?:(?:module|base_model|model)\.)+")
_PROJECTION = ("llm_proj.weight", "llm_proj.bias")
_ACCEPTED = (
    "Accepted are a folder of `train caption`, the paper's none_lora file with its adapter, a "
    "LLaVA folder or its LoRA folder, and an image-text-to-text folder that transformers reads"
)

_log = logging.getLogger("unifashion.caption")


# More than six arguments: they are the choices of the loader node, which the command line has too.
def load_captioner(
    path: Path,
    *,
    encoder_decoder: ImageEncoder | None = None,
    base: Path | None = None,
    tower: Path | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    attention: AttentionBackend,
    settings: DecodingSettings | None = None,
    prompt: str | None = None,
    batch_size: int | None = None,
) -> LlmCaptioner | VlmCaptioner:
    """Load a captioner with a language model, and log what was found.

    Args:
        path: A folder, or the paper's none_lora file.
        encoder_decoder: The encoder whose Q-Former a language model reads; vision-language models
            have their own eyes and take none.
        base: Folder of the language model, or of the LLaVA that an adapter belongs to; by default
            `llm` inside, or a folder of the recorded name beside it.
        tower: CLIP folder of a LLaVA whose files lack the vision tower; likewise.
        device: Where the weights go.
        dtype: What they become.
        attention: What every attention goes through.
        settings: How it generates; the paper's, or the family's, where None.
        prompt: What it is asked for a caption; the folder's or family's own where None.
        batch_size: Images at a time.

    Raises:
        AbilityError: If a Q-Former is needed and not given.
        CheckpointError: If the files are unknown, unsafe, incomplete or do not fit each other.
        FolderError: If there is nothing at the path.
        MissingPackageError: If transformers, peft or what a tokenizer needs is absent.
    """
    place, beside = Placement(attention, device, dtype), Beside(base, tower)
    kind = recognise_captioner(path)
    changes: dict[str, Any] = {"settings": settings, "prompt": prompt, "batch_size": batch_size}
    changes = {name: value for name, value in changes.items() if value is not None}
    if kind in ("own", "paper"):
        if encoder_decoder is None:
            raise AbilityError(
                f"captioner {path}: its language model reads a Q-Former's outputs. Connect the "
                "encoder that it was trained with."
            )
        load = _load_own if kind == "own" else _load_paper
        captioner = load(path, encoder_decoder, place, beside).changed(**changes)
    else:
        captioner = _load_vision(path, kind, place, beside).changed(**changes)
    _log.info("captioner %s: %s", path.name, "; ".join((kind, *captioner.notes)))
    return captioner


def recognise_captioner(path: Path) -> Kind:
    """What a path holds, by keys and config alone.

    Raises:
        CheckpointError: If it is no captioner of ours; the text says what it seems to be.
        FolderError: If there is nothing at the path.
    """
    if not path.exists():
        raise FolderError(f"captioner {path}: no such file or folder. Check the path.")
    config = (read_config(path) if path.is_dir() else None) or {}
    if CONFIG_KEY in config:
        return "own"
    if find_adapter(path) is not None and path.is_dir() and trained_beside(path):
        return "llava adapter"
    if is_original_llava(config):
        return "llava"
    if _find_projection(path) is not None:
        return "paper"
    model = config.get("model_type")
    if isinstance(model, str) and model in image_text_types():
        return "vision-language"
    what = f"model_type {model!r} sees no pictures" if model else "no known layout"
    if "qformer" in config and "tower" in config:
        what = "it is an encoder, whose Q-Former captions by itself"
    raise CheckpointError(f"captioner {path}: {what}. {_ACCEPTED}.")


@dataclass(frozen=True)
class CaptionerFiles:
    """What `save_llm_captioner` writes beside the weights.

    Attributes:
        llm: Name of the language model's folder.
        encoder: Fingerprint of the encoder.
        llm_digest: Digest of the language model.
        prompt: What stands after the prefix.
    """

    llm: str
    encoder: str
    llm_digest: str
    prompt: str = INSTRUCTIONS[0]


def save_llm_captioner(
    folder: Path, projection: nn.Linear, adapted: Any | None, files: CaptionerFiles
) -> None:
    """Save a trained captioner: config.json, the projection, and the adapter; no language model.

    Args:
        folder: Made where it does not exist.
        projection: `llm_proj`.
        adapted: peft's model, or None where only the projection was trained.
        files: What it was trained with.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if adapted is not None:
        save_adapter(folder / ADAPTER_FOLDER, adapted, files.llm)
    values = {
        "format": 1,
        "llm": files.llm,
        "llm_digest": files.llm_digest,
        "encoder": files.encoder,
        "adapter": adapted is not None,
        "prompt": files.prompt,
    }
    tensors = {"llm_proj.weight": projection.weight, "llm_proj.bias": projection.bias}
    with replace_files(folder) as temporary:
        stream_safetensors(temporary(PROJECTION_FILE), {n: t.detach() for n, t in tensors.items()})
        text = json.dumps({CONFIG_KEY: values}, indent=2) + "\n"
        temporary("config.json").write_bytes(text.encode())


def _load_own(path: Path, encoder: ImageEncoder, place: Placement, beside: Beside) -> LlmCaptioner:
    values = cast("dict[str, Any]", (read_config(path) or {})[CONFIG_KEY])
    if values.get("format") != 1:
        raise CheckpointError(
            f"captioner {path}: of format {values.get('format')!r}, this version reads 1. Update "
            "the pack."
        )
    if values["encoder"] != encoder.fingerprint:
        raise CheckpointError(
            f"captioner {path}: trained with encoder {str(values['encoder'])[:8]}, connected is "
            f"{encoder.fingerprint[:8]}. Connect the encoder that it was trained with."
        )
    llm = load_language_model(beside.find_base(path, str(values["llm"]), "language model"), place)
    if values["llm_digest"] != llm.digest:
        raise CheckpointError(
            f"captioner {path}: language model {llm.name!r} is not the one that it was trained "
            "with, though the name may be the same. Give that one."
        )
    adapter = read_adapter(path / ADAPTER_FOLDER) if values.get("adapter") else None
    projection = read_weights(path / PROJECTION_FILE).tensors
    found = _assemble(path, encoder, llm, projection, adapter)
    return found.changed(prompt=str(values["prompt"]))


def _load_paper(
    path: Path, encoder: ImageEncoder, place: Placement, beside: Beside
) -> LlmCaptioner:
    weights = _find_projection(path)
    assert weights is not None  # recognised by it
    _check_queries(path, encoder, weights)
    file = weights.files[0]
    near = [p for p in (path, file.parent, file.parent.parent) if p.is_dir()]
    folders = [f for f in map(find_adapter, near) if f is not None]
    adapter = read_adapter(folders[0]) if folders else None
    recorded = adapter.base if adapter is not None else ""
    home = folders[0] if folders else file.parent
    llm = load_language_model(beside.find_base(home, recorded, "language model"), place)
    projection = {_BARE.sub("", n): t for n, t in weights.tensors.items() if "llm_proj." in n}
    found = _assemble(path, encoder, llm, projection, adapter)
    if adapter is None:
        return found.changed(notes=(*found.notes, "no adapter near it: the plain language model"))
    return found


def _assemble(
    path: Path,
    encoder: ImageEncoder,
    llm: LanguageModel,
    projection: Mapping[str, StoredTensor],
    adapter: Adapter | None,
) -> LlmCaptioner:
    """Projection, language model and adapter as one captioner."""
    missing = [n for n in _PROJECTION if n not in projection]
    if missing:
        raise CheckpointError(
            f"captioner {path}: {', '.join(missing)} is missing. Get the folder again."
        )
    weight, bias = (projection[n].read() for n in _PROJECTION)
    linear = make_projection(weight, bias, llm, path.name)
    model, notes = llm.model, [f"over language model {llm.name}"]
    parts = dict(projection)
    if adapter is not None:
        model = merge_adapter(llm.model, adapter)
        parts |= adapter.tensors
        notes.append(f"adapter of {len(adapter.layers)} layers merged")
    identity = f"{encoder.fingerprint}+{llm.digest}+{digest_tensors(parts)}"
    network = PrefixModel(linear, model)
    return LlmCaptioner(
        encoder, network, llm.tokenizer, path.name, identity, PAPER_LLM, notes=tuple(notes)
    )


def _load_vision(path: Path, kind: Kind, place: Placement, beside: Beside) -> VlmCaptioner:
    if kind == "llava":
        found = load_llava(path, place, beside)
    elif kind == "llava adapter":
        found = load_llava_adapter(path, place, beside)
    else:
        found = load_vision_language(path, place)
    family = found.prompts.family
    return VlmCaptioner(
        found.network,
        found.prompts,
        path.name,
        found.identity,
        family.settings,
        family.prompt,
        notes=found.notes,
    )


def _find_projection(path: Path) -> Weights | None:
    """The file with `llm_proj` at a path: itself, in the folder, or in its saved_models.

    Raises:
        CheckpointError: If a folder has several.
    """
    if path.is_file():
        weights = read_weights(path)
        return weights if _holds_projection(weights) else None
    files = [p for folder in (path, path / "saved_models") for p in _weight_files(folder)]
    found: list[Weights] = []
    for file in files:
        weights = read_weights(file)
        if _holds_projection(weights):
            found.append(weights)
    if len(found) > 1:
        names = shorten(w.path.name for w in found)
        raise CheckpointError(f"captioner {path}: several files hold llm_proj ({names}). Give one.")
    return found[0] if found else None


def _weight_files(folder: Path) -> list[Path]:
    """Flat files of the paper's kind; shards and adapters are none."""
    if not folder.is_dir():
        return []
    kinds = (".pt", ".pth", ".safetensors")
    return sorted(
        p
        for p in folder.iterdir()
        if p.suffix in kinds and not p.name.startswith(("adapter_model", "model", "."))
    )


def _holds_projection(weights: Weights) -> bool:
    return any(name.endswith("llm_proj.weight") for name in weights.tensors)


def _check_queries(path: Path, encoder: ImageEncoder, weights: Weights) -> None:
    """The paper's file holds its own Q-Former: another encoder's outputs would mean nothing."""
    own: Any = getattr(encoder, "query_tokens", None)
    names = [n for n in weights.tensors if n.endswith("query_tokens") and "llm" not in n]
    if not isinstance(own, Tensor) or not names:
        return
    stored = weights.tensors[names[0]].read().float()
    if stored.shape != own.shape or not torch.allclose(
        stored, own.detach().float().cpu(), atol=1e-2, rtol=1e-2
    ):
        raise CheckpointError(
            f"captioner {path}: it holds another Q-Former than the connected encoder's. Load the "
            "encoder from this very file, with its vision tower as the second file."
        )
