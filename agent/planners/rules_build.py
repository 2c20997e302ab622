"""From requests to calls: the contract's section "When which tool is right" as code."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from agent.planners.rules_phrases import Phrase, Relation, Target
from agent.planners.rules_read import Request
from agent.planners.rules_thread import Thread

Refs = dict[Relation, str]


def build(requests: Sequence[Request], thread: Thread) -> None:
    """Add the calls of `requests` to `thread`.

    What can't be resolved (a pronoun that refers to nothing) adds nothing.
    """
    _classify(requests, thread)
    for request in requests:
        if _inherits(request, thread):
            _inherit(request, thread)
        else:
            _Builder(request, thread).run()


def _classify(requests: Sequence[Request], thread: Thread) -> None:
    """Check the tissue where an organ is named or presumed, or where the user asks for it."""
    named = list(dict.fromkeys(organ for request in requests for organ in request.organs))
    presumed = [organ for request in requests for organ in request.presumed]
    asked = any("tissue" in request.tags for request in requests)
    choice = len(named) > 1 and not any(request.targets for request in requests)
    if named or presumed or asked:
        thread.call("classify_tissue", expected=None if choice else (*named, *presumed, None)[0])


def _inherits(request: Request, thread: Thread) -> bool:
    """Whether the request only varies an earlier one: "and in the stroma?", "no, the glands"."""
    if not thread.recent() or not (request.targets or request.operands):
        return False
    varies = request.tags & {"same", "correct", "not"} or not request.intents
    return bool(varies) and all(t.phrase for t in request.targets) and "tissue" not in request.tags


def _restrictions(target: Target, thread: Thread) -> list[Refs]:
    """The references of each of the target's variants, calling for regions as needed."""
    found: list[Refs] = []
    for variant in target.variants:
        choices = [
            [(relation, f"${n}") for n in _regions(operand, thread)]
            for relation, operand in variant.items()
        ]
        found.extend(dict(pairs) for pairs in product(*choices))
    return found


def _regions(operand: Target, thread: Thread) -> list[int]:
    if operand.phrase is None:
        return thread.regions(operand.back)
    return [
        thread.call("segment", target=operand.phrase.text, **refs)
        for refs in _restrictions(operand, thread)
    ]


def _produce(phrase: Phrase, refs: Refs, thread: Thread) -> int:
    if phrase.kind == "cell":
        cell_type = None if phrase.every_cell else phrase.text
        return thread.call("count_nuclei", cell_type=cell_type, **refs)
    return thread.call("segment", target=phrase.text, **refs)


def _again(number: int, thread: Thread, changes: Refs) -> int:
    """Repeat a producer with other restrictions."""
    text = "target" if thread.tool(number) == "segment" else "cell_type"
    refs: dict[str, str | None] = {n: thread.argument(number, n) for n in ("within", "outside")}
    # What is now inside is no longer outside, and the other way round.
    refs = {name: ref for name, ref in refs.items() if ref not in changes.values()}
    refs |= {str(name): ref for name, ref in changes.items()}
    return thread.call(thread.tool(number), **{text: thread.argument(number, text)}, **refs)


def _inherit(request: Request, thread: Thread) -> None:
    """Do what was done last, with what this request changes in it."""
    done = thread.ends(thread.recent())
    for target in request.targets or [Target(variants=request.places())]:
        for refs in _restrictions(target, thread):
            for old in _models(target, done, thread):
                tools = thread.consumers(old)
                new = _varied(target, refs, old, thread)
                for tool in tools:
                    thread.call(tool, source=f"${new}")


def _models(target: Target, done: Sequence[int], thread: Thread) -> list[int]:
    """The earlier calls that a variation repeats: all for a new place, one for a new structure."""
    if target.phrase is None:
        return list(done)
    if target.phrase.kind == "region" and any(_place(n, thread) for n in done):
        return [n for n in done if _place(n, thread)]
    alike = [n for n in done if (thread.tool(n) == "count_nuclei") == target.is_cell]
    return (alike or list(done))[-1:]


def _place(number: int, thread: Thread) -> Relation | None:
    """How a count is restricted, if it is: that is what a new region replaces."""
    if thread.tool(number) == "count_nuclei":
        for name in ("within", "outside"):
            if thread.argument(number, name):
                return name
    return None


