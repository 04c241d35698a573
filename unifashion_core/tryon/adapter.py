"""The paper's task-specific adapter: an encoder's query outputs as context tokens of the try-on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..errors import AbilityError, CheckpointError, InputError, ShapeError
from ..types import Embedding
from ..weights import StoredTensor, fill_module, read_weights, shorten
from .checkpoint import TryOnModel
from .condition_encoders import ContextAdapter
from .config import AdapterConfig

_LAYER = "proj_layer."
_REFUSED = (
    "Try on: this model has no adapter for an encoder's embedding. Leave the embedding out and "
    "give a text, or load a model with adapter weights."
)


def attach_adapter(model: TryOnModel, path: Path) -> TryOnModel:
    """The model with the `proj_layer.*` weights of a file, such as the paper's none_lora.

    Args:
        model: Its context must be as wide as the encoder's query outputs: such a file has nothing
            that would change the width.
        path: A file that holds `proj_layer.*` beside whatever else.

    Raises:
        CheckpointError: If the weights are not there, incomplete, or of another width.
        FolderError: If there is nothing at the path.
    """
    found: dict[str, StoredTensor] = {}
    for name, stored in read_weights(path).tensors.items():
        if _LAYER in name:
            found[name[name.index(_LAYER) :]] = stored
    first = found.get(f"{_LAYER}dense1.weight")
    if first is None or len(first.shape) != 2:
        raise CheckpointError(
            f"adapter {path}: no {_LAYER}dense1.weight in it. Give the paper's none_lora file."
        )
    intermediate, hidden = first.shape
    wanted = model.config.unet.context_dim
    if hidden != wanted:
        raise CheckpointError(
            f"adapter {path}: it is {hidden} wide, this model's context {wanted}. Give a model "
            f"with a context of {hidden}, or train an adapter for this one."
        )
    config = AdapterConfig(hidden, intermediate)
    with torch.device("meta"):
        adapter = ContextAdapter(config, wanted)
    like = next(model.unet.parameters())
    fill_module(adapter, found, like.device, like.dtype, f"adapter {path}")
    adapter.eval().requires_grad_(False)
    return replace(model, config=replace(model.config, adapter=config), adapter=adapter)


@torch.inference_mode()
def encode_query_outputs(model: TryOnModel, outputs: Tensor) -> Tensor:
    """An encoder's outputs as context tokens.

    Args:
        model: Its adapter is used.
        outputs: Of the query positions, before projection, (B, T, hidden): of pictures, or of
            pictures and texts together.

    Returns:
        (B, T, context_dim), float32 on the CPU.

    Raises:
        AbilityError: If the model has no adapter.
        ShapeError: If the encoder is of another width than the adapter's.
    """
    adapter = model.adapter
    if adapter is None:
        raise AbilityError(_REFUSED)
    if outputs.ndim != 3 or outputs.shape[-1] != adapter.config.hidden:
        raise ShapeError(
            f"try-on adapter: outputs of shape {tuple(outputs.shape)}, wanted "
            f"(B, T, {adapter.config.hidden}). Connect the encoder that it was trained with."
        )
    like = next(adapter.parameters())
    return adapter(outputs.to(like.device, like.dtype)).float().cpu()


def join_context(texts: Tensor, adapted: Tensor) -> Tensor:
    """Text tokens, then the adapter's: (B, N, C) and (B, T, C) to (B, N + T, C).

    Raises:
        ShapeError: If batch or width differ.
    """
    if texts.shape[0] != adapted.shape[0] or texts.shape[2] != adapted.shape[2]:
        raise ShapeError(
            f"try-on context: text tokens {tuple(texts.shape)} and an adapter's "
            f"{tuple(adapted.shape)}. Give one of each an item, of one width."
        )
    return torch.cat([texts, adapted.to(texts)], dim=1)


def query_outputs(embedding: Embedding) -> Tensor:
    """What the adapter reads of a live embedding, (B, T, hidden).

    Raises:
        InputError: If one of its queries has none: of a text alone, of a gallery, or blended.
    """
    found: list[Tensor] = []
    for query in embedding.queries:
        outputs = query.parts[0].query_outputs if len(query.parts) == 1 else None
        if outputs is None:
            raise InputError(
                f"try-on: an embedding of {len(query.parts)} parts ({_kinds(embedding)}) without "
                "the encoder's query outputs. Encode a picture, or a picture with a text; a "
                "gallery's hit must be encoded again from its picture."
            )
        found.append(outputs)
    sizes = sorted({tuple(o.shape) for o in found})
    if len(sizes) != 1:
        raise InputError(f"try-on: {len(found)} embeddings of sizes {sizes}. Give one kind.")
    return torch.stack(found)


def _kinds(embedding: Embedding) -> str:
    return shorten({part.kind for query in embedding.queries for part in query.parts})
