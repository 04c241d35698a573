"""Agnostic masks from parse maps, keypoints and joints: what they cover, and the laws they obey."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from unifashion_core.errors import InputError
from unifashion_core.prepare.densepose import read_densepose, skeleton_of
from unifashion_core.prepare.keypoints import Skeleton, read_keypoints
from unifashion_core.prepare.labels import LABEL_SETS, Part, PartMap, from_ids, read_parse_map
from unifashion_core.prepare.mask import agnostic_mask
from unifashion_core.prepare.regions import dilate

ATR = {part: index for index, part in enumerate(LABEL_SETS["atr"].parts)}


def person_ids(width: int = 120, height: int = 200) -> np.ndarray:
    """A standing person in a short-sleeved top, trousers and shoes, in atr's ids."""
    picture = Image.new("L", (120, 200))
    draw = ImageDraw.Draw(picture)

    def box(part: Part, *corners: int) -> None:
        draw.rectangle(corners, fill=ATR[part])

    box(Part.HAIR, 48, 8, 71, 20)
    box(Part.FACE, 50, 20, 69, 42)
    box(Part.UPPER, 38, 43, 81, 100)
    box(Part.UPPER, 28, 44, 37, 64)
    box(Part.UPPER, 82, 44, 91, 64)
    box(Part.RIGHT_ARM, 28, 65, 36, 120)
    box(Part.LEFT_ARM, 83, 65, 91, 120)
    box(Part.LOWER, 40, 101, 58, 165)
    box(Part.LOWER, 61, 101, 79, 165)
    box(Part.RIGHT_LEG, 42, 166, 56, 180)
    box(Part.LEFT_LEG, 63, 166, 77, 180)
    box(Part.RIGHT_SHOE, 40, 181, 57, 188)
    box(Part.LEFT_SHOE, 62, 181, 79, 188)
    return np.array(picture.resize((width, height), Image.Resampling.NEAREST))


JOINTS = {
    "nose": (59.5, 32.0), "left_eye": (64.0, 27.0), "right_eye": (55.0, 27.0),
    "left_shoulder": (82.0, 48.0), "right_shoulder": (37.0, 48.0), "left_elbow": (87.0, 78.0),
    "right_elbow": (32.0, 78.0), "left_wrist": (87.0, 106.0), "right_wrist": (32.0, 106.0),
    "left_hip": (70.0, 100.0), "right_hip": (49.0, 100.0), "left_knee": (70.0, 140.0),
    "right_knee": (49.0, 140.0), "left_ankle": (70.0, 180.0), "right_ankle": (49.0, 180.0),
}  # fmt: skip
COLOURS = {
    Part.BACKGROUND: (235, 235, 235), Part.HAIR: (60, 40, 25), Part.FACE: (215, 170, 145),
    Part.UPPER: (40, 70, 170), Part.LOWER: (90, 140, 60), Part.LEFT_ARM: (212, 168, 143),
    Part.RIGHT_ARM: (212, 168, 143), Part.LEFT_LEG: (212, 168, 143),
    Part.RIGHT_LEG: (212, 168, 143), Part.LEFT_SHOE: (30, 30, 30), Part.RIGHT_SHOE: (30, 30, 30),
}  # fmt: skip


def photo_of(ids: np.ndarray) -> Image.Image:
    made = np.zeros((*ids.shape, 3), np.uint8)
    for part, colour in COLOURS.items():
        made[ids == ATR[part]] = colour
    return Image.fromarray(made)


class Found:
    """A person as the networks would give it: its outline and no landmarks of their own."""

    def __init__(self, ids: np.ndarray):
        self.mask = torch.from_numpy((ids > 0).astype(np.float32))
        self.landmarks = torch.zeros(33, 4)


def parse_mask(ids: np.ndarray, size: tuple[int, int] | None = None, **options) -> np.ndarray:
    size = size or (ids.shape[1], ids.shape[0])
    source = from_ids(ids, "atr")
    return agnostic_mask(Image.new("RGB", size), source=source, **options).mask.numpy() > 0


def test_upper_covers_the_garment_and_the_arms_but_not_head_trousers_and_hands():
    ids = person_ids()
    mask = parse_mask(ids)
    assert mask[ids == ATR[Part.UPPER]].all()
    assert not mask[np.isin(ids, [ATR[p] for p in (Part.HAIR, Part.FACE, Part.LOWER)])].any()
    assert mask[66:95, 29:36].all()  # the bare arm
    assert not mask[118:121, 28:37].any()  # the hand at its end


