"""MediaPipe's networks as modules: equal to its own runtime, and made from its files."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
import torch
from reference.mediapipe_runs import FILES, GOLDEN, pixels, run_all
from safetensors.torch import load_file, save_file
from torch import Tensor

from unifashion_core.errors import CheckpointError
from unifashion_core.pocket import MEDIAPIPE
from unifashion_core.prepare.networks.convert import convert_network
from unifashion_core.prepare.networks.tflite import read_layers
from unifashion_core.prepare.person import NETWORK_FILES, PersonNetworks, load_networks

ORIGINALS = os.environ.get("UNIFASHION_MEDIAPIPE")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def networks() -> PersonNetworks:
    return load_networks(MEDIAPIPE, CPU, torch.float32)


@torch.inference_mode()
def ours(networks: PersonNetworks, picture: Tensor) -> dict[str, Tensor]:
    """The same outputs, thinned out in the same way."""
    boxes, scores = networks.detector(pixels(picture, 224) * 2 - 1)
    pose = networks.pose(pixels(picture, 256))
    selfie = networks.selfie(pixels(picture, 256))
    return {
        "boxes": boxes[0, ::7],
        "scores": scores[0],
        "landmarks": pose.landmarks[0],
        "presence": pose.presence,
        "heatmaps": pose.heatmaps[0, :, ::4, ::4],
        "person": pose.person[0, ::4, ::4].sigmoid(),
        "selfie": selfie[0, ::4, ::4],
    }


def assert_equal(got: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """Boxes and landmarks to 0.01 px, masks to 1e-3."""
    limits = {"boxes": 0.01, "landmarks": 0.01}
    for name, expected in wanted.items():
        torch.testing.assert_close(got[name], expected, atol=limits.get(name, 1e-3), rtol=0)


def test_networks_equal_their_runtime_on_a_stored_picture(networks: PersonNetworks) -> None:
    stored = load_file(GOLDEN)
    picture = stored.pop("picture")
    assert stored["scores"].max() > 2  # the picture does show a person
    assert_equal(ours(networks, picture), stored)


def test_each_picture_alone_equals_the_batch(networks: PersonNetworks) -> None:
    one = pixels(load_file(GOLDEN)["picture"], 256)
    both = torch.cat((one, one.flip(3)))
    with torch.inference_mode():
        together = networks.pose(both).landmarks
        alone = torch.cat([networks.pose(x[None]).landmarks for x in both])
    torch.testing.assert_close(together, alone, atol=2e-3, rtol=0)


def test_parameters_are_what_the_card_says(networks: PersonNetworks) -> None:
    sizes = [sum(p.numel() for p in m.parameters()) for m in networks.children()]
    assert sizes == [2_965_314, 3_034_588, 106_401]
    stored = load_file(MEDIAPIPE / "pose_landmarks.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}


def test_weights_of_another_network_are_an_error(tmp_path: Path) -> None:
    for name in NETWORK_FILES:
        state = load_file(MEDIAPIPE / f"{name}.safetensors")
        if name == "selfie_segmentation":
            del state["head.bias"]
        save_file(state, tmp_path / f"{name}.safetensors")
    with pytest.raises(CheckpointError, match=r"selfie_segmentation.*does not fit.*head\.bias"):
        load_networks(tmp_path, CPU, torch.float32)


def test_a_file_that_is_no_tflite_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.tflite"
    path.write_bytes(b"not a model at all")
    with pytest.raises(CheckpointError, match="is not a TFLite file"):
        convert_network(path)
    path.write_bytes(struct.pack("<I", 4000) + b"TFL3" + bytes(40))
    with pytest.raises(CheckpointError, match="damaged or of another form"):
        read_layers(path)
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="is not a TFLite file"):
        read_layers(path)


if ORIGINALS is not None:
    FOLDER = Path(ORIGINALS)

    def test_networks_equal_their_runtime_on_new_pictures(networks: PersonNetworks) -> None:
        pytest.importorskip("ai_edge_litert")
        picture = load_file(GOLDEN)["picture"]
        for changed in (picture.flip(1), picture.roll(20, 0), 255 - picture):
            assert_equal(ours(networks, changed), run_all(FOLDER, changed))

    def test_conversion_gives_the_weights_that_ship() -> None:
        for file in FILES.values():
            name, state = convert_network(FOLDER / file)
            stored = load_file(MEDIAPIPE / f"{name}.safetensors")
            assert stored.keys() == state.keys()
            for key, tensor in state.items():
                assert torch.equal(stored[key], tensor), key

    def test_a_cut_off_file_is_an_error(tmp_path: Path) -> None:
        path = tmp_path / "cut.tflite"
        path.write_bytes((FOLDER / FILES["selfie"]).read_bytes()[:100_000])
        with pytest.raises(CheckpointError, match="cut.tflite"):
            convert_network(path)

else:

    @pytest.mark.skip(reason="UNIFASHION_MEDIAPIPE names no folder with MediaPipe's .tflite files")
    def test_networks_against_the_original_files() -> None: ...
