"""What is said about earlier turns: references, ellipsis, corrections, repeated questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

from models.planner.generate.additions import Additions
from models.planner.generate.analogies import Analogies
from models.planner.generate.drafts import Draft, Part, mix, nouns, with_slots
from models.planner.generate.figures import Figures
from models.planner.generate.intents import Intent, Known, Reply, Scope, Want
from models.planner.generate.recollections import Recollections
from models.planner.generate.references import References
from models.planner.generate.requests import Sampler
from models.planner.generate.results import SHARE
from models.planner.generate.threads import Thread
from models.planner.generate.variations import Variations

_ORDINALS = ("first", "second", "third")
_MANY = 5
"""Of how many findings a user says "all of them"."""


class FollowUps:
    """Draws follow-ups to one thread. A maker gives None where the thread has nothing for it."""

    def __init__(self, thread: Thread, sampler: Sampler) -> None:
        self.thread, self.sampler = thread, sampler
        self.rng: Random = sampler.rng
        self.focus = thread.focus
        self.one = thread.focus[0] if len(thread.focus) == 1 else None
        self.variations = Variations(thread, sampler)

    def draw(self) -> Draft | None:
        """A random follow-up that the thread allows, or None where it allows none."""
        for makers in (References, Additions, Analogies):
            chosen = self.rng.random() < mix()["thread"][makers.table]
            if chosen and (draft := makers(self.thread, self.sampler).draw()):
                return draft
        weights = mix()["follow"]
        names = list(weights)
        for name in self.rng.choices(names, list(weights.values()), k=12):
            if draft := self._maker(name)(name):
                return draft
        return None

    def _maker(self, name: str) -> Callable[[str], Draft | None]:
        """What makes the follow-up `name` of `mix.toml`: the method of its name, or of its head."""
        head, _, tail = name.partition(".")
        if head in ("same", "correct"):
            return self.variations.maker(name)
        method = f"_{head}_{tail}" if hasattr(self, f"_{head}_{tail}") else f"_{head}"
        found: Callable[[str], Draft | None] = getattr(self, method)
        return found

    # -- "box them", "measure both", "how big is the second one?"
    def _it(self, name: str) -> Draft | None:
        if self.one is None:
            return None
        known = self.one
        boxed = self.thread.has("extract_boxes", known.number)
        measured = self.thread.has("measure", known.number)
        boxes, measures = name in ("it.boxes", "it.both"), name in ("it.measures", "it.both")
        if (boxes and boxed) or (measures and measured):
            return None
        section = f"{name}.{known.mention.kind}" if name == "it.measures" else name
        return self._derived(section, (known,), boxes=boxes, measures=measures)

    def _it_percent(self, name: str) -> Draft | None:
        """A share of the tissue ("what percentage is that?") that no line states."""
        known = self.one
        if known is None or known.mention.kind != "region":
            return None
        stated = SHARE in self.thread.lines[known.number]
        if stated or self.thread.has("measure", known.number):
            return None
        draft = self._derived("result.percent", (known,), measures=True)
        return replace(draft, intent=replace(draft.intent, name=f"follow.{name}"))

    def _all_percent(self, name: str) -> Draft | None:
        """The shares of the tissue of several regions, which no line states."""
        regions = [k for k in self.focus if k.mention.kind == "region"]
        if len(regions) < 2 or len(regions) < len(self.focus):
            return None
        if any(
            "%" in self.thread.lines[k.number] or self.thread.has("measure", k.number)
            for k in regions
        ):
            return None
        return self._derived(name, regions, measures=True)

    def _every(self, name: str) -> Draft | None:
        """Boxes around, or sizes of, all that the whole thread has found: "box both"."""
        tool = "extract_boxes" if name == "every.boxes" else "measure"
        known = self.thread.known()
        fresh = not any(self.thread.has(tool, k.number) for k in known)
        if len(known) < 2 or len(known) == len(self.focus) or not fresh:
            return None
        if not self.thread.unscoped(*known) or len(known) > _MANY:
            return None
        two = len(known) == 2 and self.rng.random() < 0.6
        section = f"{'all' if two else 'every'}.{'boxes' if tool != 'measure' else 'measures'}"
        return self._derived(section, known, boxes=tool != "measure", measures=tool == "measure")

    def _it_count(self, name: str) -> Draft | None:
        if self.one is None or self.one.mention.kind == "cell" or not self.one.mention.countable:
            return None
        if self.thread.has("extract_boxes", self.one.number):
            return None
        return self._derived(name, (self.one,), boxes=True)

    def _all(self, name: str) -> Draft | None:
        tool = "extract_boxes" if name == "all.boxes" else "measure"
        last = self.thread.last
        if len(self.focus) < 2 or last is None or len(last.wants) != 1:
            return None
        if any(self.thread.has(tool, k.number) for k in self.focus):
            return None
        return self._derived(
            name, self.focus, boxes=name == "all.boxes", measures=name == "all.measures"
        )

    def _pick(self, name: str) -> Draft | None:
        things = self.focus
        known = tuple(self.thread.known())
        if len(things) == 1 and len(known) <= len(_ORDINALS) and self.thread.unscoped(*known):
            things = known
        if len(things) < 2:
            return None
        at = self.rng.randrange(min(len(things), 3))
        tool = "extract_boxes" if name == "pick.boxes" else "measure"
        thing = things[at]
        if self.thread.has(tool, thing.number):
            return None
        word = _ORDINALS[at]
        if at == len(things) - 1 and self.rng.random() < 0.4:
            word = "last"
        draft = self._derived(name, (thing,), boxes=tool != "measure", measures=tool == "measure")
        return with_slots(draft, ordinal=word)

    def _recall(self, name: str) -> Draft | None:
        older = [k for k in self.thread.known() if k not in self.focus and self.thread.unique(k)]
        tool = "extract_boxes" if name == "recall.target" else "measure"
        older = [k for k in older if k.mention.target and not self.thread.has(tool, k.number)]
        if not older:
            return None
        known = self.rng.choice(older)
        return self._derived(name, (known,), boxes=tool != "measure", measures=tool == "measure")

    def _named(self, name: str) -> Draft | None:
        """A request for what the thread has, by its name: "box the lymphocytes"."""
        del name
        known = [k for k in self.thread.known() if k.mention.target and self.thread.unique(k)]
        if not known:
            return None
        chosen = tuple(self.rng.sample(known, min(len(known), 1 + (self.rng.random() < 0.4))))
        action = self.rng.choice(("box", "size", "size", "percent", "density"))
        if action == "percent":
            return self._percent(chosen)
        if action == "density":
            return self._density(self.rng.choice(known))
        tool = "extract_boxes" if action == "box" else "measure"
        if any(self.thread.has(tool, k.number) for k in chosen):
            return None
        if len({k.mention.kind for k in chosen}) > 1 or not all(
            k.mention.countable for k in chosen
        ):
            chosen = chosen[:1]
        section = f"{action}.{chosen[0].mention.kind}"
        return self._derived(section, chosen, boxes=action == "box", measures=action == "size")

    def _percent(self, known: Sequence[Known]) -> Draft | None:
        """Shares of the tissue: an answer where the thread states them, else measurements."""
        regions = [k for k in known if k.mention.kind == "region"]
        if not regions or not self.thread.unscoped(*regions):
            return None
        draft = self._derived("percent.region", regions, measures=True)
        stated = [SHARE in self.thread.lines[k.number] for k in regions]
        if not any(stated):
            measured = any(self.thread.has("measure", k.number) for k in regions)
            return None if measured else draft
        intent = Intent("answer.result.percent.named", reply=Reply("answer", "result"))
        return replace(draft, intent=intent) if all(stated) else None

    def _density(self, known: Known) -> Draft | None:
        """A density of what is counted already: `measure` gives it where no line states it."""
        if known.mention.kind != "cell" or self.thread.has("measure", known.number):
            return None
        draft = self._derived("recalled.density", (known,), measures=True)
        return None if "/mm2" in self.thread.lines[known.number] else draft

    def _derived(
        self, section: str, known: Sequence[Known], *, boxes: bool = False, measures: bool = False
    ) -> Draft:
        want = Want(tuple(known), boxes=boxes, measures=measures)
        name = f"follow.{section}"
        return Draft(Intent(name, (want,)), (Part(section, {"x": nouns(*known)}),))

    # -- "and as a percentage?", "density of the lymphocytes we counted"
    def _figure(self, name: str) -> Draft | None:
        figures = Figures(self.thread, self.rng)
        return figures.named() if name == "figure.named" else figures.latest()

    def _lost(self, name: str) -> Draft:
        """Something whose name the user has forgotten."""
        del name
        return self.sampler.reply("clarify", "clarify.lost")

    # -- "count the mitoses in it", "now the plasma cells in the stroma"
    def _scoped(self, name: str) -> Draft | None:
        """Something new in a region that the thread has."""
        del name
        regions = self.thread.regions
        if not regions:
            return None
        near = self.thread.nearby()
        pronoun = near is not None and self.rng.random() < 0.6
        known = near if pronoun and near else self.rng.choice(regions)
        if not pronoun and not self.thread.unique(known):
            return None
        action = self.rng.choice(
            ("count.cell", "count.cell", "count.region", "show.region", "box.cell", "density.cell")
        )
        kind, action_kind = action.split(".")
        target = self.sampler.mention(
            "cell" if action_kind == "cell" else "region",
            not_in=(known.mention,) if action_kind == "region" else (),
            countable=kind in ("count", "box") or None,
        )
        out = self.rng.random() < 0.25
        scope = Scope(outside=known) if out else Scope(within=known)
        if not out and kind != "density" and self.rng.random() < 0.2:
            scope = replace(scope, outside=self.sampler.region(known.mention, target))
        want = Want((target,), (scope,), boxes=action in ("count.region", "box.cell"))
        part = Part(action, {"x": nouns(target)}, scope, pronoun=pronoun)
        return Draft(Intent(f"follow.scoped.{action}", (want,)), (part,))

    def _again(self, name: str) -> Draft | None:
        """Cells in places that the thread has, all by name, however long ago."""
        regions = [k for k in self.thread.regions if self.thread.unique(k)]
        counted = [k for k in self.thread.known() if k.mention.kind == "cell" and k.mention.target]
        cells = list({k.mention.target: k for k in counted}.values())
        if not regions or len(self.thread.turns) < 2:
            return None
        first, *others = self.rng.sample(regions, min(2, len(regions)))
        # What was counted in one place, and now is to be without another, may keep the first.
        hows = ("in", "in", "out") if self.thread.unscoped(*counted) else ("in",)
        how = self.rng.choice((*hows, "both") if others else hows)
        scope = Scope(first if how != "out" else None, first if how == "out" else None)
        slots = {"r": nouns(first)}
        if how == "both":
            scope, slots["q"] = replace(scope, outside=others[0]), nouns(others[0])
        if len(cells) == 2 and how != "both" and self.rng.random() < 0.6:
            want = Want(tuple(k.mention for k in cells), (scope,))
            return Draft(Intent(f"follow.{name}", (want,)), (Part(f"again.two.{how}", slots),))
        if not cells or self.rng.random() < 0.25:
            target = self.sampler.mention("cell", countable=True)
        else:
            target = self.rng.choice(cells).mention
        if target.target is None:
            return None
        part = Part(f"again.{how}", slots | {"x": nouns(target)})
        return Draft(Intent(f"follow.{name}", (Want((target,), (scope,)),)), (part,))

    def _fresh(self, name: str) -> Draft | None:
        """Cells in a region, both new: "and in the dermis, how many fibroblasts?"."""
        region = self.sampler.mention("region", plain=True)
        target = self.sampler.mention("cell", countable=True)
        if any(k.mention.target == region.target for k in self.thread.known()):
            return None
        part = Part("fresh.ask", {"x": nouns(target), "r": nouns(region)})
        want = Want((target,), (Scope(within=region),))
        return Draft(Intent(f"follow.{name}", (want,)), (part,))

    def _holds(self, name: str) -> Draft | None:
        """What the region itself is asked for: "how many lymphocytes does it contain?"."""
        near = self.thread.nearby()
        if near is None:
            return None
        target = self.sampler.mention("cell", countable=True)
        want = Want((target,), (Scope(within=near),))
        part = Part("holds.ask", {"x": nouns(target), "r": nouns(near)})
        return Draft(Intent(f"follow.{name}", (want,)), (part,))

    # -- "how many was that again?"
    def _result(self, name: str) -> Draft | None:
        recollections = Recollections(self.thread, self.rng)
        return recollections.named() if name == "result.named" else recollections.latest()
