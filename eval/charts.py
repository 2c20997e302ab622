"""Plots as SVG text, without a plotting library: they stand alone and inside a page.

Colours follow the page (`currentColor`), so a dark page needs no second set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import ceil, floor

import numpy as np

WIDTH = 720
_ROW = 22
_LEFT = 190
_RIGHT = 60
_HUE = "#2a6f97"
_PLOT = WIDTH - _LEFT - _RIGHT


def _svg(title: str, height: float, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="currentColor">'
        f"<title>{escape(title)}</title>"
    )
    return "\n".join([head, *parts, "</svg>\n"])


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, opacity: float = 1) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        f'stroke="currentColor" stroke-opacity="{opacity:g}"/>'
    )


def _box(x: float, y: float, width: float, height: float, opacity: float = 1) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
        f'fill="{_HUE}" fill-opacity="{opacity:.2f}"/>'
    )


def intervals(title: str, rows: Sequence[tuple[str, float, float, float]]) -> str:
    """Shares with their intervals, a line each.

    Args:
        title: of the plot.
        rows: label, share, lower and upper end, all 0..1.
    """
    bottom = 8 + _ROW * len(rows)
    parts = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        x = _LEFT + tick * _PLOT
        parts += [_line(x, 4, x, bottom, 0.15), _text(x, bottom + 16, f"{tick:.0%}", "middle")]
    for number, (label, value, low, high) in enumerate(rows):
        y = 8 + _ROW * (number + 0.5)
        parts += [
            _text(_LEFT - 10, y + 4, label, "end"),
            _line(_LEFT + low * _PLOT, y, _LEFT + high * _PLOT, y),
            f'<circle cx="{_LEFT + value * _PLOT:.1f}" cy="{y:.1f}" r="4" fill="{_HUE}"/>',
            _text(WIDTH - _RIGHT + 8, y + 4, f"{value:.1%}"),
        ]
    return _svg(title, bottom + 24, parts)


def bars(title: str, counts: Mapping[str, int]) -> str:
    """Counts, a bar each."""
    most = max(counts.values(), default=1)
    parts = []
    for number, (label, count) in enumerate(counts.items()):
        y = 4 + _ROW * number
        length = count / most * _PLOT
        parts += [
            _text(_LEFT - 10, y + 15, label, "end"),
            _box(_LEFT, y + 3, length, _ROW - 6),
            _text(_LEFT + length + 6, y + 15, str(count)),
        ]
    return _svg(title, 8 + _ROW * len(counts), parts)


def histogram(title: str, seconds: Sequence[float], bins: int = 30) -> str:
    """Distribution of times in s (at least one), on a logarithmic axis."""
    logs = np.log10(np.maximum(seconds, 1e-5))
    low = floor(float(logs.min()))
    high = max(ceil(float(logs.max())), low + 1)
    counts, _ = np.histogram(logs, bins=bins, range=(low, high))
    left, width, bottom = 40, WIDTH - 80, 150

    def place(log: float) -> float:
        return left + (log - low) / (high - low) * width

    heights = counts / counts.max() * 130
    parts = [
        _box(left + i * width / bins, bottom - height, width / bins - 1, height)
        for i, height in enumerate(heights)
        if height
    ]
    parts += [
        _text(place(power), bottom + 18, f"{10.0**power:g} s", "middle")
        for power in range(low, high + 1)
    ]
    middle = place(float(np.median(logs)))
    parts += [
        _line(left, bottom, left + width, bottom, 0.4),
        _line(middle, 10, middle, bottom, 0.6),
        _text(middle + 4, 18, f"median {10 ** float(np.median(logs)):.3g} s"),
    ]
    return _svg(title, bottom + 26, parts)


def matrix(title: str, table: Mapping[str, Mapping[str, int]], names: Sequence[str]) -> str:
    """Counts by row (expected) and column (given); the shade is the share of the row.

    Args:
        title: of the plot.
        table: row to column to count.
        names: of rows and columns, in order.
    """
    left, high = 130, 28
    cell = (WIDTH - left) / max(len(names), 1)
    parts = ['<g font-size="10">']
    parts += [_text(left + (i + 0.5) * cell, 14, name, "middle") for i, name in enumerate(names)]
    parts.append("</g>")
    for r, want in enumerate(names):
        y = 22 + r * high
        row = table.get(want, {})
        parts.append(_text(left - 10, y + 18, want, "end"))
        for c, got in enumerate(names):
            if count := row.get(got, 0):
                opacity = 0.12 + 0.6 * count / sum(row.values())
                parts.append(_box(left + c * cell, y, cell - 2, high - 2, opacity))
                parts.append(_text(left + (c + 0.5) * cell, y + 18, str(count), "middle"))
    return _svg(title, 26 + high * len(names), parts)
