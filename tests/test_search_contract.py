"""One contract of search: the embedded store, Qdrant's local mode, and qdrant-edge-py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from unifashion_core.errors import GalleryError, InputError
from unifashion_core.retrieval.connections import (
    Server,
    connect_gallery,
    open_any,
    open_server,
    pull,
    push,
)
from unifashion_core.retrieval.facets import count_values
from unifashion_core.retrieval.removal import remove_items
from unifashion_core.retrieval.search import search
from unifashion_core.retrieval.server import ServerGallery
from unifashion_core.retrieval.store import Gallery, create_gallery
from unifashion_core.retrieval.writer import GalleryWriter
from unifashion_core.types import Embedding, Hits, Query, QueryPart

N, T, D = 40, 3, 8
pytestmark = pytest.mark.filterwarnings("ignore:Local mode performs exact")
PRINT = "ab12" * 16


def unit(values: np.ndarray) -> np.ndarray:
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def embedded(path: Path) -> Gallery:
    random = np.random.default_rng(0)
    gallery = create_gallery(
        path, fingerprint=PRINT, tokens_per_image=T, width=D, encoder_name="tiny"
    )
    vectors, texts = unit(random.standard_normal((N, T, D))), unit(random.standard_normal((N, D)))
    vectors[7] = vectors[3]  # equal scores
    with GalleryWriter(gallery) as writer:
        root, rows = writer.root_id("/photos"), writer.append("tokens", vectors)
        captions = writer.append("captions", texts)
        for number in range(N):
            content = f"{number}".encode().ljust(32)
            item = writer.put_image(
                root, f"a/{number:02d}.png", 1, 2, content, token_row=int(rows[number])
            )
            columns: dict[str, Any] = {
                "category": ["Dress", "hat", "shirt"][number % 3],
                "price": number * 1.5,
                "season": f"2026-{1 + number % 12:02d}-01",
                "colours": ["red", "navy"][: 1 + number % 2],
            }
            if number % 5 == 0:
                columns["brand"] = "Ours"
            writer.put_columns(item, columns)
            if number % 2:
                writer.put_caption(item, int(captions[number]))
        writer.remove([N])
    return gallery


def local_points(folder: Path) -> Any:
    client = pytest.importorskip("qdrant_client", reason="qdrant-client is not installed")
    from unifashion_core.retrieval.qdrant import QdrantPoints

    return QdrantPoints(client.QdrantClient(path=str(folder)), "wardrobe")


def edge_points(folder: Path) -> Any:
    pytest.importorskip("qdrant_edge", reason="qdrant-edge-py is not installed")
    from edge_points import EdgePoints

    return EdgePoints(folder)


BACKENDS: dict[str, Callable[[Path], Any] | None] = {
    "embedded": None,
    "qdrant local mode": local_points,
    "qdrant-edge": edge_points,
}


@pytest.fixture(scope="module", params=BACKENDS)
def gallery(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    base = tmp_path_factory.mktemp("contract")
    own = embedded(base / "own")
    make = BACKENDS[request.param]
    if make is None:
        return own
    server = Server(base / "store.json", "test", make(base / "points"))
    assert push(own, server) == N - 1
    return ServerGallery(server.path, server.url, server.points)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    return embedded(tmp_path_factory.mktemp("own") / "own")


def query(*parts: tuple[int, float], seed: int = 1) -> Embedding:
    """Parts by (tokens, weight)."""
    random = np.random.default_rng(seed)
    made = [
        QueryPart(
            torch.from_numpy(unit(random.standard_normal((count, D))).astype(np.float32)),
            "text",
            weight,
        )
        for count, weight in parts
    ]
    return Embedding((Query(tuple(made)),), PRINT)


def ranked(hits: Hits) -> list[tuple[float, str]]:
    """Hits with the order among equal scores that any backend may choose made one."""
    return sorted((-round(hit.score, 6), hit.file) for hit in hits.rows[0])


def scores(hits: Hits) -> list[float]:
    return [hit.score for hit in hits.rows[0]]


CASES: dict[str, dict[str, Any]] = {
    "one vector": {},
    "an image's tokens": {"parts": [(T, 1.0)]},
    "a blend": {"parts": [(1, 1.0), (T, 0.5)]},
    "an exclusion": {"parts": [(1, 1.0), (1, -0.5)]},
    "captions": {"caption_weight": 1.0},
    "captions in a blend": {"parts": [(1, 1.0), (T, -0.25)], "caption_weight": 0.5},
    "all of it": {"top_k": 1000},
    "a value": {"where": "category=DRESS"},
    "not a value": {"where": "brand!=ours"},
    "a number": {"where": "price>=30"},
    "a number as a value": {"where": "price=30"},
    "a list": {"where": "colours=navy AND price<20"},
    "no value": {"where": "brand="},
    "any value": {"where": "brand!="},
    "a text order": {"where": "season<2026-04-01"},
    "a part of a text": {"where": "category~RES"},
    "a file": {"where": "file~/1"},
}


@pytest.mark.parametrize("case", CASES)
def test_every_backend_finds_the_same(gallery: Any, own: Gallery, case: str) -> None:
    options = dict(CASES[case])
    asked = query(*options.pop("parts", [(1, 1.0)]))
    options.setdefault("top_k", 10)

    found, wanted = search(gallery, asked, **options), search(own, asked, **options)

    assert scores(found) == pytest.approx(scores(wanted), abs=1e-6)
    assert scores(found) == sorted(scores(found), reverse=True)
    assert [hit.rank for hit in found.rows[0]] == list(range(1, len(found.rows[0]) + 1))
    threshold = scores(wanted)[-1] + 2e-6  # below it, a tie may have fallen otherwise
    assert {h.file for h in found.rows[0] if h.score > threshold} == {
        h.file for h in wanted.rows[0] if h.score > threshold
    }
    assert found.exact
    assert all(len(row) <= n <= N for row, n in zip(found.rows, found.candidates, strict=True))
    assert found.revision == gallery.revision


def test_hits_carry_what_was_indexed(gallery: Any, own: Gallery) -> None:
    found = search(gallery, query((1, 1.0)), top_k=5).rows[0]
    wanted = {hit.item_id: hit for hit in search(own, query((1, 1.0)), top_k=40).rows[0]}
    for hit in found:
        same = wanted[hit.item_id]
        assert (hit.path, hit.columns, hit.missing) == (same.path, same.columns, same.missing)


def test_a_batch_is_its_queries(gallery: Any) -> None:
    first, second = query((1, 1.0)), query((T, 1.0), seed=2)
    both = search(gallery, Embedding((*first.queries, *second.queries), PRINT), top_k=5)
    alone = [search(gallery, one, top_k=5).rows[0] for one in (first, second)]
    assert [[h.file for h in row] for row in both.rows] == [[h.file for h in r] for r in alone]


def test_wrong_questions_are_refused_alike(gallery: Any) -> None:
    with pytest.raises(InputError, match="no column 'size'.*brand, category"):
        search(gallery, query((1, 1.0)), top_k=5, where="size=3")
    with pytest.raises(InputError, match="top-k is 0"):
        search(gallery, query((1, 1.0)), top_k=0)
    with pytest.raises(GalleryError, match=r"made with encoder ab12ab12… \(tiny\)"):
        search(gallery, Embedding(query((1, 1.0)).queries, "99" * 32), top_k=5)


def test_values_are_counted_alike(gallery: Any) -> None:
    found = count_values(gallery, "colours", where="category=hat")
    assert found.values == (("red", 13), ("navy", 7))
    brands = count_values(gallery, "brand")
    assert (brands.values, brands.without) == ((("Ours", 8),), 31)


# ---- what a server has of its own


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path / "store.json", "test", local_points(tmp_path / "points"))


def test_a_server_gallery_comes_back_as_it_was(tmp_path: Path, server: Server) -> None:
    own = embedded(tmp_path / "own")
    push(own, server)
    back = pull(server, tmp_path / "back")
    asked = query((1, 1.0), (T, -0.3))
    wanted = search(own, asked, top_k=50, caption_weight=1.0)
    found = search(back, asked, top_k=50, caption_weight=1.0)
    assert ranked(found) == ranked(wanted)
    assert [h.columns for h in found.rows[0]] == [h.columns for h in wanted.rows[0]]


def test_a_prefetch_says_that_it_is_not_exact(tmp_path: Path, server: Server) -> None:
    push(embedded(tmp_path / "own"), server)
    found = ServerGallery(server.path, "", server.points).search(
        query((1, 1.0)), top_k=5, prefetch=20
    )
    assert not found.exact
    assert len(found.rows[0]) == 5


def test_removing_from_a_server_makes_a_revision(tmp_path: Path, server: Server) -> None:
    push(embedded(tmp_path / "own"), server)
    gallery = ServerGallery(server.path, "", server.points)
    before = gallery.revision
    removed, revision = remove_items(gallery, paths=[Path("/photos/a/00.png")], where="price>50")
    assert (removed, revision, gallery.count) == (6, before + 1, N - 7)
    with pytest.raises(InputError, match="nothing.png is not in it"):
        remove_items(gallery, paths=[Path("nothing.png")])


def test_an_empty_server_says_what_to_do(server: Server) -> None:
    with pytest.raises(GalleryError, match="gallery push store"):
        ServerGallery(server.path, "", server.points)


def test_a_name_opens_a_server_and_never_an_address(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(embedded(tmp_path / "own"), server)
    file = connect_gallery(tmp_path / "galleries", "store", "http://localhost:6333", "c")
    assert json.loads(file.read_text()) == {"url": "http://localhost:6333", "collection": "c"}
    asked: list[tuple[str, str]] = []

    def connected(url: str, collection: str) -> Any:
        asked.append((url, collection))
        return server.points

    monkeypatch.setattr("unifashion_core.retrieval.connections.connect", connected)
    assert open_any(tmp_path / "galleries" / "store").count == N - 1
    assert asked == [("http://localhost:6333", "c")]
    with pytest.raises(GalleryError, match="names no server gallery"):
        open_server(tmp_path / "galleries" / "other")


@pytest.mark.parametrize("url", ["ftp://x", "localhost", "http://", "http://me:secret@host:6333"])
def test_an_address_that_is_none_or_holds_a_secret_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(InputError, match="UNIFASHION_QDRANT_KEY"):
        connect_gallery(tmp_path, "store", url)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_not_there_is_our_error(tmp_path: Path) -> None:
    pytest.importorskip("qdrant_client", reason="qdrant-client is not installed")
    connect_gallery(tmp_path, "store", "http://127.0.0.1:9")
    with pytest.raises(GalleryError, match="Check that the server runs"):
        open_any(tmp_path / "store")
