"""Follow-ups to what is further back in the thread: by its place, several at once, again.

`followups` has those to what was found just now.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from models.planner.generate.drafts import Draft, Part, nouns
from models.planner.generate.entities import Mention
from models.planner.generate.figures import Figures
from models.planner.generate.grammar import Noun
from models.planner.generate.intents import Intent, Known, Reply, Scope, Want
from models.planner.generate.makers import Makers
from models.planner.generate.pointers import PointedKind, nested
from models.planner.generate.recollections import Recollections
from models.planner.generate.results import SHARE, count_in


class References(Makers):
    """Draws them for one thread."""

    table: ClassVar[str] = "refer"

    # -- one call: "box the first region", "how large is the earlier mask?"
    def _point(self) -> Draft | None:
        known = self._pointed()
        if known is None:
            return None
        section = self.rng.choice(("boxes", "measures", "measures", "both", "size", "number"))
        boxed = self.thread.has("extract_boxes", known.number)
        measured = self.thread.has("measure", known.number)
        kind = known.mention.kind
        if section == "size" and not measured:
            return None
        if section == "size":
            line = self.thread.line_of("measure", known.number)
            stated = "mean area" in line if kind == "cell" else line.startswith("area ")
            return self._answer(f"size.{kind}", known) if stated else None
        if section == "number":
            return self._number(known)
        boxes, measures = section in ("boxes", "both"), section != "boxes"
        if (boxes and boxed) or (measures and measured):
            return None
        styled = section + ("" if section in ("boxes", "both") else f".{kind}")
        return self._derived(styled, (known,), boxes=boxes, measures=measures)

    def _number(self, known: Known) -> Draft | None:
        """How many pieces a region has, or how many cells were counted."""
        line = self.thread.line_of("extract_boxes", known.number)
        if known.mention.kind == "cell":
            line = self.thread.lines.get(known.number, "")
            return self._answer("number.cell", known) if count_in(line) is not None else None
        if count_in(line) is not None:
            return self._answer("number.region", known)
        return None if line else self._derived("number.region", (known,), boxes=True)

    def _pieces(self) -> Draft | None:
        """Into how many pieces what was just outlined falls."""
        focus = self.thread.focus
        if len(focus) != 1 or focus[0].mention.kind != "region":
            return None
        draft = self._number(focus[0])
        return draft and replace(draft, parts=(Part("refer.pieces", {"x": nouns(focus[0])}),))

    def _percent(self) -> Draft | None:
        """A region's share of the tissue: an answer where the thread states it."""
        known = self.pointers.one("region")
        if known is None or not self.thread.unscoped(known):
            return None
        if SHARE in self.thread.lines.get(known.number, ""):
            return self._answer("percent", known)
        if self.thread.has("measure", known.number):
            return None
        return self._derived("percent", (known,), measures=True)

    def _missing(self) -> Draft | None:
        """A place in the thread where nothing is: it is asked back."""
        kind: PointedKind = self.rng.choice(("region", "region", "cell"))
        section = self.pointers.missing(kind)
        if section is None:
            return None
        slots: dict[str, tuple[Noun, ...]] = {"x": (self.pointers.noun(section),)}
        said = self.rng.choice(("boxes", f"measures.{kind}", f"size.{kind}", "both", "in"))
        if said == "in":
            if kind == "cell":
                return None
            slots = {"r": slots["x"], "x": nouns(self._cell())}
        intent = Intent("", reply=Reply("clarify", "target"))
        return Draft(intent, (Part(f"refer.{said}", slots),))

    # -- two calls: "box the mitoses and measure the tumor"
    def _apart(self) -> Draft | None:
        boxed, measured = self._pointed(), self._pointed()
        if boxed is None or measured is None or boxed.number == measured.number:
            return None
        if self.thread.has("extract_boxes", boxed.number):
            return None
        if self.thread.has("measure", measured.number):
            return None
        wants = Want((boxed,), boxes=True), Want((measured,), measures=True)
        return self._said("apart", wants, x=boxed, y=measured)

    def _share(self) -> Draft | None:
        """What part of an earlier region a region within it is: both are to be measured."""
        pairs = self.thread.placed(self.thread.regions)
        if not pairs:
            return None
        part, whole = self.rng.choice(pairs)
        both = (whole, part)
        known = all(self.thread.unique(k) for k in both)
        stated = ["%" in self.thread.lines.get(k.number, "") for k in both]
        measured = [self.thread.has("measure", k.number) for k in both]
        if not known or all(stated) or any(measured):
            return None
        slots = {"x": nouns(part), "y": nouns(whole)}
        return Draft(Intent("", (Want(both, measures=True),)), (Part("share.region.ask", slots),))

    def _held(self) -> Draft | None:
        """A region boxed or measured, and cells counted in it."""
        region = self.pointers.one("region")
        boxes = self.rng.random() < 0.5
        tool = "extract_boxes" if boxes else "measure"
        if region is None or self.thread.has(tool, region.number):
            return None
        target = self._cell()
        wants = (
            Want((region,), boxes=boxes, measures=not boxes),
            Want((target,), (Scope(within=region),)),
        )
        how = "boxes" if boxes else "measures"
        return self._said(f"held.{how}", wants, x=target, r=region)

    def _among(self) -> Draft | None:
        """Cells as a share of all nuclei."""
        return Figures(self.thread, self.rng).among(self.sampler.nuclei())

    # -- several calls: "measure both regions", "the first and the last one, boxed"
    def _several(self) -> Draft | None:
        kind: PointedKind = self.rng.choice(("region", "region", "cell"))
        several = self.pointers.several(kind)
        if several is None:
            return None
        boxes = self.rng.random() < 0.4
        tool = "extract_boxes" if boxes else "measure"
        if any(self.thread.has(tool, k.number) for k in several.known):
            return None
        section = f"refer.several.{'boxes' if boxes else 'measures'}"
        want = Want(several.known, boxes=boxes, measures=not boxes)
        return Draft(Intent("", (want,)), (Part(section, {"s": several.said}),))

    def _each(self) -> Draft | None:
        """Cells in several earlier regions: "the same two regions, neutrophils instead"."""
        several = self.pointers.several("region")
        if several is None:
            return None
        target = self._cell()
        scopes = tuple(Scope(within=k) for k in several.known)
        slots = {"x": nouns(target), "s": several.place}
        return Draft(Intent("", (Want((target,), scopes),)), (Part("refer.each", slots),))

    def _sized(self) -> Draft | None:
        """Regions measured and cells counted in each of them."""
        several = self.pointers.several("region")
        if several is None or any(self.thread.has("measure", k.number) for k in several.known):
            return None
        target = self._cell()
        counted = Want((target,), tuple(Scope(within=k) for k in several.known))
        wants = Want(several.known, measures=True), counted
        slots = {"x": nouns(target), "s": several.said}
        return Draft(Intent("", wants), (Part("refer.sized", slots),))

    # -- something new: "count the mitoses in the first region but not in the second"
    def _place(self) -> Draft | None:
        place = self.pointers.one("region")
        if place is None:
            return None
        target = self._cell()
        how = self.rng.choice(("in", "in", "out", "both", "both", "show"))
        scope = Scope(within=place) if how != "out" else Scope(outside=place)
        slots = {"r": nouns(place)}
        if how == "both":
            other = self.pointers.one("region", place)
            if other is None or nested(self.thread, place, other):
                return None
            scope, slots["q"] = replace(scope, outside=other), nouns(other)
        if how == "show":
            target = self.sampler.mention("region", not_in=[k.mention for k in self.thread.known()])
        slots["x"] = nouns(target)
        want = Want((target,), (scope,))
        return Draft(Intent("", (want,)), (Part(_HOW.get(how, f"refer.{how}"), slots),))

    def _same(self) -> Draft | None:
        """What was counted before, in the region that was outlined since, if only one can be."""
        focus, last = self.thread.focus, self.thread.last
        cells = self.pointers.by_kind["cell"]
        if len(focus) != 1 or focus[0].mention.kind != "region" or not cells or last is None:
            return None
        if any(want.boxes or want.measures or want.share for want in last.wants):
            return None
        counted, region = cells[-1], focus[0]
        scope = self.thread.scope_of(counted.number)
        if counted.number > region.number or scope.outside or nested(self.thread, counted, region):
            return None
        if self.thread.companions(counted.number) != 1:
            return None  # "the same" would mean all that was counted in that turn
        if any(self.thread.has(tool, counted.number) for tool in ("extract_boxes", "measure")):
            return None  # "the same" may mean these too
        want = Want((counted.mention,), (Scope(within=region),))
        return self._said("same", (want,), r=region, x=counted)

    def _whole(self) -> Draft | None:
        """What was looked for in one place only, now everywhere."""
        known = self.pointers.by_kind["cell"]
        places = [k for k in known if self.thread.scope_of(k.number) != Scope()]
        free = {k.mention.target for k in known if k not in places}
        options = [k for k in places if k.mention.target not in free]
        if not options:
            return None
        mention = self.rng.choice(options).mention
        return self._said("whole", (Want((mention,)),), x=mention)

    def _other(self) -> Draft | None:
        """Cells after a region was shown, or a region after cells: nothing restricts them."""
        focus, last = self.thread.focus, self.thread.last
        if len(focus) != 1 or last is None or not self.thread.unscoped(*focus):
            return None
        if any(want.boxes or want.measures or want.share for want in last.wants):
            return None
        if focus[0].mention.kind == "region":
            target = self._cell()
        else:
            target = self.sampler.mention("region", countable=False)
        if target.target in (None, *(k.mention.target for k in self.thread.known())):
            return None
        return self._said("other", (Want((target,)),), x=target)

    def _summed(self) -> Draft | None:
        """What follows from several figures that the thread states."""
        return Recollections(self.thread, self.rng).summed()

    def _closing(self) -> Draft | None:
        """Thanks and a farewell."""
        return self._reply("closing", "answer", "courtesy")

    def _pointed(self) -> Known | None:
        if self.rng.random() < 0.25:
            return self.pointers.any()
        return self.pointers.one(self.rng.choice(("region", "cell")))

    def _cell(self) -> Mention:
        return self.sampler.mention("cell", countable=True)

    def _derived(
        self, section: str, known: Sequence[Known], *, boxes: bool = False, measures: bool = False
    ) -> Draft:
        want = Want(tuple(known), boxes=boxes, measures=measures)
        return self._said(section, (want,), x=known)

    def _answer(self, section: str, known: Known) -> Draft:
        """What the thread states already."""
        return self._reply(section, "answer", "result", x=known)


_HOW = {"both": "refer.both_places"}
"""Sections of places, where they are not called as what they say."""
