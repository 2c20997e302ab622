"""What the next plan line may be, as a regular expression built from the thread's state.

A line is regular, so one expression a line is enough for the contract's rules of form: the line's
number is fixed, references are the numbers of earlier calls that fit, a reply stands alone, a
tissue check comes first, nothing is boxed or measured twice. `write_plan` asks for a new expression
after each finished line; who writes the lines, the embedded model or one behind an endpoint, is not
its concern.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from models.ontology import normalise
from models.planner.outline import KINDS, PLACES, Outline
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
        self.fresh = self.tissue = False
        self.left = 0 if call["tool"] == "reply" else self.left - 1

    def _count(self, call: Call) -> None:
        if call["tool"] == "segment":
            self.regions.append(self.number)
        if call["tool"] in ("segment", "count_nuclei"):
            self.sources.append(self.number)
        self.number += 1


def write_plan(state: PlanState, write_line: WriteLine, outline: Outline | None = None) -> str:
    """The lines of a valid plan, each written by `write_line`, joined by line breaks.

    A tissue check that the thread already has is written anew with all tissue checks forbidden. To
    forbid its words alone would not do: a model that writes greedily is then led past them, to
    "liver tissue" in place of "liver".

    Args:
        state: where the plan begins; it is at the plan's end afterwards.
        write_line: must keep to the expression.
        outline: what the plan is to have, one that `admits` allows here; where the tissue check in
            it turns out to be one that the thread already has, there is no plan.
    """
    lines: list[str] = []
    given = [pattern for _, pattern in _outlined(state, outline)] if outline else None
    while state.left:
        line = write_line(given[len(lines)] if given else line_pattern(state), lines)
        text = line.removesuffix("\n")
        (call,) = parse_plan(text, state.number, state.results)
        if state.repeats(call):
            if outline:
                return ""
            state.tissue = False
            continue
        lines.append(text)
        state.add(call)
        if text == line:
            break
    return "\n".join(lines)


def admits(state: PlanState, outline: Outline) -> bool:
    """Whether a valid plan with `outline` can begin in `state`, which is left as it is."""
    if str(PLACES[0]) in outline.symbols:  # that one, or an older one
        return False
    state, calls = copy.deepcopy(state), list[Call]()
    first = state.number
    for line, _ in _outlined(state, outline):
        if not (state.left and re.fullmatch(line_pattern(state), line)):
            return False
        (call,) = parse_plan(line.removesuffix("\n"), state.number, state.results)
        if state.repeats(call):
            return False
        calls.append(call)
        state.add(call)
    return Outline.of(calls, first) == outline  # "in" without a place reads as a name


def _outlined(state: PlanState, outline: Outline) -> Iterator[tuple[str, str]]:
    """For each line of a plan with `outline`, an example of it, and the expression of all."""
    first, calls = state.number, list(outline.calls(state.number))
    for number, (symbol, references) in enumerate(calls, first):
        named, pattern = symbol, symbol.replace("*", r"\*").replace("?", r"\?")
        if symbol in KINDS:
            reasons = _reasons(state, symbol)
            named, pattern = f"reply {symbol} {reasons[0]}", _reply(state, symbol)
        elif symbol in ("tissue", "segment", "count"):
            named, pattern = f"{symbol} x", f"{symbol} {TEXT}"
        end = "\n" if number < first + len(calls) - 1 else ""
        ends = f" {references}{end}" if references else end
        yield f"${number} {named}{ends}", rf"\${number} {pattern}{ends.replace('$', chr(92) + '$')}"


def line_pattern(state: PlanState) -> str:
    """The regular expression (no anchors) of every valid next line in `state`.

    A line break at its end is there exactly when another line may follow it.
    """
    choices = [rf"segment {TEXT}{_scope(state)}", rf"count ({TEXT}|\*){_scope(state)}"]
    if state.tissue:
        choices.append(rf"tissue ({TEXT}|\?)")
    for word, done in (("boxes", state.boxed), ("measure", state.measured)):
        if sources := [number for number in state.sources if number not in done]:
            choices.append(rf"{word} {_reference(sources)}")
    more = r"\n?" if state.left > 1 else ""
    lines = [rf"({'|'.join(choices)}){more}"]
    if state.fresh:
        lines += [_reply(state, kind) for kind in KINDS]
    return rf"\${state.number} ({'|'.join(lines)})"


def _expected(call: Call) -> str | None:
    expected = call["args"].get("expected")
    return None if expected is None else normalise(expected)


def _reference(numbers: Sequence[int]) -> str:
    return rf"\$({'|'.join(map(str, numbers))})"


def _scope(state: PlanState) -> str:
    if not state.regions:
        return ""
    reference = _reference(state.regions)
    return rf"( in {reference})?( out {reference})?"


def _reply(state: PlanState, kind: str) -> str:
    return rf"reply {kind} ({'|'.join(_reasons(state, kind))})"


def _reasons(state: PlanState, kind: str) -> list[str]:
    return [reason for reason in REPLIES[kind] if reason != "result" or state.results]
