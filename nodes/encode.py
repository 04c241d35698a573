"""Queries: of pictures, of texts, of both together, and blends of several."""

from __future__ import annotations

import torch

from ..unifashion_core.retrieval.query import (
    EXCLUSION_WEIGHT,
    blend,
    exclude,
    image_query,
    picture_and_text_query,
    text_query,
)
from ..unifashion_core.types import Embedding as EmbeddingValue
from ..unifashion_core.types import TextEncoder
from ._comfy import io
from ._convert import notes_of, pictures, progress
from ._types import Embedding, Encoder, ManagedEncoder

BATCH = 16  # pictures encoded at once

_NOTES = io.String.Output(
    "notes",
    tooltip="What to know of the query: a text that was cut, words that are not known. Often "
    "empty.",
)


def _exclude_input() -> io.String.Input:
    return io.String.Input(
        "exclude",
        default="",
        optional=True,
        tooltip="What must not be in it, such as: floral. Counts against a garment with half the "
        "weight; "
        "Blend Queries with a negative weight gives other weights. Empty = nothing.",
    )


class EncodeImages(io.ComfyNode):
    """Pictures to queries."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="UniFashion_EncodeImages",
            display_name="Encode Garment Images",
            category="UniFashion/query",
            description="Turns each picture of a batch into a query that finds garments like it.",
            search_aliases=["image embedding", "similar images"],
            inputs=[
                Encoder.Input("encoder", tooltip="From Load Fashion Encoder."),
                io.Image.Input(
                    "images", tooltip="One query a picture. Transparent parts count as white."
                ),
            ],
            outputs=[
                Embedding.Output("query", tooltip="One query a picture, for Retrieve Garments.")
            ],
        )

    @classmethod
    def execute(cls, *, encoder: ManagedEncoder, images: torch.Tensor) -> io.NodeOutput:
        found = pictures(images)
        ready = encoder.ready(min(BATCH, len(found)))
        return io.NodeOutput(image_query(ready, found, batch_size=BATCH, on_step=progress()))


class EncodeText(io.ComfyNode):
    """A text to a query."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="UniFashion_EncodeText",
            display_name="Encode Garment Text",
            category="UniFashion/query",
            description="Turns a description into a query: red dress with short sleeves.",
            search_aliases=["text embedding", "text search"],
            inputs=[
                Encoder.Input("encoder", tooltip="From Load Fashion Encoder."),
                io.String.Input(
                    "text",
                    multiline=True,
                    default="a red dress",
                    tooltip="What to look for, in plain English words, up to 50 of them; the rest "
                    "is cut.",
                ),
                _exclude_input(),
            ],
            outputs=[Embedding.Output("query", tooltip="For Retrieve Garments."), _NOTES],
        )

    @classmethod
    def execute(cls, *, encoder: ManagedEncoder, text: str, exclude: str = "") -> io.NodeOutput:
        ready = encoder.ready()
        query = _without(text_query(ready, [text]), ready, exclude)
        return io.NodeOutput(query, notes_of(query.queries))


class ComposeQuery(io.ComfyNode):
    """A picture and what should differ from it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="UniFashion_ComposeQuery",
            display_name="Compose Query",
            category="UniFashion/query",
            description="This picture, changed as the text says: a photo of a t-shirt and 'in "
            "red, with long "
            "sleeves' finds red longsleeves. CLIP and SigLIP encoders blend picture and text 1:1 "
            "instead, and "
            "the notes say so.",
            search_aliases=["composed image retrieval", "search by image and text", "modify"],
            inputs=[
                Encoder.Input("encoder", tooltip="From Load Fashion Encoder."),
                io.Image.Input(
                    "images", tooltip="The garments to start from, one query a picture."
                ),
                io.String.Input(
                    "text",
                    multiline=True,
                    default="in red, with long sleeves",
                    tooltip="What should be different, in plain English words; up to 50 of them.",
                ),
                _exclude_input(),
            ],
            outputs=[Embedding.Output("query", tooltip="For Retrieve Garments."), _NOTES],
        )

    @classmethod
    def execute(
        cls, *, encoder: ManagedEncoder, images: torch.Tensor, text: str, exclude: str = ""
    ) -> io.NodeOutput:
        found = pictures(images)
        ready = encoder.ready(min(BATCH, len(found)))
        seen = image_query(ready, found, batch_size=BATCH, on_step=progress())
        query = _without(picture_and_text_query(ready, seen, [text]), ready, exclude)
        return io.NodeOutput(query, notes_of(query.queries))


class BlendQueries(io.ComfyNode):
    """Several queries at once, each with a weight."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        weights = {
            "min": -2.0,
            "max": 2.0,
            "step": 0.05,
            "tooltip": "Share of this query, -2 to 2; negative pushes away, 0 leaves it out.",
        }
        more = [
            socket
            for number in (2, 3, 4)
            for socket in (
                Embedding.Input(f"query_{number}", optional=True, tooltip="A further query."),
                io.Float.Input(f"weight_{number}", default=1.0, optional=True, **weights),
            )
        ]
        return io.Schema(
            node_id="UniFashion_BlendQueries",
            display_name="Blend Queries",
            category="UniFashion/query",
            description="Searches for several things at once: the scores are added by weight. A "
            "negative weight "
            f"excludes; {EXCLUSION_WEIGHT} is the usual one.",
            search_aliases=["mix", "weighted", "exclude", "negative"],
            inputs=[
                Embedding.Input("query_1", tooltip="The first query."),
                io.Float.Input("weight_1", default=1.0, **weights),
                *more,
            ],
            outputs=[Embedding.Output("query", tooltip="For Retrieve Garments.")],
        )

    @classmethod
    def execute(
        cls,
        *,
        query_1: EmbeddingValue,
        weight_1: float,
        query_2: EmbeddingValue | None = None,
        weight_2: float = 1.0,
        query_3: EmbeddingValue | None = None,
        weight_3: float = 1.0,
        query_4: EmbeddingValue | None = None,
        weight_4: float = 1.0,
    ) -> io.NodeOutput:
        given = [(query_1, weight_1), (query_2, weight_2), (query_3, weight_3), (query_4, weight_4)]
        return io.NodeOutput(blend([(query, w) for query, w in given if query is not None]))


def _without(query: EmbeddingValue, encoder: TextEncoder, unwanted: str) -> EmbeddingValue:
    """The query with an exclusion, where one is asked for."""
    if not unwanted.strip():
        return query
    return exclude(query, text_query(encoder, [unwanted]))
