"""The scorer tested by mutation: a right plan is spoilt in one way, and must fail for that reason.

A scorer is trusted for what it rejects. Each mutation of a valid plan has the code that the scorer
must give for it; `reorder` is the control, a change that must not count. A redirected reference
that leaves an equal plan (two equal calls, and the one takes the other's part) is found by trying
every permutation, independently of the matcher, and not used.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from eval.baselines import random_calls
from eval.cases import Call, Case
from eval.matching import judge_calls
from eval.pages import Section, counted
from eval.signatures import REPLY_KINDS, SIGNATURES
from eval.verdict import FailureCode

Calls = list[dict[str, Any]]
_NOWHERE = "somewhere else"  # a text that no plan has
_MOST_PERMUTED = 7  # calls; of more, trying every permutation takes too long


class Mutant(NamedTuple):
    """A spoilt plan and the code that it must get; None for one that is still right."""

    kind: str
    calls: Calls
    code: FailureCode | None


class Given(NamedTuple):
    """The plan to spoil, the calls of the turn before it (maybe none), and a source of choices."""

    calls: Calls
    earlier: Calls
    rng: random.Random

    @property
    def base(self) -> int:
        """How many calls the thread has before the plan."""
        return len(self.earlier)


def _is_reply(calls: Calls) -> bool:
    return bool(calls[0]["tool"] == "reply")


def _references(calls: Calls) -> list[tuple[int, str]]:
    """Where references stand: index of the call, name of the argument."""
    return [
        (index, name)
        for index, call in enumerate(calls)
        for name, value in call["args"].items()
        if value is not None and SIGNATURES[call["tool"]][name].role == "reference"
    ]


def _with(calls: Calls, index: int, name: str, value: str | None) -> Calls:
    """The plan with one argument changed."""
    changed = {**calls[index], "args": {**calls[index]["args"], name: value}}
    return [*calls[:index], changed, *calls[index + 1 :]]


def _renumber(calls: Calls, order: Sequence[int], base: int) -> Calls:
    """The calls of `order`, each reference following the call that it names; None if that went."""
    place = {f"${base + old + 1}": f"${base + new + 1}" for new, old in enumerate(order)}
    gone = {f"${base + n}" for n in range(1, len(calls) + 1)} - place.keys()
    moved = [calls[old] for old in order]
    for index, name in _references(moved):
        value = moved[index]["args"][name]
        moved = _with(moved, index, name, None if value in gone else place.get(value, value))
    return moved


def _equal(one: Calls, other: Calls, base: int) -> bool:
    orders = itertools.permutations(range(len(one)))
    return any(_renumber(one, order, base) == other for order in orders)


def _drop(given: Given) -> Iterator[Mutant]:
    calls, rng, base = given.calls, given.rng, given.base
    needed = {calls[i]["args"][name] for i, name in _references(calls) if name == "source"}
    free = [i for i in range(len(calls)) if f"${base + i + 1}" not in needed]
    out = rng.choice(free)
    kept = [i for i in range(len(calls)) if i != out]
    yield Mutant("drop", _renumber(calls, kept, base), "missing_call")


def _add(given: Given) -> Iterator[Mutant]:
    code: FailureCode = "reply_not_alone" if _is_reply(given.calls) else "extra_call"
    extra = {"tool": "segment", "args": {"target": _NOWHERE}}
    yield Mutant("add", [*given.calls, extra], code)


def _duplicate(given: Given) -> Iterator[Mutant]:
    code: FailureCode = "reply_not_alone" if _is_reply(given.calls) else "duplicate_call"
    known = [call for call in (*given.calls, *given.earlier) if call["tool"] != "reply"]
    again = given.calls[0] if _is_reply(given.calls) else given.rng.choice(known)
    yield Mutant("duplicate", [*given.calls, again], code)


def _swap(given: Given) -> Iterator[Mutant]:
    """Another tool in a call's place, of one that no other call refers to."""
    calls, rng = given.calls, given.rng
    named = {calls[i]["args"][name] for i, name in _references(calls)}
    at = rng.choice([i for i in range(len(calls)) if f"${given.base + i + 1}" not in named])
    other = {"segment": "target", "count_nuclei": "cell_type", "classify_tissue": "expected"}
    tool = rng.choice([tool for tool in other if tool != calls[at]["tool"]])
    swapped = {"tool": tool, "args": {other[tool]: _NOWHERE}}
    code: FailureCode = "missing_reply" if _is_reply(calls) else "wrong_tool"
    yield Mutant("swap", [*calls[:at], swapped, *calls[at + 1 :]], code)


def _refuse(given: Given) -> Iterator[Mutant]:
    if not _is_reply(given.calls):
        refusal = {"tool": "reply", "args": {"kind": "decline", "text": "No."}}
        yield Mutant("refuse", [refusal], "unexpected_reply")


