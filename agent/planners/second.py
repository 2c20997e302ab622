"""A second opinion on the embedded model's plan: what else the words could mean.

The model is small and has seen few instructions; where it hesitates, what two others say is the
better guess. One is the rules planner. The other is a network that tells a plan's outline from the
words (`models.planner.outliner`); what is in the outline the model writes itself. Each such plan is
weighed: by the likelihood that the model gives it, that of its outline, and a margin. Weight and
margins were chosen on development cases (`eval/cases/README.md`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from agent.planners.rules import plan_by_rules
from models.ontology import normalise
from models.planner.decode import Rival
from models.planner.gloss import gloss
from models.planner.grammar import PlanState, admits
from models.planner.organs import borne_out, organs_in
from models.planner.outline import Outline
from models.planner.outliner import Outliner
from models.planner.serialise import Call, Turn, thread_text
from models.planner.spelling import mended

WEIGHT = 0.3
"""What a nat of the outline's likelihood counts beside one of the model's."""
RULES = 1.0
"""Margin of the rules planner's plan, in nats."""
OUTLINE = -2.0
"""Margin of a plan with a likely outline, in nats: below zero, since the model errs less often."""
OUTLINES = 2
"""So many of the likeliest outlines are tried."""
LEAST = 3.0
"""How much likelier such an outline must be than that of the model's plan, in nats: the model
writes another plan for it."""
DECLINE = 2.0
"""What counts against a plan that declines, in nats: the generator's examples decline more often
than users have to be declined."""
ORGAN = 8.0
"""Margin of a tissue check of an organ that is spoken of, where the model's own is not, in nats."""


def margins() -> str:
    """The weight and the margins, for records of runs."""
    tried = f"{OUTLINES} outlines from {LEAST:g}: {OUTLINE:g} (weight {WEIGHT:g})"
    return f"{tried}, rules {RULES:g}, decline -{DECLINE:g}, organ {ORGAN:g} nats"


def rivals(
    history: Sequence[Turn],
    instruction: str,
    calls: Sequence[Call],
    ruled: list[Call],
    outliner: Outliner,
) -> list[Rival]:
    """Plans that may be meant in place of the model's own `calls`, none of them equal to it.

    Args:
        history: the thread's earlier turns.
        instruction: what the user asks now.
        calls: the model's plan.
        ruled: that of the rules, as `by_rules` gives it.
        outliner: the network of outlines.
    """
    state = PlanState.after(history)
    opinion = outliner.read(thread_text(history, instruction), state.number)
    outlined = Outline.of(calls, state.number)
    own = opinion.of(outlined)
    worth = _worth(outlined, own)
    found = [*_other_organs(history, gloss(instruction), calls)]
    if ruled and ruled != calls:
        other = Outline.of(ruled, state.number)
        margin = RULES + _worth(other, opinion.of(other)) - worth
        found.append(Rival(ruled, margin, "rules"))
    for outline, likely in opinion.best(partial(admits, state), OUTLINES):
        if likely - own > LEAST:
            found.append(Rival(outline, OUTLINE + _worth(outline, likely) - worth, "outline"))
    return found


def _worth(outline: Outline, likely: float) -> float:
    """What an outline and its log probability count beside the model's likelihood, in nats."""
    return WEIGHT * likely - (DECLINE if outline.symbols == ("decline",) else 0.0)


def by_rules(history: Sequence[Turn], instruction: str) -> list[Call]:
    """The rules planner's plan; empty where it only says that it does not understand."""
    earlier = [
        {"instruction": turn.instruction, "calls": turn.calls, "result": turn.result}
        for turn in history
    ]
    calls = plan_by_rules(mended(instruction), earlier)
    return [] if calls[0]["args"].get("kind") == "clarify" else calls


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
