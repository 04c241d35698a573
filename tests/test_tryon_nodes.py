"""The try-on nodes in graphs on the embedded host, with a tiny random model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import node_graphs as graphs
import pytest
import torch
from node_graphs import node
from safetensors.torch import save_file
from tryon_samples import tiny_config, tiny_model

FEW = {"seed": 3, "steps": 4, "solver": "dpm++2m", "guidance": 1.0}
SAMPLE = {"count": 1, "folder_name": "x"}


def save_model(pack: Any, folder: Path, **changes: Any) -> None:
    """A tiny try-on model in a models folder."""
    config = pack.module("unifashion_core.tryon.config")
    tryon = pack.module("unifashion_core.tryon.checkpoint")
    attention = pack.module("unifashion_core.attention").math_attention()
    tryon.save_tryon(folder, tiny_model(tryon, tiny_config(config, **changes), attention))


@pytest.fixture(scope="module")
def host(pack, tmp_path_factory):
    base = tmp_path_factory.mktemp("tryon")
    save_model(pack, base / "models" / "unifashion_tryon" / "tiny")
    save_model(pack, base / "models" / "unifashion_tryon" / "dense", pose_map="densepose")
    graphs.save_tiny_encoder(pack, base / "models")
    return pack.make_host(base)


def load(name: str = "tiny") -> dict[str, Any]:
    return node("UniFashion_LoadTryOn", model=name, dtype="float32", attention="sdpa", heads=0)


def graph(condition: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    values = {
        "model": ["load", 0], "person": ["person", 0], "garment": ["garment", 0], "text": "",
        "region": "upper", "hint_strength": 1.0, "context_strength": 1.0, "combine": "in pairs",
    }  # fmt: skip
    found = {
        "load": load(),
        "person": node(
            "UniFashion_SampleWardrobe", what="person", category="t-shirt", seed=11, size=320,
            **SAMPLE,
        ),
        "garment": node(
            "UniFashion_SampleWardrobe", what="garment", category="t-shirt", seed=4, size=160,
            **SAMPLE,
        ),
        "condition": node("UniFashion_TryOnCondition", **{**values, **(condition or {})}),
        "sample": node(
            "UniFashion_SampleTryOn", model=["load", 0], condition=["condition", 0], variations=1,
            **FEW,
        ),
        "show": node("PreviewImage", images=["sample", 0]),
        "note": node("PreviewAny", source=["sample", 3]),
    }  # fmt: skip
    return {**found, **more}


def error_of(host, graph) -> str:
    result = host.execute(graph)
    assert result.status == "error"
    return result.error["exception_message"]


def test_a_garment_goes_on_a_person_and_the_rest_stays(host):
    result = host.run(graph())
    photo, image = result.value("person"), result.value("sample")
    (item,) = result.value("condition").items
    assert image.shape == photo.shape == (1, 320, 240, 3)
    outside = item.person.mask == 0
    assert torch.equal(image[0][outside], photo[0][outside])
    assert not torch.equal(image, photo)
    assert result.value("sample", 1).shape == (1, 128, 128, 3)
    assert result.value("sample", 2)["samples"].shape == (1, 4, 16, 16)
    assert result.value("condition", 1).shape == (1, 128, 128, 3)
    assert "mask: upper from" in result.value("sample", 3)
    assert "seed 3" in result.value("sample", 3)


def test_the_latent_is_unscaled(pack, host):
    fresh = graph()
    fresh["sample"]["inputs"]["seed"] = 41
    result = host.run(fresh)
    model, latents = result.value("load").model, result.value("sample", 2)["samples"]
    decoded = ((model.autoencoder.decode(latents) + 1) / 2).clamp(0, 1).permute(0, 2, 3, 1)
    assert torch.allclose(decoded, result.value("sample", 1), atol=1e-4)


def test_what_is_loaded_is_said(host):
    result = host.run({"load": load(), "see": node("PreviewAny", source=["load", 1])})
    info = result.value("load", 1)
    assert info.startswith("tiny: ")
    for words in ("float32", "pictures of 128x128", "pose maps: parts", "context: text",
                  "fingerprint ", "licence not known here"):  # fmt: skip
        assert words in info
    models = result.value("load").get_models()
    assert len(models) == 4


def test_every_person_wears_every_garment_with_a_seed_each(host):
    two = graph()
    two["people"] = node("ImageBatch", image1=["person", 0], image2=["person2", 0])
    two["person2"] = node(
        "UniFashion_SampleWardrobe", what="person", category="shirt", seed=12, size=320, **SAMPLE
    )
    if "ImageBatch" not in host.object_info():
        two["people"] = two["person"]
    two["condition"]["inputs"] |= {"person": ["people", 0], "combine": "each with each"}
    two["sample"]["inputs"]["variations"] = 2
    result = host.run(two)
    people = len(result.value("people"))
    assert result.value("sample").shape[0] == 2 * people
    lines = result.value("sample", 3).splitlines()
    assert [line.split(":")[0] for line in lines[: 2 * people]] == [
        f"seed {3 + n}" for n in range(2 * people)
    ]
    alone = graph()
    alone["sample"]["inputs"]["seed"] = 4
    same = host.run(alone).value("sample")
    assert float((same[0] - result.value("sample")[1]).abs().max()) <= 1 / 255


def test_previews_come_and_cancel_stops_within_a_step(pack, host):
    seen: list[tuple[int, int]] = []

    def look(node_id: str, done: int, total: int) -> None:
        if node_id == "sample":
            seen.append((done, total))
            if done == 2:
                host.interrupt()

    fresh = graph()
    fresh["sample"]["inputs"]["seed"] = 77
    result = host.execute(fresh, on_progress=look)
    assert result.status == "interrupted"
    assert seen == [(1, 4), (2, 4)]


def test_a_design_needs_no_person_and_says_so(host):
    design = {
        "load": load(),
        "design": node(
            "UniFashion_DesignGarment", model=["load", 0], text="a red dress", region="dress",
            count=2, **FEW,
        ),
        "show": node("PreviewImage", images=["design", 0]),
        "note": node("PreviewAny", source=["design", 2]),
    }  # fmt: skip
    result = host.run(design)
    assert result.value("design").shape == (2, 768, 576, 3)
    assert "no person given: a neutral mannequin wears it" in result.value("design", 2)
    design["design"]["inputs"]["text"] = " "
    assert "no text. Say what to design" in error_of(host, design)


def test_a_design_follows_a_sketch_and_a_pose(host):
    pose = node("UniFashion_PoseMap", image=["person", 0], kind="body parts")
    design = {
        **{name: graph()[name] for name in ("load", "person", "garment")},
        "pose": pose,
        "sketch": node(
            "UniFashion_SketchGarment", image=["garment", 0], kind="photo", thickness=3.0,
            detail=0.5, lines="white on black",
        ),
        "design": node(
            "UniFashion_DesignGarment", model=["load", 0], text="a red dress", region="upper",
            count=1, sketch=["sketch", 0], pose=["pose", 0], **FEW,
        ),
        "show": node("PreviewImage", images=["design", 0]),
        "note": node("PreviewAny", source=["design", 2]),
    }  # fmt: skip
    result = host.run(design)
    assert result.value("design").shape == (1, 320, 240, 3)
    assert "the whole picture is made, after the pose map" in result.value("design", 2)


def test_scores_pick_the_best_and_look_outside_the_mask(host):
    scored = graph(
        encoder=graphs.load_encoder(),
        mask=node("UniFashion_AgnosticMask", image=["person", 0], region="upper", sleeve="keep",
                  hem="keep", dilation=3.0, protect="face,hair,hands,feet"),
        score=node("UniFashion_ScoreTryOn", encoder=["encoder", 0], results=["sample", 0],
                   garment=["garment", 0], best=1, person=["person", 0], mask=["mask", 0]),
        best=node("PreviewImage", images=["score", 0]),
        say=node("PreviewAny", source=["score", 2]),
    )  # fmt: skip
    scored["condition"]["inputs"]["mask"] = ["mask", 0]
    scored["sample"]["inputs"]["variations"] = 3
    result = host.run(scored)
    scores, images = result.values("score", 1), result.value("sample")
    assert len(scores) == 3
    best = scores.index(max(scores))
    assert torch.equal(result.value("score")[0], images[best])
    report = result.value("score", 2).splitlines()
    assert report[0].startswith(f"  1  picture {best + 1}  {max(scores):.3f}")
    assert all(line.endswith("the photo is untouched outside the mask") for line in report)
    scored["score"]["inputs"]["results"] = ["person", 0]
    scored["score"]["inputs"]["person"] = ["garment", 0]
    assert "with paste-back on" in error_of(host, scored)


def test_what_a_missing_pose_map_asks_for_is_there(pack, host):
    """Nodes by the names that the page shows, inputs and choices by theirs."""
    said = error_of(host, graph({"model": ["dense", 0]}, dense=load("dense")))
    info = {about["display_name"]: about["input"] for about in host.object_info().values()}
    assert "add DensePose Estimator" in said
    assert "Pose Map with kind = densepose" in said
    assert "the input pose of Try-On Condition" in said
    assert "densepose" in info["Pose Map"]["required"]["kind"][1]["options"]
    assert "densepose" in info["Pose Map"]["optional"]
    assert "pose" in info["Try-On Condition"]["optional"]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"sketch": ["garment", 0]}, "a garment and a sketch, and only one can lead"),
        ({"garment": None}, "nothing to put on. Connect a garment or a sketch, or write a text"),
        ({"width": 128}, "one side of the frame is 0"),
        ({"mask": ["other", 1]}, "Connect the mask that was made for this photo"),
        ({"model": ["dense", 0]}, r"needs a pose map (densepose), got none"),
        ({"embedding": ["query", 0]}, "without the encoder's query outputs"),
    ],
)
def test_what_can_not_be_is_said(host, changes, text):
    more = {
        "dense": load("dense"),
        "encoder": graphs.load_encoder(),
        "query": node("UniFashion_EncodeText", encoder=["encoder", 0], text="a dress", exclude=""),
        "other": node("UniFashion_SketchGarment", image=["garment", 0], kind="photo",
                      thickness=3.0, detail=0.5, lines="white on black"),
    }  # fmt: skip
    wrong = graph(changes, **more)
    inputs = wrong["condition"]["inputs"]
    wrong["condition"]["inputs"] = {k: v for k, v in inputs.items() if v is not None}
    assert text in error_of(host, wrong)


def test_a_condition_of_another_model_is_refused(host):
    mixed = graph(dense=load("dense"))
    mixed["sample"]["inputs"]["model"] = ["dense", 0]
    assert "the condition was made for another model than dense" in error_of(host, mixed)


def test_a_mask_without_its_photo_is_refused(host):
    design = {
        "load": load(),
        "garment": graph()["garment"],
        "sketch": node("UniFashion_SketchGarment", image=["garment", 0], kind="photo",
                       thickness=3.0, detail=0.5, lines="white on black"),
        "design": node("UniFashion_DesignGarment", model=["load", 0], text="a dress",
                       region="dress", count=1, mask=["sketch", 1], **FEW),
        "show": node("PreviewImage", images=["design", 0]),
    }  # fmt: skip
    assert "a mask and no photo that it marks" in error_of(host, design)


def save_lora(base: Path, name: str, prefix: str) -> None:
    """A LoRA for one layer of the tiny model's UNet."""
    (base / "models" / "loras").mkdir(exist_ok=True)
    rng = torch.Generator().manual_seed(1)
    state = {
        f"{prefix}.lora_down.weight": torch.randn(2, 16, generator=rng),
        f"{prefix}.lora_up.weight": torch.randn(16, 2, generator=rng),
    }
    save_file(state, base / "models" / "loras" / name)


