"""What makers of follow-ups share: a thread, a sampler, and a table of `mix.toml` to draw by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import ClassVar

from models.planner.generate.drafts import Draft, Part, mix, nouns
from models.planner.generate.entities import Mention
from models.planner.generate.intents import Intent, Known, Reply, Thing, Want
from models.planner.generate.pointers import Pointers
from models.planner.generate.requests import Sampler
from models.planner.generate.threads import Thread


class Makers:
    """Draws follow-ups to one thread. A maker gives None where the thread has nothing for it.

    Attributes:
        table: of `mix.toml`; what it names X is made by the method `_X`.
    """

    table: ClassVar[str]

    def __init__(self, thread: Thread, sampler: Sampler) -> None:
        self.thread, self.sampler = thread, sampler
        self.rng: Random = sampler.rng
        self.one = thread.focus[0] if len(thread.focus) == 1 else None
        self.pointers = Pointers(thread, sampler.rng)

    def draw(self) -> Draft | None:
        """A random one that the thread allows, or None."""
        weights = mix()[self.table]
        for name in self.rng.choices(list(weights), list(weights.values()), k=8):
            maker: Callable[[], Draft | None] = getattr(self, f"_{name}")
            if draft := maker():
                named = replace(draft.intent, name=f"follow.{self.table}.{name}")
                return replace(draft, intent=named)
        return None

    def _said(self, section: str, wants: Sequence[Want], **slots: Thing | Sequence[Thing]) -> Draft:
        """A draft of one clause, its slots filled with the names of things."""
        listed = {k: s if isinstance(s, Sequence) else (s,) for k, s in slots.items()}
        said = {key: nouns(*things) for key, things in listed.items()}
        return Draft(Intent("", tuple(wants)), (Part(f"{self.table}.{section}", said),))

    def _reply(self, section: str, kind: str, reason: str, **slots: Thing) -> Draft:
        """The same for what no tool runs for."""
        return replace(
            self._said(section, (), **slots), intent=Intent("", reply=Reply(kind, reason))
        )

    def _cells(self, number: int, *taken: Mention) -> tuple[Mention, ...]:
        """Different cell types, none of `taken`, and not every nucleus."""
        found: list[Mention] = []
        while len(found) < number:
            one = self.sampler.mention("cell", not_in=(*taken, *found), countable=True)
            if one.target is not None:
                found.append(one)
        return tuple(found)

    def _new_region(self, *taken: Mention, countable: bool | None = None) -> Mention:
        """A region that the thread has not got."""
        known = [k.mention for k in self.thread.known()]
        return self.sampler.mention("region", not_in=(*known, *taken), countable=countable)

    def _named(self, kind: str) -> list[Known]:
        """What the thread has of a kind and can be meant by its name."""
        found = (k for k in self.thread.known() if k.mention.kind == kind and k.mention.target)
        return [k for k in found if self.thread.unique(k)]

    def _placed(self) -> Known | None:
        """A region that the thread has, by its name or by its place in the thread; or None."""
        named = self._named("region")
        if named and self.rng.random() < _BY_NAME:
            return self.rng.choice(named)
        return self.pointers.one("region")


_BY_NAME = 0.6
"""How often a region is called by its name, where it has one of its own."""
