"""The organ on other sources: accuracy, risk by coverage, the figures of the guard."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from eval.metrics import balanced_accuracy
from models.backend import Image, TissueBackend

TASK = "organ/external"
_COVERAGES = (0.1, 0.25, 0.5, 1.0)
_BUDGETS = (0.01, 0.05, 0.1, 0.2)
_BINS = 10

Statistic = Callable[[npt.NDArray[np.int64]], float]


@dataclass(frozen=True)
class TissueCase:
    """What one image gave.

    Attributes:
        truth: the organ.
        label: the answer, None for an abstention.
        best: the best guess behind it, None for no idea.
        group: dataset, and patient, slide or near-duplicate cluster.
        probability: of the best guess.
    """

    truth: str
    label: str | None
    best: str | None
    group: str
    probability: float = 0.0


def external_rows(data: Path) -> list[dict[str, str]]:
    """The manifest's rows of other sources."""
    with (data / "tissue" / "manifest.csv").open(newline="", encoding="utf-8") as handle:
        return [row for row in csv.DictReader(handle) if row["split"] == "external"]


def tissue_cases(
    backend: TissueBackend, data: Path, rows: Iterable[dict[str, str]]
) -> Iterator[TissueCase]:
    """Ask for the organ of every image of `rows`."""
    for row in rows:
        path = data / row["path"].strip("\0")  # the manifest as it came holds a run of NULs
        rgb = np.asarray(Pillow.open(path).convert("RGB"))
        try:
            mpp = float(row["mpp"])
        except ValueError:
            mpp = float("nan")
        answer = backend.tissue(Image(rgb, mpp if np.isfinite(mpp) else None))
        truth = row["organ"].replace("_", " ")
        best = answer.ranked[0][0] if answer.ranked else None
        group = f"{row['dataset']}/{row['group']}"
        yield TissueCase(truth, answer.label, best, group, answer.probability)


def statistics(cases: list[TissueCase]) -> dict[str, Statistic]:
    """What is measured, each a function of the indices of the cases that are drawn.

    `false alarm` is the share of images of which a user who names the right organ would be asked
    whether he is sure; `coverage` the share that gets an answer at all; `mismatch recall` the
    share of wrong expectations, each other organ of the set in turn, that would be questioned.
    `error at coverage` and `recall at false alarms` are the curves behind the one threshold that
    the backend ships: there the threshold is chosen on these very images.
    """
    organs = sorted({case.truth for case in cases})
    named = np.array([case.label is not None for case in cases])
    wrong = np.array([case.label not in (None, case.truth) for case in cases])
    off = np.array([case.best != case.truth for case in cases])
    sure = np.array([case.probability if case.best is not None else 0.0 for case in cases])
    spurned = np.array([_spurned(case.label, case.truth, organs) for case in cases])
    guess = np.array([_spurned(case.best, case.truth, organs) for case in cases])
    found: dict[str, Statistic] = {
        "balanced accuracy (best guess)": lambda i: balanced_accuracy(
            [cases[k].truth for k in i], [cases[k].best for k in i]
        ),
        "coverage": lambda i: float(named[i].mean()),
        "accuracy where answered": lambda i: (
            1 - float(wrong[i][named[i]].mean()) if named[i].any() else float("nan")
        ),
        "false alarm": lambda i: float(wrong[i].mean()),
        "mismatch recall": lambda i: float(spurned[i].mean()),
        "calibration error": lambda i: calibration_error(sure[i], ~off[i]),
    }
    found |= _curves(sure, off, guess)
    if not named.any():
        del found["accuracy where answered"]
    if len(organs) < 2:
        found = {name: of for name, of in found.items() if "recall" not in name}
    return found


def _curves(
    sure: npt.NDArray[np.float64], off: npt.NDArray[np.bool_], guess: npt.NDArray[np.float64]
) -> dict[str, Statistic]:
    """Risk by coverage, and recall by false alarms, each at a few points."""

    def error_at(share: float) -> Statistic:
        return lambda i: float(
            off[i][np.argsort(-sure[i], kind="stable")[: max(1, round(share * len(i)))]].mean()
        )

    def questioned_at(budget: float) -> Statistic:
        return lambda i: recall_at(sure[i], off[i], guess[i], budget)

    return {f"error at coverage {share:.0%}": error_at(share) for share in _COVERAGES} | {
        f"recall at false alarms {budget:.0%}": questioned_at(budget) for budget in _BUDGETS
    }


def _spurned(said: str | None, truth: str, organs: list[str]) -> float:
    """The share of the wrong expectations of an image that `said` would question."""
    others = [organ for organ in organs if organ != truth]
    return float(np.mean([said not in (None, organ) for organ in others])) if others else 0.0


def calibration_error(sure: npt.NDArray[np.float64], right: npt.NDArray[np.bool_]) -> float:
    """Expected calibration error of the best guesses, over ten bins of equal width."""
    bins = np.minimum((sure * _BINS).astype(int), _BINS - 1)
    gaps = [abs(sure[bins == b].mean() - right[bins == b].mean()) for b in np.unique(bins)]
    shares = [(bins == b).mean() for b in np.unique(bins)]
    return float(np.dot(gaps, shares))


def recall_at(
    sure: npt.NDArray[np.float64],
    off: npt.NDArray[np.bool_],
    spurned: npt.NDArray[np.float64],
    budget: float,
) -> float:
    """Mismatch recall at the lowest threshold with at most a share of `budget` false alarms.

    Args:
        sure: probability of each best guess.
        off: whether it is wrong.
        spurned: share of the wrong expectations that it would question.
        budget: in 0..1.
    """
    order = np.argsort(-sure, kind="stable")
    allowed = np.cumsum(off[order]) <= budget * len(off)
    return float(spurned[order][allowed].sum() / len(off))
