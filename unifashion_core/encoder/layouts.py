"""Recognise the layout of an encoder checkpoint and give its weights our key names, which are the
original checkpoint's.

Nothing is read or converted here but the split of Hugging Face's fused bias: the values stay in
their files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from ..errors import CheckpointError
from ..weights import StoredTensor, Weights, shorten
from .config import EncoderConfig
from .sizes import config_from_files

Tensors = Mapping[str, StoredTensor]

GROUP_PARTS = {"itm": "itm_head.", "lm": "Qformer.cls.", "prompt": "prompt_tokens"}
"""Optional parts of a checkpoint by group; each is whole or absent. `temp` is one number, 0.07 when
absent.
"""

TOWER = "visual_encoder."

ACCEPTED = (
    "Accepted are the original BLIP-2 file, UniFashion's training files (Blip2QformerCirCls, "
    "Blip2QformerCirRerank, "
    "none_lora_*.pt), a Hugging Face Blip2ForImageTextRetrieval folder, a folder saved by this "
    "pack, "
    "and a CLIP or SigLIP folder that transformers reads"
)

# DistributedDataParallel, PEFT and plain wrappers, in any order.
_WRAPPERS = re.compile(r"^(?:(?:module|base_model|model)\.)+")
# Inside these an unknown name means another network, and its features would be wrong without a
# word.
_OURS = (TOWER, "stem.", "ln_vision.", "Qformer.", "vision_proj.", "text_proj.", "itm_head.")
_BUFFERS = re.compile(r"(^|\.)(position_ids|num_batches_tracked)$")
_TOWER_END = re.compile(r"^visual_encoder\.(norm|fc_norm|head)\.")
_TOWER_BLOCK = re.compile(r"^visual_encoder\.blocks\.(\d+)\.")


@dataclass(frozen=True)
class EncoderState:
    """An encoder's weights under our names.

    Attributes:
        config: All sizes; its tower is the default where the file holds none and no config.json
            tells.
        tensors: By our names; without `visual_encoder.*` where a second file has to bring the
            tower.
        layout: What the file is, in words.
        dropped: Names of the file that are not used.
        notes: What the user should know.
        files: The weight files behind it.
        settled: Whether the config's tower is known.
    """

    config: EncoderConfig
    tensors: Tensors
    layout: str
    dropped: tuple[str, ...]
    notes: tuple[str, ...]
    files: tuple[Path, ...]
    settled: bool

    @property
    def groups(self) -> frozenset[str]:
        """Optional groups of which at least one weight is there."""
        return frozenset(
            g for g, p in GROUP_PARTS.items() if any(k.startswith(p) for k in self.tensors)
        )

    @property
    def has_tower(self) -> bool:
        """Whether the vision tower is in the file."""
        return any(name.startswith(TOWER) for name in self.tensors)


def recognise(weights: Weights, config: EncoderConfig | None = None) -> EncoderState:
    """Find out which layout a file has, and rename.

    Args:
        weights: As read.
        config: The sizes, where the caller knows them.

    Raises:
        CheckpointError: If the layout is unknown, two names fall together, or sizes can be read
            neither from the weights nor from a config.json.
    """
    named = unwrap_names(weights.path, weights.tensors)
    if any(name.startswith("Qformer.bert.") for name in named):
        tensors, layout = named, _describe(weights)
    elif any(name.startswith("qformer.encoder.layer.") for name in named):
        tensors, layout = from_hugging_face(named), "Hugging Face Blip2ForImageTextRetrieval"
    else:
        raise CheckpointError(
            f"encoder {weights.path}: no known layout, it holds {shorten(weights.tensors, 4)}. "
            f"{ACCEPTED}."
        )
    found = config_from_files(weights, tensors, config)
    used = {name: t for name, t in tensors.items() if _is_used(name, found.config)}
    return EncoderState(
        config=found.config,
        tensors=used,
        layout=layout,
        dropped=tuple(sorted(set(tensors) - set(used))),
        notes=(*weights.notes, *found.notes),
        files=weights.files,
        settled=found.settled,
    )


def check_state(path: Path, state: EncoderState, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Compare with the names and shapes of the network that the config describes.

    Args:
        path: For the message.
        state: With its tower.
        shapes: Of the built network, by name.

    Raises:
        CheckpointError: If a required name is missing, a group is half there, a shape differs, or a
            name is unknown; it names them.
    """
    found = state.tensors
    missing = [name for name in shapes if name not in found and name != "temp"]
    half = {g: [n for n in missing if n.startswith(p)] for g, p in GROUP_PARTS.items()}
    required = set(missing) - {name for names in half.values() for name in names}
    if required:
        raise CheckpointError(
            f"encoder {path}: {len(required)} required weights are missing: {shorten(required)}. "
            "Get a complete checkpoint; the tower may come from a second file."
        )
    for group, names in half.items():
        if names:
            raise CheckpointError(
                f"encoder {path}: group {GROUP_PARTS[group].strip('.')} is half there, missing: "
                f"{shorten(names)}. Get a checkpoint with the whole group, or with none of it."
            )
    unknown = set(found) - set(shapes)
    if unknown:
        raise CheckpointError(
            f"encoder {path}: unknown weights where the network has none: {shorten(unknown)}. "
            f"It is another network, or its config.json tells other sizes. {ACCEPTED}."
        )
    wrong = [
        f"{name} is {found[name].shape}, wanted {shape}"
        for name, shape in shapes.items()
        if name in found and found[name].shape != tuple(shape)
    ]
    if wrong:
        raise CheckpointError(
            f"encoder {path}: wrong shapes: {shorten(wrong, 4)}. Check config.json, or get the "
            "checkpoint again."
        )


