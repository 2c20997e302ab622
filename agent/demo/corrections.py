"""Corrections of what was found: one line of JSON each, beside a trace.

`models.train.corrections` documents the lines, and reads them back as training data.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from agent.session import Outcome
from models import ontology
from models.train.corrections import FILE, FORMAT, VERDICTS
from tools.arrays import DiskStore
from tools.errors import BadInput

__all__ = ["FILE", "Correction", "Found", "corrected", "keep"]
_LONGEST = 80


@dataclass(frozen=True)
class Correction:
    """What a user says of a place.

    Attributes:
        place: x, y in px of the whole image.
        verdict: one of `VERDICTS`.
        type: of the nucleus there, in words; of no interest where it is none.
    """

    place: tuple[int, int]
    verdict: str
    type: str

    @classmethod
    def of(cls, x: object, y: object, verdict: object, kind: object) -> Correction:
        """What a browser says.

        Raises:
            BadInput: the place is none.
        """
        if not (isinstance(x, int) and isinstance(y, int)):
            raise BadInput("A place is x and y in px.")
        return cls((x, y), str(verdict), str(kind)[:_LONGEST])


@dataclass(frozen=True)
class Found:
    """What of a turn's outcome corrections need: all but the pixels.

    Attributes:
        image: digest of the pixels that were looked at.
        mpp: µm/px, None where unknown.
        shape: their height and width.
        origin: x, y of their corner in px of the whole image.
        masks: the instance masks of the answer.
        store: holds their label maps.
    """

    image: str
    mpp: float | None
    shape: tuple[int, int]
    origin: tuple[int, int]
    masks: list[dict[str, Any]]
    store: DiskStore

    @classmethod
    def of(cls, outcome: Outcome) -> Found:
        """That of an outcome."""
        image = outcome.image
        masks = [mask for mask in outcome.answer["masks"] if mask["kind"] == "instance"]
        origin = outcome.place.origin
        return cls(image.digest, image.mpp, image.shape, origin, masks, outcome.store)


def corrected(found: Found, correction: Correction) -> dict[str, Any]:
    """The line of a correction of a turn.

    The instance is looked up in the turn's own label maps, the last one first.

    Raises:
        BadInput: no nuclei were looked for there, the type is none, or a nucleus is wanted and
            there is none, or the other way round.
    """
    x, y = (at - start for at, start in zip(correction.place, found.origin, strict=True))
    inside = 0 <= x < found.shape[1] and 0 <= y < found.shape[0]
    if not found.masks or correction.verdict not in VERDICTS or not inside:
        raise BadInput("There is nothing to correct.")
    looked = [(mask, found.store.get(mask["array"]["digest"])) for mask in reversed(found.masks)]
    mask, labels = next((one for one in looked if one[1][y, x]), looked[0])
    instance = int(labels[y, x])
    missed = correction.verdict == "missed"
    if missed == bool(instance):
        raise BadInput("A nucleus was found there." if missed else "No nucleus was found there.")
    kind = ontology.find(correction.type, "cell")
    if kind is None and correction.verdict != "wrong":
        raise BadInput(f"{correction.type!r} is no type of cell that is known here.")
    own = np.nonzero(labels == instance)[::-1]
    centre = [x, y] if missed else [round(float(axis.mean()), 1) for axis in own]
    return {
        "format": FORMAT,
        "time": datetime.now(UTC).isoformat(),
        "image": found.image,
        "mpp": found.mpp,
        "call": mask["call"],
        "labels": mask["array"]["digest"],
        "instance": instance or None,
        "centre": centre,
        "type": None if kind is None or correction.verdict == "wrong" else kind.name,
        "verdict": correction.verdict,
    }


def keep(line: dict[str, Any], folder: Path) -> None:
    """Append a line to the corrections of `folder`."""
    with (folder / FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
