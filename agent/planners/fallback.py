"""A planner that another one stands in for, because the user said so: `--planner openai,local`."""

from __future__ import annotations

from agent.plan import InvalidPlan, read_plan
from agent.planners.base import Planner, PlannerRequest, PlannerUnavailable, Proposal


class FallbackPlanner:
    """The first planner, and the second where the first can't be used or writes no valid plan.

    The first one's repair turn comes before the second is asked. What the second writes says that
    it did, and why, in `Proposal.instead`.
    """

    def __init__(self, first: Planner, second: Planner) -> None:
        self._first, self._second = first, second
        self.name = f"{first.name},{second.name}"
        self.repairs = first.repairs

    def info(self) -> dict[str, str]:
        """What the first one's output depends on; the second's own is in what it stands in for."""
        return self._first.info()

    def propose(self, request: PlannerRequest) -> Proposal:
        """The first planner's proposal, or else the second's.

        Raises:
            PlannerUnavailable: neither planner's model can be used.
        """
        try:
            proposal = self._first.propose(request)
        except PlannerUnavailable as missing:
            return self._second_says(request, str(missing))
        may_be_mended = self.repairs and request.feedback is None
        if not may_be_mended:
            try:
                read_plan(proposal.raw, request.history)
            except InvalidPlan as invalid:
                return self._second_says(
                    request, f"it gave no valid plan ({invalid.faults[0].message})"
                )
        return proposal

    def _second_says(self, request: PlannerRequest, reason: str) -> Proposal:
        proposal = self._second.propose(request.model_copy(update={"feedback": None}))
        made_by = {"name": self._second.name, **self._second.info()}
        instead = {"reason": f"{self._first.name}: {reason}", **made_by}
        return proposal.model_copy(update={"instead": instead})
