"""Examples: a thread, an instruction, and the plan that is right for it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import sha256
from importlib import resources
from random import Random
from typing import Any

from models.ontology import normalise
from models.planner.generate.drafts import Draft, mix, pick
from models.planner.generate.entities import Mention
from models.planner.generate.followups import FollowUps
from models.planner.generate.grammar import language
from models.planner.generate.intents import Intent, Known, Scope, Thing
from models.planner.generate.lexicons import lexicon
from models.planner.generate.misheard import cleared, misheard
from models.planner.generate.plans import Planned, plan
from models.planner.generate.requests import Sampler
from models.planner.generate.results import World
from models.planner.generate.speech import Speaker
from models.planner.generate.switching import switch
from models.planner.generate.threads import Thread
from models.planner.generate.written import dialogues, told
from models.planner.serialise import Call, Turn
from models.planner.words import language_of


@dataclass(frozen=True)
class Example:
    """One training example.

    Attributes:
        id: unique within a seed.
        instruction: what the user writes.
        history: the earlier turns, as `models.planner.serialise` takes them.
        plan: the right calls, every argument present.
        tags: intent, language, register, noises.
        frame: the id of the frame that the words come from, or of the dialogue.
        group: names the examples that mean the same, where there are several.
        sound: whether the plans of the earlier turns are right too; where a mistake is put right,
            they are not.
    """

    id: str
    instruction: str
    history: Sequence[Turn]
    plan: Sequence[Call]
    tags: tuple[str, ...]
    frame: str
    group: str | None = None
    sound: bool = True

    def case(self) -> dict[str, Any]:
        """The example as a line of the contract's case format."""
        history = [
            {"instruction": t.instruction, "calls": list(t.calls), "result": t.result}
            for t in self.history
        ]
        case: dict[str, Any] = {
            "id": self.id,
            "instruction": self.instruction,
            "history": history,
            "expect": {"calls": [_accepted(call) for call in self.plan]},
            "tags": [*self.tags, f"frame:{self.frame}"],
        }
        return case | ({"group": self.group} if self.group else {})


def _accepted(call: Call) -> Call:
    args = {name: value for name, value in call["args"].items() if value is not None}
    return {"tool": call["tool"], "args": args}


def examples(seed: int, n: int, paraphrases: int = 1, written: float = 0.0) -> Iterator[Example]:
    """`n` examples; the same for the same seed.

    Args:
        seed: of all chance.
        n: how many.
        paraphrases: how many wordings of each intent follow one another, as one group.
        written: the share of those that were written one by one (`dialogues/`), 0..1.
    """
    rng = Random(seed)  # noqa: S311 - no secret hangs on it
    made = 0
    while made < n:
        if written and rng.random() < written:
            one = told(rng, rng.choice(dialogues()))
            if not held_out(one.instruction):
                yield Example(
                    id=f"{seed}-{made}",
                    instruction=one.instruction,
                    history=one.history,
                    plan=one.plan,
                    tags=("written", language_of(one.instruction)),
                    frame=one.id,
                    sound=False,
                )
                made += 1
            continue
        maker = _Maker(rng)
        if (drawn := maker.draw()) is None:
            continue
        thread, draft, planned = drawn
        group = f"g{seed}-{made}" if paraphrases > 1 else None
        for _ in range(min(paraphrases, n - made)):
            text, frame, tags = maker.speaker.say(draft)
            if held_out(text):
                continue
            kind = ("thread",) if thread.turns else ()
            tags = (f"intent:{draft.intent.name}", maker.code, *tags, *kind)
            number = f"{seed}-{made}"
            yield Example(number, text, thread.turns, planned.calls, tags, frame, group)
            made += 1


def held_out(instruction: str) -> bool:
    """Whether an instruction is one of the hand-written test sets, which are never trained on.

    `heldout.txt` has the hashes of their normalised instructions, so that nothing of them can
    be read here.
    """
    return digest(instruction) in _held_out()


def digest(instruction: str) -> str:
    """The hash by which `heldout.txt` names an instruction."""
    return sha256(words(instruction).encode()).hexdigest()[:16]


def words(instruction: str) -> str:
    """What two instructions share that differ in case, punctuation, spelling or number only."""
    return normalise(re.sub(r"[^\w\s'’-]+", " ", instruction))


@lru_cache(maxsize=1)
def _held_out() -> frozenset[str]:
    file = resources.files(__package__) / "heldout.txt"
    return frozenset(file.read_text("ascii").split())


