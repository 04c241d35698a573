"""What a sample is led by: the person without the old garment, the new garment or sketch, the pose
and the context.

Persons, garments and texts are encoded one by one, so that a caller can keep each by its content;
`make_condition` joins them to a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError, ShapeError
from .autoencoder import Posterior
from .checkpoint import TryOnModel
from .config import TryOnConfig

GREY = 128 / 255
"""What the agnostic picture has where the mask is, as the reference's data has it."""

MAX_SIDE = 2048
"""Of a picture that the networks take, in pixels: attention grows with the fourth power of it."""


@dataclass(frozen=True)
class PersonLatents:
    """One person with a region to paint anew, encoded.

    Attributes:
        agnostic: Of the photo with grey where the mask is, (1, z, h, w) each, unscaled.
        pose: Of the pose map.
        keep: Mask of the network, 1 = keep, (1, 1, h, w).
        empty: Whether the mask marks nothing: then nothing is sampled.
        photo: Of the whole photo, or None where it was not asked for.
    """

    agnostic: Posterior
    pose: Posterior
    keep: Tensor
    empty: bool
    photo: Posterior | None = None


@dataclass(frozen=True)
class Condition:
    """What B items are led by.

    Attributes:
        agnostic: (B, z, h, w) each, unscaled.
        pose: (B, z, h, w) each, unscaled.
        keep: 1 = keep, (B, 1, h, w).
        hint: Of garment or sketch, (B, z, h, w) each, unscaled; None: none has any.
        hint_strength: What the garment's maps are multiplied by, (B,); 0 where an item has no
            garment.
        context: (B, N, context_dim).
        free: The context that guidance leads away from, (1, N, context_dim) or (1, 1, …); None
            where the model has none.
        empty: Items with nothing to paint, B.
        photo: Of the whole photos, (B, z, h, w) each, or None.
    """

    agnostic: Posterior
    pose: Posterior
    keep: Tensor
    hint: Posterior | None
    hint_strength: Tensor
    context: Tensor
    free: Tensor | None
    empty: tuple[bool, ...]
    photo: Posterior | None = None

    def __len__(self) -> int:
        return len(self.keep)

    def select(self, rows: Sequence[int]) -> Condition:
        """The condition of some items."""
        at = torch.tensor(rows, dtype=torch.long)

        def pick(found: Posterior | None) -> Posterior | None:
            return None if found is None else Posterior(found.mean[at], found.logvar[at])

        agnostic, pose = pick(self.agnostic), pick(self.pose)
        assert agnostic is not None
        assert pose is not None
        return replace(
            self,
            agnostic=agnostic,
            pose=pose,
            keep=self.keep[at],
            hint=pick(self.hint),
            hint_strength=self.hint_strength[at],
            context=self.context[at],
            empty=tuple(self.empty[row] for row in rows),
            photo=pick(self.photo),
        )


@torch.inference_mode()
def encode_person(
    model: TryOnModel, photo: Tensor, mask: Tensor, pose: Tensor, *, whole: bool = False
) -> PersonLatents:
    """Encode a person that was fitted to the model.

    Args:
        model: Its autoencoder is used.
        photo: (H, W, 3), 0..1.
        mask: 1 = to be painted anew, (H, W), 0..1.
        pose: Pose map, (H, W, 3), 0..1.
        whole: Encode the whole photo as well: a start from it needs that.

    Returns:
        Latents, on the CPU.

    Raises:
        ShapeError: If sizes differ, or can't be halved as often as the networks do.
        InputError: If a value is no number.
    """
    check_size(model.config, photo.shape[0], photo.shape[1])
    for name, value, channels in (("photo", photo, 3), ("pose map", pose, 3), ("mask", mask, 0)):
        wanted = (*photo.shape[:2], channels) if channels else tuple(photo.shape[:2])
        if tuple(value.shape) != wanted:
            raise ShapeError(
                f"try-on condition: {name} is {tuple(value.shape)}, wanted {wanted}. Fit photo, "
                "mask and pose map to the model together."
            )
        _check_numbers(value, name)
    marked = mask.clamp(0.0, 1.0)
    agnostic = photo * (1 - marked[..., None]) + GREY * marked[..., None]
    mean = encode_picture(model, agnostic)
    # As the reference: bilinear without antialias.
    small = F.interpolate(marked.float()[None, None], mean.mean.shape[2:], mode="bilinear")
    return PersonLatents(
        mean,
        encode_picture(model, pose),
        (1 - small).cpu(),
        not bool((marked > 0).any()),
        encode_picture(model, photo) if whole else None,
    )


