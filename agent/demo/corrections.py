"""Corrections of what was found: one line of JSON each, beside a trace.

`models.train.corrections` documents the lines, and reads them back as training data.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scipy import ndimage

from agent.output.geojson import Placement
from agent.session import Outcome
from models import ontology
from models.backend import Array
from models.train.corrections import FILE, FORMAT, VERDICTS
from tools.arrays import DiskStore
from tools.errors import BadInput

__all__ = ["FILE", "Correction", "Found", "corrected", "keep"]
MAX_PLACES = 1000
_LONGEST = 80


@dataclass(frozen=True)
class Correction:
    """What a user says of one place, or of all that a lasso holds.

    Attributes:
        places: x, y in px of the whole image, one for each nucleus.
        verdict: one of `VERDICTS`.
        type: of the nuclei there, in words; of no interest where there are none.
    """

    places: tuple[tuple[int, int], ...]
    verdict: str
    type: str

    @classmethod
    def of(cls, places: object, verdict: object, kind: object) -> Correction:
        """What a browser says.

        Raises:
            BadInput: the places are none, or too many.
        """
        found = (
            [tuple(place) for place in places if isinstance(place, list | tuple)]
            if (isinstance(places, list | tuple))
            else []
        )
        if not found or any(len(p) != 2 or not all(type(at) is int for at in p) for p in found):
            raise BadInput("A place is x and y in px.")
        if len(found) > MAX_PLACES:
            raise BadInput(f"{len(found):,} nuclei are more than can be corrected at once.")
        return cls(tuple(found), str(verdict), str(kind)[:_LONGEST])


@dataclass(frozen=True)
class Found:
    """What of a turn's outcome corrections need: all but the pixels.

    Attributes:
        image: digest of the pixels that were looked at.
        mpp: µm/px, None where unknown.
        shape: their height and width.
        place: where they lie in the whole image.
        masks: the instance masks of the answer.
        store: holds their label maps.
    """

    image: str
    mpp: float | None
    shape: tuple[int, int]
    place: Placement
    masks: list[dict[str, Any]]
    store: DiskStore

    @classmethod
    def of(cls, outcome: Outcome) -> Found:
        """That of an outcome."""
        image = outcome.image
        masks = [mask for mask in outcome.answer["masks"] if mask["kind"] == "instance"]
        return cls(image.digest, image.mpp, image.shape, outcome.place, masks, outcome.store)


def corrected(found: Found, correction: Correction) -> list[dict[str, Any]]:
    """The lines of a correction of a turn, one for each place.

    The instances are looked up in the turn's own label maps, the last one first.

    Raises:
        BadInput: no nuclei were looked for there, the type is none, or a nucleus is wanted and
            there is none, or the other way round.
    """
    if not found.masks or correction.verdict not in VERDICTS:
        raise BadInput("There is nothing to correct.")
    kind = ontology.find(correction.type, "cell")
    if kind is None and correction.verdict != "wrong":
        raise BadInput(f"{correction.type!r} is no type of cell that is known here.")
    looked = [(mask, found.store.get(mask["array"]["digest"])) for mask in reversed(found.masks)]
    common = {
        "format": FORMAT,
        "time": datetime.now(UTC).isoformat(),
        "image": found.image,
        "mpp": found.mpp,
        "type": None if kind is None or correction.verdict == "wrong" else kind.name,
        "verdict": correction.verdict,
    }
    places = [_within(found, place) for place in correction.places]
    return [common | line for line in _looked_up(looked, places, correction.verdict == "missed")]


def _within(found: Found, place: tuple[int, int]) -> tuple[int, int]:
    """A place of the whole image in px of what was looked at."""
    place_of = found.place
    x, y = (
        int((at - start) // place_of.downsample)
        for at, start in zip(place, place_of.origin, strict=True)
    )
    if not (0 <= x < found.shape[1] and 0 <= y < found.shape[0]):
        raise BadInput("There is nothing to correct.")
    return x, y


def _looked_up(
    looked: list[tuple[dict[str, Any], Array]], places: list[tuple[int, int]], missed: bool
) -> Iterator[dict[str, Any]]:
    """What each place's line says of the instance there: once each, with its centroid."""
    for mask, labels in looked:
        here = {int(labels[y, x]): (x, y) for x, y in places if labels[y, x]}
        if here and missed:
            raise BadInput("A nucleus was found there.")
        places = [(x, y) for x, y in places if not labels[y, x]]
        middles = ndimage.center_of_mass(labels > 0, labels, list(here))
        for instance, (row, column) in zip(here, middles, strict=True):
            centre = [round(float(column), 1), round(float(row), 1)]
            yield _place(mask, instance, centre)
    if places and not missed:
        raise BadInput("No nucleus was found there.")
    for x, y in places:
        yield _place(looked[0][0], None, [x, y])


def _place(mask: dict[str, Any], instance: int | None, centre: list[float]) -> dict[str, Any]:
    digest = mask["array"]["digest"]
    return {"call": mask["call"], "labels": digest, "instance": instance, "centre": centre}


def keep(lines: list[dict[str, Any]], folder: Path) -> None:
    """Append lines to the corrections of `folder`."""
    with (folder / FILE).open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
