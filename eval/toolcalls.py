"""Run a planner over cases, score predictions, and show the scores as a table."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, JsonValue
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from eval.cases import Case, Prediction, Turn
from eval.matching import FAILURE_CODES, FailureCode, Verdict, judge
from tools.errors import BadInput

_Z = 1.959963984540054  # the normal distribution's 97.5% quantile
_RESAMPLES = 2000


@dataclass(frozen=True)
class Planned:
    """What one planning gives.

    Attributes:
        calls: the plan, `{"tool": ..., "args": {...}}` a call, null arguments included.
        error: one line that says why there is no plan, or None.
    """

    calls: Sequence[dict[str, Any]]
    error: str | None = None


PlanOnce = Callable[[str, Sequence[Turn]], Planned]
"""Plans one instruction, given the thread's earlier turns."""


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


class Groups(BaseModel):
    """Groups of cases that mean the same: how many there are, and how many are right throughout."""

    model_config = ConfigDict(frozen=True)

    n: int
    all_right: int


class Latency(BaseModel):
    """Percentiles of the planning time in s, over `n` predictions that state it."""

    model_config = ConfigDict(frozen=True)

    n: int
    p50: float
    p95: float


class Score(BaseModel):
    """The score of a set of predictions.

    Attributes:
        n: number of cases.
        strict: share of cases whose plan is an accepted one; a case without a prediction fails.
        passed: ids of the cases that passed, in the cases' order.
        interval: `strict` with its interval.
        by_tag: the same for the cases of each tag.
        groups: groups all right.
        failures: id to code, for each case that failed.
        details: id to one line that says what differs.
        codes: how many failures there are of each code.
        latency: planning time, or None where no prediction states it.
    """

    n: int
    strict: float
    passed: list[str]
    interval: Rate
    by_tag: dict[str, Rate]
    groups: Groups
    failures: dict[str, FailureCode]
    details: dict[str, str]
    codes: dict[FailureCode, int]
    latency: Latency | None


def wilson(passed: int, n: int) -> tuple[float, float]:
    """95% score interval of a binomial share (E. B. Wilson, JASA 22, 1927); `n` must not be 0."""
    share = passed / n
    centre = share + _Z**2 / (2 * n)
    half = _Z * sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    scale = 1 + _Z**2 / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def _cluster_bootstrap(clusters: Sequence[Sequence[bool]]) -> tuple[float, float]:
    """95% percentile interval of the share of successes when whole clusters are resampled."""
    passed = np.array([sum(cluster) for cluster in clusters])
    sizes = np.array([len(cluster) for cluster in clusters])
    draws = np.random.default_rng(0).integers(len(clusters), size=(_RESAMPLES, len(clusters)))
    shares = passed[draws].sum(axis=1) / sizes[draws].sum(axis=1)
    low, high = np.percentile(shares, [2.5, 97.5])
    return float(low), float(high)


def rate(outcomes: Sequence[tuple[Case, bool]]) -> Rate:
    """The share of passed cases with its interval.

    Cases of one group are paraphrases and tend to fail together, so where at least one group has
    two cases the interval is a bootstrap over groups; otherwise it is Wilson's. Where every case
    has the same outcome a bootstrap would have no width, so that, too, is Wilson's, over clusters.
    """
    clusters: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for case, ok in outcomes:
        clusters[("group", case.group) if case.group else ("case", case.id)].append(ok)
    n, passed = len(outcomes), sum(ok for _, ok in outcomes)
    if passed in (0, n) or len(clusters) == n:
        units = len(clusters)
        low, high = wilson(units if passed == n else passed, units)
        return Rate(n=n, strict=passed / n, low=low, high=high, method="wilson")
    low, high = _cluster_bootstrap(list(clusters.values()))
    return Rate(n=n, strict=passed / n, low=low, high=high, method="bootstrap")


def _groups(outcomes: Sequence[tuple[Case, bool]]) -> Groups:
    right: dict[str, bool] = {}
    for case, ok in outcomes:
        if case.group is not None:
            right[case.group] = right.get(case.group, True) and ok
    return Groups(n=len(right), all_right=sum(right.values()))


def _latency(predictions: Sequence[Prediction]) -> Latency | None:
    seconds = [p.seconds for p in predictions if p.seconds is not None]
    if not seconds:
        return None
    p50, p95 = np.percentile(seconds, [50, 95])
    return Latency(n=len(seconds), p50=float(p50), p95=float(p95))


