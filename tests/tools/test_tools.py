"""Each tool's arithmetic on arrays small enough to count by hand."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from models.backend import BackendInfo, Image, Nuclei, Quality, Region, Tissue
from models.wording import area_in_words, plural
from tools.arrays import MemoryStore
from tools.base import Scene
from tools.count_nuclei import CountNuclei, CountOutput
from tools.errors import ToolFailure
from tools.registry import TOOLS
from tools.segment import Segment, SegmentOutput
from tools.units import area_um2, density_per_mm2

INFO = BackendInfo("drawn", "1", "CC0-1.0")
PINK = np.zeros((8, 10, 3), np.uint8) + np.array([225, 150, 190], np.uint8)


@dataclass
class Drawn:
    """A backend whose answers are drawn by the test."""

    region_mask: Any = None
    present: float = 0.9
    labels: Any = None
    label: str | None = None
    organs: tuple[str, ...] = ("liver", "kidney")
    info = INFO

    @property
    def regions(self):
        return {"tumor": Quality("Dice", 0.8, "a set", 3), "necrosis": None}

    @property
    def cells(self):
        return {"nucleus": None, "lymphocyte": None}

    def region(self, image, concept):
        return Region(np.asarray(self.region_mask, bool), self.present, "drawing")

    def nuclei(self, image, concept):
        labels = np.asarray(self.labels, np.int32)
        count = int(labels.max())
        kinds = tuple("lymphocyte" if n % 2 else "nucleus" for n in range(count))
        return Nuclei(labels, kinds, np.linspace(0.5, 1, count, dtype=np.float32), 1.0, "drawing")

    def tissue(self, image):
        return Tissue(self.label, 0.8, ((self.label or "liver", 0.8), ("kidney", 0.2)), "drawn")


def look(tool, args, backend=None, inputs=None, mpp=0.5, store=None):
    scene = Scene(Image(PINK, mpp), inputs or {}, store or MemoryStore(), backend)
    parsed = TOOLS[tool].arguments.model_validate(args)
    return TOOLS[tool].run(parsed, scene), scene


def region(rows: slice, columns: slice, store) -> SegmentOutput:
    mask = np.zeros(PINK.shape[:2], bool)
    mask[rows, columns] = True
    output, _ = look("segment", {"target": "tumor"}, Drawn(region_mask=mask), store=store)
    return output


LABELS = np.zeros((8, 10), np.int32)
LABELS[0:2, 0:3] = 1
LABELS[3:5, 4:6] = 2
LABELS[6:8, 8:10] = 3


def test_a_region_has_its_area_and_shares() -> None:
    store = MemoryStore()
    whole = region(slice(0, 8), slice(0, 5), store)
    assert (whole.area_px, whole.area_um2) == (40, 10.0)
    half = np.zeros((8, 10), bool)
    half[:4] = True
    part, _ = look(
        "segment",
        {"target": "necrosis", "within": "$1"},
        Drawn(region_mask=half),
        {"within": whole},
        store=store,
    )
    assert (part.area_px, part.fraction_of_within) == (20, 0.5)
    assert store.get(part.mask.digest)[:4, :5].all()
    assert part.quality is None
    assert whole.quality is not None
    assert whole.quality.dataset == "a set"


def test_an_absent_structure_has_an_empty_mask() -> None:
    backend = Drawn(region_mask=np.ones((8, 10)), present=0.49)
    output, _ = look("segment", {"target": "tumor"}, backend)
    assert output.area_px == 0
    text = Segment().sentence(Segment.arguments(target="tumor"), output, {})
    assert text == "No tumor was found (probability that it is present in the image 0.49)."


def test_cells_are_outlined_as_the_union_of_their_nuclei() -> None:
    store = MemoryStore()
    backend = Drawn(labels=LABELS)
    assert Segment().choose_backend(Segment.arguments(target="lymphocytes"), {"drawn": backend})
    output, scene = look("segment", {"target": "lymphocytes"}, backend, store=store)
    assert np.array_equal(scene.array(output.mask), LABELS > 0)
    assert (output.concept, output.area_px) == ("lymphocyte", 14)
    assert output.method == "union of single nuclei; drawing"
    with pytest.raises(ToolFailure, match="lymphocyte, necrosis, nucleus, tumor"):
        Segment().choose_backend(Segment.arguments(target="mast cells"), {"drawn": backend})


def test_instances_belong_where_most_of_them_is(monkeypatch) -> None:
    tissue = np.zeros((8, 10), bool)
    tissue[:, :8] = True  # the two columns on the right are glass
    monkeypatch.setattr("tools.count_nuclei.tissue_mask", lambda _: tissue)
    store = MemoryStore()
    left = region(slice(0, 8), slice(0, 5), store)  # half of instance 2, all of 1
    inside, scene = look(
        "count_nuclei", {"within": "$1"}, Drawn(labels=LABELS), {"within": left}, store=store
    )
    outside, _ = look(
        "count_nuclei", {"outside": "$1"}, Drawn(labels=LABELS), {"outside": left}, store=store
    )
    assert (inside.count, outside.count) == (1, 1)
    kept = scene.array(outside.mask)
    assert np.array_equal(kept == 1, LABELS == 3)
    assert scene.array(outside.confidence) == pytest.approx([1.0])
    assert (inside.searched_px, outside.searched_px) == (40, 24)
    assert inside.density_per_mm2 == pytest.approx(1 / (40 * 0.25e-6))


def test_types_are_claimed_only_where_asked_and_zero_is_said_plainly() -> None:
    output, _ = look("count_nuclei", {"cell_type": "lymphocyte"}, Drawn(labels=LABELS))
    assert output.by_kind == {"lymphocyte": 1, "nucleus": 2}
    output, _ = look("count_nuclei", {}, Drawn(labels=LABELS))
    assert output.by_kind == {"nucleus": 3}
    none, _ = look("count_nuclei", {"cell_type": "lymphocyte"}, Drawn(labels=LABELS * 0))
    tool = CountNuclei()
    args = tool.arguments.model_validate({"cell_type": "lymphocyte"})
    assert tool.sentence(args, none, {}) == "No lymphocytes were found."


def test_boxes_are_half_open_and_one_an_instance_or_region() -> None:
    store = MemoryStore()
    counted, _ = look("count_nuclei", {}, Drawn(labels=LABELS), store=store)
    boxes, _ = look("extract_boxes", {"source": "$1"}, inputs={"source": counted}, store=store)
    assert boxes.boxes == ((0, 0, 3, 2), (4, 3, 6, 5), (8, 6, 10, 8))
    diagonal = np.zeros((8, 10), bool)
    diagonal[1, 1] = diagonal[2, 2] = diagonal[7, 9] = True
    drawn, _ = look("segment", {"target": "tumor"}, Drawn(region_mask=diagonal), store=store)
    boxes, _ = look("extract_boxes", {"source": "$1"}, inputs={"source": drawn}, store=store)
    assert (boxes.of, boxes.boxes) == ("region", ((1, 1, 3, 3), (9, 7, 10, 8)))


def test_measures_of_instances_are_what_a_ruler_says() -> None:
    store = MemoryStore()
    counted, _ = look("count_nuclei", {}, Drawn(labels=LABELS), store=store)
    figures, _ = look("measure", {"source": "$1"}, inputs={"source": counted}, store=store)
    assert (figures.number, figures.area_px, figures.area_um2) == (3, 14, 3.5)
    assert figures.mean_area_px == pytest.approx(14 / 3, abs=0.01)
    assert figures.sd_area_um2 == pytest.approx(np.std([6, 4, 4]) * 0.25, abs=0.01)
    none, _ = look("count_nuclei", {}, Drawn(labels=LABELS * 0), store=store)
    empty, _ = look("measure", {"source": "$1"}, inputs={"source": none}, store=store)
    assert (empty.number, empty.area_px, empty.mean_area_px) == (0, 0, None)


@pytest.mark.parametrize(
    ("label", "expected", "agrees"),
    [
        ("liver", "hepatic", True),
        ("kidney", "liver", False),
        ("kidney", "skin", None),  # never taught skin: it does not deny it
        (None, "liver", None),
        ("liver", None, None),
    ],
)
def test_the_tissue_check_denies_only_what_it_could_have_named(label, expected, agrees) -> None:
    output, _ = look("classify_tissue", {"expected": expected}, Drawn(label=label))
    assert output.agrees is agrees


def test_outside_the_vocabulary_nothing_is_guessed() -> None:
    args = Segment.arguments(target="gland")
    with pytest.raises(ToolFailure) as caught:
        Segment().choose_backend(args, {"drawn": Drawn()})
    error = caught.value.error
    assert (error.code, error.missing) == ("outside_vocabulary", "gland")
    assert "lymphocyte, necrosis, nucleus, tumor" in error.message


def test_units() -> None:
    assert area_um2(100, 0.5) == 25.0
    assert area_um2(100, None) is None
    assert density_per_mm2(5, 1_000_000, 1.0) == 5.0
    assert density_per_mm2(5, 0, 1.0) is None
    assert [area_in_words(9_999.4, 1), area_in_words(108_494.72, 1), area_in_words(None, 1234)] == [
        "9,999 µm²",
        "0.108 mm²",
        "1,234 px",
    ]


@pytest.mark.parametrize(
    ("noun", "many"),
    [
        ("nucleus", "nuclei"),
        ("mitosis", "mitoses"),
        ("mitotic figure", "mitotic figures"),
        ("apoptotic body", "apoptotic bodies"),
        ("lymphocyte", "lymphocytes"),
        ("TILs", "TILs"),
    ],
)
def test_plurals(noun: str, many: str) -> None:
    assert plural(noun, 1) == noun
    assert plural(noun, 2) == many


def test_a_counts_output_is_plain_json() -> None:
    output, _ = look("count_nuclei", {}, Drawn(labels=LABELS))
    assert CountOutput.model_validate_json(output.model_dump_json()) == output