def test_lower_covers_trousers_and_reaches_the_knee_but_not_the_top_and_the_shoes():
    ids = person_ids()
    mask = parse_mask(ids, region="lower")
    assert mask[ids == ATR[Part.LOWER]].all()
    assert not mask[np.isin(ids, [ATR[Part.UPPER], ATR[Part.LEFT_SHOE]])].any()


def test_dress_and_full_cover_both_and_a_list_is_the_union():
    ids = person_ids()
    clothes = np.isin(ids, [ATR[Part.UPPER], ATR[Part.LOWER]])
    assert parse_mask(ids, region="dress")[clothes].all()
    assert parse_mask(ids, region="full")[clothes].all()
    assert parse_mask(ids, region=["upper", "lower"])[clothes].all()
    assert (
        parse_mask(ids, region="upper,lower") == parse_mask(ids, region=["upper", "lower"])
    ).all()


def test_a_dress_clears_what_is_between_the_legs_of_trousers_and_other_regions_keep_it():
    ids = person_ids()
    calves = np.zeros(ids.shape, bool)
    calves[145:160, 59:61] = True  # below the knee, between trouser legs
    assert parse_mask(ids, region="dress", dilation=0.0)[calves].all()
    assert not parse_mask(ids, region="lower", dilation=0.0)[calves].any()
    assert not parse_mask(ids, region="dress", hem="knee", dilation=0.0)[calves].any()
    bare = parse_mask(ids, region="dress", dilation=0.0)[170:178]
    assert not bare.any()  # below the trousers nothing is cleared


def test_longer_sleeves_need_a_larger_region():
    ids = person_ids()
    ids[44:65, 28:38] = ATR[Part.RIGHT_ARM]  # no sleeves
    ids[44:65, 82:92] = ATR[Part.LEFT_ARM]
    areas = [int(parse_mask(ids, sleeve=s).sum()) for s in ("none", "short", "elbow", "long")]
    assert areas == sorted(areas)
    assert len(set(areas)) == 4


def test_kept_sleeves_count_as_long_ones():
    assert (parse_mask(person_ids()) == parse_mask(person_ids(), sleeve="long")).all()


def test_a_lower_hem_needs_a_larger_region():
    areas = [int(parse_mask(person_ids(), hem=h).sum()) for h in ("keep", "hip", "knee", "ankle")]
    assert areas == sorted(areas)
    assert len(set(areas)) == 4


def test_more_dilation_only_adds():
    small, large = parse_mask(person_ids(), dilation=0), parse_mask(person_ids(), dilation=10)
    assert (large | ~small).all()
    assert large.sum() > small.sum()


@pytest.mark.parametrize(("side", "axis", "end"), [(0, 1, 0), (1, 0, 0), (2, 1, -1), (3, 0, -1)])
def test_an_offset_moves_one_side_alone(side, axis, end):
    ids = np.where(person_ids() == ATR[Part.UPPER], ATR[Part.UPPER], 0)
    ids[50:60, 50:60] = ATR[Part.UPPER]
    offset = [0.0] * 4
    offset[side] = 20.0
    before, after = (parse_mask(ids, dilation=0, offset=o) for o in ((0,) * 4, tuple(offset)))
    edges = [np.flatnonzero(mask.any(1 - axis))[[0, -1]] for mask in (before, after)]
    moved = edges[1][end] - edges[0][end]
    assert moved != 0
    assert edges[1][-1 - end] == edges[0][-1 - end]
    assert (after | ~before).all()


def test_what_is_protected_stays_and_what_is_not_may_be_entered():
    ids = person_ids()
    face = ids == ATR[Part.FACE]
    assert not parse_mask(ids, dilation=10)[face].any()
    assert parse_mask(ids, dilation=10, protect=())[face].any()


def test_add_and_subtract_masks_have_the_last_word():
    ids = person_ids()
    add, subtract = torch.zeros(200, 120), torch.zeros(100, 60)
    add[:4, :4] = 1
    subtract[25:30, 25:30] = 1  # of half the size: rows and columns 50 to 60
    mask = parse_mask(ids, add=add, subtract=subtract)
    assert mask[:4, :4].all()
    assert not mask[50:60, 50:60].any()


