"""TIFF of any sample type and layout, also pyramids that OpenSlide doesn't know."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from tools.errors import BadInput
from tools.image.pixels import RGB, Array, cmyk_to_rgb, to_rgb, to_uint8
from tools.image.resolution import from_tiff
from tools.image.tiles import read_page
from tools.image.window import Decoded, Request, window_of

# tifffile logs what it finds odd in a file; without a handler Python prints it on stderr.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_KIND = tifffile.PHOTOMETRIC
_COLOUR_CODECS = frozenset({6, 7, 33003, 33004, 33005, 34712, 34892, 33007, 50001, 50002})
"""Compressions (JPEG, JPEG 2000, WebP, ...) whose decoders turn YCbCr into RGB themselves."""
_ASSOCIATED_ALPHA, _UNASSOCIATED_ALPHA = 1, 2


def is_tiff(head: bytes) -> bool:
    """Whether a file that starts with `head` is a TIFF or BigTIFF."""
    return head.startswith(_MAGIC)


def read_tiff(path: Path, request: Request) -> Decoded:
    """Read a window of a level of the first image of a TIFF.

    Only the tiles or strips under the window are decoded. The orientation tag is applied to the
    whole level first, so a region is in the px of the upright picture.

    Raises:
        BadInput: from the checks, and for layouts that are no RGB or grey picture; a damaged
            file raises what tifffile or the codec raises.
    """
    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        first = series.levels[0].keyframe
        orientation = _orientation(first)
        sizes = [(lv.keyframe.imagewidth, lv.keyframe.imagelength) for lv in series.levels]
        upright = [size[::-1] if orientation > 4 else size for size in sizes]
        window, downsample = window_of(request, upright)
        pages, notes = _pages(series.levels[request.level])
        if orientation == 1:
            rgb, pixel_notes = _pixels([read_page(page, window, request) for page in pages], pages)
        else:
            whole, _ = window_of(Request(None, request.level, request.max_pixels), sizes)
            raw, pixel_notes = _pixels([read_page(page, whole, request) for page in pages], pages)
            turned = _upright(raw, orientation)[window.rows, window.columns]
            rgb = np.ascontiguousarray(turned)
        mpp = from_tiff(first, file.imagej_metadata, file.ome_metadata)
        kind = "OME-TIFF" if file.is_ome else "TIFF"
    return Decoded(rgb, kind, mpp, downsample, notes + pixel_notes)


def tiff_levels(path: Path) -> list[tuple[int, int]]:
    """(width, height) in px of each level, full resolution first; none where it lies on its side.

    Then a region could be read from the whole level alone.
    """
    with tifffile.TiffFile(path) as file:
        levels = file.series[0].levels
        if _orientation(levels[0].keyframe) != 1:
            return []
        return [(level.keyframe.imagewidth, level.keyframe.imagelength) for level in levels]


def _orientation(page: Any) -> int:
    tag = page.tags.get("Orientation")
    value = int(tag.value) if tag is not None else 1
    return value if 1 <= value <= 8 else 1


def _upright(rgb: RGB, orientation: int) -> RGB:
    """Undo a TIFF orientation: 2..4 are flips, 5..8 also swap rows and columns."""
    turned = rgb.swapaxes(0, 1) if orientation > 4 else rgb
    if orientation in (3, 4, 7, 8):
        turned = turned[::-1]
    return turned[:, ::-1] if orientation in (2, 3, 6, 7) else turned


def _pages(level: Any) -> tuple[list[Any], tuple[str, ...]]:
    """The pages that make the picture: one, or three where each channel is a page of its own."""
    if level.keyframe.imagedepth != 1:
        raise BadInput("a volume (3-D tiles) is not a picture: export one plane as 8-bit RGB")
    outer = [
        (axis, size)
        for axis, size in zip(level.axes, level.shape, strict=True)
        if axis not in "YXS"
    ]
    planes = int(np.prod([size for _, size in outer], dtype=np.int64)) if outer else 1
    names = [axis for axis, _ in outer]
    channels = dict(outer).get("C", 1)
    if channels == 1:
        notes = (f"first of {planes} pages read",) if planes > 1 else ()
        return [level.pages[0]], notes
    if channels != 3:
        raise BadInput(
            f"the TIFF has {channels} separate channels, as in fluorescence: export it as RGB"
        )
    stride = int(np.prod([size for _, size in outer[names.index("C") + 1 :]], dtype=np.int64))
    frames = planes // 3
    notes = (f"first of {frames} planes read",) if frames > 1 else ()
    return [level.pages[i * stride] for i in range(3)], notes


def _pixels(parts: list[Array], pages: list[Any]) -> tuple[RGB, tuple[str, ...]]:
    """Samples of one page, or of one page a channel, to uint8 RGB by the photometric tag.

    Args:
        parts: shape (H, W, samples) each.
        pages: the `tifffile.TiffPage` of each part.
    """
    page = pages[0].keyframe
    samples = np.concatenate(parts, axis=2) if len(parts) > 1 else parts[0]
    if len(parts) > 1:
        if samples.shape[2] != 3:
            raise BadInput("the TIFF mixes channels and pages: export it as 8-bit RGB")
        return to_uint8(samples)
    match page.photometric:
        case _KIND.PALETTE:
            return _palette(samples[..., 0], page.colormap), ()
        case _KIND.MINISWHITE | _KIND.MINISBLACK:
            return _grey(samples, page)
        case _KIND.RGB:
            return _colour(samples, page)
        case _KIND.YCBCR if page.compression in _COLOUR_CODECS:
            return _colour(samples, page)
        case _KIND.SEPARATED if samples.shape[2] == 4:
            scaled, notes = to_uint8(samples)
            return cmyk_to_rgb(scaled), (*notes, "CMYK converted without its colour profile")
    name = getattr(page.photometric, "name", str(page.photometric))
    raise BadInput(f"TIFF colours stored as {name} are not read: export the image as 8-bit RGB")


def _palette(index: Array, colormap: Array | None) -> RGB:
    if colormap is None or colormap.ndim != 2 or colormap.shape[0] != 3:
        raise BadInput("the TIFF's palette is missing or damaged: export the image as 8-bit RGB")
    if int(index.max()) >= colormap.shape[1]:
        raise BadInput("the TIFF's palette is too short: export the image as 8-bit RGB")
    # The tag holds 16-bit colours; some writers put 8-bit ones in it.
    colours = colormap if int(colormap.max()) < 256 else colormap >> 8
    return np.ascontiguousarray(colours.astype(np.uint8).T[index])


def _grey(samples: Array, page: Any) -> tuple[RGB, tuple[str, ...]]:
    grey = samples[..., :1]
    bits = int(page.bitspersample)
    if bits < 8 and np.issubdtype(grey.dtype, np.unsignedinteger):
        grey = (grey.astype(np.uint16) * 255 // (2**bits - 1)).astype(np.uint8)
    scaled, notes = to_uint8(grey)
    inverted = page.photometric == _KIND.MINISWHITE
    alpha, premultiplied = _alpha(samples, page, colours=1)
    rgb = to_rgb(255 - scaled if inverted else scaled, alpha, premultiplied=premultiplied)
    return rgb, notes if alpha is None else (*notes, "transparency laid on white")


def _colour(samples: Array, page: Any) -> tuple[RGB, tuple[str, ...]]:
    if samples.shape[2] < 3:
        raise BadInput(f"an RGB TIFF with {samples.shape[2]} samples a pixel: export it again")
    scaled, notes = to_uint8(samples[..., :3])
    alpha, premultiplied = _alpha(samples, page, colours=3)
    rgb = to_rgb(scaled, alpha, premultiplied=premultiplied)
    return rgb, notes if alpha is None else (*notes, "transparency laid on white")


def _alpha(samples: Array, page: Any, *, colours: int) -> tuple[RGB | None, bool]:
    """The alpha sample as uint8 where the file declares one, and whether it is premultiplied."""
    declared = [int(kind) for kind in page.extrasamples]
    for place, kind in enumerate(declared):
        if kind in (_ASSOCIATED_ALPHA, _UNASSOCIATED_ALPHA) and samples.shape[2] > colours + place:
            alpha = samples[..., colours + place]
            if np.issubdtype(alpha.dtype, np.unsignedinteger):
                # Opaque is the type's full scale, whatever the depth of the colours.
                alpha = (alpha >> (8 * alpha.dtype.itemsize - 8)).astype(np.uint8)
            else:
                alpha, _ = to_uint8(alpha)
            return alpha, kind == _ASSOCIATED_ALPHA
    return None, False