def _varied(target: Target, refs: Refs, old: int, thread: Thread) -> int:
    if target.phrase is None:
        return _again(old, thread, refs)
    place = _place(old, thread)
    if target.phrase.kind == "region" and place:
        return _again(old, thread, {place: f"${_produce(target.phrase, refs, thread)}"})
    kept: Refs = {}
    if not refs and (thread.tool(old) == "count_nuclei") == target.is_cell:
        for name in ("within", "outside"):
            if reference := thread.argument(old, name):
                kept[name] = reference
    return _produce(target.phrase, refs or kept, thread)


class _Builder:
    """Builds the calls of one request that stands for itself."""

    def __init__(self, request: Request, thread: Thread) -> None:
        self.request = request
        self.thread = thread
        self.intents = request.intents

    def run(self) -> None:
        """Add the calls: first what is looked for, then what is asked of it."""
        targets = self.request.targets
        if not targets and not self.intents:
            return
        pair = self._pair()
        if pair:
            self._compare(*pair)
        elif "share" in self.intents and len(targets) == 1 and targets[0].phrase:
            self._share(targets[0], targets[0].phrase)
        else:
            found = [n for t in targets or [self._implied()] for n in self._find(t)]
            for number in found:
                self._finish(number)

    def _implied(self) -> Target:
        """The target of a request that names none: the last result, maybe in a new place."""
        return Target(back="them", variants=self.request.places())

    def _find(self, target: Target) -> list[int]:
        if target.phrase is None:
            meant = self.thread.meant(target.back)
            if not target.restricted:
                return meant
            refs = _restrictions(target, self.thread)
            return [_again(n, self.thread, r) for n in meant for r in refs]
        text = None if target.phrase.every_cell else target.phrase.text
        anew = target.restricted or self.intents & {"count", "show"}
        if not anew and (known := self.thread.named(text)):
            # "box the mitoses" means those that were counted in the tumor.
            self.thread.reused = True
            return known
        return [
            _produce(target.phrase, refs, self.thread)
            for refs in _restrictions(target, self.thread)
        ]

    def _finish(self, number: int) -> None:
        region = self.thread.tool(number) == "segment"
        counted = region and "count" in self.intents
        if "box" in self.intents or counted:
            self.thread.call("extract_boxes", source=f"${number}")
        figures = self.intents & {"measure", "share"}
        if region and "ratio" in self.intents:
            figures = {"measure"}
        if figures and not region and figures == {"share"}:
            return
        stated = all(self.thread.states(number, f, self.request.words) for f in figures)
        if figures and not stated:
            self.thread.call("measure", source=f"${number}")

    def _pair(self) -> tuple[Target, Target] | None:
        """The whole and the part of "how much of the WHOLE is PART", if that is what is asked."""
        targets = self.request.targets
        if len(targets) != 2:
            return None
        one, other = targets
        if "share" in self.intents and other.role == "whole":
            return other, one
        whole = one.role == "whole" or (one.phrase is not None and one.phrase.every_cell)
        if other.role == "predicate" and (whole or "share" in self.intents):
            return one, other
        return None

    def _compare(self, whole: Target, part: Target) -> None:
        """Count or measure a part and the whole that it is a share of."""
        share = "share" in self.intents
        if part.phrase is None:
            self._find(whole)
            return
        if whole.is_cell and not share:
            part.variants = whole.variants if whole.restricted else part.variants
            self._find(part)
            return
        for number in self._find(whole):
            own: Refs = {"within": f"${number}"}
            if self.thread.tool(number) == "count_nuclei":
                names: tuple[Relation, ...] = ("within", "outside")
                own = {n: ref for n in names if (ref := self.thread.argument(number, n))}
            for refs in _restrictions(part, self.thread):
                new = _produce(part.phrase, own | refs, self.thread)
                if share and not part.is_cell:
                    self.thread.call("measure", source=f"${number}")
                    self.thread.call("measure", source=f"${new}")

    def _share(self, target: Target, phrase: Phrase) -> None:
        """The share that one named structure has of the tissue, of its region, or of all cells."""
        thread = self.thread
        elsewhere = target.located or (phrase.every_cell and target.restricted)
        for refs in _restrictions(target, thread):
            if elsewhere:
                whole = _produce(phrase, {}, thread)
            elif phrase.kind == "cell":
                whole = thread.call("count_nuclei", cell_type=None, **refs)
            else:
                whole = int(refs["within"][1:]) if "within" in refs else 0
            part = _produce(phrase, refs, thread)
            for number in (whole, part) if phrase.kind == "region" else ():
                if number:
                    thread.call("measure", source=f"${number}")
