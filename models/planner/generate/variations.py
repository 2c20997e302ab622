"""The last request with one thing changed: "and the neutrophils?", "no, in the stroma"."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from models.planner.generate.drafts import Draft, Part, nouns
from models.planner.generate.entities import Mention
from models.planner.generate.intents import Intent, Known, Scope, Thing, Want
from models.planner.generate.requests import Sampler
from models.planner.generate.threads import Thread


class Variations:
    """Makes variations of a thread's last request; None where it has nothing to vary."""

    def __init__(self, thread: Thread, sampler: Sampler) -> None:
        self.thread, self.sampler = thread, sampler
        self.focus = thread.focus
        self.one = thread.focus[0] if len(thread.focus) == 1 else None

    def maker(self, name: str) -> Callable[[str], Draft | None]:
        """The maker of `same.X` or `correct.X`; one corrects only what was just done."""
        head, _, what = name.partition(".")
        if head == "correct" and self.thread.turns[-1].calls[0]["tool"] == "reply":
            return lambda _: None
        makers = {
            "target": self._target,
            "scope": self._scope,
            "outside": self._outside,
            "inside": self._inside,
            "whole": self._whole,
            "only": self._only,
            "without": self._only,
            "share": self._share,
            "part": self._part,
            "each": self._each,
            "all": self._all,
        }
        return makers[what]

    def _repeatable(self) -> tuple[Want, Mention, Scope] | None:
        """The last want, where it has one target and one place: what can be varied."""
        last = self.thread.last
        if last is None or len(last.wants) != 1 or len(self.focus) != 1:
            return None
        want = last.wants[0]
        if want.share or len(want.targets) != 1 or len(want.scopes) != 1:
            return None
        target = want.targets[0]
        if isinstance(target, Known):
            return want, target.mention, self.thread.scope_of(target.number)
        return want, target, want.scopes[0]

    def _varied(
        self, name: str, want: Want, target: Thing, scope: Scope, slots: dict[str, Thing]
    ) -> Draft:
        new = replace(want, targets=(target,), scopes=(scope,))
        said = {key: nouns(thing) for key, thing in slots.items()}
        return Draft(Intent(f"follow.{name}", (new,)), (Part(name, said),))

    def _target(self, name: str) -> Draft | None:
        found = self._repeatable()
        if found is None:
            return None
        want, old, scope = found
        new = self.sampler.mention(old.kind, not_in=(old,), countable=old.countable or None)
        if new.target is None or (old.target is None and name.startswith("correct")):
            return None
        return self._varied(name, want, new, scope, {"x": new, "y": old})

    def _scope(self, name: str) -> Draft | None:
        found = self._repeatable()
        if found is None or found[2].outside or found[2].around:
            return None
        want, target, scope = found
        if (name == "correct.scope" and scope.within is None) or not _counted(target, want):
            return None
        old = [_mention(t) for t in (target, scope.within) if t is not None]
        new = self.sampler.region(*old)
        slots = {"r": new, "q": scope.within or new}
        return self._varied(name, want, target, Scope(within=new), slots)

    def _outside(self, name: str) -> Draft | None:
        found = self._repeatable()
        if found is None or found[2].outside or found[2].around:
            return None
        want, target, scope = found
        if scope.within is None:
            return None
        return self._varied(name, want, target, Scope(outside=scope.within), {"r": scope.within})

    def _inside(self, name: str) -> Draft | None:
        found = self._repeatable()
        if found is None or found[2].within:
            return None
        want, target, scope = found
        if scope.outside is None:
            return None
        return self._varied(name, want, target, Scope(within=scope.outside), {"r": scope.outside})

    def _whole(self, name: str) -> Draft | None:
        found = self._repeatable()
        if found is None or found[2].within is None:
            return None
        want, target, scope = found
        return self._varied(name, want, target, Scope(), {"r": scope.within or target})

    def _only(self, name: str) -> Draft | None:
        if self.one is None or self.one.mention.kind != "cell":
            return None
        last = self.thread.last
        if last is not None and any(want.boxes or want.measures for want in last.wants):
            return (
                None  # "without X" would mean boxes or figures anew, "how many without" would not
            )
        scope = self.thread.scope_of(self.one.number)
        if scope.outside or (scope.within and name == "same.only"):
            return None
        taken = [_mention(place) for place in (scope.within, scope.outside) if place]
        region = self.sampler.region(*[k.mention for k in self.focus], *taken)
        new = replace(scope, **{"outside" if name == "same.without" else "within": region})
        return self._varied(name, Want(()), self.one.mention, new, {"r": region})

    def _share(self, name: str) -> Draft | None:
        known = self.one
        if known is None or known.mention.kind != "cell" or known.mention.target is None:
            return None
        scope = self.thread.scope_of(known.number)
        return self._varied(name, Want(()), self.sampler.nuclei(), scope, {"x": known})

    def _part(self, name: str) -> Draft | None:
        known = self.one
        if known is None or known.mention.kind != "region":
            return None
        part = self.sampler.mention("region", not_in=(known.mention,))
        want = Want((part, known), share=True)
        return Draft(Intent(f"follow.{name}", (want,)), (Part(name, {"x": nouns(part)}),))

    def _all(self, name: str) -> Draft | None:
        """Several counts anew in one place: "both again, but only in the tumor"."""
        cells = [k.mention for k in self.focus if k.mention.kind == "cell"]
        everywhere = all(self.thread.scope_of(k.number) == Scope() for k in self.focus)
        if len(cells) < 2 or len(cells) < len(self.focus) or not everywhere:
            return None
        region = self.sampler.region()
        out = self.sampler.rng.random() < 0.3
        want = Want(tuple(cells), (Scope(outside=region) if out else Scope(within=region),))
        part = Part(f"{name}.{'out' if out else 'in'}", {"r": nouns(region)})
        return Draft(Intent(f"follow.{name}", (want,)), (part,))

    def _each(self, name: str) -> Draft | None:
        regions = [k for k in self.focus if k.mention.kind == "region"]
        if len(regions) < 2 or len(regions) != len(self.focus):
            return None
        target = self.sampler.mention("cell", countable=True)
        want = Want((target,), tuple(Scope(within=k) for k in regions))
        return Draft(Intent(f"follow.{name}", (want,)), (Part(name, {"x": nouns(target)}),))


def _mention(thing: Thing) -> Mention:
    return thing.mention if isinstance(thing, Known) else thing


def _counted(target: Thing, want: Want) -> bool:
    """Whether what was asked is about cells: only they are asked for place after place."""
    return _mention(target).kind == "cell" and not want.share
