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


def in_words(um2: float | None, pixels: int) -> str:
    """An area for people: mm² from 0.01 mm² on, µm² below, px where the mpp is not known."""
    if um2 is None:
        return f"{pixels:,} px"
    if um2 >= 1e8:
        return f"{um2 / 1e6:,.0f} mm²"
    if um2 >= 10_000:
        return f"{um2 / 1e6:.3g} mm²"
    return f"{um2:,.0f} µm²"


def percent(value: float) -> str:
    """A fraction as a percentage with what precision it deserves."""
    return f"{value * 100:.1f}%"
