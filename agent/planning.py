"""From an instruction to a valid plan: one proposal, at most one repair turn."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.plan import Call, InvalidPlan, Plan, Turn, read_plan
from agent.planners.base import Planner, PlannerRequest, PlannerUnavailable, Proposal
from agent.record.privacy import scrub


@dataclass(frozen=True)
class Planned:
    """What planning came to.

    Attributes:
        plan: the valid plan, None where there is none.
        proposals: everything that the planner wrote, in order; the last one is the plan's.
        error: one line, where there is no plan.
        unavailable: True where the planner itself was missing rather than its plan invalid.
    """

    plan: Plan | None
    proposals: tuple[Proposal, ...]
    error: str | None = None
    unavailable: bool = False
    faults: tuple[str, ...] = ()

    @property
    def calls(self) -> tuple[Call, ...]:
        """The plan's calls, empty where there is none."""
        return () if self.plan is None else self.plan.calls


def plan_once(planner: Planner, instruction: str, history: Sequence[Turn] = ()) -> Planned:
    """Ask for a plan, and once more with the faults shown where that can help.

    An invalid plan and a missing model are values, not exceptions.

    Raises:
        BadInput: the planner can't read the instruction.
    """
    proposals: list[Proposal] = []
    faults: list[str] = []
    feedback: str | None = None
    for _ in range(2 if planner.repairs else 1):
        request = PlannerRequest(instruction=instruction, history=tuple(history), feedback=feedback)
        try:
            proposals.append(planner.propose(request))
        except PlannerUnavailable as missing:
            return Planned(None, tuple(proposals), str(missing), True, tuple(faults))
        try:
            plan = plan_of(proposals[-1].raw, history)
        except InvalidPlan as invalid:
            feedback = invalid.feedback()
            faults.append(feedback)
        else:
            return Planned(plan, tuple(proposals), faults=tuple(faults))
    error = f"the planner gave no valid plan ({faults[-1].splitlines()[0]})"
    return Planned(None, tuple(proposals), error, False, tuple(faults))


def plan_of(
    raw: str, history: Sequence[Turn] = (), environment: Mapping[str, str] = os.environ
) -> Plan:
    """The plan in what a planner wrote, as a trace tells both: without secrets and paths.

    So the recorded text gives the recorded plan, which is the one that runs.

    Args:
        raw: what it wrote.
        history: the thread's earlier turns.
        environment: whose secrets those are; empty for a text that was recorded elsewhere.

    Raises:
        InvalidPlan: with every fault.
    """
    read = read_plan(scrub(raw, environment), history)
    return Plan.model_validate(scrub(read.model_dump(mode="json"), environment))
