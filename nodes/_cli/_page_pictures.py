"""Pictures of the help pages: each shows what a node really gave, on the sample wardrobe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

    from .._host import Host

Panel = Any
"""An IMAGE or a MASK of one picture, a picture, or words."""

_HEIGHT, _WIDEST, _GAP, _MARGIN = 240, 1000, 12, 14
_PAPER, _INK = "#f6f4f1", "#22201d"
_QUALITY = 80
_SIZE = 256  # of the wardrobe's pictures


def write_pictures(host: Host, folder: Path) -> list[Path]:
    """Run the pack and write a picture a node.

    Args:
        host: With empty folders.
        folder: Where NODE_ID.webp goes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    makers = (
        _search_pictures,
        _caption_pictures,
        _curate_pictures,
        _prepare_pictures,
        _plan_pictures,
        _try_on_pictures,
    )
    for maker in makers:
        for name, panels in maker(host):
            written.append(folder / f"UniFashion_{name}.webp")
            _strip(panels).save(written[-1], quality=_QUALITY, method=6)
    return written


class _Graph:
    """Collects nodes; a node's name stands for its first output, (name, slot) for another."""

    def __init__(self, host: Host):
        self._host = host
        self._nodes: dict[str, Any] = {}
        self._result: Any = None

    def add(self, name: str, kind: str, /, **inputs: Any) -> None:
        from .._page.graph import completed, declared_inputs, is_widget

        info = self._host.object_info()
        # a choice may read like a node's name: what a widget gets by itself is a value
        drawn = {k for k, entry in declared_inputs(info[f"UniFashion_{kind}"]) if is_widget(entry)}
        linked = {
            key: [value, 0] if value in self._nodes else list(value)
            for key, value in inputs.items()
            if (isinstance(value, tuple) and value[0] in self._nodes)
            or (isinstance(value, str) and value in self._nodes and key not in drawn)
        }
        node = {"class_type": f"UniFashion_{kind}", "inputs": {**inputs, **linked}}
        self._nodes |= completed({name: node}, info)

    def run(self) -> None:
        """Run everything, each node's outputs kept."""
        graph = dict(self._nodes)
        for name in self._nodes:
            shown = {"class_type": "PreviewAny", "inputs": {"source": [name, 0]}}
            graph[f"{name} shown"] = shown
        self._result = self._host.run(graph)

    def values(self, name: str, slot: int = 0) -> list[Any]:
        return self._result.values(name, slot)

    def value(self, name: str, slot: int = 0) -> Any:
        return self.values(name, slot)[0]


def _start(host: Host, gallery: str, count: int = 40) -> _Graph:
    graph = _Graph(host)
    drawn = {"what": "collection", "count": count, "folder_name": f"wardrobe-{count}"}
    graph.add("wardrobe", "SampleWardrobe", size=_SIZE, seed=7, **drawn)
    graph.add("encoder", "LoadEncoder")
    graph.add("index", "IndexFolder", encoder="encoder", gallery=gallery, folder=("wardrobe", 1))
    return graph


def _find(graph: _Graph, name: str, query: str, top: int, picture: str = "", **more: Any) -> None:
    """A search and its contact sheet."""
    graph.add(f"{name} hits", "RetrieveGarments", gallery="index", query=query, top_k=top, **more)
    asked = {"query_images": picture} if picture else {}
    columns = min(6, top + bool(picture))
    graph.add(name, "ContactSheet", hits=f"{name} hits", columns=columns, cell=160, **asked)


