"""MediaPipe's networks by its own runtime: what our modules are compared with.

`python tests/reference/mediapipe_runs.py FOLDER` makes tests/golden/mediapipe.safetensors anew
from the .tflite files of a folder, with the picture that it holds.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "mediapipe.safetensors"
FILES = {
    "detector": "pose_solution_packed_assets.data",
    "pose": "pose_landmark_full.tflite",
    "selfie": "selfie_segmentation.tflite",
}
"""Names of the files in their npm packages."""


def pixels(picture: Tensor, side: int) -> Tensor:
    """A square picture (S, S, 3), uint8, as a network's input in 0..1, (1, 3, side, side)."""
    planes = picture.permute(2, 0, 1)[None].float() / 255
    return F.interpolate(planes, (side, side), mode="bilinear", align_corners=False)


def run(path: Path, values: Tensor) -> dict[tuple[int, ...], Tensor]:
    """The outputs of a file's graph by their shapes, channels last."""
    from ai_edge_litert.interpreter import Interpreter

    runner: Any = Interpreter(model_content=path.read_bytes(), num_threads=1)
    runner.allocate_tensors()
    (given,) = runner.get_input_details()
    runner.set_tensor(given["index"], values.permute(0, 2, 3, 1).contiguous().numpy())
    runner.invoke()
    outputs = [runner.get_tensor(d["index"]) for d in runner.get_output_details()]
    return {o.shape: torch.from_numpy(o.copy()) for o in outputs}


def run_all(folder: Path, picture: Tensor) -> dict[str, Tensor]:
    """What the three networks say of a picture, thinned out where it is large."""
    detector = run(folder / FILES["detector"], pixels(picture, 224) * 2 - 1)
    pose = run(folder / FILES["pose"], pixels(picture, 256))
    selfie = run(folder / FILES["selfie"], pixels(picture, 256))
    return {
        "boxes": detector[1, 2254, 12][0, ::7],
        "scores": detector[1, 2254, 1][0, :, 0],
        "landmarks": pose[1, 195].reshape(39, 5),
        "presence": pose[1, 1].reshape(1),
        "heatmaps": pose[1, 64, 64, 39][0, ::4, ::4].permute(2, 0, 1),
        "person": pose[1, 256, 256, 1][0, ::4, ::4, 0].sigmoid(),
        "selfie": selfie[1, 256, 256, 1][0, ::4, ::4, 0],
    }


def main(folder: Path) -> None:
    """Write the golden file."""
    picture = load_file(GOLDEN)["picture"]
    found = {name: tensor.contiguous() for name, tensor in run_all(folder, picture).items()}
    save_file({"picture": picture, **found}, GOLDEN)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
