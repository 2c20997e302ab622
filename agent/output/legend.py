"""The panel below the tissue: legend, scale bar and caption."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image as PillowImage
from PIL import ImageDraw

from agent.output.palette import Colour
from agent.output.text import Font, clip, load_font, printable, wrap

MIN_WIDTH = 900
"""A narrower image is set in the middle of a panel of this width, in px."""

_INK: Colour = (38, 38, 38)
_QUIET: Colour = (100, 100, 100)
_MAX_ENTRIES = 12
_MAX_COLUMNS = 3
_MAX_CAPTION_LINES = 4
_BAR_SHARE = 0.2
_SWATCH = 1.3
"""Width of a swatch and its gap, in font sizes; the next two are gaps too."""
_FIGURE_GAP = 0.5
_COLUMN_GAP = 1.6


@dataclass(frozen=True)
class Entry:
    """One line of the legend: a swatch, a name, and a figure."""

    name: str
    figure: str
    colour: Colour
    shape: Literal["region", "instance", "box", "none"]


def scale_bar(side: int, scale: float, mpp: float | None) -> tuple[int, str]:
    """A round length (1, 2 or 5 times a power of ten) of at most a fifth of a side.

    Args:
        side: what the bar is a fifth of, in px of the picture.
        scale: px of the picture for a px of the image.
        mpp: µm for a px of the image, or None for a bar in image px.

    Returns:
        The bar's length in px of the picture, and its label (`"100 µm"`, `"2 mm"`, `"50 px"`).
    """
    unit = scale / mpp if mpp else scale
    wanted = side * _BAR_SHARE / unit
    power = 10.0 ** math.floor(math.log10(wanted))
    length = max(step * power for step in (1, 2, 5) if step * power <= wanted)
    if mpp is None:
        length = max(1.0, length)
        label = f"{length:g} px"
    else:
        label = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} µm"
    return max(1, round(length * unit)), label


def add_panel(
    tissue: PillowImage.Image,
    entries: Sequence[Entry],
    caption: str | None,
    scale: float,
    mpp: float | None,
) -> PillowImage.Image:
    """Set a white panel below `tissue`: nothing of it covers the tissue.

    Args:
        tissue: the picture so far.
        entries: of the legend; of more than twelve, the number of the rest is given.
        caption: any text, or None; four lines at most.
        scale: px of the picture for a px of the image.
        mpp: µm for a px of the image, or None.
    """
    width = max(tissue.width, MIN_WIDTH)
    size = min(36, max(18, round(max(width, tissue.height) / 64)))
    pad, row = round(size * 0.9), round(size * 1.45)
    font = load_font(size)
    lines = wrap(caption or "", font, width - 2 * pad, _MAX_CAPTION_LINES)
    bar, label = scale_bar(min(width, max(tissue.size)), scale, mpp)
    room = width - 3 * pad - max(bar, math.ceil(font.getlength(label)))
    cells, rows = _grid(_shorten(entries), font, size, room, row)
    rows = max(2, rows)
    height = 2 * pad + (rows + len(lines)) * row + (pad // 2 if lines else 0)
    picture = PillowImage.new("RGB", (width, tissue.height + height), "white")
    picture.paste(tissue, ((width - tissue.width) // 2, 0))
    draw = ImageDraw.Draw(picture)
    top = tissue.height + pad
    for entry, x, y, cell in cells:
        _entry(draw, entry, (pad + x, top + y), cell, font)
    _bar(draw, (width - pad, top), bar, label, font)
    for number, line in enumerate(lines):
        draw.text((pad, top + (rows + number) * row + pad // 2), line, _INK, font)
    return picture


def _shorten(entries: Sequence[Entry]) -> list[Entry]:
    if len(entries) <= _MAX_ENTRIES:
        return list(entries)
    more = len(entries) - _MAX_ENTRIES + 1
    return [*entries[: _MAX_ENTRIES - 1], Entry(f"and {more} more", "", _QUIET, "none")]


def _grid(
    entries: Sequence[Entry], font: Font, size: int, room: int, row: int
) -> tuple[list[tuple[Entry, int, int, int]], int]:
    """Each entry with its offset and width in px, and the number of rows."""
    gaps = size * (_SWATCH + _FIGURE_GAP + _COLUMN_GAP)
    lengths = [font.getlength(printable(entry.name + entry.figure)) for entry in entries]
    widest = math.ceil(max(lengths, default=0) + gaps)
    columns = max(1, min(_MAX_COLUMNS, room // widest))
    cell = min(widest, room // columns)
    places = [divmod(number, columns) for number in range(len(entries))]
    cells = [
        (entry, column * cell, line * row, cell)
        for entry, (line, column) in zip(entries, places, strict=True)
    ]
    return cells, math.ceil(len(entries) / columns)


def _entry(
    draw: ImageDraw.ImageDraw, entry: Entry, place: tuple[int, int], cell: int, font: Font
) -> None:
    x, y = place
    size = font.size
    middle, half = y + size * 0.64, size * 0.44
    swatch = (x, middle - half, x + 2 * half, middle + half)
    line = max(2, round(size / 8))
    if entry.shape == "instance":
        # On white a yellow ring would vanish: the swatch shows it on the stain's own pink.
        draw.rectangle(swatch, fill=(226, 160, 190))
        ring = (swatch[0] + line, swatch[1] + line, swatch[2] - line, swatch[3] - line)
        draw.ellipse(ring, outline=entry.colour, width=line + 1)
    elif entry.shape != "none":
        draw.rectangle(swatch, outline=entry.colour, width=line)
    left = x + size * _SWATCH
    gaps = size * (_SWATCH + _FIGURE_GAP + _COLUMN_GAP)
    name = clip(entry.name, font, cell - gaps - font.getlength(entry.figure))
    draw.text((left, y), name, _INK, font)
    draw.text((left + font.getlength(name) + size * _FIGURE_GAP, y), entry.figure, _QUIET, font)


def _bar(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], length: int, label: str, font: Font
) -> None:
    """The scale bar, its right end at `place`, with the label below."""
    right, y = place
    thickness = max(3, round(font.size / 5))
    draw.rectangle((right - length, y + 2, right - 1, y + 1 + thickness), fill=_INK)
    centre = right - max(length, font.getlength(label)) / 2
    draw.text((centre, y + thickness + font.size * 0.35), label, _INK, font, anchor="ma")
