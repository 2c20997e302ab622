"""Exact outlines of labelled regions: polygons that run along the edges between pixels.

Rasterising a polygon (a pixel is in where its centre is) gives the region back, pixel by pixel,
and the polygon's area is the region's number of pixels. `skimage.measure.find_contours` cuts the
corners off instead, and a union of pixel boxes by shapely takes minutes on a large ragged region.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from skimage.measure import label as connected_components

Ring = npt.NDArray[np.int64]
"""Corners of a closed line, shape (n, 2), x and y in px from the image's top left corner; the
first corner isn't repeated. Seen on a screen, outer rings run clockwise and holes run against."""

Polygon = list[Ring]
"""One outer ring, then its holes."""

_EAST, _SOUTH, _WEST, _NORTH = range(4)
_START = np.array([(0, 0), (1, 0), (1, 1), (0, 1)])
"""Where the edge on a pixel's north, east, south, west side starts, clockwise around the pixel."""


def outlines(labels: npt.NDArray[np.integer]) -> dict[int, list[Polygon]]:
    """The polygons of every region of a label map.

    Args:
        labels: any integer type, shape (H, W); 0 is background.

    Returns:
        For each label, in ascending order, a polygon for each of its 4-connected parts. Polygons
        are valid in the sense of OGC simple features: rings touch at corners at most.
    """
    whole = connected_components(labels, background=0, connectivity=1)
    parts = np.pad(whole.astype(np.int32), 1)
    found: dict[int, dict[int, Polygon]] = {}
    for part, corners in _cycles(parts):
        x, y = corners[0]
        # The first corner of a cycle is the north-west corner of a pixel of the part.
        polygons = found.setdefault(int(labels[y, x]), {})
        for ring in _simple(corners):
            if _signed_area(ring) > 0:
                polygons.setdefault(part, []).insert(0, ring)
            else:
                polygons.setdefault(part, []).append(ring)
    return {label: list(found[label].values()) for label in sorted(found)}


def _cycles(parts: npt.NDArray[np.integer]) -> Iterator[tuple[int, Ring]]:
    """Walk around every part with the part at the right hand; `parts` has a border of zeros."""
    width = parts.shape[1]
    flat = parts.ravel()
    ahead = (1, width, -1, -width)
    beside = (-width, 1, width, -1)
    pixels = _sides(flat, width)
    offsets = np.cumsum([0] + [len(of_side) for of_side in pixels])
    followers, corners = [], np.zeros(offsets[-1], bool)
    for direction, here in enumerate(pixels):
        front = here + ahead[direction]
        across = front + beside[direction]
        right = flat[front] != flat[here]
        left = ~right & (flat[across] == flat[here])
        pixel = np.where(right, here, np.where(left, across, front))
        turned = (direction + right.astype(np.int64) - left) % 4
        follower = np.empty(len(here), np.int64)
        for side in range(4):
            on_side = turned == side
            follower[on_side] = offsets[side] + np.searchsorted(pixels[side], pixel[on_side])
        corners[follower[right | left]] = True
        followers.append(follower)
    pixel = np.concatenate(pixels)
    sides = np.repeat(np.arange(4), [len(of_side) for of_side in pixels])
    starts = np.stack([pixel % width - 1, pixel // width - 1], axis=1) + _START[sides]
    walks = _walk(np.concatenate(followers).tolist(), corners.tolist())
    for first, walk in walks:
        yield int(flat[pixel[first]]), starts[walk]


def _sides(flat: npt.NDArray[np.integer], width: int) -> list[npt.NDArray[np.int64]]:
    """The pixels of parts with another part or background to their north, east, south, west."""
    east = np.flatnonzero(flat[:-1] != flat[1:])
    south = np.flatnonzero(flat[:-width] != flat[width:])
    neighbours = (south + width, east, south, east + 1)
    return [pixel[flat[pixel] != 0] for pixel in neighbours]


def _walk(followers: Sequence[int], corners: Sequence[bool]) -> Iterator[tuple[int, list[int]]]:
    """The cycles of a permutation: the first edge of each, and those that start at a corner."""
    seen = bytearray(len(followers))
    for first in range(len(followers)):
        if seen[first]:
            continue
        walk, edge = [], first
        while not seen[edge]:
            seen[edge] = 1
            if corners[edge]:
                walk.append(edge)
            edge = followers[edge]
        yield first, walk


def _simple(ring: Ring) -> Iterator[Ring]:
    """Split a ring where it touches itself, so that no ring passes through a point twice."""
    points = list(map(tuple, ring.tolist()))
    if len(set(points)) == len(points):
        yield ring
        return
    path: list[tuple[int, int]] = []
    place: dict[tuple[int, int], int] = {}
    for point in points:
        if point in place:
            start = place[point]
            yield np.array(path[start:])
            for passed in path[start + 1 :]:
                del place[passed]
            del path[start + 1 :]
        else:
            place[point] = len(path)
            path.append(point)
    yield np.array(path)


def _signed_area(ring: Ring) -> int:
    """Twice the area, positive where the ring runs clockwise on a screen (y down)."""
    x, y = ring[:, 0], ring[:, 1]
    return int(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
