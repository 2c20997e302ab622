"""Regions that are derived from nuclei: where inflammatory cells lie dense."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from scipy.ndimage import gaussian_filter
from skimage.morphology import remove_small_objects

from models.backend import ALL_NUCLEI, Image, NucleiBackend, Quality, Region
from models.tiling import centroids
from models.vision.net import ASSUMED_MPP

CELL = "inflammatory cell"
_STEP_UM = 4.0
"""Side of a cell of the grid that densities are counted on, µm."""
_SPREAD_UM = 15.0
"""Standard deviation of the Gaussian that smooths the counts, µm."""
_DENSE = 2500.0
"""Inflammatory nuclei a mm²: five within 25 µm."""
_SHARE = 0.5
_LEAST_UM2 = 2000.0
_REGIONS = ("inflammation", "lymphocytic infiltrate", "lymphoid aggregate")
_METHOD = (
    f"derived: at least {_DENSE:g} inflammatory nuclei a mm² and half of all nuclei, "
    "lymphocytes not told apart from others"
)
_FIGURE = Quality("Dice", 0.479, "CoNSeP test, by the same rule on annotated nuclei", 5)
_MEASURED = {"inflammation": _FIGURE, "lymphocytic infiltrate": _FIGURE}
"""As `python -m eval.regions --backend infiltrate` printed it."""


def densities(
    centres: npt.NDArray[np.float64], shape: tuple[int, int], mpp: float
) -> npt.NDArray[np.float64]:
    """Smoothed density of points, a mm², on a grid of `_STEP_UM`.

    Args:
        centres: float (n, 2), rows and columns, px.
        shape: height and width of the image, px.
        mpp: µm/px.
    """
    rows, columns = (max(1, int(np.ceil(side * mpp / _STEP_UM))) for side in shape)
    at = (centres * mpp / _STEP_UM).astype(int)
    counts = np.zeros((rows, columns))
    np.add.at(counts, (at[:, 0].clip(0, rows - 1), at[:, 1].clip(0, columns - 1)), 1)
    smooth = gaussian_filter(counts, _SPREAD_UM / _STEP_UM, mode="reflect")
    return np.asarray(smooth / _STEP_UM**2 * 1e6)


def infiltrated(
    cells: npt.NDArray[np.float64],
    nuclei: npt.NDArray[np.float64],
    shape: tuple[int, int],
    mpp: float,
) -> npt.NDArray[np.bool_]:
    """Where inflammatory cells are dense and make up half of the nuclei: bool (H, W).

    Args:
        cells: float (n, 2), rows and columns of the inflammatory cells, px.
        nuclei: of all nuclei.
        shape: height and width of the image, px.
        mpp: µm/px.
    """
    dense, all_ = densities(cells, shape, mpp), densities(nuclei, shape, mpp)
    mask = (dense >= _DENSE) & (dense >= _SHARE * all_)
    mask = remove_small_objects(mask, max_size=round(_LEAST_UM2 / _STEP_UM**2))
    size = (shape[1], shape[0])
    drawn = Pillow.fromarray(mask.astype(np.uint8) * 255).resize(size, Pillow.Resampling.BILINEAR)
    return np.asarray(drawn) > 127


class Infiltrates:
    """A `RegionBackend`: inflammation as the regions in which inflammatory nuclei lie dense.

    Attributes:
        info: its name and version, licence and weights of the nuclei.
        regions: what it outlines, and its measured quality.
    """

    def __init__(self, nuclei: NucleiBackend) -> None:
        version = f"1 on {nuclei.info.name} {nuclei.info.version}"
        self.info = replace(nuclei.info, name="infiltrate", version=version)
        self.regions: Mapping[str, Quality | None] = {n: _MEASURED.get(n) for n in _REGIONS}
        self._nuclei = nuclei

    def region(self, image: Image, concept: str) -> Region:
        """Outline `concept`, a key of `regions`; one of several such regions is each of them.

        Its presence is the share of the nuclei in it that are inflammatory.

        Raises:
            KeyError: `concept` is not in `regions`.
        """
        if concept not in self.regions:
            raise KeyError(concept)
        cells = self._nuclei.nuclei(image, CELL)
        mpp = image.mpp if image.mpp is not None else ASSUMED_MPP
        inflammatory = centroids(cells.labels)
        nuclei = centroids(self._nuclei.nuclei(image, ALL_NUCLEI).labels)
        mask = infiltrated(inflammatory, nuclei, image.shape, mpp)
        inside = [
            int(mask[tuple(centres.astype(int).T)].sum()) for centres in (inflammatory, nuclei)
        ]
        present = inside[0] / inside[1] if inside[1] else 0.0
        return Region(mask, present, f"{_METHOD}; {cells.method}")
