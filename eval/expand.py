"""What verifies `python -m models.planner.generate --expand`: two planners, the exact matcher."""

from __future__ import annotations

from collections.abc import Sequence

from agent.plan import Turn as AgentTurn
from agent.planners import load
from agent.planners.base import Planner as AgentPlanner
from agent.planning import plan_once
from eval.cases import Case
from eval.matching import judge_calls
from models.planner.generate.expand import Planner, Verifier
from models.planner.serialise import Call, Turn
from tools.errors import BadInput

PLANNERS = ("local", "rules")
"""Independent of each other, and of the model that writes the variants."""


def verifier() -> Verifier:
    """The two planners of `PLANNERS`; two plans are the same where the scorer would say so.

    Raises:
        PlannerUnavailable: a planner's model is not on this machine.
    """
    first, second = (_callable(load(name)) for name in PLANNERS)
    return Verifier((first, second), same)


def _callable(planner: AgentPlanner) -> Planner:
    def plan(history: Sequence[Turn], instruction: str) -> Sequence[Call] | None:
        turns = [
            AgentTurn.model_validate(
                {"instruction": t.instruction, "calls": list(t.calls), "result": t.result}
            )
            for t in history
        ]
        try:
            planned = plan_once(planner, instruction, turns)
        except BadInput:  # longer than it reads
            return None
        return [call.model_dump() for call in planned.calls] or None

    return plan


def same(history: Sequence[Turn], one: Sequence[Call], other: Sequence[Call]) -> bool:
    """Whether two plans for the turn after `history` are one plan by the contract's matching."""
    turns = [
        {"instruction": t.instruction, "calls": list(t.calls), "result": t.result} for t in history
    ]
    case = Case.model_validate(
        {"id": "pair", "instruction": "", "history": turns, "expect": {"calls": list(one)}}
    )
    return judge_calls(case, list(other)).passed
