"""Cut garments out of their photos.

  run.py cutout --image shirt.jpg --out shirt.png
  run.py cutout --image photos --out cut --frame 768x1024
  run.py cutout --image street.jpg --worn upper --out jacket.png

The result is a PNG as large as the photo as it is displayed: the photo's own pixels, with alpha
where the garment ends; what the photo itself leaves transparent stays so. With --frame the garment
is set upright, centred and laid on white. All is done in 8 bits a channel; a 16-bit photo is told.
A line a picture: {"path", "out", "source", "size", "colours", "warnings"} or {"path", "error"}.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument(
        "--image",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE|FOLDER",
        help="photos of garments (jpg, png, webp), or folders of them",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE.png|DIR",
        help="one photo's cut-out, or a folder for <stem>_cutout.png of each",
    )
    parser.add_argument(
        "--frame",
        metavar="WxH",
        help="set upright, centre and lay on white in a picture of this size, such as 768x1024",
    )
    parser.add_argument(
        "--mask", type=Path, metavar="FILE", help="white where the garment is, for one photo"
    )
    parser.add_argument(
        "--worn",
        choices=("upper", "lower", "dress"),
        help="the photos show persons: cut out what they wear there",
    )


def run(args: argparse.Namespace) -> int:
    """Cut out; 1 only when every picture failed."""
    from ._jobs import picture_jobs, run_jobs

    frame = _frame(args)
    jobs = picture_jobs(args.image, args.out, "_cutout")
    if args.mask is not None and len(jobs) > 1:
        args.parser.error(f"--mask: one mask for {len(jobs)} photos")
    return run_jobs(jobs, _Cutter(args, frame).cut, args.json)


def _frame(args: argparse.Namespace) -> tuple[int, int] | None:
    """Height and width that were asked for."""
    if args.frame is None:
        return None
    found = re.fullmatch(r"(\d+)x(\d+)", args.frame)
    if found is not None:
        return int(found[2]), int(found[1])
    return args.parser.error(f"--frame {args.frame}: wanted WIDTHxHEIGHT, such as 768x1024")


def _own_pixels(path: Path, photo: Image.Image) -> Image.Image:
    """The photo, which was laid on white, as RGBA with the alpha that its file has."""
    from PIL import Image, ImageOps

    with Image.open(path) as stored:
        if not stored.has_transparency_data:
            return photo.convert("RGBA")
        return ImageOps.exif_transpose(stored).convert("RGBA")


class _Cutter:
    """Cuts out one picture after the other; the person networks are loaded when needed."""

    def __init__(self, args: argparse.Namespace, frame: tuple[int, int] | None):
        from ...unifashion_core.prepare.cache import PreparationCache
        from ...unifashion_core.prepare.preparer import Preparer

        self.args, self.frame = args, frame
        self._networks: Any = None
        self._preparer = Preparer(self._load, PreparationCache(0))

    def cut(self, path: Path, out: Path) -> dict[str, Any]:
        """Write one cut-out; what to tell of it."""
        from PIL import ImageChops

        from ...unifashion_core.cutout import garment_mask
        from ...unifashion_core.imaging import open_image, to_pil, to_tensor
        from ...unifashion_core.prepare.garment import frame_garment
        from ...unifashion_core.prepare.palette import palette
        from ._jobs import depth_warning, save_picture

        photo = open_image(path)
        given = self.args.mask
        mask = None if given is None else to_tensor(open_image(given).convert("L"))[..., 0]
        cut = self._preparer.garment(to_tensor(photo), mask, self.args.worn, garment_mask)
        colours = [f"{c.hex} {c.share:.2f}" for c in palette(cut.image, cut.mask)]
        if self.frame is None:
            picture = _own_pixels(path, photo)
            found = to_pil(cut.mask[..., None].expand(-1, -1, 3)).getchannel(0)
            picture.putalpha(ImageChops.darker(found, picture.getchannel("A")))
        else:
            picture = to_pil(frame_garment(cut, self.frame).image)
        return {
            "source": cut.source,
            "size": list(picture.size),
            "colours": colours,
            "warnings": [*cut.notes, *depth_warning(path), *save_picture(picture, out)],
        }

    def _load(self) -> Any:
        import torch

        from ...unifashion_core.pocket import MEDIAPIPE
        from ...unifashion_core.prepare.person import load_networks

        if self._networks is None:
            self._networks = load_networks(MEDIAPIPE, torch.device("cpu"), torch.float32)
        return self._networks
