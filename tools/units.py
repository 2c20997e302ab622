"""Areas and densities in the units of pathology, from pixels and mpp (µm/px)."""

from __future__ import annotations


def area_um2(pixels: float, mpp: float | None) -> float | None:
    """Area in µm² of so many px, None where the mpp is not known."""
    return None if mpp is None else round(pixels * mpp * mpp, 2)


def density_per_mm2(count: int, pixels: int, mpp: float | None) -> float | None:
    """Objects per mm² over an area in px; None without mpp or without area."""
    if mpp is None or pixels == 0:
        return None
    return round(count / (pixels * mpp * mpp / 1e6), 2)


def fraction(part: int, whole: int) -> float | None:
    """Part of the whole in 0..1, None where the whole is empty."""
    return None if whole == 0 else round(part / whole, 4)


def percent(value: float) -> str:
    """A fraction as a percentage with what precision it deserves."""
    return f"{value * 100:.1f}%"
