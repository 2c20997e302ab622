"""Measures of instance segmentation, cell detection and selective classification.

Label maps are int arrays (H, W): 0 is background, 1..n the instances.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

Labels = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Detection:
    """Counts of a detection task; they add up over images."""

    tp: int
    fp: int
    fn: int

    def __add__(self, other: Detection) -> Detection:
        return Detection(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn)

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN); 1 where there is nothing to find and nothing was found."""
        total = 2 * self.tp + self.fp + self.fn
        return 2 * self.tp / total if total else 1.0

    @property
    def precision(self) -> float:
        """TP / (TP + FP); 1 where nothing was found."""
        return self.tp / (self.tp + self.fp) if self.tp + self.fp else 1.0

    @property
    def recall(self) -> float:
        """TP / (TP + FN); 1 where there is nothing to find."""
        return self.tp / (self.tp + self.fn) if self.tp + self.fn else 1.0


def overlaps(truth: Labels, guess: Labels) -> tuple[npt.NDArray[np.int64], ...]:
    """Shared pixels of every pair of instances, and the instances' sizes.

    Returns:
        Intersections (n, m) in px, sizes of the n true instances, sizes of the m guessed ones.

    Raises:
        ValueError: the maps differ in shape.
    """
    if truth.shape != guess.shape:
        raise ValueError(f"shapes differ: {truth.shape} and {guess.shape}")
    n, m = int(truth.max(initial=0)), int(guess.max(initial=0))
    pairs = truth.astype(np.int64).ravel() * (m + 1) + guess.ravel()
    table = np.bincount(pairs, minlength=(n + 1) * (m + 1)).reshape(n + 1, m + 1)
    return table[1:, 1:], table[1:].sum(axis=1), table[:, 1:].sum(axis=0)


def _iou(truth: Labels, guess: Labels) -> npt.NDArray[np.float64]:
    shared, a, b = overlaps(truth, guess)
    union = a[:, None] + b[None, :] - shared
    iou: npt.NDArray[np.float64] = shared / np.maximum(union, 1)
    return iou


@dataclass(frozen=True)
class Panoptic:
    """Panoptic quality and what it is made of: `pq = dq * sq`."""

    pq: float
    dq: float
    sq: float
    matched: Detection


def panoptic_quality(truth: Labels, guess: Labels) -> Panoptic:
    """PQ of one image (Kirillov et al., CVPR 2019): pairs with IoU above 0.5 match.

    An image without instances in either map has PQ 1.
    """
    iou = _iou(truth, guess)
    good = iou[iou > 0.5]  # above one half a pair is unique on both sides
    counts = Detection(len(good), iou.shape[1] - len(good), iou.shape[0] - len(good))
    if not iou.size and iou.shape == (0, 0):
        return Panoptic(1.0, 1.0, 1.0, counts)
    sq = float(good.mean()) if len(good) else 0.0
    return Panoptic(counts.f1 * sq, counts.f1, sq, counts)


def aggregated_jaccard(truth: Labels, guess: Labels) -> float:
    """AJI of one image (Kumar et al., IEEE TMI 2017); 1 where both maps are empty.

    Each true instance takes the guess of highest IoU; guesses that no one took count as union.
    """
    shared, a, b = overlaps(truth, guess)
    if not len(a) and not len(b):
        return 1.0
    if not len(a) or not len(b):
        return 0.0
    best = (shared / np.maximum(a[:, None] + b[None, :] - shared, 1)).argmax(axis=1)
    hit = shared[np.arange(len(a)), best] > 0
    both = shared[np.arange(len(a)), best]
    union = np.where(hit, a + b[best] - both, a).sum()
    unused = np.setdiff1d(np.arange(len(b)), best[hit])
    return float(both.sum() / (union + b[unused].sum()))


def dice(truth: npt.NDArray[np.bool_], guess: npt.NDArray[np.bool_]) -> float:
    """Dice of two masks; 1 where both are empty."""
    total = int(truth.sum()) + int(guess.sum())
    return 2 * int((truth & guess).sum()) / total if total else 1.0


def match_centres(
    truth: npt.NDArray[np.float64], guess: npt.NDArray[np.float64], radius: float
) -> list[tuple[int, int]]:
    """One-to-one pairs of points (n, 2) and (m, 2) no further apart than `radius` (same unit).

    As many pairs as possible, and among those the least total distance.
    """
    if not len(truth) or not len(guess):
        return []
    distance = cdist(truth, guess)
    far = radius * (min(len(truth), len(guess)) + 1)  # dearer than any set of allowed pairs
    cost = np.where(distance <= radius, distance, far)
    rows, columns = linear_sum_assignment(cost)
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    return [(i, j) for i, j in pairs if distance[i, j] <= radius]


def typed_detection(
    truth: Sequence[str], guess: Sequence[str], pairs: Sequence[tuple[int, int]], kind: str
) -> Detection:
    """Detection of one type: a true positive is a pair in which both sides are of `kind`.

    Args:
        truth: types of the true cells.
        guess: types of the guessed cells.
        pairs: of `match_centres`.
        kind: the type in question.
    """
    tp = sum(truth[i] == kind and guess[j] == kind for i, j in pairs)
    return Detection(
        tp,
        sum(name == kind for name in guess) - tp,
        sum(name == kind for name in truth) - tp,
    )


def r_squared(truth: Sequence[float], guess: Sequence[float]) -> float:
    """Coefficient of determination of the guesses themselves, not of a line through them.

    Raises:
        ValueError: fewer than two cases, or all the same truth.
    """
    t, g = np.asarray(truth, float), np.asarray(guess, float)
    spread = float(((t - t.mean()) ** 2).sum()) if len(t) else 0.0
    if spread == 0:
        raise ValueError("R² needs at least two different true values")
    return 1 - float(((t - g) ** 2).sum()) / spread


def balanced_accuracy(truth: Sequence[str], guess: Sequence[str | None]) -> float:
    """Mean over the true classes of the share answered right; an abstention (None) is not right.

    Raises:
        ValueError: there are no cases.
    """
    if not truth:
        raise ValueError("no cases")
    shares = []
    for name in sorted(set(truth)):
        answers = [g for t, g in zip(truth, guess, strict=True) if t == name]
        shares.append(sum(g == name for g in answers) / len(answers))
    return float(np.mean(shares))


def bootstrap(
    groups: Sequence[str],
    statistic: Callable[[npt.NDArray[np.int64]], float],
    rounds: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """95% interval of `statistic` by resampling whole groups.

    Args:
        groups: of each case: cases of one group (patient, slide) are drawn together.
        statistic: of the indices of the drawn cases, repeats included; a draw for which it is
            not a number does not count.
        rounds: number of resamples.
        seed: of the draws.

    Returns:
        The 2.5th and the 97.5th percentile.
    """
    rng = np.random.default_rng(seed)
    names = np.asarray(groups)
    members = [np.flatnonzero(names == name) for name in np.unique(names)]
    values = []
    for _ in range(rounds):
        drawn = rng.integers(len(members), size=len(members))
        values.append(statistic(np.concatenate([members[i] for i in drawn])))
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)
