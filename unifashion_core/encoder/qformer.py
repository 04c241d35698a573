"""The Q-Former: a BERT whose learned queries read an image by cross-attention, in four modes over
one set of weights.

* image: queries alone, cross-attending to the image;
* text: text alone, both directions;
* composed: queries and text in one self-attention, the queries cross-attending to the image;
* LM: causal text over the cached keys and values of an image pass.

Key names are the original checkpoint's (`bert.*`, `cls.*`). No transformers: its Q-Former has no LM
mode and goes through no attention interface.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..attention import AttentionBackend
from ..errors import AbilityError, InputError, ShapeError
from .config import QFormerConfig

LayerCache = tuple[Tensor, Tensor]
"""Self-attention keys and values of one layer, (B, H, M, K) each."""


@dataclass(frozen=True)
class QFormerOutput:
    """What one pass gives.

    Attributes:
        states: Last layer's outputs, (B, Q + L, hidden), queries first.
        cache: One entry a layer, queries (and earlier text) included, or None where it was not
            asked for.
    """

    states: Tensor
    cache: tuple[LayerCache, ...] | None = None


class QFormer(nn.Module):
    """The network. Query tokens are arguments: the encoder owns them.

    Source: Li et al. 2023 (BLIP-2), section 3.1; BERT as in Devlin et al. 2019.
    """

    def __init__(
        self, config: QFormerConfig, attention: AttentionBackend, *, lm_head: bool = True
    ) -> None:
        super().__init__()
        self.config = config
        self.bert = _Bert(config, attention)
        self.cls = _LmHead(config) if lm_head else None
        self.tied = True
        self._tie()
        cast(Any, self).register_load_state_dict_post_hook(_tie_after_load)

    def forward(
        self,
        queries: Tensor | None = None,
        ids: Tensor | None = None,
        text_mask: Tensor | None = None,
        vision: Tensor | None = None,
        *,
        use_cache: bool = False,
    ) -> QFormerOutput:
        """The image, text and composed modes, by which of the arguments are there.

        Args:
            queries: Query tokens, (1 or B, Q, hidden).
            ids: Text, (B, L).
            text_mask: 1 where a token is real, (B, L).
            vision: Image tokens after ln_vision, (B, P, vision_width).
            use_cache: Whether to return the self-attention's keys and values.

        Raises:
            InputError: If there are neither queries nor text, or a text without mask.
            ShapeError: If a text is longer than the position table.
        """
        x, count = self._embed(queries, ids, vision)
        mask = None
        if ids is not None:
            if text_mask is None:
                raise InputError("Q-Former: a text came without its mask. Pass both.")
            mask = _padding_mask(text_mask, count)
        return self.bert.encoder(x, mask, count, vision, use_cache=use_cache)

    def decode(
        self,
        ids: Tensor,
        text_mask: Tensor | None,
        cache: tuple[LayerCache, ...],
        num_queries: int,
    ) -> QFormerOutput:
        """The LM mode: text that sees every cached position and the text before it.

        Args:
            ids: The next tokens, (B, L); the first pass starts with the [DEC] id.
            text_mask: 1 where a token is real, cached text included, (B, past text + L); None when
                all are.
            cache: Of the image pass, or of the last `decode`.
            num_queries: How many of the cached positions are queries, which take no text position.

        Returns:
            States of the new tokens, (B, L, hidden), and the longer cache.
        """
        past = cache[0][0].shape[2]
        x = self.bert.embeddings(ids, offset=past - num_queries)
        length = ids.shape[1]
        mask = torch.ones(length, past + length, dtype=torch.bool, device=ids.device).tril(past)
        mask = mask[None, None]  # (1, 1, L, past + L)
        if text_mask is not None:
            mask = mask & _padding_mask(text_mask, num_queries)
        return self.bert.encoder(x, mask, 0, None, past=cache, use_cache=True)

    def logits(self, states: Tensor) -> Tensor:
        """Next-token logits of LM states, (B, L, hidden) -> (B, L, vocabulary).

        Raises:
            AbilityError: If the checkpoint has no LM head.
        """
        if self.cls is None:
            raise AbilityError(
                "encoder: its checkpoint has no LM head (group Qformer.cls). "
                "Load one that has it, such as a phase-1 checkpoint."
            )
        return self.cls.predictions(states)

    def _embed(
        self, queries: Tensor | None, ids: Tensor | None, vision: Tensor | None
    ) -> tuple[Tensor, int]:
        """Queries and embedded text in one sequence, and the number of queries."""
        if queries is None and ids is None:
            raise InputError("Q-Former: neither queries nor text. Pass at least one of them.")
        parts: list[Tensor] = []
        count = 0
        if queries is not None:
            batch = next(t.shape[0] for t in (ids, vision, queries) if t is not None)
            # Queries take no position: they get the shared norm alone.
            parts.append(self.bert.embeddings.finish(queries.expand(batch, -1, -1)))
            count = queries.shape[1]
        if ids is not None:
            parts.append(self.bert.embeddings(ids))
        return torch.cat(parts, dim=1), count

    def _tie(self) -> None:
        """One tensor under two names, as in BERT: the output bias, and the word table where the
        weights agree.
        """
        if self.cls is None:
            return
        head = self.cls.predictions
        head.bias = head.decoder.bias
        if self.tied:
            head.decoder.weight = self.bert.embeddings.word_embeddings.weight

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Untie first where a checkpoint has a decoder of its own; one copy would overwrite the
        other.
        """
        words = state_dict.get(f"{prefix}bert.embeddings.word_embeddings.weight")
        decoder = state_dict.get(f"{prefix}cls.predictions.decoder.weight")
        if self.cls is not None and words is not None and decoder is not None:
            self.tied = _same(words, decoder)
            head = self.cls.predictions
            table = self.bert.embeddings.word_embeddings.weight
            if not self.tied and head.decoder.weight is table:
                head.decoder.weight = nn.Parameter(table.detach().clone())
        cast(Any, super())._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


