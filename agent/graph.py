"""The way of one instruction, as a LangGraph: plan → check → guard → calls → compose.

    plan ──▶ check ──▶ guard ──▶ call, call, … ──▶ guard ──▶ … ──▶ compose
      └─ reply, no plan ─────────────────────────────────────────────▲
                         └─▶ confirm (interrupt) ──▶ guard, or ──────┘

The guard sends every call that waits for nothing at once; each ends as a task of its own, so a run
that was killed goes on without repeating finished calls. The state is plain data; arrays are in
the store. The interrupt has a node to itself, since LangGraph runs an interrupted node again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import Send, interrupt

from agent.compose import compose, noted, result_line
from agent.guard import CHECK, checked, open_doubt
from agent.phrase import Phraser, phrase
from agent.plan import Call, Plan, Turn, ready, references
from agent.planners.base import Planner
from agent.planning import plan_once
from agent.record.provenance import environment, shipped_weights
from agent.record.trace import FORMAT, Recorder
from models import ontology
from tools.arrays import ArrayStore
from tools.errors import ToolError
from tools.execute import CallRequest, CallResult, ImageHandle, digest_of, failed
from tools.registry import DEFAULT_BACKENDS, TOOLS, schema_digest
from tools.runtime import Runtime

_META = ("seconds", "attempts", "device", "threads")
"""Of a result, what its event says beside what happened."""


def merge_results(old: dict[str, Any], new: dict[str, Any | None]) -> dict[str, dict[str, Any]]:
    """Results by reference: new ones win, None takes one away."""
    return {ref: value for ref, value in {**old, **new}.items() if value is not None}


class State(TypedDict, total=False):
    """A thread's state, plain JSON throughout.

    Attributes:
        image: `ImageHandle`.
        history: finished turns; one that the user stopped is none.
        results: `CallResult` by reference, of all turns.
        instruction, plan, planning_error, planner_missing: this turn's.
        instead: who planned this turn in place of the planner that was asked (`Proposal.instead`).
        confirmed: the doubts that the user has waved through in this thread.
        declined: whether the user said no to this turn's doubt.
        answer: what `compose` made of this turn.
    """

    image: dict[str, Any]
    history: list[dict[str, Any]]
    results: Annotated[dict[str, dict[str, Any]], merge_results]
    instruction: str
    plan: dict[str, Any] | None
    planning_error: str | None
    planner_missing: bool
    instead: dict[str, str] | None
    confirmed: list[str]
    declined: bool
    answer: dict[str, Any] | None


class CallState(TypedDict):
    """What one `call` task gets: its reference and a copy of what it may need."""

    ref: str
    image: dict[str, Any]
    plan: dict[str, Any]
    results: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Workshop:
    """What the nodes work with; none of it is state.

    Attributes:
        planner, runtime, store: who plans, where calls run, where arrays are.
        recorder: this turn's trace.
        backends: the backends of each tool, in order of preference.
        phraser: words the answers, where a language model is to.
    """

    planner: Planner
    runtime: Runtime
    store: ArrayStore
    recorder: Recorder
    backends: dict[str, tuple[str, ...]] = field(default_factory=lambda: dict(DEFAULT_BACKENDS))
    phraser: Phraser | None = None


def build(shop: Workshop, checkpointer: Any) -> Any:
    """The compiled graph of one turn in `shop`, with its state kept by `checkpointer`."""
    nodes = _Nodes(shop)
    graph = StateGraph(State)
    graph.add_node("plan", nodes.plan)
    graph.add_node("check", nodes.check)
    graph.add_node("guard", nodes.guard)
    graph.add_node("confirm", nodes.confirm)
    graph.add_node("call", nodes.call)
    graph.add_node("compose", nodes.compose)
    graph.add_edge(START, "plan")
    graph.add_conditional_edges("plan", _after_plan, ["check", "compose"])
    graph.add_edge("check", "guard")
    graph.add_conditional_edges("guard", _after_guard, ["confirm", "call", "compose"])
    graph.add_edge("confirm", "guard")
    graph.add_edge("call", "guard")
    graph.add_edge("compose", END)
    return graph.compile(checkpointer=checkpointer)


class _Nodes:
    """The graph's nodes; each writes to the trace before and after what it does."""

    def __init__(self, shop: Workshop) -> None:
        self.shop = shop

    def plan(self, state: State) -> State:
        shop, record = self.shop, self.shop.recorder
        history = [Turn.model_validate(turn) for turn in state.get("history", [])]
        if not record.started:
            record.write("run.start", _header(shop, state))
        record.write("plan.start", {"instruction": state["instruction"]})
        began = time.perf_counter()
        planned = plan_once(shop.planner, state["instruction"], history)
        plan = None if planned.plan is None else planned.plan.model_dump(mode="json")
        record.write(
            "plan.end",
            {
                "proposals": [item.model_dump(mode="json") for item in planned.proposals],
                "faults": list(planned.faults),
                "plan": plan,
                "error": planned.error,
                "unavailable": planned.unavailable,
            },
            seconds=time.perf_counter() - began,
        )
        return {
            "plan": plan,
            "planning_error": planned.error,
            "planner_missing": planned.unavailable,
            "instead": planned.proposals[-1].instead if planned.proposals else None,
            "declined": False,
            "answer": None,
        }

    def check(self, state: State) -> State:
        if checked(state):
            return {}
        request = CallRequest(
            call=CHECK,
            tool="check_image",
            args={},
            image=ImageHandle.model_validate(state["image"]),
            inputs={},
            backends=self.shop.backends["check_image"],
        )
        return {"results": {CHECK: self._run(request)}}

    def guard(self, state: State) -> State:
        doubt = open_doubt(state)
        if doubt is not None:
            self.shop.recorder.write("guard.question", {"doubt": doubt[0], "text": doubt[1]})
        return {}

    def confirm(self, state: State) -> State:
        doubt = open_doubt(state)
        if doubt is None:
            return {}
        yes = bool(interrupt({"doubt": doubt[0], "question": doubt[1]}))
        self.shop.recorder.write("guard.answer", {"doubt": doubt[0], "go_on": yes})
        if not yes:
            return {"declined": True}
        return {"confirmed": [*state.get("confirmed", []), doubt[0]]}

    def call(self, state: CallState) -> State:
        plan = Plan.model_validate(state["plan"])
        request, error = _request(state["ref"], plan, state, self.shop.backends)
        result = self._run(request, error)
        return {"results": {state["ref"]: result}}

    def compose(self, state: State) -> State:
        record = self.shop.recorder
        record.write("compose.start", {"results": sorted(state.get("results", {}))})
        answer = self._composed(state)
        shown = noted(answer, state)
        record.write("compose.end", {"answer": shown})
        record.write("run.end", {"status": shown["status"]})
        update: State = {"answer": shown}
        if state["plan"] is not None and not state.get("declined") and not _unchecked(state):
            turn = Turn(
                instruction=state["instruction"],
                calls=_as_shown(Plan.model_validate(state["plan"]), answer["text"]),
                result=result_line(state, answer),
            )
            update["history"] = [*state.get("history", []), turn.model_dump(mode="json")]
        return update

    def _composed(self, state: State) -> dict[str, Any]:
        phraser, record = self.shop.phraser, self.shop.recorder
        if phraser is None:
            return compose(state)
        return compose(
            state,
            lambda found, facts: phrase(phraser, state["instruction"], found, facts, record),
        )

    def _run(self, request: CallRequest, error: ToolError | None = None) -> dict[str, Any]:
        record = self.shop.recorder
        record.write(
            "call.start",
            {
                "call": request.call,
                "tool": request.tool,
                "args": request.args,
                "inputs": {name: digest_of(value) for name, (_, value) in request.inputs.items()},
                "backends": list(request.backends),
            },
        )
        if error is not None:
            result = failed(request, error)
        else:
            result = self.shop.runtime.execute(request, self.shop.store)
        plain = result.model_dump(mode="json")
        record.write("call.end", untimed(plain), **{name: plain[name] for name in _META})
        return plain


