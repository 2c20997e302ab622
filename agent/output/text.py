"""Text in pictures: one font, any string.

The font is Source Sans Pro (SIL Open Font Licence, beside this module): Pillow's own has no µ or ².
"""

from __future__ import annotations

from bisect import bisect_right
from functools import cache
from importlib.resources import files

from PIL import ImageFont

Font = ImageFont.FreeTypeFont

_MAX_NAME = 200
_MAX_TEXT = 2000


@cache
def load_font(size: int) -> Font:
    """The font at `size` px."""
    return ImageFont.truetype(str(files(__package__) / "font" / "SourceSansPro-Regular.otf"), size)


def printable(text: str) -> str:
    """`text` on one line, with a mark for what no font draws: controls and lone surrogates."""
    spaced = " ".join(text.split())
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in spaced)


def clip(text: str, font: Font, width: float) -> str:
    """`text` made printable and cut with an ellipsis to `width` px."""
    line = printable(text[:_MAX_NAME])
    if len(text) <= _MAX_NAME and font.getlength(line) <= width:
        return line
    return line[: _fitting(line, font, width - font.getlength("…"))].rstrip() + "…"


def wrap(text: str, font: Font, width: float, max_lines: int) -> list[str]:
    """Break `text` into lines of `width` px; where it is longer, the last ends in an ellipsis."""
    rest = printable(text[:_MAX_TEXT])
    lines: list[str] = []
    while rest and len(lines) < max_lines - 1:
        end = max(1, _fitting(rest, font, width))
        if end < len(rest) and " " in rest[: end + 1]:
            end = rest.rindex(" ", 0, end + 1)
        lines.append(rest[:end].rstrip())
        rest = rest[end:].lstrip()
    return [*lines, clip(rest, font, width)] if rest else lines


def _fitting(line: str, font: Font, width: float) -> int:
    """How many characters from the start of `line` fit into `width` px."""
    ends = range(1, len(line) + 1)
    return bisect_right(ends, width, key=lambda end: font.getlength(line[:end]))