def _tie_after_load(module: nn.Module, incompatible: object) -> None:
    """Loading with assign=True gives each name a tensor of its own."""
    assert isinstance(module, QFormer)
    module._tie()  # pyright: ignore[reportPrivateUsage] - a hook of that very class


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors hold the same values; on the meta device nothing is known, and tied is
    the rule.
    """
    return a.shape == b.shape and (a.is_meta or b.is_meta or torch.equal(a, b))


def _padding_mask(text_mask: Tensor, num_queries: int) -> Tensor:
    """Keys that may be seen: all queries and the real text, (B, 1, 1, Q + L)."""
    seen = text_mask.bool()
    ones = seen.new_ones(seen.shape[0], num_queries)
    return torch.cat([ones, seen], dim=1)[:, None, None, :]


class _Bert(nn.Module):
    def __init__(self, config: QFormerConfig, attention: AttentionBackend) -> None:
        super().__init__()
        self.embeddings = _Embeddings(config)
        self.encoder = _Encoder(config, attention)


class _Embeddings(nn.Module):
    def __init__(self, config: QFormerConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden)
        self.position_embeddings = nn.Embedding(config.max_positions, config.hidden)
        self.LayerNorm = nn.LayerNorm(config.hidden, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, ids: Tensor, offset: int = 0) -> Tensor:
        end = offset + ids.shape[1]
        if end > self.position_embeddings.num_embeddings:
            raise ShapeError(
                f"Q-Former: a text of {end} tokens, at most "
                f"{self.position_embeddings.num_embeddings} fit. Cut it."
            )
        positions = torch.arange(offset, end, device=ids.device)
        return self.finish(self.word_embeddings(ids) + self.position_embeddings(positions))

    def finish(self, x: Tensor) -> Tensor:
        return self.dropout(self.LayerNorm(x))


class _Encoder(nn.Module):
    def __init__(self, config: QFormerConfig, attention: AttentionBackend) -> None:
        super().__init__()
        self.layer = nn.ModuleList(
            _Layer(config, attention, cross=i % config.cross_attention_freq == 0)
            for i in range(config.layers)
        )

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        num_queries: int,
        vision: Tensor | None,
        *,
        past: tuple[LayerCache, ...] | None = None,
        use_cache: bool = False,
    ) -> QFormerOutput:
        caches: list[LayerCache] = []
        for i, layer in enumerate(self.layer):
            x, cache = layer(x, mask, num_queries, vision, past[i] if past else None)
            caches.append(cache)
        return QFormerOutput(x, tuple(caches) if use_cache else None)


class _Layer(nn.Module):
    def __init__(self, config: QFormerConfig, attention: AttentionBackend, *, cross: bool) -> None:
        super().__init__()
        self.attention = _Attention(config, attention, config.hidden)
        self.crossattention = _Attention(config, attention, config.vision_width) if cross else None
        self.intermediate = _Intermediate(config)
        self.output = _Output(config, config.intermediate)
        self.intermediate_query = _Intermediate(config)
        self.output_query = _Output(config, config.intermediate)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        num_queries: int,
        vision: Tensor | None,
        past: LayerCache | None,
    ) -> tuple[Tensor, LayerCache]:
        x, cache = self.attention(x, x, mask, past)
        if vision is None or num_queries == 0:
            # The research code splits the paths by the image, not by the queries as BLIP-2 does:
            # without one, queries beside a text go through the text's FFN.
            return self.output(self.intermediate(x), x), cache
        queries, text = x[:, :num_queries], x[:, num_queries:]
        if self.crossattention is not None:
            queries, _ = self.crossattention(queries, vision.to(queries.dtype))
        queries = self.output_query(self.intermediate_query(queries), queries)
        if text.shape[1] == 0:
            return queries, cache
        text = self.output(self.intermediate(text), text)
        return torch.cat([queries, text], dim=1), cache


class _Attention(nn.Module):
    """BERT's attention with its output projection and norm; for cross-attention, keys and values
    from the image.
    """

    def __init__(self, config: QFormerConfig, attention: AttentionBackend, key_width: int) -> None:
        super().__init__()
        self.self = _Projections(config, key_width)
        self.output = _Output(config, config.hidden)
        self.attention = attention
        self.heads = config.heads
        self.dropout = config.dropout

    def forward(
        self,
        x: Tensor,
        source: Tensor,
        mask: Tensor | None = None,
        past: LayerCache | None = None,
    ) -> tuple[Tensor, LayerCache]:
        q = self._split(self.self.query(x))
        k, v = self._split(self.self.key(source)), self._split(self.self.value(source))
        if past is not None:
            k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
        dropout = self.dropout if self.training else 0.0
        seen = self.attention(q, k, v, mask, dropout=dropout)
        seen = seen.transpose(1, 2).flatten(2)  # (B, H, M, K) -> (B, M, hidden)
        return self.output(seen, x), (k, v)

    def _split(self, x: Tensor) -> Tensor:  # (B, M, hidden) -> (B, H, M, K)
        batch, length, hidden = x.shape
        return x.view(batch, length, self.heads, hidden // self.heads).transpose(1, 2)


class _Projections(nn.Module):
    def __init__(self, config: QFormerConfig, key_width: int) -> None:
        super().__init__()
        self.query = nn.Linear(config.hidden, config.hidden)
        self.key = nn.Linear(key_width, config.hidden)
        self.value = nn.Linear(key_width, config.hidden)


class _Intermediate(nn.Module):
    def __init__(self, config: QFormerConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden, config.intermediate)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.dense(x))


class _Output(nn.Module):
    """Projection back to the hidden width, dropout, residual, norm."""

    def __init__(self, config: QFormerConfig, in_width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(in_width, config.hidden)
        self.LayerNorm = nn.LayerNorm(config.hidden, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.LayerNorm(self.dropout(self.dense(x)) + residual)


class _LmHead(nn.Module):
    def __init__(self, config: QFormerConfig) -> None:
        super().__init__()
        self.predictions = _Predictions(config)


class _Predictions(nn.Module):
    def __init__(self, config: QFormerConfig) -> None:
        super().__init__()
        self.transform = _Transform(config)
        self.decoder = nn.Linear(config.hidden, config.vocab_size)
        self.bias = self.decoder.bias  # the checkpoint has it under both names

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.transform(x))


class _Transform(nn.Module):
    def __init__(self, config: QFormerConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden, config.hidden)
        self.LayerNorm = nn.LayerNorm(config.hidden, eps=config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        return self.LayerNorm(F.gelu(self.dense(x)))
