"""The plan: typed calls with references, parsed from whatever a model wrote, and validated.

A plan is a directed acyclic graph by construction: a call refers only to earlier calls, counted
through the whole thread from `$1`. Everything that can be wrong with a model's output is a
`Fault` with a code, a place and a message that the planner can be shown for one repair turn.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tools.registry import PLANNER_TOOLS

MAX_CALLS = 24
MAX_RAW_CHARS = 100_000
MAX_TEXT_CHARS = 2_000

FaultCode = Literal[
    "not_json",
    "no_calls",
    "too_many_calls",
    "unknown_tool",
    "bad_arguments",
    "bad_reference",
    "wrong_producer",
    "reply_not_alone",
]


class Call(BaseModel):
    """One call: the tool's name and all of its arguments, null where they are not used."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tool: str
    args: dict[str, Any]


class Turn(BaseModel):
    """An earlier turn of a thread, as planners see it and as cases write it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    instruction: str
    calls: tuple[Call, ...]
    result: str = ""


class Fault(BaseModel):
    """One thing wrong with a proposed plan.

    Attributes:
        code: kind of fault.
        message: one line for the planner or a person.
        call: the reference of the call at fault, None for the plan as a whole.
    """

    model_config = ConfigDict(frozen=True)

    code: FaultCode
    message: str
    call: str | None = None


class InvalidPlan(ValueError):  # noqa: N818 - it is the plan that is named
    """The proposed plan can't be run; `faults` says all that is wrong with it."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(fault.message for fault in faults))
        self.faults = tuple(faults)

    def feedback(self) -> str:
        """What a planner is shown for its repair turn: a line a fault."""
        return "\n".join(f"{f.call or 'plan'}: {f.code}: {f.message}" for f in self.faults)


class Plan(BaseModel):
    """Validated calls, numbered through the thread from `first` on."""

    model_config = ConfigDict(frozen=True)

    calls: tuple[Call, ...] = Field(min_length=1)
    first: int = 1

    def numbered(self) -> dict[str, Call]:
        """The calls by reference, in order."""
        return {f"${self.first + i}": call for i, call in enumerate(self.calls)}

    def reply(self) -> Call | None:
        """The reply, where the plan is one."""
        return self.calls[0] if self.calls[0].tool == "reply" else None


def references(call: Call) -> dict[str, str]:
    """The references of a valid call, by argument name."""
    names = PLANNER_TOOLS[call.tool].arguments.references()
    return {name: call.args[name] for name in names if call.args.get(name) is not None}


def ready(plan: Plan, done: set[str]) -> list[str]:
    """The calls that are not done and wait for nothing: they may run at the same time.

    The tissue check runs before all others, so that a doubt about the organ costs nothing.
    """
    waiting = {ref: call for ref, call in plan.numbered().items() if ref not in done}
    first = [ref for ref, call in waiting.items() if call.tool == "classify_tissue"]
    if first:
        return first
    return [
        ref
        for ref, call in waiting.items()
        if not any(source in waiting for source in references(call).values())
    ]


def read_plan(raw: str, history: Sequence[Turn] = ()) -> Plan:
    """Parse and validate a model's output as the thread's next plan.

    Args:
        raw: what the model wrote: a JSON object with `calls`, a JSON list, or OpenAI tool calls,
            alone, in a code fence or in the middle of prose.
        history: the thread's earlier turns.

    Raises:
        InvalidPlan: with every fault; never any other exception, whatever `raw` is.
    """
    return validate(parse(raw), [call.tool for turn in history for call in turn.calls])


def parse(raw: str) -> list[Any]:
    """The list of calls in `raw`, not validated.

    Raises:
        InvalidPlan: there is no JSON with calls in it.
    """
    if len(raw) > MAX_RAW_CHARS:
        raise InvalidPlan([Fault(code="not_json", message="the output is too long for a plan")])
    for value in _json_values(raw):
        calls = value.get("calls", value.get("tool_calls")) if isinstance(value, dict) else value
        if isinstance(value, dict) and calls is None and ("tool" in value or "name" in value):
            calls = [value]
        if isinstance(calls, list) and (not calls or isinstance(calls[0], dict)):
            return calls
    raise InvalidPlan([Fault(code="not_json", message="no JSON list of calls in the output")])


