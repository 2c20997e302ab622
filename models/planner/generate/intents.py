"""What a user can want, as types. Plans follow from these by code (`plans`), never from words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from models.planner.generate.entities import Mention, Organ


@dataclass(frozen=True, slots=True)
class Known:
    """A call of an earlier turn that is referred to: its thread number and what it was about."""

    number: int
    mention: Mention


Thing = Mention | Known


@dataclass(frozen=True, slots=True)
class Scope:
    """Where to look.

    Attributes:
        within, outside: regions, or None.
        around: a region that `within` itself lies in ("in the glands of the tumor"), or None.
    """

    within: Thing | None = None
    outside: Thing | None = None
    around: Thing | None = None


@dataclass(frozen=True, slots=True)
class Want:
    """One request for tools.

    Attributes:
        targets: what to find, in the order in which they are named; a `Known` is there already.
        scopes: each target is looked for in each of these.
        boxes, measures: whether what is found is boxed (or, for regions, counted), measured.
        share: the first target is a part of the second, both are measured.
        percent: it is the share of the tissue that is asked for, which `segment` states already.
    """

    targets: tuple[Thing, ...]
    scopes: tuple[Scope, ...] = (Scope(),)
    boxes: bool = False
    measures: bool = False
    share: bool = False
    percent: bool = False

    def mentions(self) -> Iterator[Mention]:
        """What is newly named, targets first."""
        scoped = (thing for s in self.scopes for thing in (s.around, s.within, s.outside))
        yield from (thing for thing in (*self.targets, *scoped) if isinstance(thing, Mention))


@dataclass(frozen=True, slots=True)
class Reply:
    """A request that no tool serves: the reply's kind and its reason code."""

    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class Intent:
    """All that one instruction asks for.

    Attributes:
        name: for reports, e.g. `count.cell` or `follow.boxes`.
        wants: the requests, in order.
        organ: the organ that the user names as the image's, or None.
        asks_tissue: whether the user asks what tissue it is.
        reply: set where no tool runs; then `wants` is empty.
    """

    name: str
    wants: tuple[Want, ...] = ()
    organ: Organ | None = None
    asks_tissue: bool = False
    reply: Reply | None = None

    def presumed(self) -> str | None:
        """The organ that the instruction takes for granted: named, or implied by a name."""
        if self.organ is not None:
            return self.organ.expected
        organs = (m.organ for want in self.wants for m in want.mentions())
        return next((organ for organ in organs if organ), None)
