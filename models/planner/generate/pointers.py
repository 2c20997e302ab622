"""How an earlier call is named by its place in the thread: "the second region", "both masks".

A pointer is a noun phrase that stands for a call, so any frame takes it. Its words are the frames
below `point` and `sets`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Literal

from models.planner.generate.grammar import Language, Noun
from models.planner.generate.intents import Known, Scope
from models.planner.generate.shortened import shortened
from models.planner.generate.threads import Thread

ORDINALS = ("first", "second", "third", "fourth", "fifth")
PointedKind = Literal["region", "cell"]
_PLURAL = "+"
"""What a plural pointer ends with in the frames."""


@dataclass(frozen=True)
class Several:
    """Earlier calls that are named together.

    Attributes:
        known: the calls, as named.
        said: a phrase that can be an object: "both regions".
        place: the same as a place: "in both regions"; "" where they are no regions.
    """

    known: tuple[Known, ...]
    said: str
    place: str = ""


class Pointers:
    """Names what one thread has by its place in it."""

    def __init__(self, thread: Thread, rng: Random) -> None:
        self.thread, self.rng = thread, rng
        self.language: Language = thread.language
        self.by_kind: dict[PointedKind, list[Known]] = {
            "region": thread.regions,
            "cell": [k for k in thread.known() if k.mention.kind == "cell"],
        }

    def one(self, kind: PointedKind, *taken: Known) -> Known | None:
        """A random call of that kind with a pointer for its name, none of `taken`; or None."""
        numbers = {k.number for k in taken}
        options = [o for o in self._options(kind) if o[1].number not in numbers]
        if not options:
            return None
        if self.rng.random() < _SHORTENED:
            short = [self._short(known) for _, known in options]
            if named := [known for known in short if known]:
                return self.rng.choice(named)
        placed = [o for o in options if o[0].endswith(ORDINALS)]
        if placed and self.rng.random() < _COUNTED:
            options = placed
        section, known = self.rng.choice(options)
        return self.named(section, known)

    def any(self) -> Known | None:
        """A call of any kind by its place among all that was found: "the third one"."""
        found = self.thread.known()
        mixed = 1 < len(self.thread.focus) < len(found)
        if len(found) < 2 or len(found) > len(ORDINALS) or mixed or self._unordered(*found):
            return None
        at = self.rng.randrange(len(found))
        last = at == len(found) - 1 and self.rng.random() < 0.4
        return self.named(f"point.one.{'last' if last else ORDINALS[at]}", found[at])

    def named(self, section: str, known: Known) -> Known:
        """`known` under the name that a section of the frames gives it."""
        slots = {"x": (known.mention.noun,)}
        scope = self.thread.scope_of(known.number)
        place = scope.within or scope.outside
        if isinstance(place, Known):
            slots["r"] = (place.mention.noun,)
        return replace(known, mention=replace(known.mention, noun=self.noun(section, slots)))

    def shorter(self, known: Sequence[Known]) -> tuple[Known, ...]:
        """`known`, sometimes each by a shorter name where it has one."""
        short = [self._short(k) for k in known]
        if self.rng.random() < _SHORTENED:
            return tuple(s or k for s, k in zip(short, known, strict=True))
        return tuple(known)

    def _short(self, known: Known) -> Known | None:
        """`known` by its head alone, where that can mean nothing else in the thread."""
        noun = shortened(known.mention.noun, self.language.code)
        if noun is None or known.mention.kind == "cell":
            return None
        word = noun.singular.lower()
        others = [k.mention for k in self.thread.known() if k.number != known.number]
        if any(word in f"{m.noun.singular} {m.noun.text}".lower() for m in others):
            return None
        return replace(known, mention=replace(known.mention, noun=noun))

    def noun(self, section: str, slots: Mapping[str, tuple[Noun, ...]] | None = None) -> Noun:
        """The noun phrase of a section, which has its article before it and + after a plural."""
        text, _ = self.language.say(self.rng, section, slots or {})
        plural = text.endswith(_PLURAL)
        mark = "'" if text.startswith("l'") else " "
        article, _, words = text.removesuffix(_PLURAL).partition(mark)
        article += mark.strip()
        return Noun(words, words, article, plural)

    def missing(self, kind: PointedKind) -> str | None:
        """The section of a place that the thread hasn't got: "the fourth region" of three."""
        have = len(self.by_kind[kind])
        if not 0 < have < len(ORDINALS):
            return None
        return f"point.{kind}.{self.rng.choice(ORDINALS[have:][:2])}"

    def several(self, kind: PointedKind) -> Several | None:
        """Two or more calls of a kind by one name, or None."""
        options = [(key, known) for key, known in self._sets(kind) if len(known) <= _MANY]
        if not options:
            return None
        key, known = self.rng.choice(options)
        said, _ = self.language.say(self.rng, f"sets.{kind}.{key}", {})
        place = ""
        if kind == "region":
            place, _ = self.language.say(self.rng, f"sets.place.{key}", {})
        return Several(tuple(known), said, place)

    def _options(self, kind: PointedKind) -> Iterator[tuple[str, Known]]:
        """Sections below `point` with what each would mean."""
        found = self.by_kind[kind]
        head = f"point.{kind}"
        if len(found) == 1:
            yield f"{head}.only", found[0]
        elif found:
            yield from ((f"{head}.{key}", k) for key, k in self._placed(found))
        for known in found:
            if known.mention.target and self.thread.unique(known):
                yield f"{head}.named", known
                if kind == "cell" and known.mention.target.endswith(_NUCLEI):
                    yield "point.cell.nuclei", known
        if kind == "cell":
            yield from self._by_scope(found)

    def _placed(self, found: list[Known]) -> Iterator[tuple[str, Known]]:
        focus = [k for k in self.thread.focus if k.mention.kind == found[0].mention.kind]
        apart = len(focus) > 1 and focus != found[: len(focus)]
        first, last = found[0], found[-1]
        placed = [("start", first), ("last", last)]
        if not apart:
            placed += [*zip(ORDINALS, found, strict=False), ("previous", found[-2])]
        yield from ((key, known) for key, known in placed if not self._unordered(known))
        if len(found) == 2 and len(focus) == 1:
            yield "other", first if focus[0] == last else last

    def _by_scope(self, found: list[Known]) -> Iterator[tuple[str, Known]]:
        """Cells by where they were counted: "the ones in the tumor"."""
        scopes = {k.number: self.thread.scope_of(k.number) for k in found}
        for known in found:
            scope = scopes[known.number]
            if list(scopes.values()).count(scope) != 1 or (scope.within and scope.outside):
                continue
            if isinstance(place := scope.within or scope.outside, Known):
                if not self.thread.unique(place):
                    continue
                yield f"point.cell.{'inside' if scope.within else 'outside'}", known

    def _sets(self, kind: PointedKind) -> Iterator[tuple[str, Sequence[Known]]]:
        found = self.by_kind[kind]
        if len(found) == 2:
            yield "both", found
        if len(found) < 3:
            return
        yield "all", found
        if not self._unordered(found[0], found[-1]):
            yield "ends", (found[0], found[-1])
        if not self._unordered(*found[-2:]):
            yield "lasts", found[-2:]
        if not self._unordered(*found[:2]):
            yield "firsts", found[:2]
        if not self._unordered(found[-1]):
            yield "butlast", found[:-1]

    def _unordered(self, *found: Known) -> bool:
        """Whether the order of some of them is not that in which they were named."""
        return any(k.number in self.thread.unordered for k in found)


def nested(thread: Thread, inner: Known, outer: Known) -> bool:
    """Whether `inner` was looked for inside or outside of `outer`."""
    scope: Scope = thread.scope_of(inner.number)
    places = (scope.within, scope.outside)
    return any(isinstance(p, Known) and p.number == outer.number for p in places)


_COUNTED = 0.6
"""How often a place is an ordinal, where it can be one."""
_SHORTENED = 0.3
"""How often a region is called by its head alone, where that names it."""
_NUCLEI = ("cell", "cyte", "blast", "phage", "phil")
"""How the names of cells end that have nuclei to speak of: a mitosis has none."""
_MANY = 5
"""Of how many calls a user speaks at once."""