def _by_id(cases: Sequence[Case], predictions: Sequence[Prediction]) -> dict[str, Prediction]:
    known = {case.id for case in cases}
    given: dict[str, Prediction] = {}
    for prediction in predictions:
        if prediction.id not in known:
            raise BadInput(f"prediction {prediction.id!r}: there is no such case.")
        if prediction.id in given:
            raise BadInput(f"prediction {prediction.id!r} occurs twice.")
        given[prediction.id] = prediction
    return given


def score(cases: Sequence[Case], predictions: Sequence[Prediction]) -> Score:
    """Score `predictions` against `cases` (at least one).

    Raises:
        BadInput: a prediction's id is not a case's, or occurs twice.
    """
    given = _by_id(cases, predictions)
    verdicts: dict[str, Verdict] = {case.id: judge(case, given.get(case.id)) for case in cases}
    outcomes = [(case, verdicts[case.id].passed) for case in cases]
    tagged: dict[str, list[tuple[Case, bool]]] = defaultdict(list)
    for case, ok in outcomes:
        for tag in dict.fromkeys(case.tags):
            tagged[tag].append((case, ok))
    failures = {name: verdict.code for name, verdict in verdicts.items() if verdict.code}
    counts = Counter(failures.values())
    overall = rate(outcomes)
    return Score(
        n=overall.n,
        strict=overall.strict,
        passed=[case.id for case, ok in outcomes if ok],
        interval=overall,
        by_tag={tag: rate(tagged[tag]) for tag in sorted(tagged)},
        groups=_groups(outcomes),
        failures=failures,
        details={name: verdicts[name].detail for name in failures},
        codes={code: counts[code] for code in FAILURE_CODES if counts[code]},
        latency=_latency(predictions),
    )


def _predict(case: Case, plan: PlanOnce) -> Prediction:
    """One case's prediction; a planner that fails costs its case and not the run."""
    start = time.perf_counter()
    calls: list[JsonValue] = []
    try:
        planned = plan(case.instruction, case.history)
        calls, error = list(planned.calls), planned.error
    except Exception as failure:  # noqa: BLE001 - whatever a planner raises is its case's result
        error = f"{type(failure).__name__}: {failure}"
    seconds = time.perf_counter() - start
    return Prediction(id=case.id, calls=calls, seconds=seconds, error=error)


def predict(cases: Iterable[Case], plan: PlanOnce, out: Path) -> list[Prediction]:
    """Plan every case, in order, and write each prediction to `out` as soon as it is there.

    Args:
        cases: what to plan.
        plan: the planner.
        out: JSON lines file; it is replaced.

    Raises:
        BadInput: `out` can't be written.
    """
    predictions = []
    try:
        with out.open("w", encoding="utf-8") as stream:
            for case in cases:
                prediction = _predict(case, plan)
                stream.write(prediction.model_dump_json() + "\n")
                stream.flush()
                predictions.append(prediction)
    except OSError as error:
        raise BadInput(f"{out}: can't be written ({error.strerror}).") from error
    return predictions


def _percent(value: float) -> str:
    return f"{100 * value:.1f}%"


def _rate_row(name: str, value: Rate) -> tuple[str, str, str, str, str]:
    interval = f"{_percent(value.low)} to {_percent(value.high)}"
    return name, str(value.n), _percent(value.strict), interval, value.method


def show(result: Score, console: Console) -> None:
    """Print the score: strict overall and by tag, groups, failure codes, latency."""
    table = Table(title="Tool calls, strict")
    for column in ("cases", "n", "right", "95% interval", "method"):
        table.add_column(column, justify="left" if column in ("cases", "method") else "right")
    table.add_row(*_rate_row("all", result.interval), end_section=True)
    for tag, value in result.by_tag.items():
        table.add_row(*_rate_row(escape(tag), value))
    console.print(table)
    if result.groups.n:
        console.print(f"Groups all right: {result.groups.all_right} of {result.groups.n}")
    if result.codes:
        codes = ", ".join(f"{code} {count}" for code, count in result.codes.items())
        console.print(f"Failures: {codes}", soft_wrap=True)
    if result.latency:
        latency = result.latency
        console.print(f"Planning: p50 {latency.p50:.3f} s, p95 {latency.p95:.3f} s a case")
