"""The files of a session, and the one way out for them.

Gradio gives any file of its cache to whoever knows the path. So nothing here goes through it: a
session's address holds 256 random bits, and what lies below it is looked up in a table.
"""

from __future__ import annotations

import csv
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import HTTPException
from fastapi.responses import FileResponse, Response
from fastapi.routing import APIRoute

from agent.output.writer import (
    GEOJSON_FILE,
    OVERLAY_FILE,
    RESULT_FILE,
    write_overlay,
    write_turn,
)
from agent.record.bundle import pack
from agent.record.page import outcome_of
from agent.record.trace import read_trace
from agent.session import Outcome

PREFIX = "histopilot"
_TABLE_FILE = "objects.csv"
_BUNDLE_FILE = "trace.zip"
_HEADERS = {
    "Cache-Control": "private, max-age=3600",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class Offer:
    """A file that is given out: it is there, or `make` writes it when it is first asked for."""

    path: Path
    make: Callable[[Path], None] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def file(self) -> Path:
        """The file, whole.

        Raises:
            BadInput: as `make`.
        """
        with self._lock:
            if self.make is not None and not self.path.exists():
                aside = self.path.with_name(f".{self.path.name}")
                self.make(aside)
                aside.replace(self.path)
        return self.path


def asset(name: str) -> str:
    """The text of a file of `assets`."""
    return (resources.files("agent.demo") / "assets" / name).read_text("utf-8")


def write_results(
    outcome: Outcome, folder: Path, notes: tuple[str, ...]
) -> tuple[dict[str, Offer], list[dict[str, Any]]]:
    """Write into `folder` what of a turn the page shows; the rest when somebody wants it.

    Returns:
        What each file is, in words, with the file; and the GeoJSON's features.

    Raises:
        BadInput: as `write_turn`.
    """
    folder.mkdir()
    answer, trace = outcome.answer, outcome.trace  # and not the outcome: it holds the pixels
    result = write_turn(outcome, folder, trace.name, notes, overlay=False)
    objects = folder / GEOJSON_FILE
    features = _features(objects)

    def draw(path: Path) -> None:
        write_overlay(outcome_of(read_trace(trace), answer), path)

    def tabulate(path: Path) -> None:
        _write_table(_features(objects), path)

    def bundle(path: Path) -> None:
        pack(read_trace(trace), path)

    named = {f"mask {mask['call']} (PNG)": Offer(folder / mask["file"]) for mask in result["masks"]}
    named |= {
        "overlay (PNG)": Offer(folder / OVERLAY_FILE, draw),
        "for QuPath (GeoJSON)": Offer(objects),
        "objects (CSV)": Offer(folder / _TABLE_FILE, tabulate),
        "result (JSON)": Offer(folder / RESULT_FILE),
        "trace (replays)": Offer(folder / _BUNDLE_FILE, bundle),
    }
    return named, features


def route(given: Callable[[str, str], Path | bytes | None]) -> APIRoute:
    """The route that serves the files of sessions.

    Args:
        given: what belongs to a session's token and a name, None where there is nothing: a file,
            or the bytes of a JPEG.
    """

    def give(token: str, name: str) -> Response:
        found = given(token, name)
        if found is None:
            raise HTTPException(404)
        if isinstance(found, bytes):
            return Response(found, media_type="image/jpeg", headers=_HEADERS)
        return FileResponse(found, filename=found.name, headers=_HEADERS)

    return APIRoute(f"/{PREFIX}/{{token}}/{{name:path}}", give)


def _features(path: Path) -> list[dict[str, Any]]:
    features: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))["features"]
    return features


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
