"""`python -m eval.mitosis --data DIR --folds DIR`: mitotic figures, each patient left out once.

The shipped network was trained on the fields of BreCaHAD too. For each patient stands in a network
of the same run that saw none of that patient's, with a threshold chosen on the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from PIL import Image as Pillow

from eval.metrics import Detection, match_centres
from eval.vision import Figure, figure, pooled, printed, show
from models.backend import Image, NucleiBackend
from models.tiling import centroids
from models.train.pictures import read_marks

TASK = "mitosis/brecahad"
CONCEPT = "mitotic figure"
FIELD_MPP = 0.25
"""µm/px taken for the 40x fields, which state none: their tumour nuclei are then 8 µm wide."""
RADIUS_UM = 7.5
"""A find this close to an annotated figure is that figure, as in the MIDOG challenges."""
_OWN_UM = 4.0
"""A mark this close to a find is that nucleus's own."""
_OTHERS = ("apoptosis", "tumor_nuclei", "non_tumor_nuclei")


@dataclass(frozen=True)
class MitosisCase:
    """What one field gave.

    Attributes:
        name: of the field.
        case: the patient.
        found: the detections.
        marked: the same without false finds at nuclei that the annotators left without any mark.
        area: of the field, mm².
    """

    name: str
    case: str
    found: Detection
    marked: Detection
    area: float


def mitosis_cases(
    backends: Mapping[str, NucleiBackend], folder: Path, coarser: int = 1
) -> Iterator[MitosisCase]:
    """Look for figures in every field of `folder` (`images.csv`, `points.csv`, `images/*.jpg`).

    Args:
        backends: by patient; they know `CONCEPT`.
        folder: of the set.
        coarser: the fields are reduced by this factor first.
    """
    mpp = FIELD_MPP * coarser
    for field in read_marks(folder):
        picture = Pillow.open(field.path).convert("RGB").reduce(coarser)
        rgb, truth = np.asarray(picture), field.places("mitosis") / coarser
        guess = centroids(backends[field.case].nuclei(Image(rgb, mpp), CONCEPT).labels)
        pairs = match_centres(truth, guess, RADIUS_UM / mpp)
        false = np.delete(guess, [second for _, second in pairs], axis=0)
        away = np.linalg.norm(false[:, None] - field.places(*_OTHERS) / coarser, axis=2)
        told = int((away.min(axis=1, initial=np.inf) <= _OWN_UM / mpp).sum())
        missed = len(truth) - len(pairs)
        yield MitosisCase(
            name=field.path.stem,
            case=field.case,
            found=Detection(len(pairs), len(false), missed),
            marked=Detection(len(pairs), told, missed),
            area=rgb.shape[0] * rgb.shape[1] * mpp**2 / 1e6,
        )


def mitosis_figures(backends: Mapping[str, NucleiBackend], folder: Path) -> list[Figure]:
    """The figures at 40x and reduced to 20x; intervals by patient.

    Where nobody has any figure, false ones a mm² with an interval by field.
    """
    figures: list[Figure] = []
    for coarser, suffix in ((1, ""), (2, " at 0.5 µm/px")):
        cases = list(mitosis_cases(backends, folder, coarser))
        groups = [case.case for case in cases]
        for metric in ("F1", "precision", "recall"):
            statistic = _pooled([case.found for case in cases], metric.lower())
            figures.append(figure(TASK, f"{metric}{suffix}", statistic, groups))
        statistic = _pooled([case.marked for case in cases], "precision")
        figures.append(figure(TASK, f"precision at nuclei with a mark{suffix}", statistic, groups))
        none = without_figures(cases)
        statistic, names = false_per_mm2(none), [case.name for case in none]
        figures.append(figure(TASK, f"false per mm²{suffix}", statistic, names))
        for patient in sorted({case.case for case in cases} - {case.case for case in none}):
            own = [case for case in cases if case.case == patient]
            statistic, names = _pooled([case.found for case in own]), [case.name for case in own]
            metric = f"F1{suffix}, {patient.replace('_', ' ')} alone"
            figures.append(figure(TASK, metric, statistic, names))
    return figures


def _pooled(
    detections: list[Detection], metric: str = "f1"
) -> Callable[[npt.NDArray[np.int64]], float]:
    """As `pooled`; not a number where what is drawn has no figure to be found."""
    statistic = pooled(detections, metric)
    annotated = np.array([found.tp + found.fn for found in detections])
    return lambda indices: statistic(indices) if annotated[indices].any() else math.nan


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


def main(
    data: Annotated[Path, typer.Option(exists=True, help="Folder with mitosis/brecahad.")],
    folds: Annotated[Path, typer.Option(exists=True, help="Folder of the training run.")],
    json: Annotated[bool, typer.Option(help="Print one JSON object instead.")] = False,
) -> None:
    """Measure the networks of a run, each on the patient that it never saw, and print a table."""
    from models.vision.mitosis import MitoticFigures
    from models.vision.nuclei import FlowNuclei

    nuclei, prefix = FlowNuclei(), "mitosis-"
    backends = {
        path.stem.removeprefix(prefix): MitoticFigures(nuclei, path)
        for path in sorted(folds.glob(f"{prefix}*.safetensors"))
    }
    folder = data / "mitosis" / "brecahad"
    missing = sorted({field.case for field in read_marks(folder)} - set(backends))
    if missing:
        raise typer.BadParameter(f"{folds} has no {prefix}{missing[0]}.safetensors of a run.")
    figures = mitosis_figures(backends, folder)
    if json:
        info = MitoticFigures(nuclei, folds / "mitosis.safetensors").info
        folded = {k: v for one in backends.values() for k, v in one.info.weights.items()}
        info = replace(info, weights=folded | dict(info.weights))
        command = "python -m eval.mitosis --data DIR --folds DIR --json"
        printed([(info, figures)], command=command)
    else:
        show(figures)


if __name__ == "__main__":
    typer.run(main)
