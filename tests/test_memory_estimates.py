"""What the host is asked to make room for, beside what runs take: within a quarter.

Networks run on the device "meta", so that those of real size can be measured too: their tensors
have sizes and no values. Attention counts as one operation there, as on every host of ours.
"""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import tryon_tiny
from torch_peak import peak_bytes

from unifashion_core.attention import (
    register_with_transformers,
    route_multihead_attention,
    sdpa_attention,
)
from unifashion_core.caption.llm_generate import generation_bytes
from unifashion_core.encoder.config import (
    EncoderConfig,
    PreprocessConfig,
    QFormerConfig,
    StemConfig,
    TowerConfig,
)
from unifashion_core.encoder.dual import DualEncoder
from unifashion_core.encoder.encoder import MultimodalEncoder
from unifashion_core.encoder.memory import activation_bytes
from unifashion_core.encoder.model import UniFashionEncoderModel
from unifashion_core.imaging import to_tensor
from unifashion_core.pocket import MEDIAPIPE, TRYON
from unifashion_core.prepare.cache import PreparationCache
from unifashion_core.prepare.labels_segmenter import Segmenter
from unifashion_core.prepare.person import load_networks
from unifashion_core.prepare.preparer import Preparer
from unifashion_core.rendering.memory import (
    coding_bytes,
    context_bytes,
    encoding_bytes,
    sampling_bytes,
)
from unifashion_core.tryon.autoencoder import Autoencoder, Posterior
from unifashion_core.tryon.condition import Condition
from unifashion_core.tryon.condition_encoders import ClipImage, ClipText
from unifashion_core.tryon.config import ClipConfig, TryOnConfig
from unifashion_core.tryon.denoiser import Denoiser
from unifashion_core.tryon.unet import GarmentEncoder, TryOnUNet
from unifashion_core.wardrobe import render_person, sample_person

HALF = torch.float16
REAL = pytest.mark.slow
META = "meta"


def pocket_config() -> TryOnConfig:
    return TryOnConfig.from_dict(
        json.loads((TRYON / "config.json").read_text("utf-8"))["unifashion_tryon_config"]
    )


CONFIGS = {
    "tiny": tryon_tiny.tiny_config,
    "pocket": pocket_config,
    "paper": lambda: TryOnConfig(text=ClipConfig()),
}
KINDS = ["tiny", *(pytest.param(kind, marks=REAL) for kind in ("pocket", "paper"))]
FRAMES = [(1, (512, 384)), (3, (128, 128)), pytest.param(4, (1024, 768), marks=REAL)]


def near(estimate: float, measured: int) -> None:
    assert measured > 0
    assert 0.75 <= estimate / measured <= 1.25, (estimate, measured)


