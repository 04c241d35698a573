"""Tiny model folders, random but seeded, with tokenizers made in code: LLMs and VLMs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

TEXT = """a an the red blue green black white dress shirt skirt jacket with long short sleeves in of
describe this garment photo what is write caption please generate to image detail and professional
description for cloth USER ASSISTANT Question Answer : . ? { }"""
WORDS = tuple(TEXT.split())
SPECIAL = ("<unk>", "<s>", "</s>", "<pad>")
WIDTH = 32
PADS: dict[str, Any] = {"pad_token_id": 3}


def picture(index: int = 0, size: tuple[int, int] = (40, 56)) -> Image.Image:
    """A seeded picture with some structure."""
    rng = np.random.default_rng(index)
    small = rng.integers(0, 255, (7, 5, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BILINEAR)


def tokenizer(*extra: str, chat: str | None = None, plain: Sequence[str] = (), **named: str) -> Any:
    """A word-level tokenizer as transformers saves and reads it; `extra` are special tokens, and
    `named` those that it has an attribute for."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = {word: i for i, word in enumerate((*SPECIAL, *WORDS))}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", words["<s>"])]
    )
    made: Any = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        padding_side="left",
        extra_special_tokens=named,
    )
    made.add_tokens([AddedToken(t, normalized=False, special=True) for t in extra])
    made.add_tokens(list(plain))
    if chat is not None:
        made.chat_template = chat
    return made


def llama_config(words: int, width: int = WIDTH, **changes: Any) -> Any:
    """Two layers, grouped keys as newer models have them."""
    from transformers import LlamaConfig

    return LlamaConfig(
        **{
            "vocab_size": words,
            "hidden_size": width,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 3,
            "tie_word_embeddings": False,
            "initializer_range": 0.3,
            **changes,
        }
    )


def llama_folder(folder: Path, *, seed: int = 0, width: int = WIDTH, **changes: Any) -> Path:
    """A LLaMA-class language model with its tokenizer."""
    from transformers import LlamaForCausalLM

    words = tokenizer()
    torch.manual_seed(seed)
    model = LlamaForCausalLM(llama_config(len(words), width, **changes))
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def clip_vision(**changes: Any) -> dict[str, Any]:
    """A CLIP tower of 28 pixels and patches of 14."""
    return {
        "model_type": "clip_vision_model",
        "hidden_size": WIDTH,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
        "projection_dim": 16,
        **changes,
    }


