"""PNG, JPEG, BMP, GIF, WebP, AVIF, JPEG 2000 and PNM, through Pillow."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
from PIL import Image as PillowImage
from PIL import ImageOps, UnidentifiedImageError

from tools.errors import BadInput
from tools.image.pixels import RGB, to_rgb, to_uint8
from tools.image.resolution import from_dpi
from tools.image.window import Decoded, Request, check_size, window_of

# An allow-list: Pillow also opens formats that run other programs (EPS) or are no pictures.
FORMATS = ("PNG", "JPEG", "BMP", "DIB", "GIF", "WEBP", "AVIF", "JPEG2000", "PPM")
_PNG_BIT_DEPTH = 24
_TRANSPOSED = frozenset({5, 6, 7, 8})
_ORIENTATION = 0x0112


def read_raster(path: Path, request: Request) -> Decoded | None:
    """Read `path`, or give None where it is none of `FORMATS`.

    The first frame of an animation is read. EXIF orientation is applied, so a region is in the px
    of the upright picture.

    Raises:
        BadInput: from the checks; a damaged file raises what Pillow raises.
    """
    try:
        picture = PillowImage.open(path, formats=FORMATS)
    except UnidentifiedImageError:
        return None
    with picture:
        width, height = picture.size
        _check_whole(width, height, request)
        # From here on Pillow may decode: a PNG's EXIF can lie behind its pixels.
        if picture.getexif().get(_ORIENTATION) in _TRANSPOSED:
            width, height = height, width
        window, _ = window_of(request, [(width, height)])
        mpp = from_dpi(picture.info.get("dpi"))
        notes = _frame_notes(picture)
        rgb, pixel_notes = _pixels(picture, path)
    rgb = np.ascontiguousarray(rgb[window.rows, window.columns])
    return Decoded(rgb, picture.format or "image", mpp, notes=notes + pixel_notes)


def _check_whole(width: int, height: int, request: Request) -> None:
    """These formats are decoded whole, so a region doesn't make a large one smaller."""
    if request.region is not None and width * height > request.max_pixels:
        raise BadInput(
            f"{width} x {height} px is more than the {request.max_pixels:,} px that are read at "
            "once, and this format can't be read in parts: save it as a tiled TIFF"
        )
    if request.region is None:
        check_size(width, height, request, pyramid=False)


def _frame_notes(picture: PillowImage.Image) -> tuple[str, ...]:
    frames = int(getattr(picture, "n_frames", 1))
    return (f"first of {frames} frames read",) if frames > 1 else ()


def _pixels(picture: PillowImage.Image, path: Path) -> tuple[RGB, tuple[str, ...]]:
    if picture.format == "PNG" and _png_bit_depth(path) == 16:
        return _deep_png(path)
    ImageOps.exif_transpose(picture, in_place=True)
    if picture.mode.startswith("I") or picture.mode == "F":
        grey, notes = to_uint8(np.asarray(picture))
        return to_rgb(grey), notes
    if picture.has_transparency_data:
        rgba = np.asarray(picture.convert("RGBA"))
        return to_rgb(rgba[..., :3], rgba[..., 3]), ("transparency laid on white",)
    cmyk = ("CMYK converted without its colour profile",) if picture.mode == "CMYK" else ()
    return np.asarray(picture if picture.mode == "RGB" else picture.convert("RGB")), cmyk


def _png_bit_depth(path: Path) -> int:
    with path.open("rb") as file:
        header = file.read(_PNG_BIT_DEPTH + 1)
    return header[_PNG_BIT_DEPTH]


def _deep_png(path: Path) -> tuple[RGB, tuple[str, ...]]:
    """16-bit PNG by libpng: Pillow keeps the high byte of RGB, which blackens 12-bit data."""
    samples = np.asarray(imagecodecs.png_decode(path.read_bytes()))
    scaled, notes = to_uint8(samples)
    if scaled.ndim == 3 and scaled.shape[2] in (2, 4):
        # Alpha has the file's full 16 bits whatever the depth of the colours.
        alpha = (samples[..., -1] >> 8).astype(np.uint8)
        colours, notes = to_uint8(samples[..., :-1])
        return to_rgb(colours, alpha), (*notes, "transparency laid on white")
    return to_rgb(scaled), notes