class _Maker:
    """One thread in one language, from its first turn to the instruction that is planned for."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.code = pick(rng, "language")
        self.words = lexicon(self.code)
        self.speaker = Speaker(rng, language(self.code), self.words)
        world = World("lung", 0.25 if rng.random() < 0.85 else None)
        self.thread = Thread(world, language(self.code))

    def draw(self) -> tuple[Thread, Draft, Planned] | None:
        """The finished thread, and the draft of its next instruction with its plan.

        None for a thread to which the mix has nothing sensible to add.
        """
        thread_mix = mix()["thread"]
        earlier = 0
        if self.rng.random() < thread_mix["share"]:
            weights = thread_mix["turns"]
            earlier = self.rng.choices(range(1, len(weights) + 1), weights)[0]
        for _ in range(earlier):
            if self.rng.random() < thread_mix["unclear"]:
                misheard(self.thread, self._sampler(), self.speaker)
                continue
            if (turn := self._turn(thread_mix["earlier_follow"])) is None:
                return None
            draft, planned = turn
            text, _, _ = self.speaker.say(draft)
            self.thread.add(self.rng, text, draft.intent, planned)
        turn = self._turn(thread_mix["follow"])
        return turn and (self.thread, *turn)

    def _switch(self) -> None:
        """Go on in another language, where that can be."""
        code = pick(self.rng, "language")
        words, spoken = lexicon(code), language(code)
        if code != self.code and switch(self.rng, self.thread, words, spoken):
            self.code, self.words = code, words
            self.speaker = Speaker(self.rng, spoken, words)

    def _turn(self, follow: float) -> tuple[Draft, Planned] | None:
        if self.thread.turns and self.rng.random() < mix()["thread"]["switch"]:
            self._switch()
        for _ in range(30):
            draft = self._draft(follow)
            planned = plan(draft.intent, self.thread.ledger)
            if _sensible(draft.intent, planned, self.thread):
                return draft, planned
        return None

    def _sampler(self) -> Sampler:
        sampler = Sampler(self.rng, self.words, regions=self.thread.regions)
        if self.rng.random() < 0.85:
            sampler.organ = self.thread.organ()
        return sampler

    def _draft(self, follow: float) -> Draft:
        sampler = self._sampler()
        if self.rng.random() < _CLEARED and (draft := cleared(self.thread)):
            return draft
        kind = pick(self.rng, "kind")
        if kind == "clarify" and self.rng.random() < _LOST:
            return sampler.reply(kind, "clarify.lost")
        if kind == "clarify" and len(self.thread.known()) == 1:
            return sampler.reply(kind, "clarify.other")
        if kind == "clarify" and self.thread.known():
            kind = "request"
        if kind != "request":
            return sampler.reply(kind)
        if self.thread.known() and self.rng.random() < follow:
            draft = FollowUps(self.thread, sampler).draw()
            if draft is not None:
                return draft
        named = self.rng.random() < float(mix()["noise"]["organ"])
        organ = self.words.organ(self.rng) if named else None
        if organ is not None:
            sampler.organ = organ.expected
        draft = sampler.request()
        if organ is None or draft.intent.organ or not draft.intent.wants:
            return draft
        return replace(draft, intent=replace(draft.intent, organ=organ))


def _sensible(intent: Intent, planned: Planned, thread: Thread) -> bool:
    """Whether someone would say this, and would mean one thing by it."""
    if len(planned.calls) > _MAX_CALLS:
        return False
    named = [t for w in intent.wants if w.scopes == (Scope(),) for t in w.targets]
    if any(_empty(scope, thread) for want in intent.wants for scope in want.scopes):
        return False
    if any(_target(place) in _EVERYWHERE for place in _places(intent)):
        return False
    whole = intent.name in _EVERYWHERE_AGAIN
    if not whole and any(isinstance(t, Mention) and thread.ambiguous(t) for t in named):
        return False
    again = [t for w in intent.wants if w.percent for t in w.targets if isinstance(t, Mention)]
    if any(k.mention.target == t.target for t in again for k in thread.known()):
        return False  # `segment` stated it: that is asked for by `result.percent`
    # Nobody asks to outline anew what is outlined; a figure is asked for again.
    repeated = intent.reply is None and planned.calls[0]["tool"] == "reply"
    return not repeated or intent.name in _ASKED_AGAIN


def _empty(scope: Scope, thread: Thread) -> bool:
    """Whether the place is a part of what is left out."""
    if not isinstance(scope.within, Known) or scope.outside is None:
        return False
    return thread.scope_of(scope.within.number).within == scope.outside


def _places(intent: Intent) -> Iterator[Thing]:
    """The regions that something is looked for in, or is a share of."""
    for want in intent.wants:
        if want.share:
            yield want.targets[1]
        for scope in want.scopes:
            yield from (p for p in (scope.within, scope.outside, scope.around) if p is not None)


def _target(thing: Thing) -> str | None:
    return (thing.mention if isinstance(thing, Known) else thing).target


_EVERYWHERE = ("tissue",)
"""What is no place of its own: a share of it is a share of the tissue."""
_EVERYWHERE_AGAIN = ("follow.same.whole", "follow.refer.whole")
"""Intents that lift an earlier restriction."""
_MAX_CALLS = 10
_ASKED_AGAIN = (
    *("count.cell", "size.region", "tissue.ask", "tissue.is"),
    *("share.cell", "compare.cell", "follow.same.share"),
)
_CLEARED = 0.8
"""How often what could not be made out is cleared up by the next turn."""
_LOST = 0.2
"""How often who wants something that can't be told has forgotten its name."""
