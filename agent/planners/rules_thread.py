"""The calls of a thread and of the plan in the making, and what "it" and "them" mean in it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from models.ontology import find, normalise

PRODUCERS = frozenset({"segment", "count_nuclei"})
_SINGULAR = frozenset(
    {
        *("it", "one", "mask", "result", "latter", "this", "that", "this one", "that one"),
        *("the one", "last one", "previous one", "previous result", "previous mask"),
    }
)
_ORDINALS = {"first": 0, "second": 1, "third": 2}
_TEXTS = {"segment": "target", "count_nuclei": "cell_type", "classify_tissue": "expected"}
_STATED = {
    "share": re.compile(r"\d\s*%"),
    "measure": re.compile(r"(?<!/)\b\d[\d.,]*\s*(mm|µm|um|px)"),
}
_SHAPE = frozenset({"shape", "eccentricity", "elongation", "elongated", "round", "circular"})


def arguments(tool: str, **given: str | None) -> dict[str, Any]:
    """All arguments of a call, null where not given."""
    names = {
        "classify_tissue": ("expected",),
        "segment": ("target", "within", "outside"),
        "count_nuclei": ("cell_type", "within", "outside"),
        "extract_boxes": ("source",),
        "measure": ("source",),
    }
    return {name: given.get(name) for name in names[tool]}


@lru_cache(maxsize=4096)
def _sense(text: str) -> str:
    """What a free-text argument names: "mitosis" and "mitotic figure" name the same."""
    concept = find(text)
    return concept.name if concept else normalise(text)


def _same_text(one: str | None, other: str | None) -> bool:
    return one is other if one is None or other is None else _sense(one) == _sense(other)


class Thread:
    """Calls by their number, the history's first and then the plan's.

    Attributes:
        calls: every call; the call `$n` is `calls[n - 1]`.
        first: how many of them are history.
        results: the history's result lines, those of replies left out.
        reused: whether the plan took something from the history.
    """

    def __init__(self, history: Sequence[Mapping[str, Any]]) -> None:
        self.calls: list[dict[str, Any]] = []
        self._turns: list[range] = []
        self._result: dict[int, str] = {}
        for turn in history:
            begin = len(self.calls) + 1
            for call in turn["calls"]:
                self.calls.append({"tool": call["tool"], "args": dict(call.get("args") or {})})
                self._result[len(self.calls)] = str(turn.get("result", ""))
            self._turns.append(range(begin, len(self.calls) + 1))
        self.results = [
            str(turn.get("result", ""))
            for turn in history
            if not any(call["tool"] == "reply" for call in turn["calls"])
        ]
        self.first = len(self.calls)
        self.reused = False

    @property
    def plan(self) -> list[dict[str, Any]]:
        """The calls that are new."""
        return self.calls[self.first :]

    def tool(self, number: int) -> str:
        """The tool of a call."""
        return str(self.calls[number - 1]["tool"])

    def argument(self, number: int, name: str) -> Any:
        """An argument of a call, None where it is absent."""
        return self.calls[number - 1]["args"].get(name)

    def call(self, tool: str, **given: str | None) -> int:
        """The number of this call: an equal earlier one, else a new one at the end."""
        args = arguments(tool, **given)
        for number in range(len(self.calls), 0, -1):
            if self.tool(number) == tool and self._equal(number, args):
                self.reused |= number <= self.first
                return number
        self.calls.append({"tool": tool, "args": args})
        return len(self.calls)

    def _equal(self, number: int, args: Mapping[str, Any]) -> bool:
        text = _TEXTS.get(self.tool(number))
        for name, value in args.items():
            other = self.argument(number, name)
            if (value != other) if name != text else not _same_text(value, other):
                return False
        return True

    def named(self, text: str | None) -> list[int]:
        """The last producer of a structure, wherever it was looked for."""
        numbers = (n for n in range(len(self.calls), 0, -1) if self.tool(n) in PRODUCERS)
        return [n for n in numbers if _same_text(text, self.argument(n, _TEXTS[self.tool(n)]))][:1]

    def recent(self) -> list[int]:
        """The producers of the plan so far, else of the last turn that has any."""
        for turn in [range(self.first + 1, len(self.calls) + 1), *reversed(self._turns)]:
            if found := [n for n in turn if self.tool(n) in PRODUCERS]:
                return found
        return []

    def ends(self, numbers: Sequence[int]) -> list[int]:
        """Those producers that restrict no other of them: what a turn was about."""
        used = {self.argument(n, name) for n in numbers for name in ("within", "outside")}
        return [n for n in numbers if f"${n}" not in used]

    def meant(self, back: str) -> list[int]:
        """The producers that a back-reference means; empty where there is nothing to refer to."""
        recent = self.recent()
        ends = self.ends(recent)
        if back in _ORDINALS:
            every = [n for n in range(1, len(self.calls) + 1) if self.tool(n) in PRODUCERS]
            choice = ends if len(ends) > 1 else every
            return choice[_ORDINALS[back] :][:1]
        found = ends[-1:] if back in _SINGULAR else ends
        self.reused |= any(n <= self.first for n in found)
        return found

    def regions(self, back: str) -> list[int]:
        """The regions that a back-reference means: "in it", "inside them"."""
        direct = [n for n in self.meant(back) if self.tool(n) == "segment"]
        if direct:
            return direct
        for number in reversed(self.meant(back)):
            for name in ("within", "outside"):
                if reference := self.argument(number, name):
                    return [int(str(reference)[1:])]
        every = [n for n in range(1, len(self.calls) + 1) if self.tool(n) == "segment"]
        return every[-1:]

    def consumers(self, number: int) -> list[str]:
        """The tools that boxed or measured a call."""
        return [str(c["tool"]) for c in self.calls if c["args"].get("source") == f"${number}"]

    def states(self, number: int, intent: str, words: frozenset[str]) -> bool:
        """Whether the thread's result line already gives the figure that is asked for."""
        if number > self.first or (intent == "measure" and words & _SHAPE):
            return False
        return bool(_STATED[intent].search(self._result[number]))
