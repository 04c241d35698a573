"""The multimodal encoder as the other parts see it: pictures and texts in, unit vectors out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..errors import AbilityError, CheckpointError, InputError, ShapeError
from ..text import TokenBatch, Tokenizer, prepare_texts
from ..types import CaptionState, ImageFeatures, TextFeatures
from .config import EncoderConfig
from .model import DecodeState, UniFashionEncoderModel
from .preprocess import preprocess

_BASE_ABILITIES = frozenset({"image", "text", "composed"})
_GROUP_NAMES = {"itm": "itm_head", "lm": "Qformer.cls", "prompt": "prompt_tokens"}


@dataclass(frozen=True)
class MultimodalEncoder:
    """A loaded encoder: a `FashionEncoder`, a `Composer`, and with an LM head a `CaptionDecoder`.

    It computes where its weights are and in their dtype; results are float32 on the CPU. Batches
    run as they come: chunking is the caller's.

    Attributes:
        model: The network; put in eval mode here.
        tokenizer: The encoder's own.
        fingerprint: Hex SHA-256 of config and weights.
        name: For messages.
        card: Measured defaults that ship with it, such as a caption weight.
    """

    model: UniFashionEncoderModel
    tokenizer: Tokenizer
    fingerprint: str
    name: str = "encoder"
    card: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        self.model.eval()
        text, t = self.config.text, self.tokenizer
        wanted = (text.pad_id, text.cls_id, text.sep_id, text.bos_id)
        found = (t.pad_id, t.cls_id, t.sep_id, t.bos_id)
        if wanted != found or len(t) != self.config.qformer.vocab_size:
            raise CheckpointError(
                f"encoder {self.name!r}: its tokenizer has {len(t)} words and special ids {found}, "
                f"its config {self.config.qformer.vocab_size} and {wanted}. "
                "Use the vocab.txt that belongs to these weights."
            )

    @property
    def config(self) -> EncoderConfig:
        """What it computes."""
        return self.model.config

    @property
    def query_tokens(self) -> Tensor:
        """The Q-Former's learned queries, (1, Q, hidden); they tell one Q-Former from another."""
        return self.model.query_tokens

    @property
    def tokens_per_image(self) -> int:
        """Vectors that a gallery keeps of each image: the query tokens of all views."""
        return len(self.config.preprocess.views) * self.config.qformer.num_query_tokens

    @property
    def width(self) -> int:
        """Length of a vector, D."""
        return self.config.qformer.embed_dim

    @property
    def input_size(self) -> int:
        """Shorter side in pixels below which a photo should not be decoded."""
        return self.config.preprocess.size

    @property
    def abilities(self) -> frozenset[str]:
        """Of "image", "text", "composed", "itm", "lm", "prompt"."""
        return _BASE_ABILITIES | self.model.groups

    def require(self, ability: str, where: str) -> None:
        """Check that it can do what a step needs.

        Raises:
            AbilityError: If it can't; the text names the group of weights that is missing.
        """
        if ability not in self.abilities:
            group = _GROUP_NAMES.get(ability, ability)
            raise AbilityError(
                f"{where}: encoder {self.name!r} has no {group} (ability '{ability}'; it has "
                f"{', '.join(sorted(self.abilities))}). Load a checkpoint with that group."
            )

    def preprocess(self, image: Image.Image) -> Tensor:
        """An upright RGB picture to normalised views, (V, 3, S, S), float32; safe in threads."""
        return preprocess(image, self.config.preprocess)

    @torch.inference_mode()
    def encode_pixels(self, pixels: Tensor) -> ImageFeatures:
        """Encode images.

        Args:
            pixels: Their views, (B, V, 3, S, S).

        Returns:
            `tokens` (B, V * Q, D), `vision` (B, V * P, W) and `query_outputs` (B, V * Q, hidden),
            view after view.

        Raises:
            ShapeError: If the views are not this encoder's.
        """
        vision = self._view_vision(pixels)  # (B * V, P, W)
        states = self.model.image_states(vision, self.config.gallery_queries)
        return ImageFeatures(
            tokens=_out(self._by_image(self.model.project_images(states))),
            vision=_out(self._by_image(vision)),
            query_outputs=_out(self._by_image(states)),
        )

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> TextFeatures:
        """Encode texts.

        Raises:
            InputError: If a text is empty, too long, or holds no word that the encoder knows.
        """
        batch = self.tokenize(texts)
        vectors = self.model.text_features(*self._placed(batch))
        return TextFeatures(_out(vectors), batch.truncated, batch.unknown_words)

    @torch.inference_mode()
    def compose(self, pixels: Tensor, texts: Sequence[str]) -> TextFeatures:
        """Encode composed queries: reference images with what should differ.

        Args:
            pixels: Views of the reference images, (B, V, 3, S, S).
            texts: One an image.

        Returns:
            `vectors` (B, D) and `query_outputs` (B, Q, hidden).

        Raises:
            InputError: As `encode_texts`, or if the numbers differ.
            ShapeError: If the views are not this encoder's.
        """
        return self._compose(self._by_image(self._view_vision(pixels)), texts)

    @torch.inference_mode()
    def compose_from_vision(self, vision: Tensor, texts: Sequence[str]) -> TextFeatures:
        """`compose` from the tower tokens that `encode_pixels` gave, (B, P, W)."""
        return self._compose(self._moved(vision), texts)

    @torch.inference_mode()
    def score_pairs(self, text: str, pixels: Tensor, reference: Tensor | None = None) -> Tensor:
        """Match of one query with each of B candidate images.

        Args:
            text: The query's text.
            pixels: The candidates' views, (B, V, 3, S, S).
            reference: Tower tokens of the query's image, (P, W): the composed rerank.

        Returns:
            (B,), float32: the ITM logit of class 1, or with a reference the probability of class 1.

        Raises:
            AbilityError: If the checkpoint has no itm_head.
            InputError: As `encode_texts`.
        """
        self.require("itm", "rerank")
        batch = len(pixels)
        vision = self._by_image(self._view_vision(pixels))
        ids, mask = (t.expand(batch, -1) for t in self._placed(self.tokenize([text])))
        if reference is None:
            return _out(self.model.itm_logits(vision, ids, mask)[:, 1])
        known = self._moved(reference)[None].expand(batch, -1, -1)
        return _out(self.model.rerank_probability(known, vision, ids, mask))

    def tokenize(self, texts: Sequence[str]) -> TokenBatch:
        """Texts to ids by the encoder's own rules: caption processor, lengths, unknown words.

        Raises:
            InputError: As `encode_texts`.
        """
        rules = self.config.text
        return prepare_texts(
            texts, self.tokenizer, max_words=rules.max_words, max_tokens=rules.max_tokens
        )

    @torch.inference_mode()
    def begin_decode(self, vision: Tensor) -> DecodeState:
        """Read images for captions, (B, P, W) of `encode_pixels`.

        Raises:
            AbilityError: If the checkpoint has no LM head.
        """
        self.require("lm", "caption")
        return self.model.image_cache(self._moved(vision))[1]

    @torch.inference_mode()
    def decode_step(self, ids: Tensor, state: DecodeState) -> tuple[Tensor, DecodeState]:
        """One token more: ids of the last ones (B,), [DEC] at first, to logits (B, vocabulary) and
        the state after.
        """
        logits, state = self.model.decode_step(ids.to(self._place.device), state)
        return _out(logits), state

    def begin_caption(self, vision: Tensor) -> CaptionState:
        """As `begin_decode`, in the form that a captioner decodes with."""
        return _Caption(self, self.begin_decode(vision))

    @property
    def _place(self) -> Tensor:
        """A weight: what comes in follows its device."""
        return self.model.query_tokens

    def _moved(self, values: Tensor) -> Tensor:
        return values.to(self._place.device, self._place.dtype)

    def _placed(self, batch: TokenBatch) -> tuple[Tensor, Tensor]:
        return batch.ids.to(self._place.device), batch.mask.to(self._place.device)

    def _view_vision(self, pixels: Tensor) -> Tensor:
        """Views (B, V, 3, S, S) as one batch through the tower, (B * V, P, W)."""
        views, size = len(self.config.preprocess.views), self.config.preprocess.size
        if pixels.ndim != 5 or tuple(pixels.shape[1:]) != (views, 3, size, size):
            raise ShapeError(
                f"encoder {self.name!r}: views are {tuple(pixels.shape)}, wanted "
                f"(B, {views}, 3, {size}, {size}). Make them with its own preprocess."
            )
        return self.model.encode_vision(pixels.flatten(0, 1).to(self._place.device))

    def _by_image(self, values: Tensor) -> Tensor:
        """(B * V, T, C) -> (B, V * T, C)."""
        views = len(self.config.preprocess.views)
        shape = (len(values) // views, views * values.shape[1], values.shape[2])
        return values.reshape(shape)

    def _compose(self, vision: Tensor, texts: Sequence[str]) -> TextFeatures:
        if len(texts) != len(vision):
            raise InputError(
                f"composed query: {len(vision)} images and {len(texts)} texts. Give each its own."
            )
        batch = self.tokenize(texts)
        states = self.model.composed_states(vision, *self._placed(batch))
        queries = states[:, : self.config.qformer.num_query_tokens]
        vectors = self.model.project_composed(states)
        return TextFeatures(_out(vectors), batch.truncated, batch.unknown_words, _out(queries))


@dataclass(frozen=True)
class _Caption:
    """A `CaptionState` of this encoder."""

    encoder: MultimodalEncoder
    state: DecodeState

    def advance(self, ids: Tensor) -> tuple[Tensor, CaptionState]:
        logits, state = self.encoder.decode_step(ids, self.state)
        return logits, _Caption(self.encoder, state)

    def select(self, rows: Tensor) -> CaptionState:
        place = self.state.cache[0][0].device
        return _Caption(self.encoder, self.state.select(rows.to(place)))


def _out(values: Tensor) -> Tensor:
    return values.float().cpu()