def test_an_empty_region_is_said():
    ids = np.where(person_ids() == ATR[Part.LOWER], 0, person_ids())
    source = from_ids(np.where(np.isin(ids, [ATR[Part.FACE]]), ids, 0), "atr")
    made = agnostic_mask(Image.new("RGB", (120, 200)), source=source)
    assert not made.mask.any()
    assert "nothing of the region upper" in made.warnings[0]


@pytest.mark.parametrize("region", ["upper", "lower", "dress", "full"])
def test_a_flipped_parse_map_gives_the_flipped_mask(region):
    rng = np.random.default_rng(3)
    ids = np.roll(person_ids(), 9, axis=1)
    ids = np.where(rng.random(ids.shape) < 0.02, 0, ids)
    other = {ATR[Part.LEFT_ARM]: ATR[Part.RIGHT_ARM], ATR[Part.LEFT_LEG]: ATR[Part.RIGHT_LEG],
             ATR[Part.LEFT_SHOE]: ATR[Part.RIGHT_SHOE]}  # fmt: skip
    table = np.arange(20, dtype=np.uint8)
    for a, b in other.items():
        table[a], table[b] = b, a
    flipped = table[ids][:, ::-1]
    assert (parse_mask(flipped, region=region) == parse_mask(ids, region=region)[:, ::-1]).all()


@pytest.mark.parametrize("region", ["upper", "lower", "dress"])
def test_a_shifted_parse_map_gives_the_shifted_mask(region):
    ids = np.pad(person_ids(), 20)
    moved = np.roll(ids, (7, -11), (0, 1))
    expected = np.roll(parse_mask(ids, region=region), (7, -11), (0, 1))
    assert (parse_mask(moved, region=region) == expected).all()


@pytest.mark.parametrize("size", [(64, 64), (64, 320), (320, 64), (1500, 300)])
def test_any_size_and_shape_gives_a_mask_as_large_as_the_photo(size):
    ids = person_ids(*size)
    made = agnostic_mask(Image.new("RGB", size), source=from_ids(ids, "atr"))
    assert tuple(made.mask.shape) == (size[1], size[0])
    assert set(made.mask.unique().tolist()) == {0.0, 1.0}


def test_a_map_smaller_than_the_photo_is_scaled_up():
    mask = parse_mask(person_ids(), size=(480, 800))
    assert mask.shape == (800, 480)
    small = parse_mask(person_ids())
    again = mask.reshape(200, 4, 120, 4).mean((1, 3)) > 0.5
    assert (again != small).mean() < 0.01


def test_a_map_of_another_shape_is_refused():
    with pytest.raises(InputError, match="120 x 200, the photo 200 x 120"):
        parse_mask(person_ids(), size=(200, 120))


def test_no_person_says_what_to_do():
    with pytest.raises(InputError, match="no person was found.*parse map, keypoints, or the mask"):
        agnostic_mask(Image.new("RGB", (64, 64)), source=[])
    empty = PartMap(np.zeros((8, 8), np.uint8), "parse map (atr)")
    with pytest.raises(InputError, match="shows no person"):
        agnostic_mask(Image.new("RGB", (8, 8)), source=empty)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"region": "skirt"}, "region 'skirt' is unknown. Choose of upper, lower, dress, full"),
        ({"region": ""}, "no region"),
        ({"sleeve": "longer"}, "sleeve 'longer' is unknown"),
        ({"hem": "floor"}, "hem 'floor' is unknown"),
        ({"protect": ("nose",)}, "protect 'nose' is unknown"),
        ({"dilation": -1.0}, "dilation -1.0 percent"),
        ({"offset": (0.0, 0.0, 0.0, 200.0)}, "offset 200.0 percent"),
    ],
)
def test_unknown_options_are_refused(options, text):
    with pytest.raises(InputError, match=text):
        parse_mask(person_ids(), **options)


def test_dilation_is_that_of_a_disc():
    rng = np.random.default_rng(5)
    mask = rng.random((40, 50)) < 0.01
    rows, columns = np.nonzero(mask)
    y, x = np.mgrid[:40, :50]
    near = ((y[..., None] - rows) ** 2 + (x[..., None] - columns) ** 2).min(-1)
    assert (dilate(mask, 6.5) == (near <= 6.5**2)).all()


