"""`agent.output`: masks, the picture and the GeoJSON of a result."""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image as PillowImage
from shapely.geometry import shape

from agent.output.geojson import Placement, feature_collection
from agent.output.layers import Box, Layer
from agent.output.legend import MIN_WIDTH, scale_bar
from agent.output.masks import read_mask, write_mask
from agent.output.outline import outlines
from agent.output.overlay import MAX_SIDE, render
from agent.output.palette import colours
from agent.output.text import clip, load_font, wrap
from models.backend import Image
from tools.errors import BadInput

SKIN = Path(__file__).parents[1] / "data" / "skin-256.png"


@pytest.fixture(scope="module")
def image() -> Image:
    return Image(np.asarray(PillowImage.open(SKIN).convert("RGB")), 0.499)


def region(labels: np.ndarray, title: str = "epidermis", call: str = "$1") -> Layer:
    return Layer(call, title, "semantic", labels.astype(np.int32))


def instances(labels: np.ndarray, *kinds: str, call: str = "$2") -> Layer:
    names = kinds if len(kinds) == labels.max() else kinds * int(labels.max())
    confidence = np.linspace(0, 1, len(names), dtype=np.float32)
    return Layer(call, "nucleus", "instance", labels.astype(np.int32), names, confidence)


def disc(height: int = 256, width: int = 256, at: tuple[int, int] = (60, 80)) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return (y - at[0]) ** 2 + (x - at[1]) ** 2 < 30**2


def grid(rows: int) -> np.ndarray:
    """`rows` x `rows` round nuclei of 25 px pitch, numbered without gaps."""
    y, x = np.mgrid[:25, :25]
    nucleus = (y - 12) ** 2 + (x - 12) ** 2 < 9**2
    numbers = np.arange(1, rows * rows + 1, dtype=np.int32).reshape(rows, rows)
    return np.kron(numbers, nucleus.astype(np.int32))


def rasterise(geometry: Any, shape_of: tuple[int, int]) -> np.ndarray:
    """The pixels whose centres lie in a geometry."""
    rows, columns = np.mgrid[: shape_of[0], : shape_of[1]]
    return shapely.contains_xy(geometry, columns + 0.5, rows + 0.5)


# ---- layers ------------------------------------------------------------------------------------


def test_layers_refuse_parts_that_contradict_each_other() -> None:
    one = np.ones((3, 3), np.int32)
    for wrong in (
        lambda: Layer("$1", "x", "semantic", one.astype(np.uint8)),  # type: ignore[arg-type]
        lambda: Layer("$1", "x", "semantic", one[None]),
        lambda: Layer("$1", "x", "semantic", one * 2),
        lambda: Layer("$1", "x", "semantic", one, ("lymphocyte",)),
        lambda: Layer("$1", "x", "instance", one),
        lambda: Layer("$1", "x", "instance", -one),
        lambda: Layer("$1", "x", "instance", one, ("a",), np.zeros(2, np.float32)),
    ):
        with pytest.raises(ValueError):  # noqa: PT011 - each has its own words
            wrong()


def test_counts() -> None:
    assert region(np.zeros((2, 2))).count == 0
    assert region(np.eye(2)).count == 1
    assert instances(np.diag([1, 2, 3]), "lymphocyte").count == 3


@pytest.mark.parametrize("xyxy", [(0, 0, 0, 5), (4, 0, 2, 5), (-1, 0, 2, 5)])
def test_empty_boxes_are_refused(xyxy: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="half-open"):
        Box("$1", xyxy)


# ---- masks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("largest", [0, 1, 255, 256, 65_535])
def test_masks_are_read_back_exactly(tmp_path: Path, largest: int) -> None:
    labels = np.zeros((256, 300), np.int32)
    labels.ravel()[:largest] = np.arange(1, largest + 1)
    layer = instances(labels, "nucleus") if largest else region(labels)
    write_mask(tmp_path / "mask.png", layer)
    with PillowImage.open(tmp_path / "mask.png") as png:
        assert (png.format, png.mode, png.size) == ("PNG", "I;16", (300, 256))
    back = read_mask(tmp_path / "mask.png")
    assert back.dtype == np.int32
    np.testing.assert_array_equal(back, labels)


