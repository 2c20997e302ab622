"""The pixel size in µm, from the places where files keep it.

A resolution tag is believed only where it is plausible for microscopy: 72, 96 or 300 dpi are what
a screen or a printer wants and say nothing about the tissue.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

PLAUSIBLE = (0.1, 10.0)
"""µm/px that a resolution tag may say: below a 100x oil scan to a 1x overview."""

ANISOTROPY = 0.02
"""Relative difference between µm/px along x and y up to which pixels count as square."""

_MICRONS: Mapping[str, float] = {
    "nm": 1e-3,
    "µm": 1.0,
    "um": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "mm": 1e3,
    "cm": 1e4,
    "inch": 25_400.0,
}
_PIXELS_ELEMENT = re.compile(r"<(?:\w+:)?Pixels\b[^>]*>")
Pair = tuple[float, float]


def plausible(x: float, y: float) -> Pair | None:
    """(x, y) in µm/px where both are finite and plausible, else None."""
    low, high = PLAUSIBLE
    fits = all(math.isfinite(value) and low <= value <= high for value in (x, y))
    # Files keep px a metre or a ratio: the digits after the sixth are rounding, not measurement.
    return (round(x, 6), round(y, 6)) if fits else None


def from_dpi(dpi: object) -> Pair | None:
    """Pillow's `info["dpi"]`: px an inch along x and y (PNG pHYs, JFIF density, BMP header)."""
    if not isinstance(dpi, tuple) or len(dpi) != 2:
        return None
    return _per_unit(dpi[0], dpi[1], 25_400.0)


def from_tiff(page: Any, imagej: Mapping[str, Any] | None, ome: str | None) -> Pair | None:
    """µm/px of a TIFF: OME-XML first, then ImageJ's unit, then the resolution tags.

    Args:
        page: the `tifffile.TiffPage` of level 0.
        imagej: `TiffFile.imagej_metadata`.
        ome: `TiffFile.ome_metadata`.
    """
    if ome and (pair := _from_ome(ome)):
        return pair
    x, y = page.tags.get("XResolution"), page.tags.get("YResolution")
    if x is None or y is None:
        return None
    if imagej and (microns := _unit(imagej.get("unit"))):
        return _per_unit(_ratio(x.value), _ratio(y.value), microns)
    unit = page.tags.get("ResolutionUnit")
    microns = {2: 25_400.0, 3: 10_000.0}.get(int(unit.value) if unit is not None else 2)
    return _per_unit(_ratio(x.value), _ratio(y.value), microns) if microns else None


def _from_ome(xml: str) -> Pair | None:
    """PhysicalSizeX and PhysicalSizeY of the first Pixels element; no XML parser sees the file."""
    element = _PIXELS_ELEMENT.search(xml)
    if element is None:
        return None
    sizes = [_ome_size(element.group(), axis) for axis in "XY"]
    if sizes[0] is None or sizes[1] is None:
        return None
    return plausible(sizes[0], sizes[1])


def _ome_size(element: str, axis: str) -> float | None:
    size = re.search(rf'PhysicalSize{axis}="([^"]*)"', element)
    unit = re.search(rf'PhysicalSize{axis}Unit="([^"]*)"', element)
    microns = _unit(unit.group(1)) if unit else 1.0
    try:
        return float(size.group(1)) * microns if size and microns else None
    except ValueError:
        return None


def _unit(name: object) -> float | None:
    """µm of a unit, by any of the spellings in use; both Unicode mu signs are one."""
    if not isinstance(name, str):
        return None
    spelling = name.strip().lower().replace("\\u00b5", "µ")
    return _MICRONS.get(spelling.replace("μ", "µ").replace("&#181;", "µ").replace("&#xb5;", "µ"))


def _ratio(value: object) -> float:
    if isinstance(value, tuple) and len(value) == 2:
        return value[0] / value[1] if value[1] else math.nan
    return float(value) if isinstance(value, int | float) else math.nan


def _per_unit(x: float, y: float, microns: float) -> Pair | None:
    """Px a unit of `microns` µm to µm/px."""
    if not (x > 0 and y > 0):
        return None
    return plausible(microns / float(x), microns / float(y))
