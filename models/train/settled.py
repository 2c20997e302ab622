"""Regions that annotated nuclei settle: where a nucleus's neighbours are all of its kind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from scipy.spatial import cKDTree

from models.tiling import centroids

_NEIGHBOURS = 4
_REACH_UM = 30.0
"""Farther than this from its nuclei a pixel is undecided."""
_STEP = 4  # px of the grid that is decided; regions are smooth


def settled(
    centres: npt.NDArray[np.float64],
    kinds: npt.NDArray[np.uint8],
    says: npt.NDArray[np.uint8],
    shape: tuple[int, int],
    mpp: float,
) -> npt.NDArray[np.uint8]:
    """The kind of the nearest nucleus, where the four nearest say the same about every concept.

    Args:
        centres: float (n, 2), rows and columns of the nuclei, px.
        kinds: uint8 (n,), their classes, from 1.
        says: uint8 (256, concepts), what each class says, as `models.train.areas.Area.says`.
        shape: height and width of the image, px.
        mpp: µm/px.

    Returns:
        uint8 (H, W), 0 where the nuclei disagree, are too few or too far.
    """
    mask = np.zeros(shape, np.uint8)
    if len(centres) < _NEIGHBOURS:
        return mask
    rows, columns = (np.arange(_STEP // 2, side, _STEP) for side in shape)
    grid = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1)
    distance, index = cKDTree(centres).query(grid, k=_NEIGHBOURS)
    near = kinds[index]
    agree = (says[near] == says[near[..., :1]]).all(axis=(2, 3))
    sure = agree & (distance[..., -1] * mpp <= _REACH_UM)
    coarse = np.where(sure, near[..., 0], 0).astype(np.uint8)
    size = (len(columns) * _STEP, len(rows) * _STEP)
    fine = np.asarray(Pillow.fromarray(coarse).resize(size, Pillow.Resampling.NEAREST))
    height, width = (min(a, b) for a, b in zip(shape, fine.shape, strict=True))
    mask[:height, :width] = fine[:height, :width]
    return mask


class Annotated(NamedTuple):
    """An image of a typed nucleus set.

    Attributes:
        path: of the image.
        shape: height and width, px.
        centres: float (n, 2), rows and columns of the nuclei that have a class, px.
        kinds: uint8 (n,), their classes, from 1.
    """

    path: Path
    shape: tuple[int, int]
    centres: npt.NDArray[np.float64]
    kinds: npt.NDArray[np.uint8]


def typed_nuclei(folder: Path) -> Iterator[Annotated]:
    """The images of a typed nucleus set (`images`, `labels`, `classes.json`), by name."""
    classes = json.loads((folder / "classes.json").read_text(encoding="utf-8"))["instances"]
    for path in sorted((folder / "images").iterdir()):
        labels = np.asarray(Pillow.open(folder / "labels" / f"{path.stem}.png")).astype(np.int32)
        own: dict[str, int] = classes.get(path.stem, {})
        kinds = np.array([own.get(str(n + 1), 0) for n in range(int(labels.max()))], np.uint8)
        typed = kinds > 0
        yield Annotated(path, labels.shape, centroids(labels)[typed], kinds[typed])
