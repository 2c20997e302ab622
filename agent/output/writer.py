"""A turn's folder: `result.json`, 16-bit masks, `overlay.png`, `annotations.geojson`, the trace."""

from __future__ import annotations

import json
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


def write_turn(
    outcome: Outcome, folder: Path, trace: str, notes: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Write everything of a turn but the trace into `folder`; gives what `result.json` holds.

    `result.json` comes last and whole, so its presence says that the rest is there. Files of an
    earlier result in the same folder that this one does not have are removed.
    """
    result = result_of(outcome, trace, notes)
    _forget_earlier(folder)
    layers, boxes = layers_of(outcome), boxes_of(outcome)
    for mask, layer in zip(result["masks"], layers, strict=True):
        write_mask(folder / mask["file"], layer)
    render(outcome.image, layers, boxes, caption=result["text"]).save(folder / OVERLAY_FILE)
    features = feature_collection(
        layers, boxes, outcome.image.mpp, outcome.image.digest, outcome.place
    )
    (folder / GEOJSON_FILE).write_text(json.dumps(features), encoding="utf-8")
    aside = folder / f".{RESULT_FILE}"
    aside.write_text(json.dumps(result, indent=2, ensure_ascii=False), encoding="utf-8")
    aside.replace(folder / RESULT_FILE)
    return result


def writable(folder: Path) -> Path:
    """Make the folder and see that it can be written to.

    Raises:
        BadInput: it can't.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".histopilot"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise BadInput(
            f"can't write to {folder} ({error.strerror}): choose another --out"
        ) from error
    return folder


def _array(outcome: Outcome, handle: dict[str, Any]) -> Any:
    return outcome.store.get(ArrayHandle.model_validate(handle).digest)


def _forget_earlier(folder: Path) -> None:
    """Remove what an earlier result here lists: a stale mask beside a new result would mislead."""
    earlier = folder / RESULT_FILE
    if not earlier.is_file():
        return
    try:
        files = [mask["file"] for mask in json.loads(earlier.read_text("utf-8"))["masks"]]
    except (ValueError, KeyError, TypeError):
        files = []
    for name in [*files, RESULT_FILE]:
        if Path(name).name == name:
            (folder / name).unlink(missing_ok=True)
