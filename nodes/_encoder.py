"""Encoders under the host's model manager, which several topics load."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..unifashion_core.attention import choose_attention
from ..unifashion_core.pocket import BERT_VOCABULARY, EFFICIENTNET_LITE0, ENCODER
from ._comfy import attention_function, device, manage, model_dtype, offload_device, user_cache
from ._types import ManagedEncoder

if TYPE_CHECKING:
    from ..unifashion_core.encoder.checkpoint import LoadReport

_PARAMETERS = 1_200_000_000  # of the paper's encoder: what the host decides the dtype for


def load_managed(
    path: Path,
    tower: Path | None,
    gallery_queries: str | None = None,
    attention: str = "auto",
) -> tuple[ManagedEncoder, LoadReport]:
    """Open an encoder in the host's dtype; arguments as `open_encoder` takes them."""
    from ..unifashion_core.encoder.checkpoint import Placement, open_encoder
    from ..unifashion_core.encoder.memory import activation_bytes

    dtype = model_dtype(_PARAMETERS)
    backend = choose_attention(attention, device(), dtype, attention_function())
    found = open_encoder(
        path,
        Placement(backend, offload_device(), dtype),
        tower=tower,
        gallery_queries=gallery_queries,
        bert_vocabulary=BERT_VOCABULARY,
        cache=user_cache(),
    )
    patcher = manage(found.encoder.model, name="UniFashionEncoder")
    each = activation_bytes(found.encoder, 1)
    return ManagedEncoder(found.encoder, patcher, each), found.report


def pocket_encoder() -> ManagedEncoder:
    """The encoder that ships."""
    return load_managed(ENCODER, EFFICIENTNET_LITE0)[0]
