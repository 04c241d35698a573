"""The multimodal encoder's network: tower, stem, ln_vision, Q-Former, projections and heads under
the original key names.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..attention import AttentionBackend
from ..errors import AbilityError, InputError
from .clip_tower import ClipTower
from .config import EncoderConfig, StemConfig
from .efficientnet_lite import HEAD_WIDTH, EfficientNetLite0
from .eva_vit import EvaVit
from .qformer import LayerCache, QFormer

GROUPS = frozenset({"itm", "lm", "prompt"})
"""Optional parts of a checkpoint: itm_head, Qformer.cls, prompt_tokens."""

Queries = Literal["query", "prompt"]
"""Which learned tokens ask the image: query_tokens or prompt_tokens."""


@dataclass(frozen=True)
class TowerOutput:
    """What a tower makes of B images.

    Attributes:
        tokens: (B, P, tower width).
        pooled: The tower's pooled feature, (B, C), or None where it has none.
    """

    tokens: Tensor
    pooled: Tensor | None = None


@dataclass(frozen=True)
class DecodeState:
    """Where a caption stands: the cached image and text so far.

    Attributes:
        cache: Keys and values, one entry a layer.
        num_queries: Cached positions that are queries.
    """

    cache: tuple[LayerCache, ...]
    num_queries: int

    @property
    def length(self) -> int:
        """Text tokens decoded so far."""
        return self.cache[0][0].shape[2] - self.num_queries

    def select(self, rows: Tensor) -> DecodeState:
        """The state of other rows: (N,) indices into the batch, repeated as a beam search needs."""
        return replace(self, cache=tuple((k[rows], v[rows]) for k, v in self.cache))


class Stem(nn.Module):
    """A fixed linear map of the tower's tokens (a PCA), and of its pooled feature as one token
    more.

    Its tensors are buffers: they are fitted in closed form, never trained.
    """

    mean: Tensor
    weight: Tensor
    pooled_mean: Tensor
    pooled_weight: Tensor

    def __init__(self, config: StemConfig, pooled_width: int) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean", torch.zeros(config.in_width))
        self.register_buffer("weight", torch.zeros(config.out_width, config.in_width))
        if config.pooled_token:
            self.register_buffer("pooled_mean", torch.zeros(pooled_width))
            self.register_buffer("pooled_weight", torch.zeros(config.out_width, pooled_width))

    def forward(self, tower: TowerOutput) -> Tensor:
        """(B, P, in_width) -> (B, P, out_width), or (B, 1 + P, out_width) with the pooled token in
        front.
        """
        tokens = (tower.tokens.to(self.weight.dtype) - self.mean) @ self.weight.T
        if not self.config.pooled_token:
            return tokens
        if tower.pooled is None:
            raise InputError(
                "stem: a pooled token is configured, the tower gives none. "
                "Use the efficientnet_lite0 tower, or set pooled_token to false."
            )
        pooled = (tower.pooled.to(self.weight.dtype) - self.pooled_mean) @ self.pooled_weight.T
        return torch.cat([pooled[:, None], tokens], dim=1)


class UniFashionEncoderModel(nn.Module):
    """The network. Everything takes and gives tensors; preprocessing, texts and grouping are
    `MultimodalEncoder`'s.

    Source: Li et al. 2023 (BLIP-2), section 3; UniFashion, ACL Anthology 2024.emnlp-main.89,
    section 3.
    """

    stem: Stem | None

    def __init__(
        self,
        config: EncoderConfig,
        attention: AttentionBackend,
        groups: Iterable[str] = GROUPS,
    ) -> None:
        """Build it with empty weights.

        Args:
            config: All sizes.
            attention: What every attention goes through.
            groups: Which of `GROUPS` the checkpoint has.
        """
        super().__init__()
        q = config.qformer
        self.config = config
        self.groups = frozenset(groups)
        self.visual_encoder = _build_tower(config, attention)
        self.stem = Stem(config.stem, HEAD_WIDTH) if config.stem.kind == "pca" else None
        self.ln_vision = nn.LayerNorm(q.vision_width, eps=config.ln_vision_eps)
        self.Qformer = QFormer(q, attention, lm_head="lm" in self.groups)
        self.query_tokens = nn.Parameter(torch.zeros(1, q.num_query_tokens, q.hidden))
        if "prompt" in self.groups:
            self.prompt_tokens = nn.Parameter(torch.zeros(1, q.num_query_tokens, q.hidden))
        self.vision_proj = nn.Linear(q.hidden, q.embed_dim)
        self.text_proj = nn.Linear(q.hidden, q.embed_dim)
        if "itm" in self.groups:
            self.itm_head = nn.Linear(q.hidden, 2)
        self.temp = nn.Parameter(torch.tensor(0.07))

    # Image side

    def tower(self, pixels: Tensor) -> TowerOutput:
        """Normalised pixels (B, 3, H, W) to tower tokens; what training caches with the stem after
        it.
        """
        if isinstance(self.visual_encoder, EfficientNetLite0):
            tokens, pooled = self.visual_encoder(pixels)
            return TowerOutput(tokens, pooled)
        return TowerOutput(self.visual_encoder(pixels))

    def stem_tokens(self, tower: TowerOutput) -> Tensor:
        """Tower output to the width that ln_vision takes, (B, P, W); unchanged without a stem."""
        return tower.tokens if self.stem is None else self.stem(tower)

    def normalise(self, tokens: Tensor) -> Tensor:
        """ln_vision in float32, cast to the Q-Former's dtype, (B, P, W)."""
        ln = self.ln_vision
        out = F.layer_norm(
            tokens.float(), ln.normalized_shape, ln.weight.float(), ln.bias.float(), ln.eps
        )
        return out.to(self.query_tokens.dtype)

    def encode_vision(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) to what the Q-Former reads, (B, P, W)."""
        return self.normalise(self.stem_tokens(self.tower(pixels)))

    def image_states(self, vision: Tensor, queries: Queries = "query") -> Tensor:
        """Q-Former outputs of images alone, (B, P, W) -> (B, Q, hidden)."""
        return self.Qformer(self.query_set(queries), vision=vision).states

    def project_images(self, states: Tensor) -> Tensor:
        """Query outputs (B, Q, hidden) to unit vectors (B, Q, D)."""
        return F.normalize(self.vision_proj(states), dim=-1)

    def image_features(self, vision: Tensor, queries: Queries = "query") -> Tensor:
        """Images to the vectors that a gallery keeps, (B, P, W) -> (B, Q, D)."""
        return self.project_images(self.image_states(vision, queries))

    # Text and composed

    def text_states(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Q-Former outputs of texts alone, (B, L) -> (B, L, hidden)."""
        return self.Qformer(ids=ids, text_mask=mask).states

    def text_features(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Texts to unit vectors, (B, L) -> (B, D), by the first token."""
        return F.normalize(self.text_proj(self.text_states(ids, mask)[:, 0]), dim=-1)

    def composed_states(
        self, vision: Tensor, ids: Tensor, mask: Tensor, queries: Queries = "query"
    ) -> Tensor:
        """Q-Former outputs of images with texts, (B, Q + L, hidden)."""
        return self.Qformer(self.query_set(queries), ids, mask, vision).states

    def project_composed(self, states: Tensor) -> Tensor:
        """Composed outputs (B, Q + L, hidden) to unit vectors (B, D): the text's first token,
        through text_proj.
        """
        first = self.config.qformer.num_query_tokens
        return F.normalize(self.text_proj(states[:, first]), dim=-1)

    def composed_features(self, vision: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """Reference images with modification texts to unit vectors, (B, D)."""
        return self.project_composed(self.composed_states(vision, ids, mask))

    # Heads

    def itm_logits(
        self, vision: Tensor, ids: Tensor, mask: Tensor, queries: Queries = "query"
    ) -> Tensor:
        """Match of each image with its text: the mean over the queries of itm_head, (B, 2); class 1
        = match.

        Raises:
            AbilityError: If the checkpoint has no itm_head.
        """
        self.need("itm")
        states = self.composed_states(vision, ids, mask, queries)
        return self.itm_head(states[:, : self.config.qformer.num_query_tokens]).mean(dim=1)

    def rerank_probability(
        self, reference: Tensor, target: Tensor, ids: Tensor, mask: Tensor
    ) -> Tensor:
        """How well targets answer composed queries: ITM over the tokens of both images, (B,), in
        0..1.

        Args:
            reference: Of the queries' images, (B, P, W).
            target: Of the candidates, (B, P', W).
            ids: Modification texts, (B, L).
            mask: 1 where a token is real, (B, L).
        """
        logits = self.itm_logits(torch.cat([reference, target], dim=1), ids, mask)
        return logits.float().softmax(dim=-1)[:, 1]

    def image_cache(self, vision: Tensor, queries: Queries = "query") -> tuple[Tensor, DecodeState]:
        """An image pass whose keys and values a caption can follow: the states (B, Q, hidden) and
        the cache.
        """
        out = self.Qformer(self.query_set(queries), vision=vision, use_cache=True)
        assert out.cache is not None
        return out.states, DecodeState(out.cache, self.config.qformer.num_query_tokens)

    def lm_logits(self, ids: Tensor, mask: Tensor, state: DecodeState) -> Tensor:
        """Next-token logits of whole captions, (B, L) -> (B, L, vocabulary).

        Args:
            ids: Captions whose first token is [DEC].
            mask: 1 where a token is real, (B, L).
            state: Of `image_cache`.

        Raises:
            AbilityError: If the checkpoint has no LM head.
        """
        self.need("lm")
        out = self.Qformer.decode(ids, mask, state.cache, state.num_queries)
        return self.Qformer.logits(out.states)

    def decode_step(self, ids: Tensor, state: DecodeState) -> tuple[Tensor, DecodeState]:
        """One more token of every caption.

        Args:
            ids: The token before, (B,); [DEC] at first.
            state: Of `image_cache` or the step before.

        Returns:
            Logits of the next token, (B, vocabulary), and the state after.

        Raises:
            AbilityError: If the checkpoint has no LM head.
        """
        self.need("lm")
        out = self.Qformer.decode(ids[:, None], None, state.cache, state.num_queries)
        assert out.cache is not None
        return self.Qformer.logits(out.states)[:, 0], replace(state, cache=out.cache)

    # Parts

    def query_set(self, queries: Queries) -> Tensor:
        """The learned tokens by name, (1, Q, hidden).

        Raises:
            AbilityError: If the checkpoint has no prompt_tokens.
        """
        if queries == "query":
            return self.query_tokens
        self.need("prompt")
        return self.prompt_tokens

    def need(self, group: str) -> None:
        """Raise an AbilityError that names a group which the checkpoint lacks."""
        if group not in self.groups:
            parts = {"itm": "itm_head", "lm": "Qformer.cls", "prompt": "prompt_tokens"}
            raise AbilityError(
                f"encoder: its checkpoint has no {parts[group]} (group '{group}'). "
                "Load a checkpoint that has it."
            )

    def initialise(self, seed: int) -> None:
        """Fresh weights for training from scratch, as BERT and the paper draw them; the stem and a
        frozen Lite0 stay.

        Args:
            seed: Same seed, same weights; on the CPU.
        """
        generator = torch.Generator().manual_seed(seed)
        modules: list[tuple[str, nn.Module]] = list(cast(Any, self).named_modules())
        with torch.no_grad():
            for name, module in modules:
                if name.startswith("visual_encoder") and self.config.tower.kind != "eva_vit":
                    continue
                if isinstance(module, nn.Linear | nn.Embedding | nn.Conv2d):
                    module.weight.normal_(0, 0.02, generator=generator)
                    if not isinstance(module, nn.Embedding) and module.bias is not None:
                        module.bias.zero_()
                elif isinstance(module, nn.LayerNorm):
                    module.reset_parameters()
            for name, parameter in self.named_parameters():
                if name.endswith(("_tokens", "cls_token", "pos_embed")):
                    parameter.normal_(0, 0.02, generator=generator)


def _build_tower(config: EncoderConfig, attention: AttentionBackend) -> nn.Module:
    kind = config.tower.kind
    if kind == "eva_vit":
        return EvaVit(config.tower, attention)
    if kind == "clip_vit":
        return ClipTower(config.tower, attention)
    return EfficientNetLite0()
