"""Another planner in place of the one that was asked: where the user said so, and it is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent.commands import make_runtime
from agent.plan import read_plan
from agent.planners import load
from agent.planners.base import PlannerRequest, PlannerUnavailable, Proposal
from agent.planners.fallback import FallbackPlanner
from agent.planners.openai import OpenAIPlanner
from agent.planning import plan_once
from agent.session import Kit, Thread
from models.backend import Image
from tests.agent.scripted import EPIDERMIS, ScriptedPlanner
from tests.agent.served import KEY, Served, chat_answer, json_answer
from tools.registry import DEFAULT_BACKENDS

CLASSICAL = dict.fromkeys(DEFAULT_BACKENDS, ("classical",))
GARBAGE = [lambda _: chat_answer("banana")]
DOWN = [lambda _: json_answer(503, {"error": {"message": "overloaded"}}, **{"retry-after-ms": "1"})]
PLAN = json.dumps({"calls": [EPIDERMIS]})


def standing_in(served: Served) -> FallbackPlanner:
    return FallbackPlanner(OpenAIPlanner(served.endpoint(retries=0)), load("rules"))


def test_a_model_that_is_down_is_stood_in_for(served: Served) -> None:
    served.behaviours = DOWN
    proposal = standing_in(served).propose(PlannerRequest(instruction="outline the epidermis"))
    assert read_plan(proposal.raw)
    assert proposal.instead is not None
    assert proposal.instead["name"] == "rules"
    assert "openai: the language model at http://127.0.0.1" in proposal.instead["reason"]
    assert "answered 503: overloaded" in proposal.instead["reason"]


def test_a_model_that_writes_no_plan_has_its_repair_turn_first(served: Served) -> None:
    served.behaviours = GARBAGE
    planned = plan_once(standing_in(served), "outline the epidermis")
    assert planned.plan is not None
    assert len(served.seen) == 2
    first, second = planned.proposals
    assert (first.raw, first.instead) == ("banana", None)
    assert second.instead is not None
    assert "no valid plan" in second.instead["reason"]


def test_a_plan_that_is_mended_needs_nobody_else(served: Served) -> None:
    served.behaviours = [*GARBAGE, lambda _: chat_answer(PLAN)]
    planned = plan_once(standing_in(served), "outline the epidermis")
    assert planned.plan is not None
    assert [proposal.instead for proposal in planned.proposals] == [None, None]


def test_where_neither_can_plan_that_is_told(served: Served) -> None:
    class Absent(ScriptedPlanner):
        def propose(self, request: PlannerRequest) -> Proposal:
            raise PlannerUnavailable("no base model here")

    served.behaviours = DOWN
    planner = FallbackPlanner(OpenAIPlanner(served.endpoint(retries=0)), Absent([]))
    planned = plan_once(planner, "outline the epidermis")
    assert (planned.unavailable, planned.error) == (True, "no base model here")


def test_the_name_is_a_list(monkeypatch: pytest.MonkeyPatch, served: Served) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", served.url)
    monkeypatch.setenv("HISTOPILOT_OPENAI_MODEL", "m")
    planner = load("openai,rules")
    assert (planner.name, planner.repairs) == ("openai,rules", True)
    assert planner.info()["endpoint"] == served.url
    assert served.seen == []


@pytest.mark.parametrize("behaviours", [DOWN, GARBAGE])
def test_answer_and_trace_say_so(
    tmp_path: Path, skin: Image, served: Served, behaviours: list[Any]
) -> None:
    served.behaviours = behaviours
    kit = Kit(standing_in(served), make_runtime("local"), CLASSICAL)
    thread = Thread(tmp_path, kit, keep=False)
    outcome = thread.ask("outline the epidermis", skin)
    assert outcome.answer["status"] == "completed"
    assert "(Planned by rules in its place – openai: " in outcome.answer["text"]
    events = (tmp_path / "events.jsonl").read_text("utf-8").splitlines()
    ends = [json.loads(line) for line in events if '"plan.end"' in line]
    assert ends[0]["data"]["proposals"][-1]["instead"]["name"] == "rules"
    served.behaviours = [lambda _: chat_answer(PLAN)]
    again = thread.ask("outline the epidermis")
    assert "in its place" not in again.answer["text"], "said of the turn that it is true of"
