"""What is said about earlier turns: references, ellipsis, corrections, repeated questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

from models.planner.generate.drafts import Draft, Part, mix, nouns
from models.planner.generate.intents import Intent, Known, Reply, Scope, Thing, Want
from models.planner.generate.requests import Sampler
from models.planner.generate.results import count_in
from models.planner.generate.threads import Thread
from models.planner.generate.variations import Variations

_ORDINALS = ("first", "second", "third")


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
        stated = "% of the tissue" in self.thread.lines[known.number]
        if stated or self.thread.has("measure", known.number):
            return None
        draft = self._derived("result.percent", (known,), measures=True)
        return replace(draft, intent=replace(draft.intent, name=f"follow.{name}"))

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
        if len(self.focus) < 2:
            return None
        at = self.rng.randrange(min(len(self.focus), 3))
        tool = "extract_boxes" if name == "pick.boxes" else "measure"
        known = self.focus[at]
        if self.thread.has(tool, known.number):
            return None
        word = _ORDINALS[at]
        if at == len(self.focus) - 1 and self.rng.random() < 0.4:
            word = "last"
        draft = self._derived(name, (known,), boxes=tool != "measure", measures=tool == "measure")
        return self._with(draft, ordinal=word)

    def _recall(self, name: str) -> Draft | None:
        older = [k for k in self.thread.known() if k not in self.focus and self._unique(k)]
        tool = "extract_boxes" if name == "recall.target" else "measure"
        older = [k for k in older if k.mention.target and not self.thread.has(tool, k.number)]
        if not older:
            return None
        known = self.rng.choice(older)
        return self._derived(name, (known,), boxes=tool != "measure", measures=tool == "measure")

    def _named(self, name: str) -> Draft | None:
        """A request for what the thread has, by its name: "box the lymphocytes"."""
        del name
        known = [k for k in self.thread.known() if k.mention.target and self._unique(k)]
        if not known:
            return None
        chosen = tuple(self.rng.sample(known, min(len(known), 1 + (self.rng.random() < 0.25))))
        action = self.rng.choice(("box", "size", "size", "percent"))
        if action == "percent":
            return self._percent(self.rng.choice(known))
        tool = "extract_boxes" if action == "box" else "measure"
        if any(self.thread.has(tool, k.number) for k in chosen):
            return None
        if len({k.mention.kind for k in chosen}) > 1 or not all(
            k.mention.countable for k in chosen
        ):
            chosen = chosen[:1]
        section = f"{action}.{chosen[0].mention.kind}"
        return self._derived(section, chosen, boxes=action == "box", measures=action == "size")

    def _percent(self, known: Known) -> Draft | None:
        """A share of the tissue: an answer where the thread states it, else a measurement."""
        if known.mention.kind != "region" or self.thread.scope_of(known.number) != Scope():
            return None
        draft = self._derived("percent.region", (known,), measures=True)
        if "% of the tissue" not in self.thread.lines[known.number]:
            return None if self.thread.has("measure", known.number) else draft
        intent = Intent("answer.result.percent.named", reply=Reply("answer", "result"))
        return replace(draft, intent=intent)

    def _unique(self, known: Known) -> bool:
        same = [k for k in self.thread.known() if k.mention.target == known.mention.target]
        return len(same) == 1

    def _derived(
        self, section: str, known: Sequence[Known], *, boxes: bool = False, measures: bool = False
    ) -> Draft:
        want = Want(tuple(known), boxes=boxes, measures=measures)
        name = f"follow.{section}"
        return Draft(Intent(name, (want,)), (Part(section, {"x": nouns(*known)}),))

    def _with(self, draft: Draft, **slots: str) -> Draft:
        part = draft.parts[0]
        return replace(draft, parts=(replace(part, slots={**part.slots, **slots}),))

    # -- "count the mitoses in it", "now the plasma cells in the stroma"
    def _scoped(self, name: str) -> Draft | None:
        """Something new in a region that the thread has."""
        del name
        regions = self.thread.regions
        if not regions:
            return None
        near = self._nearby()
        pronoun = near is not None and self.rng.random() < 0.6
        known = near if pronoun and near else self.rng.choice(regions)
        if not pronoun and not self._unique(known):
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
        want = Want((target,), (scope,), boxes=action in ("count.region", "box.cell"))
        part = Part(action, {"x": nouns(target)}, scope, pronoun=pronoun)
        return Draft(Intent(f"follow.scoped.{action}", (want,)), (part,))

    def _holds(self, name: str) -> Draft | None:
        """What the region itself is asked for: "how many lymphocytes does it contain?"."""
        near = self._nearby()
        if near is None:
            return None
        target = self.sampler.mention("cell", countable=True)
        want = Want((target,), (Scope(within=near),))
        part = Part("holds.ask", {"x": nouns(target), "r": nouns(near)})
        return Draft(Intent(f"follow.{name}", (want,)), (part,))

    def _nearby(self) -> Known | None:
        """The region that "in it" means: the one outlined last, or the one last looked in."""
        if self.one is None or self.one.mention.kind == "region":
            return self.one
        within = self.thread.scope_of(self.one.number).within
        return within if isinstance(within, Known) else None

    # -- "how many was that again?"
    def _result(self, name: str) -> Draft | None:
        del name
        asked = self._asked()
        if asked is None:
            return None
        section, slots = asked
        intent = Intent(f"answer.{section}", reply=Reply("answer", "result"))
        said = {key: nouns(thing) for key, thing in slots.items()}
        return Draft(intent, (Part(section, said),))

    def _asked(self) -> tuple[str, dict[str, Thing]] | None:
        """What the thread's lines state and can be asked again."""
        options: list[tuple[str, dict[str, Thing]]] = []
        lines = self.thread.lines
        for known in (self.one,) if self.one else ():
            line, slots = lines.get(known.number, ""), {"x": known}
            if count_in(line) is not None:
                options.append(("result.count", dict(slots)))
                if "/mm2" in line:
                    options.append(("result.density", dict(slots)))
            if "% of the tissue" in line:
                options.append(("result.percent", dict(slots)))
            if "present" in line:
                options.append(("result.present", dict(slots)))
            if self.thread.has("measure", known.number) and known.mention.kind == "region":
                options.append(("result.area", dict(slots)))
        counted = [k for k in self.focus if count_in(lines.get(k.number, "")) is not None]
        if len(counted) == len(self.focus) == 2 and _differ(*counted):
            options.append(("result.sum", {"x": counted[0], "y": counted[1]}))
        calls = self.thread.turns[-1].calls if self.thread.turns else ()
        tool = calls[0]["tool"] if len(calls) == 1 else None
        result = self.thread.turns[-1].result
        if tool == "classify_tissue" and "not known" not in result:
            options = [("result.tissue", {})]
        if tool == "extract_boxes" and result[0].isdigit():
            options = [("result.boxes", {})]
        return self.rng.choice(options) if options else None


def _differ(one: Known, other: Known) -> bool:
    return one.mention.target != other.mention.target
