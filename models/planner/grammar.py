"""What the next plan line may be, as a regular expression built from the thread's state.

A line is regular, so one expression a line is enough for the contract's rules of form: the line's
number is fixed, references are the numbers of earlier calls that fit, a reply stands alone, a
tissue check comes first, nothing is boxed or measured twice. `write_plan` asks for a new expression
after each finished line; who writes the lines, the embedded model or one behind an endpoint, is not
its concern.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from models.ontology import normalise
from models.planner.outline import MOST, SCOPES, WORDS, Outline
from models.planner.replies import REPLIES
from models.planner.serialise import TEXT, Call, Turn, parse_plan

MAX_CALLS = 12
"""The most calls in one plan."""

WriteLine = Callable[[str, Sequence[str]], str]
"""Gets the expression of the next line and the plan's lines before it, and writes that line, with a
line break at its end where another line is to follow."""


@dataclass
class PlanState:
    """The calls so far, as far as references care.

    Attributes:
        number: the thread number of the next call.
        regions: numbers of `segment` calls, in order.
        sources: numbers of `segment` and `count_nuclei` calls, in order.
        results: the result lines that an answer can quote: of turns in which tools ran.
        left: how many more calls this plan may have.
        fresh: whether the plan has no call yet.
        boxed, measured: sources of this plan's `extract_boxes` and `measure` calls.
        checked: what the thread's tissue checks expected, in normal form; None for "which is it?".
        tissue: whether the next line may be a tissue check.
        wanted: the outline that the plan is to have, None for any.
        had: what the plan has of it.
    """

    number: int = 1
    regions: list[int] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)
    results: list[str] = field(default_factory=list)
    left: int = MAX_CALLS
    fresh: bool = True
    boxed: set[int] = field(default_factory=set)
    measured: set[int] = field(default_factory=set)
    checked: set[str | None] = field(default_factory=set)
    tissue: bool = True
    wanted: Outline | None = None
    had: Counter[str] = field(default_factory=Counter)

    @classmethod
    def after(cls, history: Sequence[Turn]) -> PlanState:
        """The state in which the plan for the turn after `history` begins."""
        state = cls()
        for turn in history:
            if turn.result.strip() and all(call["tool"] != "reply" for call in turn.calls):
                state.results.append(turn.result)
            for call in turn.calls:
                state._count(call)
                if call["tool"] == "classify_tissue":
                    state.checked.add(_expected(call))
        return state

    def repeats(self, call: Call) -> bool:
        """Whether `call` is a tissue check that the thread already has (the contract's rule 6)."""
        return call["tool"] == "classify_tissue" and _expected(call) in self.checked

    def add(self, call: Call) -> None:
        """Take in a call of this plan. After a reply, the plan is over."""
        self._count(call)
        if call["tool"] in ("extract_boxes", "measure"):
            done = self.boxed if call["tool"] == "extract_boxes" else self.measured
            done.add(int(call["args"]["source"].removeprefix("$")))
        args = call["args"]
        self.had.update([WORDS.get(call["tool"], "reply"), *(s for s in SCOPES if args.get(s))])
        self.fresh = self.tissue = False
        self.left = 0 if call["tool"] == "reply" else self.left - 1

    def allows(self, what: str) -> bool:
        """Whether the wanted outline has room for one more of an attribute of `Outline`."""
        if self.wanted is None:
            return True
        return bool(self.had[what] < getattr(self.wanted, what) or self.open_ended(what))

    def open_ended(self, what: str) -> bool:
        """Whether the wanted outline has so many of an attribute that it may be more."""
        return bool(self.wanted and getattr(self.wanted, what) == MOST[what] > 1)

    def lacks(self, what: str) -> int:
        """How many of an attribute the wanted outline has that the plan has not yet."""
        return max(0, getattr(self.wanted, what) - self.had[what]) if self.wanted else 0

    def _count(self, call: Call) -> None:
        if call["tool"] == "segment":
            self.regions.append(self.number)
        if call["tool"] in ("segment", "count_nuclei"):
            self.sources.append(self.number)
        self.number += 1


def write_plan(state: PlanState, write_line: WriteLine) -> str:
    """The lines of a valid plan, each written by `write_line`, joined by line breaks.

    A tissue check that the thread already has is written anew with all tissue checks forbidden. To
    forbid its words alone would not do: a model that writes greedily is then led past them, to
    "liver tissue" in place of "liver".

    Args:
        state: where the plan begins; it is at the plan's end afterwards. Of an outline that can't
            be had, the plan has as much as can be, which may be nothing.
        write_line: must keep to the expression.
    """
    lines: list[str] = []
    while state.left and (pattern := line_pattern(state)):
        line = write_line(pattern, lines)
        text = line.removesuffix("\n")
        (call,) = parse_plan(text, state.number, state.results)
        if state.repeats(call):
            state.tissue = False
            continue
        lines.append(text)
        state.add(call)
        if text == line:
            break
    return "\n".join(lines)


def line_pattern(state: PlanState) -> str:
    """The regular expression (no anchors) of every valid next line in `state`.

    A line break at its end is there exactly when another line may follow it. Where an outline is
    wanted, the expression keeps to it as far as references can; it is empty where nothing does.
    """
    scope = _scope(state)
    calls = {"segment": rf"segment {TEXT}{scope}", "count": rf"count ({TEXT}|\*){scope}"}
    if state.tissue:
        calls["tissue"] = rf"tissue ({TEXT}|\?)"
    for word, done in (("boxes", state.boxed), ("measure", state.measured)):
        if sources := [number for number in state.sources if number not in done]:
            calls[word] = rf"{word} {_reference(sources)}"
    first = state.tissue and state.lacks("tissue")
    choices = [
        rf"({call}){_more(state, word)}"
        for word, call in calls.items()
        if state.allows(word) and (word == "tissue" or not first)
    ]
    if state.fresh and (state.wanted is None or state.wanted.reply):
        choices = [_reply(state)] if state.wanted else [*choices, _reply(state)]
    return rf"\${state.number} ({'|'.join(choices)})" if choices else ""


def _more(state: PlanState, word: str) -> str:
    """What may follow a line with the call `word`: a line break, nothing, or either."""
    if state.left == 1:
        return ""
    if state.wanted is None:
        return r"\n?"
    lacking = sum(state.lacks(other) for other in WORDS.values() if other != "tissue")
    if lacking > (word != "tissue" and state.lacks(word) > 0):
        return r"\n"
    return r"\n?" if any(state.open_ended(other) for other in WORDS.values()) else ""


def _expected(call: Call) -> str | None:
    expected = call["args"].get("expected")
    return None if expected is None else normalise(expected)


def _reference(numbers: Sequence[int]) -> str:
    return rf"\$({'|'.join(map(str, numbers))})"


def _scope(state: PlanState) -> str:
    """The references of a `segment` or `count` line; those that the outline needs are not left out.

    They are needed where as many are lacking as calls that can have them, if that is known.
    """
    if not state.regions:
        return ""
    many = state.open_ended("segment") or state.open_ended("count")
    calls = 0 if many else state.lacks("segment") + state.lacks("count")
    references = ""
    for scope, word in SCOPES.items():
        if state.allows(scope):
            needed = 0 < calls <= state.lacks(scope)
            references += rf"( {word} {_reference(state.regions)}){'' if needed else '?'}"
    return references


def _reply(state: PlanState) -> str:
    kinds = []
    for kind, reasons in REPLIES.items():
        usable = [reason for reason in reasons if reason != "result" or state.results]
        if state.wanted is None or state.wanted.reply == kind:
            kinds.append(rf"{kind} ({'|'.join(usable)})")
    return rf"reply ({'|'.join(kinds)})"
