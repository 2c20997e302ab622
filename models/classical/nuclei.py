"""Nuclei without learning: the best ellipses of a component tree of the hematoxylin image.

The hematoxylin image is thresholded at a ladder of levels; the components of all levels form a
tree, and each is valued by how well it fills its own ellipse and how steep its border is. The set
of disjoint components with the highest mean value is kept (the inference of Arteta et al., MICCAI
2012, with a fixed value instead of a learned one), so that each nucleus gets its own threshold.
What still touches is split at the narrows of its shape by a watershed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage as ndi
from skimage.segmentation import expand_labels, relabel_sequential, watershed

from models.classical.scale import Scale, reduce_rgb
from models.classical.stain import Float, Rgb, StainProfile, separate
from models.tiling import Labels, Slices, stitch_instances

MIN_AREA = 8.0
"""Smallest nucleus, in µm²."""
MAX_AREA = 220.0
"""Largest nucleus, in µm²."""
MAX_LENGTH = 25.0
"""Longest nucleus, in µm."""
COARSEST_MPP = 1.6
"""µm/px above which a nucleus has too few px to be found."""

_WORK_MPP = 0.5
_CORE_PX = 1024
_MIN_CORE = 5.0  # µm² of a nucleus at the level it is found at, before its rim is added
_LEVELS = 16
_LOWEST = -0.3  # of the step from cytoplasm to the nuclear level, below that level
_HIGHEST = 0.85  # of the step from the lowest level to the darkest nuclei
_SMOOTH = 0.35  # µm
_PALE_CENTER = 30.0  # µm² of pale chromatin inside a nucleus that are filled
_MIN_FIT = 0.6  # a component filling less of its ellipse is no nucleus
_SPLIT_BONUS = 1.1  # above 1 favours the parts over a whole of equal value
_MIN_VALUE = 0.1
_PEAK_RADIUS = 2.0  # µm around the middle of a nucleus without another middle
_AROUND = 2.0  # µm
_MIN_CONTRAST = 0.12  # of the step from cytoplasm to the darkest nuclei; less is keratin or mucus
_RIM = 0.5  # µm of a nucleus' rim that lies below the level it was found at


@dataclass(frozen=True)
class _Level:
    """Components of one threshold: label map, their areas in px and their values in 0..1."""

    labels: Labels
    area: npt.NDArray[np.float64]
    value: npt.NDArray[np.float64]


def find_nuclei(rgb: Rgb, profile: StainProfile, scale: Scale) -> tuple[Labels, Float]:
    """Every nucleus of an image of any size.

    Args:
        rgb: uint8, shape (H, W, 3).
        profile: levels of the whole image.
        scale: pixel size of `rgb`.

    Returns:
        The label map, int32, shape (H, W), 1..n contiguous, and the confidence of each instance,
        float32, shape (n,), in 0..1: how elliptic and how sharply bounded it is.
    """
    shape = (int(rgb.shape[0]), int(rgb.shape[1]))
    if scale.mpp > COARSEST_MPP or profile.nuclear_high <= profile.nuclear:
        return np.zeros(shape, dtype=np.int32), np.zeros(0, dtype=np.float32)
    factor = max(1, round(_WORK_MPP / scale.mpp))
    mpp = scale.mpp * factor
    # Twice the longest nucleus, so that a nucleus and what it was chosen against are both whole.
    halo = int(np.ceil(2 * MAX_LENGTH / mpp)) + 8

    def segment(window: Slices) -> tuple[Labels, Float]:
        return _segment(small[window], profile, mpp)

    small = reduce_rgb(rgb, factor)
    labels, confidence = stitch_instances((small.shape[0], small.shape[1]), _CORE_PX, halo, segment)
    return enlarge_labels(labels, factor, shape), confidence


def enlarge_labels(labels: Labels, factor: int, shape: tuple[int, int]) -> Labels:
    """Repeat each px `factor` times in both directions and cut to `shape`."""
    if factor == 1:
        return labels
    rows = np.minimum(np.arange(shape[0]) // factor, labels.shape[0] - 1)
    columns = np.minimum(np.arange(shape[1]) // factor, labels.shape[1] - 1)
    return np.asarray(labels[rows[:, None], columns[None, :]])


def _segment(rgb: Rgb, profile: StainProfile, mpp: float) -> tuple[Labels, Float]:
    """Nuclei of one tile at `mpp` µm/px: label map and confidences."""
    hematoxylin, _ = separate(rgb)
    smooth = ndi.gaussian_filter(hematoxylin, _SMOOTH / mpp)
    low = profile.nuclear + _LOWEST * (profile.nuclear - profile.cytoplasm)
    levels = _ladder(smooth, low, profile, mpp)
    chosen, value = _choose(levels)
    whole = _cut_narrows(chosen, mpp)
    grown = np.where(levels[0].labels > 0, expand_labels(whole, _RIM / mpp), 0)
    labels, confidence = _sized(grown.astype(np.int32), chosen, value, mpp)
    contrast = _contrast(labels, smooth, mpp) / (profile.nuclear_high - profile.cytoplasm)
    return _kept(labels, confidence, contrast > _MIN_CONTRAST)


def _ladder(smooth: Float, low: float, profile: StainProfile, mpp: float) -> list[_Level]:
    """The components of `smooth` at rising thresholds, with their values."""
    steepness = ndi.gaussian_gradient_magnitude(smooth, 1.0)
    contrast = profile.nuclear_high - profile.cytoplasm
    top = low + _HIGHEST * (profile.nuclear_high - low)
    levels = []
    for threshold in np.linspace(low, top, _LEVELS):
        mask = _filled(smooth > threshold, _PALE_CENTER / mpp**2)
        labels, count = ndi.label(mask)
        area, fit, length = _shape(labels, count)
        border = _border(mask)
        rim = np.bincount(labels[border], minlength=count + 1)[1:]
        steep = np.bincount(labels[border], weights=steepness[border], minlength=count + 1)[1:]
        sharp = 1 - np.exp(-steep / np.maximum(rim, 1) / (0.06 * contrast))
        size = np.sqrt(np.minimum(1.0, area * mpp**2 / 25.0))
        value = np.clip((fit - _MIN_FIT) / (1 - _MIN_FIT), 0, 1) * sharp * size
        fits = (area * mpp**2 >= _MIN_CORE) & (area * mpp**2 <= MAX_AREA)
        fits &= length * mpp <= MAX_LENGTH
        levels.append(_Level(labels, area, np.where(fits, value, 0.0)))
    return levels


def _filled(mask: npt.NDArray[np.bool_], most: float) -> npt.NDArray[np.bool_]:
    """`mask` with its holes of at most `most` px filled: pale chromatin has a dark rim."""
    holes, _ = ndi.label(~mask)
    small = np.bincount(holes.ravel()) <= most
    small[0] = True  # the mask itself
    return np.asarray(small[holes])


def _border(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The px of `mask` with a side on another px than its own, or on the edge of the image."""
    border = mask.copy()
    sides = mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
    border[1:-1, 1:-1] &= ~sides
    return border