@pytest.mark.parametrize("guidance", [(1.0, 1.0), (2.0, 1.0), (1.0, 2.0)])
@pytest.mark.parametrize(("items", "size"), FRAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_of_sampling(kind, items, size, guidance):
    config = CONFIGS[kind]()
    with torch.device(META):
        model: Any = SimpleNamespace(
            config=config,
            unet=frozen(TryOnUNet(config.unet, sdpa_attention())),
            garment=frozen(GarmentEncoder(config.unet, sdpa_attention())),
        )
    measured = peak_bytes(lambda: steps(model, items, size, guidance), META)
    predictions = 1 + sum(scale != 1.0 for scale in guidance)
    near(sampling_bytes(config, items * predictions, size, HALF), measured)


def steps(model: Any, items: int, size: tuple[int, int], guidance: tuple[float, float]) -> None:
    """Two steps, the second of which finds what is computed once."""
    config = model.config
    factor, z = config.autoencoder.factor, config.autoencoder.latent_channels
    shape = (items, z, size[0] // factor, size[1] // factor)
    latent = Posterior(torch.zeros(shape), torch.zeros(shape))
    condition = Condition(
        latent,
        latent,
        torch.ones(items, 1, *shape[2:]),
        latent,
        torch.ones(items),
        torch.zeros(items, config.text.places, config.unet.context_dim),
        torch.zeros(1, 1, config.unet.context_dim),
        (False,) * items,
    )
    denoiser = Denoiser(model, condition, guidance[0], garment_guidance=guidance[1])
    x, times = torch.zeros(shape, device=META), torch.zeros(items, device=META)
    for _ in range(2):
        x = denoiser(x, times)


def frozen(module: Any) -> Any:
    return module.to(HALF).requires_grad_(False).eval()


@pytest.mark.parametrize(("items", "size"), FRAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_autoencoder(kind, items, size):
    config = CONFIGS[kind]()
    with torch.device(META):
        coder = frozen(Autoencoder(config.autoencoder, sdpa_attention()))
        pixels = torch.zeros(1, 3, *size, dtype=HALF)
        shape = [side // config.autoencoder.factor for side in size]
        latents = torch.zeros(items, config.autoencoder.latent_channels, *shape, dtype=HALF)
    measured = peak_bytes(lambda: coder.decode(latents), META)
    near(coding_bytes(config, items, size, HALF), measured)
    near(encoding_bytes(config, size, HALF), peak_bytes(lambda: coder.encode(pixels), META))


@pytest.mark.parametrize(
    "clip",
    [
        ClipConfig(24, 1, 2, 32, 12, 40),
        ClipConfig(),
        pytest.param(ClipConfig(1024, 24, 16, 4096, 257, 0, 14), marks=REAL),
    ],
)
def test_texts_and_garments_of_the_context(clip):
    reads_text = clip.patch_size == 0
    with torch.device(META):
        kind: Any = ClipText if reads_text else ClipImage
        network = frozen(kind(clip, sdpa_attention()))
        side = clip.image_size
        given = (
            torch.zeros(1, clip.places, dtype=torch.long)
            if reads_text
            else torch.zeros(1, 3, side, side, dtype=HALF)
        )
    part = "text" if reads_text else "image"
    config = TryOnConfig(**{part: clip})
    near(context_bytes(config, HALF), peak_bytes(lambda: network(given), META))


VIT_L = TowerConfig("clip_vit", 336, 14, 1024, 24, 16, 4096)
TOWERS = {
    "small EVA": TowerConfig("eva_vit", 112, 14, 192, 2, 3, 768),
    "small CLIP": TowerConfig("clip_vit", 112, 14, 192, 3, 3, 768, activation="quick_gelu"),
    "EVA g": TowerConfig(),
    "CLIP L": VIT_L,
}


@pytest.mark.parametrize("images", [1, 8])
@pytest.mark.parametrize("views", [("targetpad",), ("squash", "centre")])
@pytest.mark.parametrize(
    "name", ["small EVA", "small CLIP", *(pytest.param(n, marks=REAL) for n in ("EVA g", "CLIP L"))]
)
def test_an_encoder_over_a_transformer(name, images, views):
    tower = TOWERS[name]
    config = EncoderConfig(
        tower=tower,
        stem=StemConfig(in_width=tower.width, out_width=tower.width),
        qformer=QFormerConfig(vision_width=tower.width, layers=2, vocab_size=30523),
        preprocess=PreprocessConfig(size=tower.image_size, views=views),
    )
    with torch.device(META):
        model = frozen(UniFashionEncoderModel(config, sdpa_attention(), ()))
    ids = {"pad_id": 0, "cls_id": 101, "sep_id": 102, "bos_id": 30522}
    encoder = MultimodalEncoder(model, Words(**ids), "")  # type: ignore[arg-type]
    near_pixels(encoder, torch.zeros(images, len(views), 3, tower.image_size, tower.image_size))


class Words(SimpleNamespace):
    """A tokenizer, as far as an encoder asks for its ids."""

    def __len__(self) -> int:
        return 30523


def near_pixels(encoder: Any, pixels: torch.Tensor) -> None:
    """Pixels come from the processor, as the nodes give them."""
    measured = peak_bytes(lambda: encoder.encode_pixels(pixels), META)
    near(activation_bytes(encoder, len(pixels)), measured)


@pytest.mark.parametrize("images", [1, 8])
@pytest.mark.parametrize("dtype", [HALF, torch.float32])
def test_the_pocket_encoder(pack, images, dtype):
    part = pack.module("unifashion_core.pocket")
    encoder = pack.module("unifashion_core.encoder.checkpoint").load_encoder(
        part.ENCODER, tower=part.EFFICIENTNET_LITE0, attention=sdpa_attention()
    )
    encoder.model.to(META, dtype)
    views = len(encoder.config.preprocess.views)
    pixels = torch.zeros(images, views, 3, 224, 224)
    measured = peak_bytes(lambda: encoder.encode_pixels(pixels), META)
    near(pack.module("unifashion_core.encoder.memory").activation_bytes(encoder, images), measured)


@pytest.mark.parametrize("images", [1, 8])
@pytest.mark.parametrize(
    ("kind", "patch", "width", "layers"),
    [
        ("Clip", 32, 768, 2),
        ("Siglip", 16, 192, 2),
        pytest.param("Clip", 14, 1024, 24, marks=REAL),
        pytest.param("Siglip", 16, 768, 12, marks=REAL),
    ],
)
def test_a_two_sided_encoder(kind, patch, width, layers, images):
    import transformers

    named = {"Clip": "CLIP"}.get(kind, kind)
    vision = {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 64,
        "image_size": 224,
        "patch_size": patch,
    }
    config = getattr(transformers, f"{named}Config")(vision_config=vision)
    with torch.device(META):
        model = getattr(transformers, f"{named}Model")._from_config(
            config, attn_implementation=register_with_transformers(sdpa_attention())
        )
        route_multihead_attention(model, sdpa_attention())
    encoder = DualEncoder(frozen(model), None, None, "", width, 224)  # type: ignore[arg-type]
    near_pixels(encoder, torch.zeros(images, 1, 3, 224, 224))


def llama(layers: int, hidden: int, inner: int, groups: int, vocabulary: int) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    heads = hidden // 64
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // groups,
        pad_token_id=0,
        eos_token_id=None,
        tie_word_embeddings=False,
    )
    attention = register_with_transformers(sdpa_attention())
    return LlamaForCausalLM._from_config(config, attn_implementation=attention)


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize(("rows", "prompt"), [(1, 600), (20, 64)])
@pytest.mark.parametrize(
    ("layers", "hidden", "inner"), [(4, 256, 688), pytest.param(32, 4096, 11008, marks=REAL)]
)
def test_a_language_model_that_reads_its_prompt(layers, hidden, inner, rows, prompt, groups):
    with torch.device(META):
        model = frozen(llama(layers, hidden, inner, groups, 1000))
        given = torch.zeros(rows, prompt, hidden, dtype=HALF)
    run = lambda: model(inputs_embeds=given, use_cache=True, logits_to_keep=1)  # noqa: E731
    near(generation_bytes(model, model.config, rows, prompt, 1), peak_bytes(run, META))


@pytest.mark.parametrize("beams", [1, 5])
@pytest.mark.parametrize(("images", "prompt", "new"), [(1, 200, 20), (4, 40, 20)])
def test_a_language_model_that_writes(images, prompt, new, beams):
    torch.manual_seed(0)
    model = llama(6, 256, 688, 1, 2000).requires_grad_(False).eval()
    given = {
        "inputs_embeds": torch.randn(images, prompt, 256),
        "attention_mask": torch.ones(images, prompt, dtype=torch.long),
    }
    how = {"max_new_tokens": new, "min_new_tokens": new, "num_beams": beams, "do_sample": False}
    measured = peak_bytes(lambda: model.generate(**given, **how))
    near(generation_bytes(model, model.config, images * beams, prompt, new), measured)


@pytest.mark.parametrize("images", [1, 2])
def test_a_vision_language_model(images):
    """LLaVA-1.5's shares: its tower is small beside what reads the 576 tokens of a picture."""
    from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration

    torch.manual_seed(0)
    attention = register_with_transformers(sdpa_attention())
    tower = CLIPVisionConfig(
        hidden_size=64,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=336,
        patch_size=14,
    )
    config = LlavaConfig(
        vision_config=tower,
        text_config=llama(6, 256, 688, 1, 1000).config,
        image_token_index=999,
    )
    network: Any = LlavaForConditionalGeneration._from_config(config, attn_implementation=attention)
    network.requires_grad_(False).eval()
    ids = torch.cat([torch.full((images, 576), 999), torch.ones(images, 24, dtype=torch.long)], 1)
    given = {"input_ids": ids, "pixel_values": torch.zeros(images, 3, 336, 336)}
    how = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False}
    measured = peak_bytes(lambda: network.generate(**given, attention_mask=ids * 0 + 1, **how))
    text = network.config.get_text_config()
    near(generation_bytes(network, text, images, ids.shape[1], 8), measured)


@pytest.mark.parametrize("side", [384, 512])
@pytest.mark.parametrize(
    ("widths", "head"), [((32, 64, 160, 256), 256), ((64, 128, 320, 512), 768)]
)
def test_a_segmenter(widths, head, side):
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    config = SegformerConfig(hidden_sizes=list(widths), decoder_hidden_size=head)
    with torch.device(META):
        model = frozen(SegformerForSemanticSegmentation._from_config(config))
        pixels = torch.zeros(1, 3, side, side, dtype=HALF)
    processor = SimpleNamespace(size={"height": side, "width": side})
    segmenter = Segmenter(model, processor, np.zeros(18, np.uint8), "tiny")
    near(segmenter.activation_bytes(), peak_bytes(lambda: model(pixels), META))


def test_finding_a_person(pack):
    """Its networks read pictures of one size."""
    networks = load_networks(MEDIAPIPE, torch.device("cpu"), torch.float32)
    photo = to_tensor(render_person(sample_person(1, framing="full"), 320).image)
    preparer = Preparer(lambda: networks, PreparationCache())
    asked: list[int] = []
    types = pack.module("nodes._types")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(types, "load_models", lambda patchers, size: asked.append(size))
        types.ManagedPreparer(networks, None, (), "").ready()
    near(asked[0], peak_bytes(lambda: preparer.person(photo)))


def test_half_of_an_estimate_would_be_seen():
    """The share is of what was measured: half and double fail."""
    for share in (0.5, 0.7, 1.3, 2.0):
        with pytest.raises(AssertionError):
            near(share * 1000, 1000)
