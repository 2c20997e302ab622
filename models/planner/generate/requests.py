"""First requests: intents that need nothing from the thread, sampled with what they are about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from models.planner.generate.compounds import compound
from models.planner.generate.drafts import Draft, Part, nouns, pick
from models.planner.generate.entities import Kind, Lexicon, Mention
from models.planner.generate.intents import Intent, Known, Reply, Scope, Thing, Want


@dataclass
class Sampler:
    """Draws requests in one language.

    Attributes:
        rng: the source of chance.
        words: the language's lexicon.
        organ: the organ that the thread or the request presumes so far, or None.
        regions: earlier regions that a scope may reuse by name.
    """

    rng: Random
    words: Lexicon
    organ: str | None = None
    regions: Sequence[Known] = ()

    def mention(self, kind: Kind, *, not_in: Sequence[Mention] = (), **options: Any) -> Mention:
        """An entity that fits the organ and is none of `not_in`; it may set the organ."""
        taken = {one.target for one in not_in} | ({None} if not_in else set())
        for _ in range(50):
            found = self.words.mention(self.rng, kind, self.organ, **options)
            if found.target not in taken:
                break
        self.organ = self.organ or found.organ
        return found

    def nuclei(self) -> Mention:
        """All of them, of no type."""
        return self.rng.choice([one for one, _ in self.words.entities if one.target is None])

    def several(self, kind: Kind, **options: Any) -> tuple[Mention, ...]:
        """One entity or more."""
        number = _NUMBERS.index(pick(self.rng, "targets")) + 1
        found: list[Mention] = []
        while len(found) < number:
            one = self.mention(kind, not_in=found, **options)
            if one.target is None and number > 1:
                continue
            found.append(one)
        return tuple(found)

    def region(self, *not_in: Mention) -> Thing:
        """A region to look in: sometimes one that the thread has, by its name."""
        known = [k for k in self.regions if k.mention.target not in {m.target for m in not_in}]
        if known and self.rng.random() < 0.5:
            return self.rng.choice(known)
        qualities = self.words.inventions.predicates if self.words.inventions else ()
        if qualities and self.rng.random() < _QUALITIES:
            quality = self.rng.choice(qualities)[1]
            if quality.target not in {m.target for m in not_in}:
                return quality
        return self.mention("region", not_in=not_in, plain=self.rng.random() < 0.8)

    def scope(self, *not_in: Mention) -> Scope:
        """A place, or none."""
        kind = pick(self.rng, "scope")
        if kind == "none":
            return Scope()
        first = self.region(*not_in)
        if kind == "in":
            return Scope(within=first)
        if kind == "out":
            return Scope(outside=first)
        taken = first.mention if isinstance(first, Known) else first
        second = self.mention("region", not_in=(*not_in, taken), plain=True)
        if kind == "both":
            return Scope(within=first, outside=second)
        around = None if isinstance(first, Known) or not taken.countable else second
        return Scope(within=first, around=around)

    def request(self, name: str | None = None) -> Draft:
        """A request for tools, of the kind `name` of `mix.toml` or a random one."""
        name = name or pick(self.rng, "request")
        made = getattr(self, f"_{name.split('.')[0]}", self._plain)(name)
        if isinstance(made, Draft):
            return made
        want, part = made
        return Draft(Intent(name, (want,)), (part,))

    def _plain(self, name: str, *, tails: bool = True) -> tuple[Want, Part]:
        """Counting, showing, boxing, measuring: targets in a place, often with something added."""
        action, _, kind = name.partition(".")
        targets = self._targets(action, kind)
        scope = Scope() if action == "percent" else self.scope(*targets)
        want = Want(
            targets,
            (scope,),
            boxes=action == "box" or (action == "count" and kind != "cell"),
            measures=action in ("size", "percent"),
            percent=action == "percent",
        )
        tail = ""
        if not tails or kind == "mass" or action not in ("count", "show", "density"):
            pass
        elif self.rng.random() < 0.13:
            tail = self.rng.choice(("boxes", "measures", "both"))
            boxes, measures = tail != "measures", tail != "boxes"
            want = replace(want, boxes=want.boxes or boxes, measures=measures)
        elif self.rng.random() < 0.05 and action != "density":
            tail = "none.boxes" if name != "count.region" and action == "count" else "none.measures"
        if tail == "measures":
            tail = f"measures.{kind}"
        return want, Part(name, {"x": nouns(*targets)}, scope, tail=tail)

    def _targets(self, action: str, name: str) -> tuple[Mention, ...]:
        kind: Kind = "cell" if name == "cell" else "region"
        if name == "mass":
            return (self.mention(kind, countable=False),)
        countable = True if kind == "cell" or action in ("count", "box") else None
        if action in ("presence", "density", "size", "percent") and self.rng.random() < 0.6:
            targets: tuple[Mention, ...] = (self.mention(kind, countable=countable),)
        else:
            targets = self.several(kind, countable=countable)
        if action == "show" and len(targets) > 1 and self.rng.random() < 0.3:
            other: Kind = "region" if kind == "cell" else "cell"
            targets = (*targets[:-1], self.mention(other, not_in=targets))
        if action == "presence" and targets[0].target is None:
            return (self.mention(kind, not_in=targets),)
        return targets

    def _show(self, name: str) -> tuple[Want, Part]:
        """Outlining; a region may be said by its adjective ("what is necrotic?")."""
        if name != "show.predicate" or not self.words.inventions:
            return self._plain("show.region" if name == "show.predicate" else name)
        said, found = self.rng.choice(self.words.inventions.predicates)
        scope = self.scope(found)
        return Want((found,), (scope,)), Part(name, {"p": said}, scope)

    def _share(self, name: str) -> tuple[Want, Part]:
        if name == "share.cell":
            part = self.mention("cell", countable=True, plain=True)
            everything = [one for one, _ in self.words.entities if one.target is None]
            if self.rng.random() < 0.45 or part.target is None:
                whole: Mention = self.rng.choice(everything)
                part = self.mention("cell", not_in=(whole,), plain=True)
            else:
                whole = self.mention("cell", not_in=(part,), plain=True)
            scope = self.scope() if self.rng.random() < 0.5 else Scope()
            want = Want((part, whole), (scope,))
            return want, Part(name, {"x": nouns(part), "y": nouns(whole)}, scope)
        whole = self.mention("region", plain=True)
        if name == "share.predicate" and self.words.inventions:
            said, part = self.rng.choice(self.words.inventions.predicates)
            if part.target != whole.target:
                slots = {"p": said, "y": nouns(whole)}
                return Want((part, whole), share=True), Part(name, slots)
        part = self.mention("region", not_in=(whole,))
        slots = {"x": nouns(part), "y": nouns(whole)}
        return Want((part, whole), share=True), Part("share.region", slots)

    def _compare(self, name: str) -> tuple[Want, Part]:
        if name == "compare.cell":
            one = self.mention("cell", plain=True)
            two = self.mention("cell", not_in=(one,), plain=True)
            if one.target is None:
                one = self.mention("cell", not_in=(one, two), plain=True)
            scope = self.scope() if self.rng.random() < 0.5 else Scope()
            slots = {"x": nouns(one), "y": nouns(two)}
            return Want((one, two), (scope,)), Part(name, slots, scope)
        if name == "compare.region":
            one = self.mention("region")
            two = self.mention("region", not_in=(one,))
            slots = {"x": nouns(one), "y": nouns(two)}
            return Want((one, two), measures=True), Part(name, slots)
        target = self.mention("cell", countable=True)
        first = self.region()
        slots = {"x": nouns(target), "r": nouns(first)}
        if name in ("compare.inout", "compare.sizes"):
            scopes: tuple[Scope, ...] = (Scope(within=first), Scope(outside=first))
        else:
            taken = first.mention if isinstance(first, Known) else first
            second = self.mention("region", not_in=(taken,), plain=True)
            slots["q"] = nouns(second)
            scopes = (Scope(within=first), Scope(within=second))
        return Want((target,), scopes, measures=name == "compare.sizes"), Part(name, slots)

    def _conditional(self, name: str) -> Draft:
        """A region, and what is in it (or outside); `chain` asks something of the region too."""
        region = self.mention("region")
        target = self.mention("cell", countable=True)
        out = name == "chain.outside"
        inside = Want((target,), (Scope(outside=region) if out else Scope(within=region),))
        measures = out or name == "chain.measures"
        of_region = Want((region,), boxes=name == "chain.boxes", measures=measures)
        part = Part(name, {"x": nouns(target), "r": nouns(region)})
        return Draft(Intent(name, (of_region, inside)), (part,))

    _chain = _conditional

    def _pair(self, name: str) -> Draft:
        """Two cell types, each in a region of its own."""
        one = self.mention("cell", countable=True)
        two = self.mention("cell", countable=True, not_in=(one,))
        first = self.mention("region", plain=True)
        second = self.mention("region", not_in=(first,), plain=True)
        slots = {"x": nouns(one), "y": nouns(two), "r": nouns(first), "q": nouns(second)}
        wants = (Want((one,), (Scope(within=first),)), Want((two,), (Scope(within=second),)))
        return Draft(Intent(name, wants), (Part(name, slots),))

    def _steps(self, name: str) -> Draft:
        """A region, one in it, and cells in that, in the order of the looking."""
        around = self.mention("region", countable=True, plain=True)
        within = self.mention("region", not_in=(around,), countable=True, plain=True)
        target = self.mention("cell", countable=True)
        wants = (
            Want((around,)),
            Want((within,), (Scope(within=around),)),
            Want((target,), (Scope(within=within, around=around),)),
        )
        slots = {"x": nouns(target), "r": nouns(within), "q": nouns(around)}
        return Draft(Intent(name, wants), (Part(name, slots),))

    def _list(self, name: str) -> Draft:
        """Tasks of different kinds as notes: "glomeruli boxed, tubules outlined"."""
        kinds = self.rng.sample(_NOTED, 3 if self.rng.random() < 0.4 else 2)
        wanted = [(kind, *self._plain(kind, tails=False)) for kind in kinds]
        parts = tuple(replace(part, section=f"note.{kind}") for kind, _, part in wanted)
        return Draft(Intent(name, tuple(want for _, want, _ in wanted)), parts)

    def _idiom(self, name: str) -> Draft:
        """A set phrase; languages without any count nuclei in words instead."""
        if not self.words.idioms:
            return self.request("count.cell")
        idiom = self.rng.choice(self.words.idioms)
        places = any("where" in text.slots for text in idiom.say)
        scope = self.scope(*idiom.targets) if places else Scope()
        want = Want(idiom.targets, (scope,), boxes=idiom.boxes, measures=idiom.measures)
        said = [t for t in idiom.say if scope == Scope() or "where" in t.slots]
        part = Part(name, {}, scope, words=self.rng.choice(said))
        intent = Intent(name, (want,), organ=idiom.organ)
        return Draft(intent, (part,), organ_said=idiom.organ is not None)

    def _tissue(self, name: str) -> Draft:
        if name == "tissue.ask":
            return Draft(Intent(name, asks_tissue=True), (Part(name, {}),))
        organ = self.words.organ(self.rng)
        slots = {"o": (organ.noun,)}
        part = Part(name, slots)
        if self.rng.random() < 0.75:
            return Draft(Intent(name, organ=organ), (part,), organ_said=True)
        self.organ = organ.expected
        follow = self.request(self.rng.choice(("count.cell", "show.region", "count.region")))
        intent = replace(follow.intent, name=f"{name}+{follow.intent.name}", organ=organ)
        return Draft(intent, (part, *follow.parts), organ_said=True)

    _compound = compound

    def reply(self, kind: str, section: str = "") -> Draft:
        """A request that no tool serves, said by `section` where it is not the reason's own.

        `clarify` fits only where nothing can be meant.
        """
        reason = "target" if kind == "clarify" else pick(self.rng, kind)
        slots = {
            "x": nouns(self.mention(self.rng.choice(("cell", "region")), countable=True)),
            "y": nouns(self.mention("cell", countable=True, plain=True)),
            "o": (self.words.organ(self.rng).noun,),
        }
        section = section or f"{kind}.{reason}"
        return Draft(Intent(section, reply=Reply(kind, reason)), (Part(section, slots),))


_QUALITIES = 0.07
"""How often a place is what some of the tissue is like: "the necrotic areas"."""
_NUMBERS = ("one", "two", "three", "four", "five")
_NOTED = (
    *("count.cell", "show.region", "show.cell", "box.cell", "box.region"),
    *("size.region", "percent.region", "density.cell", "size.cell"),
)