def test_more_instances_than_sixteen_bits_are_refused_and_leave_no_file(tmp_path: Path) -> None:
    labels = np.arange(300 * 256, dtype=np.int32).reshape(300, 256)
    with pytest.raises(BadInput, match="65,535"):
        write_mask(tmp_path / "mask.png", instances(labels, "nucleus"))
    assert not (tmp_path / "mask.png").exists()


def test_only_a_mask_is_read_as_a_mask() -> None:
    with pytest.raises(ValueError, match="16-bit"):
        read_mask(SKIN)


# ---- outlines ----------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    hnp.arrays(
        np.int32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 3)
    )
)
def test_outlines_are_valid_and_rasterise_back_to_every_pixel(labels: np.ndarray) -> None:
    found = outlines(labels)
    assert list(found) == [label for label in np.unique(labels) if label]
    for label, polygons in found.items():
        geometry = shapely.MultiPolygon([(polygon[0], polygon[1:]) for polygon in polygons])
        assert geometry.is_valid, shapely.is_valid_reason(geometry)
        assert geometry.area == (labels == label).sum()
        np.testing.assert_array_equal(rasterise(geometry, labels.shape), labels == label)


def test_outlines_have_corners_only() -> None:
    labels = np.zeros((9, 9), np.int32)
    labels[2:6, 3:8] = 5
    ((ring,),) = outlines(labels)[5]
    assert ring.tolist() == [[3, 2], [8, 2], [8, 6], [3, 6]]


# ---- GeoJSON -----------------------------------------------------------------------------------


def test_features_are_what_qupath_reads() -> None:
    ring = disc() & ~disc(at=(60, 95))
    nuclei = np.zeros((256, 256), np.int32)
    nuclei[10:14, 20:25] = 1
    nuclei[30:34, 20:26] = 2
    layers = [region(ring), instances(nuclei, "lymphocyte", "plasma cell")]
    collection = feature_collection(layers, [Box("$3", (20, 10, 25, 14))], 0.5, "skin.png")
    assert collection["type"] == "FeatureCollection"
    epidermis, lymphocyte, plasma_cell, box = collection["features"]

    assert epidermis["type"] == "Feature"
    properties = epidermis["properties"]
    assert properties["objectType"] == "annotation"
    assert properties["name"] == properties["classification"]["name"] == "epidermis"
    assert properties["isLocked"] is False
    assert properties["measurements"] == {"Area µm^2": round(ring.sum() * 0.25, 4)}
    assert properties["metadata"] == {"HistoPilot call": "$1"}

    assert lymphocyte["geometry"] == {
        "type": "Polygon",
        "coordinates": [[[20, 10], [25, 10], [25, 14], [20, 14], [20, 10]]],
    }
    assert lymphocyte["properties"]["objectType"] == "detection"
    assert lymphocyte["properties"]["classification"]["name"] == "lymphocyte"
    assert plasma_cell["properties"]["classification"]["name"] == "plasma cell"
    assert lymphocyte["properties"]["measurements"] == {
        "Area µm^2": 5.0,
        "Detection probability": 0.0,
    }
    palette = colours(layers)
    for feature in (epidermis, lymphocyte, plasma_cell):
        classification = feature["properties"]["classification"]
        assert classification["color"] == list(palette[classification["name"]])

    assert box["properties"]["objectType"] == "annotation"
    assert shape(box["geometry"]).bounds == (20, 10, 25, 14)
    assert json.loads(json.dumps(collection)) == collection


def test_areas_are_in_pixels_where_nobody_knows_their_size() -> None:
    (feature,) = feature_collection([region(disc())], [], None, "")["features"]
    assert feature["properties"]["measurements"] == {"Area px^2": float(disc().sum())}


