"""A turn's folder: `result.json`, 16-bit masks, `overlay.png`, `annotations.geojson`, the trace."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from agent.output.geojson import feature_collection
from agent.output.layers import Box, Layer
from agent.output.masks import write_mask
from agent.output.overlay import render
from agent.session import Outcome
from tools.arrays import ArrayHandle
from tools.errors import BadInput

RESULT_FILE = "result.json"
OVERLAY_FILE = "overlay.png"
GEOJSON_FILE = "annotations.geojson"
_MASK = re.compile(r"mask-[0-9]+\.png", re.ASCII)
_ARRAYS = ("array", "kinds", "kind_of", "confidence")


def layers_of(outcome: Outcome) -> list[Layer]:
    """The answer's masks with their arrays, ready to draw."""
    layers = []
    for mask in outcome.answer["masks"]:
        labels = _array(outcome, mask["array"]).astype(np.int32)
        if mask["kind"] == "semantic":
            layers.append(Layer(mask["call"], mask["target"], "semantic", labels))
            continue
        names = mask["kinds"]
        kinds = tuple(names[index] for index in _array(outcome, mask["kind_of"]))
        confidence = _array(outcome, mask["confidence"])
        layers.append(Layer(mask["call"], mask["target"], "instance", labels, kinds, confidence))
    return layers


def boxes_of(outcome: Outcome) -> list[Box]:
    """The answer's boxes."""
    return [Box(box["call"], tuple(box["xyxy"])) for box in outcome.answer["boxes"]]


def result_of(outcome: Outcome, trace: str, notes: tuple[str, ...] = ()) -> dict[str, Any]:
    """The `result.json` of a turn, as the contract has it.

    Args:
        outcome: the turn.
        trace: the trace's folder, relative to the result's.
        notes: what was done to the image when it was read.
    """
    answer = outcome.answer
    masks = [
        {key: value for key, value in mask.items() if key not in _ARRAYS}
        for mask in answer["masks"]
    ]
    return {
        **answer,
        "masks": masks,
        "image": {
            "height": outcome.image.shape[0],
            "width": outcome.image.shape[1],
            "mpp": outcome.image.mpp,
            "sha256": outcome.image.digest,
            "notes": list(notes),
        },
        "trace": trace,
        "seconds": outcome.seconds,
    }


def write_overlay(outcome: Outcome, path: Path) -> None:
    """Draw what was found over the image, with the answer's text below."""
    _draw(outcome, layers_of(outcome), boxes_of(outcome), path)


def _draw(outcome: Outcome, layers: list[Layer], boxes: list[Box], path: Path) -> None:
    render(outcome.image, layers, boxes, caption=outcome.answer["text"]).save(path, "PNG")


def write_turn(
    outcome: Outcome,
    folder: Path,
    trace: str,
    notes: tuple[str, ...] = (),
    *,
    overlay: bool = True,
) -> dict[str, Any]:
    """Write everything of a turn but the trace into `folder`; gives what `result.json` holds.

    Everything is written aside and moved into place, `result.json` last: its presence says that
    the rest is there, and a link in the folder is replaced, not followed. The files of an earlier
    result are removed first. Without `overlay` there is none of it.

    Raises:
        BadInput: the folder can't be written to, or a mask has more instances than 16 bits.
    """
    result = result_of(outcome, trace, notes)
    layers, boxes = layers_of(outcome), boxes_of(outcome)
    features = feature_collection(
        layers, boxes, outcome.image.mpp, outcome.image.digest, outcome.place
    )
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".histopilot-") as scratch:
            aside = Path(scratch)
            for mask, layer in zip(result["masks"], layers, strict=True):
                write_mask(aside / mask["file"], layer)
            if overlay:
                _draw(outcome, layers, boxes, aside / OVERLAY_FILE)
            (aside / GEOJSON_FILE).write_text(json.dumps(features), encoding="utf-8")
            text = json.dumps(result, indent=2, ensure_ascii=False)
            (aside / RESULT_FILE).write_text(text, encoding="utf-8")
            _forget_earlier(folder)
            for path in sorted(aside.iterdir(), key=lambda path: path.name == RESULT_FILE):
                path.replace(folder / path.name)
    except OSError as error:
        raise BadInput(f"can't write the result into {folder} ({error.strerror})") from error
    return result


def writable(folder: Path, source: Path | None = None) -> Path:
    """Make the folder of a result and see that it can be written to.

    Raises:
        BadInput: it can't, or the result would take the place of `source`, the image.
    """
    name = "" if source is None else source.name
    ours = name in (OVERLAY_FILE, GEOJSON_FILE, RESULT_FILE) or _MASK.fullmatch(name)
    if source is not None and ours and source.resolve().parent == folder.resolve():
        raise BadInput(f"the result would overwrite {name}: choose another --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        why = f"can't write to {folder} ({error.strerror}): choose another --out"
        raise BadInput(why) from error
    return folder


def _array(outcome: Outcome, handle: dict[str, Any]) -> Any:
    return outcome.store.get(ArrayHandle.model_validate(handle).digest)


def _forget_earlier(folder: Path) -> None:
    """Remove an earlier result and the masks that it lists: beside a new one they would mislead.

    Masks that no result of ours lists are somebody's own and stay.
    """
    earlier = folder / RESULT_FILE
    if not earlier.is_file():
        return
    try:
        files = [str(mask["file"]) for mask in json.loads(earlier.read_text("utf-8"))["masks"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        files = []
    earlier.unlink()
    for name in files:
        if _MASK.fullmatch(name):
            (folder / name).unlink(missing_ok=True)
