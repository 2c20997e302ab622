"""Pixel sizes: which resolution the analysis works at, and how masks come back from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image as PilImage

from models.backend import OutOfRange

ASSUMED_MPP = 0.25
"""µm/px taken for an image whose pixel size nobody knows (a 40x scan)."""

_STRIP_ROWS = 2048


@dataclass(frozen=True)
class Scale:
    """The pixel size of an image, in µm, and whether it was known."""

    mpp: float
    known: bool

    @property
    def caveat(self) -> str:
        """What `method` says about the pixel size: empty where it was known."""
        return "" if self.known else f"; pixel size unknown, {self.mpp:g} µm/px assumed"

    def refuse_above(self, coarsest: float) -> None:
        """See that a nucleus has enough pixels.

        Raises:
            OutOfRange: a pixel is larger than `coarsest`, in µm.
        """
        if self.mpp > coarsest:
            raise OutOfRange(
                f"At {self.mpp:g} µm/px a nucleus has too few pixels to be found, "
                f"so none was counted; {coarsest:g} µm/px is the coarsest that can be."
            )


def image_scale(mpp: float | None) -> Scale:
    """The scale of an image; a missing or senseless `mpp` is replaced by `ASSUMED_MPP`."""
    if mpp is None or not np.isfinite(mpp) or mpp <= 0:
        return Scale(ASSUMED_MPP, known=False)
    return Scale(float(mpp), known=True)


def reduce_rgb(rgb: npt.NDArray[np.uint8], factor: int) -> npt.NDArray[np.uint8]:
    """Average blocks of `factor` x `factor` px (partial ones at the right and lower edge too)."""
    if factor == 1:
        return rgb
    strips = []
    for top in range(0, rgb.shape[0], _STRIP_ROWS * factor):
        strip = PilImage.fromarray(rgb[top : top + _STRIP_ROWS * factor])
        strips.append(np.asarray(strip.reduce(factor)))
    return np.concatenate(strips)


def enlarge_mask(
    score: npt.NDArray[np.float32], factor: int, shape: tuple[int, int]
) -> npt.NDArray[np.bool_]:
    """Where `score`, interpolated linearly to `factor` times its size, is above one half.

    Args:
        score: 0..1, shape (ceil(H / factor), ceil(W / factor)).
        factor: how many px of the image make one of `score`.
        shape: height and width of the image, in px.
    """
    if factor == 1:
        return np.asarray(score > 0.5)
    height, width = shape
    padded = PilImage.fromarray(score)
    mask = np.empty(shape, dtype=np.bool_)
    for top in range(0, height, _STRIP_ROWS):
        bottom = min(top + _STRIP_ROWS, height)
        box = (0, top / factor, width / factor, bottom / factor)
        strip = padded.resize((width, bottom - top), PilImage.Resampling.BILINEAR, box=box)
        mask[top:bottom] = np.asarray(strip) > 0.5
    return mask
