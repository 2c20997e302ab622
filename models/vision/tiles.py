"""Networks over images of any size: overlapping tiles, instances stitched by their centroids."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage


class Tile(NamedTuple):
    """A window of an image and the part of it, the core, that it alone answers for.

    All four are (rows, columns) in px of the image; cores tile the image without overlap.
    """

    start: tuple[int, int]
    stop: tuple[int, int]
    core_start: tuple[int, int]
    core_stop: tuple[int, int]


def _spans(length: int, core: int, margin: int) -> list[tuple[int, int, int, int]]:
    if length <= core + 2 * margin:
        return [(0, length, 0, length)]
    return [
        (max(0, at - margin), min(length, at + core + margin), at, min(length, at + core))
        for at in range(0, length, core)
    ]


def tiles(shape: tuple[int, int], core: int, margin: int) -> Iterator[Tile]:
    """Tiles that cover an image of `shape`, row by row.

    An image that fits into one window is one tile.

    Args:
        shape: of the image, px.
        core: side of the core, px.
        margin: width of the overlap around it, px; more than half an object's diameter.
    """
    for top, bottom, core_top, core_bottom in _spans(shape[0], core, margin):
        for left, right, core_left, core_right in _spans(shape[1], core, margin):
            yield Tile(
                (top, left), (bottom, right), (core_top, core_left), (core_bottom, core_right)
            )


def paste(canvas: npt.NDArray[np.int32], labels: npt.NDArray[np.int32], tile: Tile, n: int) -> int:
    """Write a tile's instances into `canvas`, those whose centroid lies in the tile's core.

    Pixels that are taken keep their owner; an instance that finds most of its pixels taken is the
    neighbour tile's view of the same object and is dropped.

    Args:
        canvas: int32 (H, W) of the image, changed in place.
        labels: int32 of the tile's window, 0 background, 1..m.
        tile: where the window lies.
        n: the highest label in `canvas` so far.

    Returns:
        The highest label in `canvas` now; the labels added are n+1, n+2, ... without gaps.
    """
    window = canvas[tile.start[0] : tile.stop[0], tile.start[1] : tile.stop[1]]
    for index, box in enumerate(ndimage.find_objects(labels), 1):
        if box is None:
            continue
        inside = labels[box] == index
        rows, columns = np.nonzero(inside)
        at_row = tile.start[0] + box[0].start + rows.mean()
        at_column = tile.start[1] + box[1].start + columns.mean()
        if not (
            tile.core_start[0] <= at_row < tile.core_stop[0]
            and tile.core_start[1] <= at_column < tile.core_stop[1]
        ):
            continue
        free = inside & (window[box] == 0)
        if 2 * int(free.sum()) <= len(rows):
            continue
        n += 1
        window[box][free] = n
    return n
