"""A thread as it grows: its turns, its calls, and what a next instruction can refer to."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from models.planner.generate.entities import Mention
from models.planner.generate.intents import Intent, Known, Scope
from models.planner.generate.plans import Ledger, Planned
from models.planner.generate.results import World, retold
from models.planner.replies import reply_text
from models.planner.serialise import Call, Turn

_SEVERAL = ("conditional", "chain", "share.region", "follow.same.part")
"""Intents about a region and what is in it: what "it" means afterwards can't be told."""


@dataclass
class Thread:
    """Earlier turns, and what they are about.

    Attributes:
        world: the made-up image.
        turns: as the planner is shown them.
        ledger: all calls, numbered through the thread.
        last: the latest intent that ran tools, or None.
        focus: what "them" means: the producers that the last tool turn was about, as named.
        lines: each call's own result line, by number.
    """

    world: World
    turns: list[Turn] = field(default_factory=list)
    ledger: Ledger = field(default_factory=Ledger)
    last: Intent | None = None
    focus: tuple[Known, ...] = ()
    lines: dict[int, str] = field(default_factory=dict)

    @property
    def regions(self) -> list[Known]:
        """Every region that was outlined."""
        return [k for k in self.known() if k.mention.kind == "region"]

    def known(self) -> list[Known]:
        """Everything that can be referred to, oldest first."""
        return [Known(n, mention) for n, mention in sorted(self.ledger.about.items())]

    def scope_of(self, number: int) -> Scope:
        """Where the call with that number looked."""
        args = self.ledger.calls[number - 1]["args"]
        places = {}
        for name in ("within", "outside"):
            if args[name] is not None:
                at = int(args[name][1:])
                places[name] = Known(at, self.ledger.about[at])
        return Scope(**places)

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
        if calls[0]["tool"] == "reply":
            self.turns.append(_retold(rng, Turn(instruction, calls, self._reply_line(calls[0]))))
            return
        for number, call in enumerate(calls, first):
            refs = [call["args"].get(name) for name in ("source", "within", "outside")]
            found = [self.lines[int(ref[1:])] for ref in refs if ref]
            self.lines[number] = self.world.line(rng, call, found)
        own = [self.lines[first + i] for i in range(len(calls))]
        others = rng.random() < _RETOLD
        joint = rng.choice(_JOINTS) if others else _JOINTS[0]
        result = joint.join(retold(rng, line) if others else line for line in own)
        self.turns.append(Turn(instruction, calls, result))
        if intent.wants:
            self.last = intent
            several = intent.name.startswith(_SEVERAL)
            focus = () if several else planned.focus
            self.focus = tuple(Known(n, self.ledger.about[n]) for n in focus)

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
_JOINTS = ("; ", "; ", " | ", ". ")
"""What stands between the lines of a turn's calls: ours first, then other systems'."""
_WORDS = {
    "clarify": ("Which structure do you mean?", "What should I outline or count?"),
    "decline": ("I can't do that.", "That is beyond what this system does."),
    "answer": ("At your service.", "In short, yes.", "That depends."),
}