def test_a_radius_a_hair_below_a_whole_number_does_not_fill_everything():
    mask = np.zeros((21, 21), bool)
    mask[10, 10] = mask[10, 11] = True
    assert (dilate(mask, 5 - 1e-9) == (dilate(mask, 4.999))).all()
    assert not dilate(mask, 5 - 1e-9)[5, 5]


# From joints and colours.


def built_in(ids: np.ndarray, joints=None, **options):
    skeleton = Skeleton(joints or JOINTS)
    return agnostic_mask(photo_of(ids), source=[skeleton, Found(ids)], **options)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / (a | b).sum()


@pytest.mark.parametrize("region", ["upper", "lower", "dress"])
def test_joints_and_colours_find_what_a_parse_map_tells(region):
    ids = person_ids()
    made = built_in(ids, region=region)
    assert made.source == "keypoints + colours"
    assert iou(made.mask.numpy() > 0, parse_mask(ids, region=region)) > 0.8


def test_colours_move_the_waist_to_where_the_garment_ends():
    ids = person_ids()
    cropped = ids.copy()
    cropped[80:101, 38:82] = np.where(ids[80:101, 38:82] > 0, ATR[Part.LOWER], 0)
    mask = built_in(cropped).mask.numpy() > 0
    assert mask[45:78, 45:75].mean() > 0.95
    assert mask[86:110, 45:75].mean() < 0.1


def test_the_waist_of_a_printed_skirt_is_told_by_its_rows():
    ids = person_ids()
    ids[78:101, 38:82] = ATR[Part.LOWER]
    photo = np.array(photo_of(ids))
    print_ = np.kron(np.random.default_rng(2).random((50, 30)) < 0.4, np.ones((4, 4), bool))
    photo[print_ & (ids == ATR[Part.LOWER])] = COLOURS[Part.UPPER]  # in the colour of the top
    source = [Skeleton(JOINTS), Found(ids)]
    mask = agnostic_mask(Image.fromarray(photo), source=source).mask.numpy() > 0
    assert mask[45:76, 45:75].mean() > 0.95
    assert mask[84:120, 45:75].mean() < 0.1
    lower = agnostic_mask(Image.fromarray(photo), source=source, region="lower").mask.numpy() > 0
    assert lower[82:140, 45:58].mean() > 0.9


def test_garments_of_one_colour_part_at_the_hips_and_it_is_said():
    ids = person_ids()
    photo = np.array(photo_of(ids))
    photo[ids == ATR[Part.LOWER]] = COLOURS[Part.UPPER]
    source = [Skeleton(JOINTS), Found(ids)]
    made = agnostic_mask(Image.fromarray(photo), source=source)
    assert "one colour" in made.warnings[0]
    edge = [int(np.flatnonzero(made.mask.numpy()[:, x])[-1]) for x in range(46, 74, 4)]
    assert max(edge) - min(edge) <= 3  # a straight line
    assert 98 <= min(edge) <= 108
    dress = agnostic_mask(Image.fromarray(photo), source=source, region="dress")
    assert dress.warnings == built_in(ids).warnings == ()


def test_socks_in_the_colour_of_the_trousers_stay_on():
    ids = person_ids()
    ids[101:166][ids[101:166] == ATR[Part.LOWER]] = ATR[Part.LEFT_LEG]
    ids[101:130, 40:80] = ATR[Part.LOWER]  # shorts
    photo = np.array(photo_of(ids))
    socks = np.zeros_like(ids, bool)
    socks[172:181] = ids[172:181] > 0
    photo[socks] = COLOURS[Part.LOWER]
    made = agnostic_mask(
        Image.fromarray(photo), source=[Skeleton(JOINTS), Found(ids)], region="lower"
    )
    assert not made.mask.numpy()[socks].any()


def test_long_hair_stays_out_of_the_mask():
    ids = person_ids()
    ids[20:60, 42:49] = ATR[Part.HAIR]
    ids[20:60, 71:78] = ATR[Part.HAIR]
    mask = built_in(ids).mask.numpy() > 0
    assert mask[ids == ATR[Part.HAIR]].mean() < 0.05


