"""Tiles: a partition, halos within the image, instances stitched as if there were no tiles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage as ndi

from models.tiling import Labels, Slices, centroids, stitch_instances, tiles

sizes = st.integers(1, 70)


@settings(deadline=None)
@given(sizes, sizes, st.integers(1, 40), st.integers(0, 20))
def test_cores_partition_and_windows_hold_them(
    height: int, width: int, core: int, halo: int
) -> None:
    seen = np.zeros((height, width), int)
    for tile in tiles((height, width), core, halo):
        seen[tile.core] += 1
        inner = tile.core_in_window
        coordinates = np.arange(height * width).reshape(height, width)
        assert np.array_equal(coordinates[tile.window][inner], coordinates[tile.core])
    assert (seen == 1).all()


def test_senseless_tiles_are_refused() -> None:
    with pytest.raises(ValueError, match="positive"):
        list(tiles((10, 10), 0, 2))
    with pytest.raises(ValueError, match="negative"):
        list(tiles((10, 10), 5, -1))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(12, 60), st.integers(30, 90), st.integers(30, 90))
def test_stitched_components_are_those_of_the_whole(
    seed: int, core: int, height: int, width: int
) -> None:
    scattered = np.random.default_rng(seed).random((height, width)) > 0.995
    mask = ndi.binary_dilation(scattered, iterations=2)
    whole, count = ndi.label(mask)
    longest = max(
        (max(s.stop - s.start for s in box) for box in ndi.find_objects(whole)), default=1
    )

    def segment(window: Slices) -> tuple[Labels, np.ndarray]:
        labels, n = ndi.label(mask[window])
        return labels.astype(np.int32), np.linspace(0.1, 1, n, dtype=np.float32)

    stitched, confidence = stitch_instances((height, width), core, longest, segment)
    assert np.array_equal(stitched > 0, mask)
    assert stitched.max() == count == len(confidence)
    pairs = np.unique(np.stack([whole[mask], stitched[mask]]), axis=1)
    assert pairs.shape[1] == count


def test_centroids() -> None:
    labels = np.zeros((5, 6), np.int32)
    labels[1:4, 2] = 1
    labels[0, 4:6] = 2
    np.testing.assert_allclose(centroids(labels), [[2, 2], [0, 4.5]])
    assert centroids(np.zeros((3, 3), np.int32)).shape == (0, 2)