def _perturb(given: Given) -> Iterator[Mutant]:
    calls, rng = given.calls, given.rng
    texts = [
        (index, name)
        for index, call in enumerate(calls)
        for name, arg in SIGNATURES[call["tool"]].items()
        if arg.role in ("text", "kind")
    ]
    if not texts:
        return
    index, name = rng.choice(texts)
    if name == "kind":
        others = [kind for kind in REPLY_KINDS if kind != calls[index]["args"]["kind"]]
        yield Mutant("perturb", _with(calls, index, name, rng.choice(others)), "wrong_kind")
    else:
        yield Mutant("perturb", _with(calls, index, name, _NOWHERE), "wrong_argument")


def _redirect(given: Given) -> Iterator[Mutant]:
    """A reference to another call that it may name, to none, and to the call itself."""
    calls, rng, base = given.calls, given.rng, given.base
    places = _references(calls)
    if not places or len(calls) > _MOST_PERMUTED:
        return
    index, name = rng.choice(places)
    arg = SIGNATURES[calls[index]["tool"]][name]
    tools = [call["tool"] for call in (*given.earlier, *calls)]
    earlier = enumerate(tools[: base + index], start=1)
    targets: list[str | None] = [f"${n}" for n, tool in earlier if tool in arg.producers]
    targets += [] if arg.required else [None]
    for target in targets:
        mutant = _with(calls, index, name, target)
        if not _equal(calls, mutant, base):
            yield Mutant("redirect", mutant, "wrong_reference")
            break
    itself = f"${base + index + 1}"
    yield Mutant("refer forward", _with(calls, index, name, itself), "forward_reference")


def _reorder(given: Given) -> Iterator[Mutant]:
    """Another order that the references allow."""
    calls, rng, base = given.calls, given.rng, given.base
    order: list[int] = []
    while len(order) < len(calls):
        done = {f"${base + i + 1}" for i in order} | {f"${n + 1}" for n in range(base)}
        waiting = {i for i, name in _references(calls) if calls[i]["args"][name] not in done}
        order.append(
            rng.choice([i for i in range(len(calls)) if i not in order and i not in waiting])
        )
    yield Mutant("reorder", _renumber(calls, order, base), None)


MUTATIONS: Sequence[Callable[[Given], Iterator[Mutant]]] = (
    *(_drop, _add, _duplicate, _swap, _refuse, _perturb, _redirect, _reorder),
)


class Tally(NamedTuple):
    """What became of the mutants of one kind.

    Attributes:
        n: mutants.
        judged: how many got the right verdict, pass or fail.
        reasons: how many also got the right code.
        codes: the codes that they got.
    """

    n: int
    judged: int
    reasons: int
    codes: dict[str, int]


def random_plans(count: int, seed: int) -> Iterator[Given]:
    """Valid random plans, a third of them after an earlier turn."""
    for number in range(count):
        rng = random.Random(f"{seed} {number}")  # noqa: S311 - nobody is kept from guessing them
        earlier = random_calls(rng) if number % 3 == 0 else []
        yield Given(random_calls(rng, [call["tool"] for call in earlier]), earlier, rng)


def plans_of(cases: Sequence[Case], seed: int) -> Iterator[Given]:
    """Every accepted plan of `cases` with the first of its accepted wordings."""
    rng = random.Random(seed)  # noqa: S311
    for case in cases:
        earlier = [_plain(call) for turn in case.history for call in turn.calls]
        for plan in case.expect.plans:
            yield Given([_plain(call) for call in plan.calls], earlier, rng)


def _plain(call: Call) -> dict[str, Any]:
    """One wording of a call, its null arguments included."""
    values = {name: call.args.get(name) for name in SIGNATURES[call.tool]}
    words = {name: v[0] if isinstance(v, list) else v for name, v in values.items()}
    if call.tool == "reply":
        words["text"] = words["text"] or "So."
    return {"tool": call.tool, "args": words}


def as_case(given: Given) -> Case:
    """The case whose only accepted plan is the given one."""
    history = [{"instruction": "i", "calls": [call]} for call in given.earlier]
    case = {"id": "m", "instruction": "i", "history": history, "expect": {"calls": given.calls}}
    return Case.model_validate(case)


def tally(given_plans: Iterable[Given]) -> dict[str, Tally]:
    """Judge every mutant of the plans; the tally by mutation, the plan itself (`none`) first."""
    codes: dict[str, Counter[str]] = defaultdict(Counter)
    judged: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for given in given_plans:
        case = as_case(given)
        spoilt = itertools.chain.from_iterable(mutate(given) for mutate in MUTATIONS)
        for mutant in (Mutant("none", given.calls, None), *spoilt):
            verdict = judge_calls(case, mutant.calls)
            codes[mutant.kind][verdict.code or "passed"] += 1
            judged[mutant.kind] += verdict.passed == (mutant.code is None)
            reasons[mutant.kind] += verdict.code == mutant.code
    return {
        kind: Tally(sum(found.values()), judged[kind], reasons[kind], dict(found))
        for kind, found in codes.items()
    }


def section(tallies: dict[str, Tally]) -> Section:
    """What the scorer made of every mutant."""
    rows = [
        (kind, str(it.n), str(it.judged), str(it.reasons), counted(it.codes))
        for kind, it in tallies.items()
    ]
    head = ("mutation", "mutants", "right verdict", "right code", "codes")
    return Section("The scorer under mutation", "", [head, *rows])
