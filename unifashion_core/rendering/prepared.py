"""Persons and garments as a try-on model reads them: cropped, marked, posed, and known by content.

Each is made once: equal inputs give the value that the cache holds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn import functional as F

from ..errors import ImageError, InputError, ShapeError
from ..imaging import MAX_DECODED_PIXELS, MAX_SIDE
from ..prepare.batch import as_masks
from ..prepare.cache import content_key
from ..prepare.fit import Fit, check_mask, check_size, fit, mask_box
from ..prepare.garment import cut_out, frame_garment
from ..prepare.keypoints import from_landmarks, read_keypoints
from ..prepare.posemap import draw_pose_map, fit_skeleton, require_pose_map
from ..prepare.preparer import Known, MaskRequest
from ..prepare.regions import DEFAULT_DILATION, DEFAULT_PROTECTED
from ..prepare.resample import resize
from ..prepare.sketch import SketchStyle, on_paper, sketch
from .tools import TryOnTools

MIN_SIDE = 32
"""Of a photo, in pixels."""

CONTEXT = {"parts": 0.12, "densepose": 0.25}
"""Photo kept round the mask, as a share of its longer side, by the model's kind of pose map: the
middle of what small models are trained with, and about what VITON-HD's photos show."""

EMPTY_MASK = "the mask is empty: the person stays as it is, nothing was painted"
FULL_MASK = "the mask covers the whole photo: everything is painted anew"

_NO_OFFSET = (0.0, 0.0, 0.0, 0.0)
_ELSEWHERE = 0.1  # of the smaller one: less than that in common is another region
_WHITE = 0.92  # of a border that counts as white
_FILLED = 0.84  # of the frame that a sketch takes, as garments do
_SMALL_FRAME, _SMALL_LINES = 256, 8.0  # thin lines would vanish in small frames


