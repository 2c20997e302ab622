"""The outline of a plan: how many calls of which tools it has, and how they are restricted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from models.planner.serialise import Call

KINDS = ("", "clarify", "decline", "answer")
"""Kinds of reply, the first for none; the order is that of the network's classes."""
MOST = {"tissue": 1, "segment": 3, "count": 3, "boxes": 3, "measure": 3, "within": 2, "outside": 2}
"""The largest number that is told apart; it stands for itself and more. In the order of `Outline`'s
attributes."""
WORDS = {
    "classify_tissue": "tissue",
    "segment": "segment",
    "count_nuclei": "count",
    "extract_boxes": "boxes",
    "measure": "measure",
}
"""A tool's word in a plan line, which is also its attribute of an `Outline`."""
SCOPES = {"within": "in", "outside": "out"}
"""The arguments that restrict a call, and their words in a plan line."""


@dataclass(frozen=True)
class Outline:
    """A plan's outline; every number is at most `MOST`.

    Attributes:
        reply: the kind of its reply, or empty where it has none.
        tissue, segment, count, boxes, measure: its calls of each tool.
        within, outside: its calls with such a reference.
    """

    reply: str = ""
    tissue: int = 0
    segment: int = 0
    count: int = 0
    boxes: int = 0
    measure: int = 0
    within: int = 0
    outside: int = 0

    @classmethod
    def of(cls, calls: Sequence[Call]) -> Self:
        """The outline of a plan."""
        if calls[0]["tool"] == "reply":
            return cls(reply=calls[0]["args"]["kind"])
        found = [WORDS[call["tool"]] for call in calls]
        found += [scope for call in calls for scope in SCOPES if call["args"].get(scope)]
        return cls("", *(min(found.count(name), most) for name, most in MOST.items()))

    def classes(self) -> list[int]:
        """The index of each attribute's class."""
        return [KINDS.index(self.reply), *(getattr(self, name) for name in MOST)]
