"""Search and rerank on a real small gallery, queries and their arithmetic, metrics."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from reference import retrieval_scores as oracle
from retrieval_encoder import TOKENS, WIDTH, ProjectionEncoder, save_pictures

from unifashion_core.errors import AbilityError, GalleryError, InputError
from unifashion_core.imaging import open_image
from unifashion_core.retrieval.index import index_folder
from unifashion_core.retrieval.kernels import choose_kernel
from unifashion_core.retrieval.metrics import mean, precision_at, recall_at
from unifashion_core.retrieval.query import (
    blend,
    blended_query,
    composed_query,
    exclude,
    image_query,
    text_query,
)
from unifashion_core.retrieval.rerank import rerank
from unifashion_core.retrieval.search import search
from unifashion_core.retrieval.store import Gallery, create_gallery
from unifashion_core.retrieval.writer import GalleryWriter
from unifashion_core.types import Composer, Embedding, ImageEncoder, PairScorer, TextEncoder

COUNT = 12


@pytest.fixture
def encoder() -> ProjectionEncoder:
    return ProjectionEncoder()


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    return save_pictures(tmp_path / "photos", COUNT)


@pytest.fixture
def gallery(tmp_path: Path, photos: list[Path], encoder: ProjectionEncoder) -> Gallery:
    made = create_gallery(
        tmp_path / "spring",
        fingerprint=encoder.fingerprint,
        tokens_per_image=TOKENS,
        width=WIDTH,
        encoder_name="projection",
    )
    rows = [
        {"file": path.name, "category": ["dress", "hat"][n % 2], "colours": ["red", "navy"]}
        | ({"caption": f"garment number {n}"} if n % 3 else {})
        for n, path in enumerate(photos)
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with GalleryWriter(made) as writer:
        index_folder(
            writer,
            photos[0].parent,
            encoder,
            text_encoder=encoder,
            metadata=tmp_path / "m.jsonl",
        )
    return made


def pictures(paths: list[Path]) -> list[Image.Image]:
    return [open_image(path) for path in paths]


def test_the_test_encoder_satisfies_every_protocol(encoder: ProjectionEncoder) -> None:
    for protocol in (ImageEncoder, TextEncoder, Composer, PairScorer):
        assert isinstance(encoder, protocol)


def test_a_picture_finds_itself_first(
    gallery: Gallery, photos: list[Path], encoder: ProjectionEncoder
) -> None:
    hits = search(gallery, image_query(encoder, pictures(photos)), top_k=3)

    assert [row[0].file for row in hits.rows] == [path.name for path in photos]
    assert all(row[0].score == pytest.approx(1.0, abs=2e-3) for row in hits.rows)
    assert (hits.gallery, hits.revision, hits.fingerprint) == (
        "spring",
        gallery.revision,
        encoder.fingerprint,
    )


def test_hits_say_how_many_were_scored_exactly_and_by_what(
    gallery: Gallery, photos: list[Path], encoder: ProjectionEncoder
) -> None:
    embedding = image_query(encoder, pictures(photos[:2]))

    first = search(gallery, embedding, top_k=2)
    torch_alone = search(gallery, embedding, top_k=2, kernel=choose_kernel("torch"))

    assert all(2 <= count <= len(photos) for count in first.candidates)
    assert len(first.candidates) == 2
    assert (first.kernel, torch_alone.kernel) == (choose_kernel().name, "torch")


@pytest.mark.parametrize("caption_weight", [0.0, 1.0])
def test_hits_are_the_oracles(
    gallery: Gallery, photos: list[Path], encoder: ProjectionEncoder, caption_weight: float
) -> None:
    wanted = blend(
        [(text_query(encoder, ["red"]), 1.0), (image_query(encoder, pictures(photos[:1])), 0.5)]
    )
    embedding = exclude(wanted, text_query(encoder, ["floral"]))

    hits = search(gallery, embedding, top_k=99, caption_weight=caption_weight).rows[0]

    parts = [(part.tokens.numpy(), part.weight) for part in embedding.queries[0].parts]
    assert [weight for _, weight in parts] == [1.0, 0.5, -0.5]
    with gallery.snapshot() as snapshot:
        items = snapshot.items(snapshot.item_rows().ids.tolist())
        tokens, captions = snapshot.vectors("tokens"), snapshot.vectors("captions")
        rows = snapshot.item_rows()
        slow = {
            item.item_id: oracle.score(
                parts,
                tokens.gather(rows.token_rows[n : n + 1])[0],
                captions.gather(rows.caption_rows[n : n + 1])[0]
                if caption_weight and item.caption_row is not None
                else None,
                caption_weight,
            )
            for n, item in enumerate(items)
        }
    assert [hit.item_id for hit in hits] == oracle.ranking(slow)
    assert [hit.score for hit in hits] == pytest.approx(
        [slow[hit.item_id] for hit in hits], abs=1e-6
    )
    assert [hit.rank for hit in hits] == list(range(1, COUNT + 1))


def test_a_hit_carries_path_file_and_columns(
    gallery: Gallery, photos: list[Path], encoder: ProjectionEncoder
) -> None:
    hit = search(gallery, image_query(encoder, pictures(photos[1:2])), top_k=1).rows[0][0]

    assert hit.path == photos[1].resolve()
    assert hit.file == "item01.png"
    assert hit.columns == {
        "category": "hat",
        "colours": "red, navy",
        "caption": "garment number 1",
    }
    assert (hit.itm, hit.missing) == (None, False)


def test_a_filter_keeps_scores_and_order(gallery: Gallery, encoder: ProjectionEncoder) -> None:
    query = text_query(encoder, ["something"])
    whole = search(gallery, query, top_k=COUNT).rows[0]

    found = search(gallery, query, top_k=4, where="category=hat").rows[0]

    wanted = [(hit.item_id, hit.score) for hit in whole if hit.columns["category"] == "hat"]
    assert [(hit.item_id, hit.score) for hit in found] == wanted[:4]


def test_a_filter_that_nothing_passes_is_noted(
    gallery: Gallery, encoder: ProjectionEncoder
) -> None:
    hits = search(gallery, text_query(encoder, ["a"]), top_k=4, where="category=shoes")

    assert hits.rows == ((),)
    assert hits.notes == ("no item passes the filter",)


def test_an_empty_gallery_is_noted(tmp_path: Path, encoder: ProjectionEncoder) -> None:
    empty = create_gallery(
        tmp_path / "empty",
        fingerprint=encoder.fingerprint,
        tokens_per_image=TOKENS,
        width=WIDTH,
        encoder_name="projection",
    )

    hits = search(empty, text_query(encoder, ["a", "b"]), top_k=4, caption_weight=1.0)

    assert hits.rows == ((), ())
    assert hits.notes == ("the gallery is empty",)
    with pytest.raises(InputError, match="none, since it was indexed without metadata"):
        search(empty, text_query(encoder, ["a"]), top_k=4, where="category=hat")


def test_captions_without_vectors_are_noted(
    tmp_path: Path, photos: list[Path], encoder: ProjectionEncoder
) -> None:
    bare = create_gallery(
        tmp_path / "bare",
        fingerprint=encoder.fingerprint,
        tokens_per_image=TOKENS,
        width=WIDTH,
        encoder_name="projection",
    )
    with GalleryWriter(bare) as writer:
        index_folder(writer, photos[0].parent, encoder, text_encoder=None)
    query = text_query(encoder, ["a"])

    hits = search(bare, query, top_k=4, caption_weight=1.0)

    assert hits.rows == search(bare, query, top_k=4).rows
    assert "the caption weight changes nothing" in hits.notes[0]


def test_another_encoder_and_a_wrong_top_k_are_refused(gallery: Gallery) -> None:
    other = text_query(ProjectionEncoder(seed=1), ["a"])
    with pytest.raises(GalleryError, match="Gallery 'spring': made with encoder"):
        search(gallery, other, top_k=1)
    same = text_query(ProjectionEncoder(), ["a"])
    with pytest.raises(InputError, match="top-k is 0"):
        search(gallery, same, top_k=0)


def test_a_new_revision_is_seen_by_an_open_gallery(
    gallery: Gallery, photos: list[Path], encoder: ProjectionEncoder
) -> None:
    query = text_query(encoder, ["a"])
    before = search(gallery, query, top_k=99)
    photos[3].unlink()
    with GalleryWriter(gallery) as writer:
        index_folder(writer, photos[0].parent, encoder, text_encoder=None, prune=True)

    after = search(gallery, query, top_k=99)

    assert after.revision == before.revision + 1
    assert len(after.rows[0]) == COUNT - 1


# ---- queries


def test_text_queries_carry_their_notes(encoder: ProjectionEncoder) -> None:
    first, second = text_query(encoder, ["red qqzz", "word " * 60]).queries

    assert first.unknown_words == ("qqzz",)
    assert first.notes == ("words that the encoder doesn't know: qqzz",)
    assert (first.truncated, second.truncated) == (False, True)
    assert second.notes == ("the text was cut to what the encoder reads",)
    assert first.parts[0].kind == "text"
    assert first.parts[0].tokens.shape == (1, WIDTH)


def test_composed_queries_keep_the_pictures_tokens(
    encoder: ProjectionEncoder, photos: list[Path]
) -> None:
    images = image_query(encoder, pictures(photos[:2]))

    queries = composed_query(encoder, images, ["in red"]).queries

    assert len(queries) == 2
    for query, image in zip(queries, images.queries, strict=True):
        (part,) = query.parts
        assert (part.kind, part.text, part.tokens.shape) == ("composed", "in red", (1, WIDTH))
        assert part.vision is image.parts[0].vision


def test_composing_needs_vision_tokens_and_single_pictures(
    encoder: ProjectionEncoder, photos: list[Path]
) -> None:
    images = image_query(encoder, pictures(photos[:3]))
    with pytest.raises(InputError, match="batches of 2, 3 don't fit"):
        composed_query(encoder, images, ["a", "b"])
    with pytest.raises(InputError, match="isn't one picture"):
        composed_query(encoder, text_query(encoder, ["a"]), ["a"])
    bare = Embedding(
        tuple(
            type(query)((type(query.parts[0])(query.parts[0].tokens, "image"),))
            for query in images.queries
        ),
        images.fingerprint,
    )
    with pytest.raises(AbilityError, match="carries no vision tokens"):
        composed_query(encoder, bare, ["a"])


def test_a_blended_query_says_so(encoder: ProjectionEncoder, photos: list[Path]) -> None:
    (query,) = blended_query(
        encoder, image_query(encoder, pictures(photos[:1])), ["in red"]
    ).queries

    assert [(part.kind, part.weight) for part in query.parts] == [("image", 1.0), ("text", 1.0)]
    assert "blended 1:1" in query.notes[0]


def test_a_batch_of_one_goes_with_every_batch(encoder: ProjectionEncoder) -> None:
    many, one = text_query(encoder, ["a", "b", "c"]), text_query(encoder, ["d"])

    queries = blend([(many, 2.0), (one, -1.0)]).queries

    assert [[part.text for part in query.parts] for query in queries] == [
        ["a", "d"],
        ["b", "d"],
        ["c", "d"],
    ]
    assert [part.weight for part in queries[0].parts] == [2.0, -1.0]
    with pytest.raises(InputError, match="batches of 2, 3 don't fit"):
        blend([(many, 1.0), (text_query(encoder, ["a", "b"]), 1.0)])


def test_blending_refuses_what_cannot_be_added(encoder: ProjectionEncoder) -> None:
    query = text_query(encoder, ["a"])
    with pytest.raises(InputError, match="every weight is zero"):
        blend([(query, 0.0), (query, 0.0)])
    with pytest.raises(InputError, match="a weight is inf"):
        blend([(query, float("inf"))])
    with pytest.raises(InputError, match="Make both with the same encoder"):
        blend([(query, 1.0), (text_query(ProjectionEncoder(seed=1), ["a"]), 1.0)])
    with pytest.raises(InputError, match="no query"):
        blend([])
    with pytest.raises(InputError, match="wanted below 0"):
        exclude(query, query, 0.5)
    with pytest.raises(InputError, match="no text"):
        text_query(encoder, [])
    with pytest.raises(InputError, match="no picture"):
        image_query(encoder, [])


def test_a_part_of_weight_zero_is_left_out(encoder: ProjectionEncoder) -> None:
    query = blend([(text_query(encoder, ["a"]), 1.0), (text_query(encoder, ["b"]), 0.0)]).queries[0]

    assert [part.text for part in query.parts] == ["a"]


def test_image_queries_do_not_depend_on_the_batch_size(
    encoder: ProjectionEncoder, photos: list[Path]
) -> None:
    steps: list[tuple[int, int]] = []
    small = image_query(
        encoder,
        pictures(photos[:5]),
        batch_size=2,
        on_step=lambda done, total: steps.append((done, total)),
    )
    whole = image_query(encoder, pictures(photos[:5]))

    assert steps == [(2, 5), (4, 5), (5, 5)]
    for a, b in zip(small.queries, whole.queries, strict=True):
        assert torch.allclose(a.parts[0].tokens, b.parts[0].tokens, atol=1e-6)


# ---- rerank


def test_rerank_orders_the_first_by_itm_and_keeps_the_rest(
    gallery: Gallery, encoder: ProjectionEncoder
) -> None:
    hits = search(gallery, text_query(encoder, ["in red", "blue"]), top_k=COUNT)
    steps: list[tuple[int, int]] = []

    found = rerank(hits, encoder, 5, batch_size=2, on_step=lambda d, t: steps.append((d, t)))

    assert steps == [(2, 10), (4, 10), (5, 10), (7, 10), (9, 10), (10, 10)]
    for before, after, text in zip(hits.rows, found.rows, ("in red", "blue"), strict=True):
        scored = after[:5]
        assert {hit.item_id for hit in scored} == {hit.item_id for hit in before[:5]}
        values = [float(hit.itm or 0.0) for hit in scored]
        assert values == sorted(values, reverse=True)
        for hit in scored:
            pixels = encoder.preprocess(open_image(hit.path))[None]
            assert hit.itm == pytest.approx(float(encoder.score_pairs(text, pixels)[0]), abs=1e-5)
        assert [(h.item_id, h.score, h.itm) for h in after[5:]] == [
            (h.item_id, h.score, None) for h in before[5:]
        ]
        assert [hit.rank for hit in after] == list(range(1, COUNT + 1))


def test_a_composed_query_is_reranked_with_its_reference(
    gallery: Gallery, photos: list[Path], encoder: ProjectionEncoder
) -> None:
    embedding = composed_query(encoder, image_query(encoder, pictures(photos[:1])), ["in red"])

    found = rerank(search(gallery, embedding, top_k=4), encoder, 99).rows[0]

    vision = embedding.queries[0].parts[0].vision
    for hit in found:
        pixels = encoder.preprocess(open_image(hit.path))[None]
        wanted = float(encoder.score_pairs("in red", pixels, vision)[0])
        assert hit.itm == pytest.approx(wanted, abs=1e-5)
        assert 0.0 < wanted < 1.0


def test_a_missing_file_is_noted_and_follows_the_reranked(
    gallery: Gallery, encoder: ProjectionEncoder
) -> None:
    hits = search(gallery, text_query(encoder, ["in red"]), top_k=6)
    gone = hits.rows[0][0]
    gone.path.unlink()
    hits.rows[0][2].path.write_bytes(b"broken")

    found = rerank(hits, encoder, 4)

    row = found.rows[0]
    before = [hit.item_id for hit in hits.rows[0]]
    assert [hit.item_id for hit in row[2:]] == [before[0], before[2], *before[4:]]
    assert [hit.missing for hit in row] == [False, False, True, False, False, False]
    assert [hit.itm is None for hit in row] == [False, False, True, True, True, True]
    assert len(found.notes) == 2
    assert gone.path.name in found.notes[0]


def test_an_image_only_query_cannot_be_reranked(
    gallery: Gallery, photos: list[Path], encoder: ProjectionEncoder
) -> None:
    images = image_query(encoder, pictures(photos[:1]))
    only_against = exclude(images, text_query(encoder, ["floral"]))
    for embedding in (images, only_against):
        with pytest.raises(InputError, match=r"no text to match.*Add a text"):
            rerank(search(gallery, embedding, top_k=4), encoder, 2)


def test_of_several_parts_the_heaviest_text_is_used_and_noted(
    gallery: Gallery, photos: list[Path], encoder: ProjectionEncoder
) -> None:
    embedding = blend(
        [
            (text_query(encoder, ["weak"]), 0.5),
            (image_query(encoder, pictures(photos[:1])), 3.0),
            (text_query(encoder, ["strong"]), 1.0),
            (text_query(encoder, ["against"]), -2.0),
        ]
    )

    found = rerank(search(gallery, embedding, top_k=2), encoder, 1)

    pixels = encoder.preprocess(open_image(found.rows[0][0].path))[None]
    assert found.rows[0][0].itm == pytest.approx(float(encoder.score_pairs("strong", pixels)[0]))
    assert found.notes == ("reranked by 'strong' alone; the query's other parts have no say in it",)


def test_rerank_of_nothing_is_nothing(gallery: Gallery, encoder: ProjectionEncoder) -> None:
    hits = search(gallery, text_query(encoder, ["a"]), top_k=2, where="category=shoes")

    assert rerank(hits, encoder, 5).rows == ((),)
    with pytest.raises(InputError, match="first is 0"):
        rerank(hits, encoder, 0)


# ---- metrics


def test_precision_and_recall_at_k() -> None:
    ranked, relevant = ["a", "b", "c", "d"], {"a", "c", "x"}

    assert precision_at(ranked, relevant, 1) == 1.0
    assert precision_at(ranked, relevant, 4) == 0.5
    assert precision_at(ranked, relevant, 8) == 0.25
    assert recall_at(ranked, relevant, 3) == pytest.approx(2 / 3)
    assert recall_at(ranked, ["d"], 3) == 0.0
    assert mean([1.0, 0.0]) == 0.5
    with pytest.raises(InputError, match="k is 0"):
        precision_at(ranked, relevant, 0)
    with pytest.raises(InputError, match="no relevant item"):
        recall_at(ranked, [], 3)
    with pytest.raises(InputError, match="no query"):
        mean([])