def validate(items: Sequence[Any], producers: Sequence[str] = ()) -> Plan:
    """Check the calls against the tools' schemas and the thread's earlier calls.

    Args:
        items: the calls as parsed JSON.
        producers: the tool of every earlier call of the thread, in order.

    Raises:
        InvalidPlan: with every fault.
    """
    if not items:
        raise InvalidPlan([Fault(code="no_calls", message="the plan has no call")])
    if len(items) > MAX_CALLS:
        message = f"the plan has {len(items)} calls, {MAX_CALLS} is the most"
        raise InvalidPlan([Fault(code="too_many_calls", message=message)])
    tools = list(producers)
    calls: list[Call] = []
    faults: list[Fault] = []
    for item in items:
        ref = f"${len(tools) + 1}"
        call = _call(item)
        if isinstance(call, Fault):
            faults.append(call.model_copy(update={"call": ref}))
            tools.append("?")
            continue
        faults += [fault.model_copy(update={"call": ref}) for fault in _misreferred(call, tools)]
        calls.append(call)
        tools.append(call.tool)
    if len(items) > 1 and "reply" in tools[len(producers) :]:
        faults.append(Fault(code="reply_not_alone", message="reply stands alone in its plan"))
    if faults:
        raise InvalidPlan(faults)
    return Plan(calls=tuple(calls), first=len(producers) + 1)


def _json_values(raw: str) -> Iterator[Any]:
    """The whole text as JSON, else every JSON value that starts somewhere in it."""
    decoder = json.JSONDecoder()
    text = raw.strip()
    starts = [0, *(match.start() for match in re.finditer(r"[\[{]", text))]
    end = -1
    for start in starts[:200]:
        if start < end:
            continue
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        yield value


def _call(item: Any) -> Call | Fault:
    """One call in any of the shapes that models write: ours, `name/arguments`, OpenAI's."""
    if isinstance(item, dict) and isinstance(item.get("function"), dict):
        item = item["function"]
    if not isinstance(item, dict):
        return Fault(code="bad_arguments", message="a call is an object with tool and args")
    name = item.get("tool", item.get("name"))
    if not isinstance(name, str) or name not in PLANNER_TOOLS:
        known = ", ".join(PLANNER_TOOLS)
        return Fault(code="unknown_tool", message=f"{_short(name)} is not a tool; tools: {known}")
    args = item.get("args", item.get("arguments", {}))
    if isinstance(args, str):
        try:
            args = json.loads(args)
        except (ValueError, RecursionError):
            return Fault(code="bad_arguments", message=f"the arguments of {name} are not JSON")
    try:
        model = PLANNER_TOOLS[name].arguments.model_validate(args)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "arguments"
        return Fault(code="bad_arguments", message=f"{name}: {_short(place)}: {first['msg']}")
    values = model.model_dump(mode="json")
    for key, value in values.items():
        if isinstance(value, str) and not _printable(value):
            message = f"{name}: {key} is empty, too long or not printable"
            return Fault(code="bad_arguments", message=message)
    return Call(tool=name, args=values)


def _misreferred(call: Call, tools: Sequence[str]) -> Iterator[Fault]:
    """What is wrong with a call's references, given the tools of all earlier calls."""
    accepts = PLANNER_TOOLS[call.tool].arguments.references()
    for name, ref in references(call).items():
        number = int(ref[1:]) if len(ref) < 9 else len(tools) + 1
        if number > len(tools):
            message = f"{name} refers to {_short(ref)}, which is not an earlier call"
            yield Fault(code="bad_reference", message=message)
        elif tools[number - 1] not in accepts[name] | {"?"}:
            message = (
                f"{name} refers to {ref}, a {tools[number - 1]}; "
                f"it takes {' or '.join(sorted(accepts[name]))}"
            )
            yield Fault(code="wrong_producer", message=message)


def _printable(text: str) -> bool:
    if not text.strip() or len(text) > MAX_TEXT_CHARS:
        return False
    return all(char.isprintable() or char == "\n" for char in text)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
