"""The gate: H&E is let through, everything else is named for what it is."""

from __future__ import annotations

import csv
import time

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image as Pillow
from PIL import ImageFilter
from scipy import ndimage as ndi
from skimage import data
from skimage.color import gray2rgb, hsv2rgb

from models.backend import Image
from models.classical.gate import judge
from tests.conftest import SHARED, needs_shared
from tests.models.test_classical import GRID, draw_field

Rgb = npt.NDArray[np.uint8]
PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket", "retina", "hubble_deep_field", "logo")
GREYSCALE = ("camera", "moon", "page", "text", "clock", "coins", "brick", "grass", "gravel", "cell")


def _rgb(name: str) -> Rgb:
    image = np.asarray(getattr(data, name)())
    image = gray2rgb(image) if image.ndim == 2 else image[..., :3]
    return np.ascontiguousarray(image if image.dtype == np.uint8 else image * 255, dtype=np.uint8)


def _fluorescence() -> Rgb:
    spots = np.zeros((300, 300))
    spots[tuple(np.random.default_rng(0).integers(10, 290, (2, 60)))] = 1
    glow = ndi.gaussian_filter(spots, 4)
    blue = (255 * glow / glow.max()).astype(np.uint8)
    return np.dstack([blue // 12, blue // 5, blue])


def _gradient() -> Rgb:
    ramp = np.linspace(0, 255, 400).astype(np.uint8)[None].repeat(300, 0)
    return np.dstack([np.full_like(ramp, 250), ramp, np.full_like(ramp, 220)])


def _rainbow() -> Rgb:
    hue, value = np.meshgrid(np.linspace(0, 1, 400), np.linspace(0, 1, 300))
    return np.asarray(hsv2rgb(np.dstack([hue, np.ones_like(hue), value])) * 255, dtype=np.uint8)


def _drawing() -> Rgb:
    out = np.full((300, 300, 3), 255, np.uint8)
    out[50:120, 40:260] = (220, 90, 170)
    out[150:260, 60:160] = (110, 60, 160)
    return out


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_photographs_are_refused(name: str) -> None:
    assert not judge(_rgb(name)).is_he


@pytest.mark.parametrize("name", GREYSCALE)
def test_greyscale_is_refused_as_such(name: str) -> None:
    verdict = judge(_rgb(name))
    assert not verdict.is_he
    assert "no color: a greyscale image" in verdict.reasons


def test_immunohistochemistry_is_named() -> None:
    verdict = judge(_rgb("immunohistochemistry"))
    assert not verdict.is_he
    assert verdict.reasons[0].startswith("brown chromogen (DAB)")


@pytest.mark.parametrize("place", list(np.ndindex(4, 4)))
def test_parts_of_immunohistochemistry_are_refused(place: tuple[int, int]) -> None:
    top, left = (128 * step for step in place)
    assert not judge(_rgb("immunohistochemistry")[top : top + 256, left : left + 256]).is_he


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea", "rocket"])
def test_parts_of_photographs_are_refused(name: str) -> None:
    rgb = _rgb(name)
    height, width = rgb.shape[0] // 2, rgb.shape[1] // 2
    for top, left in np.ndindex(3, 3):
        part = rgb[top * height // 2 :, left * width // 2 :][:height, :width]
        assert not judge(np.ascontiguousarray(part)).is_he


def test_out_of_focus_is_named_and_only_then(sample: Image) -> None:
    whole = Pillow.fromarray(sample.rgb)
    for radius, sharp in ((0, True), (2, True), (30, False)):
        verdict = judge(np.asarray(whole.filter(ImageFilter.GaussianBlur(radius))))
        assert verdict.is_he == sharp
        assert any(reason.startswith("out of focus") for reason in verdict.reasons) != sharp


def test_swapped_channels_are_named(skin: Image) -> None:
    verdict = judge(np.ascontiguousarray(skin.rgb[..., ::-1]))
    assert verdict.reasons == ("red and blue look swapped",)


def test_black_padding_is_no_shadow(skin: Image) -> None:
    padded = np.pad(skin.rgb, ((40, 0), (0, 40), (0, 0)))
    assert judge(padded).is_he


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        (_fluorescence(), "dark background"),
        (np.zeros((200, 200, 3), np.uint8), "dark background"),
        (np.full((200, 200, 3), 255, np.uint8), "no tissue"),
        (np.full((200, 200, 3), (200, 120, 180), np.uint8), "no structure"),
        (_gradient(), "no structure"),
        (_rainbow(), "colors unlike"),
        (_drawing(), "areas of one plain color"),
        (np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8), "colors unlike"),
        (255 - draw_field(GRID), "colors unlike"),
        (np.full((1, 1, 3), 180, np.uint8), "too small"),
    ],
)
def test_each_kind_has_its_reason(picture: Rgb, reason: str) -> None:
    verdict = judge(picture)
    assert not verdict.is_he
    assert verdict.probability < 0.5
    assert any(phrase.startswith(reason) for phrase in verdict.reasons)


def test_the_sample_and_its_parts_are_he(sample: Image, skin: Image) -> None:
    for image in (sample, skin):
        verdict = judge(image.rgb)
        assert verdict.is_he
        assert verdict.reasons == ()
        assert verdict.probability > 0.9


@pytest.mark.parametrize("gain", [0.75, 0.9, 1.1])
def test_darker_and_paler_he_is_he(skin: Image, gain: float) -> None:
    assert judge((skin.rgb * gain).clip(0, 255).astype(np.uint8)).is_he


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3))))
def test_never_raises(rgb: Rgb) -> None:
    verdict = judge(rgb)
    assert 0 <= verdict.probability <= 1
    assert verdict.is_he == (verdict.reasons == ())


def test_cost_is_bounded_by_the_thumbnail(sample: Image) -> None:
    large = np.ascontiguousarray(np.tile(sample.rgb, (2, 2, 1)))
    began = time.process_time()
    judge(large)
    assert time.process_time() - began < 1.0


@needs_shared
def test_external_he_is_accepted() -> None:
    root = SHARED / "data"
    text = (root / "tissue" / "manifest.csv").read_text(encoding="utf-8").replace("\0", "")
    rows = [r for r in csv.DictReader(text.splitlines()) if r["split"] == "external"]
    rows = [r for r in rows if r["cls"] != "background" and (root / r["path"]).is_file()][::8]
    accepted = [judge(np.asarray(Pillow.open(root / r["path"]).convert("RGB"))).is_he for r in rows]
    assert len(accepted) > 20
    assert np.mean(accepted) >= 0.95
