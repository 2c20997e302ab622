"""What a turn has found so far: its masks are drawn while the rest of the plan runs."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

from agent.compose import mask_of, names_of
from agent.output.geojson import Placement, feature_collection
from agent.output.writer import layers_of
from agent.plan import Call, Plan
from agent.session import Outcome
from models.backend import Image
from tools.arrays import DiskStore
from tools.execute import ImageHandle

_DRAWN = ("segment", "count_nuclei")


class Sketch:
    """Trace events in, GeoJSON files out."""

    def __init__(self, store: DiskStore, folder: Path, name: str) -> None:
        """`store` holds the thread's arrays; the files lie in `folder`, named after `name`."""
        self._store, self._folder, self._name = store, folder, name
        self._image: ImageHandle | None = None
        self._calls: dict[str, Call] = {}
        self._ended: set[str] = set()
        self._masks: list[dict[str, Any]] = []
        self._lock = threading.Lock()

    def take(self, event: str, data: dict[str, Any]) -> Path | None:
        """Note one trace event; gives a new drawing where there is more to see and more to come."""
        if event == "run.start":
            self._image = ImageHandle.model_validate(data["image"])
        elif event == "plan.end" and data["plan"] is not None:
            self._calls = Plan.model_validate(data["plan"]).numbered()
        elif event == "call.end" and data["call"] in self._calls:
            with self._lock:
                return self._ended_call(data["call"], data["output"])
        return None

    def _ended_call(self, ref: str, output: dict[str, Any] | None) -> Path | None:
        self._ended.add(ref)
        call, image = self._calls[ref], self._image
        last = len(self._ended) == len(self._calls)  # the answer itself is about to be drawn
        if last or image is None or output is None or call.tool not in _DRAWN:
            return None
        self._masks.append(mask_of(ref, call, names_of(self._calls, {})[ref], output))
        place, pixels = Placement(image.origin, image.downsample), image.pixels.digest
        whole = Image(self._store.get(pixels), image.mpp, pixels)
        shown = {"masks": self._masks, "boxes": []}
        outcome = Outcome(shown, {}, self._folder, whole, place, self._store)
        drawn = feature_collection(layers_of(outcome), [], image.mpp, pixels, place)
        path = self._folder / f"{self._name}-{len(self._masks)}.geojson"
        path.write_text(json.dumps(drawn), encoding="utf-8")
        return path
