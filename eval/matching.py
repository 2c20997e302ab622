"""Is a predicted plan one of the accepted ones, and if not, what is the matter with it?

A plan matches when there is a one-to-one match of its calls with the expected ones under which
every argument agrees and every reference points to the matched call. The search is exact: a greedy
matcher (as in BFCL) gives `{1, 2}` to the first of two calls and then has nothing left for `{1}`.
Texts are compared after `models.ontology.normalise` only: nothing else is stripped from them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import JsonValue
from scipy.optimize import linear_sum_assignment

from eval.cases import Call, Case, Prediction
from eval.signatures import SIGNATURES, plan_problem, reference_number
from eval.verdict import FAILURE_CODES, LAYERS, FailureCode, Verdict
from models.ontology import normalise

_GROSS = frozenset((*LAYERS["decision"], *LAYERS["tools"]))


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


_Pairs = list[tuple[_Node | None, _Node | None]]
_Known = Mapping[Hashable, list[int]]
"""The numbers of every call of the thread, the predicted ones too, by what they ask for."""


def _beside(expected: list[_Node], predicted: list[_Node], base: int) -> _Pairs:
    """The two plans side by side as well as they fit; None where a call has no partner."""
    if not predicted:
        return [(want, None) for want in expected]
    candidates = _candidates(expected, predicted, base, {})
    scores = [[_similarity(want, got, base, candidates) for got in predicted] for want in expected]
    rows, columns = linear_sum_assignment(np.array(scores), maximize=True)
    pairs: _Pairs = [
        (expected[row], predicted[column]) for row, column in zip(rows, columns, strict=True)
    ]
    pairs += [(want, None) for row, want in enumerate(expected) if row not in rows]
    return pairs + [(None, got) for column, got in enumerate(predicted) if column not in columns]


def _what(node: _Node) -> Hashable:
    """What a call asks for, whatever its number."""
    return node.tool, tuple(node.texts.items()), tuple(node.references.items())


def _unneeded(got: _Node, known: _Known) -> _Difference:
    """A call without a partner: a repetition of another call of the thread, or simply too many."""
    other = next((number for number in known[_what(got)] if number != got.number), None)
    if other is None:
        return _Difference("extra_call", f"call ${got.number} ({got.tool}) is not needed")
    return _Difference("duplicate_call", f"call ${got.number} repeats ${other}")


def _differences(pairs: _Pairs, base: int, known: _Known) -> list[_Difference]:
    """Where the two plans differ."""
    want, got = pairs[0]
    if want and got and (want.tool == "reply") != (got.tool == "reply"):
        code: FailureCode = "unexpected_reply" if got.tool == "reply" else "missing_reply"
        return [_Difference(code, f"{got.tool}, not {want.tool}")]
    matched = {(want.number, got.number) for want, got in pairs if want and got}
    found = []
    for want, got in pairs:
        if want and got:
            found += _pair_differences(want, got, base, matched)
        elif want:
            missing = f"no call for {want.tool} (expected ${want.number})"
            found.append(_Difference("missing_call", missing))
        elif got:
            found.append(_unneeded(got, known))
    return found


def _distance(differences: list[_Difference]) -> int:
    return sum(3 if difference.code in _GROSS else 1 for difference in differences)


def judge_calls(case: Case, calls: Sequence[JsonValue]) -> Verdict:
    """Judge a plan, given as the planner gave it, against the accepted plans of `case`."""
    problem = plan_problem(calls, case.thread)
    if problem:
        return Verdict(passed=False, code=problem.code, detail=problem.text)
    base = len(case.thread)
    predicted = _nodes([Call.model_validate(call) for call in calls], base)
    accepted = [_nodes(plan.calls, base) for plan in case.expect.plans]
    equal = [expected for expected in accepted if len(expected) == len(predicted)]
    if any(_matches(expected, predicted, base, {}) for expected in equal):
        in_place = {node.number: node.number for node in predicted}
        ordered = any(_matches(expected, predicted, base, in_place) for expected in equal)
        same = tuple((node.tool, node.tool) for node in predicted)
        return Verdict(passed=True, ordered=ordered, tools=same)
    earlier = [call for turn in case.history for call in turn.calls]
    known: defaultdict[Hashable, list[int]] = defaultdict(list)
    for node in (*_nodes(earlier, 0), *predicted):
        known[_what(node)].append(node.number)
    compared = [_beside(expected, predicted, base) for expected in accepted]
    closest = min(compared, key=lambda pairs: _distance(_differences(pairs, base, known)))
    worst = min(
        _differences(closest, base, known), key=lambda found: FAILURE_CODES.index(found.code)
    )
    tools = tuple((want.tool if want else None, got.tool if got else None) for want, got in closest)
    return Verdict(passed=False, code=worst.code, detail=worst.detail, tools=tools)


def judge(case: Case, prediction: Prediction | None) -> Verdict:
    """Judge what a planner gave for `case`; None is a prediction that is not there."""
    if prediction is None:
        return Verdict(passed=False, code="no_prediction", detail="there is no prediction")
    if prediction.unavailable:
        return Verdict(passed=False, code="unavailable", detail=prediction.error or "")
    if prediction.error is not None:
        return Verdict(passed=False, code="not_parsed", detail=prediction.error)
    return judge_calls(case, prediction.calls)
