"""Between the agent's threads and plans and those of `models.planner`, for fine-tuned planners."""

from __future__ import annotations

import json
from collections.abc import Sequence

from agent.planners.base import PlannerRequest, Proposal
from models.planner.serialise import Call, Turn


def plain_turns(request: PlannerRequest) -> list[Turn]:
    """The request's history as the prompt's form takes it."""
    return [
        Turn(turn.instruction, [call.model_dump() for call in turn.calls], turn.result)
        for turn in request.history
    ]


def proposal_of(calls: Sequence[Call], prompt: str | None = None) -> Proposal:
    """The proposal of these calls, as JSON that `agent.plan.read_plan` reads."""
    return Proposal(raw=json.dumps({"calls": calls}, ensure_ascii=False), prompt=prompt)
