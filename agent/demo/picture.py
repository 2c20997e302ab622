"""What a conversation is about: an image that was read whole, or a slide that is read in parts.

Nothing of either stays in memory, and a tile is made when a page asks for it.
"""

from __future__ import annotations

import io
import math
import os
import shutil
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image as PillowImage

from agent.output.geojson import Placement
from models.backend import Array, Image
from tools.errors import BadInput
from tools.image import MIN_SIDE, LoadedImage, pyramid_of, read_image

Region = tuple[int, int, int, int]
"""x, y, width, height in px of the whole image."""
MAX_PIXELS = 50_000_000
"""That one question may be about."""
TILE = 512
_QUALITY = 92
_READ_FOR_A_TILE = 4096 * 4096
"""Px at most: of a pyramid whose levels lie further apart, those between are not seen."""


class Picture(Protocol):
    """An image of any size.

    Attributes:
        shape: height and width in px at full resolution.
        mpp: µm/px there, None where unknown.
        notes: of how it was read.
    """

    shape: tuple[int, int]
    mpp: float | None
    notes: tuple[str, ...]

    def part(self, region: Region | None) -> tuple[Image, Placement]:
        """A part of it, or the whole, at the finest resolution of at most `MAX_PIXELS`.

        Raises:
            BadInput: it can't be read.
        """
        ...

    def seen(self, region: Region, factor: int) -> PillowImage.Image:
        """A part as it looks `factor` times smaller.

        Raises:
            BadInput: it can't be read.
        """
        ...


def picture_of(path: Path, mpp: float | None, folder: Path) -> Picture:
    """The picture in a file; what it needs later it keeps in `folder`.

    Args:
        path: an image or a slide.
        mpp: µm/px at full resolution, where the file does not say.
        folder: of the conversation.

    Raises:
        BadInput: it can't be read, or is too large and has no smaller levels.
    """
    sizes = pyramid_of(path)
    if sizes and math.prod(sizes[0]) > MAX_PIXELS and math.prod(sizes[-1]) <= MAX_PIXELS:
        return _Slide(path, mpp, sizes, folder)
    return _Held(read_image(path, mpp=mpp, max_pixels=MAX_PIXELS), folder)


def levels_of(picture: Picture) -> int:
    """How many levels of tiles there are: each halves the one before, the last is one tile."""
    return 1 + max(0, math.ceil(math.log2(max(picture.shape) / TILE)))


def tile_of(picture: Picture, level: int, column: int, row: int) -> bytes | None:
    """A tile as JPEG, None where there is none. Level 0 is full resolution.

    Raises:
        BadInput: it can't be read.
    """
    height, width = picture.shape
    factor = 2**level if level < levels_of(picture) else 0
    x, y = column * TILE * factor, row * TILE * factor
    if not factor or x >= width or y >= height:
        return None
    region = (x, y, min(TILE * factor, width - x), min(TILE * factor, height - y))
    packed = io.BytesIO()
    picture.seen(region, factor).save(packed, "JPEG", quality=_QUALITY, subsampling=0)
    return packed.getvalue()


class _Held:
    """An image that was read whole; its pixels lie in a file of ours."""

    def __init__(self, loaded: LoadedImage, folder: Path) -> None:
        self.shape, self.mpp, self.notes = loaded.image.shape, loaded.image.mpp, loaded.notes
        self._pixels = folder / "image.npy"
        np.save(self._pixels, loaded.image.rgb)

    def part(self, region: Region | None) -> tuple[Image, Placement]:
        x, y, width, height = region or (0, 0, *self.shape[::-1])
        return Image(self._cut((x, y, width, height)), self.mpp), Placement((x, y))

    def seen(self, region: Region, factor: int) -> PillowImage.Image:
        return PillowImage.fromarray(self._cut(region)).reduce(factor)

    def _cut(self, region: Region) -> Array:
        x, y, width, height = region
        whole = np.load(self._pixels, mmap_mode="r")
        return np.ascontiguousarray(whole[y : y + height, x : x + width])


class _Slide:
    """A slide with a pyramid, whose file is kept as long as the conversation."""

    def __init__(
        self, path: Path, mpp: float | None, sizes: list[tuple[int, int]], folder: Path
    ) -> None:
        corner = read_image(path, mpp=mpp, region=(0, 0, MIN_SIDE, MIN_SIDE))
        self.shape, self.mpp, self.notes = sizes[0][::-1], corner.image.mpp, corner.notes
        self._given = mpp
        self._downsamples = [sizes[0][0] / width for width, _ in sizes]
        self._file = folder / f"slide{path.suffix}"
        try:
            os.link(path, self._file)  # an upload is deleted after a while
        except OSError:
            shutil.copyfile(path, self._file)

    def part(self, region: Region | None) -> tuple[Image, Placement]:
        area = math.prod(region[2:] if region else self.shape)
        level = next(n for n, by in enumerate(self._downsamples) if area / by**2 <= MAX_PIXELS)
        if level and self.mpp is None:
            raise BadInput(
                f"More than {MAX_PIXELS:,} px are looked at in less detail, and the pixel size "
                "of this slide is not known: ask about a smaller region."
            )
        read = read_image(self._file, mpp=self._given, region=region, level=level)
        return read.image, Placement(read.origin, read.downsample)

    def seen(self, region: Region, factor: int) -> PillowImage.Image:
        level = max(n for n, by in enumerate(self._downsamples) if n == 0 or by <= factor * 1.01)
        by = self._downsamples[level]
        least = math.ceil((MIN_SIDE + 1) * by)  # a narrow rest is read with what lies before it
        x, y, width, height = region
        left, top = (
            max(0, min(start, size - least))
            for start, size in zip((x, y), self.shape[::-1], strict=True)
        )
        wider = (left, top, x + width - left, y + height - top)
        rgb = read_image(
            self._file, region=wider, level=level, max_pixels=_READ_FOR_A_TILE
        ).image.rgb
        cut = rgb[round((y - top) / by) :, round((x - left) / by) :]
        size = (math.ceil(width / factor), math.ceil(height / factor))
        return PillowImage.fromarray(np.ascontiguousarray(cut)).resize(
            size, PillowImage.Resampling.BOX
        )
