"""Tissue, glass and unstained holes, from optical density."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage as ndi
from skimage.measure import label
from skimage.morphology import remove_small_holes, remove_small_objects

from models.classical.scale import Scale, reduce_rgb
from models.classical.stain import TISSUE_OD, Float, Rgb, StainProfile, ink, optical_density

Mask = npt.NDArray[np.bool_]

_WORK_MPP = 1.0
_MOST_PIXELS = 16_000_000
_SMOOTH = 1.0  # µm
_GAP = 4.0  # µm between threads of tissue that still count as tissue
_MIN_PIECE = 400.0  # µm²
_MIN_GLASS = 20_000.0  # µm² of empty field that is glass beside the tissue rather than a hole in it


@dataclass(frozen=True)
class TissueMap:
    """An image at the working resolution of the regions (about 1 µm/px, at most 16 million px).

    Attributes:
        factor: px of the image in one px of the map, in each direction.
        mpp: µm a px of the map.
        density: optical density, float32, shape (h, w, 3).
        stained: px that hold stained tissue.
        tissue: pieces of tissue with their holes filled: the section without the glass around it.
    """

    factor: int
    mpp: float
    density: Float
    stained: Mask
    tissue: Mask


def map_tissue(rgb: Rgb, profile: StainProfile, scale: Scale) -> TissueMap:
    """Reduce `rgb` (uint8, shape (H, W, 3)) to the working resolution and find its tissue."""
    pixels = rgb.shape[0] * rgb.shape[1]
    factor = max(1, round(_WORK_MPP / scale.mpp), int(np.ceil(np.sqrt(pixels / _MOST_PIXELS))))
    mpp = scale.mpp * factor
    density = optical_density(reduce_rgb(rgb, factor), profile.white)
    mean = ndi.gaussian_filter(density.mean(2), _SMOOTH / mpp)
    stained = (mean > TISSUE_OD) & ~ink(density)
    stained = remove_small_objects(stained, max_size=int(_MIN_PIECE / mpp**2 / 8))
    return TissueMap(factor, mpp, density, stained, _section(stained, mpp))


def _section(stained: Mask, mpp: float) -> Mask:
    """Close gaps between threads of tissue, fill all holes but those as large as empty glass."""
    radius = _GAP / mpp
    near = ndi.distance_transform_edt(~stained) <= radius
    closed = stained | ~(ndi.distance_transform_edt(near) <= radius) & near
    solid = remove_small_holes(closed, max_size=int(_MIN_GLASS / mpp**2))
    return np.asarray(remove_small_objects(solid, max_size=int(_MIN_PIECE / mpp**2)))


def holes(tissue: TissueMap) -> npt.NDArray[np.int32]:
    """Unstained holes inside the section as a label map, int32, shape (h, w)."""
    return np.asarray(label(tissue.tissue & ~tissue.stained, connectivity=1), dtype=np.int32)
