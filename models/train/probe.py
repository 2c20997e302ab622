"""The linear head of the organ probe, and what is chosen on sources and organs left out of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.vision.tissue import softmax

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """One training row of the manifest; `number` counts all of them, whatever their licence."""

    number: int
    path: str
    organ: str
    source: str
    licence: str


@dataclass(frozen=True)
class Set:
    """Features and what they are of.

    Attributes:
        train: (n, views, width) of augmented views, to fit on.
        plain: (n, 3, width) of the views that the backend takes, to judge on.
        organ: (n,) organ names.
        source: (n,) organ and dataset.
    """

    train: Floats
    plain: Floats
    organ: npt.NDArray[np.str_]
    source: npt.NDArray[np.str_]


@dataclass(frozen=True)
class Probe:
    """A fitted head: logits are `((x - mean) / spread) @ weight + bias`."""

    mean: Floats
    spread: Floats
    weight: Floats
    bias: Floats

    def logits(self, x: Floats) -> Floats:
        """Logits (n, organs) of features (n, views, width), averaged over the views."""
        result: Floats = (((x - self.mean) / self.spread) @ self.weight + self.bias).mean(axis=1)
        return result


def _scatter(x: Floats) -> Floats:
    centred = x - x.mean(axis=0)
    scatter: Floats = centred.T @ centred / len(x)
    return scatter


def fit(data: Set, use: npt.NDArray[np.bool_], organs: Sequence[str], shrinkage: float) -> Probe:
    """Fit a linear discriminant to the images in `use` (a mask), every organ alike.

    An organ's mean is the mean of its sources' means. The scatter within an organ is that within
    its sources plus that between them, so that directions which tell sources apart count little
    (within-class covariance normalisation, Hatch et al., Interspeech 2006).

    Args:
        data: features.
        use: (n,) bool.
        organs: the order of the logits; one that is not in `use` is never named.
        shrinkage: share of the mean variance that is added to every direction.
    """
    views, width = data.train.shape[1:]
    flat = data.train[use].reshape(-1, width)
    source = data.source[use].repeat(views)
    mean, spread = flat.mean(axis=0), flat.std(axis=0) + 1e-3
    x = (flat - mean) / spread
    means = np.zeros((len(organs), width))
    absent = np.full(len(organs), -1e9)
    inner, between = [], []
    for index, organ in enumerate(organs):
        names = sorted(set(data.source[use & (data.organ == organ)].tolist()))
        if not names:
            continue
        own = np.stack([x[source == name].mean(axis=0) for name in names])
        means[index], absent[index] = own.mean(axis=0), 0.0
        inner.append(np.mean([_scatter(x[source == name]) for name in names], axis=0))
        if len(names) > 1:
            between.append(_scatter(own) * len(names) / (len(names) - 1))
    within = np.mean(inner, axis=0) + (np.mean(between, axis=0) if between else 0.0)
    within += (shrinkage * np.trace(within) / width + 1e-9) * np.eye(width)
    weight = np.linalg.solve(within, means.T)
    return Probe(mean, spread, weight, absent - 0.5 * (means.T * weight).sum(axis=0))


@dataclass(frozen=True)
class LeftOut:
    """Logits of images whose source, or whose whole organ, the head was not fitted to.

    Attributes:
        name: the source, or the organ.
        logits: (n, organs).
        target: index of the true organ, -1 where the organ was left out whole.
    """

    name: str
    logits: Floats
    target: int


def leave_sources_out(data: Set, organs: Sequence[str], shrinkage: float) -> Iterator[LeftOut]:
    """For each source of an organ with several: fit without it, judge on it."""
    for source in sorted(set(data.source.tolist())):
        organ = source.split("/")[0]
        if len({s for s in data.source.tolist() if s.startswith(f"{organ}/")}) < 2:
            continue
        out = data.source == source
        probe = fit(data, ~out, organs, shrinkage)
        yield LeftOut(source, probe.logits(data.plain[out]), organs.index(organ))


def leave_organs_out(data: Set, organs: Sequence[str], shrinkage: float) -> Iterator[LeftOut]:
    """For each organ: fit without it, judge on it; whatever is named then is wrong."""
    for organ in organs:
        out = data.organ == organ
        probe = fit(data, ~out, organs, shrinkage)
        logits = probe.logits(data.plain[out])
        logits[:, organs.index(organ)] = -1e9
        yield LeftOut(organ, logits, -1)


def accuracy(left_out: Sequence[LeftOut]) -> float:
    """Mean over the left-out sources of the share named right."""
    return float(np.mean([(left.logits.argmax(axis=1) == left.target).mean() for left in left_out]))


def calibrate(left_out: Sequence[LeftOut]) -> float:
    """The temperature that fits the logits of left-out sources best, each source alike."""
    grid = np.geomspace(0.5, 20, 60)

    def surprise(temperature: float) -> float:
        return float(
            np.mean(
                [
                    -np.log(softmax(left.logits / temperature)[:, left.target]).mean()
                    for left in left_out
                ]
            )
        )

    return float(min(grid, key=surprise))


def choose_threshold(left_out: Sequence[LeftOut], temperature: float, allowed: float) -> float:
    """The lowest probability at which wrong names on left-out images are at most `allowed`.

    Every source and every organ weighs the same.
    """
    wrong = []
    for left in left_out:
        p = softmax(left.logits / temperature)
        wrong.append(np.where(p.argmax(axis=1) == left.target, -1.0, p.max(axis=1)))
    for threshold in np.arange(0.2, 1.0, 0.01):
        if np.mean([(w >= threshold).mean() for w in wrong]) <= allowed:
            return float(round(threshold, 2))
    return 1.0
