"""Values that the parts hand on, and the Protocols by which one uses the ability of another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from .garments import ATTRIBUTES as ATTRIBUTES
from .garments import CATEGORIES as CATEGORIES
from .garments import COLOURS as COLOURS
from .garments import Attribute as Attribute
from .garments import ColourShare as ColourShare
from .garments import GarmentAttributes as GarmentAttributes
from .garments import GarmentMasker as GarmentMasker

if TYPE_CHECKING:  # only named here: the renderer and the store work without torch
    import numpy.typing as npt
    import torch
    from PIL import Image

    from .text import Tokenizer

OnStep = Callable[[int, int], None]
"""Called with (done, total); may raise to cancel, and nothing catches that."""

PartKind = Literal["image", "text", "composed", "blend"]
"""What a query part was made from; "blend" is text + image of an encoder without composed mode."""

Scalar = str | int | float | bool | None


@dataclass(frozen=True)
class QueryPart:
    """One weighted term of a query.

    Attributes:
        tokens: Unit vectors, (Q, D), float32 on the CPU; Q is 1 for a text or a composed query.
        kind: What it was made from.
        weight: Its share of the score; negative excludes.
        text: The text behind it, as given.
        vision: Tower tokens of its image after ln_vision, (P, W); what a rerank reads.
        query_outputs: Q-Former outputs before projection, (T, hidden); what a try-on adapter reads.
    """

    tokens: torch.Tensor
    kind: PartKind
    weight: float = 1.0
    text: str | None = None
    vision: torch.Tensor | None = None
    query_outputs: torch.Tensor | None = None


@dataclass(frozen=True)
class Query:
    """A weighted sum of parts: s = sum(w_i s_i) / sum(|w_i|), each s_i in [-1, 1].

    Attributes:
        parts: At least one part.
        notes: What the user should know of it: a cut text, unknown words, a 1:1 blend.
        truncated: Whether a text was cut to what the encoder reads.
        unknown_words: Words that the encoder's vocabulary does not hold.
    """

    parts: tuple[QueryPart, ...]
    notes: tuple[str, ...] = ()
    truncated: bool = False
    unknown_words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Embedding:
    """A batch of B queries of one encoder.

    Attributes:
        queries: One entry an image or text of the batch.
        fingerprint: The encoder's.
    """

    queries: tuple[Query, ...]
    fingerprint: str


@dataclass(frozen=True)
class ImageFeatures:
    """What an encoder makes of B images.

    Attributes:
        tokens: Unit vectors, (B, T, D), float32 on the CPU.
        vision: Tower tokens after ln_vision, (B, P, W), or None where the encoder has none.
        query_outputs: Outputs before projection, (B, T, hidden), or None likewise.
    """

    tokens: torch.Tensor
    vision: torch.Tensor | None = None
    query_outputs: torch.Tensor | None = None


@dataclass(frozen=True)
class TextFeatures:
    """What an encoder makes of B texts.

    Attributes:
        vectors: Unit vectors, (B, D), float32 on the CPU.
        truncated: Whether each text was cut.
        unknown_words: Words of each text that the vocabulary does not hold.
        query_outputs: Composed mode only: the 32 query positions before projection, (B, T, hidden).
    """

    vectors: torch.Tensor
    truncated: tuple[bool, ...]
    unknown_words: tuple[tuple[str, ...], ...]
    query_outputs: torch.Tensor | None = None


@runtime_checkable
class ImageEncoder(Protocol):
    """What a gallery needs of an encoder."""

    @property
    def fingerprint(self) -> str: ...
    @property
    def tokens_per_image(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def input_size(self) -> int:
        """Shorter side in pixels below which a photo should not be decoded."""
        ...

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        """An upright RGB picture to normalised views, (V, 3, H, W), float32; safe in threads."""
        ...

    def encode_pixels(self, pixels: torch.Tensor) -> ImageFeatures:
        """Views (B, V, 3, H, W) to features."""
        ...


@runtime_checkable
class TextEncoder(Protocol):
    """What captions and text queries need of an encoder."""

    @property
    def fingerprint(self) -> str: ...

    def encode_texts(self, texts: Sequence[str]) -> TextFeatures:
        """Texts to unit vectors."""
        ...


@runtime_checkable
class Composer(Protocol):
    """What a composed query needs: an encoder with a composed mode."""

    @property
    def fingerprint(self) -> str: ...

    def compose_from_vision(self, vision: torch.Tensor, texts: Sequence[str]) -> TextFeatures:
        """Tower tokens after ln_vision, (B, P, W), and B texts to unit vectors."""
        ...


@runtime_checkable
class PairScorer(Protocol):
    """What a rerank needs: an encoder with an ITM head."""

    @property
    def input_size(self) -> int:
        """As in `ImageEncoder`."""
        ...

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        """As in `ImageEncoder`."""
        ...

    def score_pairs(
        self, text: str, pixels: torch.Tensor, reference: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Match of one query with each of B candidate images.

        Args:
            text: The query's text.
            pixels: The candidates' views, (B, V, 3, H, W).
            reference: Tower tokens of the query's image, (P, W): the composed rerank.

        Returns:
            Scores, (B,), float32: the ITM logit of class 1 for a text, the probability of class 1
            for a composed query.
        """
        ...


