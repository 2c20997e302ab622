"""Is a predicted plan one of the accepted ones, and if not, what is the matter with it?

A plan matches when there is a one-to-one match of its calls with the expected ones under which
every argument agrees and every reference points to the matched call. The search is exact: a greedy
matcher (as in BFCL) gives `{1, 2}` to the first of two calls and then has nothing left for `{1}`.
Texts are compared after `models.ontology.normalise` only: nothing else is stripped from them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, JsonValue
from scipy.optimize import linear_sum_assignment

from eval.cases import SIGNATURES, Call, Case, Prediction, plan_problem, reference_number
from models.ontology import normalise

FailureCode = Literal[
    "no_prediction",
    "not_parsed",
    "invalid_call",
    "missing_call",
    "extra_call",
    "wrong_tool",
    "wrong_argument",
    "wrong_reference",
    "wrong_kind",
]
FAILURE_CODES: tuple[FailureCode, ...] = get_args(FailureCode)
"""From the grossest failure to the finest; the first that applies is a plan's code."""

_GROSS = frozenset({"missing_call", "extra_call", "wrong_tool"})


class Verdict(BaseModel):
    """The judgement of one plan.

    Attributes:
        passed: whether it is one of the accepted plans.
        code: for a failure, the first of `FAILURE_CODES` that applies against the closest
            accepted plan.
        detail: one line that says what differs; empty for a pass.
    """

    model_config = ConfigDict(frozen=True)

    passed: bool
    code: FailureCode | None = None
    detail: str = ""


@dataclass(frozen=True)
class _Node:
    """A call as the matcher sees it.

    Attributes:
        number: its absolute number in the thread.
        tool: its tool.
        texts: the accepted values of each compared argument, normalised (one value if predicted).
        references: absolute number of the call that each reference argument names, or None.
    """

    number: int
    tool: str
    texts: dict[str, frozenset[str | None]]
    references: dict[str, int | None]


@dataclass(frozen=True)
class _Difference:
    code: FailureCode
    detail: str


def _accepted(value: JsonValue) -> frozenset[str | None]:
    values = value if isinstance(value, list) else [value]
    return frozenset(None if item is None else normalise(str(item)) for item in values)


def _node(call: Call, number: int) -> _Node:
    texts: dict[str, frozenset[str | None]] = {}
    references: dict[str, int | None] = {}
    for name, arg in SIGNATURES[call.tool].items():
        value = call.args.get(name)
        if arg.role == "text":
            texts[name] = _accepted(value)
        elif arg.role == "kind":
            texts[name] = frozenset({str(value)})
        elif arg.role == "reference":
            references[name] = reference_number(value) if isinstance(value, str) else None
    return _Node(number, call.tool, texts, references)


def _nodes(calls: Sequence[Call], base: int) -> list[_Node]:
    return [_node(call, base + position) for position, call in enumerate(calls, start=1)]


def _texts_agree(expected: _Node, predicted: _Node) -> bool:
    return expected.tool == predicted.tool and all(
        predicted.texts[name] <= accepted for name, accepted in expected.texts.items()
    )


def _reference_agrees(
    expected: int | None, predicted: int | None, base: int, pairs: set[tuple[int, int]]
) -> bool:
    """Whether two references name the same call: by number in the history, else by `pairs`."""
    if expected is None or predicted is None or expected <= base:
        return expected == predicted
    return (expected, predicted) in pairs


def _references_agree(
    expected: _Node, predicted: _Node, base: int, pairs: set[tuple[int, int]]
) -> bool:
    return all(
        _reference_agrees(number, predicted.references[name], base, pairs)
        for name, number in expected.references.items()
    )


def _candidates(
    expected: list[_Node], predicted: list[_Node], base: int, fixed: Mapping[int, int]
) -> set[tuple[int, int]]:
    """Pairs of call numbers that can still be matched when the pairs `fixed` are.

    A pair's texts must agree, and its references must lead to pairs that can be matched themselves.
    References point backwards, so one pass in order settles every pair.
    """
    taken = set(fixed.values())
    pairs: set[tuple[int, int]] = set()
    for want in expected:
        for got in predicted:
            if want.number in fixed:
                free = fixed[want.number] == got.number
            else:
                free = got.number not in taken
            if free and _texts_agree(want, got) and _references_agree(want, got, base, pairs):
                pairs.add((want.number, got.number))
    return pairs


