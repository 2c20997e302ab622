"""The files of a session, and the one way out for them.

Gradio gives any file of its cache to whoever knows the path. So nothing here goes through it: a
session's address holds 256 random bits, and what lies below it is looked up in a table.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import HTTPException
from fastapi.responses import FileResponse
from fastapi.routing import APIRoute
from PIL import Image as PillowImage

from agent.output.writer import GEOJSON_FILE, OVERLAY_FILE, RESULT_FILE, write_turn
from agent.record.bundle import pack
from agent.record.trace import read_trace
from agent.session import Outcome
from models.backend import Array

PREFIX = "histopilot"
TILE = 512
_QUALITY = 92
_TABLE_FILE = "objects.csv"
_BUNDLE_FILE = "trace.zip"
_HEADERS = {
    "Cache-Control": "private, max-age=3600",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def asset(name: str) -> str:
    """The text of a file of `assets`."""
    return (resources.files("agent.demo") / "assets" / name).read_text("utf-8")


def write_tiles(rgb: Array, folder: Path) -> tuple[list[Path], int]:
    """Cut an image into a pyramid of JPEG tiles, `tile-LEVEL-COLUMN-ROW.jpg` of `TILE` px.

    Level 0 is full resolution; each further one halves it, up to the one that is a single tile.

    Returns:
        The files, and the number of levels.
    """
    folder.mkdir()
    written: list[Path] = []
    picture, level = PillowImage.fromarray(rgb), 0
    while True:
        pixels = np.asarray(picture)
        for y in range(0, picture.height, TILE):
            for x in range(0, picture.width, TILE):
                path = folder / f"tile-{level}-{x // TILE}-{y // TILE}.jpg"
                # Not Pillow's crop: its size limit is off while another thread reads an image.
                tile = PillowImage.fromarray(pixels[y : y + TILE, x : x + TILE])
                tile.save(path, quality=_QUALITY, subsampling=0)
                written.append(path)
        if max(picture.size) <= TILE:
            return written, level + 1
        picture, level = picture.reduce(2), level + 1


def write_results(
    outcome: Outcome, folder: Path, notes: tuple[str, ...]
) -> tuple[dict[str, Path], list[dict[str, Any]]]:
    """Write all files of a turn into `folder`.

    Returns:
        What each file is, in words, with its path; and the GeoJSON's features.

    Raises:
        BadInput: as `write_turn` and `pack`.
    """
    folder.mkdir()
    result = write_turn(outcome, folder, outcome.trace.name, notes)
    features: list[dict[str, Any]] = json.loads((folder / GEOJSON_FILE).read_text("utf-8"))[
        "features"
    ]
    _write_table(features, folder / _TABLE_FILE)
    pack(read_trace(outcome.trace), folder / _BUNDLE_FILE)
    named = {f"mask {mask['call']} (PNG)": mask["file"] for mask in result["masks"]}
    named |= {
        "overlay (PNG)": OVERLAY_FILE,
        "for QuPath (GeoJSON)": GEOJSON_FILE,
        "objects (CSV)": _TABLE_FILE,
        "result (JSON)": RESULT_FILE,
        "trace (replays)": _BUNDLE_FILE,
    }
    return {words: folder / name for words, name in named.items()}, features


def route(file_of: Callable[[str, str], Path | None]) -> APIRoute:
    """The route that serves the files of sessions.

    Args:
        file_of: the file of a session's token and a name, None where there is none.
    """

    def give(token: str, name: str) -> FileResponse:
        path = file_of(token, name)
        if path is None or not path.is_file():
            raise HTTPException(404)
        return FileResponse(path, filename=path.name, headers=_HEADERS)

    return APIRoute(f"/{PREFIX}/{{token}}/{{name:path}}", give)


def _write_table(features: list[dict[str, Any]], path: Path) -> None:
    """A line an object: what it is, its figures, and its bounding box in px (half open)."""
    figures = list(dict.fromkeys(n for f in features for n in f["properties"]["measurements"]))
    with path.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["call", "class", "object", *figures, "x0", "y0", "x1", "y1"])
        for feature in features:
            told, geometry = feature["properties"], feature["geometry"]
            parts = geometry["coordinates"]
            rings = parts if geometry["type"] == "Polygon" else [r for part in parts for r in part]
            points = np.concatenate([np.asarray(ring) for ring in rings])
            values = [told["measurements"].get(name, "") for name in figures]
            box = [*points.min(axis=0).tolist(), *points.max(axis=0).tolist()]
            name, call = told["classification"]["name"], told["metadata"]["HistoPilot call"]
            lines.writerow([call, name, told["objectType"], *values, *box])
