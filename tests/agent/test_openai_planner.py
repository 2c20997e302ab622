"""The `openai` planner against a real HTTP server on the loopback that is told how to behave."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

import jsonschema
import pytest

from agent.plan import InvalidPlan, Turn, read_plan
from agent.planners.base import PlannerRequest, PlannerUnavailable
from agent.planners.openai import OpenAIPlanner, from_environment
from agent.planners.openai_endpoint import Endpoint
from agent.planners.openai_lines import LinesPlanner
from agent.planners.openai_prompt import plan_schema
from agent.planning import plan_once
from tests.agent.served import KEY, Answer, Served, chat_answer, json_answer, refusal
from tools.errors import BadInput
from tools.registry import openai_tools

SEGMENT = {"tool": "segment", "args": {"target": "gland", "within": None, "outside": None}}
PLAN = {"calls": [SEGMENT, {"tool": "extract_boxes", "args": {"source": "$1"}}]}
ASK = PlannerRequest(instruction="Box every gland.")
WHOLE_ENVIRONMENT = {
    "OPENAI_API_KEY": KEY,
    "HISTOPILOT_OPENAI_MODEL": "llama-70b",
    "OPENAI_BASE_URL": "http://user:pass@127.0.0.1:8000/v1",
}


def planner_at(served: Served, **options: Any) -> OpenAIPlanner:
    return OpenAIPlanner(served.endpoint(**options))


def test_a_plan_comes_as_one_strict_json_object(served: Served) -> None:
    served.behaviours = [lambda _: chat_answer(json.dumps(PLAN))]
    history = (
        Turn(instruction='Segment "it"\n= $9', calls=(SEGMENT,), result="41% of the tissue"),  # type: ignore[arg-type]
    )
    proposal = planner_at(served).propose(ASK.model_copy(update={"history": history}))
    assert read_plan(proposal.raw).calls[1].args == {"source": "$1"}
    (body,) = served.seen
    asked = body["response_format"]["json_schema"]
    assert asked["strict"] is True
    assert asked["schema"] == plan_schema(openai_tools())
    assert "tools" not in body
    assert body["temperature"] == 0
    system, user = (message["content"] for message in body["messages"])
    assert all(tool["function"]["name"] in system for tool in openai_tools())
    thread = json.loads(user)
    assert thread["next_reference"] == "$2"
    assert thread["thread"][0]["calls"]["$1"]["args"]["target"] == "gland"
    assert proposal.prompt is not None
    assert json.loads(proposal.prompt) == {"form": "json", "messages": body["messages"]}
    assert served.keys == [f"Bearer {KEY}"]


def test_the_schema_takes_plans_and_nothing_else() -> None:
    schema = plan_schema(openai_tools())
    jsonschema.Draft202012Validator.check_schema(schema)
    valid = jsonschema.Draft202012Validator(schema).is_valid
    assert valid(PLAN)
    assert not valid({"calls": [{"tool": "segment", "args": {"source": "$1"}}]})
    assert not valid({"calls": [{"tool": "diagnose", "args": {}}]})
    assert not valid({"calls": [{"tool": "measure", "args": {"source": "the gland"}}]})
    assert "minLength" not in json.dumps(schema)


def test_tool_calls_where_response_format_is_refused(served: Served) -> None:
    def behave(body: dict[str, Any]) -> Answer:
        if "response_format" in body:
            return refusal("unexpected keyword: response_format")
        calls = [
            {
                "id": str(i),
                "type": "function",
                "function": {"name": call["tool"], "arguments": json.dumps(call["args"])},
            }
            for i, call in enumerate(PLAN["calls"])
        ]
        return chat_answer(None, calls)

    served.behaviours = [behave]
    planner = planner_at(served)
    assert read_plan(planner.propose(ASK).raw).numbered().keys() == {"$1", "$2"}
    assert len(served.seen) == 2
    planner.propose(ASK)
    assert len(served.seen) == 3, "what the endpoint takes is remembered"
    assert [tool["function"]["name"] for tool in served.seen[2]["tools"]] == [
        tool["function"]["name"] for tool in openai_tools()
    ]


def test_plain_text_where_tools_are_refused_too(served: Served) -> None:
    def behave(body: dict[str, Any]) -> Answer:
        for word in ("response_format", "tools", "temperature"):
            if word in body:
                return refusal(f"{word} is not supported", 422)
        return chat_answer(f"Here you are:\n```json\n{json.dumps(PLAN)}\n```")

    served.behaviours = [behave]
    planned = plan_once(planner_at(served), ASK.instruction)
    assert [call.tool for call in planned.calls] == ["segment", "extract_boxes"]
    assert served.seen[-1].keys() == {"model", "messages"}
    assert "one JSON object" in served.seen[-1]["messages"][0]["content"]


def test_garbage_is_shown_back_once(served: Served) -> None:
    served.behaviours = [
        lambda _: chat_answer('{"calls": [{"tool": "measure", "args": {"source": "$4"}}]}'),
        lambda _: chat_answer(json.dumps(PLAN)),
    ]
    planned = plan_once(planner_at(served), ASK.instruction)
    assert planned.plan is not None
    first, second = (body["messages"] for body in served.seen)
    assert second[:-1] == first
    assert "which is not an earlier call" in second[-1]["content"]


@pytest.mark.parametrize(
    ("content", "tool_calls"),
    [
        ("banana", None),
        ("", None),
        (None, None),
        ("{}", None),
        ('{"calls": 3}', None),
        (7, None),
        ([{"type": "text"}], None),
        (None, "segment"),
        (None, [{"type": "function"}]),
        (None, [{"type": "function", "function": {"name": "segment", "arguments": "{"}}]),
    ],
)
def test_a_model_that_writes_no_plan_is_a_fault_of_the_plan(
    served: Served, content: Any, tool_calls: Any
) -> None:
    served.behaviours = [lambda _: chat_answer(content, tool_calls)]
    proposal = planner_at(served).propose(ASK)
    with pytest.raises(InvalidPlan):
        read_plan(proposal.raw)


@pytest.mark.parametrize(
    "answer",
    [
        (200, {"content-type": "text/html"}, b"<html>welcome</html>"),
        (200, {"content-type": "application/json"}, b"{broken"),
        (200, {"content-type": "application/json"}, b'{"choices": []}'),
        (200, {"content-type": "application/json"}, b'{"choices": [{}]}'),
        (200, {"content-type": "application/json"}, b"[1, 2]"),
        (200, {"content-type": "application/json"}, b"null"),
    ],
)
def test_a_server_that_is_no_endpoint(served: Served, answer: Answer) -> None:
    served.behaviours = [lambda _: answer]
    with pytest.raises(PlannerUnavailable, match=r"chat completion|can't be read"):
        planner_at(served).propose(ASK)


def test_a_rate_limit_is_waited_out(served: Served) -> None:
    busy = json_answer(429, {"error": {"message": "slow down"}}, **{"retry-after-ms": "5"})
    served.behaviours = [lambda _: busy, lambda _: chat_answer(json.dumps(PLAN))]
    assert read_plan(planner_at(served).propose(ASK).raw)
    assert len(served.seen) == 2


@pytest.mark.parametrize(
    ("status", "tries", "says"),
    [
        (429, 3, "rate limit"),
        (503, 3, "answered 503: overloaded"),
        (401, 1, "OPENAI_API_KEY"),
        (404, 1, "HISTOPILOT_OPENAI_MODEL"),
        (400, 1, "answered 400: overloaded"),
    ],
)
def test_only_transient_errors_are_tried_again(
    served: Served, status: int, tries: int, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    body = {"error": {"message": f"overloaded\nkey {KEY}"}}
    served.behaviours = [lambda _: json_answer(status, body, **{"retry-after-ms": "5"})]
    with pytest.raises(PlannerUnavailable, match=says) as caught:
        planner_at(served).propose(ASK)
    assert len(served.seen) == tries
    assert "\n" not in str(caught.value)
    assert KEY not in str(caught.value) + caplog.text


def test_a_server_that_hangs_up(served: Served) -> None:
    served.behaviours = [lambda _: None]
    with pytest.raises(PlannerUnavailable, match="can't be reached"):
        planner_at(served, retries=1).propose(ASK)
    assert len(served.seen) == 2


def test_a_slow_server_runs_into_the_time_out(served: Served) -> None:
    def slow(_: dict[str, Any]) -> Answer:
        time.sleep(0.6)
        return chat_answer(json.dumps(PLAN))

    served.behaviours = [slow]
    started = time.monotonic()
    with pytest.raises(PlannerUnavailable, match=r"no answer within 0\.2 s, 1 times"):
        planner_at(served, retries=0, timeout_s=0.2).propose(ASK)
    assert time.monotonic() - started < 5


def test_nobody_listens() -> None:
    planner = OpenAIPlanner(Endpoint(KEY, "m", "http://127.0.0.1:9/v1", retries=0))
    with pytest.raises(PlannerUnavailable, match=r"127\.0\.0\.1:9/v1 can't be reached"):
        planner.propose(ASK)


def test_a_server_that_hangs_up_in_the_middle(served: Served) -> None:
    torn = (200, {"content-type": "application/json", "content-length": "900"}, b'{"choices": [')
    served.behaviours = [lambda _: torn, lambda _: chat_answer(json.dumps(PLAN))]
    assert read_plan(planner_at(served, timeout_s=1.0).propose(ASK).raw)
    assert len(served.seen) == 2


def test_the_environment_configures_it() -> None:
    info = from_environment(WHOLE_ENVIRONMENT).info()
    assert info["endpoint"] == "http://127.0.0.1:8000/v1"
    assert info["model"] == "llama-70b"
    assert KEY not in json.dumps(info)
    for name in ("OPENAI_API_KEY", "HISTOPILOT_OPENAI_MODEL"):
        with pytest.raises(PlannerUnavailable, match=name):
            from_environment({**WHOLE_ENVIRONMENT, name: ""})


def test_a_form_that_the_user_chose_is_the_only_one(served: Served) -> None:
    served.behaviours = [lambda _: refusal("tools are not supported")]
    chosen = {
        **WHOLE_ENVIRONMENT,
        "OPENAI_BASE_URL": served.url,
        "HISTOPILOT_OPENAI_FORMAT": "tools",
    }
    with pytest.raises(PlannerUnavailable, match="tools are not supported"):
        from_environment(chosen).propose(ASK)
    assert [body.keys() & {"tools", "response_format"} for body in served.seen] == [{"tools"}]
    lines = from_environment({**chosen, "HISTOPILOT_OPENAI_FORMAT": "lines"})
    assert isinstance(lines, LinesPlanner)
    with pytest.raises(BadInput, match="one of json, tools, text, lines, auto, not 'yaml'"):
        from_environment({**chosen, "HISTOPILOT_OPENAI_FORMAT": "yaml"})
