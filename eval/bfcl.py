"""Where our matcher and BFCL's part, and which of the two is right: `python -m eval crosscheck`.

`bfcl_passes` follows the published rules of the Berkeley Function-Calling Leaderboard (Patil et
al., ICML 2025; `bfcl-eval` 2026.3.23, `ast_checker.py`) as far as they bear on calls with texts:
expected calls are taken one after the other, each takes the first call left that fits it; texts
are compared without spaces and `,./-_*^`, in lower case; a reference is a text like any other; and
where no call is expected, whatever can't be decoded as one is right.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

from pydantic import JsonValue

from eval.cases import AcceptedPlan, Call, Case, Prediction
from eval.matching import judge
from eval.mutations import MUTATIONS, Given, as_case
from eval.pages import Section
from eval.signatures import REFERENCE

_IGNORED = re.compile(r"[ ,./\-_*^]")


def standardise(text: str) -> str:
    """BFCL's normal form of a text."""
    return _IGNORED.sub("", text).lower().replace("'", '"')


def _accepts(expected: Call, tool: object, args: dict[str, JsonValue]) -> bool:
    """BFCL's `simple_function_checker`; null is an argument that was not given."""
    given = {name: value for name, value in args.items() if value is not None}
    wanted = {
        name: value if isinstance(value, list) else [value]
        for name, value in expected.args.items()
        if value is not None
    }
    if tool != expected.tool or not given.keys() <= wanted.keys():
        return False
    if any(name not in given and None not in values for name, values in wanted.items()):
        return False
    return all(
        isinstance(value, str)
        and standardise(value) in {standardise(str(v)) for v in wanted[name] if v is not None}
        for name, value in given.items()
    )


def _plan_passes(plan: AcceptedPlan, calls: Sequence[JsonValue]) -> bool:
    """BFCL's `parallel_function_checker_no_order`; a reply is no call (`irrelevance`)."""
    given: list[Any] = [c for c in calls if isinstance(c, dict) and c.get("tool") != "reply"]
    if plan.calls[0].tool == "reply":
        return not given
    if len(given) != len(plan.calls):
        return False
    for expected in plan.calls:
        fits = (i for i, c in enumerate(given) if _accepts(expected, c["tool"], c["args"]))
        first = next(fits, None)
        if first is None:
            return False
        del given[first]
    return True


def bfcl_passes(case: Case, prediction: Prediction) -> bool:
    """Whether BFCL's rules take the prediction for right."""
    calls = [] if prediction.error else prediction.calls
    return any(_plan_passes(plan, calls) for plan in case.expect.plans)


class Probe(NamedTuple):
    """An expected plan, a prediction, and what the verdict has to be, by the contract.

    Attributes:
        name: what it shows.
        expected: accepted calls.
        given: predicted calls; None is an output that could not be read.
        right: whether the prediction is right.
    """

    name: str
    expected: list[dict[str, Any]]
    given: list[dict[str, Any]] | None
    right: bool


def _segment(*targets: str) -> dict[str, Any]:
    return {"tool": "segment", "args": {"target": list(targets)}}


def _one(target: str) -> dict[str, Any]:
    return {"tool": "segment", "args": {"target": target}}


def _count(cell: str, within: str | None = None) -> dict[str, Any]:
    return {"tool": "count_nuclei", "args": {"cell_type": cell, "within": within}}


def _reply(kind: str) -> dict[str, Any]:
    return {"tool": "reply", "args": {"kind": kind, "text": "..."}}


