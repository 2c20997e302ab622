"""Tiles with a halo, and instances stitched across their seams.

A tile has a core, and the cores partition the image; around it lies a halo that the computation
sees and whose instances other tiles keep. An instance belongs to the tile whose core holds its
centroid, so where the halo is wider than an instance plus the support of the filters, the stitched
result is the one that the whole image would have given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int32]
Slices = tuple[slice, slice]


@dataclass(frozen=True)
class Tile:
    """One tile: `core` and `window` (core plus halo) as row and column slices of the image."""

    core: Slices
    window: Slices

    @property
    def core_in_window(self) -> Slices:
        """The core in coordinates of the window."""
        rows, columns = (
            slice(c.start - w.start, c.stop - w.start)
            for c, w in zip(self.core, self.window, strict=True)
        )
        return rows, columns


def tiles(shape: tuple[int, int], core: int, halo: int) -> Iterator[Tile]:
    """Cover `shape` (height, width in px) by cores of at most `core` px a side, row by row.

    Raises:
        ValueError: `core` is not positive or `halo` is negative.
    """
    if core < 1 or halo < 0:
        raise ValueError(f"core must be positive and halo not negative, not {core} and {halo}")
    height, width = shape
    for top in range(0, height, core):
        for left in range(0, width, core):
            bottom, right = min(top + core, height), min(left + core, width)
            yield Tile(
                core=(slice(top, bottom), slice(left, right)),
                window=(
                    slice(max(0, top - halo), min(height, bottom + halo)),
                    slice(max(0, left - halo), min(width, right + halo)),
                ),
            )


def centroids(labels: Labels) -> npt.NDArray[np.float64]:
    """Row and column centroid of the instances 1..n of a contiguous label map, shape (n, 2)."""
    count = int(labels.max(initial=0))
    flat = labels.ravel()
    inside = np.flatnonzero(flat)
    rows, columns = np.divmod(inside, max(1, labels.shape[1]))
    area = np.maximum(np.bincount(flat[inside], minlength=count + 1)[1:], 1)
    sums = [np.bincount(flat[inside], weights=v, minlength=count + 1)[1:] for v in (rows, columns)]
    return np.stack([s / area for s in sums], axis=1)


def stitch_instances(
    shape: tuple[int, int],
    core: int,
    halo: int,
    segment: Callable[[Slices], tuple[Labels, npt.NDArray[np.float32]]],
) -> tuple[Labels, npt.NDArray[np.float32]]:
    """Run `segment` tile by tile and put the instances together.

    Args:
        shape: height and width of the whole, in px.
        core: side of a core, in px.
        halo: width of the halo, in px.
        segment: takes the window's slices, gives its label map (1..n, contiguous) and one
            confidence an instance.

    Returns:
        The label map of the whole, int32, contiguous, and the confidences, float32, shape (n,).
    """
    labels = np.zeros(shape, dtype=np.int32)
    kept: list[npt.NDArray[np.float32]] = []
    count = 0
    for tile in tiles(shape, core, halo):
        local, confidence = segment(tile.window)
        owned = _owned(local, tile)
        target = labels[tile.window]
        owned &= ~_mostly_taken(local, target, len(confidence))
        names = np.zeros(len(confidence) + 1, dtype=np.int32)
        names[1:][owned] = np.arange(count + 1, count + 1 + int(owned.sum()))
        np.copyto(target, names[local], where=target == 0)
        kept.append(confidence[owned])
        count += int(owned.sum())
    return labels, np.concatenate(kept) if kept else np.zeros(0, dtype=np.float32)


def _owned(local: Labels, tile: Tile) -> npt.NDArray[np.bool_]:
    """Which instances of the window have their centroid in the tile's core."""
    rows, columns = tile.core_in_window
    y, x = centroids(local).T
    # Cores meet at half-integers, so that a centroid lies in exactly one of them.
    return np.asarray(
        (y >= rows.start - 0.5)
        & (y < rows.stop - 0.5)
        & (x >= columns.start - 0.5)
        & (x < columns.stop - 0.5)
    )


def _mostly_taken(local: Labels, target: Labels, count: int) -> npt.NDArray[np.bool_]:
    """Which instances lie for more than half on pixels that an earlier tile has filled."""
    area = np.bincount(local.ravel(), minlength=count + 1)[1:]
    taken = np.bincount(local.ravel(), weights=(target > 0).ravel(), minlength=count + 1)[1:]
    return np.asarray(taken > 0.5 * area)
