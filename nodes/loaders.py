"""Load models; each goes under the host's model manager."""

from __future__ import annotations

from ..unifashion_core.attention import ATTENTION_NAMES
from ..unifashion_core.pocket import EFFICIENTNET_LITE0, ENCODER
from ..unifashion_core.weights import licence_of
from ._comfy import find_model, io, list_models
from ._convert import SHIPS
from ._encoder import load_managed
from ._types import Encoder

KIND = "unifashion_encoders"
POCKET = "pocket (ships with the pack)"
_NONE = "none"
_AS_SAVED = "as saved"


class LoadEncoder(io.ComfyNode):
    """The multimodal encoder: the pocket one, or a checkpoint of the models folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        names = list_models(KIND)
        return io.Schema(
            node_id="UniFashion_LoadEncoder",
            display_name="Load Fashion Encoder",
            category="UniFashion",
            description="Loads what turns pictures, texts, and pictures with texts into "
            "embeddings. The pocket "
            "encoder ships with the pack. UniFashion, BLIP-2, CLIP and SigLIP checkpoints are "
            "read from "
            "models/unifashion_encoders.",
            search_aliases=["unifashion", "blip2", "clip", "siglip", "model loader"],
            inputs=[
                io.Combo.Input(
                    "encoder",
                    options=[POCKET, *names],
                    default=POCKET,
                    tooltip="A file or folder below models/unifashion_encoders. A gallery can "
                    "only be searched "
                    "with the encoder that indexed it.",
                ),
                io.Combo.Input(
                    "tower",
                    options=[_NONE, *names],
                    default=_NONE,
                    tooltip="Second file with the vision tower, for checkpoints that hold none "
                    "(BLIP-2's own file, none_lora files): eva_vit_g or a file with "
                    "visual_encoder keys.",
                ),
                io.Combo.Input(
                    "gallery_queries",
                    options=[_AS_SAVED, "query", "prompt"],
                    default=_AS_SAVED,
                    tooltip="Which learned tokens read a gallery's pictures. as saved = the "
                    "checkpoint's own; "
                    "query = as the paper evaluates; prompt = as its last phase trains.",
                ),
                io.Combo.Input(
                    "attention",
                    options=list(ATTENTION_NAMES),
                    default="auto",
                    tooltip="auto = ComfyUI's own setting. host, xformers, sdpa: exactly that "
                    "one, or an error "
                    "where it can't run. math: slow, for comparing.",
                ),
            ],
            outputs=[
                Encoder.Output("encoder", tooltip="For Encode, Compose and Index nodes."),
                io.String.Output(
                    "info", tooltip="What was loaded, what it can do, its fingerprint."
                ),
            ],
        )

    @classmethod
    def execute(
        cls, *, encoder: str, tower: str, gallery_queries: str, attention: str
    ) -> io.NodeOutput:
        if encoder == POCKET:
            path, second = ENCODER, EFFICIENTNET_LITE0
        else:
            path = find_model(KIND, encoder)
            second = None if tower == _NONE else find_model(KIND, tower)
        queries = None if gallery_queries == _AS_SAVED else gallery_queries
        managed, report = load_managed(path, second, queries, attention)
        licence = SHIPS if encoder == POCKET else licence_of(path)
        known = managed.encoder.fingerprint[:8]
        info = f"{encoder}: {report.summary()}; fingerprint {known}\n{licence}"
        return io.NodeOutput(managed, info)