@dataclass(frozen=True)
class PreparedPerson:
    """A person's photo, ready for a model.

    Attributes:
        key: SHA-256 of all that it was made from.
        photo: (H, W, 3 or 4), 0..1, as given; where the result goes back to.
        mask: 1 = to be painted anew, (H, W) of the photo.
        region: As asked for; "" where only a mask was given.
        fitted: How the crop goes back.
        crop: The photo in the model's frame, (h, w, 3), 0..1.
        crop_mask: The mask in it, (h, w), 0 or 1.
        pose: The pose map in it, (h, w, 3), 0..1.
        notes: What the user should know.
    """

    key: str
    photo: torch.Tensor
    mask: torch.Tensor
    region: str
    fitted: Fit
    crop: torch.Tensor
    crop_mask: torch.Tensor
    pose: torch.Tensor
    notes: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to paint."""
        return not bool((self.mask > 0).any())


@dataclass(frozen=True)
class PreparedGarment:
    """A garment or a sketch, ready for a model.

    Attributes:
        key: SHA-256 of all that it was made from.
        hint: On white in the model's frame, (h, w, 3), 0..1; a sketch as dark lines.
        kind: "garment" or "sketch".
        notes: What the user should know.
    """

    key: str
    hint: torch.Tensor
    kind: str
    notes: tuple[str, ...] = ()


def prepare_person(
    tools: TryOnTools,
    photo: torch.Tensor,
    region: str = "",
    *,
    mask: torch.Tensor | None = None,
    pose: torch.Tensor | None = None,
    keypoints: Any = None,
    size: tuple[int, int] | None = None,
) -> PreparedPerson:
    """Mark, crop and pose a person.

    Args:
        tools: The model and the preparer.
        photo: (H, W, 3 or 4), 0..1.
        region: What is worn anew, as `prepare.mask` takes it. "" with a mask: whatever that marks.
        mask: 1 = to be painted anew, (H, W) of the photo; None: made from the region.
        pose: A pose map as large as the photo, (H, W, 3), 0..1, of the model's kind. None: drawn,
            where the model takes body parts.
        keypoints: A frame in POSE_KEYPOINT form to draw it from; None: the person is looked for.
        size: Height and width of the model's frame; None: what the model was trained on.

    Raises:
        ImageError: If the photo is too small or too large.
        ShapeError: If photo, mask and pose don't go together.
        InputError: If there is no person, the mask marks another region, or a pose map is missing.
    """
    config = tools.model.config
    size = size or config.size
    _check_photo(photo, "person")
    check_frame(tools, size)
    mask = None if mask is None else _checked_mask(mask, photo)
    if pose is not None and tuple(pose.shape[:2]) != tuple(photo.shape[:2]):
        raise ShapeError(
            f"Try on: pose map {tuple(pose.shape[:2])}, the photo is {tuple(photo.shape[:2])} "
            "(height, width). Make the map of this photo."
        )
    inputs = [photo, region, mask, pose, keypoints, list(size), config.pose_map]
    inputs.append(tools.preparer.fingerprint)

    def make() -> PreparedPerson:
        key = content_key("try-on person", inputs)
        marked, notes = _mask(tools, photo, region, mask)
        colours = _on_white(photo)
        crop, inside, fitted = fit(colours, marked, size, CONTEXT[config.pose_map])
        crop_mask = (inside > 0.5).float()  # as in training: a place is painted anew or kept
        if not bool((marked > 0).any()):
            nothing = torch.zeros_like(crop)
            return PreparedPerson(
                key, photo, marked, region, fitted, crop, crop_mask, nothing, (*notes, EMPTY_MASK)
            )
        if bool((marked > 0).all()):
            notes = (*notes, FULL_MASK)
        drawn = _pose(tools, photo, pose, keypoints, marked, fitted)
        return PreparedPerson(
            key, photo, marked, region, fitted, crop, crop_mask, drawn, tuple(notes)
        )

    return tools.cache.get_or_make("try-on person", inputs, make)


def prepare_garment(
    tools: TryOnTools,
    image: torch.Tensor,
    kind: str = "garment",
    *,
    mask: torch.Tensor | None = None,
    size: tuple[int, int] | None = None,
) -> PreparedGarment:
    """Centre a garment, or a sketch of one, on white in the model's frame, its aspect kept.

    A garment is cut out of its ground, set upright and framed, as models know them; a sketch's
    lines are cleaned and brought to the width that small frames can show.

    Args:
        tools: The model.
        image: (H, W, 3 or 4), 0..1. A sketch may be light on dark or dark on light.
        kind: "garment" or "sketch".
        mask: Where the garment is, (H, W); None: the whole picture, or it is found.
        size: As in `prepare_person`.

    Raises:
        ImageError: If the picture is too small or too large.
        InputError: If the garment can't be told from its ground, or the kind is unknown.
    """
    if kind not in ("garment", "sketch"):
        raise InputError(f"Try on: '{kind}', wanted garment or sketch. Choose one.")
    size = size or tools.model.config.size
    _check_photo(image, kind)
    check_frame(tools, size)
    inputs = [image, kind, mask, list(size), tools.masker is not None]

    def make() -> PreparedGarment:
        key = content_key("try-on garment", inputs)
        colours = _on_white(image)
        if kind == "sketch":
            return PreparedGarment(key, _framed_sketch(colours, size), kind)
        hint, notes = _framed_garment(tools, colours, mask, size)
        return PreparedGarment(key, hint, kind, notes)

    return tools.cache.get_or_make("try-on garment", inputs, make)


def prepare_canvas(
    tools: TryOnTools, pose: torch.Tensor, size: tuple[int, int] | None = None
) -> PreparedPerson:
    """Nobody but a pose: a white page that is painted anew as a whole.

    Args:
        tools: The model.
        pose: The pose map, (H, W, 3), 0..1, of the model's kind.
        size: As in `prepare_person`.
    """
    height, width = int(pose.shape[0]), int(pose.shape[1])
    page = torch.ones(height, width, 3)
    made = prepare_person(tools, page, mask=torch.ones(height, width), pose=pose, size=size)
    note = "no person: the whole picture is made, after the pose map"
    return replace(made, notes=(note,))


def check_frame(tools: TryOnTools, size: tuple[int, int]) -> None:
    """Refuse a frame that the model can't work in.

    Raises:
        ShapeError: If a side is no multiple of what autoencoder and network need.
    """
    config = tools.model.config
    step = config.autoencoder.factor * config.unet.latent_multiple
    if any(side < step or side % step for side in size):
        raise ShapeError(
            f"Try on: frame of {size[1]}x{size[0]}, this model needs sides that are multiples of "
            f"{step}. Use {config.size[1]}x{config.size[0]}, which it was trained on."
        )
    check_size(size, "Try on")


def _check_photo(photo: torch.Tensor, what: str) -> None:
    if photo.ndim != 3 or photo.shape[-1] not in (3, 4):
        raise ShapeError(
            f"Try on: {what} {tuple(photo.shape)}, wanted (H, W, 3) or (H, W, 4). Give one picture."
        )
    height, width = int(photo.shape[0]), int(photo.shape[1])
    if min(height, width) < MIN_SIDE:
        raise ImageError(
            f"Try on: {what} of {width}x{height} pixels, wanted {MIN_SIDE} or more a side. Give a "
            "larger picture."
        )
    if max(height, width) > MAX_SIDE or height * width > MAX_DECODED_PIXELS:
        raise ImageError(
            f"Try on: {what} of {width}x{height} pixels, at most {MAX_SIDE} a side and "
            f"{MAX_DECODED_PIXELS // 1_000_000} million are taken. Make it smaller."
        )
    if not bool(torch.isfinite(photo).all()):
        raise ImageError(f"Try on: {what} holds values that are no numbers. Load it again.")


def _checked_mask(mask: torch.Tensor, photo: torch.Tensor) -> torch.Tensor:
    """One mask of the photo's size, on the CPU."""
    planes = as_masks(mask)
    if len(planes) != 1 or planes.ndim != 3:
        raise ShapeError(f"Try on: mask {tuple(mask.shape)}, wanted one a photo. Give (H, W).")
    plane = planes[0].detach().float().cpu()
    check_mask(plane, (int(photo.shape[0]), int(photo.shape[1])), "Try on")
    if not bool(torch.isfinite(plane).all()):
        raise InputError("Try on: the mask holds values that are no numbers. Make it again.")
    return plane.clamp(0.0, 1.0)