def _unchecked(state: State) -> bool:
    """Whether this turn needed the H&E check and could not have it: then nothing is measured."""
    plan = Plan.model_validate(state["plan"])
    return plan.reply() is None and not checked(state)


def _as_shown(plan: Plan, text: str) -> tuple[Call, ...]:
    """The plan's calls for the history; a reply as it was shown, not as it was written."""
    reply = plan.reply()
    if reply is None:
        return plan.calls
    return (reply.model_copy(update={"args": {**reply.args, "text": text}}),)


def _after_plan(state: State) -> str:
    if state["plan"] is None or Plan.model_validate(state["plan"]).reply():
        return "compose"
    return "check"


def _after_guard(state: State) -> str | list[Send]:
    if state.get("declined") or _unchecked(state):
        return "compose"
    if open_doubt(state) is not None:
        return "confirm"
    results = state.get("results", {})
    plan = Plan.model_validate(state["plan"])
    waiting = ready(plan, set(results))
    if not waiting:
        return "compose"
    return [
        Send(
            "call",
            CallState(ref=ref, image=state["image"], plan=state["plan"] or {}, results=results),
        )
        for ref in waiting
    ]


def _request(
    ref: str, plan: Plan, state: CallState, backends: dict[str, tuple[str, ...]]
) -> tuple[CallRequest, ToolError | None]:
    """The request of a call, and the error that stops it where what it refers to has failed."""
    call: Call = plan.numbered()[ref]
    inputs: dict[str, tuple[str, dict[str, Any]]] = {}
    error = None
    for name, source in references(call).items():
        result = CallResult.model_validate(state["results"][source])
        if result.output is None:
            message = f"It needs the result of {source} ({_words(result)}), which has none."
            error = ToolError(code="no_input", message=message)
        else:
            inputs[name] = (result.tool, result.output)
    request = CallRequest(
        call=ref,
        tool=call.tool,
        args=call.args,
        image=ImageHandle.model_validate(state["image"]),
        inputs=inputs,
        backends=backends.get(call.tool, ()),
    )
    return request, error


def _words(result: CallResult) -> str:
    subject = result.args.get("target") or result.args.get("cell_type") or "nuclei"
    return f"{result.tool} “{subject}”"


def _header(shop: Workshop, state: State) -> dict[str, Any]:
    """Data of `run.start`: everything that the run depends on, without timings."""
    return {
        "format": FORMAT,
        "instruction": state["instruction"],
        "history": state.get("history", []),
        "results": {ref: untimed(result) for ref, result in state.get("results", {}).items()},
        "confirmed": state.get("confirmed", []),
        "image": state["image"],
        "planner": {"name": shop.planner.name, **shop.planner.info()},
        "tools": {"schema": schema_digest(), **{name: t.version for name, t in TOOLS.items()}},
        "backends": {name: list(names) for name, names in shop.backends.items()},
        "phraser": shop.phraser.info() if shop.phraser else None,
        "weights": shipped_weights(),
        "ontology": ontology.digest(),
        "environment": environment(shop.runtime.name),
    }


def untimed(result: dict[str, Any]) -> dict[str, Any]:
    """A result without what differs from run to run and from place to place."""
    return {key: value for key, value in result.items() if key not in _META}


def finished_calls(history: Sequence[dict[str, Any]]) -> int:
    """How many calls the thread's finished turns have: the next call is this plus one."""
    return sum(len(turn["calls"]) for turn in history)
