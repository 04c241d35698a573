"""The node list, in menu order. Topics are imported when ComfyUI asks for them, not before."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._comfy import ComfyExtension

MODEL_KINDS = (
    "unifashion_encoders",
    "unifashion_captioners",
    "unifashion_preparers",
    "unifashion_tryon",
)


async def comfy_entrypoint() -> ComfyExtension:
    """What ComfyUI, or the embedded host, calls once to get the pack."""
    from ._comfy import ComfyExtension, io, register_folders, serve_pack, with_checked_links

    class UniFashionExtension(ComfyExtension):
        async def on_load(self) -> None:
            register_folders(MODEL_KINDS)
            serve_pack(Path(__file__).absolute().parent.parent)

        async def get_node_list(self) -> list[type[io.ComfyNode]]:
            from . import (
                caption,
                caption_many,
                curate,
                design,
                encode,
                fit,
                gallery,
                loaders,
                lora,
                plan,
                prepare,
                search,
                tryon,
                variations,
                wardrobe,
                weights,
            )

            nodes: list[type[io.ComfyNode]] = [
                wardrobe.SampleWardrobe,
                loaders.LoadEncoder,
                encode.EncodeImages,
                encode.EncodeText,
                encode.ComposeQuery,
                encode.BlendQueries,
                gallery.IndexFolder,
                gallery.OpenGallery,
                search.RetrieveGarments,
                search.RerankHits,
                search.HitsToImages,
                search.ContactSheet,
                caption.LoadCaptioner,
                caption.CaptionImages,
                caption.DescribeAttributes,
                caption.FormatCaption,
                caption_many.CaptionFolder,
                caption_many.CaptionGallery,
                curate.CheckGallery,
                curate.FindDuplicates,
                curate.CountValues,
                curate.RemoveFromGallery,
                curate.CompactGallery,
                curate.MoreLikeThese,
                curate.AddToGallery,
                prepare.LoadPreparer,
                prepare.AgnosticMask,
                prepare.PoseMap,
                prepare.CutOutGarment,
                fit.SketchGarment,
                fit.FitToModel,
                fit.PasteBack,
                plan.PlanVariations,
                variations.RenderVariations,
                variations.SavePictures,
                weights.DownloadWeights,
                tryon.LoadTryOn,
                lora.LoadTryOnLora,
                tryon.TryOnCondition,
                tryon.SampleTryOn,
                design.DesignGarment,
                design.ScoreTryOn,
            ]
            return with_checked_links(nodes)

    return UniFashionExtension()
