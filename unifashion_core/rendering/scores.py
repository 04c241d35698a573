"""How well a try-on kept the garment, and whether it kept the rest of the photo."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ShapeError
from ..imaging import to_pil, to_tensor
from ..prepare.fit import check_mask, mask_box
from ..types import ImageEncoder, OnStep
from .item import Rendered
from .plan import Picture, PlanItem

BATCH = 16
SIMILARITY = "similarity"
"""What a run's lines call `TryOnScore.similarity`."""

_GARMENTS = 256  # whose tokens a run keeps at hand


@dataclass(frozen=True)
class TryOnScore:
    """What one result is worth.

    Attributes:
        similarity: Of the garment and what is worn inside the mask, by the encoder, -1..1.
        outside: Largest difference to the photo outside the mask, 0..1; None without a photo.
    """

    similarity: float
    outside: float | None = None

    @property
    def kept(self) -> bool:
        """Whether the photo is the same outside the mask, as far as that is known."""
        return not self.outside


def score_results(
    encoder: ImageEncoder,
    results: Sequence[Tensor],
    garments: Sequence[Tensor],
    masks: Sequence[Tensor | None],
    photos: Sequence[Tensor | None],
    on_step: OnStep | None = None,
) -> list[TryOnScore]:
    """Compare results with the garments that they shall show, by late interaction: the mean over
    the garment's tokens of the result's best one.

    Args:
        encoder: Its weights on the device.
        results: (H, W, 3 or 4), 0..1.
        garments: The garment of each, (h, w, 3 or 4), 0..1.
        masks: Where each was painted, (H, W); None: the whole picture is looked at.
        photos: What each was painted over, (H, W, C); None: unknown.
        on_step: Progress over the pictures that are encoded.

    Raises:
        ShapeError: If a mask or a photo has another size than its result.
    """
    cut = [_worn(result, mask) for result, mask in zip(results, masks, strict=True)]
    tokens = _tokens(encoder, [*cut, *(_plain(garment) for garment in garments)], on_step)
    found: list[TryOnScore] = []
    for number, (result, mask, photo) in enumerate(zip(results, masks, photos, strict=True)):
        similarity = _similarity(tokens[len(results) + number], tokens[number])
        found.append(TryOnScore(similarity, _outside(result, mask, photo)))
    return found


class RunScorer:
    """Scores each picture of a plan's run as it is made; a garment is encoded once. A picture
    that was led by words or a sketch alone has no garment to be like, and gets no score.

    Args:
        ready: Gives the encoder, its weights on the device; called right before it is used.
    """

    def __init__(self, ready: Callable[[], ImageEncoder]) -> None:
        self._ready = ready
        self._known: OrderedDict[Hashable, Tensor] = OrderedDict()

    def __call__(self, item: PlanItem, made: Rendered) -> dict[str, float]:
        """What stands in the item's line; as `score_results` measures it."""
        if item.garment is None or item.sketch is not None:
            return {}
        encoder = self._ready()
        garment = self._garment(encoder, item.garment)
        (worn,) = _tokens(encoder, [_worn(made.image, made.item.person.mask)])
        return {SIMILARITY: round(_similarity(garment, worn), 4)}

    def _garment(self, encoder: ImageEncoder, picture: Picture) -> Tensor:
        key = id(picture.image) if picture.path is None else picture.path
        if key not in self._known:
            (self._known[key],) = _tokens(encoder, [to_tensor(picture.open())])
            while len(self._known) > _GARMENTS:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key]


def _tokens(
    encoder: ImageEncoder, pictures: Sequence[Tensor], on_step: OnStep | None = None
) -> list[Tensor]:
    found: list[Tensor] = []
    for start in range(0, len(pictures), BATCH):
        some = [encoder.preprocess(to_pil(p)) for p in pictures[start : start + BATCH]]
        found += list(encoder.encode_pixels(torch.stack(some)).tokens)
        if on_step is not None:
            on_step(len(found), len(pictures))
    return found


def _similarity(garment: Tensor, worn: Tensor) -> float:
    return float((garment @ worn.T).amax(dim=1).mean())


def best_first(scores: Sequence[TryOnScore]) -> list[int]:
    """Places of the scores, best first: those that kept the photo before those that did not."""
    return sorted(range(len(scores)), key=lambda n: (not scores[n].kept, -scores[n].similarity))


def _worn(result: Tensor, mask: Tensor | None) -> Tensor:
    """What is inside the mask, on white."""
    plain = _plain(result)
    if mask is None:
        return plain
    check_mask(mask, (int(result.shape[0]), int(result.shape[1])), "Score try-on")
    box = mask_box(mask)
    if box is None:
        return plain
    left, top, right, bottom = box
    inside = (mask[top:bottom, left:right, None] > 0).float()
    return plain[top:bottom, left:right] * inside + (1.0 - inside)


def _plain(image: Tensor) -> Tensor:
    image = image.detach().float().cpu()
    if image.shape[-1] == 4:
        image = image[..., :3] * image[..., 3:] + (1.0 - image[..., 3:])
    return image


def _outside(result: Tensor, mask: Tensor | None, photo: Tensor | None) -> float | None:
    if photo is None:
        return None
    if result.shape != photo.shape:
        raise ShapeError(
            f"Score try-on: result {tuple(result.shape)}, photo {tuple(photo.shape)}. Connect the "
            "photo that it was painted over, with paste-back on."
        )
    difference = (result.float() - photo.float()).abs().amax(dim=-1).cpu()
    if mask is None:
        return float(difference.max())
    kept = difference[mask.cpu() <= 0]
    return float(kept.max()) if kept.numel() else 0.0
