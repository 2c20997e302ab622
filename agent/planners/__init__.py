"""The planners by name. Each is imported only when it is asked for: a language model is heavy."""

from __future__ import annotations

from agent.planners.base import Planner
from tools.errors import BadInput

NAMES = ("local", "rules", "openai")
BASELINES = ("base", "local-unconstrained", "local-alone")
"""What `local` is held against: without adapter, without grammar, without a second opinion."""


def load(name: str) -> Planner:
    """The planner of that name.

    `FIRST,SECOND` is the first one, and the second wherever the first gives no plan.

    Raises:
        BadInput: there is none.
        PlannerUnavailable: its model is not there, or its endpoint is not configured.
    """
    first, comma, second = name.partition(",")
    if comma:
        from agent.planners.fallback import FallbackPlanner

        return FallbackPlanner(load(first), load(second))
    if name == "rules":
        from agent.planners.rules import RulesPlanner

        return RulesPlanner()
    if name in ("local", *BASELINES):
        from agent.planners.local import LocalPlanner

        return LocalPlanner(
            name,
            adapted=name != "base",
            constrained=name != "local-unconstrained",
            advised=name != "local-alone",
        )
    if name == "openai":
        from agent.planners.openai import from_environment

        return from_environment()
    known = ", ".join((*NAMES, *BASELINES))
    raise BadInput(f"there is no planner {name!r}; choose one of: {known}")
