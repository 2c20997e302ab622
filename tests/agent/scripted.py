"""Doubles for tests of the graph: a planner that says what it is told, a runtime that counts."""

from __future__ import annotations

import json
from typing import Any

from agent.planners.base import PlannerRequest, Proposal
from tools.execute import CallRequest, CallResult
from tools.runtime import LocalRuntime

EPIDERMIS = {"tool": "segment", "args": {"target": "epidermis"}}
DERMIS = {"tool": "segment", "args": {"target": "dermis"}}
NUCLEI_IN = {"tool": "count_nuclei", "args": {"within": "$1"}}


class ScriptedPlanner:
    """Proposes the given texts or calls, one after the other; the last one again and again."""

    name = "scripted"

    def __init__(self, *proposals: Any, repairs: bool = False) -> None:
        self.repairs = repairs
        self.asked: list[PlannerRequest] = []
        self._proposals = list(proposals)

    def info(self) -> dict[str, str]:
        return {}

    def propose(self, request: PlannerRequest) -> Proposal:
        self.asked.append(request)
        item = self._proposals.pop(0) if len(self._proposals) > 1 else self._proposals[0]
        return Proposal(raw=item if isinstance(item, str) else json.dumps(item))


class CountingRuntime(LocalRuntime):
    """Runs here, and remembers which calls it ran."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def execute(self, request: CallRequest, store: Any) -> CallResult:
        self.ran.append(request.call)
        return super().execute(request, store)
