"""Compound requests: several things asked for, each with something of its own, or some taken back.

`shapes.toml` says for each shape what is named and what is wanted of it; the words are the
sections `mixed.SHAPE` of the frames, in which `{R}` is slot r when it is named again. A shape is
drawn by the table `mixed` of `mix.toml`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from models.planner.generate.drafts import Draft, Part, nouns, pick
from models.planner.generate.entities import Kind, Mention
from models.planner.generate.grammar import Noun
from models.planner.generate.intents import Intent, Scope, Want
from models.planner.generate.shortened import shortened

if TYPE_CHECKING:
    from models.planner.generate.requests import Sampler

SECTION = "mixed."
"""What the frames' sections of the shapes start with."""
_TRIES = 40
_SHORT = 0.7
"""How often what is named again is named by its head alone ("the muscle"), where it can be."""
_JOINED = (
    *("count.cell", "count.region", "show.region", "show.cell", "size.region"),
    *("percent.region", "box.region", "size.cell", "box.cell"),
)


@dataclass(frozen=True)
class Shape:
    """What a compound request names, and what it wants of it.

    Attributes:
        slots: name → what fills it, as `_drawn` reads it; in the order in which they are said.
        wants: requests with the slots' names in place of things.
        beside: slots that are named but not asked for: they presume no organ.
        say: the section after `mixed.`, where it is not the shape's name.
    """

    slots: Mapping[str, str]
    wants: Sequence[Mapping[str, Any]]
    beside: Sequence[str] = ()
    say: str = ""


@lru_cache(maxsize=1)
def shapes() -> dict[str, Shape]:
    """`shapes.toml`, by name."""
    text = (resources.files(__package__) / "shapes.toml").read_text("utf-8")
    return {name: Shape(**table) for name, table in tomllib.loads(text)["shape"].items()}


def compound(sampler: Sampler, name: str) -> Draft:
    """A request for several things: plain ones that are joined, or a shape."""
    shape = pick(sampler.rng, "mixed")
    return joined(sampler, name) if shape == "joined" else shaped(sampler, shape)


def joined(sampler: Sampler, name: str) -> Draft:
    """Two or three plain requests, one after the other."""
    count = 3 if sampler.rng.random() < 0.2 else 2
    drafts = [sampler.request(sampler.rng.choice(_JOINED)) for _ in range(count)]
    wants = tuple(want for draft in drafts for want in draft.intent.wants)
    parts = tuple(part for draft in drafts for part in draft.parts)
    return Draft(Intent(name, wants), parts)


def shaped(sampler: Sampler, name: str) -> Draft:
    """A request of one shape."""
    shape = shapes()[name]
    found: dict[str, Mention] = {}
    for slot, kind in shape.slots.items():
        found[slot] = _drawn(sampler, kind, tuple(found.values()), slot in shape.beside)
    wants = tuple(_want(entry, found) for entry in shape.wants)
    slots = {slot: nouns(mention) for slot, mention in found.items()}
    slots |= {slot.upper(): (noun,) for slot, noun in _again(sampler, found)}
    part = Part(SECTION + (shape.say or name), slots)
    return Draft(Intent(_intent(name, wants), wants), (part,))


def _drawn(sampler: Sampler, kind: str, taken: Sequence[Mention], beside: bool) -> Mention:
    """Something for a slot, of one of the kinds that `shapes.toml` explains."""
    if kind == "nuclei":
        return sampler.nuclei()
    if kind == "either":
        kind = sampler.rng.choice(("cell", "countable"))
    of: Kind = "cell" if kind == "cell" else "region"
    countable = {"cell": True, "countable": True, "mass": False}.get(kind)
    before = sampler.organ
    for _ in range(_TRIES):
        options = {"countable": countable, "plain": beside or sampler.rng.random() < 0.7}
        found = sampler.mention(of, not_in=taken, **options)
        if found.target is not None and not (beside and found.organ):
            break
        sampler.organ = before
    return found


def _again(sampler: Sampler, found: Mapping[str, Mention]) -> Iterator[tuple[str, Noun]]:
    """How each is named a second time: by its head, where that is a name for none of the others."""
    for slot, mention in found.items():
        head = shortened(mention.noun, sampler.words.code)
        others = (other.noun.text.split() for name, other in found.items() if name != slot)
        clear = head is not None and all(head.text not in words for words in others)
        yield slot, head if head and clear and sampler.rng.random() < _SHORT else mention.noun


def _want(entry: Mapping[str, Any], found: Mapping[str, Mention]) -> Want:
    """A request for slots: `find` names them, `in`, `of` and `out` the place."""
    targets = tuple(found[slot] for slot in entry["find"])
    places = [Scope(within=found[slot]) for slot in entry.get("each", "")]
    scope = Scope(
        within=found.get(entry.get("in", "")),
        outside=found.get(entry.get("out", "")),
        around=found.get(entry.get("of", "")),
    )
    flags = {name: entry[name] for name in ("boxes", "measures", "share") if name in entry}
    return Want(targets, tuple(places) or (scope,), **flags)


def _intent(name: str, wants: Sequence[Want]) -> str:
    """The intent's name; a `chain` where something is asked for that is a place as well."""
    targets = {thing for want in wants for thing in want.targets}
    places = {scope.within for want in wants for scope in want.scopes}
    head = "chain.mixed" if targets & places else "mixed"
    return f"{head}.{name}"
