"""A second opinion on the embedded model's plan: what else the words could mean.

The model is small, and where it hesitates, a plan that follows from the words by rules is the
better guess. Each such plan is weighed by the model itself, and wins where the model finds it at
most a margin less likely than its own. The two margins were chosen on
`eval/cases/development.jsonl`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agent.planners.rules import plan_by_rules
from models.ontology import normalise
from models.planner.decode import Rival
from models.planner.gloss import gloss
from models.planner.organs import borne_out, organs_in
from models.planner.serialise import Call, Turn

RULES = 1.5
"""Margin of the rules planner's plan, in nats."""
ORGAN = 8.0
"""Margin of a tissue check of an organ that is spoken of, where the model's own is not."""


def rivals(history: Sequence[Turn], instruction: str, calls: Sequence[Call]) -> list[Rival]:
    """Plans that may be meant in place of the model's own `calls`, none of them equal to it."""
    earlier = [
        {"instruction": turn.instruction, "calls": turn.calls, "result": turn.result}
        for turn in history
    ]
    by_rules = plan_by_rules(instruction, earlier)
    found = [*_other_organs(history, gloss(instruction), calls)]
    if by_rules[0]["args"].get("kind") != "clarify":  # which only says that they don't understand
        found.append(Rival(by_rules, RULES, "rules"))
    return [rival for rival in found if rival.calls != calls]


def _other_organs(history: Sequence[Turn], text: str, calls: Sequence[Call]) -> Iterator[Rival]:
    """The plan with every organ that `text` speaks of, where that of its own check is none."""
    check, *rest = calls
    if check["tool"] != "classify_tissue":
        return
    expected = check["args"]["expected"]
    if expected is None or borne_out(expected, text):
        return
    checked = {
        normalise(call["args"]["expected"] or "")
        for turn in history
        for call in turn.calls
        if call["tool"] == "classify_tissue"
    }
    for organ in organs_in(text):
        if normalise(organ) not in checked:
            own: Call = {"tool": "classify_tissue", "args": {"expected": organ}}
            yield Rival([own, *rest], ORGAN, "organ")
