"""`train average`: the mean of encoders that were trained from the same weights.

A later training pulls some of what an encoder finds up and some down; their mean keeps most of
both. It holds for weights of one origin alone: two that were drawn apart have nothing in common.

Source: Wortsman et al., "Model soups", 2022, https://arxiv.org/abs/2203.05482
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..encoder.encoder import MultimodalEncoder
from ..errors import InputError


def averaged(encoders: Sequence[MultimodalEncoder]) -> dict[str, Tensor]:
    """The mean of every tensor, taken in float32.

    Args:
        encoders: Two or more of the same sizes, groups and words.

    Returns:
        A state dict, float32.

    Raises:
        InputError: If there are fewer than two, or they differ in more than weights.
    """
    if len(encoders) < 2:
        raise InputError("average: one encoder alone has no mean. Name two or more.")
    first = encoders[0]
    states = [encoder.model.state_dict() for encoder in encoders]
    for n, (encoder, state) in enumerate(zip(encoders[1:], states[1:], strict=True), start=2):
        differs = (
            "sizes or preprocessing"
            if encoder.config != first.config
            else "words"
            if encoder.tokenizer.vocabulary != first.tokenizer.vocabulary
            else "groups of weights"
            if state.keys() != states[0].keys()
            else None
        )
        if differs:
            raise InputError(
                f"average: encoder {n} has other {differs} than the first. Name encoders that were "
                "trained from the same weights."
            )
    return {
        name: torch.stack([state[name].float() for state in states]).mean(0) for name in states[0]
    }
