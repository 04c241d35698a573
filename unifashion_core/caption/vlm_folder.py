"""Vision-language folders: transformers' own, and both of LLaVA's layouts over its class."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..deps import require
from ..errors import CheckpointError
from ..weights import StoredTensor, read_config, read_weights, shorten
from .adapters import merge_adapter, read_adapter
from .layouts import LlavaNames, is_original_llava, text_config, tower_config
from .llm_folder import (
    TRANSFORMERS,
    Placement,
    digest_tensors,
    folder_config,
    folder_digest,
    is_new,
    load_tokenizer,
    read_model,
    reading,
)
from .prompts import FAMILIES, family_of
from .vlm_processor import VisionPrompt, load_processor, pillow

_IMAGE = "<image>"
_EXTRA = ("non_lora_trainables.safetensors", "non_lora_trainables.bin")


@dataclass(frozen=True)
class Beside:
    """Finds the folders of other models that a captioner is made over.

    Attributes:
        base: Language model or LLaVA, where the caller names it.
        tower: CLIP folder of a LLaVA's vision tower, likewise.
    """

    base: Path | None = None
    tower: Path | None = None

    def find_base(self, captioner: Path, recorded: str, what: str) -> Path:
        """The given folder, else `llm` in the captioner's own, else one of the recorded name beside
        it.

        Raises:
            CheckpointError: If there is none.
        """
        near = (captioner / "llm", _sibling(captioner, recorded))
        return _first(self.base, near, f"captioner {captioner}: its {what}", recorded, "base")

    def find_tower(self, llava: Path, recorded: str) -> Path:
        """The given folder, else one of the recorded name beside the LLaVA.

        Raises:
            CheckpointError: If there is none.
        """
        near = (_sibling(llava, recorded),)
        return _first(self.tower, near, f"LLaVA {llava}: its vision tower", recorded, "tower")


def _sibling(folder: Path, recorded: str) -> Path | None:
    """A folder beside this one by the last part of a recorded name: no path is followed."""
    name = re.split(r"[/\\]", recorded.rstrip("/\\"))[-1]
    return folder.resolve().parent / name if name not in ("", ".", "..") else None


def _first(
    given: Path | None, near: Iterable[Path | None], what: str, recorded: str, argument: str
) -> Path:
    found = [p for p in near if p is not None and (p / "config.json").is_file()]
    if given is None and not found:
        named = f" '{recorded}'" if recorded else ""
        raise CheckpointError(
            f"{what}{named} was not found. Put its folder beside the captioner's, or name it "
            f"({argument})."
        )
    return given if given is not None else found[0]


@dataclass(frozen=True)
class VisionLanguageModel:
    """A loaded network with its processor.

    Attributes:
        network: In eval mode.
        prompts: Processor and prompt form.
        identity: Digest of all its weights.
        notes: What was found.
    """

    network: nn.Module
    prompts: VisionPrompt
    identity: str
    notes: tuple[str, ...] = ()


def image_text_types() -> frozenset[str]:
    """Every `model_type` that transformers' image-text-to-text class reads."""
    auto: Any = require(
        "transformers.models.auto.modeling_auto", package="transformers", minimum=TRANSFORMERS
    )
    return frozenset(auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)


def load_vision_language(folder: Path, place: Placement) -> VisionLanguageModel:
    """A folder of transformers' own layout.

    Raises:
        CheckpointError: If it can't be read without code from it, or parts are missing.
        MissingPackageError: If transformers, or what its processor needs, is absent.
    """
    where = f"captioner {folder}"
    config = folder_config(folder, where)
    processor = load_processor(folder, where)
    transformers: Any = require("transformers", minimum=TRANSFORMERS)
    identity = folder_digest(folder)
    network = read_model(transformers.AutoModelForImageTextToText, folder, place, where, config)
    prompts = VisionPrompt(processor, family_of(str(config["model_type"])))
    return VisionLanguageModel(network, prompts, identity)


