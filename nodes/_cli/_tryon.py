"""The try-on model that a command was asked for, and how its pictures are sampled and saved.

The parser's part needs the standard library alone.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch

    from ...unifashion_core.rendering.item import (
        PreparedPerson,
        Rendered,
        RenderedSet,
        RenderSettings,
        TryOnTools,
    )

POCKET = "pocket"
_MOST_LORA = 10.0  # as the node's widget


class Lora(NamedTuple):
    """A LoRA file of --lora, and how much it counts."""

    path: Path
    strength: float = 1.0


def read_lora(given: str) -> Lora:
    """FILE or FILE:STRENGTH of a command line.

    Raises:
        argparse.ArgumentTypeError: If the strength is none.
    """
    whole = Path(given).expanduser()
    head, colon, last = given.rpartition(":")
    if not colon or whole.is_file():
        path, strength = whole, 1.0
    else:
        path = Path(head).expanduser()
        try:
            strength = float(last)
        except ValueError:
            if path.is_file():
                raise argparse.ArgumentTypeError(
                    f"strength '{last}' is no number; write FILE or FILE:0.8"
                ) from None
            path, strength = whole, 1.0  # the colon was a drive's
    if not -_MOST_LORA <= strength <= _MOST_LORA:
        raise argparse.ArgumentTypeError(
            f"strength {strength:g}; choose -{_MOST_LORA:g} to {_MOST_LORA:g}, 1 is usual"
        )
    return Lora(path, strength)


def add_lora_argument(add: Callable[..., object]) -> None:
    """--lora, by a parser's or a group's `add_argument`."""
    add(
        "--lora",
        type=read_lora,
        action="append",
        default=[],
        metavar="FILE[:STRENGTH]",
        help="a LoRA for Stable Diffusion 1 over the model; several are added up. 1 = as trained, "
        "0 = not at all, below 0 = the opposite (default strength: 1)",
    )


def add_model_arguments(parser: argparse.ArgumentParser, guidance: float = 1.0) -> None:
    """--model, --lora, --attention, --steps, --solver, --guidance (by default the given),
    --garment-guidance, --seed, --feather."""
    parser.add_argument(
        "--model",
        default=POCKET,
        metavar="pocket|PATH",
        help="the small try-on model that ships, or a checkpoint file or folder (default: pocket)",
    )
    add_lora_argument(parser.add_argument)
    parser.add_argument(
        "--attention",
        choices=("auto", "xformers", "sdpa", "math"),
        default="auto",
        help="what every attention goes through (default: auto)",
    )
    _add_sampler_arguments(parser, guidance)
    parser.add_argument(
        "--feather",
        type=int,
        default=8,
        metavar="PIXELS",
        help="width of the seam, inside the mask (default: 8)",
    )


def _add_sampler_arguments(parser: argparse.ArgumentParser, guidance: float) -> None:
    parser.add_argument(
        "--steps", type=int, metavar="N", help="of the solver (default: 8; 50 with plms)"
    )
    parser.add_argument(
        "--solver",
        choices=("unipc", "dpm++2m", "ddim", "plms", "lcm"),
        default="unipc",
        help="plms is the paper's; lcm is for distilled models alone (default: unipc)",
    )
    parser.add_argument(
        "--guidance",
        type=float,
        default=guidance,
        metavar="G",
        help="how strongly the text leads; 1 costs nothing, more twice the time (default: "
        f"{guidance:g})",
    )
    parser.add_argument(
        "--garment-guidance",
        type=float,
        metavar="G",
        help="how strongly garment or sketch leads; 1 costs nothing (default: the model's own "
        "where --guidance is 1, else 1)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of the noise (default: 0)"
    )


def add_person_arguments(parser: argparse.ArgumentParser) -> None:
    """--mask and --pose."""
    parser.add_argument(
        "--mask",
        type=Path,
        metavar="M.png",
        help="white = painted anew, as large as the photo (default: made from the region)",
    )
    parser.add_argument(
        "--pose",
        type=Path,
        metavar="P",
        help="POSE_KEYPOINT or OpenPose JSON, or a pose map's picture of the model's kind "
        "(default: the person is looked for)",
    )


def load_tools(model: str, attention: str = "auto", loras: Sequence[Lora] = ()) -> TryOnTools:
    """Load a model onto the best device, and what prepares for it.

    Args:
        model: "pocket", or a checkpoint file or folder.
        attention: As `choose_attention` names it.
        loras: Merged into its weights, in this order.
    """
    import torch

    from ...unifashion_core.attention import choose_attention
    from ...unifashion_core.cutout import garment_mask
    from ...unifashion_core.errors import FolderError
    from ...unifashion_core.pocket import CLIP_MERGES, MEDIAPIPE, pocket_tryon
    from ...unifashion_core.prepare.cache import PreparationCache
    from ...unifashion_core.prepare.person import load_networks
    from ...unifashion_core.prepare.preparer import Preparer
    from ...unifashion_core.rendering.item import TryOnTools
    from ...unifashion_core.tryon.checkpoint import load_tryon
    from ...unifashion_core.tryon.fingerprint import tryon_fingerprint
    from ...unifashion_core.tryon.lora import apply_lora
    from .._host.models import best_device

    for lora in loras:
        if not lora.path.is_file():
            raise FolderError(f"LoRA {lora.path}: no such file. Give a .safetensors file.")
    device = best_device()
    loaded = load_tryon(
        pocket_tryon() if model == POCKET else Path(model).expanduser().absolute(),
        attention=choose_attention(attention, device),
        device=device,
    )
    for lora in loras:
        if lora.strength:
            apply_lora(loaded, lora.path, lora.strength)
    cache = PreparationCache()
    networks: list[Any] = []

    def person_networks() -> Any:
        if not networks:
            networks.append(load_networks(MEDIAPIPE, device, torch.float32))
        return networks[0]

    return TryOnTools(
        loaded,
        tryon_fingerprint(loaded),
        Preparer(person_networks, cache),
        cache,
        CLIP_MERGES,
        lambda names, room: None,  # everything is on the device already
        garment_mask,
    )


def settings_of(args: argparse.Namespace) -> RenderSettings:
    """Solver, steps and paste-back as a value."""
    from ...unifashion_core.rendering.item import RenderSettings, SamplerSettings

    steps = args.steps or (50 if args.solver == "plms" else SamplerSettings().steps)
    return RenderSettings(
        SamplerSettings(
            args.solver,
            steps,
            guidance=args.guidance,
            garment_guidance=args.garment_guidance,
        ),
        feather=args.feather,
    )


def open_picture(path: Path) -> torch.Tensor:
    """A picture, upright, (H, W, 3), 0..1."""
    from ...unifashion_core.imaging import open_image, to_tensor

    return to_tensor(open_image(path))


def open_mask(path: Path | None) -> torch.Tensor | None:
    """A mask's picture, (H, W), 0..1."""
    return None if path is None else open_picture(path).mean(dim=-1)


