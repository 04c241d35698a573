"""Mark what a try-on model shall paint anew on photos of persons.

  run.py mask --person photo.jpg --out mask.png
  run.py mask --person photos/*.jpg --region dress --hem ankle --out masks
  run.py mask --person photo.jpg --parse parse.png --labels cihp --region lower --out mask.png

A mask is an 8-bit PNG, 255 = to be changed, as large as the photo as it is displayed. Without
--parse, --keypoints, --densepose or --segmentation the person is found by the networks that ship.
A line a photo: {"path", "out", "source", "region", "size", "warnings"} or {"path", "error"}.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from ...unifashion_core.prepare.mask import MaskResult, Source


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument(
        "--person",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help="photos (jpg, png, webp)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE.png|DIR",
        help="one photo's mask, or a folder for <stem>_mask.png of each",
    )
    parser.add_argument(
        "--region",
        default="upper",
        metavar="R",
        help="upper, lower, dress or full; several with commas (default: upper)",
    )
    parser.add_argument(
        "--sleeve",
        default="keep",
        choices=("keep", "none", "short", "elbow", "long"),
        help="length of the new sleeves; keep counts as long (default: keep)",
    )
    parser.add_argument(
        "--hem",
        default="keep",
        choices=("keep", "hip", "knee", "ankle"),
        help="where the new garment ends (default: keep, as the present one)",
    )
    parser.add_argument(
        "--dilation",
        type=float,
        metavar="PERCENT",
        help="widen the region by percent of the torso's length (default: 3)",
    )
    parser.add_argument(
        "--offset",
        type=float,
        nargs=4,
        default=(0.0, 0.0, 0.0, 0.0),
        metavar=("LEFT", "TOP", "RIGHT", "BOTTOM"),
        help="further percent to each side of the picture; negative narrows",
    )
    parser.add_argument(
        "--protect",
        metavar="PARTS",
        help="what stays, with commas (default: face,hair,hands,feet); 'none' protects nothing",
    )
    parser.add_argument(
        "--parse", type=Path, nargs="+", metavar="FILE", help="the photos' parse maps, in order"
    )
    parser.add_argument(
        "--labels",
        choices=("atr", "lip", "cihp", "dresscode"),
        help="label set of the parse maps; needed where their ids or colours don't tell",
    )
    parser.add_argument(
        "--keypoints", type=Path, nargs="+", metavar="FILE", help="POSE_KEYPOINT or OpenPose JSON"
    )
    parser.add_argument(
        "--densepose", type=Path, nargs="+", metavar="FILE", help="the photos' densepose maps"
    )
    parser.add_argument(
        "--segmentation",
        type=Path,
        metavar="FOLDER",
        help="a transformers model for semantic segmentation of clothes",
    )
    parser.add_argument("--add", type=Path, metavar="FILE", help="white: painted anew in any case")
    parser.add_argument("--subtract", type=Path, metavar="FILE", help="white: kept in any case")
    parser.add_argument(
        "--overlay", type=Path, metavar="DIR", help="also write <stem>_overlay.png to look at"
    )


def run(args: argparse.Namespace) -> int:
    """Make the masks; 1 only when every photo failed."""
    from ...unifashion_core.errors import UniFashionError
    from ...unifashion_core.prepare.regions import options_for

    _options(args, options_for)  # refuses bad options before anything is made
    jobs = _jobs(args)
    maker = _Maker(args)
    failed = 0
    for index, (photo, out) in enumerate(jobs):
        line: dict[str, Any] = {"path": str(photo)}
        try:
            line |= maker.make(index, photo, out)
        except (UniFashionError, OSError) as e:
            failed += 1
            line["error"] = str(e)
        _tell(line, args.json)
    return 1 if failed == len(jobs) else 0


class _Maker:
    """Makes one mask after the other; the networks are loaded when a photo needs them."""

    def __init__(self, args: argparse.Namespace):
        self.args = args
        self._networks: Any = None
        self._segmenter: Any = None

    def make(self, index: int, photo: Path, out: Path) -> dict[str, Any]:
        """Write one photo's mask; what to print of it."""
        from ...unifashion_core.imaging import open_image
        from ...unifashion_core.prepare.mask import agnostic_mask
        from ...unifashion_core.prepare.regions import options_for

        args = self.args
        image = open_image(photo)
        made = agnostic_mask(
            image,
            source=self._sources(index, image),
            add=_mask_file(args.add),
            subtract=_mask_file(args.subtract),
            **_options(args, options_for),
        )
        _save(made, out)
        if args.overlay is not None:
            args.overlay.mkdir(parents=True, exist_ok=True)
            made.overlay(image).save(args.overlay / f"{photo.stem}_overlay.png")
        return {
            "out": str(out),
            "source": made.source,
            "region": made.region,
            "size": list(image.size),
            "warnings": list(made.warnings),
        }

    def _sources(self, index: int, image: Image.Image) -> list[Source]:
        """What was given of this photo, best first; the built-in networks where nothing was."""
        from ...unifashion_core.imaging import open_image
        from ...unifashion_core.prepare.densepose import read_densepose
        from ...unifashion_core.prepare.keypoints import read_keypoints
        from ...unifashion_core.prepare.labels import read_parse_file

        args = self.args
        found: list[Source] = []
        if args.parse:
            found.append(read_parse_file(args.parse[index], args.labels))
        elif args.segmentation is not None:
            found.append(self._segment(image))
        if args.keypoints:
            path = args.keypoints[index]
            found.append(read_keypoints(_json(path), image.size, where=str(path)))
        if args.densepose:
            path = args.densepose[index]
            found.append(read_densepose(open_image(path), where=str(path)))
        if not args.parse and args.segmentation is None:
            person = self._find(image)
            found += [] if person is None else [person]
        return found

    def _find(self, image: Image.Image) -> Any:
        import torch

        from ...unifashion_core.pocket import MEDIAPIPE
        from ...unifashion_core.prepare.mask import work_copy
        from ...unifashion_core.prepare.person import find_person, load_networks

        if self._networks is None:
            self._networks = load_networks(MEDIAPIPE, torch.device("cpu"), torch.float32)
        return find_person(work_copy(image), self._networks)

    def _segment(self, image: Image.Image) -> Source:
        import torch

        from ...unifashion_core.prepare.labels_segmenter import load_segmenter

        if self._segmenter is None:
            self._segmenter = load_segmenter(
                self.args.segmentation, torch.device("cpu"), torch.float32, self.args.labels
            )
        return self._segmenter.parts(image)