def _search_pictures(host: Host) -> Iterator[tuple[str, list[Panel]]]:
    graph = _start(host, "pictures")
    graph.add("shirt", "SampleWardrobe", what="garment", category="t-shirt", seed=21, size=_SIZE)
    graph.add("by picture", "EncodeImages", encoder="encoder", images="shirt")
    graph.add("by text", "EncodeText", encoder="encoder", text="a red dress")
    graph.add("stripes", "EncodeText", encoder="encoder", text="a striped shirt")
    words = "in red, with long sleeves"
    graph.add("composed", "ComposeQuery", encoder="encoder", images="shirt", text=words)
    graph.add("blended", "BlendQueries", query_1="by picture", query_2="by text", weight_2=0.7)
    _find(graph, "like it", "by picture", 5, "shirt")
    _find(graph, "near it", "by picture", 3, "shirt")
    _find(graph, "dresses", "by text", 6)
    _find(graph, "striped", "stripes", 6)
    _find(graph, "changed", "composed", 5, "shirt")
    _find(graph, "both", "blended", 6)
    _find(graph, "page", "by text", 12, where="category=dress")
    graph.add("again", "RerankHits", hits="striped hits", encoder="encoder", first=6)
    graph.add("again page", "ContactSheet", hits="again", columns=6, cell=160)
    graph.add("pictures", "HitsToImages", hits="dresses hits", first=5, size=_SIZE)
    graph.run()
    wardrobe = list(graph.value("wardrobe"))
    yield "SampleWardrobe", [_grid(wardrobe[:12], 6)]
    yield "DownloadWeights", _known_weights()
    yield "LoadEncoder", [graph.value("near it")]
    yield "EncodeImages", [graph.value("like it")]
    yield "EncodeText", [graph.value("dresses")]
    yield "ComposeQuery", [graph.value("changed")]
    yield "BlendQueries", [graph.value("both")]
    yield "IndexFolder", [_grid(wardrobe[:18], 6), graph.value("index", 1)]
    yield "OpenGallery", [_grid(wardrobe[18:30], 6)]
    yield "RetrieveGarments", [graph.value("striped")]
    yield "RerankHits", [_stack([graph.value("striped"), graph.value("again page")])]
    yield "HitsToImages", list(graph.value("pictures"))
    yield "ContactSheet", [graph.value("page")]


