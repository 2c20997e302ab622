"""Follow-ups that add several things at once to what a thread has: "X, Y and Z in that"."""

from __future__ import annotations

from typing import ClassVar

from models.planner.generate.drafts import Draft, with_slots
from models.planner.generate.entities import Mention
from models.planner.generate.intents import Scope, Want
from models.planner.generate.makers import Makers
from models.planner.generate.pointers import nested
from models.planner.generate.results import SHARE


class Additions(Makers):
    """Draws them for one thread."""

    table: ClassVar[str] = "add"

    # -- several counts: "in there, A, B and C"
    def _there(self) -> Draft | None:
        near = self.thread.nearby()
        if near is None:
            return None
        cells = self._cells(self.rng.choice((2, 2, 3, 3, 4)))
        return self._said("there", (Want(cells, (Scope(within=near),)),), x=cells, r=near)

    def _inside(self) -> Draft | None:
        place = self._placed()
        if place is None:
            return None
        cells = self._cells(self.rng.choice((2, 2, 3)))
        return self._said("inside", (Want(cells, (Scope(within=place),)),), x=cells, r=place)

    def _beyond(self) -> Draft | None:
        near = self.thread.nearby()
        if near is None:
            return None
        one, *more = cells = self._cells(self.rng.choice((2, 2, 3)))
        want = Want(cells, (Scope(outside=near),))
        return self._said("beyond", (want,), x=one, y=more, r=near)

    def _ditto(self) -> Draft | None:
        """The last count again for several other cells."""
        scope = self._counted_where()
        if self.one is None or scope is None:
            return None
        one, *more = cells = self._cells(self.rng.choice((2, 2, 3)), self.one.mention)
        return self._said("ditto", (Want(cells, (scope,)),), x=one, y=more)

    def _index(self) -> Draft | None:
        """Another cell type, and all nuclei for an index."""
        scope = self._counted_where()
        if self.one is None or scope is None or self.one.mention.target is None:
            return None
        (cell,) = self._cells(1, self.one.mention)
        return self._said("index", (Want((cell, self.sampler.nuclei()), (scope,)),), x=cell)

    def _counted_where(self) -> Scope | None:
        """Where the last cells were counted, if nothing but that was asked."""
        last = self.thread.last
        if self.one is None or self.one.mention.kind != "cell" or last is None:
            return None
        if any(want.boxes or want.measures for want in last.wants):
            return None
        return self.thread.scope_of(self.one.number)

    # -- two places: "A in that, and A and B in the dermis"
    def _spread(self) -> Draft | None:
        near = self.thread.nearby()
        if near is None:
            return None
        region, (one, two) = self._new_region(), self._cells(2)
        how = self.rng.choice(("same", "more", "other"))
        first = Want((one,), (Scope(within=near),))
        there = {"same": (one,), "more": (one, two), "other": (two,)}[how]
        wants = (first, Want(there, (Scope(within=region),)))
        return self._said(f"spread.{how}", wants, x=one, y=two, r=near, q=region)

    def _crossed(self) -> Draft | None:
        """One thing in each of two regions: "A in the former, B in the latter"."""
        regions = self.thread.regions
        if len(regions) < 2:
            return None
        first, second = sorted(self.rng.sample(regions, 2), key=lambda k: k.number)
        if nested(self.thread, second, first):
            return None
        pair = len(regions) == 2 and not {k.number for k in regions} & self.thread.unordered
        if not pair and not (self.thread.unique(first) and self.thread.unique(second)):
            return None
        one, two = self._cells(2)
        if self.rng.random() < 0.3:
            one, two = self._new_region(), self._new_region()
        if one.target == two.target:
            return None
        wants = (Want((one,), (Scope(within=first),)), Want((two,), (Scope(within=second),)))
        kind = ("pair." if pair else "named.") + ("count" if one.kind == "cell" else "show")
        return self._said(f"crossed.{kind}", wants, x=one, y=two, r=first, q=second)

    def _split(self) -> Draft | None:
        """The last count in each of several regions: "split that into A / B / C"."""
        known, last = self.one, self.thread.last
        if known is None or known.mention.kind != "cell" or not self.thread.unscoped(known):
            return None
        if last is None or any(want.boxes or want.measures for want in last.wants):
            return None
        regions: list[Mention] = []
        for _ in range(self.rng.choice((2, 2, 3, 3, 4))):
            regions.append(self.sampler.mention("region", not_in=regions, plain=True))
        want = Want((known.mention,), tuple(Scope(within=region) for region in regions))
        draft = self._said("split", (want,), x=known, r=regions)
        mark = self.rng.choice((" / ", " / ", "/", ", ", " vs "))
        return with_slots(draft, l=mark.join(region.noun.text for region in regions))

    def _minus(self) -> Draft | None:
        """Cells in a part, and in its whole without it."""
        pairs = self.thread.placed(self._named("region"))
        pairs = [(part, whole) for part, whole in pairs if self.thread.unique(whole)]
        if not pairs:
            return None
        part, whole = self.rng.choice(pairs)
        (cell,) = self._cells(1)
        scopes = (Scope(within=part), Scope(within=whole, outside=part))
        return self._said("minus", (Want((cell,), scopes),), x=cell, r=part, q=whole)

    # -- one in the other: "vessels in that, and any thrombi in those"
    def _deeper(self) -> Draft | None:
        near = self.thread.nearby()
        if near is None:
            return None
        outer = self._new_region(countable=True)
        inner = self._new_region(outer)
        wants = (
            Want((outer,), (Scope(within=near),)),
            Want((inner,), (Scope(within=outer, around=near),)),
        )
        return self._said("deeper", wants, x=outer, y=inner, r=near)

    def _filled(self) -> Draft | None:
        """A region in what the thread has, and cells in that."""
        near = self.thread.nearby()
        if near is None:
            return None
        outer = self._new_region(countable=True)
        cells = self._cells(self.rng.choice((1, 1, 2)))
        wants = (
            Want((outer,), (Scope(within=near),)),
            Want(cells, (Scope(within=outer, around=near),)),
        )
        return self._said("filled", wants, x=cells, y=outer, r=near)

    # -- one known, one new: "the area of the islets, and of the acini as well"
    def _sizes(self) -> Draft | None:
        kind = self.rng.choice(("region", "region", "cell"))
        known = [k for k in self._named(kind) if not self.thread.has("measure", k.number)]
        known = [k for k in known if self.thread.unscoped(k)]
        if not known:
            return None
        old = self.rng.choice(known)
        new = self._new_region() if kind == "region" else self._cells(1, old.mention)[0]
        return self._said(f"sizes.{kind}", (Want((old, new), measures=True),), x=old, y=new)

    def _boxed(self) -> Draft | None:
        """Boxes on what was just counted; another cell type there, boxed too or counted only."""
        scope = self._counted_where()
        if self.one is None or scope is None or scope.outside is not None:
            return None
        (cell,) = self._cells(1, self.one.mention)
        too = self.rng.random() < 0.5
        wants = (Want((self.one,), boxes=True), Want((cell,), (scope,), boxes=too))
        how = f"boxed.{'too' if too else 'only'}.{'there' if scope.within else 'free'}"
        return self._said(how, wants, x=self.one, y=cell)

    def _figures(self) -> Draft | None:
        """The share of a region that the thread has, and the nuclear size of new cells."""
        regions = [k for k in self._named("region") if self.thread.unscoped(k)]
        lines = self.thread.lines
        free = [k for k in regions if SHARE not in lines[k.number]]
        free = [k for k in free if not self.thread.has("measure", k.number)]
        if not free:
            return None
        known, (cell,) = self.rng.choice(free), self._cells(1)
        wants = (Want((known,), measures=True), Want((cell,), measures=True))
        return self._said("figures", wants, x=cell, r=known)
