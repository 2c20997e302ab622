"""Reading a window of one TIFF page by decoding only the tiles or strips under it."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from tools.errors import BadInput
from tools.image.pixels import Array
from tools.image.window import BYTES_PER_PIXEL, Request, Window

_SLACK = 4
"""Some writers fill up a last strip or tile; none doubles both of its sides."""

_JPEG = frozenset({6, 7, 33007, 34892})
_PICTURES = _JPEG | {33003, 33004, 33005, 34712, 34933, 50001}
"""Compressions whose segments say their size themselves: JPEG, JPEG 2000, PNG, WebP."""


def read_page(page: Any, window: Window, request: Request) -> Array:
    """Decode a window.

    Args:
        page: `tifffile.TiffPage` or `TiffFrame` of a 2-D picture.
        window: what to read, in px of the page.
        request: for its bound.

    Returns:
        Shape (window.height, window.width, samples), the page's own dtype.

    Raises:
        BadInput: the file ends before the data, or the page can't be read within the bound.
    """
    if page is None or page.keyframe is None or page.keyframe.dtype is None:
        raise BadInput("the TIFF is damaged: a page is missing or of an unknown sample type")
    frame = page.keyframe
    samples = int(frame.samplesperpixel)
    limit = request.max_pixels * BYTES_PER_PIXEL
    if window.width * window.height * samples * frame.dtype.itemsize > limit:
        raise BadInput("the TIFF's samples are too wide to be read at once: take a smaller region")
    if page.is_memmappable:
        return _mapped(page, window)
    length, width = _segment_size(frame)
    if length * width * samples * frame.dtype.itemsize > limit:
        raise BadInput("the TIFF is stored in one large piece: save it as a tiled TIFF")
    out = np.zeros((window.height, window.width, samples), frame.dtype)
    for segment, (plane, _, y, x, _) in _segments(page, window):
        top, left = max(y, window.y), max(x, window.x)
        bottom = min(y + segment.shape[1], window.y + window.height)
        right = min(x + segment.shape[2], window.x + window.width)
        planes = slice(plane, plane + 1) if frame.planarconfig == 2 else slice(None)
        out[top - window.y : bottom - window.y, left - window.x : right - window.x, planes] = (
            segment[0, top - y : bottom - y, left - x : right - x]
        )
    return out


def _segment_size(frame: Any) -> tuple[int, int]:
    """Rows and columns of a tile or strip."""
    if frame.is_tiled:
        return int(frame.tilelength), int(frame.tilewidth)
    return min(int(frame.rowsperstrip), int(frame.imagelength)), int(frame.imagewidth)


def _segments(page: Any, window: Window) -> Any:
    """Decoded segments under the window, each with its place in the page."""
    frame = page.keyframe
    length, width = _segment_size(frame)
    if length < 1 or width < 1:
        raise BadInput("the TIFF is damaged: its tiles have no size")
    down, across = math.ceil(frame.imagelength / length), math.ceil(frame.imagewidth / width)
    planes = int(frame.samplesperpixel) if frame.planarconfig == 2 else 1
    wanted = [
        (plane * down + row) * across + column
        for plane in range(planes)
        for row in range(window.y // length, math.ceil((window.y + window.height) / length))
        for column in range(window.x // width, math.ceil((window.x + window.width) / width))
    ]
    offsets, counts = page.dataoffsets, page.databytecounts
    if not wanted or wanted[-1] >= min(len(offsets), len(counts)):
        raise BadInput("the TIFF is damaged: part of its tiles is not listed")
    tables = (
        {"jpegtables": page.jpegtables, "jpegheader": frame.jpegheader}
        if frame.compression in _JPEG
        else {}
    )
    handle = page.parent.filehandle
    for index in wanted:
        handle.seek(offsets[index])
        data = handle.read(counts[index])
        if len(data) != counts[index] or not data:
            raise BadInput("the TIFF is truncated or has holes: copy or export it again")
        if frame.compression in _PICTURES:
            _check_segment(data, length * width)
        segment, place, _ = frame.decode(data, index, _fullsize=frame.is_tiled, **tables)
        if segment is None:
            raise BadInput("the TIFF is damaged: a tile is empty")
        yield segment, place


def _check_segment(data: bytes, expected: int) -> None:
    """Refuse a compressed tile that would unpack to more px than its page says: a bomb."""
    try:
        with PillowImage.open(
            io.BytesIO(data), formats=("JPEG", "JPEG2000", "PNG", "WEBP")
        ) as tile:
            pixels = tile.width * tile.height
    except (OSError, SyntaxError, ValueError, IndexError):
        return  # Whether it is damaged is for its decoder to say.
    if pixels > _SLACK * expected:
        raise BadInput("the TIFF is damaged: a tile is larger than it says")


def _mapped(page: Any, window: Window) -> Array:
    """The window of an uncompressed page, straight from the file."""
    frame = page.keyframe
    dtype = np.dtype(frame.dtype).newbyteorder(page.parent.byteorder)
    planar = frame.planarconfig == 2 and frame.samplesperpixel > 1
    rows, columns, samples = frame.imagelength, frame.imagewidth, frame.samplesperpixel
    pixels = np.memmap(
        page.parent.filehandle.path,
        dtype=dtype,
        mode="r",
        offset=page.dataoffsets[0],
        shape=(samples, rows, columns) if planar else (rows, columns, samples),
    )
    if planar:
        pixels = np.moveaxis(pixels, 0, 2)
    return np.array(pixels[window.rows, window.columns], dtype=frame.dtype, order="C")
