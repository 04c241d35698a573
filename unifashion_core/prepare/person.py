"""Find the person of a picture: box, 33 landmarks, and mask; or that there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from ..errors import CheckpointError
from ..weights import read_weights, shorten
from .detection import detect_persons
from .landmarks import find_landmarks
from .networks.person_detector import PersonDetector
from .networks.pose_landmarks import POSE_FULL, POSE_LITE, PoseLandmarks
from .networks.selfie_segmentation import SelfieSegmentation
from .resample import resize
from .segment import segment_person
from .square import numbers

NETWORK_FILES = ("person_detector", "pose_landmarks", "selfie_segmentation")
"""Names of the files that `load_networks` reads, without .safetensors."""

PERSON_SCORE = 0.68
"""The least score of the detector that counts as a person."""


@dataclass(frozen=True)
class Person:
    """The person of a picture.

    Attributes:
        landmarks: x, y in the picture's pixels, z in the same unit, visibility 0..1, (33, 4),
            float32; in the order of `landmarks.LANDMARK_NAMES`. Points may lie outside the picture.
        box: Left, top, right, bottom around the person, in pixels, inside the picture.
        mask: The person, (H, W) of the picture, float32 in 0..1.
        score: Of the detector, 0..1.
        others: How many more persons there are; this one is the largest.
    """

    landmarks: Tensor
    box: tuple[float, float, float, float]
    mask: Tensor
    score: float
    others: int

    def resized(self, height: int, width: int) -> Person:
        """The same person in the picture at another size."""
        y, x = height / self.mask.shape[0], width / self.mask.shape[1]
        if x == y == 1.0:
            return self
        landmarks = self.landmarks * torch.tensor([x, y, x, 1.0])
        left, top, right, bottom = self.box
        return replace(
            self,
            landmarks=landmarks,
            box=(left * x, top * y, right * x, bottom * y),
            mask=resize(self.mask, height, width, smooth=True),
        )


class PersonNetworks(nn.Module):
    """The three networks that find a person; one module, so that a host can move them at once."""

    def __init__(
        self, detector: PersonDetector, pose: PoseLandmarks, selfie: SelfieSegmentation
    ) -> None:
        super().__init__()
        self.detector, self.pose, self.selfie = detector, pose, selfie


def load_networks(folder: Path, device: torch.device, dtype: torch.dtype) -> PersonNetworks:
    """Load the networks from a folder of the pocket.

    Args:
        folder: With person_detector, pose_landmarks and selfie_segmentation, .safetensors each.
        device: Where they are put.
        dtype: What they compute in.

    Raises:
        CheckpointError: If a file is missing or does not fit.
    """
    paths = [folder / f"{name}.safetensors" for name in NETWORK_FILES]
    states = [_read(path) for path in paths]
    stem = states[1].get("trunk.stem_project.weight")
    lite = stem is not None and len(stem) == POSE_LITE.stem
    networks = PersonNetworks(
        PersonDetector(), PoseLandmarks(POSE_LITE if lite else POSE_FULL), SelfieSegmentation()
    )
    for network, path, state in zip(networks.children(), paths, states, strict=True):
        _fill(network, path, state)
    return networks.to(device, dtype).requires_grad_(False).eval()


def _read(path: Path) -> dict[str, Tensor]:
    return {name: stored.read().clone() for name, stored in read_weights(path).tensors.items()}


def _fill(network: nn.Module, path: Path, state: Mapping[str, Tensor]) -> None:
    own = {name: tensor.shape for name, tensor in network.state_dict().items()}
    given = {name: tensor.shape for name, tensor in state.items()}
    wrong = {name for name in own.keys() | given.keys() if own.get(name) != given.get(name)}
    if wrong:
        raise CheckpointError(
            f"{path}: does not fit its network ({shorten(wrong)}). Use the file that ships with "
            "the pack, or make it again with `run.py convert-mediapipe`."
        )
    network.load_state_dict(state)


@torch.inference_mode()
def find_person(image: Image.Image, networks: PersonNetworks) -> Person | None:
    """The largest person of a picture.

    Args:
        image: Any size; made RGB.
        networks: Of `load_networks`.

    Returns:
        The person; None if the picture shows none.
    """
    image = image.convert("RGB")
    found = [d for d in detect_persons(image, networks.detector) if d.score >= PERSON_SCORE]
    if not found:
        return None
    largest = max(found, key=lambda d: d.square.side)
    pose = find_landmarks(image, largest.square, networks.pose)
    mask = segment_person(image, pose, networks.selfie)
    return Person(pose.points, _box(pose.points, mask), mask, largest.score, len(found) - 1)


def _box(points: Tensor, mask: Tensor) -> tuple[float, float, float, float]:
    """Around the mask where it is surely a person."""
    sure = mask > 0.5
    rows, columns = sure.any(1).nonzero(), sure.any(0).nonzero()
    if not len(rows):
        height, width = mask.shape
        limit = torch.tensor([width, height], dtype=torch.float32)
        inside = torch.minimum(points[:, :2].clamp(min=0), limit)
        left, top, right, bottom = numbers(torch.cat((inside.amin(0), inside.amax(0))))
        return left, top, right, bottom
    top, bottom = float(rows[0]), float(rows[-1] + 1)
    return float(columns[0]), top, float(columns[-1] + 1), bottom
