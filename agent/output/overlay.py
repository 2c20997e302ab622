"""A picture of a result that fits into a slide deck: thin contours, a legend, a scale bar."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage
from PIL import ImageDraw

from agent.output.layers import Box, Layer
from agent.output.legend import Entry, add_panel
from agent.output.outline import Ring, outlines
from agent.output.palette import BOX_COLOUR, Colour, class_names, colours, name_of, told_apart
from models.backend import Image

MAX_SIDE = 4096
"""Long side of the picture in px, legend included."""

_PANEL_BUDGET = 496
_COMFORTABLE_SIDE = 1600
"""Smaller images are enlarged to this long side, so that a contour is thin beside a nucleus."""
_MAX_ENLARGEMENT = 4.0
_TINT = 0.05
_SUPERSAMPLING = 3
_BAND = 512
_HALF_WINDOW = 2

_PIECE = 128
"""Points of a line drawn at once: a long contour is drawn only where a band meets it."""

Line = npt.NDArray[np.float64]
"""Closed line, shape (n, 2), x and y in px of the picture."""


@dataclass(frozen=True)
class _Stroke:
    """Closed lines of one colour and width, in px of the picture."""

    lines: tuple[Line, ...]
    colour: Colour
    width: float


def render(
    image: Image, layers: Sequence[Layer], boxes: Sequence[Box], *, caption: str | None
) -> PillowImage.Image:
    """Draw a result over its image.

    Regions get a contour with a light casing and a faint tint, instances a thin contour in the
    colour of their type. Below the tissue come the legend with counts and areas, the scale bar (µm
    where `image.mpp` is known, else px) and the caption. Contours are smoothed for the eye; the
    exact outlines are in the masks and the GeoJSON.

    Args:
        image: what was looked at.
        layers: masks of the image's height and width, drawn in this order.
        boxes: in px of the image.
        caption: any text; wrapped, and cut short after a few lines. None leaves it out.

    Returns:
        RGB, at most `MAX_SIDE` px a side.
    """
    height, width = image.shape
    scale = _scale(max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    canvas = PillowImage.fromarray(image.rgb).resize(
        size, PillowImage.Resampling.LANCZOS, reducing_gap=3.0
    )
    layers = told_apart(layers)
    palette = colours(layers)
    unit = max(1.0, max(size) / _COMFORTABLE_SIDE)
    for layer in layers:
        if layer.kind == "semantic":
            _tint(canvas, layer.labels, palette[layer.title])
    for layer in sorted(layers, key=lambda layer: layer.kind == "instance"):
        _draw(canvas, _strokes(layer, palette, scale, unit))
    if boxes:
        corners = tuple(_rectangle(box, scale) for box in boxes)
        _draw(canvas, [_Stroke(corners, (255, 255, 255), 3.6 * unit)])
        _draw(canvas, [_Stroke(corners, BOX_COLOUR, 1.8 * unit)])
    entries = _entries(layers, boxes, palette, image.mpp)
    picture = add_panel(canvas, entries, caption, scale, image.mpp)
    picture.thumbnail((MAX_SIDE, MAX_SIDE))
    return picture


def _scale(side: int) -> float:
    """Px of the picture for a px of the image."""
    if side < _COMFORTABLE_SIDE:
        return min(_COMFORTABLE_SIDE / side, _MAX_ENLARGEMENT)
    return min(1.0, (MAX_SIDE - _PANEL_BUDGET) / side)


def _tint(canvas: PillowImage.Image, labels: npt.NDArray[np.int32], colour: Colour) -> None:
    mask = PillowImage.fromarray((labels > 0).astype(np.uint8) * round(255 * _TINT))
    canvas.paste(colour, mask=mask.resize(canvas.size, PillowImage.Resampling.BILINEAR))


def _strokes(
    layer: Layer, palette: dict[str, Colour], scale: float, unit: float
) -> Iterator[_Stroke]:
    by_name: dict[str, list[Line]] = {name: [] for name in class_names(layer)}
    for label, polygons in outlines(layer.labels).items():
        name = layer.title if layer.kind == "semantic" else name_of(layer, label)
        by_name[name] += [_smooth(ring) * scale for polygon in polygons for ring in polygon]
    for name, lines in by_name.items():
        if layer.kind == "semantic":
            yield _Stroke(tuple(lines), (255, 255, 255), 6.0 * unit)
            yield _Stroke(tuple(lines), palette[name], 3.2 * unit)
        else:
            yield _Stroke(tuple(lines), palette[name], 2.0 * unit)


def _smooth(ring: Ring) -> Line:
    """Round the steps off: the middles of the pixel edges, averaged over five neighbours."""
    steps = np.roll(ring, -1, axis=0) - ring
    lengths = np.abs(steps).sum(axis=1)
    along = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths) + 0.5
    middles = np.repeat(ring, lengths, axis=0) + (
        np.repeat(np.sign(steps), lengths, axis=0) * along[:, None]
    )
    shifts = range(-_HALF_WINDOW, _HALF_WINDOW + 1)
    smooth: Line = np.mean([np.roll(middles, shift, axis=0) for shift in shifts], axis=0)
    return smooth


def _rectangle(box: Box, scale: float) -> Line:
    x0, y0, x1, y1 = box.xyxy
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)]) * scale


def _draw(canvas: PillowImage.Image, strokes: Sequence[_Stroke] | Iterator[_Stroke]) -> None:
    """Draw anti-aliased, by supersampling in bands that bound the memory."""
    for stroke in strokes:
        pieces = [piece for line in stroke.lines for piece in _pieces(line)]
        spans = [(piece[:, 1].min(), piece[:, 1].max()) for piece in pieces]
        for top in range(0, canvas.height, _BAND):
            rows = min(_BAND, canvas.height - top)
            reach = stroke.width + 1
            near = [
                piece
                for piece, (low, high) in zip(pieces, spans, strict=True)
                if high >= top - reach and low <= top + rows + reach
            ]
            if near:
                mask = _band(near, stroke.width, (canvas.width, rows), top)
                canvas.paste(stroke.colour, (0, top), mask)


def _pieces(line: Line) -> Iterator[Line]:
    """Open pieces of a closed line; each runs two points into the next, so that corners close."""
    closed = np.vstack([line, line[:2]])
    for start in range(0, len(line), _PIECE):
        yield closed[start : start + _PIECE + 2]


def _band(pieces: list[Line], width: float, size: tuple[int, int], top: int) -> PillowImage.Image:
    zoom = _SUPERSAMPLING
    mask = PillowImage.new("L", (size[0] * zoom, size[1] * zoom))
    draw = ImageDraw.Draw(mask)
    thickness = max(1, round(width * zoom))
    for piece in pieces:
        points = (piece - (0, top)) * zoom
        draw.line(points.ravel().tolist(), fill=255, width=thickness)
    return mask.reduce(zoom)


def _entries(
    layers: Sequence[Layer], boxes: Sequence[Box], palette: dict[str, Colour], mpp: float | None
) -> list[Entry]:
    entries = []
    for layer in layers:
        if layer.kind == "semantic":
            pixels = int(np.count_nonzero(layer.labels))
            share = f"{100 * pixels / max(1, layer.labels.size):.1f}% of the image"
            area = f", {pixels * (mpp / 1000) ** 2:.3g} mm²" if mpp else ""
            entries.append(Entry(layer.title, share + area, palette[layer.title], "region"))
            continue
        for name in class_names(layer):
            several = len(class_names(layer)) > 1
            count = layer.kinds.count(name) if several else layer.count
            entries.append(Entry(name, f"{count:,}", palette[name], "instance"))
    if boxes:
        entries.append(Entry("boxes", f"{len(boxes):,}", BOX_COLOUR, "box"))
    return entries