def _options(args: argparse.Namespace, check: Any) -> dict[str, Any]:
    from ...unifashion_core.prepare.regions import DEFAULT_DILATION, DEFAULT_PROTECTED

    protect: tuple[str, ...] = DEFAULT_PROTECTED
    if args.protect is not None:
        names = tuple(part.strip() for part in args.protect.split(",") if part.strip())
        protect = () if names == ("none",) else names
    options: dict[str, Any] = {
        "region": args.region,
        "sleeve": args.sleeve,
        "hem": args.hem,
        "protect": protect,
        "dilation": DEFAULT_DILATION if args.dilation is None else args.dilation,
        "offset": tuple(args.offset),
    }
    check(**options)
    return options


def _jobs(args: argparse.Namespace) -> list[tuple[Path, Path]]:
    """Each photo with the file of its mask."""
    from ...unifashion_core.errors import InputError

    photos: list[Path] = args.person
    for name in ("parse", "keypoints", "densepose"):
        given = getattr(args, name)
        if given is not None and len(given) != len(photos):
            args.parser.error(f"--{name}: {len(given)} files for {len(photos)} photos")
    if args.labels and not args.parse and args.segmentation is None:
        args.parser.error("--labels tells of --parse or --segmentation, which is not given")
    if args.out.suffix.lower() == ".png" and not args.out.is_dir():
        if len(photos) > 1:
            args.parser.error(f"--out {args.out}: one file for {len(photos)} photos; give a folder")
        args.out.parent.mkdir(parents=True, exist_ok=True)
        return [(photos[0], args.out)]
    stems: dict[str, Path] = {}
    for photo in photos:
        other = stems.setdefault(photo.stem.casefold(), photo)
        if other is not photo:
            raise InputError(
                f"mask: {other} and {photo} would both be {photo.stem}_mask.png. Rename one, or "
                "give them one after the other with folders of their own."
            )
    args.out.mkdir(parents=True, exist_ok=True)
    return [(photo, args.out / f"{photo.stem}_mask.png") for photo in photos]


def _save(made: MaskResult, out: Path) -> None:
    """Beside the target first: a stopped run leaves no half file."""
    import os

    from PIL import Image

    picture = Image.fromarray((made.mask >= 0.5).mul(255).byte().numpy())
    part = out.with_name(f".{out.name}.part")
    try:
        picture.save(part, format="PNG")
        os.replace(part, out)
    finally:
        part.unlink(missing_ok=True)


def _mask_file(path: Path | None) -> torch.Tensor | None:
    from ...unifashion_core.imaging import open_image, to_tensor

    return None if path is None else to_tensor(open_image(path).convert("L"))[..., 0]


def _json(path: Path) -> Any:
    from ...unifashion_core.errors import InputError

    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as e:
        raise InputError(
            f"{path}: not JSON ({e}). Give the file that the preprocessor wrote."
        ) from e


def _tell(line: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(line), flush=True)
    elif "error" in line:
        print(f"{line['path']}: {line['error']}", file=sys.stderr)
    else:
        width, height = line["size"]
        print(f"{line['out']}: {line['region']}, {width} x {height}, from {line['source']}")
        for warning in line["warnings"]:
            print(f"  {warning}", file=sys.stderr)
