"""The `openai` planner against a real HTTP server on the loopback that is told how to behave."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jsonschema
import pytest

from agent.plan import InvalidPlan, Turn, read_plan
from agent.planners.base import PlannerRequest, PlannerUnavailable
from agent.planners.openai import OpenAIPlanner
from agent.planners.openai_prompt import plan_schema
from agent.planning import plan_once
from tools.registry import openai_tools

KEY = "sk-test-0123456789-secret"
SEGMENT = {"tool": "segment", "args": {"target": "gland", "within": None, "outside": None}}
PLAN = {"calls": [SEGMENT, {"tool": "extract_boxes", "args": {"source": "$1"}}]}
ASK = PlannerRequest(instruction="Box every gland.")

Answer = tuple[int, dict[str, str], bytes]
Behaviour = Callable[[dict[str, Any]], Answer | None]


def json_answer(status: int, body: Any, **headers: str) -> Answer:
    return status, {"content-type": "application/json", **headers}, json.dumps(body).encode()


def completion(content: Any, tool_calls: Any = None) -> Answer:
    message = {"role": "assistant", "content": content, "tool_calls": tool_calls}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    body = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    return json_answer(200, body)


def refusal(message: str, status: int = 400) -> Answer:
    return json_answer(status, {"error": {"message": message, "type": "invalid_request_error"}})


@dataclass
class Endpoint:
    """A server that answers request after request as `behaviours` say, the last one for ever."""

    url: str = ""
    behaviours: list[Behaviour] = field(default_factory=list)
    seen: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)

    def planner(self, retries: int = 2, timeout_s: float = 20.0) -> OpenAIPlanner:
        return OpenAIPlanner(KEY, "m", self.url, timeout_s=timeout_s, retries=retries)


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    state = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            state.seen.append(body)
            state.keys.append(self.headers["authorization"])
            behave = state.behaviours[min(len(state.seen), len(state.behaviours)) - 1]
            answer = behave(body)
            if answer is None:  # hang up without a word
                self.close_connection = True
                return
            status, headers, content = answer
            try:
                self.send_response(status)
                for name, value in {**headers, "content-length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)
            except ConnectionError:
                pass  # the client gave up first, as a time-out test wants

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_plan_comes_as_one_strict_json_object(endpoint: Endpoint) -> None:
    endpoint.behaviours = [lambda _: completion(json.dumps(PLAN))]
    history = (
        Turn(instruction='Segment "it"\n= $9', calls=(SEGMENT,), result="41% of the tissue"),  # type: ignore[arg-type]
    )
    proposal = endpoint.planner().propose(ASK.model_copy(update={"history": history}))
    assert read_plan(proposal.raw).calls[1].args == {"source": "$1"}
    (body,) = endpoint.seen
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
    assert json.loads(proposal.prompt) == {"form": "json_schema", "messages": body["messages"]}
    assert endpoint.keys == [f"Bearer {KEY}"]


def test_the_schema_takes_plans_and_nothing_else() -> None:
    schema = plan_schema(openai_tools())
    jsonschema.Draft202012Validator.check_schema(schema)
    valid = jsonschema.Draft202012Validator(schema).is_valid
    assert valid(PLAN)
    assert not valid({"calls": [{"tool": "segment", "args": {"source": "$1"}}]})
    assert not valid({"calls": [{"tool": "diagnose", "args": {}}]})
    assert not valid({"calls": [{"tool": "measure", "args": {"source": "the gland"}}]})
    assert "minLength" not in json.dumps(schema)


def test_tool_calls_where_response_format_is_refused(endpoint: Endpoint) -> None:
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
        return completion(None, calls)

    endpoint.behaviours = [behave]
    planner = endpoint.planner()
    assert read_plan(planner.propose(ASK).raw).numbered().keys() == {"$1", "$2"}
    assert len(endpoint.seen) == 2
    planner.propose(ASK)
    assert len(endpoint.seen) == 3, "what the endpoint takes is remembered"
    assert [tool["function"]["name"] for tool in endpoint.seen[2]["tools"]] == [
        tool["function"]["name"] for tool in openai_tools()
    ]


def test_plain_text_where_tools_are_refused_too(endpoint: Endpoint) -> None:
    def behave(body: dict[str, Any]) -> Answer:
        for word in ("response_format", "tools", "temperature"):
            if word in body:
                return refusal(f"{word} is not supported", 422)
        return completion(f"Here you are:\n```json\n{json.dumps(PLAN)}\n```")

    endpoint.behaviours = [behave]
    planned = plan_once(endpoint.planner(), ASK.instruction)
    assert [call.tool for call in planned.calls] == ["segment", "extract_boxes"]
    assert endpoint.seen[-1].keys() == {"model", "messages"}
    assert "one JSON object" in endpoint.seen[-1]["messages"][0]["content"]


def test_garbage_is_shown_back_once(endpoint: Endpoint) -> None:
    endpoint.behaviours = [
        lambda _: completion('{"calls": [{"tool": "measure", "args": {"source": "$4"}}]}'),
        lambda _: completion(json.dumps(PLAN)),
    ]
    planned = plan_once(endpoint.planner(), ASK.instruction)
    assert planned.plan is not None
    first, second = (body["messages"] for body in endpoint.seen)
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
    endpoint: Endpoint, content: Any, tool_calls: Any
) -> None:
    endpoint.behaviours = [lambda _: completion(content, tool_calls)]
    proposal = endpoint.planner().propose(ASK)
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
def test_a_server_that_is_no_endpoint(endpoint: Endpoint, answer: Answer) -> None:
    endpoint.behaviours = [lambda _: answer]
    with pytest.raises(PlannerUnavailable, match=r"chat completion|can't be read"):
        endpoint.planner().propose(ASK)


def test_a_rate_limit_is_waited_out(endpoint: Endpoint) -> None:
    busy = json_answer(429, {"error": {"message": "slow down"}}, **{"retry-after-ms": "5"})
    endpoint.behaviours = [lambda _: busy, lambda _: completion(json.dumps(PLAN))]
    assert read_plan(endpoint.planner().propose(ASK).raw)
    assert len(endpoint.seen) == 2


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
    endpoint: Endpoint, status: int, tries: int, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    body = {"error": {"message": f"overloaded\nkey {KEY}"}}
    endpoint.behaviours = [lambda _: json_answer(status, body, **{"retry-after-ms": "5"})]
    with pytest.raises(PlannerUnavailable, match=says) as caught:
        endpoint.planner().propose(ASK)
    assert len(endpoint.seen) == tries
    assert "\n" not in str(caught.value)
    assert KEY not in str(caught.value) + caplog.text


def test_a_server_that_hangs_up(endpoint: Endpoint) -> None:
    endpoint.behaviours = [lambda _: None]
    with pytest.raises(PlannerUnavailable, match="can't be reached"):
        endpoint.planner(retries=1).propose(ASK)
    assert len(endpoint.seen) == 2


def test_a_slow_server_runs_into_the_time_out(endpoint: Endpoint) -> None:
    def slow(_: dict[str, Any]) -> Answer:
        time.sleep(0.6)
        return completion(json.dumps(PLAN))

    endpoint.behaviours = [slow]
    started = time.monotonic()
    with pytest.raises(PlannerUnavailable, match=r"no answer within 0\.2 s, 1 times"):
        endpoint.planner(retries=0, timeout_s=0.2).propose(ASK)
    assert time.monotonic() - started < 5


def test_nobody_listens(endpoint: Endpoint) -> None:
    planner = OpenAIPlanner(KEY, "m", "http://127.0.0.1:9/v1", retries=0)
    with pytest.raises(PlannerUnavailable, match=r"127\.0\.0\.1:9/v1 can't be reached"):
        planner.propose(ASK)


def test_the_environment_configures_it() -> None:
    whole = {
        "OPENAI_API_KEY": KEY,
        "HISTOPILOT_OPENAI_MODEL": "llama-70b",
        "OPENAI_BASE_URL": "http://user:pass@127.0.0.1:8000/v1",
    }
    info = OpenAIPlanner.from_environment(whole).info()
    assert info["endpoint"] == "http://127.0.0.1:8000/v1"
    assert info["model"] == "llama-70b"
    assert KEY not in json.dumps(info)
    for name in ("OPENAI_API_KEY", "HISTOPILOT_OPENAI_MODEL"):
        with pytest.raises(PlannerUnavailable, match=name):
            OpenAIPlanner.from_environment({**whole, name: ""})
