"""How areas and counts are worded: in answers, and in the threads that planners learn from."""

from __future__ import annotations

_PLURALS = (("nucleus", "nuclei"), ("sis", "ses"), ("y", "ies"))
"""Endings of the nouns of cells that do not just take an s."""


def plural(noun: str, count: int) -> str:
    """An English noun for a count; what ends in a plain s is taken to be plural already."""
    if count == 1:
        return noun
    for ending, many in _PLURALS:
        if noun.endswith(ending):
            return noun[: len(noun) - len(ending)] + many
    return noun if noun.endswith("s") else f"{noun}s"


def area_in_words(um2: float | None, pixels: int) -> str:
    """An area for people: mm² from 0.01 mm² on, µm² below, px where the mpp is not known."""
    if um2 is None:
        return f"{pixels:,} px"
    if um2 >= 1e8:
        return f"{um2 / 1e6:,.0f} mm²"
    if um2 >= 10_000:
        return f"{um2 / 1e6:.3g} mm²"
    return f"{um2:,.0f} µm²"
