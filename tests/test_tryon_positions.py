"""Positions in the warp blocks: a switch of small models, off in the paper's."""

import pytest
import torch

from unifashion_core.attention import choose_attention
from unifashion_core.errors import InputError
from unifashion_core.tryon.blocks import SpatialTransformer, place_embedding
from unifashion_core.tryon.config import ClipConfig, TryOnConfig, UNetConfig


def _block(positions: bool) -> SpatialTransformer:
    torch.manual_seed(0)
    return SpatialTransformer(8, 12, 2, 4, choose_attention("math"), positions=positions)


def test_without_positions_the_order_of_the_garments_places_does_not_matter():
    x, hint = torch.randn(2, 8, 4, 4), torch.randn(2, 16, 12)
    shuffled = hint[:, torch.randperm(16)]
    plain = _block(positions=False)
    assert torch.allclose(plain(x, hint), plain(x, shuffled), atol=1e-5)
    placed = _block(positions=True)
    assert not torch.allclose(placed(x, hint), placed(x, shuffled), atol=1e-3)


def test_a_place_has_the_same_embedding_on_every_grid_that_has_it():
    like = torch.zeros(1)
    small, large = place_embedding(1, 1, 8, like), place_embedding(3, 3, 8, like)
    assert torch.allclose(small[0], large[4])  # the centre
    assert len(torch.unique(large, dim=0)) == 9


def test_positions_are_off_unless_asked_for_and_survive_the_config():
    assert not UNetConfig().warp_positions
    config = TryOnConfig(
        unet=UNetConfig(warp_positions=True),
        text=ClipConfig(vocabulary=3, ids=(5, 49406, 49407)),
        size=(128, 128),
        pose_map="parts",
    )
    assert TryOnConfig.from_dict(config.to_dict()) == config


def test_token_ids_must_be_as_many_as_rows():
    with pytest.raises(InputError, match="2 token ids for 3 rows"):
        ClipConfig(vocabulary=3, ids=(5, 49407))
