"""The planners by name. Each is imported only when it is asked for: a language model is heavy."""

from __future__ import annotations

from agent.planners.base import Planner
from tools.errors import BadInput

NAMES = ("local", "rules", "openai")


def load(name: str) -> Planner:
    """The planner of that name.

    Raises:
        BadInput: there is none.
        PlannerUnavailable: its model is not there, or its endpoint is not configured.
    """
    if name == "rules":
        from agent.planners.rules import RulesPlanner

        return RulesPlanner()
    if name == "local":
        from agent.planners.local import LocalPlanner

        return LocalPlanner()
    if name == "openai":
        from agent.planners.openai import OpenAIPlanner

        return OpenAIPlanner.from_environment()
    raise BadInput(f"there is no planner {name!r}; choose one of: {', '.join(NAMES)}")
