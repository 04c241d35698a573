"""Captions of many: beside the pictures of a folder, and in a gallery."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..unifashion_core.caption.sidecars import LISTING
from ..unifashion_core.caption.stream import StreamOptions
from ..unifashion_core.caption.targets import CaptionResult, find_targets
from ..unifashion_core.imaging import iter_images
from ..unifashion_core.retrieval.store import Gallery as GalleryValue
from ._caption import BATCH, captioner_input, chosen_style, seed_input, style_inputs
from ._comfy import check_gallery_name, io, output_folder, resolve_image_folder
from ._convert import check_readable, progress
from ._types import Encoder, Gallery, ManagedCaptioner, ManagedEncoder

if TYPE_CHECKING:
    from ..unifashion_core.caption.gallery_captions import GalleryCaptions

_TEXTS, _LISTING_ALONE = "txt", "jsonl"


class CaptionFolder(io.ComfyNode):
    """Captions beside the pictures of a folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="UniFashion_CaptionFolder",
            display_name="Caption Folder",
            category="UniFashion/caption",
            description="Writes a caption beside every picture of a folder, and of the folders in "
            "it, as LoRA trainers read them. Run it again after adding some: only what is new or "
            "changed is captioned; stopping keeps what is done.",
            search_aliases=["lora", "dataset", "caption files", "batch caption"],
            is_output_node=True,
            inputs=[
                captioner_input(),
                io.String.Input(
                    "folder",
                    default="input",
                    tooltip="input, output, or a folder below them; others once they are listed "
                    "under unifashion_images in extra_model_paths.yaml.",
                ),
                *style_inputs(),
                io.Combo.Input(
                    "write",
                    options=[_TEXTS, _LISTING_ALONE],
                    default=_TEXTS,
                    tooltip=f"txt: a text file beside each picture, and {LISTING} with captions "
                    f"and attributes of all. jsonl: {LISTING} alone.",
                ),
                io.Boolean.Input(
                    "overwrite",
                    default=False,
                    tooltip="Also replace text files that this node did not write, or that were "
                    "changed since. Off: they are kept, and the report names them.",
                ),
                io.String.Input(
                    "save_to",
                    default="",
                    tooltip="Name of a folder below the output folder that the captions go to. "
                    "Empty = beside the pictures. One name, no path.",
                ),
                seed_input(),
            ],
            outputs=[
                io.String.Output(
                    "captions", is_output_list=True, tooltip="One a picture that has a caption."
                ),
                io.String.Output(
                    "files", is_output_list=True, tooltip="The picture's path of each caption."
                ),
                io.String.Output(
                    "report", tooltip="What was captioned, kept and left out, and why."
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(
        cls, *, folder: str | None = None, save_to: str | None = None, **_: object
    ) -> object:
        """The folder's listing; a linked folder's name is not known here, so look each time."""
        if not folder or save_to is None:
            return float("nan")
        root = resolve_image_folder(folder)
        listing = hashlib.sha256()
        for path in iter_images(root):
            state = path.stat()
            line = f"{path}\0{state.st_size}\0{state.st_mtime_ns}\n"
            listing.update(line.encode(errors="replace"))
        target = output_folder() / check_gallery_name(save_to) if save_to.strip() else root
        return f"{listing.hexdigest()} {(target / LISTING).is_file()}"

    @classmethod
    def execute(
        cls,
        *,
        captioner: ManagedCaptioner,
        folder: str,
        style: str,
        trigger: str,
        prefix: str,
        suffix: str,
        replacements: str,
        write: str,
        overwrite: bool,
        save_to: str,
        seed: int,
    ) -> io.NodeOutput:
        from ..unifashion_core.caption.folder import caption_folder

        chosen = chosen_style(style, trigger, prefix, suffix, replacements)
        out = output_folder() / check_gallery_name(save_to) if save_to.strip() else None
        (target,), failed = find_targets([resolve_image_folder(folder)], out)
        results = [
            *caption_folder(
                target,
                captioner.ready(BATCH),
                chosen,
                write=[write],
                overwrite=overwrite,
                options=StreamOptions(BATCH, seed=seed),
                on_step=progress(),
            ),
            *failed,
        ]
        good = [result for result in results if result.caption is not None]
        report = describe(results)
        return io.NodeOutput(
            [str(result.caption) for result in good],
            [str(result.path) for result in good],
            report,
            ui={"text": [report]},
        )


class CaptionGallery(io.ComfyNode):
    """Captions for the pictures of a gallery."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="UniFashion_CaptionGallery",
            display_name="Caption Gallery",
            category="UniFashion/gallery",
            description="Gives the pictures of a gallery captions, which contact sheets show and "
            "Retrieve Garments can search by. Only pictures without a caption of their own, and "
            "those that changed, are captioned.",
            search_aliases=["caption search", "index captions"],
            is_output_node=True,
            inputs=[
                Gallery.Input("gallery", tooltip="From Index Folder or Open Gallery."),
                captioner_input(),
                Encoder.Input(
                    "encoder", tooltip="The gallery's encoder; it turns captions into vectors."
                ),
                *style_inputs(),
                io.Boolean.Input(
                    "overwrite",
                    default=False,
                    tooltip="Also replace captions that came from your metadata. Off: they stay.",
                ),
                seed_input(),
            ],
            outputs=[
                Gallery.Output("gallery", tooltip="The same gallery, now with captions."),
                io.String.Output("report", tooltip="What was captioned and left out, and why."),
            ],
        )

    @classmethod
    def execute(
        cls,
        *,
        gallery: GalleryValue,
        captioner: ManagedCaptioner,
        encoder: ManagedEncoder,
        style: str,
        trigger: str,
        prefix: str,
        suffix: str,
        replacements: str,
        overwrite: bool,
        seed: int,
    ) -> io.NodeOutput:
        from ..unifashion_core.caption.gallery_captions import caption_gallery
        from ..unifashion_core.retrieval.writer import open_writer

        chosen = chosen_style(style, trigger, prefix, suffix, replacements)
        gallery.require_encoder(encoder.encoder.fingerprint)
        with gallery.snapshot() as snapshot:
            items = snapshot.items(snapshot.item_rows().ids.tolist())
        check_readable(items)
        encoder.ready(BATCH)
        ready = captioner.ready(BATCH)
        with open_writer(gallery) as writer:
            done = caption_gallery(
                writer,
                items,
                ready,
                chosen,
                encoder.encoder,
                overwrite=overwrite,
                options=StreamOptions(BATCH, seed=seed),
                on_step=progress(),
            )
        return io.NodeOutput(gallery, describe_gallery(done), ui={"report": [done.to_json()]})


def describe(results: Iterable[CaptionResult]) -> str:
    """What became of a folder's pictures in words, a line for each that was kept or failed."""
    found = list(results)
    failed = [result.error for result in found if result.error is not None]
    kept = [result.kept for result in found if result.kept is not None]
    made = sum(result.made for result in found)
    head = (
        f"{len(found)} pictures: {made} captioned, {len(found) - made - len(failed)} unchanged, "
        f"{len(kept)} texts kept, {len(failed)} failed"
    )
    return "\n".join([head, *kept, *failed])


def describe_gallery(done: GalleryCaptions) -> str:
    """What became of a gallery's captions in words, a line for each failure."""
    head = (
        f"{done.total} pictures: {done.captioned} captioned, {done.skipped} unchanged "
        f"({done.kept} with captions of their own), {len(done.failed)} failed"
    )
    return "\n".join([head, *(reason for _, reason in done.failed)])