class FashionEncoder(ImageEncoder, TextEncoder, PairScorer, Protocol):
    """A whole encoder, as a loader gives it; one that is a `Composer` too has a composed mode."""

    @property
    def fingerprint(self) -> str: ...
    @property
    def input_size(self) -> int: ...
    @property
    def name(self) -> str:
        """For messages."""
        ...

    @property
    def abilities(self) -> frozenset[str]:
        """Of "image", "text", "composed", "itm", "lm", "prompt"."""
        ...

    def preprocess(self, image: Image.Image) -> torch.Tensor: ...


@dataclass(frozen=True)
class Hit:
    """One found image.

    Attributes:
        rank: 1 = best.
        item_id: The gallery's id of it.
        path: Absolute path of its file.
        file: Path relative to the folder that was indexed.
        score: The search score in [-1, 1].
        itm: The rerank's score, None where it was not reranked.
        columns: Metadata of the item: category, colours, caption and any other column.
        missing: Whether the file was not found when it was last looked for.
    """

    rank: int
    item_id: int
    path: Path
    file: str
    score: float
    itm: float | None = None
    columns: Mapping[str, Scalar] = field(default_factory=dict[str, Scalar])
    missing: bool = False


@dataclass(frozen=True)
class Hits:
    """The hits of B queries in one gallery.

    Attributes:
        rows: One ranked list a query.
        queries: The queries they answer, in the same order.
        fingerprint: The encoder's.
        gallery, revision: Name of the gallery, and its revision that was searched.
        notes, exact: What the user should know, and whether no better item can be missing.
        candidates: Items that were scored from their stored vectors, one number a query.
        kernel: What scanned the others: instructions of this machine, or a server's name.
    """

    rows: tuple[tuple[Hit, ...], ...]
    queries: tuple[Query, ...]
    fingerprint: str
    gallery: str
    revision: int
    notes: tuple[str, ...] = ()
    exact: bool = True
    candidates: tuple[int, ...] = ()
    kernel: str = ""


@runtime_checkable
class Captioner(Protocol):
    """What writes captions: a Q-Former's head, an LLM behind it, or a vision-language model."""

    @property
    def name(self) -> str: ...
    @property
    def fingerprint(self) -> str:
        """Hex digest of its weights and settings: the same one writes the same captions."""
        ...

    @property
    def abilities(self) -> frozenset[str]:
        """Of "caption" and "attributes" (whether `describe` works)."""
        ...

    def caption(
        self, images: Sequence[Image.Image], *, on_step: OnStep | None = None, seed: int = 0
    ) -> tuple[str, ...]:
        """One caption an upright RGB picture, whatever the others of the call; `on_step` comes
        after a token or an image, `seed` is what sampling draws from.
        """
        ...

    def describe(
        self,
        images: Sequence[Image.Image],
        *,
        masks: Sequence[npt.NDArray[Any] | None] | None = None,
        on_step: OnStep | None = None,
    ) -> tuple[GarmentAttributes, ...]:
        """Attributes of each picture, where it has that ability; its garment is `masks`' pixels
        (H, W; 1 = garment), or what it finds itself.
        """
        ...


class CaptionState(Protocol):
    """Where B captions stand; what came before is kept, so that a token costs one small step."""

    def advance(self, ids: torch.Tensor) -> tuple[torch.Tensor, CaptionState]:
        """The last ids (B,) to the next logits (B, vocabulary) on the CPU, and the state after."""
        ...

    def select(self, rows: torch.Tensor) -> CaptionState:
        """The state of other rows: (N,) indices into the batch, with repeats."""
        ...


class CaptionDecoder(FashionEncoder, Protocol):
    """What a Q-Former captioner needs: an encoder with an LM head."""

    @property
    def card(self) -> Mapping[str, Any]:
        """Measured defaults that ship with the weights; "caption" holds decoding settings."""
        ...

    @property
    def tokenizer(self) -> Tokenizer: ...

    def begin_caption(self, vision: torch.Tensor) -> CaptionState:
        """Read images for captions, (B, P, W) of `encode_pixels`."""
        ...