def with_tower(state: EncoderState, tower: Tensors) -> EncoderState:
    """Put the tower of a second file in; it takes the place of one that is there.

    Args:
        state: Its config already tells the tower's sizes.
        tower: Under `visual_encoder.*`.
    """
    notes = state.notes
    if state.has_tower:
        notes = (*notes, "the tower comes from the second file, the checkpoint's own is not used")
    own = {name: t for name, t in state.tensors.items() if not name.startswith(TOWER)}
    used = {name: t for name, t in tower.items() if _is_used(name, state.config)}
    unused = set(tower) - set(used)
    return replace(
        state,
        tensors=own | used,
        dropped=tuple(sorted({*state.dropped, *unused})),
        notes=notes,
        settled=True,
    )


def unwrap_names(path: Path, tensors: Tensors) -> dict[str, StoredTensor]:
    """Names without what DistributedDataParallel or PEFT put before them.

    Raises:
        CheckpointError: If two names become one.
    """
    origin: dict[str, str] = {}
    for name in tensors:
        bare = _WRAPPERS.sub("", name)
        if bare in origin:
            raise CheckpointError(
                f"encoder {path}: {origin[bare]} and {name} are the same weight. "
                "Give a file with one network."
            )
        origin[bare] = name
    return {bare: tensors[name] for bare, name in origin.items()}


_HF_FIXED = {
    "vision_model.embeddings.class_embedding": "visual_encoder.cls_token",
    "vision_model.embeddings.position_embedding": "visual_encoder.pos_embed",
    "qformer.layernorm.weight": "Qformer.bert.embeddings.LayerNorm.weight",
    "qformer.layernorm.bias": "Qformer.bert.embeddings.LayerNorm.bias",
}
# The same facts as Hugging Face's conversion script; ours is written from the two sets of names.
_HF_VIT = r"^vision_model\.encoder\.layers\.(\d+)\."
_HF_ATTENTION = r"^qformer\.encoder\.(layer\.\d+\.(?:cross)?attention)\.attention\."
_HF_RULES = (
    (r"^vision_model\.embeddings\.patch_embedding\.", "visual_encoder.patch_embed.proj."),
    (_HF_VIT + r"layer_norm([12])\.", r"visual_encoder.blocks.\1.norm\2."),
    (_HF_VIT + r"self_attn\.projection\.", r"visual_encoder.blocks.\1.attn.proj."),
    (_HF_VIT + r"self_attn\.", r"visual_encoder.blocks.\1.attn."),
    (_HF_VIT + r"mlp\.", r"visual_encoder.blocks.\1.mlp."),
    (r"^vision_model\.post_layernorm\.", "ln_vision."),
    (r"^embeddings\.", "Qformer.bert.embeddings."),
    (_HF_ATTENTION, r"Qformer.bert.encoder.\1.self."),
    (r"^qformer\.encoder\.", "Qformer.bert.encoder."),
    (r"^vision_projection\.", "vision_proj."),
    (r"^text_projection\.", "text_proj."),
)
_HF_PATTERNS = tuple((re.compile(pattern), new) for pattern, new in _HF_RULES)


def from_hugging_face(tensors: Tensors) -> dict[str, StoredTensor]:
    """Names of transformers' Blip2ForImageTextRetrieval (or its vision model) as ours; unknown ones
    stay.

    Raises:
        CheckpointError: If the keys of the tower's attention have a bias, which the original
            network can't hold.
    """
    renamed: dict[str, StoredTensor] = {}
    for name, tensor in tensors.items():
        new = _rename(name)
        if new.startswith(TOWER) and new.endswith(".attn.qkv.bias"):
            renamed |= _split_bias(new.removesuffix("qkv.bias"), tensor)
        else:
            renamed[new] = tensor
    return renamed


def _rename(name: str) -> str:
    if name in _HF_FIXED:
        return _HF_FIXED[name]
    for pattern, new in _HF_PATTERNS:
        renamed, count = pattern.subn(new, name)
        if count:
            return renamed
    return name


def _split_bias(prefix: str, fused: StoredTensor) -> dict[str, StoredTensor]:
    """q's and v's bias of a fused one, (3W,) -> (W,) each."""
    width = fused.shape[0] // 3

    def part(index: int) -> StoredTensor:
        def read() -> Tensor:
            bias = fused.read()
            if bool(bias[width : 2 * width].any()):
                raise CheckpointError(
                    f"encoder: {prefix}qkv.bias has a bias for the keys, which this tower can't "
                    "hold. "
                    "Give weights that were converted from the original BLIP-2."
                )
            return bias[index * width : (index + 1) * width]

        return StoredTensor((width,), fused.dtype, read)

    return {f"{prefix}q_bias": part(0), f"{prefix}v_bias": part(2)}


def _is_used(name: str, config: EncoderConfig) -> bool:
    """False for dead extras: heads that nothing reads, a language model, buffers, the end of the
    EVA network.
    """
    if _BUFFERS.search(name) or (config.tower.kind == "eva_vit" and _TOWER_END.match(name)):
        return False
    block = _TOWER_BLOCK.match(name)
    if config.tower.kind == "eva_vit" and block and int(block[1]) == config.tower.layers:
        return False  # EVA has one block more than the encoder uses
    return name.startswith(_OURS) or name in ("query_tokens", "prompt_tokens", "temp")


def _describe(weights: Weights) -> str:
    if "unifashion_config" in weights.metadata:
        return "folder of this pack" if weights.path.is_dir() else "file of this pack"
    epoch = weights.values.get("epoch")
    where = f" in '{weights.container[-1]}'" if weights.container else ""
    when = f", epoch {epoch}" if isinstance(epoch, int) else ""
    return f"original key names{where}{when}"
