"""What language models are asked, as data: the paper's prompts, our own, and each family's form.

The sentences below are facts of the models that were trained with them, or our own words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from .decoding import DecodingSettings

INSTRUCTIONS: tuple[str, ...] = (
    "Describe the garment in this picture.",
    "Write a caption for this picture.",
    "What does this picture show? Answer in one sentence.",
    "Give a short description of what is worn here.",
    "Describe this fashion item.",
    "Say in a few words what can be seen.",
    "Write one sentence about the clothing in this image.",
    "Summarise the image briefly.",
    "Which garment is this? Describe it.",
    "Describe colour, kind and details of the garment.",
    "Provide a product description of this item.",
    "Caption this image.",
)
"""Twelve ways to ask a Q-Former's language model; training draws one a batch, a caption asks the
first."""

LLAVA_CAPTION = "Please generate a caption to describe the image."
"""What the paper's LLaVA was tuned on."""

LLAVA_DETAILED = "Write a detail and professional description for the cloth:"
"""What the paper's evaluation asks on FashionGen, in its own spelling."""

FASHION_IQ_CAPTION = (
    "Describe the garment in this picture: its colour, its length, its sleeves, any pattern, "
    "graphic or logo, and its design, in at least five words. Reference caption: {guidance}. Do "
    "not use comparative words."
)
"""The paper's caption mining asks for these points, guided by a pair's texts; our wording."""

GARMENT_CAPTION = (
    "Describe the garment in one sentence: colour, kind of garment, pattern, sleeves, neckline "
    "and length."
)
"""For models that follow instructions and were not tuned by the paper."""

VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions. USER: {image}\n{prompt} "
    "ASSISTANT:"
)
"""The conversation form "v1" that LLaVA-1.5 was trained with (Vicuna 1.1's)."""

PAPER_LLM = DecodingSettings(
    strategy="beam", beams=5, min_tokens=1, max_tokens=256, top_p=0.9, repetition_penalty=1.5
)
"""How the paper generates with the Q-Former's language model. Lengths count new tokens."""

PAPER_LLAVA = DecodingSettings(strategy="greedy", min_tokens=1, max_tokens=512)
"""How it generates with LLaVA."""

GREEDY = DecodingSettings(strategy="greedy", min_tokens=1, max_tokens=256)
"""For every other vision-language model."""


@dataclass(frozen=True)
class Family:
    """How one kind of vision-language model is asked.

    Attributes:
        prompt: For a caption.
        settings: Generation settings.
        form: Around image and prompt where the folder brings no chat template: "{image}" is the
            processor's own token for a picture.
        asks: Whether it answers a prompt of the user's.
        attributes: Whether it can be trusted to answer with a JSON object.
        nested: Whether its processor takes a list of pictures for each prompt.
    """

    prompt: str = GARMENT_CAPTION
    settings: DecodingSettings = field(default=GREEDY)
    form: str = "{image}{prompt}"
    asks: bool = True
    attributes: bool = True
    nested: bool = False


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "llava": Family(LLAVA_CAPTION, PAPER_LLAVA, VICUNA),
        "vipllava": Family(form=VICUNA),
        "llava_next": Family(form=VICUNA),
        "idefics2": Family(nested=True),
        "idefics3": Family(nested=True),
        "smolvlm": Family(nested=True),
        # These two processors put the picture in front themselves.
        "blip-2": Family("a photo of", GREEDY, "{prompt}", asks=False, attributes=False),
        "instructblip": Family(GARMENT_CAPTION, GREEDY, "{prompt}", attributes=False),
        "blip": Family("", GREEDY, "{prompt}", asks=False, attributes=False),
        "git": Family("", GREEDY, "{prompt}", asks=False, attributes=False),
        "florence2": Family(
            "<MORE_DETAILED_CAPTION>", GREEDY, "{prompt}", asks=False, attributes=False
        ),
    }
)
"""By the `model_type` of a folder; any other model is a plain `Family`."""


def family_of(model_type: str) -> Family:
    """How a kind of model is asked."""
    return FAMILIES.get(model_type, Family())
