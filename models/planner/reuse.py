"""The contract's rule 6: a plan refers to what its thread has, and does not ask for it again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import count

from models.ontology import normalise
from models.planner.serialise import REFERENCES, Call, Turn

Key = tuple[str, ...]
_FAILED = re.compile(
    r"\b(?:errors?|err(?:eur|ore|o)|fehler|fail(?:ed|ure)|fehlgeschlagen|fall(?:ó|ido|it[oa]|ou)"
    r"|falhou|échec|échoué|fallida|time[ds]?[ -]?out|délai|unavailable|crashed|aborted"
    r"|died|no result|connection lost|out of memory)\b",
    re.IGNORECASE,
)
"""What says in a turn's result that something of it failed: that may be asked for again."""


def without_repeats(calls: Sequence[Call], history: Sequence[Turn]) -> list[Call]:
    """`calls` without those that repeat a call of the thread, or one before them in the plan.

    What referred to such a call refers to the one that it repeats. A reply repeats nothing, and
    what failed has not been made.

    Returns:
        The plan; empty where every call of it is a repetition.
    """
    earlier = [(call, turn) for turn in history for call in turn.calls]
    made: dict[Key, str] = {}
    for number, (call, turn) in enumerate(earlier, 1):
        if not _FAILED.search(turn.result):
            made.setdefault(_key(call), f"${number}")
    kept: list[Call] = []
    now: dict[str, str] = {}
    free = count(len(earlier) + 1)
    for number, call in enumerate(calls, len(earlier) + 1):
        args = {
            name: now.get(value, value) if name in REFERENCES else value
            for name, value in call["args"].items()
        }
        own: Call = {"tool": call["tool"], "args": args}
        if call["tool"] == "reply" or _key(own) not in made:
            made[_key(own)] = f"${next(free)}"
            kept.append(own)
        now[f"${number}"] = made[_key(own)]
    return kept


def _key(call: Call) -> Key:
    """What two calls share that ask for the same; an empty argument is one that is not there."""
    key = [str(call["tool"])]
    for name, value in sorted(call["args"].items()):
        text = str(value if value is not None else "").strip()
        if text:
            key.append(f"{name} {text if name in REFERENCES else normalise(text)}")
    return tuple(key)