def test_holes_and_parts_come_back_pixel_by_pixel() -> None:
    mask = disc() & ~disc(at=(60, 80)) | disc(at=(180, 60))
    mask[170:190, 50:70] = False
    mask[176:180, 56:60] = True
    (feature,) = feature_collection([region(mask)], [], 0.5, "")["features"]
    geometry = shape(feature["geometry"])
    assert geometry.is_valid
    assert feature["geometry"]["type"] == "MultiPolygon"
    np.testing.assert_array_equal(rasterise(geometry, mask.shape), mask)


def test_rings_are_closed_and_wound_as_the_standard_says() -> None:
    mask = disc()
    mask[55:65, 75:85] = False
    (feature,) = feature_collection([region(mask)], [], 0.5, "")["features"]
    outer, hole = feature["geometry"]["coordinates"]
    assert outer[0] == outer[-1]
    assert hole[0] == hole[-1]
    assert shapely.LinearRing(outer).is_ccw
    assert not shapely.LinearRing(hole).is_ccw


def test_ids_are_unique_stable_uuids_that_depend_on_the_image() -> None:
    layers = [region(disc()), instances(disc().astype(int), "lymphocyte")]
    boxes = [Box("$3", (1, 2, 3, 4)), Box("$3", (1, 2, 3, 4))]

    def ids(name: str) -> list[str]:
        return [f["id"] for f in feature_collection(layers, boxes, 0.5, name)["features"]]

    assert ids("a") == ids("a")
    assert len(set(ids("a") + ids("b"))) == 8
    assert all(uuid.UUID(identity).version == 5 for identity in ids("a"))


def test_objects_of_a_region_fall_into_place_on_the_slide() -> None:
    place = Placement((1000, 2000), 4.0)
    boxes = [Box("$2", (10, 20, 30, 50))]
    mask = np.zeros((60, 60))
    mask[20:50, 10:30] = 1
    for feature in feature_collection([region(mask)], boxes, 2.0, "", place)["features"]:
        assert shape(feature["geometry"]).bounds == (1040, 2080, 1120, 2200)
        assert feature["properties"]["measurements"] == {"Area µm^2": 600 * 4.0}


def test_an_empty_layer_has_no_feature() -> None:
    assert feature_collection([region(np.zeros((9, 9)))], [], 0.5, "")["features"] == []


def test_five_thousand_nuclei_take_less_than_three_seconds() -> None:
    layer = instances(grid(71), "nucleus")
    start = time.process_time()
    features = feature_collection([layer], [], 0.25, "")["features"]
    assert time.process_time() - start < 3
    assert len(features) == layer.count == 71 * 71


# ---- the picture -------------------------------------------------------------------------------


def test_the_tissue_stays_visible_and_the_contour_has_its_colour(image: Image) -> None:
    layer = instances(disc().astype(int), "lymphocyte")
    plain = np.asarray(render(image, [], [], caption=None), dtype=int)
    drawn = np.asarray(render(image, [layer], [], caption=None), dtype=int)
    scale = plain.shape[1] / 256
    tissue = round(256 * scale)
    changed = np.abs(drawn - plain)[:tissue, :tissue].max(axis=2) > 8
    assert 0.001 < changed.mean() < 0.03
    centre = drawn[round(60.5 * scale), round(80.5 * scale)]
    np.testing.assert_array_equal(centre, plain[round(60.5 * scale), round(80.5 * scale)])
    colour = np.array(colours([layer])["nucleus"])
    on_line = np.abs(drawn[round(60.5 * scale), :tissue] - colour).sum(axis=1).argmin()
    assert min(abs(on_line / scale - 80.5 - side * 29.5) for side in (-1, 1)) < 1.5


def test_regions_are_tinted_lightly(image: Image) -> None:
    plain = np.asarray(render(image, [], [], caption=None), dtype=int)
    drawn = np.asarray(render(image, [region(disc())], [], caption=None), dtype=int)
    scale = plain.shape[1] / 256
    middle = np.s_[round(50 * scale) : round(70 * scale), round(70 * scale) : round(90 * scale)]
    assert 0 < np.abs(drawn[middle] - plain[middle]).max() <= 255 * 0.06


