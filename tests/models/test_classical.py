"""The classical backend as its callers see it: protocols, nuclei, regions, tiles, memory."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image as Pillow
from skimage.color import hed2rgb, rgb2hed

from models.backend import (
    ALL_NUCLEI,
    GateBackend,
    Image,
    NucleiBackend,
    OutOfRange,
    RegionBackend,
    TissueBackend,
)
from models.classical import ClassicalBackend, nuclei
from models.classical.scale import enlarge_mask, image_scale, reduce_rgb
from models.classical.stain import SAMPLE_PIXELS, estimate_profile, sample_pixels, separate
from tests.conftest import SHARED, needs_shared

MPP = 0.5


def draw_field(
    centers: list[tuple[float, float]], shape: tuple[int, int] = (240, 320), radius: float = 7.0
) -> npt.NDArray[np.uint8]:
    """Round nuclei (hematoxylin) in pink tissue (eosin), from stain amounts; 0.5 µm/px."""
    hed = np.zeros((*shape, 3))
    texture = np.random.default_rng(0).normal(0, 0.004, shape)
    hed[..., 1] = 0.06 + texture
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    for y, x in centers:
        disk = (rows - y) ** 2 + (columns - x) ** 2 <= radius**2
        hed[..., 0][disk] = 0.18
    return np.asarray((hed2rgb(hed).clip(0, 1) * 255).round(), dtype=np.uint8)


GRID = [(30.0 + 40 * row, 30.0 + 40 * column) for row in range(5) for column in range(7)]


@pytest.fixture(scope="module")
def backend() -> ClassicalBackend:
    return ClassicalBackend()


def test_answers_all_four_questions(backend: ClassicalBackend) -> None:
    for protocol in (GateBackend, TissueBackend, RegionBackend, NucleiBackend):
        assert isinstance(backend, protocol)
    answer = backend.tissue(Image(draw_field(GRID)))
    assert (answer.label, answer.ranked, backend.organs) == (None, (), ())
    assert "no classifier" in answer.note


def test_unknown_concepts_are_refused(backend: ClassicalBackend) -> None:
    image = Image(draw_field(GRID), MPP)
    with pytest.raises(KeyError):
        backend.nuclei(image, "lymphocyte")
    with pytest.raises(KeyError):
        backend.region(image, "tumor")


def test_finds_every_drawn_nucleus_where_it_is(backend: ClassicalBackend) -> None:
    found = backend.nuclei(Image(draw_field(GRID), MPP), ALL_NUCLEI)
    assert found.labels.dtype == np.int32
    assert found.labels.max() == len(GRID) == len(found.kinds) == len(found.confidence)
    assert {int(found.labels[int(y), int(x)]) for y, x in GRID} == set(range(1, len(GRID) + 1))
    areas = np.bincount(found.labels.ravel())[1:]
    assert np.allclose(areas, np.pi * 49, rtol=0.3)
    assert found.present > 0.9
    assert found.confidence.min() >= 0
    assert found.confidence.max() <= 1


def test_touching_nuclei_are_split(backend: ClassicalBackend) -> None:
    pairs = [p for y, x in [(60.0, 60.0), (160.0, 200.0)] for p in [(y, x), (y, x + 12)]]
    found = backend.nuclei(Image(draw_field(pairs), MPP), ALL_NUCLEI)
    assert len({int(found.labels[int(y), int(x)]) for y, x in pairs} - {0}) == 4


def test_unknown_pixel_size_is_said_and_a_coarse_one_is_not_attempted(
    backend: ClassicalBackend,
) -> None:
    rgb = draw_field(GRID)
    assert "pixel size unknown" in backend.nuclei(Image(rgb), ALL_NUCLEI).method
    assert "pixel size unknown" not in backend.nuclei(Image(rgb, MPP), ALL_NUCLEI).method
    with pytest.raises(OutOfRange, match="4 µm/px a nucleus has too few pixels"):
        backend.nuclei(Image(rgb, 4.0), ALL_NUCLEI)


def test_no_nuclei_where_there_are_none(backend: ClassicalBackend) -> None:
    white = np.full((200, 200, 3), 250, np.uint8)
    found = backend.nuclei(Image(white, MPP), ALL_NUCLEI)
    assert found.labels.shape == (200, 200)
    assert found.labels.max() == 0
    assert found.present == 0


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (1, 400), (17, 5)])
def test_tiny_images_are_answered(backend: ClassicalBackend, shape: tuple[int, int]) -> None:
    image = Image(np.random.default_rng(1).integers(0, 255, (*shape, 3), dtype=np.uint8), MPP)
    assert backend.nuclei(image, ALL_NUCLEI).labels.shape == shape
    for concept in backend.regions:
        found = backend.region(image, concept)
        assert found.mask.shape == shape
        assert 0 <= found.present <= 1
    assert not backend.gate(image).is_he


def test_tiled_nuclei_equal_untiled_ones(skin: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    profile, scale = estimate_profile(skin.rgb), image_scale(skin.mpp)
    whole, whole_confidence = nuclei.find_nuclei(skin.rgb, profile, scale)
    monkeypatch.setattr(nuclei, "_CORE_PX", 150)
    tiled, tiled_confidence = nuclei.find_nuclei(skin.rgb, profile, scale)
    assert whole.max() > 100
    assert abs(int(whole.max()) - int(tiled.max())) <= 2
    assert np.mean((whole > 0) != (tiled > 0)) < 0.002
    assert whole_confidence.sum() == pytest.approx(tiled_confidence.sum(), rel=0.02)


def test_finer_scan_gives_about_the_same_nuclei(skin: Image, backend: ClassicalBackend) -> None:
    assert skin.mpp is not None
    double = np.repeat(np.repeat(skin.rgb, 2, axis=0), 2, axis=1)
    coarse = backend.nuclei(skin, ALL_NUCLEI).labels.max()
    fine = backend.nuclei(Image(double, skin.mpp / 2), ALL_NUCLEI).labels
    assert fine.shape == double.shape[:2]
    assert fine.max() == coarse


def test_epidermis_is_the_purple_sheet(skin: Image, backend: ClassicalBackend) -> None:
    epidermis = backend.region(skin, "epidermis")
    dermis = backend.region(skin, "dermis")
    assert 0.1 < epidermis.mask.mean() < 0.9
    assert not (epidermis.mask & dermis.mask).any()
    assert min(epidermis.present, dermis.present) > 0.5
    # Purple absorbs nearly as much red as green, pink far less.
    absorbed = 245.0 - skin.rgb[..., :2]
    purple, pink = (absorbed[r.mask].mean(axis=0) for r in (epidermis, dermis))
    assert purple[0] / purple[1] > pink[0] / pink[1] + 0.1
    assert "hair follicles" in epidermis.method


def test_tissue_and_background_cover_the_image(sample: Image, backend: ClassicalBackend) -> None:
    tissue = backend.region(sample, "tissue").mask
    background = backend.region(sample, "background").mask
    assert np.mean(tissue ^ background) > 0.999
    assert sample.rgb[background].mean() > sample.rgb[tissue].mean() + 40


def test_holes_are_white_space_and_droplets() -> None:
    rgb = draw_field(GRID[:4], (400, 400))
    rows, columns = np.mgrid[:400, :400]
    holes = np.zeros((400, 400), bool)
    for y, x in [(110 + 60 * i, 60 + 56 * j) for i in range(5) for j in range(6)]:
        holes |= (rows - y) ** 2 + (columns - x) ** 2 <= 20**2
    rgb[holes] = 245
    image = Image(rgb, MPP)
    for concept in ("white space", "fat droplet"):
        found = ClassicalBackend().region(image, concept)
        overlap = 2 * np.count_nonzero(found.mask & holes)
        assert overlap / (np.count_nonzero(found.mask) + np.count_nonzero(holes)) > 0.9
        assert found.present > 0


def test_nothing_is_present_on_empty_glass(backend: ClassicalBackend) -> None:
    image = Image(np.full((300, 300, 3), 245, np.uint8), MPP)
    for concept in backend.regions:
        found = backend.region(image, concept)
        if concept == "background":
            assert found.mask.all()
        else:
            assert not found.mask.any()
            assert found.present == 0


def test_follow_up_is_remembered(skin: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = ClassicalBackend()
    first = backend.nuclei(skin, ALL_NUCLEI)
    monkeypatch.setattr("models.classical.backend.find_nuclei", _unreachable)
    assert np.array_equal(backend.nuclei(skin, ALL_NUCLEI).labels, first.labels)
    backend.region(skin, "nuclei-dense region")


def _unreachable(*_: object) -> None:
    raise AssertionError("computed twice")


def test_separation_is_rgb2hed() -> None:
    rgb = np.random.default_rng(2).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    expected = rgb2hed(rgb)
    for channel, amount in enumerate(separate(rgb)):
        assert amount.dtype == np.float32
        np.testing.assert_allclose(amount, expected[..., channel], atol=1e-6)


def test_levels_come_from_a_bounded_sample() -> None:
    rgb = np.broadcast_to(np.uint8(200), (4000, 3000, 3))
    assert sample_pixels(rgb).shape[0] * sample_pixels(rgb).shape[1] <= SAMPLE_PIXELS
    stained, _ = separate(draw_field(GRID))
    profile = estimate_profile(draw_field(GRID))
    assert profile.cytoplasm < profile.nuclear < profile.nuclear_high <= stained.max()


def test_masks_come_back_in_strips_without_seams(monkeypatch: pytest.MonkeyPatch) -> None:
    score = np.random.default_rng(3).random((50, 40)).astype(np.float32)
    whole = enlarge_mask(score, 4, (197, 159))
    monkeypatch.setattr("models.classical.scale._STRIP_ROWS", 32)
    assert np.array_equal(enlarge_mask(score, 4, (197, 159)), whole)
    rgb = np.random.default_rng(4).integers(0, 256, (197, 159, 3), dtype=np.uint8)
    assert reduce_rgb(rgb, 4).shape == (50, 40, 3)


@needs_shared
def test_training_images_are_above_a_floor(backend: ClassicalBackend) -> None:
    folder = SHARED / "data" / "nuclei" / "train" / "monuseg"
    overlaps = []
    for path in sorted((folder / "images").iterdir())[:3]:
        rgb = np.asarray(Pillow.open(path).convert("RGB"))
        truth = np.asarray(Pillow.open(folder / "labels" / f"{path.stem}.png")) > 0
        found = backend.nuclei(Image(rgb, 0.25), ALL_NUCLEI).labels > 0
        overlaps.append(2 * (found & truth).sum() / (found.sum() + truth.sum()))
    assert np.mean(overlaps) > 0.65
