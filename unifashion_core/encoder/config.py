"""Everything that decides what an encoder computes, as one value; it is hashed into the
fingerprint.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

TowerKind = Literal["eva_vit", "clip_vit", "efficientnet_lite0"]


@dataclass(frozen=True)
class TowerConfig:
    """A vision tower.

    Attributes:
        kind: Which network.
        image_size: Side of its square input in pixels.
        patch_size: Side of a patch in pixels (ViTs).
        width: Channels of its tokens.
        layers: Transformer blocks (ViTs).
        heads: Attention heads (ViTs).
        mlp_hidden: Width of the MLP (ViTs).
        layer_norm_eps: Of the blocks' norms.
        activation: Of a CLIP tower's MLP: OpenAI's have the quick GELU. EVA's is always the exact
            one.
    """

    kind: TowerKind = "eva_vit"
    image_size: int = 224
    patch_size: int = 14
    width: int = 1408
    layers: int = 39
    heads: int = 16
    mlp_hidden: int = 6144
    layer_norm_eps: float = 1e-6
    activation: Literal["gelu", "quick_gelu"] = "gelu"


@dataclass(frozen=True)
class StemConfig:
    """What stands between tower and ln_vision.

    Attributes:
        kind: "identity" (the reference) or "pca": a fixed linear map of each token.
        in_width: Channels of a tower token.
        out_width: Channels that ln_vision and the Q-Former see.
        pooled_token: Whether the tower's pooled feature is one more token.
    """

    kind: Literal["identity", "pca"] = "identity"
    in_width: int = 1408
    out_width: int = 1408
    pooled_token: bool = False


@dataclass(frozen=True)
class QFormerConfig:
    """The Q-Former and its heads; defaults are the paper's sizes."""

    vocab_size: int = 30523
    hidden: int = 768
    layers: int = 12
    heads: int = 12
    intermediate: int = 3072
    max_positions: int = 512
    cross_attention_freq: int = 2
    num_query_tokens: int = 32
    vision_width: int = 1408
    embed_dim: int = 256
    layer_norm_eps: float = 1e-12
    dropout: float = 0.1


@dataclass(frozen=True)
class PreprocessConfig:
    """From an upright RGB picture to normalised pixels.

    Attributes:
        size: Side of the square in pixels.
        views: One crop rule a view: "targetpad" (the reference), "squash", "centre", "pad".
        target_ratio: Of "targetpad".
        mean: Per channel, of values in 0..1.
        std: Likewise.
    """

    size: int = 224
    views: tuple[str, ...] = ("targetpad",)
    target_ratio: float = 1.25
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class TextConfig:
    """How texts become ids.

    Attributes:
        tokenizer: "bert" (ships, 30522 words + [DEC]) or "folder": vocab.txt beside the weights.
        max_tokens: Length that texts are cut and padded to.
        max_words: Of the caption processor.
    """

    tokenizer: Literal["bert", "folder"] = "bert"
    max_tokens: int = 64
    max_words: int = 50
    pad_id: int = 0
    cls_id: int = 101
    sep_id: int = 102
    bos_id: int = 30522


@dataclass(frozen=True)
class EncoderConfig:
    """A multimodal encoder. The defaults are the paper's."""

    tower: TowerConfig = field(default_factory=TowerConfig)
    stem: StemConfig = field(default_factory=StemConfig)
    qformer: QFormerConfig = field(default_factory=QFormerConfig)
    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    text: TextConfig = field(default_factory=TextConfig)
    gallery_queries: Literal["query", "prompt"] = "query"
    ln_vision_eps: float = 1e-5

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as config.json holds them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> EncoderConfig:
        """The value that `to_dict` gave; unknown keys are a TypeError."""
        rest = {k: v for k, v in data.items() if k in ("gallery_queries", "ln_vision_eps")}
        pre = dict(data.get("preprocess", {}))
        for key in ("views", "mean", "std"):
            if key in pre:
                pre[key] = tuple(pre[key])
        return cls(
            tower=TowerConfig(**data.get("tower", {})),
            stem=StemConfig(**data.get("stem", {})),
            qformer=QFormerConfig(**data.get("qformer", {})),
            preprocess=PreprocessConfig(**pre),
            text=TextConfig(**data.get("text", {})),
            **rest,
        )
