"""Shares with intervals, pass^k, and the exact test of two planners on the same cases.

Cases of one group are paraphrases and tend to fail together, so they are resampled together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from math import comb, sqrt

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy.stats import binomtest

from eval.cases import Case

_Z = 1.959963984540054  # the normal distribution's 97.5% quantile
_RESAMPLES = 2000


class Rate(BaseModel):
    """A share of successes with its 95% interval.

    Attributes:
        n: the number of cases.
        strict: the share that passed, 0..1.
        low: lower end of the interval.
        high: upper end of the interval.
        method: `wilson`, or `bootstrap` (percentiles, resampled by group) where cases are grouped.
    """

    model_config = ConfigDict(frozen=True)

    n: int
    strict: float
    low: float
    high: float
    method: str


class PassK(BaseModel):
    """pass^k: the chance that k trials of a case all pass, with its 95% interval.

    Attributes:
        k: trials.
        value: mean over the cases that have k scored trials.
        low: lower end of the interval.
        high: upper end of the interval.
        n: how many cases that is.
        of: how many cases there are: a figure on few of them is a figure on few of them.
    """

    model_config = ConfigDict(frozen=True)

    k: int
    value: float
    low: float
    high: float
    n: int
    of: int


def wilson(passed: int, n: int) -> tuple[float, float]:
    """95% score interval of a binomial share (E. B. Wilson, JASA 22, 1927); `n` must not be 0."""
    share = passed / n
    centre = share + _Z**2 / (2 * n)
    half = _Z * sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    scale = 1 + _Z**2 / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def clusters(values: Iterable[tuple[Case, float]]) -> list[list[float]]:
    """The values of each group's cases together, a case without a group by itself."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for case, value in values:
        found[("group", case.group) if case.group else ("case", case.id)].append(value)
    return list(found.values())


def bootstrap_mean(clustered: Sequence[Sequence[float]], least: float = 0.0) -> tuple[float, float]:
    """95% percentile interval of the mean of all values when whole clusters are resampled.

    Clusters that are all alike give a bootstrap without width, though as many as these say only
    so much; then it reaches as far as Wilson's interval of as many equal outcomes. The values
    are between `least` and 1.
    """
    sums = np.array([sum(cluster) for cluster in clustered])
    sizes = np.array([len(cluster) for cluster in clustered])
    draws = np.random.default_rng(0).integers(len(sums), size=(_RESAMPLES, len(sums)))
    means = sums[draws].sum(axis=1) / sizes[draws].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    if low == high:
        reach = wilson(0, len(sums))[1]
        low, high = max(least, low - reach), min(1.0, high + reach)
    return float(low), float(high)


def rate(outcomes: Sequence[tuple[Case, bool]]) -> Rate:
    """The share of passed cases (at least one) with its interval.

    Where at least one group has two cases the interval is a bootstrap over groups; otherwise it is
    Wilson's. Where every case has the same outcome a bootstrap would have no width, so that, too,
    is Wilson's, over clusters.
    """
    clustered = clusters(outcomes)
    n, passed = len(outcomes), sum(ok for _, ok in outcomes)
    if passed in (0, n) or len(clustered) == n:
        units = len(clustered)
        low, high = wilson(units if passed == n else passed, units)
        return Rate(n=n, strict=passed / n, low=low, high=high, method="wilson")
    low, high = bootstrap_mean(clustered)
    return Rate(n=n, strict=passed / n, low=low, high=high, method="bootstrap")


def pass_hat_k(n: int, c: int, k: int) -> float:
    """Unbiased estimate of the chance that k trials all pass, from c passes of n >= k trials.

    C(c, k) / C(n, k) (Yao et al., tau-bench, arXiv:2406.12045).
    """
    return comb(c, k) / comb(n, k)


def pass_k(trials: Sequence[tuple[Case, Sequence[bool]]]) -> list[PassK]:
    """pass^k for every k up to the most trials that a case has; `trials` holds scored ones only.

    A trial without a plan to score is neither a pass nor a failure. A case with fewer than k
    scored trials says nothing about k and is left out there; `n` of `of` shows how many are left.
    """
    most = max((len(passes) for _, passes in trials), default=0)
    found = []
    for k in range(1, most + 1):
        values = [
            (case, pass_hat_k(len(passes), sum(passes), k))
            for case, passes in trials
            if len(passes) >= k
        ]
        low, high = bootstrap_mean(clusters(values))
        mean = float(np.mean([value for _, value in values]))
        found.append(PassK(k=k, value=mean, low=low, high=high, n=len(values), of=len(trials)))
    return found


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided exact p that two planners are equally good, from the cases that only one passed.

    A binomial test on the discordant pairs (Q. McNemar, Psychometrika 12, 1947). It takes cases
    for independent; where they are grouped, the interval of the difference is what holds.
    """
    n = only_a + only_b
    return float(binomtest(only_a, n).pvalue) if n else 1.0