def test_a_flipped_or_moved_photo_gives_nearly_the_same_mask():
    ids = np.pad(person_ids(), 12)
    joints = {name: (x + 12, y + 12) for name, (x, y) in JOINTS.items()}
    mask = built_in(ids, joints).mask.numpy() > 0
    swap = {"left": "right", "right": "left"}
    mirrored = {
        "_".join([swap.get(name.split("_")[0], name.split("_")[0]), *name.split("_")[1:]]): (
            ids.shape[1] - 1 - x,
            y,
        )
        for name, (x, y) in joints.items()
    }
    flipped = built_in(np.ascontiguousarray(ids[:, ::-1]), mirrored).mask.numpy() > 0
    assert iou(flipped[:, ::-1], mask) > 0.85
    moved = {name: (x + 5, y - 7) for name, (x, y) in joints.items()}
    shifted = built_in(np.roll(ids, (-7, 5), (0, 1)), moved).mask.numpy() > 0
    assert iou(np.roll(shifted, (7, -5), (0, 1)), mask) > 0.85


def test_without_an_outline_the_joints_draw_one_and_it_is_said():
    ids = person_ids()
    made = agnostic_mask(photo_of(ids), source=Skeleton(JOINTS))
    assert any("outline" in warning for warning in made.warnings)
    assert iou(made.mask.numpy() > 0, parse_mask(ids)) > 0.5


def test_without_shoulders_no_mask_is_guessed():
    legs = {name: at for name, at in JOINTS.items() if "knee" in name or "ankle" in name}
    with pytest.raises(InputError, match="no shoulders"):
        built_in(person_ids(), legs)


def test_the_source_is_the_best_of_several_and_joints_come_from_the_next():
    ids = person_ids()
    sources = [from_ids(ids, "atr"), Skeleton(JOINTS)]
    made = agnostic_mask(Image.new("RGB", (120, 200)), source=sources)
    assert made.source == "parse map (atr) + joints"
    assert not (made.mask.numpy() > 0)[108:121, 28:37].any()  # beyond the wrist


def test_the_overlay_tints_the_mask_alone():
    ids = person_ids()
    photo = photo_of(ids)
    made = agnostic_mask(photo, source=from_ids(ids, "atr"))
    shown = np.asarray(made.overlay(photo))
    assert shown.shape == (200, 120, 3)
    assert (shown[190:] == np.asarray(photo)[190:]).all()
    assert (shown[70:90, 50:70] != np.asarray(photo)[70:90, 50:70]).any(-1).all()


# Sources.


def keypoint_frame(scale: float, **canvas: int) -> dict:
    order = (
        "nose", None, "right_shoulder", "right_elbow", "right_wrist", "left_shoulder",
        "left_elbow", "left_wrist", "right_hip", "right_knee", "right_ankle", "left_hip",
        "left_knee", "left_ankle", "right_eye", "left_eye", None, None,
    )  # fmt: skip
    flat: list[float] = []
    for name in order:
        flat += [JOINTS[name][0] * scale, JOINTS[name][1] * scale, 1.0] if name else [0.0, 0.0, 0.0]
    return {"people": [{"pose_keypoints_2d": flat}], **canvas}


@pytest.mark.parametrize(
    "frame",
    [
        keypoint_frame(1.0),
        keypoint_frame(2.0, canvas_width=240, canvas_height=400),
        [keypoint_frame(1.0, canvas_width=120, canvas_height=200)],
    ],
)
def test_keypoints_are_read_in_pixels_of_their_canvas(frame):
    read = read_keypoints(frame, (120, 200))
    assert read.joints["left_wrist"] == pytest.approx((87.0, 106.0))
    assert "left_ear" not in read.joints
    assert read.torso() == pytest.approx(52.0)


def test_keypoints_between_0_and_1_are_parts_of_the_photo():
    frame = keypoint_frame(0.005)  # as if the photo were 200 pixels both ways
    read = read_keypoints({**frame, "canvas_width": 9, "canvas_height": 9}, (200, 200))
    assert read.joints["left_wrist"] == pytest.approx((87.0, 106.0))


def test_keypoints_of_no_person_or_another_form_are_refused():
    with pytest.raises(InputError, match="no person in them"):
        read_keypoints({"people": []}, (9, 9))
    with pytest.raises(InputError, match="not in POSE_KEYPOINT form"):
        read_keypoints({"poses": []}, (9, 9))


