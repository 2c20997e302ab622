"""What part of a file is asked for, what came out, and the checks that are made before decoding."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tools.errors import BadInput

MIN_SIDE = 16
"""Images with fewer px a side are refused: no tissue can be told in them."""

MAX_PIXELS = 400_000_000
"""Default bound on the px of one read: 20,000 x 20,000, 1.2 GB of RGB."""

BYTES_PER_PIXEL = 8
"""Decoded bytes allowed for each px of the bound: 16-bit RGBA, the widest layout in real use."""


@dataclass(frozen=True)
class Window:
    """A rectangle of one pyramid level: offset and size in px of that level."""

    x: int
    y: int
    width: int
    height: int

    @property
    def rows(self) -> slice:
        """The rows as a slice."""
        return slice(self.y, self.y + self.height)

    @property
    def columns(self) -> slice:
        """The columns as a slice."""
        return slice(self.x, self.x + self.width)


@dataclass(frozen=True)
class Request:
    """What a caller asks of a file.

    Attributes:
        region: x, y, width, height in level-0 px, or None for the whole image.
        level: pyramid level to read, 0 is full resolution.
        max_pixels: how many px may be decoded at once.
    """

    region: tuple[int, int, int, int] | None
    level: int
    max_pixels: int


@dataclass(frozen=True)
class Decoded:
    """What a reader hands back.

    Attributes:
        rgb: uint8, shape (H, W, 3).
        format: what the file is, for people.
        mpp: µm/px along x and y of *level 0* as the file has it, or None.
        downsample: level-0 px for a px of `rgb`.
        notes: what was done to the pixels that a reader of the result should know.
    """

    rgb: npt.NDArray[np.uint8]
    format: str
    mpp: tuple[float, float] | None
    downsample: float = 1.0
    notes: tuple[str, ...] = field(default=())


def window_of(request: Request, level_sizes: list[tuple[int, int]]) -> tuple[Window, float]:
    """Turn a request into px of the chosen level, and refuse what can't or shouldn't be read.

    Args:
        request: what is asked for.
        level_sizes: (width, height) in px of each pyramid level, full resolution first.

    Returns:
        The window in px of the level, and the level's downsample (>= 1).

    Raises:
        BadInput: no such level, region out of bounds, too small, or too large to decode.
    """
    if not 0 <= request.level < len(level_sizes):
        raise BadInput(
            f"level {request.level} does not exist: the file has "
            + ("level 0 only" if len(level_sizes) == 1 else f"levels 0 to {len(level_sizes) - 1}")
        )
    full_width, full_height = level_sizes[0]
    width, height = level_sizes[request.level]
    _check_side(full_width, full_height, "the image")
    downsample = max(1.0, (full_width / width + full_height / height) / 2)
    if request.region is None:
        window = Window(0, 0, width, height)
    else:
        x, y, w, h = request.region
        if x < 0 or y < 0 or w < 1 or h < 1 or x + w > full_width or y + h > full_height:
            raise BadInput(
                f"region {x},{y},{w},{h} (x,y,width,height) is not inside the image of "
                f"{full_width} x {full_height} px"
            )
        left, top = min(int(x / downsample), width - 1), min(int(y / downsample), height - 1)
        window = Window(
            left,
            top,
            max(1, min(round(w / downsample), width - left)),
            max(1, min(round(h / downsample), height - top)),
        )
    _check_side(window.width, window.height, "what is left to look at")
    check_size(window.width, window.height, request, pyramid=len(level_sizes) > 1)
    return window, downsample


def check_size(width: int, height: int, request: Request, *, pyramid: bool) -> None:
    """Refuse to decode more than `request.max_pixels` px.

    Raises:
        BadInput: with the size, and with what makes it smaller.
    """
    if width * height > request.max_pixels:
        remedy = "take a region of it" + (", a higher level" if pyramid else "")
        raise BadInput(
            f"{width} x {height} px is more than the {request.max_pixels:,} px that are read "
            f"at once: {remedy} or a smaller image"
        )


def _check_side(width: int, height: int, what: str) -> None:
    if min(width, height) < MIN_SIDE:
        raise BadInput(
            f"{what} is {width} x {height} px, too small: at least {MIN_SIDE} px a side are needed"
        )