def _matches(
    expected: list[_Node], predicted: list[_Node], base: int, fixed: Mapping[int, int]
) -> bool:
    """Whether the pairs `fixed` extend to a match of the two plans, which are equally long.

    Backtracks in dependency order. At each step a bipartite matching of what is left bounds the
    search: it alone decides plans without references, and with them it fails as soon as a choice
    leaves a call's consumers without a partner.
    """
    candidates = _candidates(expected, predicted, base, fixed)
    grid = np.array([[(w.number, g.number) in candidates for g in predicted] for w in expected])
    rows, columns = linear_sum_assignment(grid, maximize=True)
    if not grid[rows, columns].all():
        return False
    open_calls = [want.number for want in expected if want.number not in fixed]
    return not open_calls or any(
        _matches(expected, predicted, base, {**fixed, open_calls[0]: got.number})
        for got in predicted
        if (open_calls[0], got.number) in candidates
    )


def _similarity(want: _Node, got: _Node, base: int, candidates: set[tuple[int, int]]) -> float:
    """How alike two calls are: the tool first, then the texts, then where the references lead."""
    if want.tool != got.tool:
        return 0.0
    score = 8.0 + sum(3.0 for name, texts in want.texts.items() if got.texts[name] <= texts)
    return score + sum(
        1.0
        for name, number in want.references.items()
        if _reference_agrees(number, got.references[name], base, candidates)
    )


def _pair_differences(
    want: _Node, got: _Node, base: int, pairs: set[tuple[int, int]]
) -> list[_Difference]:
    """What differs between two calls that were put side by side."""
    here = f"call ${got.number}"
    if want.tool != got.tool:
        return [_Difference("wrong_tool", f"{here} is {got.tool}, not {want.tool}")]
    found = []
    for name, accepted in want.texts.items():
        if not got.texts[name] <= accepted:
            code: FailureCode = "wrong_kind" if want.tool == "reply" else "wrong_argument"
            wanted = " or ".join(sorted(repr(text) for text in accepted))
            (value,) = got.texts[name]
            found.append(_Difference(code, f"{here}: {name} is {value!r}, not {wanted}"))
    for name, number in want.references.items():
        actual = got.references[name]
        if not _reference_agrees(number, actual, base, pairs):
            wanted = "null" if number is None else f"the expected plan's ${number}"
            value = "null" if actual is None else f"${actual}"
            found.append(_Difference("wrong_reference", f"{here}: {name} is {value}, not {wanted}"))
    return found


def _differences(expected: list[_Node], predicted: list[_Node], base: int) -> list[_Difference]:
    """Lay the two plans side by side as well as they fit, and say where they differ."""
    if not predicted:
        return [_Difference("missing_call", "the plan has no call")]
    if (predicted[0].tool == "reply") != (expected[0].tool == "reply"):
        return [_Difference("wrong_tool", f"{predicted[0].tool}, not {expected[0].tool}")]
    candidates = _candidates(expected, predicted, base, {})
    scores = [[_similarity(want, got, base, candidates) for got in predicted] for want in expected]
    rows, columns = linear_sum_assignment(np.array(scores), maximize=True)
    beside = [(expected[row], predicted[column]) for row, column in zip(rows, columns, strict=True)]
    pairs = {(want.number, got.number) for want, got in beside}
    found = [d for want, got in beside for d in _pair_differences(want, got, base, pairs)]
    found += [
        _Difference("missing_call", f"no call for {node.tool} (expected ${node.number})")
        for row, node in enumerate(expected)
        if row not in rows
    ]
    found += [
        _Difference("extra_call", f"call ${node.number} ({node.tool}) is not needed")
        for column, node in enumerate(predicted)
        if column not in columns
    ]
    return found


def _distance(differences: list[_Difference]) -> int:
    return sum(3 if difference.code in _GROSS else 1 for difference in differences)


def judge_calls(case: Case, calls: Sequence[JsonValue]) -> Verdict:
    """Judge a plan, given as the planner gave it, against the accepted plans of `case`."""
    thread = case.thread
    problem = plan_problem(calls, thread)
    if problem:
        return Verdict(passed=False, code="invalid_call", detail=problem)
    base = len(thread)
    predicted = _nodes([Call.model_validate(call) for call in calls], base)
    accepted = [_nodes(plan.calls, base) for plan in case.expect.plans]
    if any(
        len(expected) == len(predicted) and _matches(expected, predicted, base, {})
        for expected in accepted
    ):
        return Verdict(passed=True)
    closest = min((_differences(expected, predicted, base) for expected in accepted), key=_distance)
    worst = min(closest, key=lambda difference: FAILURE_CODES.index(difference.code))
    return Verdict(passed=False, code=worst.code, detail=worst.detail)


def judge(case: Case, prediction: Prediction | None) -> Verdict:
    """Judge what a planner gave for `case`; None is a prediction that is not there."""
    if prediction is None:
        return Verdict(passed=False, code="no_prediction", detail="there is no prediction")
    if prediction.error is not None:
        return Verdict(passed=False, code="not_parsed", detail=prediction.error)
    return judge_calls(case, prediction.calls)