def test_a_legend_line_for_each_type_makes_the_panel_higher(image: Image) -> None:
    labels = np.zeros((256, 256), np.int32)
    labels[:100, :100] = grid(4)
    kinds = tuple(f"type {number}" for number in range(16))
    few = render(image, [instances(labels, "nucleus")], [], caption=None)
    many = render(image, [instances(labels, *kinds)], [Box("$3", (1, 2, 30, 40))], caption="Text.")
    assert many.width == few.width
    assert many.height > few.height


@pytest.mark.parametrize(
    ("size", "number"), [((16, 16), 14), ((5000, 40), 14), ((40, 5000), 14), ((4200, 900), 1)]
)
def test_the_picture_is_bounded(size: tuple[int, int], number: int) -> None:
    layers = [region(np.ones(size), f"region {n}", f"${n}") for n in range(1, number + 1)]
    blank = Image(np.full((*size, 3), 240, np.uint8))
    picture = render(blank, layers, [Box("$9", (0, 0, 9, 9))], caption="word " * 500)
    assert max(picture.size) <= MAX_SIDE
    assert picture.width > MIN_WIDTH / 2


@settings(max_examples=40, deadline=None, derandomize=True)
@given(text=st.text(st.characters(), max_size=80), size=st.integers(15, 40))
def test_any_text_can_be_set(text: str, size: int) -> None:
    font = load_font(size)
    lines = wrap(text * 9, font, 300, 4)
    assert len(lines) <= 4
    assert all(font.getlength(line) <= 300 for line in [*lines, clip(text, font, 300)])


def test_any_caption_and_name_can_be_drawn(image: Image) -> None:
    odd = "Zählung 细胞核 \ud800 \x00 \n عربي \U0001f52c" + "A" * 100_000
    layer = Layer("$1", odd, "semantic", disc().astype(np.int32))
    assert render(image, [layer], [], caption=odd).width >= MIN_WIDTH


def test_the_font_has_the_signs_of_units() -> None:
    font = load_font(40)
    missing = bytes(font.getmask("\uffff"))
    for sign in "µμ²³×±≥–…éß":
        assert bytes(font.getmask(sign)) != missing


@pytest.mark.parametrize(
    ("side", "scale", "mpp", "expected"),
    [
        (1600, 1.0, 0.5, (200, "100 µm")),
        (1600, 4 / 3, 0.499, (267, "100 µm")),
        (4000, 0.1, 0.25, (800, "2 mm")),
        (1000, 1.0, None, (200, "200 px")),
        (1024, 4.0, None, (200, "50 px")),
    ],
)
def test_the_scale_bar_is_round_and_true(
    side: int, scale: float, mpp: float | None, expected: tuple[int, str]
) -> None:
    assert scale_bar(side, scale, mpp) == expected


def test_layers_of_one_name_are_told_apart_by_their_calls() -> None:
    inside, outside = np.zeros((9, 9), np.int32), np.zeros((9, 9), np.int32)
    inside[1:3, 1:3] = outside[5:8, 5:8] = 1
    layers = [instances(inside, "lymphocyte", call="$2"), instances(outside, "x", call="$4")]
    features = feature_collection(layers, [], 0.5, "")["features"]
    classes = [feature["properties"]["classification"] for feature in features]
    assert [of["name"] for of in classes] == ["nucleus ($2)", "nucleus ($4)"]
    assert classes[0]["color"] != classes[1]["color"]


def test_colours_differ_between_the_classes_of_a_picture() -> None:
    labels = np.arange(9, dtype=np.int32).reshape(3, 3)
    layers = [
        region(np.eye(3), "epidermis"),
        region(np.eye(3), "dermis", "$2"),
        instances(labels, *(f"type {n}" for n in range(8)), call="$3"),
    ]
    palette = colours(layers)
    assert len(palette) == 10
    assert len({palette[f"type {n}"] for n in range(8)}) == 8
    assert palette["epidermis"] != palette["dermis"]
    assert colours(layers[:1])["epidermis"] == palette["epidermis"]
