"""Whole slides (SVS, NDPI, MRXS, SCN, VMS, Philips, DICOM, tiled pyramids), through OpenSlide."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import openslide

from tools.image.pixels import to_rgb
from tools.image.resolution import Pair, plausible
from tools.image.window import Decoded, Request, Window, window_of

_BAND = 2048
"""Rows read at once: the RGBA copy that OpenSlide gives is bounded by one band."""

_PLAIN_TIFF = "generic-tiff"


def read_slide(path: Path, request: Request) -> Decoded | None:
    """Read a region of a level, or give None where OpenSlide doesn't know the file as a slide.

    A tiled TIFF without a pyramid is left to the TIFF reader, which knows more sample types.

    Raises:
        BadInput: from the checks.
        openslide.OpenSlideError: the file is damaged.
    """
    slide = _opened(path)
    if slide is None:
        return None
    with slide:
        vendor = slide.properties[openslide.PROPERTY_NAME_VENDOR]
        window, _ = window_of(request, list(slide.level_dimensions))
        downsample = float(slide.level_downsamples[request.level])
        rgb = _read(slide, request, window, downsample)
        return Decoded(rgb, f"{vendor} slide", _mpp(slide), downsample)


def slide_levels(path: Path) -> list[tuple[int, int]]:
    """(width, height) in px of each level, full resolution first; none where it is no slide."""
    slide = _opened(path)
    if slide is None:
        return []
    with slide:
        return list(slide.level_dimensions)


def _opened(path: Path) -> openslide.OpenSlide | None:
    vendor = openslide.OpenSlide.detect_format(path)
    if vendor is None:
        return None
    try:
        slide = openslide.OpenSlide(path)
    except openslide.OpenSlideError:
        if vendor == _PLAIN_TIFF:
            return None
        raise
    if vendor == _PLAIN_TIFF and slide.level_count == 1:
        slide.close()
        return None
    return slide


def _read(
    slide: openslide.OpenSlide, request: Request, window: Window, downsample: float
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    rgb = np.empty((window.height, window.width, 3), np.uint8)
    left, top = request.region[:2] if request.region else (0, 0)
    for row in range(0, window.height, _BAND):
        rows = min(_BAND, window.height - row)
        origin = (left, top + round(row * downsample))
        band = np.asarray(slide.read_region(origin, request.level, (window.width, rows)))
        rgb[row : row + rows] = to_rgb(band[..., :3], band[..., 3], premultiplied=False)
    return rgb


def _mpp(slide: openslide.OpenSlide) -> Pair | None:
    x = slide.properties.get(openslide.PROPERTY_NAME_MPP_X)
    y = slide.properties.get(openslide.PROPERTY_NAME_MPP_Y)
    with contextlib.suppress(TypeError, ValueError):
        return plausible(float(x), float(y))  # type: ignore[arg-type]
    return None
