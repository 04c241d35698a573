"""Models under the host's manager while memory is short; what stays, what estimates are worth."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import node_graphs as graphs
import pytest
import torch
from node_graphs import node
from PIL import Image
from torch_peak import peak_bytes

FIRST, SECOND = "first", "second"


@pytest.fixture(scope="module")
def base(pack, tmp_path_factory) -> Path:
    """Two encoders of one size in the models folder."""
    folder = tmp_path_factory.mktemp("pressure")
    made = graphs.save_tiny_encoder(pack, folder / "models")
    made.rename(made.with_name(FIRST))
    graphs.save_tiny_encoder(pack, folder / "models").rename(made.with_name(SECOND))
    return folder


def make_host(pack, base: Path, budget: int | None) -> Any:
    models = pack.module("nodes._host.models").ModelManager(torch.device("cpu"), budget)
    return pack.make_host(base, models=models)


def both(text: str = "a dress") -> dict[str, Any]:
    """One text, encoded by the first and then by the second encoder."""
    graph: dict[str, Any] = {}
    for name in (FIRST, SECOND):
        graph[name] = graphs.load_encoder(name)
        graph[f"{name} text"] = node(
            "UniFashion_EncodeText", encoder=[name, 0], text=text, exclude=""
        )
        graph[f"{name} show"] = node("PreviewAny", source=[f"{name} text", 1])
    return graph


def size_of(value: Any) -> int:
    return value.patcher.model_size()


def tokens(result: Any, name: str) -> torch.Tensor:
    return result.value(f"{name} text").queries[0].parts[0].tokens


def test_two_models_that_fit_stay(pack, base):
    host = make_host(pack, base, 10**9)
    host.run(both())
    assert len(host.models.loaded) == 2


def test_of_two_that_do_not_fit_together_the_older_one_leaves(pack, base):
    free = make_host(pack, base, 10**9).run(both())
    one = size_of(free.value(FIRST))
    host = make_host(pack, base, int(one * 1.5) + free.value(FIRST).image_bytes)
    result = host.run(both())
    assert [p.model for p in host.models.loaded] == [result.value(SECOND).patcher.model]
    for name in (FIRST, SECOND):
        assert torch.equal(tokens(result, name), tokens(free, name))


def test_a_model_that_was_put_away_comes_back_without_being_read_again(pack, base):
    host = make_host(pack, base, 10**9)
    first = host.run(both())
    host.free(unload_models=True, free_memory=False)
    assert host.models.loaded == ()
    again = host.run(both("a red dress"))
    assert FIRST in again.cached
    assert again.value(FIRST) is first.value(FIRST)
    assert len(host.models.loaded) == 2


def test_a_model_larger_than_the_memory_is_loaded_alone(pack, base):
    """ComfyUI tries too; nothing else may be thrown out twice or looped over."""
    host = make_host(pack, base, 1000)
    host.run(both())
    assert len(host.models.loaded) == 1


def test_after_free_no_network_of_ours_is_alive(pack, base):
    host = make_host(pack, base, 10**9)
    before = networks(pack)
    host.run(both())
    person = graphs.sample("person", size=128, count=1)
    mask = node(
        "UniFashion_AgnosticMask",
        image=["person", 0],
        region="upper",
        sleeve="keep",
        hem="keep",
        dilation=3.0,
        protect="face",
    )
    host.run({"person": person, "mask": mask, "show": node("PreviewAny", source=["mask", 2])})
    assert networks(pack) > before
    host.free()
    host.run({"person": person, "show": node("PreviewAny", source=["person", 1])})
    host.free()
    assert networks(pack) <= before


def networks(pack) -> int:
    """How many modules of the pack's own classes are alive."""
    gc.collect()
    own = pack.root.__name__
    found = [thing for thing in gc.get_objects() if isinstance(thing, torch.nn.Module)]
    return sum(type(thing).__module__.startswith(own) for thing in found)


@pytest.mark.parametrize("images", [1, 4])
def test_the_estimate_of_the_pocket_encoder_is_never_a_quarter_too_small(pack, images):
    """The estimate is for a card, which pads with copies; a processor takes less."""
    encoder = pocket(pack)
    pixels = torch.stack([encoder.preprocess(Image.new("RGB", (300, 200), (9, 90, 200)))] * images)
    measured = peak_bytes(lambda: encoder.encode_pixels(pixels))
    estimate = pack.module("unifashion_core.encoder.memory").activation_bytes(encoder, images)
    assert estimate > 0.75 * measured, (estimate, measured)


def pocket(pack) -> Any:
    device = torch.device("cpu")
    part = pack.module("unifashion_core.pocket")
    return pack.module("unifashion_core.encoder.checkpoint").load_encoder(
        part.ENCODER,
        tower=part.EFFICIENTNET_LITE0,
        device=device,
        attention=pack.module("unifashion_core.attention").choose_attention("sdpa", device),
    )


def test_the_estimate_of_weights_is_their_size(pack):
    encoder = pocket(pack)
    with pack.make_host(Path("unused")).active():
        patcher = pack.comfy.manage(encoder.model, name="X")
        sizes = (p.numel() * p.element_size() for p in encoder.model.parameters())
        buffers = (b.numel() * b.element_size() for b in encoder.model.buffers())
        assert patcher.model_size() == sum(sizes) + sum(buffers)
