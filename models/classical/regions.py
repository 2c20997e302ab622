"""Regions that colour and density of nuclei honestly give, and nothing more.

Tumor, gland, epithelium and stroma are not here: on the training images every color rule for them
was about as good as marking the whole tissue. `python -m eval.regions` measures what is here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage as ndi
from skimage.filters import threshold_otsu
from skimage.measure import regionprops_table
from skimage.morphology import remove_small_holes, remove_small_objects

from models.classical.stain import Float
from models.classical.tissue import Mask, TissueMap, holes

_RATIO_SMOOTH = 4.0  # µm
_SHEET_OPENING = 8.0  # µm: half the width of the thinnest sheet
_SHEET_AREA = 5_000.0  # µm²
# Purple against pink: skin steps by more than the other tissues of the training images do.
_SHEET_STEP = (0.14, 0.22)
_SHEET_HOLE = 2_500.0  # µm²
_DENSE_WINDOW = 15.0  # µm
_DENSE_COVER = 0.35
_MIN_CONTRAST = 0.12
_SOLID = 0.85
_ROUND = 0.9  # eccentricity
_DROPLET = (15.0, 2_500.0)  # µm²
_DROPLET_SHARE = (0.03, 0.1)  # of the tissue
_FAT_CELL = (400.0, 20_000.0)  # µm²
_FAT_GAP = 6.0  # µm of cell wall
_FAT_WINDOW = 60.0  # µm
_FAT_SHARE = 0.45


@dataclass(frozen=True)
class Found:
    """A mask at the working resolution, with what `Region` says about it."""

    mask: Mask
    present: float
    method: str


@dataclass(frozen=True)
class Scene:
    """What the rules look at.

    Attributes:
        tissue: the tissue map.
        nuclei: gives the nuclei (bool) at its resolution; called only by the rules that need them.
    """

    tissue: TissueMap
    nuclei: Callable[[], Mask]


def _cover(mask: Mask, of: Mask) -> float:
    """Share of `of` that `mask` covers, 0 where `of` is empty."""
    return float(np.count_nonzero(mask & of)) / max(1, int(np.count_nonzero(of)))


def _ramp(value: float, low: float, high: float) -> float:
    """0 below `low`, 1 above `high`, linear between."""
    return float(np.clip((value - low) / (high - low), 0, 1))


def _presence(mask: Mask, scene: Scene, clear_um2: float, contrast: float = 1.0) -> float:
    """Probability of presence: 0 for nothing, 0.95 from `clear_um2` on at full contrast."""
    area = float(np.count_nonzero(mask)) * scene.tissue.mpp**2
    return round(0.95 * _ramp(area, 0, clear_um2) * contrast, 3)


def _basophilia(scene: Scene) -> Float:
    """Red over green optical density around each px of stained tissue: pink low, purple high."""
    tissue = scene.tissue
    weight = tissue.stained.astype(np.float32)
    red, green = (
        ndi.gaussian_filter(tissue.density[..., c] * weight, _RATIO_SMOOTH / tissue.mpp)
        for c in (0, 1)
    )
    return np.asarray(red / np.maximum(green, 1e-3), dtype=np.float32)


def _split(scene: Scene) -> tuple[Float, float, float]:
    """Basophilia, the level that splits pink from purple, and the step between the two."""
    ratio = _basophilia(scene)
    inside = ratio[scene.tissue.stained]
    if inside.size < 64:
        return ratio, float("inf"), 0.0
    inside = np.clip(inside, *np.percentile(inside, [1, 97]))
    if float(np.ptp(inside)) < 1e-3:
        return ratio, float("inf"), 0.0
    level = float(threshold_otsu(inside))
    step = float(np.median(inside[inside > level]) - np.median(inside[inside <= level]))
    return ratio, level, step


def _tissue(scene: Scene) -> Found:
    mask = scene.tissue.tissue
    return Found(
        mask,
        _presence(mask, scene, 2_000),
        "optical density above that of the glass; holes inside the section count as tissue",
    )


def _background(scene: Scene) -> Found:
    mask = ~scene.tissue.tissue
    return Found(
        mask,
        _presence(mask, scene, 2_000),
        "everything outside the section: empty glass, ink, stray fragments",
    )


def _white_space(scene: Scene) -> Found:
    mask = remove_small_objects(scene.tissue.tissue & ~scene.tissue.stained, max_size=8)
    return Found(
        mask,
        _presence(mask, scene, 500),
        "unstained holes inside the section; takes in lumens, vessels, fat and tears alike",
    )


def _rounded_holes(scene: Scene, least: float, most: float) -> Mask:
    """Compact unstained holes with an area of `least` to `most` µm², split where they touch."""
    labels = holes(scene.tissue)
    table = regionprops_table(labels, properties=("label", "area", "solidity", "eccentricity"))
    area = table["area"] * scene.tissue.mpp**2
    good = (table["solidity"] > _SOLID) & (table["eccentricity"] < _ROUND)
    good &= (area >= least) & (area <= most)
    names = np.zeros(int(labels.max(initial=0)) + 1, dtype=np.bool_)
    names[table["label"]] = good
    return np.asarray(names[labels])


def _fat_droplet(scene: Scene) -> Found:
    mask = _rounded_holes(scene, *_DROPLET)
    # A few round holes are in every tissue; in fatty change they are much of it.
    share = _ramp(_cover(mask, scene.tissue.tissue), *_DROPLET_SHARE)
    return Found(
        mask,
        _presence(mask, scene, 3_000, share),
        "small rounded unstained holes; takes in other vacuoles, small lumens and capillaries",
    )


def _adipose(scene: Scene) -> Found:
    cells = _rounded_holes(scene, *_FAT_CELL)
    near = ndi.distance_transform_edt(~cells) <= _FAT_GAP / scene.tissue.mpp
    share = ndi.gaussian_filter(cells.astype(np.float32), _FAT_WINDOW / scene.tissue.mpp)
    mask = near & (share > _FAT_SHARE) & scene.tissue.tissue
    return Found(
        np.asarray(mask),
        _presence(mask, scene, 40_000),
        "fields of large rounded unstained holes; takes in other cystic or torn tissue",
    )


def _crowding(scene: Scene) -> Float:
    """Share of the stained tissue around each px that nuclei cover, 0..1."""
    sigma = _DENSE_WINDOW / scene.tissue.mpp
    cover = ndi.gaussian_filter(scene.nuclei().astype(np.float32), sigma)
    stained = ndi.gaussian_filter(scene.tissue.stained.astype(np.float32), sigma)
    return np.asarray(cover / np.maximum(stained, 0.3), dtype=np.float32)


def _nuclei_dense(scene: Scene) -> Found:
    mask = scene.tissue.stained & (_crowding(scene) > _DENSE_COVER)
    return Found(
        mask,
        _presence(mask, scene, 2_000),
        f"tissue of which nuclei cover more than {_DENSE_COVER:.0%} (classical nuclei)",
    )


def _eosinophilic(scene: Scene) -> Found:
    ratio, level, step = _split(scene)
    mask = scene.tissue.stained & (ratio <= level)
    return Found(
        mask,
        _presence(mask, scene, 2_000, _ramp(step, 0, _MIN_CONTRAST)),
        "pinker half of the tissue by stain ratio; takes in collagen, muscle, blood and keratin",
    )


def _sheet(scene: Scene) -> tuple[Mask, float]:
    """Basophilic sheets wider than a strand of cells, and the stain step against the rest."""
    ratio, level, step = _split(scene)
    mpp = scene.tissue.mpp
    purple = scene.tissue.stained & (ratio > level)
    purple = remove_small_holes(purple, max_size=int(_SHEET_HOLE / mpp**2))
    radius = _SHEET_OPENING / mpp
    core = ndi.distance_transform_edt(purple) > radius
    opened = ndi.distance_transform_edt(~core) <= radius
    sheet = remove_small_objects(
        opened & purple & scene.tissue.stained, max_size=int(_SHEET_AREA / mpp**2)
    )
    return np.asarray(sheet), step


def _skin(sheet: Mask, step: float, scene: Scene) -> float:
    """Probability that `sheet` is an epidermis over a dermis."""
    return _presence(sheet, scene, 4 * _SHEET_AREA, _ramp(step, *_SHEET_STEP))


def _epidermis(scene: Scene) -> Found:
    sheet, step = _sheet(scene)
    return Found(
        sheet,
        _skin(sheet, step, scene),
        "basophilic cell sheet by stain ratio; takes in hair follicles and any other epithelium",
    )


def _dermis(scene: Scene) -> Found:
    sheet, step = _sheet(scene)
    mask = scene.tissue.stained & ~sheet
    return Found(
        mask,
        min(_skin(sheet, step, scene), _presence(mask, scene, 4 * _SHEET_AREA)),
        "stained tissue outside the basophilic sheets; takes in vessels, adnexa and keratin",
    )


RULES: Mapping[str, Callable[[Scene], Found]] = {
    "tissue": _tissue,
    "background": _background,
    "white space": _white_space,
    "fat droplet": _fat_droplet,
    "adipose tissue": _adipose,
    "nuclei-dense region": _nuclei_dense,
    "eosinophilic region": _eosinophilic,
    "epidermis": _epidermis,
    "dermis": _dermis,
}
"""Concept name to rule."""
