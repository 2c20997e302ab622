"""Is it an H&E field? By the colors that light has after hematoxylin and eosin, on a thumbnail.

Both stains absorb green most: nuclei are blue to purple, the rest is pink, glass is white. A brown
chromogen absorbs blue most and comes without eosin's pink, fluorescence is dark where nothing is, a
photograph has shadows and all colors. What passes was chosen on the data's H&E (`eval.gate`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image as PilImage
from scipy import ndimage

from models.backend import Gate
from models.classical.stain import (
    TISSUE_OD,
    Float,
    Rgb,
    estimate_white,
    optical_density,
    sample_pixels,
)

_THUMBNAIL = 256  # px: the longer side is between one and two of them
_SMALLEST = 16
_BLUISH = 1.2  # red over green density of hematoxylin photographed under bluish light
_PINK = 0.75  # red over green density below which a px is eosin's pink
_BLACK = 12  # grey level below which a px is padding rather than shadow
_DARK = 50
_PAPER = 230  # grey level above which a px is paper or glass


@dataclass(frozen=True)
class Evidence:
    """What the gate measures on the thumbnail; all shares are 0..1.

    Attributes:
        empty: share of the px without stain.
        dark: share of the px darker than any stained tissue.
        shadow: share of the px that are dark but not black, as padding is.
        chroma: 95th percentile of the largest less the smallest channel, 0..255.
        stain_like: share of the color (not of the px) in which green is absorbed most.
        brown: share of the color in which blue is absorbed most and green before red.
        pink: share of the color of eosin alone.
        swapped: above 0 where blue tells nuclei from eosin, as red does in H&E (`_swapped`).
        texture: mean step between neighbors of the thumbnail, in grey levels.
        sharpness: `texture` over the standard deviation of the grey levels.
        detail: log of the contrast of details of 1 px over that of 2 px, on the thumbnail.
        plain: share of the px of the image itself, paper left out, that equal their right neighbor.
        uniform: share of all px of the image itself that equal their right neighbor.
        bright: 95th percentile of the grey levels, 0..255.
    """

    empty: float
    dark: float
    shadow: float
    chroma: float
    stain_like: float
    brown: float
    pink: float
    swapped: float
    texture: float
    sharpness: float
    detail: float
    plain: float
    uniform: float
    bright: float


def judge(rgb: Rgb) -> Gate:
    """Judge an image of any size and content (uint8, shape (H, W, 3)); never raises."""
    if min(rgb.shape[:2]) < _SMALLEST:
        return Gate(False, 0.0, (f"too small: at least {_SMALLEST} x {_SMALLEST} px are needed",))
    evidence = measure(rgb)
    doubts = [(doubt, reason) for doubt, reason in _doubts(evidence) if doubt > 0.5]
    doubts.sort(key=lambda pair: -pair[0])
    worst = max((doubt for doubt, _ in _doubts(evidence)), default=0.0)
    probability = round(float(np.clip(1 - worst, 0.01, 0.99)), 3)
    return Gate(not doubts, probability, tuple(reason for _, reason in doubts))


def measure(rgb: Rgb) -> Evidence:
    """Measure a non-empty image on its thumbnail."""
    small = _thumbnail(rgb)
    density = optical_density(small, estimate_white(sample_pixels(rgb)))
    stained = density.mean(2) > TISSUE_OD
    brightest = small.max(2)
    spread = brightest.astype(np.float32) - small.min(2)
    grey = small.mean(2, dtype=np.float32)
    plain, uniform = _repeats(rgb)
    texture = float(np.abs(np.diff(grey, axis=1)).mean())
    stain_like, brown, pink = _shares(density[stained])
    return Evidence(
        empty=1 - float(stained.mean()),
        dark=float((brightest < _DARK).mean()),
        shadow=float(((brightest >= _BLACK) & (brightest < _DARK)).mean()),
        chroma=float(np.percentile(spread, 95)),
        stain_like=stain_like,
        brown=brown,
        pink=pink,
        swapped=_swapped(density[stained]),
        texture=texture,
        sharpness=texture / max(1.0, float(grey.std())),
        detail=_detail(grey),
        plain=plain,
        uniform=uniform,
        bright=float(np.percentile(grey, 95)),
    )


def _thumbnail(rgb: Rgb) -> Rgb:
    """Average blocks so that the longer side is at most twice `_THUMBNAIL` px."""
    factor = max(1, max(rgb.shape[:2]) // _THUMBNAIL)
    return rgb if factor == 1 else np.asarray(PilImage.fromarray(rgb).reduce(factor))


def _shares(density: Float) -> tuple[float, float, float]:
    """Stain-like, brown and pink shares of the color of px with `density`, shape (n, 3)."""
    if not len(density):
        return 0.0, 0.0, 0.0
    red, green, blue = density.T
    color = density.max(1) - density.min(1)
    total = float(color.sum()) + 1e-6
    like = (red <= _BLUISH * green) & (blue <= green)
    brown = (blue > green) & (green >= red)
    pink = (red < _PINK * green) & (blue <= green)
    like_share, brown_share, pink_share = (
        float(color[part].sum()) / total for part in (like, brown, pink)
    )
    return like_share, brown_share, pink_share


def _swapped(density: Float) -> float:
    """The least of three ways in which blue, and not red, tells nuclei from eosin.

    In H&E the densest px absorb more red than blue, red varies more, and so does its share.
    """
    if not len(density):
        return 0.0
    total = density.sum(1)
    densest = density[total >= np.quantile(total, 0.9)].mean(0)
    spread = density.std(0)
    low, high = np.percentile(density / total[:, None], [5, 95], axis=0)
    ways = [densest / densest.mean(), np.log(spread + 0.01), high - low]
    return min(float(way[2] - way[0]) for way in ways)


def _detail(grey: Float) -> float:
    """Log of the contrast of details of 1 px over that of 2 px; far below 0 out of focus."""
    once, twice, fourth = (ndimage.gaussian_filter(grey, s, truncate=3) for s in (1, 2, 4))
    return float(np.log((np.std(once - twice) + 1e-3) / (np.std(twice - fourth) + 1e-3)))


def _repeats(rgb: Rgb) -> tuple[float, float]:
    """Shares of the px off the paper, and of all px, that equal their right neighbor."""
    rows = rgb[:: max(1, rgb.shape[0] // _THUMBNAIL)]
    equal = (rows[:, 1:] == rows[:, :-1]).all(2)
    inked = rows[:, 1:].min(2) < _PAPER
    return float(equal[inked].mean()) if inked.any() else 0.0, float(equal.mean())


def _doubts(seen: Evidence) -> list[tuple[float, str]]:
    """Each way not to be H&E, with a doubt in 0..1; above one half it is a reason."""
    empty = _step(seen.empty, 0.99, 0.01)
    dark = max(_step(seen.dark, 0.4, 0.1), _step(-seen.bright, -65, 20))
    grey = _step(-seen.chroma, -4.0, 2)
    flat = max(_step(-seen.texture, -0.4, 0.2), _step(-seen.sharpness, -0.016, 0.01))
    # Text and line art: ink edges are smoothed, but the paper is one color throughout.
    paper = min(_step(seen.plain, 0.4, 0.08), _step(seen.uniform, 0.9, 0.06))
    chromogen = min(_step(seen.brown, 0.05, 0.06), _step(-seen.pink, -0.2, 0.2))
    other = max(_step(-seen.stain_like, -0.48, 0.3), chromogen)
    # A stained slide is bright and without shadows; a photograph with brown in it is neither.
    slide = seen.dark < 0.005 and seen.bright > 190 and seen.brown > 0.05
    doubts = [
        (dark, "dark background as in fluorescence"),
        (min(_step(seen.shadow, 0.05, 0.03), 1 - dark), "shadows as in a photograph"),
        (min(grey, 1 - empty), "no color: a greyscale image"),
        (
            max(_step(seen.plain, 0.56, 0.08), paper),
            "areas of one plain color as in a drawing or screenshot",
        ),
        (min(flat, 1 - empty), "no structure: a flat or smoothly graded image"),
        (
            min(_step(-seen.detail, 1.0, 0.2), 1 - flat, 1 - empty),
            "out of focus: nothing as fine as a nucleus can be seen",
        ),
        (
            min(other, 1 - grey, 1 - empty),
            "brown chromogen (DAB) as in immunohistochemistry"
            if slide
            else "colors unlike hematoxylin and eosin",
        ),
        (
            min(_step(seen.swapped, 0.0, 0.02), 1 - other, 1 - empty),
            "red and blue look swapped",
        ),
    ]
    return [(empty, "no tissue: the image is almost empty"), *doubts]


def _step(value: float, middle: float, width: float) -> float:
    """0 up to half a `width` below `middle`, 1 from half a `width` above it, linear between."""
    return float(np.clip((value - middle) / width + 0.5, 0, 1))
