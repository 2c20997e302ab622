"""Follow-ups by likeness and by story: "as for the arteries", "the 22 ones", "not the cells"."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

from models.planner.generate.drafts import Draft, with_slots
from models.planner.generate.intents import Known, Scope, Want
from models.planner.generate.makers import Makers
from models.planner.generate.results import SHARE, count_in


class Analogies(Makers):
    """Draws them for one thread."""

    table: ClassVar[str] = "alike"

    # -- "the same for the veins, as you did it for the arteries"
    def _count(self) -> Draft | None:
        """Cells that were counted in one region, in another."""
        done = self.thread.placed(self.pointers.by_kind["cell"])
        done = [(k, place) for k, place in done if k.mention.target and self.thread.unique(place)]
        if not done:
            return None
        cell, place = self.rng.choice(done)
        others = [k for k in self._named("region") if k.number != place.number]
        fresh = not others or self.rng.random() < 0.35
        region = self._new_region() if fresh else self.rng.choice(others)
        want = Want((cell.mention,), (Scope(within=region),))
        return self._said("count", (want,), x=cell, r=region, q=place)

    def _figure(self) -> Draft | None:
        """An area, or boxes, as another region has got them."""
        tool = self.rng.choice(("measure", "measure", "extract_boxes"))
        regions = self._named("region")
        given = [k for k in regions if self.thread.has(tool, k.number)]
        lacking = [k for k in regions if k not in given and self.thread.unscoped(k)]
        if tool == "measure":
            lacking = [k for k in lacking if SHARE not in self.thread.lines[k.number]]
        if not given or not lacking:
            return None
        one, other = self.rng.choice(given), self.rng.choice(lacking)
        boxes = tool != "measure"
        want = Want((other,), boxes=boxes, measures=not boxes)
        return self._said("boxes" if boxes else "figure", (want,), r=other, q=one)

    # -- "the 22 ones", "those that you had found in the wall before we wandered off"
    def _numbered(self) -> Draft | None:
        """Cells, or pieces of a region, called by their number."""
        stated = list(self._numbers())
        numbers = [number for _, number in stated]
        options = [(k, n) for k, n in stated if n >= _FEW and numbers.count(n) == 1]
        if not options:
            return None
        known, number = self.rng.choice(options)
        tool = self.rng.choice(("extract_boxes", "measure"))
        if known.mention.kind == "region":
            tool = "measure"
        if self.thread.has(tool, known.number):
            return None
        boxes = tool != "measure"
        want = Want((known,), boxes=boxes, measures=not boxes)
        place = self.thread.scope_of(known.number).within
        section = f"numbered.{'boxes' if boxes else f'measures.{known.mention.kind}'}"
        slots = {"x": known}
        if boxes and isinstance(place, Known) and self.rng.random() < 0.6:
            section, slots["r"] = "numbered.placed", place
        return with_slots(self._said(section, (want,), **slots), n=str(number))

    def _numbers(self) -> Iterator[tuple[Known, int]]:
        for known in self.thread.known():
            line = self.thread.lines.get(known.number, "")
            if known.mention.kind == "region":
                line = self.thread.line_of("extract_boxes", known.number)
            if (number := count_in(line)) is not None:
                yield known, number

    def _before(self) -> Draft | None:
        """Cells from before the thread went on to other things, by what they lay in."""
        focus = {k.number for k in self.thread.focus}
        old = [k for k in self.pointers.by_kind["cell"] if k.number not in focus]
        kept = [(k, place) for k, place in self.thread.placed(old) if self.thread.unique(place)]
        alike = [(k.mention.target, place.number) for k, place in kept]
        if not kept or self.thread.last is None:
            return None
        known, place = self.rng.choice(kept)
        boxes = self.rng.random() < 0.55
        tool = "extract_boxes" if boxes else "measure"
        twice = alike.count((known.mention.target, place.number)) > 1
        if twice or self.thread.has(tool, known.number):
            return None
        want = Want((known,), boxes=boxes, measures=not boxes)
        return self._said(f"before.{'boxes' if boxes else 'measures'}", (want,), x=known, r=place)

    def _inall(self) -> Draft | None:
        """How many there are of an outlined region: its boxes, or the figure that is stated."""
        regions = [k for k in self._named("region") if k.mention.countable]
        if not regions:
            return None
        known = self.rng.choice(regions)
        line = self.thread.line_of("extract_boxes", known.number)
        if line and count_in(line) is None:
            return None
        if not line:
            return self._said("inall", (Want((known,), boxes=True),), x=known)
        if self.rng.random() < 0.6:
            return None
        return self._reply("inall", "answer", "result", x=known)

    def _left(self) -> Draft | None:
        """What is still missing when all else has been given."""
        named = [*self._named("region"), *self._named("cell")]
        lacking = [k for k in named if not self.thread.has("measure", k.number)]
        others = [k for k in named if k not in lacking] or named
        if not lacking or len(named) < 2:
            return None
        known = self.rng.choice(lacking)
        others = [k for k in others if k.number != known.number]
        if not others:
            return None
        want = Want((known,), measures=True)
        other = self.rng.choice(others)
        return self._said(f"left.{known.mention.kind}", (want,), x=known, y=other)

    # -- two figures at once
    def _sizes(self) -> Draft | None:
        """The area of a region and the mean size of cells, both there already."""
        both = [k for k in self.thread.known() if not self.thread.has("measure", k.number)]
        if len(self.thread.known()) == len(both) == 2 and self.thread.focus != tuple(both):
            first, second = (k.mention.kind for k in both)
            if (first, second) == ("region", "cell") and self.rng.random() < 0.5:
                return self._said("sizes.ordered", (Want(tuple(both), measures=True),))
        region, cell = self.pointers.one("region"), self.pointers.one("cell")
        if region is None or cell is None:
            return None
        if any(self.thread.has("measure", k.number) for k in (region, cell)):
            return None
        want = Want((region, cell), measures=True)
        return self._said("sizes.named", (want,), r=region, x=cell)

    def _part(self) -> Draft | None:
        """The area of a region, and how much of it something new is."""
        near = self.one
        if near is None or near.mention.kind != "region":
            return None
        part = self._new_region()
        return self._said("part", (Want((part, near), share=True),), x=part, r=near)

    # -- corrections
    def _instead(self) -> Draft | None:
        """A region instead of cells, or cells instead of a region."""
        known = self.one
        if known is None or self.thread.turns[-1].calls[0]["tool"] == "reply":
            return None
        if known.mention.kind == "cell":
            region = self._new_region()
            return self._said("instead.region", (Want((region,)),), x=known, r=region)
        if not self.thread.unscoped(known):
            return None
        (cell,) = self._cells(1)
        return self._said("instead.cell", (Want((cell,)),), x=cell, r=known)

    def _organ(self) -> Draft | None:
        """The organ put right, and a count: the tissue is to be checked anew."""
        before = self.thread.organ()
        organ = self.sampler.words.organ(self.rng)
        if before is None or organ.expected == before:
            return None
        self.sampler.organ = organ.expected
        (cell,) = self._cells(1)
        if self.thread.ambiguous(cell):
            return None
        draft = with_slots(self._said("organ", (Want((cell,)),), x=cell), o=(organ.noun,))
        return replace(draft, intent=replace(draft.intent, organ=organ), organ_said=True)


_FEW = 3
"""From how many on a number is a name."""
