"""Mitotic figures on BreCaHAD, which no training run saw: F1 by case, false ones where are none."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from eval.metrics import Detection, match_centres
from models.backend import Image, NucleiBackend
from models.tiling import centroids

TASK = "mitosis/brecahad"
CONCEPT = "mitotic figure"
FIELD_MPP = 0.25
"""µm/px taken for the 40x fields, which state none: their tumour nuclei are then 8 µm wide."""
RADIUS_UM = 7.5
"""A find this close to an annotated figure is that figure, as in the MIDOG challenges."""


@dataclass(frozen=True)
class MitosisCase:
    """What one field gave.

    Attributes:
        name: of the field.
        case: the patient.
        found: the detections.
        area: of the field, mm².
    """

    name: str
    case: str
    found: Detection
    area: float


def mitosis_cases(backend: NucleiBackend, folder: Path, coarser: int = 1) -> Iterator[MitosisCase]:
    """Look for figures in every field of `folder` (`images.csv`, `points.csv`, `images/*.jpg`).

    Args:
        backend: knows `CONCEPT`.
        folder: of the set.
        coarser: the fields are reduced by this factor first.
    """
    with (folder / "points.csv").open(newline="", encoding="utf-8") as handle:
        points = [row for row in csv.DictReader(handle) if row["cls"] == "mitosis"]
    with (folder / "images.csv").open(newline="", encoding="utf-8") as handle:
        fields = list(csv.DictReader(handle))
    for field in fields:
        name = field["image"]
        picture = Pillow.open(folder / "images" / f"{name}.jpg").convert("RGB").reduce(coarser)
        rgb, mpp = np.asarray(picture), FIELD_MPP * coarser
        own = [(float(p["y"]), float(p["x"])) for p in points if p["image"] == name]
        truth = np.array(own, np.float64).reshape(-1, 2) / coarser
        guess = centroids(backend.nuclei(Image(rgb, mpp), CONCEPT).labels)
        tp = len(match_centres(truth, guess, RADIUS_UM / mpp))
        found = Detection(tp, len(guess) - tp, len(truth) - tp)
        yield MitosisCase(name, field["case"], found, rgb.shape[0] * rgb.shape[1] * mpp**2 / 1e6)


def without_figures(cases: list[MitosisCase]) -> list[MitosisCase]:
    """The fields of the patients in whom no figure is annotated."""
    have = {case.case for case in cases if case.found.tp + case.found.fn}
    return [case for case in cases if case.case not in have]


def false_per_mm2(cases: list[MitosisCase]) -> Callable[[npt.NDArray[np.int64]], float]:
    """A statistic of drawn fields: wrong finds by area."""

    def density(indices: npt.NDArray[np.int64]) -> float:
        drawn = [cases[int(i)] for i in indices]
        return float(sum(case.found.fp for case in drawn) / sum(case.area for case in drawn))

    return density