def load_llava(folder: Path, place: Placement, beside: Beside) -> VisionLanguageModel:
    """A whole LLaVA-1.5 in its own layout.

    Args:
        folder: config.json, weights and tokenizer; the vision tower may lie in its CLIP folder.
        place: Attention, device, dtype.
        beside: Finds the CLIP folder that config.json names.

    Raises:
        CheckpointError: If weights are missing, unknown or of another shape.
    """
    where = f"captioner {folder}"
    config = folder_config(folder, where)
    text = text_config(config, where)
    tokenizer = load_tokenizer(folder, where)
    tensors = dict(read_weights(folder).tensors)
    recorded = str(config.get("mm_vision_tower") or "")
    tower = beside.tower or _sibling(folder, recorded)
    if not any(name.startswith("model.vision_tower.") for name in tensors):
        tower = beside.find_tower(folder, recorded)
        tensors |= _tower_tensors(tower)
    sizes = tower_config(tensors, None if tower is None else _config(tower), where)
    layer = int(config.get("mm_vision_select_layer", -2))
    network = _build(tensors, tokenizer, text, sizes, layer, place, where)
    processor = _processor([f for f in (folder, tower) if f is not None], tokenizer, sizes, where)
    prompts = VisionPrompt(processor, FAMILIES["llava"])
    identity = digest_tensors(tensors)
    return VisionLanguageModel(network, prompts, identity, ("LLaVA's own layout",))


def load_llava_adapter(folder: Path, place: Placement, beside: Beside) -> VisionLanguageModel:
    """A LoRA folder of LLaVA's training: adapter and projector over a LLaVA of either layout.

    Args:
        folder: The adapter's two files and non_lora_trainables.
        place: Attention, device, dtype.
        beside: Finds the model that the adapter names.

    Raises:
        CheckpointError: If a tensor of it fits nothing, or the model is no LLaVA-1.5.
    """
    where = f"captioner {folder}"
    adapter, extra = read_adapter(folder), trained_beside(folder)
    base = beside.find_base(folder, adapter.base, "LLaVA-1.5 model")
    original = is_original_llava(folder_config(base, where))
    found = load_llava(base, place, beside) if original else load_vision_language(base, place)
    names = LlavaNames.of(cast(Any, found.network).state_dict())
    _copy(found.network, extra, names, where)
    network = merge_adapter(found.network, adapter, names.layer, inside=names.language)
    parts = digest_tensors({**adapter.tensors, **extra})
    note = f"adapter of {len(adapter.layers)} layers merged into {base.name}"
    return VisionLanguageModel(
        network.eval(), found.prompts, f"{found.identity}+{parts}", (*found.notes, note)
    )


def trained_beside(folder: Path) -> dict[str, StoredTensor]:
    """What LLaVA trained whole beside an adapter; empty where the folder holds none."""
    files = [folder / name for name in _EXTRA if (folder / name).is_file()]
    return dict(read_weights(files[0]).tensors) if files else {}


@torch.no_grad()
def _copy(
    network: nn.Module, tensors: Mapping[str, StoredTensor], names: LlavaNames, where: str
) -> None:
    weights: dict[str, Tensor] = cast(Any, network).state_dict()
    for name, stored in tensors.items():
        new = names.rename(name)
        if new is None:
            continue
        target = weights.get(new)
        if target is None or tuple(target.shape) != stored.shape:
            raise CheckpointError(
                f"{where}: its {name} {stored.shape} does not fit the model "
                f"({'no such weight' if target is None else tuple(target.shape)}). Give the LLaVA "
                "that it was trained on."
            )
        target.copy_(stored.read())