@torch.inference_mode()
def encode_picture(model: TryOnModel, picture: Tensor) -> Posterior:
    """What the autoencoder says of a garment, a sketch or any other fitted picture.

    Args:
        model: Its autoencoder is used.
        picture: (H, W, 3), 0..1.

    Returns:
        (1, z, h, w) each, unscaled, float32 on the CPU.

    Raises:
        ShapeError: If its sides can't be halved as often as the networks do.
        InputError: If a value is no number.
    """
    if picture.ndim != 3 or picture.shape[-1] != 3:
        raise ShapeError(
            f"try-on condition: a picture of shape {tuple(picture.shape)}, wanted (H, W, 3). "
            "Give one RGB picture."
        )
    check_size(model.config, picture.shape[0], picture.shape[1])
    _check_numbers(picture, "picture")
    like = next(model.autoencoder.parameters())
    pixels = (picture * 2 - 1).permute(2, 0, 1)[None].to(like.device, like.dtype)
    found = model.autoencoder.encode(pixels)
    return Posterior(found.mean.float().cpu(), found.logvar.float().cpu())


def make_condition(
    persons: Sequence[PersonLatents],
    hints: Sequence[Posterior | None],
    context: Tensor,
    free: Tensor | None,
    *,
    hint_strength: float | Sequence[float] = 1.0,
    context_strength: float | Sequence[float] = 1.0,
) -> Condition:
    """Join what was encoded to the condition of B items.

    Args:
        persons: One an item.
        hints: Garment or sketch of each item; None: none, the context leads.
        context: (B, N, context_dim).
        free: The model's context of nothing, (1, N or 1, context_dim); None where it has none.
        hint_strength: How much the garment counts; 0 leaves it out.
        context_strength: How much the context counts: 0 is the context of nothing, 1 is it, and
            more goes beyond.

    Raises:
        ShapeError: If counts or sizes differ.
        InputError: If a strength is no number of 0 or more, or needs a context of nothing that the
            model has not.
    """
    count = len(persons)
    if not count or len(hints) != count or len(context) != count:
        raise ShapeError(
            f"try-on condition: {count} persons, {len(hints)} garments, {len(context)} contexts. "
            "Give one of each an item."
        )
    hint_strengths = _strengths("hint", hint_strength, count)
    context_strengths = _strengths("context", context_strength, count)
    there = torch.tensor([hint is not None for hint in hints])
    known = [h for h in hints if h is not None]
    blank = persons[0].agnostic
    joined = [blank if h is None else h for h in hints]
    photos = [p.photo for p in persons if p.photo is not None]
    return Condition(
        _join([p.agnostic for p in persons], "agnostic pictures"),
        _join([p.pose for p in persons], "pose maps"),
        torch.cat([p.keep for p in persons]),
        _join(joined, "garments") if known else None,
        hint_strengths * there,
        _strengthened(context, free, context_strengths),
        free,
        tuple(p.empty for p in persons),
        _join(photos, "photos") if len(photos) == count else None,
    )


def check_size(config: TryOnConfig, height: int, width: int) -> None:
    """Whether the networks can halve a picture as often as they do.

    Raises:
        ShapeError: If not; the message names the two nearest sizes.
    """
    step = config.autoencoder.factor * config.unet.latent_multiple
    sides = (height, width)
    if all(side and side % step == 0 and side <= MAX_SIDE for side in sides):
        return
    limit = MAX_SIDE // step * step
    low = [min(max(side // step * step, step), limit) for side in sides]
    high = [min(below + step, limit) for below in low]
    raise ShapeError(
        f"try-on condition: a picture of {width}x{height}, wanted sides that are multiples of "
        f"{step} and at most {MAX_SIDE}. Use {low[1]}x{low[0]} or {high[1]}x{high[0]}: fit it to "
        "the model first."
    )


def _join(found: Sequence[Posterior], what: str) -> Posterior:
    shapes = sorted({tuple(p.mean.shape[1:]) for p in found})
    if len(shapes) > 1:
        raise ShapeError(
            f"try-on condition: {what} of latent sizes {shapes} in one batch. Fit all to one size."
        )
    return Posterior(torch.cat([p.mean for p in found]), torch.cat([p.logvar for p in found]))


def _strengths(what: str, given: float | Sequence[float], count: int) -> Tensor:
    values = [float(given)] * count if isinstance(given, (int, float)) else [*map(float, given)]
    found = torch.tensor(values)
    if len(values) != count or not bool(torch.isfinite(found).all()) or bool((found < 0).any()):
        raise InputError(
            f"try-on condition: {what} strengths {values} for {count} items, wanted one of 0 or "
            "more an item. Choose 1 where in doubt."
        )
    return found


def _strengthened(context: Tensor, free: Tensor | None, strengths: Tensor) -> Tensor:
    if bool((strengths == 1).all()):
        return context
    if free is None:
        raise InputError(
            "try-on condition: this model has no context of nothing to weaken the context to. "
            "Leave the context strength at 1."
        )
    free = free.to(context)
    moved = free + strengths[:, None, None].to(context) * (context - free)
    return torch.where(strengths[:, None, None].to(context.device) == 1, context, moved)


def _check_numbers(value: Tensor, name: str) -> None:
    if not bool(torch.isfinite(value).all()):
        raise InputError(
            f"try-on condition: the {name} holds values that are no numbers (NaN or infinite). "
            "Make it again."
        )
