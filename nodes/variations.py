"""Many pictures at once: the run of a plan, and saving with what a picture was made of."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..unifashion_core.caption.sidecars import write_whole
from ..unifashion_core.errors import InputError
from ..unifashion_core.imaging import open_image
from ..unifashion_core.rendering.manifest import LISTING, Manifest
from ..unifashion_core.rendering.names import (
    DEFAULT_TEMPLATE,
    check_template,
    file_name,
    inside,
)
from ..unifashion_core.rendering.page import write_page
from ..unifashion_core.rendering.plan import Picture, PlanItem
from ..unifashion_core.rendering.plan import Plan as PlanValue
from ..unifashion_core.rendering.saved import FORMATS, encode_picture
from ..unifashion_core.types import Scalar
from ._comfy import (
    check_gallery_name,
    input_folder,
    io,
    metadata_wanted,
    node_info,
    output_folder,
)
from ._convert import pictures, to_image
from ._page.graph import Layouts, numbered
from ._tryon import (
    PAIRS,
    Watch,
    more_sampler_inputs,
    paste_inputs,
    sampler_inputs,
    scorer_of,
    settings_of,
    tools_of,
)
from ._types import (
    Encoder,
    ManagedEncoder,
    ManagedPreparer,
    ManagedTryOn,
    Plan,
    Preparer,
    TryOn,
)

if TYPE_CHECKING:
    from ..unifashion_core.rendering.run import RunReport

SHOWN = 100
"""Pictures of a run that leave the node at most; all are on the disk."""


class RenderVariations(io.ComfyNode):
    """Makes what a plan lists."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="UniFashion_RenderVariations",
            display_name="Render Variations",
            category="UniFashion/try-on",
            description="Makes every picture of a plan. Each is saved as soon as it is made; stop "
            "it when you like, and run it again to go on. Persons and garments are prepared once.",
            search_aliases=["batch", "lookbook", "grid", "resume"],
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
            inputs=[
                TryOn.Input("model", tooltip="From Load Try-On Model."),
                Plan.Input("plan", tooltip="From Plan Variations."),
                io.String.Input(
                    "folder_name",
                    default="unifashion-run",
                    tooltip="Folder below output. The same plan goes on in it; another model or "
                    "other settings need another folder. One name, no path.",
                ),
                io.String.Input(
                    "name",
                    default=DEFAULT_TEMPLATE,
                    tooltip="Of the files: words and {index}, {person}, {garment}, {region}, "
                    "{prompt}, {seed}, {date}; a / makes folders.",
                ),
                io.Combo.Input(
                    "format",
                    options=list(FORMATS),
                    default="png",
                    tooltip="png keeps every pixel; jpeg and webp are smaller.",
                ),
                *sampler_inputs()[1:],  # the plan has the seeds
                Preparer.Input(
                    "preparer",
                    optional=True,
                    tooltip="From Load Preparer; without it the networks that ship find persons.",
                ),
                *more_sampler_inputs(),
                *paste_inputs()[1:],
                io.Boolean.Input(
                    "scores",
                    default=True,
                    optional=True,
                    tooltip="Measure how like its garment each picture is. Contact sheets show it "
                    "and index.html sorts by it.",
                ),
                Encoder.Input(
                    "encoder",
                    optional=True,
                    tooltip="What measures it, from Load Fashion Encoder; without it the encoder "
                    "that ships.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "images",
                    is_output_list=True,
                    tooltip=f"The first {SHOWN} pictures, one by one; all are in the folder.",
                ),
                io.Image.Output(
                    "sheets",
                    is_output_list=True,
                    tooltip="Contact sheets: persons down, garments across.",
                ),
                io.String.Output("report", tooltip="What was made, was there, failed, and why."),
                io.String.Output("folder", tooltip="Where it all is, with index.html to look at."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, *, folder_name: str | None = None, **_: object) -> object:
        """Run again when the folder is gone."""
        made = folder_name and os.path.isfile(output_folder() / folder_name / LISTING)
        return "made" if made else float("nan")

    @classmethod
    def execute(
        cls,
        *,
        model: ManagedTryOn,
        plan: PlanValue,
        folder_name: str,
        name: str,
        format: str,
        preparer: ManagedPreparer | None = None,
        scores: bool = True,
        encoder: ManagedEncoder | None = None,
        **options: Any,
    ) -> io.NodeOutput:
        from ..unifashion_core.rendering.looks import lines_of, page_items, plan_sheets
        from ..unifashion_core.rendering.run import RunHooks, RunOptions, plan_job, render_plan

        tools = tools_of(model, preparer)
        plan = replace(plan, settings=plan_settings(options))
        folder, job = output_folder() / check_gallery_name(folder_name), plan_job(plan, tools)
        how = RunOptions(name, format, options.get("batch", 8), metadata=metadata_wanted())
        watch = Watch(tools.model)
        with Manifest.open(folder, job) as manifest:
            graphs = ItemGraphs(cls.hidden, folder, plan.settings)
            score = scorer_of(encoder) if scores else None
            hooks = RunHooks(
                on_step=watch.step,
                on_preview=watch.look,
                on_picture=lambda place, item, line, picture: watch.show(picture),
                texts=graphs.texts,
                score=score,
            )
            report = render_plan(plan, tools, manifest, how, hooks)
            known = lines_of(manifest, plan, job.key)
            write_page(folder, folder_name, page_items(known))
            pages = plan_sheets(manifest, known, folder_name)
        files = [folder / f.file for _, line in known for f in line.files]
        if not files:
            reasons = "; ".join(reason for _, _, reason in report.failed[:3])
            raise InputError(f"Render Variations: nothing could be made. {reasons}")
        shown = [_shown(path) for path in files[:SHOWN]]
        text = describe_run(report)
        return io.NodeOutput(
            [to_image(open_image(path)) for path in files[:SHOWN]],
            [to_image(open_image(path)) for path in pages],
            text,
            str(folder),
            ui={"images": shown, "text": [text]},
        )


class ItemGraphs:
    """The graph that makes one picture of a run: dragged into the page, a picture makes itself and
    not all of them.

    Args:
        hidden: Of the node that renders: its id and its graph.
        folder: The run's; pixels without a file are put there for Load Image.
        settings: The plan's.
    """

    def __init__(self, hidden: Any, folder: Path, settings: Mapping[str, Scalar]):
        self.prompt: dict[str, Any] = hidden.prompt or {}
        self.node = self.prompt.get(hidden.unique_id, {}).get("inputs", {})
        self.folder, self.settings = folder, settings
        self._layouts = Layouts()

    def texts(self, item: PlanItem) -> dict[str, Any]:
        """A PNG's texts for an item; empty where no graph can name its pictures."""
        files = {column: self._place(picture) for column, picture in item.pictures().items()}
        if "person" not in files or None in files.values() or not self.node:
            return {}
        graph: dict[str, Any] = {}
        for name in ("model", "preparer"):
            self._take(graph, self.node.get(name))
        first = max((int(key) for key in graph if key.isdecimal()), default=0) + 1
        ids = {column: str(first + n) for n, column in enumerate(files)}
        for column, file in files.items():
            graph[ids[column]] = _node("LoadImage", column.title(), image=file)
        condition, sample, save = (str(first + len(files) + n) for n in range(3))
        links = {column: [key, 0] for column, key in ids.items()}
        links |= {name: self.node[name] for name in ("model", "preparer") if name in self.node}
        values = {"region": item.region, "text": item.prompt, "combine": PAIRS}
        values |= {"hint_strength": 1.0, "context_strength": 1.0}
        graph[condition] = _node("UniFashion_TryOnCondition", "Condition", **links, **values)
        options = {**self.settings, **item.settings}
        options["start"] = "photo" if options.get("start") == "reference" else "noise"
        graph[sample] = _node(
            "UniFashion_SampleTryOn",
            "Try on",
            model=self.node["model"],
            condition=[condition, 0],
            seed=item.seed,
            variations=1,
            **options,
        )
        graph[save] = _node("SaveImage", "Save", images=[sample, 0], filename_prefix="try-on")
        graph = numbered(graph)
        return {"prompt": graph, **self._workflow(graph)}

    def _workflow(self, graph: dict[str, Any]) -> dict[str, Any]:
        """The graph as the page saves it, laid out: from a prompt alone the page places nodes
        before it knows how tall their pictures are. Without a class's description, nothing."""
        info = {node["class_type"]: node_info(node["class_type"]) for node in graph.values()}
        if None in info.values():
            return {}
        return {"workflow": self._layouts.template(graph, info)}

    def _take(self, graph: dict[str, Any], link: Any) -> None:
        """Copy a linked node and all that it needs."""
        if isinstance(link, list) and link and link[0] in self.prompt and link[0] not in graph:
            graph[link[0]] = self.prompt[link[0]]
            for value in self.prompt[link[0]]["inputs"].values():
                self._take(graph, value)

    def _place(self, picture: Picture) -> str | None:
        """A picture as Load Image names it."""
        path = picture.path
        if path is None:
            path = self.folder / "pictures" / f"{picture.content()[:24]}.png"
            if not path.is_file():
                write_whole(path, encode_picture(picture.open(), "png", {}, {}))
        for root, mark in ((input_folder(), ""), (output_folder(), " [output]")):
            if path.resolve().is_relative_to(root.resolve()):
                return path.resolve().relative_to(root.resolve()).as_posix() + mark
        return None


def _node(class_type: str, title: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs, "_meta": {"title": title}}


def plan_settings(options: Mapping[str, Any]) -> dict[str, Scalar]:
    """The widgets of a sampling node as a plan's settings."""
    settings = settings_of(dict(options))
    sampler = settings.sampler
    return {
        "steps": sampler.steps,
        "solver": sampler.solver,
        "guidance": sampler.guidance,
        "guidance_until": sampler.guidance_until,
        "start": sampler.start,
        "feather": settings.feather,
        "match_colour": settings.match_colour,
    }


def describe_run(report: RunReport) -> str:
    """A run in words, a line for each failure."""
    head = (
        f"{report.total} pictures: {report.done} made, {report.skipped} were there, "
        f"{len(report.failed)} failed; {report.preparations} preparations"
    )
    failed = [f"{place}: {reason}" for place, _, reason in report.failed]
    return "\n".join([head, *failed, *report.notes])


def _shown(path: Path) -> dict[str, str]:
    """A file as the page asks for it."""
    sub = path.parent.relative_to(output_folder()).as_posix()
    return {"filename": path.name, "subfolder": sub, "type": "output"}


class SavePictures(io.ComfyNode):
    """Save with names and formats of one's own, and with the graph inside."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="UniFashion_SavePictures",
            display_name="Save Pictures",
            category="UniFashion/try-on",
            description="Saves pictures in the output folder with names of your own, as PNG with "
            "the workflow inside, JPEG or WebP.",
            search_aliases=["save image", "export", "metadata", "jpeg", "webp"],
            is_output_node=True,
            inputs=[
                io.Image.Input("images", tooltip="What to save."),
                io.String.Input(
                    "folder_name",
                    default="unifashion-pictures",
                    tooltip="Folder below output. One name, no path.",
                ),
                io.String.Input(
                    "name",
                    default="{index:05}_{date}",
                    tooltip="Of the files: words and {index}, {seed}, {prompt}, {date}; a / makes "
                    "folders. Letters that tell the picture's content come last, so nothing is "
                    "ever overwritten.",
                ),
                io.Combo.Input(
                    "format",
                    options=list(FORMATS),
                    default="png",
                    tooltip="png keeps every pixel and holds the workflow; jpeg and webp are "
                    "smaller.",
                ),
                io.String.Input(
                    "prompt", default="", multiline=True, tooltip="Kept in the file. May be empty."
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    tooltip="Kept in the file and usable in its name.",
                ),
            ],
            outputs=[io.String.Output("folder", tooltip="Where they are.")],
        )

    @classmethod
    def execute(
        cls,
        *,
        images: torch.Tensor,
        folder_name: str,
        name: str,
        format: str,
        prompt: str,
        seed: int,
    ) -> io.NodeOutput:
        folder = output_folder() / check_gallery_name(folder_name)
        check_template(name)
        shown: list[dict[str, str]] = []
        for number, picture in enumerate(pictures(images)):
            parameters = {"prompt": prompt, "seed": seed, "index": number}
            kept, texts = (parameters, graph_texts(cls)) if metadata_wanted() else ({}, {})
            data = encode_picture(picture, format, kept, texts)
            shown.append(save_named(folder, name, format, parameters, data))
        return io.NodeOutput(str(folder), ui={"images": shown})


def graph_texts(cls: type[io.ComfyNode]) -> dict[str, Any]:
    """The graph as the page reads it out of a PNG."""
    hidden = cls.hidden
    return {} if hidden is None else {"prompt": hidden.prompt, **(hidden.extra_pnginfo or {})}


def save_named(
    folder: Path, template: str, kind: str, values: Mapping[str, str | int], data: bytes
) -> dict[str, str]:
    """Write a picture's bytes under the name that a template gives; how the page asks for it."""
    known = {**values, "id": hashlib.sha256(data).hexdigest(), "date": date.today().isoformat()}
    file = file_name(template, known, FORMATS[kind])
    path = inside(folder, file)
    write_whole(path, data)
    sub = path.parent.relative_to(output_folder()).as_posix()
    return {"filename": path.name, "subfolder": sub, "type": "output"}
