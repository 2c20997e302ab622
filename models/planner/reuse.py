"""The contract's rule 6: a plan refers to what its thread has, and does not ask for it again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import count

from models.ontology import normalise
from models.planner.serialise import REFERENCES, Call, Turn

Key = tuple[str, ...]
_FAILED = re.compile(
    # The tools' own lines of an error are told by the tool's name; these are other systems' words.
    r"(?<!no )(?<!0 )(?<!zero )(?<!without )(?<!ohne )(?<!sans )(?<!sin )(?<!senza )(?<!sense )"
    r"(?<!sem )(?<!standard )(?<!mean )(?<!count )\b(?:"
    r"errors?(?!-free)|fail(?:ed|s|ure)|crash(?:ed)?|time[ds]?[ -]?out|unavailable|abort(?:ed)?"
    r"|killed|cancell?ed|interrupted|(?:worker|connection|server) (?:lost|died|down)"
    r"|lost (?:the )?connection|no results?|out[ -]of[ -]memory"
    r"|\w*fehler|fehlgeschlagen|abgebrochen|abgestürzt|zeitüberschreitung|nicht verfügbar"
    r"|kein ergebnis|erreurs?|échec|échouée?|indisponible|délai dépassé|temps dépassé"
    r"|aucun résultat|errores|fall(?:o|ó|aron|ido|ida)|tiempo agotado|no disponible|error[ei]"
    r"|fallit[oa]|non riuscit[oa]|tempo scaduto|ha fallat|fallad?a|temps esgotat|erros?"
    r"|falh(?:a|ou|aram)|tempo esgotado|indisponível)\b",
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
    earlier = [
        (call, line)
        for turn in history
        for call, line in zip(turn.calls, _lines(turn), strict=True)
    ]
    made: dict[Key, str] = {}
    for number, (call, line) in enumerate(earlier, 1):
        if not (line.startswith(f"{call['tool']}:") or _FAILED.search(line)):
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


def _lines(turn: Turn) -> list[str]:
    """What the result says of each call: its own part, or all where parts and calls don't match."""
    parts = [part.strip() for part in re.split(r"[;.] ", turn.result)]
    return parts if len(parts) == len(turn.calls) else [turn.result] * len(turn.calls)


def _key(call: Call) -> Key:
    """What two calls share that ask for the same; an empty argument is one that is not there."""
    key = [str(call["tool"])]
    for name, value in sorted(call["args"].items()):
        text = str(value if value is not None else "").strip()
        if text:
            key.append(f"{name} {text if name in REFERENCES else normalise(text)}")
    return tuple(key)
