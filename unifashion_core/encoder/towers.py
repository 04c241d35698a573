"""A vision tower from a file of its own: BLIP-2's file and none_lora hold none, and the pocket
encoder's ships apart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import CheckpointError
from ..weights import StoredTensor, read_config, read_weights, shorten
from .clip_tower import read_clip_tower
from .config import EncoderConfig, TowerConfig
from .efficientnet_lite import LITE0_WIDTH, convert_lite0
from .layouts import TOWER, EncoderState, Tensors, from_hugging_face, unwrap_names, with_tower
from .sizes import own_config, tower_from_shapes

_CLIP_TYPES = ("clip", "clip_vision_model")
_EVA_PARTS = ("cls_token", "pos_embed", "patch_embed.", "blocks.", "norm.", "fc_norm.", "head.")
_LITE0_PARTS = ("stem.", "blocks.", "head.")
_ACCEPTED = (
    "Accepted are eva_vit_g.pth, any encoder checkpoint with a visual_encoder, a CLIPVisionModel "
    "folder, and this pack's efficientnet_lite0"
)


@dataclass(frozen=True)
class _Tower:
    tensors: Tensors
    others: int
    files: tuple[Path, ...]
    config: TowerConfig | None = None


def add_tower(state: EncoderState, path: Path) -> EncoderState:
    """Complete an encoder with the tower of a second file.

    Args:
        state: As recognised; where its config does not tell the tower, the second file does.
        path: File or folder of the tower.

    Raises:
        CheckpointError: If the file holds no tower, another kind, or one of another width.
    """
    found = _read_tower(path)
    if state.settled:
        config = state.config
        if found.config is not None and found.config.kind != config.tower.kind:
            raise CheckpointError(
                f"tower {path}: a {found.config.kind}, the encoder was made with "
                f"{config.tower.kind}. "
                "Give the tower that belongs to it."
            )
        _check_invisible(config.tower, found.config, path)
    else:
        config = _with_tower_config(state.config, found, path)
    _check_width(config, path)
    state = replace(state, config=config, files=(*state.files, *found.files))
    if found.others:
        note = f"of {path.name} the tower alone is used, {found.others} other weights are not"
        state = replace(state, notes=(*state.notes, note))
    return with_tower(state, found.tensors)


def _check_invisible(wanted: TowerConfig, found: TowerConfig | None, path: Path) -> None:
    """What no shape tells must agree where both sides tell it."""
    if found is None or wanted.kind == "efficientnet_lite0":
        return
    for name in (
        "heads",
        "layer_norm_eps",
        *(("activation",) if wanted.kind == "clip_vit" else ()),
    ):
        if getattr(wanted, name) != getattr(found, name):
            raise CheckpointError(
                f"tower {path}: its {name} is {getattr(found, name)}, the encoder was made with "
                f"{getattr(wanted, name)}. Give the tower that belongs to it."
            )


def _with_tower_config(config: EncoderConfig, found: _Tower, path: Path) -> EncoderConfig:
    tower = found.config or tower_from_shapes(path, found.tensors)
    pre = replace(config.preprocess, size=tower.image_size)
    return replace(config, tower=tower, preprocess=pre)


def _check_width(config: EncoderConfig, path: Path) -> None:
    kind = config.tower.kind
    given = LITE0_WIDTH if kind == "efficientnet_lite0" else config.tower.width
    pca = config.stem.kind == "pca"
    wanted = config.stem.in_width if pca else config.qformer.vision_width
    if given != wanted:
        raise CheckpointError(
            f"tower {path}: its tokens have width {given}, the encoder reads {wanted}. "
            "Give the tower that belongs to it."
        )


def _read_tower(path: Path) -> _Tower:
    if path.is_dir() and (read_config(path) or {}).get("model_type") in _CLIP_TYPES:
        return _read_clip(path)
    weights = read_weights(path)
    named = unwrap_names(path, weights.tensors)
    if "vision_model.encoder.layers.0.self_attn.qkv.weight" in named:
        named = from_hugging_face(named)
    if any(name.startswith(TOWER) for name in named):
        parts = {name: t for name, t in named.items() if name.startswith(TOWER)}
    else:
        parts = _bare(named, path)
    own = own_config(weights)
    return _Tower(parts, len(named) - len(parts), weights.files, _kind(parts, own))


def _bare(named: Tensors, path: Path) -> dict[str, StoredTensor]:
    """A network saved by itself, told by its names."""
    if "blocks.0.attn.q_bias" in named and "cls_token" in named:
        return {TOWER + n: t for n, t in named.items() if n.startswith(_EVA_PARTS)}
    if "blocks.0.depthwise.weight" in named:
        return {TOWER + n: t for n, t in named.items() if n.startswith(_LITE0_PARTS)}
    if "_conv_stem.weight" in named:  # the package efficientnet-lite-pytorch, BatchNorm not folded
        state = convert_lite0({name: t.read() for name, t in named.items()})
        return {TOWER + name: StoredTensor.of(t) for name, t in state.items()}
    raise CheckpointError(
        f"tower {path}: no vision tower, it holds {shorten(named, 4)}. {_ACCEPTED}."
    )


def _kind(parts: Tensors, own: EncoderConfig | None) -> TowerConfig | None:
    """What is known of the tower without the encoder's config."""
    if own is not None:
        return own.tower
    if f"{TOWER}blocks.0.depthwise.weight" in parts:
        return TowerConfig("efficientnet_lite0", width=LITE0_WIDTH)
    return None


def _read_clip(folder: Path) -> _Tower:
    weights = read_weights(folder)  # refuses what is unsafe before transformers opens it
    config, state = read_clip_tower(folder)
    tensors = {TOWER + name: StoredTensor.of(t) for name, t in state.items()}
    others = sum(1 for name in weights.tensors if not name.startswith("vision_model."))
    return _Tower(tensors, others, weights.files, config)