def _shape(
    labels: Labels, count: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Area, filled part of the ellipse with the same second moments, and its long axis, in px."""
    flat = labels.ravel()
    inside = np.flatnonzero(flat)
    names = flat[inside]
    y, x = (v.astype(np.float64) for v in np.divmod(inside, max(1, labels.shape[1])))
    area = np.bincount(names, minlength=count + 1)[1:].astype(np.float64)

    def mean(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(np.bincount(names, weights=values, minlength=count + 1)[1:] / area)

    my, mx = mean(y), mean(x)
    # 1/12 is the variance of a px, which is a square and not a point.
    yy, xx = mean(y * y) - my**2 + 1 / 12, mean(x * x) - mx**2 + 1 / 12
    xy = mean(x * y) - mx * my
    determinant = np.maximum(yy * xx - xy**2, 1e-6)
    half = (yy + xx) / 2
    longest = half + np.sqrt(np.maximum(half**2 - determinant, 0))
    return area, area / (4 * np.pi * np.sqrt(determinant)), 4 * np.sqrt(longest)


def _choose(levels: list[_Level]) -> tuple[Labels, npt.NDArray[np.float64]]:
    """The disjoint components of the tree with the highest area-weighted mean value.

    Returns:
        A label map of the chosen ones and their values.
    """
    taken: list[npt.NDArray[np.bool_]] = []
    best: npt.NDArray[np.float64] = np.zeros(0)
    weight: npt.NDArray[np.float64] = np.zeros(0)
    above: _Level | None = None
    for level in reversed(levels):
        inner: npt.NDArray[np.float64] = np.zeros(len(level.area))
        inner_weight: npt.NDArray[np.float64] = np.zeros(len(level.area))
        if above is not None and len(best):
            parent = _any_pixel(above.labels, level.labels, len(best)) - 1
            np.add.at(inner_weight, parent, weight)
            np.add.at(inner, parent, best * weight)
            inner /= np.maximum(inner_weight, 1e-9)
        take = (level.value > _MIN_VALUE) & (level.value >= _SPLIT_BONUS * inner)
        taken.append(take)
        best = np.where(take, level.value, inner)
        weight = np.where(take, level.area, inner_weight)
        above = level
    return _paint(levels, taken[::-1])


def _any_pixel(inner: Labels, outer: Labels, count: int) -> npt.NDArray[np.int32]:
    """For each component 1..count of `inner`, the value of `outer` at one of its px."""
    flat = inner.ravel()
    inside = np.flatnonzero(flat)
    where = np.zeros(count + 1, dtype=np.int64)
    where[flat[inside]] = inside
    return np.asarray(outer.ravel()[where[1:]])


def _paint(
    levels: list[_Level], taken: list[npt.NDArray[np.bool_]]
) -> tuple[Labels, npt.NDArray[np.float64]]:
    """Draw the taken components from the outermost inwards; what lies in a drawn one is left."""
    out = np.zeros(levels[0].labels.shape, dtype=np.int32)
    values = []
    count = 0
    for level, take in zip(levels, taken, strict=True):
        new = np.flatnonzero(take & (_any_pixel(level.labels, out, len(take)) == 0))
        names = np.zeros(len(take) + 1, dtype=np.int32)
        names[new + 1] = np.arange(count + 1, count + 1 + len(new))
        drawn = names[level.labels]
        np.copyto(out, drawn, where=drawn > 0)
        values.append(level.value[new])
        count += len(new)
    return out, np.concatenate(values)


def _cut_narrows(chosen: Labels, mpp: float) -> Labels:
    """Split components at narrows, by a watershed of the distance to their border."""
    mask = chosen > 0
    distance = ndi.gaussian_filter(ndi.distance_transform_edt(mask), 1.0) * mask
    peak = distance == ndi.maximum_filter(distance, 2 * round(_PEAK_RADIUS / mpp) + 1)
    seeds, _ = ndi.label(peak & mask, np.ones((3, 3)))
    parts = watershed(-distance, seeds, mask=mask).astype(np.int64)
    pairs = np.where(mask, chosen.astype(np.int64) * (int(parts.max(initial=0)) + 1) + parts, 0)
    return np.asarray(relabel_sequential(pairs)[0], dtype=np.int32)


def _contrast(labels: Labels, smooth: Float, mpp: float) -> npt.NDArray[np.float64]:
    """How much darker each instance is than the tissue around it; infinite if there is none."""
    count = int(labels.max(initial=0))
    around = np.where(labels > 0, 0, expand_labels(labels, _AROUND / mpp))
    sums = [np.bincount(m.ravel(), smooth.ravel(), count + 1)[1:] for m in (labels, around)]
    areas = [np.bincount(m.ravel(), minlength=count + 1)[1:] for m in (labels, around)]
    inside, outside = (s / np.maximum(a, 1) for s, a in zip(sums, areas, strict=True))
    return np.asarray(np.where(areas[1] > 0, inside - outside, np.inf))


def _kept(labels: Labels, confidence: Float, keep: npt.NDArray[np.bool_]) -> tuple[Labels, Float]:
    """The instances to `keep`, numbered anew, with their confidences."""
    names = np.zeros(len(keep) + 1, dtype=np.int32)
    names[1:][keep] = np.arange(1, int(keep.sum()) + 1)
    return names[labels], confidence[keep]


def _sized(
    labels: Labels, chosen: Labels, value: npt.NDArray[np.float64], mpp: float
) -> tuple[Labels, Float]:
    """Drop the parts below `MIN_AREA`, number the rest and hand each its component's value."""
    area = np.bincount(labels.ravel())
    small = area * mpp**2 < MIN_AREA
    kept = np.where(small[labels], 0, labels)
    out = np.asarray(relabel_sequential(kept)[0], dtype=np.int32)
    names = np.zeros(int(out.max(initial=0)) + 1, dtype=np.int64)
    shared = (out > 0) & (chosen > 0)
    names[out[shared]] = chosen[shared]
    return out, value[names[1:] - 1].astype(np.float32)