_TWO_REGIONS = [_segment("tumor"), _segment("stroma"), _count("lymphocyte", "$1")]
PROBES = (
    Probe("the plan itself", [_segment("tumor")], [_one("tumor")], True),
    Probe("another target", [_segment("tumor")], [_one("stroma")], False),
    Probe("a missing call", [_segment("tumor"), _segment("fat")], [_one("tumor")], False),
    Probe("a call too many", [_segment("tumor")], [_one("tumor"), _one("fat")], False),
    Probe(
        "the first call fits both, the second only one",
        [_segment("tumor", "stroma"), _segment("tumor")],
        [_one("tumor"), _one("stroma")],
        True,
    ),
    Probe("a plural", [_count("lymphocyte")], [_count("lymphocytes")], True),
    Probe("British spelling", [_segment("tumor")], [_one("tumour")], True),
    Probe("a decimal point lost", [_segment("2.5 mm focus")], [_one("25 mm focus")], False),
    Probe(
        "other order, references follow",
        _TWO_REGIONS,
        [_one("stroma"), _one("tumor"), _count("lymphocyte", "$2")],
        True,
    ),
    Probe(
        "other order, the reference stays behind",
        _TWO_REGIONS,
        [_one("stroma"), _one("tumor"), _count("lymphocyte", "$1")],
        False,
    ),
    Probe("a refusal", [_reply("decline")], [_reply("decline")], True),
    Probe("a question in place of a refusal", [_reply("decline")], [_reply("clarify")], False),
    Probe("unreadable in place of a refusal", [_reply("decline")], None, False),
)


class Line(NamedTuple):
    """How often each matcher's verdict was the right one, of `n` times."""

    name: str
    n: int
    ours: int
    bfcl: int

    def plus(self, ours: bool, bfcl: bool) -> Line:
        """With one more verdict of each."""
        return Line(self.name, self.n + 1, self.ours + ours, self.bfcl + bfcl)


def probe(item: Probe) -> Line:
    """Put one probe to both matchers."""
    case = Case.model_validate({"id": "p", "instruction": "i", "expect": {"calls": item.expected}})
    error = "not JSON" if item.given is None else None
    prediction = Prediction(id="p", calls=list(item.given or []), error=error)
    ours = judge(case, prediction).passed == item.right
    return Line(item.name, 1, ours, bfcl_passes(case, prediction) == item.right)


def expressible(given: Given) -> bool:
    """Whether BFCL's rules have words for a plan: calls without references, and no reply."""
    values = [value for call in given.calls for value in call["args"].values()]
    replies = any(call["tool"] == "reply" for call in given.calls)
    return not replies and not any(REFERENCE.fullmatch(str(value)) for value in values)


def on_mutants(plans: Iterable[Given]) -> Iterator[tuple[Line, Line]]:
    """Both matchers on every mutant (see `eval.mutations`), by mutation.

    Of each two lines the first is of the mutants of plans that BFCL can express, the second of all.
    """
    lines: dict[str, tuple[Line, Line]] = {}
    for given in plans:
        case, plain = as_case(given), expressible(given)
        for mutant in chain.from_iterable(mutate(given) for mutate in MUTATIONS):
            prediction = Prediction(id=case.id, calls=list(mutant.calls))
            right = mutant.code is None
            verdicts = (
                judge(case, prediction).passed == right,
                bfcl_passes(case, prediction) == right,
            )
            none = Line(mutant.kind, 0, 0, 0)
            few, every = lines.get(mutant.kind, (none, none))
            lines[mutant.kind] = (few.plus(*verdicts) if plain else few, every.plus(*verdicts))
    yield from lines.values()


def sections(probes: Iterable[Line], mutants: Iterable[tuple[Line, Line]]) -> Iterator[Section]:
    """Our matcher beside BFCL's."""
    words = {True: "right", False: "wrong"}
    yield Section(
        "Probes",
        "Printed by `python -m eval crosscheck`. Each probe is an expected plan and a prediction "
        "whose verdict the contract settles.",
        [
            ("probe", "our verdict", "BFCL's verdict"),
            *((it.name, words[bool(it.ours)], words[bool(it.bfcl)]) for it in probes),
        ],
    )
    yield Section(
        "Mutants of random plans",
        "How often each verdict was right. First on the plans that BFCL's rules can express, "
        "without references and replies: there both are right, and what tells them apart is in the "
        "probes. Then on all: BFCL has no call for a refusal, so where one is expected, an empty "
        "plan, two replies or a question pass; and it compares a reference as a text, so a plan in "
        "another order fails.",
        [
            ("mutation", "expressible", "ours", "BFCL's", "all", "ours", "BFCL's"),
            *(
                (few.name, *(str(n) for line in (few, every) for n in line[1:]))
                for few, every in mutants
            ),
        ],
    )