LAYER = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"


def test_a_lora_goes_over_a_model_and_the_model_stays(host):
    base = host.folders.models.parent
    save_lora(base, "style.safetensors", LAYER)
    save_lora(base, "other.safetensors", "lora_unet_double_blocks_0_img_attn_qkv")

    def with_lora(strength: float | None, lora: str = "style.safetensors") -> dict[str, Any]:
        more = graph({"hint_strength": 0.9})
        more["sample"]["inputs"]["seed"] = 91
        if strength is None:
            return more
        values = {"model": ["load", 0], "lora": lora, "strength": strength}
        more["lora"] = node("UniFashion_LoadTryOnLora", **values)
        more["told"] = node("PreviewAny", source=["lora", 1])
        for name in ("condition", "sample"):
            more[name]["inputs"]["model"] = ["lora", 0]
        return more

    plain, result = host.run(with_lora(None)), host.run(with_lora(2.0))
    assert result.value("lora", 1).startswith(
        "tiny + style.safetensors at 2: 1 layer of the UNet; fingerprint "
    )
    assert not torch.equal(result.value("sample"), plain.value("sample"))
    assert result.value("condition").fingerprint != plain.value("condition").fingerprint
    again = host.run(with_lora(0.0))
    assert again.value("lora").fingerprint == plain.value("condition").fingerprint
    assert torch.equal(again.value("sample"), plain.value("sample"))
    other = with_lora(1.0, "other.safetensors")
    assert "Give a LoRA for Stable Diffusion 1" in error_of(host, other)
    mixed = with_lora(1.0)
    mixed["sample"]["inputs"]["model"] = ["load", 0]
    assert "the condition was made for another model" in error_of(host, mixed)
