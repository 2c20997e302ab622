"""Real runs against cases: what was planned, and what of it was carried out.

A trace belongs to the case that has its instruction and its thread. Several traces of one case are
trials of it. A plan can be right and yet not be carried out, so both are counted.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from agent.record.trace import EVENTS_FILE, Trace, read_trace
from eval.cases import Case, Prediction
from eval.matching import judge
from eval.pages import Section, counted, pass_k_section
from eval.stats import PassK, pass_k
from eval.verdict import UNSCORED, FailureCode
from tools.errors import BadInput


@dataclass(frozen=True)
class Run:
    """A recorded turn.

    Attributes:
        folder: its trace's, for people.
        planner: the planner's name.
        key: the instruction and the thread before it; equal for a case and its runs.
        prediction: what was planned, without the case's id; None where the trace ends before.
        status: how the turn ended; `broken off` where it did not.
        undone: for each planned call that gave no output, the code of its error or `not run`.
    """

    folder: str
    planner: str
    key: str
    prediction: Prediction | None
    status: str
    undone: tuple[str, ...]


class TraceScore(BaseModel):
    """Runs against cases, for one planner.

    Attributes:
        runs: that belong to a case.
        unscored: of those, the ones without a plan to judge.
        pass_k: the chance that k runs of a case are all planned right.
        codes: failure codes of the plans that are wrong.
        carried_out: runs by whether the plan was right and whether every call gave an output.
        undone: calls without an output, by the code of the error, or `not run`.
        statuses: how the runs ended.
    """

    model_config = ConfigDict(frozen=True)

    runs: int
    unscored: int
    pass_k: list[PassK]
    codes: dict[FailureCode, int]
    carried_out: dict[str, int]
    undone: dict[str, int]
    statuses: dict[str, int]


class TraceReport(BaseModel):
    """Every trace of a folder against the cases.

    Attributes:
        planners: the score of each planner's runs.
        no_case: traces that belong to no case.
        unreadable: what could not be read as a trace of one turn, and why.
    """

    model_config = ConfigDict(frozen=True)

    planners: dict[str, TraceScore]
    no_case: list[str]
    unreadable: dict[str, str]


def _key(instruction: str, history: Sequence[dict[str, Any]]) -> str:
    """The thread and the instruction without what is not compared: nulls, a reply's words."""
    turns = [
        [
            turn["instruction"].strip(),
            [
                [call["tool"], {k: v for k, v in call["args"].items() if k != "text" and v}]
                for call in turn["calls"]
            ],
        ]
        for turn in history
    ]
    return json.dumps([instruction.strip(), turns], sort_keys=True)


def _undone(trace: Trace, planned: Sequence[str]) -> Iterator[str]:
    ended = {event.data["call"]: event.data for event in trace.all("call.end")}
    for ref in planned:
        if ref not in ended:
            yield "not run"
        elif ended[ref]["error"] is not None:
            yield str(ended[ref]["error"]["code"])


def _status(trace: Trace) -> str:
    ends = [event for event in trace.events if event.event in ("run.end", "run.pause")]
    if not ends:
        return "failed" if trace.all("run.error") else "broken off"
    return str(ends[-1].data["status"])


def read_run(trace: Trace) -> Run:
    """What a trace says about its turn.

    Raises:
        BadInput: the trace was changed, has no header, or another shape than ours.
    """
    if trace.damage and not trace.torn:
        raise BadInput(trace.damage)
    start = trace.start()
    ends = trace.all("plan.end")
    prediction, planned = None, []
    try:
        key = _key(start["instruction"], start["history"])
        if ends:
            data = ends[-1].data
            plan = data["plan"] or {"calls": [], "first": 1}
            calls = plan["calls"]
            if not calls or calls[0]["tool"] != "reply":
                planned = [f"${plan['first'] + i}" for i in range(len(calls))]
            prediction = Prediction(
                id="",
                calls=calls,
                seconds=ends[-1].meta.get("seconds"),
                error=data["error"],
                unavailable=data["unavailable"],
            )
        return Run(
            folder=str(trace.folder),
            planner=str(start["planner"]["name"]),
            key=key,
            prediction=prediction,
            status=_status(trace),
            undone=tuple(_undone(trace, planned)),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BadInput(f"not the record of a turn ({type(error).__name__}: {error})") from error


def _score(cases: Sequence[Case], runs: Sequence[Run]) -> TraceScore:
    by_key: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_key[run.key].append(run)
    codes: Counter[FailureCode] = Counter()
    carried: Counter[str] = Counter()
    trials: list[tuple[Case, list[bool]]] = []
    unscored = 0
    for case in cases:
        passes = []
        for run in by_key.get(case_key(case), ()):
            verdict = judge(case, run.prediction)
            if verdict.code in UNSCORED:
                unscored += 1
                continue
            passes.append(verdict.passed)
            plan = "right plan" if verdict.passed else "wrong plan"
            carried[f"{plan}, {'not ' if run.undone else ''}carried out"] += 1
            if verdict.code:
                codes[verdict.code] += 1
        trials.append((case, passes))
    return TraceScore(
        runs=len(runs),
        unscored=unscored,
        pass_k=pass_k(trials),
        codes=dict(codes.most_common()),
        carried_out=dict(sorted(carried.items())),
        undone=dict(Counter(code for run in runs for code in run.undone).most_common()),
        statuses=dict(Counter(run.status for run in runs).most_common()),
    )


def case_key(case: Case) -> str:
    """What a case and its runs have in common."""
    return _key(case.instruction, [turn.model_dump() for turn in case.history])


def score_traces(cases: Sequence[Case], folder: Path) -> TraceReport:
    """Score every trace below `folder`, by planner.

    Raises:
        BadInput: there is no such folder, or no trace in it.
    """
    files = sorted(folder.rglob(EVENTS_FILE))
    if not files:
        raise BadInput(f"{folder}: there is no trace in it.")
    known = {case_key(case) for case in cases}
    planners: dict[str, list[Run]] = defaultdict(list)
    no_case: list[str] = []
    unreadable: dict[str, str] = {}
    for file in files:
        name = str(file.parent.relative_to(folder))
        try:
            run = read_run(read_trace(file))
        except BadInput as error:
            unreadable[name] = str(error)
            continue
        if run.key in known:
            planners[run.planner].append(run)
        else:
            no_case.append(name)
    scores = {name: _score(cases, runs) for name, runs in sorted(planners.items())}
    return TraceReport(planners=scores, no_case=no_case, unreadable=unreadable)


def sections(report: TraceReport) -> Iterator[Section]:
    """Real runs, by planner."""
    for name, it in report.planners.items():
        text = [f"{it.runs} runs, {it.unscored} unscored.", f"Ended: {counted(it.statuses)}."]
        text += [f"Failures: {counted({str(k): n for k, n in it.codes.items()})}."] * bool(it.codes)
        text += [f"Runs by plan and result: {counted(it.carried_out)}."] * bool(it.carried_out)
        text += [f"Calls without an output: {counted(it.undone)}."] * bool(it.undone)
        part = pass_k_section(f"Planner {name}", "cases", it.pass_k)
        yield Section(part.title, " ".join(text), part.table)
    left = [(name, "belongs to no case") for name in report.no_case]
    left += list(report.unreadable.items())
    if left:
        yield Section("Traces left out", "", [("trace", "why"), *left])