CHAT = (
    "{% for m in messages %}USER: {% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image> {% else %}{{ c['text'] }}{% endif %}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)


def clip_processor(side: int = 28, **changes: Any) -> Any:
    """Pillow's CLIP image processor."""
    import transformers

    found = getattr(transformers, "CLIPImageProcessorPil", None) or transformers.CLIPImageProcessor
    return found(
        **{
            "size": {"shortest_edge": side},
            "crop_size": {"height": side, "width": side},
            **changes,
        }
    )


def llava_folder(folder: Path, *, seed: int = 0, chat: str | None = None) -> Path:
    """LLaVA-1.5's classes."""
    from transformers import LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

    words = tokenizer("<image>", chat=chat)
    image = words.convert_tokens_to_ids("<image>")
    config = LlavaConfig(
        vision_config=clip_vision(),
        text_config=llama_config(len(words)).to_dict(),
        image_token_index=image,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    torch.manual_seed(seed)
    model = LlavaForConditionalGeneration(config)
    model.save_pretrained(folder)
    LlavaProcessor(
        image_processor=clip_processor(),
        tokenizer=words,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    ).save_pretrained(folder)
    return folder


def reciting_folder(folder: Path, words: Sequence[str]) -> Path:
    """A LLaVA that answers every question with these words: each token's embedding is the logit
    direction of the next, and no layer adds anything."""
    from transformers import LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

    known = tokenizer("<image>", chat=CHAT, plain=words)
    width = 128
    config = LlavaConfig(
        vision_config=clip_vision(),
        text_config=llama_config(len(known), width).to_dict(),
        image_token_index=known.convert_tokens_to_ids("<image>"),
    )
    model: Any = LlavaForConditionalGeneration(config)
    chain = [":", *words, "</s>"]
    ids = [known.convert_tokens_to_ids(word) for word in chain]
    with torch.no_grad():
        for name, weight in model.model.language_model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                weight.zero_()
        embeddings = torch.eye(len(known), width)
        model.get_input_embeddings().weight.copy_(embeddings)
        model.lm_head.weight.zero_()
        for now, following in zip(ids, ids[1:], strict=False):
            model.lm_head.weight[following] = embeddings[now]
    model.save_pretrained(folder)
    LlavaProcessor(
        image_processor=clip_processor(),
        tokenizer=known,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    ).save_pretrained(folder)
    return folder


def llava_next_folder(folder: Path, *, seed: int = 0) -> Path:
    """LLaVA-NeXT's classes: several tiles a picture."""
    import transformers
    from transformers import LlavaNextConfig, LlavaNextForConditionalGeneration, LlavaNextProcessor

    words = tokenizer("<image>", chat=CHAT)
    pins = [[28, 56], [56, 28], [56, 56]]
    config = LlavaNextConfig(
        vision_config=clip_vision(),
        text_config=llama_config(len(words)).to_dict(),
        image_token_index=words.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=pins,
    )
    torch.manual_seed(seed)
    LlavaNextForConditionalGeneration(config).save_pretrained(folder)
    kind = (
        getattr(transformers, "LlavaNextImageProcessorPil", None)
        or transformers.LlavaNextImageProcessor
    )
    LlavaNextProcessor(
        image_processor=kind(
            size={"shortest_edge": 28},
            crop_size={"height": 28, "width": 28},
            image_grid_pinpoints=pins,
        ),
        tokenizer=words,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    ).save_pretrained(folder)
    return folder


def _blip_parts(words: int) -> dict[str, Any]:
    from transformers import OPTConfig

    text = OPTConfig(
        vocab_size=words,
        hidden_size=WIDTH,
        ffn_dim=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        word_embed_proj_dim=WIDTH,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=3,
        init_std=0.3,
    )
    vision = {
        "hidden_size": WIDTH,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
        "initializer_range": 0.5,
    }
    qformer = {
        "vocab_size": words,
        "hidden_size": WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 64,
        "encoder_hidden_size": WIDTH,
        "pad_token_id": 3,
        "initializer_range": 0.5,
    }
    return {"vision_config": vision, "qformer_config": qformer, "text_config": text.to_dict()}


def _louder(model: Any) -> Any:
    """Fresh weights would let the picture say hardly anything to the language model."""
    with torch.no_grad():
        model.query_tokens.normal_()
        model.language_projection.weight.mul_(40)
    return model


def _blip_processor() -> Any:
    import transformers

    kind = getattr(transformers, "BlipImageProcessorPil", None) or transformers.BlipImageProcessor
    return kind(size={"height": 28, "width": 28})


def blip2_folder(folder: Path, *, seed: int = 0) -> Path:
    """BLIP-2 with an OPT."""
    from transformers import Blip2Config, Blip2ForConditionalGeneration, Blip2Processor

    words = tokenizer("<image>")
    config = Blip2Config(
        **_blip_parts(len(words)),
        num_query_tokens=3,
        image_token_index=words.convert_tokens_to_ids("<image>"),
    )
    torch.manual_seed(seed)
    _louder(Blip2ForConditionalGeneration(config)).save_pretrained(folder)
    Blip2Processor(_blip_processor(), words, num_query_tokens=3).save_pretrained(folder)
    return folder


def instructblip_folder(folder: Path, *, seed: int = 0) -> Path:
    """InstructBLIP: its Q-Former reads the prompt too."""
    from transformers import (
        InstructBlipConfig,
        InstructBlipForConditionalGeneration,
        InstructBlipProcessor,
    )

    words = tokenizer("<image>")
    config = InstructBlipConfig(
        **_blip_parts(len(words)),
        num_query_tokens=3,
        image_token_index=words.convert_tokens_to_ids("<image>"),
    )
    torch.manual_seed(seed)
    _louder(InstructBlipForConditionalGeneration(config)).save_pretrained(folder)
    InstructBlipProcessor(
        _blip_processor(), words, tokenizer(), num_query_tokens=3
    ).save_pretrained(folder)
    return folder


IDEFICS = ("<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>")


def idefics3_folder(folder: Path, *, seed: int = 0) -> Path:
    """Idefics3: SigLIP-like tower, tiles, pixel shuffle."""
    import transformers
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3Processor

    words = tokenizer(*IDEFICS, chat=CHAT)
    config = Idefics3Config(
        vision_config={
            "hidden_size": WIDTH,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 7,
        },
        text_config=llama_config(len(words)).to_dict(),
        image_token_id=words.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        **PADS,
    )
    torch.manual_seed(seed)
    Idefics3ForConditionalGeneration(config).save_pretrained(folder)
    kind = (
        getattr(transformers, "Idefics3ImageProcessorPil", None)
        or transformers.Idefics3ImageProcessor
    )
    Idefics3Processor(
        kind(
            size={"longest_edge": 28}, max_image_size={"longest_edge": 28}, do_image_splitting=False
        ),
        words,
        image_seq_len=4,
    ).save_pretrained(folder)
    return folder


def florence2_folder(folder: Path, *, seed: int = 0) -> Path:
    """Florence-2: a DaViT and a BART."""
    from transformers import Florence2Config, Florence2ForConditionalGeneration, Florence2Processor

    words = tokenizer(image_token="<image>")
    image_id = words.convert_tokens_to_ids("<image>")
    config = Florence2Config(
        text_config={
            "model_type": "bart",
            "vocab_size": len(words),
            "d_model": WIDTH,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 48,
            "decoder_ffn_dim": 48,
            "max_position_embeddings": 128,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 3,
            "decoder_start_token_id": 2,
            "forced_eos_token_id": None,
            "init_std": 0.3,
        },
        vision_config={
            "embed_dim": (8, 16, 16, 16),
            "depths": (1, 1, 1, 1),
            "num_heads": (2, 2, 2, 2),
            "num_groups": (2, 2, 2, 2),
            "patch_size": (7, 3, 3, 3),
            "window_size": 2,
            "projection_dim": WIDTH,
            "max_position_embeddings": 8,
        },
        image_token_id=image_id,
        is_encoder_decoder=True,
    )
    torch.manual_seed(seed)
    Florence2ForConditionalGeneration(config).save_pretrained(folder)
    image = clip_processor(
        do_center_crop=False, size={"height": 32, "width": 32}, image_seq_length=2
    )
    Florence2Processor(image, words, num_additional_image_tokens=0).save_pretrained(folder)
    return folder


FOLDERS: dict[str, Callable[..., Path]] = {
    "llava": llava_folder,
    "llava_next": llava_next_folder,
    "blip2": blip2_folder,
    "instructblip": instructblip_folder,
    "idefics3": idefics3_folder,
    "florence2": florence2_folder,
}


# With a video processor, which needs torchvision.


def llava_onevision_folder(folder: Path, *, seed: int = 0) -> Path:
    """LLaVA-OneVision with a LLaMA."""
    from transformers import (
        LlavaOnevisionConfig,
        LlavaOnevisionForConditionalGeneration,
        LlavaOnevisionImageProcessorPil,
    )

    words = tokenizer("<image>", "<video>", chat=CHAT)
    pins = [[28, 28], [28, 56], [56, 28]]
    config = LlavaOnevisionConfig(
        vision_config={
            **{k: v for k, v in clip_vision().items() if k != "projection_dim"},
            "model_type": "siglip_vision_model",
            "vision_use_head": False,
        },
        text_config=llama_config(len(words)).to_dict(),
        image_token_index=words.convert_tokens_to_ids("<image>"),
        video_token_index=words.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=pins,
        vision_aspect_ratio="anyres_max_9",
    )
    torch.manual_seed(seed)
    LlavaOnevisionForConditionalGeneration(config).save_pretrained(folder)
    image = LlavaOnevisionImageProcessorPil(
        size={"height": 28, "width": 28}, image_grid_pinpoints=pins
    )
    return _processor_files(
        folder,
        image,
        words,
        "LlavaOnevisionProcessor",
        num_image_tokens=4,
        vision_feature_select_strategy="full",
    )


def qwen2_vl_folder(folder: Path, *, seed: int = 0) -> Path:
    """Qwen2-VL."""
    from transformers import (
        Qwen2VLConfig,
        Qwen2VLForConditionalGeneration,
        Qwen2VLImageProcessorPil,
    )

    marks = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    words = tokenizer(
        *marks, chat=CHAT.replace("<image> ", "<|vision_start|><|image_pad|><|vision_end|>")
    )
    ids = dict(
        zip(
            ("vision_start", "vision_end", "image", "video"),
            (words.convert_tokens_to_ids(m) for m in marks),
            strict=True,
        )
    )
    text = llama_config(len(words)).to_dict()
    config = Qwen2VLConfig(
        text_config={
            **{
                k: text[k]
                for k in (
                    "vocab_size",
                    "hidden_size",
                    "intermediate_size",
                    "num_hidden_layers",
                    "num_attention_heads",
                    "num_key_value_heads",
                    "max_position_embeddings",
                    "initializer_range",
                )
            },
            "rope_parameters": {
                "rope_type": "default",
                "mrope_section": [1, 1, 2],
                "rope_theta": 10000.0,
            },
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 3,
        },
        vision_config={
            "depth": 2,
            "embed_dim": WIDTH,
            "hidden_size": WIDTH,
            "num_heads": 2,
            "mlp_ratio": 2,
            "patch_size": 7,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
        **{f"{name}_token_id": value for name, value in ids.items()},
    )
    torch.manual_seed(seed)
    Qwen2VLForConditionalGeneration(config).save_pretrained(folder)
    image = Qwen2VLImageProcessorPil(patch_size=7, min_pixels=14 * 14, max_pixels=28 * 28)
    return _processor_files(folder, image, words, "Qwen2VLProcessor")


def smolvlm_folder(folder: Path, *, seed: int = 0) -> Path:
    """SmolVLM, which is Idefics3 in another processor."""
    from transformers import (
        SmolVLMConfig,
        SmolVLMForConditionalGeneration,
        SmolVLMImageProcessorPil,
    )

    words = tokenizer(*IDEFICS, "<video>", chat=CHAT)
    config = SmolVLMConfig(
        vision_config={
            "hidden_size": WIDTH,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 7,
        },
        text_config=llama_config(len(words)).to_dict(),
        image_token_id=words.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        **PADS,
    )
    torch.manual_seed(seed)
    SmolVLMForConditionalGeneration(config).save_pretrained(folder)
    image = SmolVLMImageProcessorPil(
        size={"longest_edge": 28}, max_image_size={"longest_edge": 28}, do_image_splitting=False
    )
    return _processor_files(folder, image, words, "SmolVLMProcessor", image_seq_len=4)


def _processor_files(folder: Path, image: Any, words: Any, kind: str, **settings: Any) -> Path:
    """What a processor saves, without making one."""
    image.save_pretrained(folder)
    words.save_pretrained(folder)
    values = {"processor_class": kind, **settings}
    (folder / "processor_config.json").write_text(json.dumps(values), encoding="utf-8")
    return folder


WITH_VIDEO: dict[str, Callable[..., Path]] = {
    "llava_onevision": llava_onevision_folder,
    "qwen2_vl": qwen2_vl_folder,
    "smolvlm": smolvlm_folder,
}