DENSE = {1: (38, 43, 81, 100), 3: (28, 108, 36, 120), 4: (83, 108, 91, 120),
         7: (40, 101, 58, 140), 8: (61, 101, 79, 140), 11: (42, 141, 56, 180),
         12: (63, 141, 77, 180), 15: (82, 44, 91, 76), 16: (28, 44, 37, 76),
         19: (83, 77, 91, 107), 20: (28, 77, 36, 107), 23: (50, 12, 69, 42)}  # fmt: skip


def dense_ids() -> np.ndarray:
    picture = Image.new("L", (120, 200))
    draw = ImageDraw.Draw(picture)
    for part, corners in DENSE.items():
        draw.rectangle(corners, fill=part)
    return np.asarray(picture)


def test_densepose_gives_joints_where_the_parts_meet():
    joints = skeleton_of(read_densepose(Image.fromarray(dense_ids()))).joints
    assert joints["left_elbow"] == pytest.approx((87.0, 77.5), abs=2)
    assert joints["right_wrist"] == pytest.approx((32.0, 108.5), abs=2)
    assert joints["left_shoulder"][0] > joints["right_shoulder"][0]


def test_densepose_gives_a_mask_without_hands():
    ids = person_ids()
    source = [read_densepose(Image.fromarray(dense_ids())), Found(ids)]
    made = agnostic_mask(photo_of(ids), source=source)
    assert made.source == "densepose + colours"
    assert iou(made.mask.numpy() > 0, parse_mask(ids)) > 0.7
    assert not (made.mask.numpy() > 0)[110:119, 29:36].any()


def test_densepose_colours_are_decoded_also_from_jpeg(tmp_path):
    colours = {1: (37, 60, 163), 15: (145, 191, 116), 23: (250, 235, 25)}
    picture = np.zeros((64, 64, 3), np.uint8)
    for row, colour in enumerate(colours.values()):
        picture[16 * row : 16 * row + 16] = colour
    Image.fromarray(picture).save(tmp_path / "d.jpg", quality=95)
    ids = read_densepose(Image.open(tmp_path / "d.jpg")).ids
    assert [int(ids[16 * row + 8, 30]) for row in range(4)] == [*colours, 0]


def test_other_pictures_are_no_densepose_maps():
    rng = np.random.default_rng(1)
    noise = Image.fromarray(rng.integers(0, 255, (32, 32, 3)).astype(np.uint8))
    with pytest.raises(InputError, match="in no densepose colour map"):
        read_densepose(noise)
    with pytest.raises(InputError, match="ids up to 90"):
        read_densepose(Image.new("L", (8, 8), 90))
    with pytest.raises(InputError, match="no torso"):
        read_densepose(Image.new("L", (8, 8), 3))


@pytest.mark.parametrize("name", list(LABEL_SETS))
def test_a_parse_map_reads_alike_as_ids_palette_and_colours(name):
    known = LABEL_SETS[name]
    ids = np.arange(len(known.parts), dtype=np.uint8).reshape(2, -1)
    palette = Image.fromarray(ids, "P")
    palette.putpalette([v for colour in known.palettes[0] for v in colour])
    for picture in (Image.fromarray(ids), palette, palette.convert("RGB")):
        read = read_parse_map(picture, name)
        assert read.parts.reshape(-1).tolist() == list(known.parts)
        assert read.source == f"parse map ({name})"


def test_a_label_set_is_needed_where_several_fit():
    ids = person_ids()
    with pytest.raises(InputError, match="atr, lip, cihp, dresscode all fit"):
        read_parse_map(Image.fromarray(ids))
    shoes = np.array([[0, 5, 18, 19]], np.uint8)  # 18 and 19 are in lip and cihp, which agree here
    assert read_parse_map(Image.fromarray(shoes)).parts.reshape(-1)[1] == Part.UPPER


def test_unknown_ids_and_colours_are_listed():
    with pytest.raises(InputError, match="ids 18, 200 are not in label set 'atr'"):
        read_parse_map(Image.fromarray(np.array([[0, 18, 200]], np.uint8)), "atr")
    with pytest.raises(InputError, match="ids 99 are in none of the label sets"):
        read_parse_map(Image.fromarray(np.array([[0, 99]], np.uint8)))
    with pytest.raises(InputError, match="#010203 are in no palette of label set 'lip'"):
        read_parse_map(Image.new("RGB", (2, 2), (1, 2, 3)), "lip")
    with pytest.raises(InputError, match="label set 'pascal' is unknown"):
        read_parse_map(Image.new("L", (2, 2)), "pascal")