def _mask(
    tools: TryOnTools, photo: torch.Tensor, region: str, given: torch.Tensor | None
) -> tuple[torch.Tensor, tuple[str, ...]]:
    """The mask and what to know of it; one that was given must mark the region."""
    if given is None:
        made = tools.preparer.mask(photo, Known(), _request(region or "upper"))
        return made.mask, (f"mask: {made.note}",)
    if region and bool((given > 0).any()) and not bool((given > 0).all()):
        _check_region(tools, photo, region, given)
    return given, ()


def _request(region: str) -> MaskRequest:
    return MaskRequest(region, "keep", "keep", DEFAULT_DILATION, _NO_OFFSET, DEFAULT_PROTECTED)


def _check_region(tools: TryOnTools, photo: torch.Tensor, region: str, given: torch.Tensor) -> None:
    """Refuse a mask that hardly touches the region; unknown where no person is found."""
    if tools.preparer.person(photo) is None:
        return
    wanted = tools.preparer.mask(photo, Known(), _request(region)).mask > 0
    marked = given > 0
    smaller = min(int(wanted.sum()), int(marked.sum()))
    if smaller and int((wanted & marked).sum()) < _ELSEWHERE * smaller:
        raise InputError(
            f"Try on: the mask hardly touches the region '{region}' of this person. Choose the "
            "region that it marks, or make the mask again for this one."
        )


