"""What the thread's results state already, and how it is asked again: an answer, no tool."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from models.planner.generate.drafts import Draft, Part, nouns
from models.planner.generate.intents import Intent, Known, Reply, Thing
from models.planner.generate.results import SHARE, count_in
from models.planner.generate.threads import Thread

_ARITHMETIC = (
    *("summed.larger", "summed.more", "summed.per", "summed.total", "result.sum"),
    *("recalled.sum", "recalled.areas", "recalled.part"),
)
"""What takes two figures: asked more often than one figure again."""
_Asked = tuple[str, dict[str, Thing]]


class Recollections:
    """Draws questions that the lines of one thread answer; None where they answer none."""

    def __init__(self, thread: Thread, rng: Random) -> None:
        self.thread, self.rng = thread, rng
        self.focus = thread.focus
        self.one = thread.focus[0] if len(thread.focus) == 1 else None

    def latest(self) -> Draft | None:
        """A question on what was just found: "how many was that again?"."""
        return self._draft(list(self._latest()))

    def named(self) -> Draft | None:
        """A question by name, however long ago: "remind me of the area of the tumor"."""
        known = [k for k in self.thread.known() if k.mention.target and self.thread.unique(k)]
        pairs = [(x, y) for x in known for y in known if x != y]
        asked = [*self._each(known), *(asked for pair in pairs for asked in self._both(*pair))]
        return self._draft(asked)

    def summed(self) -> Draft | None:
        """A question on several figures at once: "which of the two is larger?"."""
        return self._draft([o for o in self._latest() if o[0].startswith("summed")])

    def _draft(self, options: list[_Asked]) -> Draft | None:
        if not options:
            return None
        sections = sorted({section for section, _ in options})
        weights = [3 if section in _ARITHMETIC else 1 for section in sections]
        section = self.rng.choices(sections, weights)[0]
        slots = self.rng.choice([slots for name, slots in options if name == section])
        intent = Intent(f"answer.{section}", reply=Reply("answer", "result"))
        return Draft(intent, (Part(section, {key: nouns(x) for key, x in slots.items()}),))

    def _latest(self) -> Iterator[_Asked]:
        calls = self.thread.turns[-1].calls if self.thread.turns else ()
        tool = calls[0]["tool"] if len(calls) == 1 else None
        result = self.thread.turns[-1].result
        if tool == "classify_tissue" and "not known" not in result:
            yield "result.tissue", {}
            return
        boxed = [call["tool"] for call in calls].count("extract_boxes") == 1
        if boxed and calls[-1]["tool"] == "extract_boxes" and self._line(-1)[:1].isdigit():
            yield "result.boxes", {}
            return
        if self.one:
            yield from self._of_one(self.one)
        counted = [k for k in self.focus if count_in(self._line(k.number)) is not None]
        if len(counted) == len(self.focus) == 2:
            if _differ(*counted):
                yield "result.sum", {"x": counted[0], "y": counted[1]}
            else:
                yield "summed.more", {"x": counted[0]}
        if len(counted) == len(self.focus) > 2:
            yield "summed.total", {}
        yield from self._of_regions()

    def _of_regions(self) -> Iterator[_Asked]:
        """Two regions that were measured, compared; cells in a region by its number."""
        regions = [k for k in self.focus if k.mention.kind == "region"]
        if len(regions) == len(self.focus) == 2 and all(self._measured(k) for k in regions):
            yield "summed.larger", {}
        for known in self.thread.known():
            within = self.thread.scope_of(known.number).within
            if known.mention.kind != "cell" or not isinstance(within, Known):
                continue
            figures = self._number(known), self._number(within)
            if None not in figures and within.mention.countable and known.mention.countable:
                yield "summed.per", {"x": known, "r": within}

    def _of_one(self, known: Known) -> Iterator[_Asked]:
        line, slots = self._line(known.number), {"x": known}
        if count_in(line) is not None:
            yield "result.count", {"x": known}
            if "/mm2" in line:
                yield "result.density", {"x": known}
        if SHARE in line:
            yield "result.percent", {"x": known}
        if "present" in line:
            yield "result.present", {"x": known}
        if known.mention.kind == "region" and self._measured(known):
            yield "result.area", dict(slots)

    def _each(self, known: list[Known]) -> Iterator[_Asked]:
        for one in known:
            slots: dict[str, Thing] = {"x": one}
            if self._number(one) is not None:
                yield "recalled.count", slots
            if "/mm2" in self._line(one.number):
                yield "recalled.density", slots
            if SHARE in self._line(one.number):
                yield "recalled.percent", slots
            if one.mention.kind == "region" and self._measured(one):
                yield "recalled.area", slots

    def _both(self, x: Known, y: Known) -> Iterator[_Asked]:
        """Arithmetic on two figures of one kind, looked for in one place."""
        slots: dict[str, Thing] = {"x": x, "y": y}
        if x.mention.kind != y.mention.kind:
            return
        same = self.thread.scope_of(x.number) == self.thread.scope_of(y.number)
        if same and self._number(x) is not None and self._number(y) is not None:
            yield "recalled.sum", slots
        if x.mention.kind == "region" and self._measured(x) and self._measured(y):
            if self.thread.scope_of(x.number).within == y:
                yield "recalled.part", slots
            elif same:
                yield "recalled.areas", slots

    def _line(self, number: int) -> str:
        return self.thread.lines.get(number if number > 0 else len(self.thread.ledger.calls), "")

    def _number(self, known: Known) -> int | None:
        """How many there are, where the thread states it."""
        if known.mention.kind == "cell":
            return count_in(self._line(known.number))
        return count_in(self.thread.line_of("extract_boxes", known.number))

    def _measured(self, known: Known) -> bool:
        return self.thread.line_of("measure", known.number).startswith("area ")


def _differ(one: Known, other: Known) -> bool:
    return one.mention.target != other.mention.target