def read_pose(path: Path | None) -> dict[str, Any]:
    """--pose as `prepare_person` takes it: "pose" or "keypoints"."""
    from ...unifashion_core.errors import InputError

    if path is None:
        return {}
    if path.suffix.lower() != ".json":
        return {"pose": open_picture(path)}
    try:
        return {"keypoints": json.loads(path.read_text("utf-8"))}
    except ValueError as e:
        raise InputError(
            f"{path}: not JSON ({e}). Give the file that the preprocessor wrote."
        ) from e


def prepared(
    tools: TryOnTools, args: argparse.Namespace, region: str, photo: torch.Tensor
) -> PreparedPerson:
    """The person as the options say; a mask that is given without a region marks anything."""
    from ...unifashion_core.rendering.item import prepare_person

    mask = open_mask(args.mask)
    return prepare_person(tools, photo, region, mask=mask, **read_pose(args.pose))


def region_of(text: str) -> str:
    """The region that the kind of garment named in a text is worn on."""
    words = set(text.lower().replace(",", " ").split())
    if words & {"dress", "dresses", "gown", "jumpsuit", "sundress"}:
        return "dress"
    if words & {"skirt", "trousers", "pants", "jeans", "shorts", "leggings", "chinos"}:
        return "lower"
    return "upper"


def finish(
    args: argparse.Namespace,
    tools: TryOnTools,
    result: Rendered,
    made: RenderedSet,
    started: float,
) -> int:
    """Save the picture and print what to know of it."""
    import sys

    from ...unifashion_core.imaging import to_pil
    from ._jobs import save_picture

    args.out.parent.mkdir(parents=True, exist_ok=True)
    picture = to_pil(result.image[..., :3])
    notes = [*result.notes, *save_picture(picture, args.out)]
    values = {
        "out": str(args.out),
        "size": list(picture.size),
        "seed": args.seed,
        "steps": settings_of(args).sampler.steps,
        "solver": args.solver,
        "model": str(args.model),
        "loras": [{"file": str(lora.path), "strength": lora.strength} for lora in args.lora],
        "fingerprint": tools.fingerprint,
        "encodings": made.encodings,
        "painted": result.latents is not None,
        "notes": notes,
        "seconds": round(time.monotonic() - started, 2),
    }
    if args.json:
        print(json.dumps(values, ensure_ascii=False))
    else:
        width, height = picture.size
        print(f"{args.out}: {width} x {height}, seed {args.seed}, {values['seconds']} s")
        for note in notes:
            print(f"  {note}", file=sys.stderr)
    return 0
