"""Garments cut out, framed, drawn and told by colour: against renders whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from unifashion_core.errors import InputError, ShapeError
from unifashion_core.imaging import to_tensor
from unifashion_core.prepare.connected import flood, pieces
from unifashion_core.prepare.garment import cut_out, frame_garment, skew
from unifashion_core.prepare.labels import Part
from unifashion_core.prepare.palette import draw_palette, palette
from unifashion_core.prepare.regions import Body
from unifashion_core.prepare.sketch import SketchStyle, on_paper, sketch
from unifashion_core.prepare.worn import worn_garment
from unifashion_core.wardrobe import render_with_mask, sample_garment


def flat_lay(seed: int, size: int = 256, **fixed):
    """A render with its true mask."""
    picture, mask = render_with_mask(sample_garment(seed, **fixed), size)
    return to_tensor(picture), torch.from_numpy(np.asarray(mask) / 255.0).float()


def overlap(a: torch.Tensor, b: torch.Tensor) -> float:
    a, b = a > 0.5, b > 0.5
    return float((a & b).sum() / (a | b).sum())


def tee(size: int = 256, angle: float = 0.0) -> torch.Tensor:
    """A T as a mask, turned about its middle."""
    picture = Image.new("L", (size, size), 0)
    draw = ImageDraw.Draw(picture)
    u = size / 16
    draw.rectangle((3 * u, 3 * u, 13 * u, 6 * u), fill=255)
    draw.rectangle((5.5 * u, 3 * u, 10.5 * u, 13 * u), fill=255)
    return to_tensor(picture.rotate(-angle, Image.Resampling.BICUBIC))[..., 0]


@pytest.mark.parametrize("category", ["t-shirt", "dress", "pants", "skirt", "longsleeve"])
def test_a_flat_lay_is_cut_out_as_it_was_drawn(category):
    image, truth = flat_lay(3, category=category, pattern="stripes")
    cut = cut_out(image)
    assert overlap(cut.mask, truth) > 0.93
    assert (cut.image[cut.mask == 0] == 1.0).all()
    whole = cut.mask == 1
    assert torch.equal(cut.image[whole], image[whole])


@pytest.mark.slow
def test_white_on_white_is_cut_out_by_its_grain():
    generator = torch.Generator().manual_seed(0)
    image = torch.full((256, 256, 3), 0.98)
    inside = tee() > 0.5
    cloth = 0.978 + 0.012 * torch.randn((256, 256, 1), generator=generator)
    image = torch.where(inside[..., None], cloth.expand(-1, -1, 3), image).clamp(0, 1)
    assert overlap(cut_out(image).mask, inside.float()) > 0.85


def test_ground_between_arm_and_body_is_not_garment():
    picture = Image.new("RGB", (256, 256), "white")
    draw = ImageDraw.Draw(picture)
    draw.rectangle((60, 60, 200, 200), fill=(30, 60, 120))
    draw.rectangle((100, 100, 150, 160), fill="white")
    mask = cut_out(to_tensor(picture)).mask
    assert mask[130, 125] == 0
    assert mask[80, 80] == 1


def test_a_mask_that_is_given_is_used_as_it_is():
    image, mask = torch.rand((90, 70, 3)), torch.zeros(90, 70)
    mask[20:50, 10:40] = 0.5
    cut = cut_out(image, mask)
    assert torch.equal(cut.mask, mask)
    assert torch.allclose(cut.image[30, 20], image[30, 20] * 0.5 + 0.5)
    with pytest.raises(InputError, match="the mask is empty"):
        cut_out(image, torch.zeros(90, 70))
    with pytest.raises(ShapeError, match=r"wanted the photo's \(90, 70\)"):
        cut_out(image, torch.zeros(70, 90))


def test_a_busy_ground_is_an_error_or_left_to_the_finder():
    noise = torch.rand((128, 128, 3), generator=torch.Generator().manual_seed(1))
    with pytest.raises(InputError, match="can't be told from its ground. Photograph it on a plain"):
        cut_out(noise)
    known = np.zeros((128, 128), bool)
    known[30:90, 40:80] = True
    cut = cut_out(noise, masker=lambda picture: known)
    assert overlap(cut.mask, torch.from_numpy(known).float()) > 0.85
    assert cut.source == "garment finder"


@pytest.mark.parametrize("angle", [-14.0, -5.0, 0.0, 9.0])
def test_a_leaning_garment_is_set_upright(angle):
    assert skew(tee(angle=angle)) == pytest.approx(-angle, abs=1.5)


def test_an_uneven_garment_is_not_turned():
    mask = torch.zeros(200, 200)
    rows = torch.arange(200)[:, None]
    columns = torch.arange(200)[None]
    mask[(rows > 60) & (rows < 140) & (columns > 20) & (columns < 180) & (rows > 0.6 * columns)] = 1
    assert skew(mask) == 0.0


def test_a_framed_garment_is_centred_and_fills_the_frame():
    image, _ = flat_lay(4, category="t-shirt")
    framed = frame_garment(cut_out(image), (256, 192))
    assert framed.image.shape == (256, 192, 3)
    rows, columns = (framed.mask > 0.5).nonzero().unbind(1)
    high, wide = int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1
    assert max(high / 256, wide / 192) == pytest.approx(0.84, abs=0.02)
    assert int(rows.max() + rows.min()) / 2 == pytest.approx(127.5, abs=2)
    assert int(columns.max() + columns.min()) / 2 == pytest.approx(95.5, abs=2)
    assert (framed.image[framed.mask == 0] == 1).all()


def test_a_sketch_has_the_outline_and_nothing_outside():
    image, truth = flat_lay(5, category="dress")
    lines = sketch(image, truth)
    assert (lines[truth <= 0.5] == 0).all()
    inside = truth > 0.5
    edge = inside & ~(
        torch.nn.functional.avg_pool2d(inside.float()[None, None], 3, 1, 1)[0, 0] == 1
    )
    assert (lines[edge] > 0.2).float().mean() > 0.95
    assert lines[inside].mean() < 0.5


def test_more_detail_draws_more_and_more_thickness_draws_wider():
    image, truth = flat_lay(6, category="shirt", pattern="checks")

    def ink(**style) -> float:
        return float(sketch(image, truth, SketchStyle(**style)).sum())

    assert ink(detail=0.1) < ink(detail=0.9)
    assert ink(thickness=2.0) < ink(thickness=5.0) < ink(thickness=12.0)


def test_a_drawing_on_shaded_paper_becomes_clean_lines():
    paper = torch.linspace(0.95, 0.62, 256)[:, None].expand(256, 256)
    picture = Image.new("L", (256, 256), 0)
    ImageDraw.Draw(picture).ellipse((60, 60, 190, 200), outline=255, width=4)
    stroke = torch.from_numpy(np.asarray(picture) / 255.0).float()
    image = (paper * (1 - 0.75 * stroke))[..., None].expand(256, 256, 3).clone()
    image[20:22, 20:22] = 0.2  # a speck
    lines = sketch(image, None, SketchStyle(thickness=0.0), kind="drawing")
    assert (lines[stroke > 0.9] > 0.5).float().mean() > 0.95
    away = torch.nn.functional.max_pool2d(stroke[None, None], 9, 1, 4)[0, 0] == 0
    assert lines[away].max() == 0
    light = sketch(1 - image, None, SketchStyle(thickness=0.0), kind="drawing")
    assert overlap(light, lines) > 0.8
    thick = sketch(image, None, SketchStyle(thickness=12.0), kind="drawing")
    assert thick.sum() > 0.5 * lines.sum()


def test_paper_is_black_or_white():
    lines = torch.tensor([[0.0, 1.0]])
    assert torch.equal(on_paper(lines)[..., 0], lines)
    assert torch.equal(on_paper(lines, dark_on_light=True)[..., 2], 1 - lines)


def test_wrong_styles_are_named():
    image = torch.rand(64, 64, 3)
    with pytest.raises(InputError, match=r"thickness 0.1, wanted 0.5 to 16 pixels"):
        sketch(image, None, SketchStyle(thickness=0.1))
    with pytest.raises(InputError, match="detail 2.0, wanted 0 to 1"):
        sketch(image, None, SketchStyle(detail=2.0))
    with pytest.raises(InputError, match="kind 'scan', wanted one of photo, drawing"):
        sketch(image, None, kind="scan")  # pyright: ignore[reportArgumentType] - the point


def test_a_palette_tells_colours_and_shares():
    image = torch.ones(100, 100, 3)
    image[:, :60] = torch.tensor([0.8, 0.1, 0.1])
    image[:, 60:90] = torch.tensor([0.1, 0.2, 0.6])
    mask = torch.zeros(100, 100)
    mask[:, :90] = 1
    red, blue = palette(image, mask)
    assert red.rgb == pytest.approx((204, 26, 26), abs=4)
    assert blue.rgb == pytest.approx((26, 51, 153), abs=4)
    assert (red.share, blue.share) == pytest.approx((2 / 3, 1 / 3), abs=0.02)
    assert red.hex.startswith("#c")
    assert draw_palette((red, blue), 4, 30)[0, 25].tolist() == pytest.approx(
        [c / 255 for c in blue.rgb]
    )
    with pytest.raises(InputError, match="the mask is empty"):
        palette(image, torch.zeros(100, 100))


def test_flood_goes_round_corners_and_not_through_walls():
    open_ = torch.ones(9, 9, dtype=torch.bool)
    open_[4, :8] = False
    seeds = torch.zeros_like(open_)
    seeds[0, 0] = True
    assert torch.equal(flood(seeds, open_), open_)
    open_[4, 8] = False
    assert int(flood(seeds, open_).sum()) == 36
    assert [int(p.sum()) for p in pieces(open_)] == [36, 36]


def test_the_angle_is_clockwise():
    """A garment that leans to the right has to be turned to the left."""
    leaning = tee(angle=10.0)
    columns = torch.arange(256)[None].expand(256, 256)
    top = columns[50:80][leaning[50:80] > 0.5].float().mean()
    low = columns[180:210][leaning[180:210] > 0.5].float().mean()
    assert top > low + 5
    assert skew(leaning) < 0
    assert math.isfinite(skew(leaning))


def test_a_worn_garment_is_told_without_slivers_beside_it():
    parts = np.zeros((400, 300), np.uint8)
    parts[80:220, 100:200] = Part.UPPER
    parts[40:80, 110:118] = Part.UPPER  # a strap, part of it
    parts[100:200, 60:64] = Part.UPPER  # the outline of an arm
    parts[90:150, 230:270] = Part.UPPER  # a sleeve behind a bare elbow
    parts[220:380, 100:200] = Part.LOWER
    worn = worn_garment(Body(parts, "test"), "upper")
    assert worn[80:220, 100:200].all()
    assert worn[40:80, 110:118].all()
    assert worn[90:150, 230:270].all()
    assert not worn[100:200, 60:64].any()
    assert not worn[220:].any()
    narrow = np.zeros((400, 300), np.uint8)
    narrow[10:390, 150:152] = Part.UPPER  # nothing but that
    assert bool(worn_garment(Body(narrow, "test"), "upper").any())