def _build(
    tensors: Mapping[str, StoredTensor],
    tokenizer: Any,
    text: Mapping[str, Any],
    sizes: Mapping[str, Any],
    layer: int,
    place: Placement,
    where: str,
) -> nn.Module:
    """transformers' LLaVA with the weights of LLaVA's own names."""
    transformers: Any = require("transformers", minimum=TRANSFORMERS)
    rows = _rows(tensors, where)
    _add_image_token(tokenizer)
    count = max(rows, len(tokenizer))
    with reading(where, "configuration", "Get its config.json again"):
        config = transformers.LlavaConfig(
            vision_config=dict(sizes),
            text_config={**text, "model_type": "llama", "vocab_size": count},
            image_token_index=tokenizer.convert_tokens_to_ids(_IMAGE),
            vision_feature_layer=layer,
            vision_feature_select_strategy="default",
        )
        with torch.device("meta"):
            empty = transformers.LlavaForConditionalGeneration(config)
    state = _renamed(tensors, LlavaNames.of(empty.state_dict()), count)
    unknown = set(state) - set(empty.state_dict())
    if unknown:
        raise CheckpointError(
            f"{where}: {len(unknown)} of its weights have no place in a LLaVA-1.5 of this size: "
            f"{shorten(unknown)}. Check its config.json."
        )
    network = read_model(
        transformers.LlavaForConditionalGeneration,
        None,
        place,
        where,
        {},
        config=config,
        state_dict=state,
    )
    if count > rows:  # rows that were added for the picture's token have no trained logits
        network.generation_config.suppress_tokens = list(range(rows, count))
    return network


def _rows(tensors: Mapping[str, StoredTensor], where: str) -> int:
    found = [t.shape[0] for n, t in tensors.items() if n.endswith("model.embed_tokens.weight")]
    if len(found) != 1:
        raise CheckpointError(
            f"{where}: no embeddings of a language model (model.embed_tokens.weight) in it. Give a "
            "whole LLaVA, or the LoRA folder with its adapter."
        )
    return found[0]


def _add_image_token(tokenizer: Any) -> None:
    """LLaVA's own code keeps the picture's place outside the vocabulary; transformers' inside."""
    tokenizers: Any = require("tokenizers")
    if _IMAGE not in tokenizer.get_vocab():
        tokenizer.add_tokens([tokenizers.AddedToken(_IMAGE, normalized=False, special=True)])


def _renamed(
    tensors: Mapping[str, StoredTensor], names: LlavaNames, rows: int
) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for name, stored in tensors.items():
        new = names.rename(name)
        if new is None:
            continue
        value = stored.read()
        if new.endswith(("embed_tokens.weight", "lm_head.weight")) and len(value) < rows:
            value = torch.cat([value, value.new_zeros(rows - len(value), value.shape[1])])
        state[new] = value
    return state


def _tower_tensors(folder: Path) -> dict[str, StoredTensor]:
    """The vision side of a CLIP folder under LLaVA's names."""
    found = {
        f"model.vision_tower.vision_tower.{name}": t
        for name, t in read_weights(folder).tensors.items()
        if name.startswith("vision_model.")
    }
    if not found:
        raise CheckpointError(
            f"vision tower {folder}: no vision_model weights in it. Give a CLIP folder that "
            "transformers reads."
        )
    return found


def _config(folder: Path) -> dict[str, Any] | None:
    return read_config(folder) if folder.is_dir() else None


def _processor(
    folders: Iterable[Path], tokenizer: Any, sizes: Mapping[str, Any], where: str
) -> Any:
    """LLaVA's processor over the image settings of the first folder that has some."""
    transformers: Any = require("transformers", minimum=TRANSFORMERS)
    image: Any = None
    for folder in folders:
        if image is None and (folder / "preprocessor_config.json").is_file():
            with reading(where, "image settings", "Get its preprocessor_config.json again"):
                image = transformers.AutoImageProcessor.from_pretrained(
                    str(folder), local_files_only=True, trust_remote_code=False, **pillow()
                )
    if image is None:
        kind = transformers.CLIPImageProcessorPil if is_new() else transformers.CLIPImageProcessor
        side = int(sizes["image_size"])
        image = kind(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    return transformers.LlavaProcessor(
        image_processor=image,
        tokenizer=tokenizer,
        patch_size=int(sizes["patch_size"]),
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