def _pose(
    tools: TryOnTools,
    photo: torch.Tensor,
    given: torch.Tensor | None,
    keypoints: Any,
    mask: torch.Tensor,
    fitted: Fit,
) -> torch.Tensor:
    """The pose map of the crop."""
    height, width = int(photo.shape[0]), int(photo.shape[1])
    kind = tools.model.config.pose_map
    if kind == "densepose":
        given = tools.preparer.densepose_map(photo, require_pose_map(given, kind, "Try on"))
    if given is not None:
        return fit(given[..., :3].float().cpu(), mask, fitted.size, CONTEXT[kind])[0]
    if keypoints is not None:
        skeleton = read_keypoints(keypoints, (width, height))
    else:
        person = tools.preparer.person(photo)
        if person is None:
            raise InputError(
                "Try on: no person was found in the photo, so the pose is not known. Give one that "
                "shows a person from the head or shoulders to the hips, or give a pose map."
            )
        skeleton = from_landmarks(person.landmarks)
    return draw_pose_map(fit_skeleton(skeleton, fitted), *fitted.size)


def _on_white(image: torch.Tensor) -> torch.Tensor:
    image = image.detach().float().cpu()
    if image.shape[-1] == 4:
        image = image[..., :3] * image[..., 3:] + (1.0 - image[..., 3:])
    return image.clamp(0.0, 1.0)


def _border(image: torch.Tensor) -> torch.Tensor:
    """The darkest channel of each pixel round a picture."""
    edges = [image[0], image[-1], image[:, 0], image[:, -1]]
    return torch.cat([edge.amin(dim=-1) for edge in edges])


def _is_white(image: torch.Tensor) -> bool:
    """Whether a picture's border is white nearly all round."""
    return float((_border(image) >= _WHITE).float().mean()) >= _WHITE


def _framed_garment(
    tools: TryOnTools, colours: torch.Tensor, mask: torch.Tensor | None, size: tuple[int, int]
) -> tuple[torch.Tensor, tuple[str, ...]]:
    """The garment in its frame, and what to know of it."""
    try:
        cut = cut_out(colours, mask, masker=tools.masker)
    except InputError:
        if mask is not None or not _is_white(colours):
            raise
        # a pale garment on white: there is nothing to remove round it
        note = "the garment can't be told from its white ground: used as it is"
        return _into_frame(colours, size), (note,)
    framed = frame_garment(cut, size)
    turned = (f"garment turned by {framed.angle:+.1f} degrees",) if framed.angle else ()
    source = () if _is_white(colours) else (f"garment cut out: {cut.source}",)
    return framed.image, (*source, *turned, *cut.notes)


def _framed_sketch(colours: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Dark lines on white that fill the frame as garments do, whichever way the sketch came."""
    thickness = _SMALL_LINES if min(size) <= _SMALL_FRAME else SketchStyle().thickness
    lines = sketch(colours, style=SketchStyle(thickness), kind="drawing")
    box = mask_box(lines > 0.5)
    if box is None:
        raise InputError("Try on: the sketch shows no line. Draw darker, or give another picture.")
    left, top, right, bottom = box
    part = on_paper(lines[top:bottom, left:right], True)
    inner = (round(_FILLED * size[0]), round(_FILLED * size[1]))
    drawn = _into_frame(part, inner)
    y, x = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    border = (0, 0, x, size[1] - inner[1] - x, y, size[0] - inner[0] - y)
    return F.pad(drawn, border, value=1.0)


def _into_frame(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The picture as large as it fits, in the middle of a white frame."""
    height, width = int(image.shape[0]), int(image.shape[1])
    scale = min(size[0] / height, size[1] / width)
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    small = resize(image, rows, columns)
    left, top = (size[1] - columns) // 2, (size[0] - rows) // 2
    border = (0, 0, left, size[1] - columns - left, top, size[0] - rows - top)
    return F.pad(small, border, value=1.0)
