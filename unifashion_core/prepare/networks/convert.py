"""MediaPipe's .tflite files as the weights that ship."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from torch import Tensor, nn

from ...errors import CheckpointError
from .person_detector import PersonDetector
from .pose_landmarks import POSE_FULL, POSE_LITE, PoseLandmarks
from .selfie_segmentation import SelfieSegmentation
from .tflite import Layer, read_layers

_LEFT_OUT = 117
"""Outputs of the one convolution that is left out: 39 world landmarks of 3 numbers."""


def convert_network(path: Path) -> tuple[str, dict[str, Tensor]]:
    """A .tflite file of MediaPipe as a network's weights.

    Args:
        path: The person detector, the pose landmarks (lite or full) or the selfie segmentation;
            recognised by its convolutions.

    Returns:
        Name of the file to write, without its ending, and the state dict in float16, which is how
        the file stores them.

    Raises:
        CheckpointError: If it is none of them.
    """
    layers = read_layers(path)
    for name, network in _networks():
        state = _match(layers, network)
        if state is not None:
            return name, state
    raise CheckpointError(
        f"{path}: its {len(layers)} convolutions are of none of the networks that ship. Give the "
        "person detector, pose landmarks or selfie segmentation of the versions in the card."
    )


def _networks() -> list[tuple[str, nn.Module]]:
    return [
        ("person_detector", PersonDetector()),
        ("pose_landmarks", PoseLandmarks(POSE_LITE)),
        ("pose_landmarks", PoseLandmarks(POSE_FULL)),
        ("selfie_segmentation", SelfieSegmentation()),
    ]


def _match(layers: Sequence[Layer], network: nn.Module) -> dict[str, Tensor] | None:
    """Among convolutions of one shape, the order in which the file runs them is the order in which
    the network defines them.
    """
    free: dict[str, nn.Module] = {
        name: module
        for name, module in _modules(network)
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d))
    }
    state: dict[str, Tensor] = {}
    for layer in layers:
        if layer.weight.shape[0] == _LEFT_OUT:
            continue
        shape = layer.weight.shape
        name = next((n for n, m in free.items() if _weight(m).shape == shape), None)
        if name is None:
            return None
        del free[name]
        state[f"{name}.weight"], state[f"{name}.bias"] = layer.weight.half(), layer.bias.half()
    return None if free else state


def _modules(network: nn.Module) -> Iterable[tuple[str, nn.Module]]:
    return network.named_modules()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] - untyped in torch


def _weight(module: nn.Module) -> Tensor:
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight
