"""From an intent and the thread so far to the plan, by the contract's rules."""

from __future__ import annotations

from dataclasses import dataclass, field

from models.planner.generate.entities import Mention
from models.planner.generate.intents import Intent, Known, Scope, Thing, Want
from models.planner.replies import reply_text
from models.planner.serialise import Call

_PRODUCER = {"cell": "count_nuclei", "region": "segment"}
_NAME = {"cell": "cell_type", "region": "target"}


@dataclass
class Ledger:
    """A thread's calls, earlier ones and the plan's, with what each is about.

    An equal call is made once: asking for it again gives the number that it has.

    Attributes:
        calls: every call, the first is `$1`.
        about: what each producer (segment, count_nuclei) is about, by number.
    """

    calls: list[Call] = field(default_factory=list)
    about: dict[int, Mention] = field(default_factory=dict)

    def fork(self) -> Ledger:
        """A copy that can be added to."""
        return Ledger(list(self.calls), dict(self.about))

    def add(self, call: Call) -> int:
        """The number of an equal call, or of this one, newly added."""
        if call in self.calls:
            return self.calls.index(call) + 1
        self.calls.append(call)
        return len(self.calls)

    def tissue(self, expected: str | None) -> int:
        """A tissue check."""
        return self.add({"tool": "classify_tissue", "args": {"expected": expected}})

    def produce(self, thing: Thing, within: int | None = None, outside: int | None = None) -> int:
        """The call that finds `thing` inside one region and outside another."""
        if isinstance(thing, Known):
            return thing.number
        args = {
            _NAME[thing.kind]: thing.target,
            "within": None if within is None else f"${within}",
            "outside": None if outside is None else f"${outside}",
        }
        number = self.add({"tool": _PRODUCER[thing.kind], "args": args})
        self.about.setdefault(number, thing)
        return number

    def region(self, thing: Thing, within: int | None = None) -> int:
        """The region that a name in "in the tumor" refers to.

        That is the latest earlier one of that name, however it was restricted, else a new one.
        """
        if isinstance(thing, Mention) and within is None:
            for number in sorted(self.about, reverse=True):
                earlier = self.about[number]
                if earlier.kind == "region" and earlier.target == thing.target:
                    return number
        return self.produce(thing, within)

    def scope(self, scope: Scope) -> tuple[int | None, int | None]:
        """The numbers of the regions `within` and `outside`."""
        around = None if scope.around is None else self.region(scope.around)
        within = None if scope.within is None else self.region(scope.within, around)
        outside = None if scope.outside is None else self.region(scope.outside)
        return within, outside

    def derive(self, tool: str, source: int) -> int:
        """Boxes around, or measurements of, a producer."""
        return self.add({"tool": tool, "args": {"source": f"${source}"}})


@dataclass(frozen=True)
class Planned:
    """A plan, and what it leaves behind.

    Attributes:
        calls: the plan.
        ledger: the thread's calls with the plan's.
        focus: numbers of the producers that were asked about, as named.
    """

    calls: list[Call]
    ledger: Ledger
    focus: tuple[int, ...] = ()


def plan(intent: Intent, thread: Ledger) -> Planned:
    """The calls that `intent` needs beyond what `thread` holds.

    Where it needs none, the thread's results answer it.
    """
    ledger = thread.fork()
    if intent.reply is not None:
        ledger.calls.append(reply(intent.reply.kind, intent.reply.reason))
        return Planned(ledger.calls[-1:], ledger)
    organ = intent.presumed()
    if organ is not None or intent.asks_tissue:
        ledger.tissue(organ)
    found = [(want, _found(want, ledger)) for want in intent.wants]
    for want, numbers in found:
        for number in numbers:
            if want.measures or want.share:
                ledger.derive("measure", number)
        for number in numbers:
            if want.boxes:
                ledger.derive("extract_boxes", number)
    if len(ledger.calls) == len(thread.calls):
        ledger.calls.append(reply("answer", "result"))
    focus = dict.fromkeys(n for want, ns in found for n in (ns[-1:] if want.share else ns))
    return Planned(ledger.calls[len(thread.calls) :], ledger, tuple(focus))


def _found(want: Want, ledger: Ledger) -> list[int]:
    """The producers of a request, in the order of its scopes and targets."""
    if want.share:
        part, whole = want.targets
        around = ledger.region(whole)
        return [around, ledger.produce(part, around)]
    scopes = [ledger.scope(scope) for scope in want.scopes]
    return [ledger.produce(t, *scope) for scope in scopes for t in want.targets]


def reply(kind: str, reason: str) -> Call:
    """A reply by its reason code, with the sentence that stands for it."""
    return {"tool": "reply", "args": {"kind": kind, "text": reply_text(kind, reason)}}
