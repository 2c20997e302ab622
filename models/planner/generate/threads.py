"""A thread as it grows: its turns, its calls, and what a next instruction can refer to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from random import Random

from models.planner.generate.entities import Mention
from models.planner.generate.grammar import Language, language
from models.planner.generate.intents import Intent, Known, Scope
from models.planner.generate.plans import Ledger, Planned
from models.planner.generate.results import World, retold
from models.planner.replies import reply_text
from models.planner.serialise import Call, Turn

_SEVERAL = (
    *("conditional", "chain", "share.region", "follow.same.part", "follow.same.share"),
    "follow.refer.among",
    *("follow.add.spread", "follow.add.crossed", "follow.add.deeper", "follow.add.filled"),
    *("follow.add.boxed", "follow.add.figures", "follow.alike.part", "follow.alike.sizes"),
)
"""Intents about one thing and what it is a part of: what "it" means afterwards can't be told."""
_UNORDERED = (
    *("share", "compare", "idiom", "follow.same.share", "follow.same.part", "follow.alike.part"),
    "follow.add.split",
)
"""Intents whose words may name the second call first: "what share of the tumor is necrosis?"."""


@dataclass
class Thread:
    """Earlier turns, and what they are about.

    Attributes:
        world: the made-up image.
        language: that is spoken.
        turns: as the planner is shown them.
        ledger: all calls, numbered through the thread.
        last: the latest intent that ran tools, or None.
        focus: what "them" means: the producers that the last tool turn was about, as named.
        lines: each call's own result line, by number.
        unordered: numbers of calls that may not be in the order in which they were named.
        unclear: the request behind a question back that has not been cleared up, or None.
    """

    world: World
    language: Language = field(default_factory=partial(language, "en"))
    turns: list[Turn] = field(default_factory=list)
    ledger: Ledger = field(default_factory=Ledger)
    last: Intent | None = None
    focus: tuple[Known, ...] = ()
    lines: dict[int, str] = field(default_factory=dict)
    unordered: set[int] = field(default_factory=set)
    unclear: Intent | None = None

    @property
    def regions(self) -> list[Known]:
        """Every region that was outlined."""
        return [k for k in self.known() if k.mention.kind == "region"]

    def known(self) -> list[Known]:
        """Everything that can be referred to, oldest first."""
        return [Known(n, mention) for n, mention in sorted(self.ledger.about.items())]

    def nearby(self) -> Known | None:
        """The region that "in it" means: the one outlined last, or the one last looked in."""
        if len(self.focus) != 1:
            return None
        if self.focus[0].mention.kind == "region":
            return self.focus[0]
        within = self.scope_of(self.focus[0].number).within
        return within if isinstance(within, Known) else None

    def scope_of(self, number: int) -> Scope:
        """Where the call with that number looked."""
        args = self.ledger.calls[number - 1]["args"]
        places = {}
        for name in ("within", "outside"):
            if args[name] is not None:
                at = int(args[name][1:])
                places[name] = Known(at, self.ledger.about[at])
        return Scope(**places)

    def placed(self, found: Iterable[Known]) -> list[tuple[Known, Known]]:
        """Those of `found` that were looked for in one region and outside of none, with it."""
        scopes = ((known, self.scope_of(known.number)) for known in found)
        return [(k, s.within) for k, s in scopes if isinstance(s.within, Known) and not s.outside]

    def organ(self) -> str | None:
        """The organ that was last presumed."""
        expected = [
            c["args"]["expected"] for c in self.ledger.calls if c["tool"] == "classify_tissue"
        ]
        return next((organ for organ in reversed(expected) if organ), None)

    def has(self, tool: str, number: int) -> bool:
        """Whether the call `number` was boxed or measured already."""
        return {"tool": tool, "args": {"source": f"${number}"}} in self.ledger.calls

    def add(self, rng: Random, instruction: str, intent: Intent, planned: Planned) -> None:
        """Take in a turn: run its calls in the made-up world, and move the focus."""
        first = len(self.ledger.calls) + 1
        self.ledger = planned.ledger
        calls = planned.calls
        self.unclear = None
        if calls[0]["tool"] == "reply":
            self.turns.append(_retold(rng, Turn(instruction, calls, self._reply_line(calls[0]))))
            return
        for number, call in enumerate(calls, first):
            refs = [call["args"].get(name) for name in ("source", "within", "outside")]
            found = [self.lines[int(ref[1:])] for ref in refs if ref]
            self.lines[number] = self.world.line(rng, call, found)
        numbers = range(first, first + len(calls))
        if rng.random() < _RETOLD:
            english = rng.random() < _IN_ENGLISH
            teller = language("en") if english else self.language
            result = rng.choice(_JOINTS).join(self._told(rng, n, teller) for n in numbers)
        else:
            result = _JOINTS[0].join(self.lines[n] for n in numbers)
        self.turns.append(Turn(instruction, calls, result))
        if intent.name.startswith(_UNORDERED) or self._nested(numbers):
            self.unordered.update(numbers)
        if intent.wants:
            self.last = intent
            several = intent.name.startswith(_SEVERAL)
            focus = () if several else planned.focus
            self.focus = tuple(Known(n, self.ledger.about[n]) for n in focus)

    def _nested(self, numbers: range) -> bool:
        """Whether these calls outline a region in or without another of them."""
        names = {f"${n}" for n in numbers}
        calls = [self.ledger.calls[n - 1] for n in numbers]
        regions = [call["args"] for call in calls if call["tool"] == "segment"]
        return any(names & {args["within"], args["outside"]} for args in regions)

    def companions(self, number: int) -> int:
        """How many calls of the same tool the turn of call `number` made, with that one."""
        first = 1
        for turn in self.turns:
            if number < first + len(turn.calls):
                tool = self.ledger.calls[number - 1]["tool"]
                return [call["tool"] for call in turn.calls].count(tool)
            first += len(turn.calls)
        return 0

    def _told(self, rng: Random, number: int, teller: Language) -> str:
        """The line of a call in another system's words; a measurement may state the share too."""
        line = self.lines[number]
        source = self.ledger.calls[number - 1]["args"].get("source")
        about = self.ledger.about.get(int(source[1:]) if source else number)
        if about is None:
            return retold(rng, line, "", language("en"))
        if source and about.kind == "region" and line.startswith("area ") and rng.random() < 0.5:
            at = int(source[1:])
            if "%" not in self.lines[at]:
                self.lines[at] += f", {rng.uniform(0.3, 60):.1f}% of the tissue"
                line += self.lines[at][self.lines[at].rindex(",") :]
        own = teller is self.language
        said = teller.phrase((about.noun,), "x") if own else about.target or "nuclei"
        return retold(rng, line, said, teller)

    def line_of(self, tool: str, number: int) -> str:
        """The line of the boxes or the measurement of call `number`, or ""."""
        call = {"tool": tool, "args": {"source": f"${number}"}}
        calls = self.ledger.calls
        return self.lines[calls.index(call) + 1] if call in calls else ""

    def unique(self, known: Known) -> bool:
        """Whether its name means this one only."""
        return [k.mention.target for k in self.known()].count(known.mention.target) == 1

    def unscoped(self, *known: Known) -> bool:
        """Whether all of them were looked for everywhere."""
        return all(self.scope_of(k.number) == Scope() for k in known)

    def ambiguous(self, mention: Mention) -> bool:
        """Whether the thread has something of that name in some place only.

        Then "the glands" without a place may mean that, or all.
        """
        same = [k for k in self.known() if k.mention.target == mention.target]
        return any(self.scope_of(k.number) != Scope() for k in same)

    def _reply_line(self, call: Call) -> str:
        kind, text = call["args"]["kind"], call["args"]["text"]
        if (kind, text) == ("answer", reply_text("answer", "result")):
            ran = [t.result for t in self.turns if t.calls[0]["tool"] != "reply"]
            return reply_text("answer", "result", ran)
        return str(text)


def _retold(rng: Random, turn: Turn) -> Turn:
    """A reply as another planner would have put it, now and then: free text, no reason code."""
    if rng.random() > _RETOLD:
        return turn
    kind = turn.calls[0]["args"]["kind"]
    text = rng.choice(_WORDS[kind])
    call = {"tool": "reply", "args": {"kind": kind, "text": text}}
    return Turn(turn.instruction, [call], rng.choice((text, "", kind)))


_RETOLD = 0.4
"""How often a turn's result is in the words of another system."""
_IN_ENGLISH = 0.4
"""How often that system tells its results in English, whatever is spoken."""
_JOINTS = ("; ", "; ", " | ", ". ", ", ", " / ")
"""What stands between the lines of a turn's calls: ours first, then other systems'."""
_WORDS = {
    "clarify": ("Which structure do you mean?", "What should I outline or count?"),
    "decline": ("I can't do that.", "That is beyond what this system does."),
    "answer": ("At your service.", "In short, yes.", "That depends."),
}
