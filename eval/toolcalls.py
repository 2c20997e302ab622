"""Run a planner over cases, and score predictions."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from eval.cases import Case, Prediction, Turn
from eval.guardrails import guardrails
from eval.matching import judge
from eval.stats import PassK, Rate, pass_k, rate
from eval.verdict import FAILURE_CODES, LAYERS, UNSCORED, FailureCode, Verdict
from tools.errors import BadInput


@dataclass(frozen=True)
class Planned:
    """What one planning gives.

    Attributes:
        calls: the plan, `{"tool": ..., "args": {...}}` a call, null arguments included.
        error: one line that says why there is no plan, or None.
        unavailable: whether that is because the planner itself could not be reached.
    """

    calls: Sequence[dict[str, Any]]
    error: str | None = None
    unavailable: bool = False


PlanOnce = Callable[[str, Sequence[Turn]], Planned]
"""Plans one instruction, given the thread's earlier turns."""


class Groups(BaseModel):
    """Groups of cases that mean the same: how many there are, and how many are right throughout.

    `pass_k` takes the cases of a group for trials of one.
    """

    model_config = ConfigDict(frozen=True)

    n: int
    all_right: int
    pass_k: list[PassK]


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
        ordered: how many of the passed also keep the accepted plan's order.
        layers: how many cases get through each of `eval.verdict.LAYERS` and all before it.
        by_tag: `interval` for the cases of each tag.
        groups: groups all right.
        guardrails: the figures of `eval.guardrails`.
        failures: id to code, for each case that failed.
        details: id to one line that says what differs.
        codes: how many failures there are of each code.
        confusion: expected tool to given tool to number of calls; `none` is a missing or an extra
            call. Only plans that could be read.
        latency: planning time, or None where no prediction states it.
    """

    n: int
    strict: float
    passed: list[str]
    interval: Rate
    ordered: int
    layers: dict[str, int]
    by_tag: dict[str, Rate]
    groups: Groups
    guardrails: dict[str, Rate]
    failures: dict[str, FailureCode]
    details: dict[str, str]
    codes: dict[FailureCode, int]
    confusion: dict[str, dict[str, int]]
    latency: Latency | None


def _groups(cases: Sequence[Case], verdicts: Mapping[str, Verdict]) -> Groups:
    members: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        if case.group is not None:
            members[case.group].append(case)
    trials = [
        (group[0], [verdicts[c.id].passed for c in group if verdicts[c.id].code not in UNSCORED])
        for group in members.values()
    ]
    right = sum(all(verdicts[case.id].passed for case in group) for group in members.values())
    return Groups(n=len(members), all_right=right, pass_k=pass_k(trials))


def _layers(verdicts: Iterable[Verdict]) -> dict[str, int]:
    codes = [verdict.code for verdict in verdicts]
    left = len(codes)
    through = {}
    for layer, stopping in LAYERS.items():
        left -= sum(code in stopping for code in codes)
        through[layer] = left
    return through


def _confusion(verdicts: Iterable[Verdict]) -> dict[str, dict[str, int]]:
    counts = Counter(pair for verdict in verdicts for pair in verdict.tools)
    table: dict[str, dict[str, int]] = defaultdict(dict)
    for (want, got), count in sorted(counts.items(), key=str):
        table[want or "none"][got or "none"] = count
    return dict(table)


def _latency(predictions: Sequence[Prediction]) -> Latency | None:
    seconds = [p.seconds for p in predictions if p.seconds is not None]
    if not seconds:
        return None
    p50, p95 = np.percentile(seconds, [50, 95])
    return Latency(n=len(seconds), p50=float(p50), p95=float(p95))


def by_id(cases: Sequence[Case], predictions: Sequence[Prediction]) -> dict[str, Prediction]:
    """The predictions by the case that they are for.

    Raises:
        BadInput: a prediction's id is not a case's, or occurs twice.
    """
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
    given = by_id(cases, predictions)
    verdicts = {case.id: judge(case, given.get(case.id)) for case in cases}
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
        ordered=sum(verdict.ordered for verdict in verdicts.values()),
        layers=_layers(verdicts.values()),
        by_tag={tag: rate(tagged[tag]) for tag in sorted(tagged)},
        groups=_groups(cases, verdicts),
        guardrails=guardrails(cases, given, verdicts),
        failures=failures,
        details={name: verdicts[name].detail for name in failures},
        codes={code: counts[code] for code in FAILURE_CODES if counts[code]},
        confusion=_confusion(verdicts.values()),
        latency=_latency(predictions),
    )


def plan_case(case: Case, plan: PlanOnce) -> Prediction:
    """One case's prediction; a planner that fails costs its case and not the run."""
    start = time.perf_counter()
    try:
        planned = plan(case.instruction, case.history)
        given = Prediction(id=case.id, **vars(planned))
        prediction_line(given)
    except Exception as failure:  # noqa: BLE001 - whatever a planner raises is its case's result
        said = f"{type(failure).__name__}: {failure}".encode("utf-8", "replace").decode()
        given = Prediction(id=case.id, calls=[], error=said)
    return given.model_copy(update={"seconds": time.perf_counter() - start})


def prediction_line(prediction: Prediction) -> str:
    """A prediction as the contract's line; `unavailable` stands in it only where it is true."""
    plain = None if prediction.unavailable else {"unavailable"}
    return prediction.model_dump_json(exclude=plain) + "\n"


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
                prediction = plan_case(case, plan)
                stream.write(prediction_line(prediction))
                stream.flush()
                predictions.append(prediction)
    except OSError as error:
        raise BadInput(f"{out}: can't be written ({error.strerror}).") from error
    return predictions