def _known_weights() -> list[Panel]:
    """The list that Download Weights offers, in words."""
    from ...unifashion_core.weights.known import known_weights

    lines = [f"{name}: {one.licence}" for name, one in known_weights().items()]
    half = -(-len(lines) // 2)
    return ["\n\n".join(lines[:half]), "\n\n".join(lines[half:])]


def _caption_pictures(host: Host) -> Iterator[tuple[str, list[Panel]]]:
    graph = _start(host, "captioned", 8)
    graph.add("captioner", "LoadCaptioner", encoder="encoder")
    graph.add("one", "SampleWardrobe", what="garment", category="dress", seed=5, size=_SIZE)
    graph.add("words", "CaptionImages", captioner="captioner", images="wardrobe")
    graph.add("word", "CaptionImages", captioner="captioner", images="one")
    graph.add("attributes", "DescribeAttributes", captioner="captioner", images="one")
    styles = ("sentence", "tags", "title")
    for style in styles:
        known = {"attributes": "attributes", "caption": "word"}
        graph.add(style, "FormatCaption", style=style, **known)
    folder = {"folder": ("wardrobe", 1), "save_to": "captions", "style": "lora"}
    graph.add("texts", "CaptionFolder", captioner="captioner", trigger="ohwx", **folder)
    reads = {"gallery": "index", "captioner": "captioner", "encoder": "encoder"}
    graph.add("captions", "CaptionGallery", overwrite=True, **reads)
    graph.add("query", "EncodeText", encoder="encoder", text="a dark skirt")
    graph.add("hits", "RetrieveGarments", gallery="captions", query="query", top_k=5)
    graph.add("sheet", "ContactSheet", hits="hits", columns=5, cell=180)
    graph.run()
    one, pictures = graph.value("one"), list(graph.value("wardrobe"))
    said = graph.values("words")
    yield "LoadCaptioner", [one, graph.value("word")]
    pairs = [panel for pair in zip(pictures[:3], said[:3], strict=True) for panel in pair]
    yield "CaptionImages", pairs
    yield "DescribeAttributes", [one, _attributes(graph.value("attributes", 1))]
    yield "FormatCaption", [one, "\n\n".join(f"{s}:\n{graph.value(s)}" for s in styles)]
    texts = graph.values("texts")
    pairs = [panel for pair in zip(pictures[:3], texts[:3], strict=True) for panel in pair]
    yield "CaptionFolder", pairs
    yield "CaptionGallery", [graph.value("sheet")]


def _attributes(text: str) -> str:
    import json

    known = json.loads(text)
    lines = []
    for name, entry in known.items():
        found = entry if isinstance(entry, list) else [entry]
        says = [str(e.get("value") or e.get("name")) for e in found if isinstance(e, dict)]
        lines += [f"{name}: {', '.join(says)}"] if says else []
    return "\n".join(lines)


def _curate_pictures(host: Host) -> Iterator[tuple[str, list[Panel]]]:
    graph = _start(host, "curated")
    graph.add("twins", "FindDuplicates", gallery="index", threshold=0.9)
    graph.add("groups", "ContactSheet", hits="twins", columns=4, cell=200)
    graph.add("query", "EncodeText", encoder="encoder", text="a red dress")
    _find(graph, "first", "query", 6)
    graph.add("more", "MoreLikeThese", gallery="index", hits="first hits", like="1", query="query")
    _find(graph, "second", "more", 6)
    graph.add("counts", "CountValues", gallery="index", column="category")
    graph.add("fewer", "RemoveFromGallery", gallery="index", hits="twins")
    graph.add("compact", "CompactGallery", gallery="fewer")
    graph.add("check", "CheckGallery", gallery="curated", after=("compact", 1))
    graph.add("made", "SampleWardrobe", what="garment", category="skirt", seed=3, size=_SIZE)
    graph.add("kept", "AddToGallery", encoder="encoder", images="made", prompt="a skirt", seed=42)
    graph.run()
    wardrobe = list(graph.value("wardrobe"))
    group = graph.value("groups")
    yield "FindDuplicates", [group]
    yield "RemoveFromGallery", [group, graph.value("fewer", 1)]
    yield "CompactGallery", [_grid(wardrobe[:12], 6), graph.value("compact", 1)]
    yield "CheckGallery", [_grid(wardrobe[12:24], 6), graph.value("check", 1)]
    yield "CountValues", [_grid(wardrobe[24:36], 6), graph.value("counts")]
    yield "MoreLikeThese", [_stack([graph.value("first"), graph.value("second")])]
    kept = "generated/a skirt\nseed: 42\nprompt: a skirt"
    yield "AddToGallery", [graph.value("made"), kept]


def _prepare_pictures(host: Host) -> Iterator[tuple[str, list[Panel]]]:
    graph = _Graph(host)
    graph.add("person", "SampleWardrobe", what="person", category="shirt", seed=4, size=768)
    graph.add("garment", "SampleWardrobe", what="garment", category="shirt", seed=9, size=768)
    graph.add("preparer", "LoadPreparer")
    graph.add("mask", "AgnosticMask", image="person", preparer="preparer")
    graph.add("pose", "PoseMap", image="person")
    graph.add("cut", "CutOutGarment", image="garment")
    for detail in (0.0, 1.0):
        name = f"lines {detail:g}"
        graph.add(name, "SketchGarment", image="cut", mask=("cut", 1), detail=detail)
    graph.add("fit", "FitToModel", image="person", mask="mask")
    back = {"fit": ("fit", 2), "image": "person", "mask": "mask"}
    graph.add("back", "PasteBack", result="fit", **back)
    graph.run()
    person, overlay, mask = graph.value("person"), graph.value("mask", 1), graph.value("mask")
    yield "LoadPreparer", [person, overlay, graph.value("pose")]
    yield "AgnosticMask", [person, overlay, mask]
    yield "PoseMap", [person, graph.value("pose")]
    yield "CutOutGarment", [graph.value("garment"), graph.value("cut"), graph.value("cut", 2)]
    cut = graph.value("cut")
    yield "SketchGarment", [cut, graph.value("lines 0"), graph.value("lines 1")]
    yield "FitToModel", [overlay, graph.value("fit"), graph.value("fit", 1)]
    yield "PasteBack", [graph.value("fit"), graph.value("back")]


def _plan_pictures(host: Host) -> Iterator[tuple[str, list[Panel]]]:
    graph = _Graph(host)
    graph.add("person", "SampleWardrobe", what="person", category="shirt", seed=4, size=512)
    graph.add("garment", "SampleWardrobe", what="garment", category="shirt", seed=9, size=512)
    made = {"persons": "person", "garments": "garment", "repeats": 2}
    graph.add("plan", "PlanVariations", prompts="{red|navy} shirt", **made)
    graph.add("saved", "SavePictures", images="person", name="{date}/{seed}", seed=4)
    graph.run()
    shown = [graph.value("person"), graph.value("garment")]
    yield "PlanVariations", [*shown, graph.value("plan", 1)]
    folder = Path(graph.value("saved"))
    (file,) = (path for path in folder.rglob("*") if path.is_file())
    yield "SavePictures", [shown[0], file.relative_to(folder.parent).as_posix()]


def _try_on_pictures(host: Host) -> Iterator[tuple[str, list[Panel]]]:
    graph = _Graph(host)
    graph.add("person", "SampleWardrobe", what="person", category="t-shirt", seed=1, size=512)
    graph.add("garment", "SampleWardrobe", what="garment", category="longsleeve", seed=16, size=512)
    graph.add("encoder", "LoadEncoder")
    graph.add("model", "LoadTryOn")
    _save_lora(host.folders.models / "loras" / "linen.safetensors")
    graph.add("lora", "LoadTryOnLora", model="model", lora="linen.safetensors", strength=0.8)
    given = {"person": "person", "garment": "garment"}
    graph.add("mask", "AgnosticMask", image="person")
    graph.add("condition", "TryOnCondition", model="model", mask="mask", **given)
    graph.add("worn", "SampleTryOn", model="model", condition="condition", variations=4)
    graph.add("tee", "SampleWardrobe", what="garment", category="t-shirt", seed=4, size=512)
    graph.add("lines", "SketchGarment", image="tee", lines="black on white")
    words = "a red t-shirt"
    graph.add("design", "DesignGarment", model="model", text=words, sketch="lines", guidance=2.0)
    judged = {"results": "worn", "garment": "garment", "person": "person", "mask": "mask"}
    graph.add("score", "ScoreTryOn", encoder="encoder", **judged)
    drawn = {"what": "collection", "category": "t-shirt", "count": 3, "folder_name": "shirts"}
    graph.add("shirts", "SampleWardrobe", seed=8, size=_SIZE, **drawn)
    graph.add("plan", "PlanVariations", persons="person", garments="shirts", repeats=2)
    graph.add("run", "RenderVariations", model="model", plan="plan", encoder="encoder")
    graph.run()
    person, garment, worn = graph.value("person"), graph.value("garment"), graph.value("worn")
    yield "LoadTryOn", [worn[:1], graph.value("model", 1)]
    yield "LoadTryOnLora", [person, garment, graph.value("lora", 1)]
    yield "TryOnCondition", [person, garment, graph.value("condition", 1)]
    yield "SampleTryOn", [person, garment, worn[:1]]
    yield "DesignGarment", [graph.value("lines"), words, graph.value("design")]
    said = "\n".join(line.partition(";")[0] for line in graph.value("score", 2).splitlines())
    yield "ScoreTryOn", [garment, *worn[:, None], said]
    yield "RenderVariations", [graph.values("run", 1)[0]]


def _save_lora(path: Path) -> None:
    """A LoRA of one layer that changes nothing to speak of: the page shows what is said of it."""
    import torch
    from safetensors.torch import save_file

    from ...unifashion_core.pocket import pocket_tryon
    from ...unifashion_core.weights import read_weights

    layer = "middle_block.1.proj_in"  # every model has this one
    tensors = read_weights(pocket_tryon()).tensors
    (weight,) = (tensors[n] for n in tensors if n.endswith(f"diffusion_model.{layer}.weight"))
    width = weight.shape[0]
    name = f"lora_unet_{layer.replace('.', '_')}"
    path.parent.mkdir(parents=True, exist_ok=True)
    halves = {"down": torch.full((2, width), 1e-4), "up": torch.full((width, 2), 1e-4)}
    save_file({f"{name}.lora_{kind}.weight": half for kind, half in halves.items()}, path)


def _picture(value: Any) -> Image.Image:
    """An IMAGE of one, a picture of a batch, a MASK of one, or a picture, as a picture."""
    from PIL import Image

    from ...unifashion_core.imaging import to_pil

    if isinstance(value, Image.Image):
        return value
    if value.ndim == 4:
        value = value[0]
    elif value.shape[-1] != 3:  # a mask
        value = (value[0] if value.ndim == 3 else value)[..., None].expand(-1, -1, 3)
    return to_pil(value)


def _grid(values: Sequence[Any], columns: int) -> Image.Image:
    from PIL import Image

    side = 110
    rows = -(-len(values) // columns)
    page = Image.new("RGB", (columns * side, rows * side), _PAPER)
    for number, value in enumerate(values):
        place = (number % columns * side, number // columns * side)
        page.paste(_picture(value).resize((side, side)), place)
    return page


def _stack(values: Sequence[Any]) -> Image.Image:
    from PIL import Image

    pictures = [_picture(value) for value in values]
    page = Image.new(
        "RGB", (max(p.width for p in pictures), sum(p.height for p in pictures)), _PAPER
    )
    y = 0
    for picture in pictures:
        page.paste(picture, (0, y))
        y += picture.height
    return page


def _strip(panels: Sequence[Panel]) -> Image.Image:
    """Panels side by side, no wider than a help page needs."""
    from PIL import Image, ImageOps

    height = _HEIGHT if len(panels) > 1 else 2 * _HEIGHT
    drawn = [_words(p, height) if isinstance(p, str) else _picture(p) for p in panels]
    scaled = [ImageOps.contain(p, (_WIDEST, height)) for p in drawn]
    width = sum(p.width for p in scaled) + (len(scaled) - 1) * _GAP + 2 * _MARGIN
    tallest = max(p.height for p in scaled)
    page = Image.new("RGB", (width, tallest + 2 * _MARGIN), _PAPER)
    x = _MARGIN
    for picture in scaled:
        page.paste(picture, (x, _MARGIN + (tallest - picture.height) // 2))
        x += picture.width + _GAP
    return ImageOps.contain(page, (_WIDEST, 2 * _HEIGHT)) if width > _WIDEST else page


def _words(text: str, height: int) -> Image.Image:
    """Words on paper, broken into lines; in smaller letters where they are many."""
    import textwrap

    from PIL import Image, ImageDraw, ImageFont

    page = Image.new("RGB", (270, height), _PAPER)
    draw = ImageDraw.Draw(page)
    for letters, size in ((30, 17), (34, 15), (39, 13)):
        lines = [
            part for line in text.splitlines() for part in textwrap.wrap(line, letters) or [""]
        ]
        words, font = "\n".join(lines), ImageFont.load_default(size)
        if draw.multiline_textbbox((8, 8), words, font, spacing=6)[3] <= height:
            break
    draw.multiline_text((8, 8), words, _INK, font, spacing=6)
    return page
