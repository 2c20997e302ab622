"""What the next plan line may be, as a regular expression built from the thread's state.

A line is regular, so one expression a line is enough for every rule of the contract: the line's
number is fixed, references are the numbers of earlier calls that fit, a reply stands alone. The
decoder asks for a new expression after each finished line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from models.planner.replies import REPLIES
from models.planner.serialise import TEXT, Call, Turn

MAX_CALLS = 12
"""The most calls in one plan."""


@dataclass
class PlanState:
    """The calls so far, as far as references care.

    Attributes:
        number: the thread number of the next call.
        regions: numbers of `segment` calls, in order.
        sources: numbers of `segment` and `count_nuclei` calls, in order.
        has_result: whether the thread has a result line that an answer can quote.
        left: how many more calls this plan may have.
        fresh: whether the plan has no call yet.
    """

    number: int = 1
    regions: list[int] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)
    has_result: bool = False
    left: int = MAX_CALLS
    fresh: bool = True

    @classmethod
    def after(cls, history: Sequence[Turn]) -> PlanState:
        """The state in which the plan for the turn after `history` begins."""
        state = cls(has_result=any(turn.result.strip() for turn in history))
        for turn in history:
            for call in turn.calls:
                state._count(call)
        return state

    def add(self, call: Call) -> None:
        """Take in a call of this plan. After a reply, the plan is over."""
        self._count(call)
        self.fresh = False
        self.left = 0 if call["tool"] == "reply" else self.left - 1

    def _count(self, call: Call) -> None:
        if call["tool"] == "segment":
            self.regions.append(self.number)
        if call["tool"] in ("segment", "count_nuclei"):
            self.sources.append(self.number)
        self.number += 1


def line_pattern(state: PlanState) -> str:
    """The regular expression (no anchors) of every valid next line in `state`.

    A line break at its end is there exactly when another line may follow it.
    """
    more = r"\n?" if state.left > 1 else ""
    scope = _scope(state.regions)
    calls = [
        rf"tissue ({TEXT}|\?)",
        rf"segment {TEXT}{scope}",
        rf"count ({TEXT}|\*){scope}",
    ]
    if state.sources:
        calls.append(rf"(boxes|measure) {_reference(state.sources)}")
    choices = [rf"({'|'.join(calls)}){more}"]
    if state.fresh:
        choices.append(_reply(state))
    return rf"\${state.number} ({'|'.join(choices)})"


def _reference(numbers: Sequence[int]) -> str:
    return rf"\$({'|'.join(map(str, numbers))})"


def _scope(regions: Sequence[int]) -> str:
    if not regions:
        return ""
    return rf"( in {_reference(regions)})?( out {_reference(regions)})?"


def _reply(state: PlanState) -> str:
    kinds = []
    for kind, reasons in REPLIES.items():
        usable = [reason for reason in reasons if reason != "result" or state.has_result]
        kinds.append(rf"{kind} ({'|'.join(usable)})")
    return rf"reply ({'|'.join(kinds)})"
