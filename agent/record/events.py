"""Trace format 1 as types: what each event's `data` holds. The JSON schema is made from these.

Readers ignore fields and events that they do not know, so additions keep the format's number.
`python -m agent.record.events` prints the schema; a test holds `schema.json` against it.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.json_schema import models_json_schema

from agent.plan import Plan, Turn
from agent.record.trace import FORMAT, Event
from tools.base import BackendNote
from tools.errors import ToolError
from tools.execute import ImageHandle

Sha256 = Field(pattern=r"^[0-9a-f]{64}$")


class Data(BaseModel):
    """Base of every event's data: open, so that a later writer may say more."""

    model_config = ConfigDict(extra="allow", frozen=True)


class Code(Data):
    """Which code ran: the commit (`-dirty`: changed since; null: installed) and its sources."""

    revision: str | None
    sources: str = Sha256


class Environment(Data):
    """Where the run ran. Chained, but no part of the run's digest.

    Attributes:
        packages: name to version.
        runtime: `local` or `ray`.
        device, threads: torch's, of the process that plans; each `call.end` has its own.
        settings: environment variables that change a run, none that may hold a secret.
    """

    code: Code
    python: str
    machine: str
    cpus: int | None
    packages: dict[str, str]
    runtime: str
    device: str
    threads: int
    settings: dict[str, str]


class PlannerNote(Data):
    """Who planned, and all that its output depends on, each null where there is no such thing.

    Attributes:
        base, model: the base model's file with its SHA-256, or a model's name at `endpoint`.
        adapter, template, tokenizer: SHA-256 or name of each.
        decoding: how text is decoded.
        seed: of sampling; null where nothing is drawn.
    """

    name: str
    base: str | None = None
    model: str | None = None
    endpoint: str | None = None
    adapter: str | None = None
    template: str | None = None
    tokenizer: str | None = None
    decoding: str | None = None
    seed: str | None = None


class Result(Data):
    """What a call came to: an output or an error, never both.

    Attributes:
        key: SHA-256 over all that the output depends on (`tools.execute.CallResult`).
        backend: the vision backend that answered, with the SHA-256 of its weights.
    """

    call: str = Field(pattern=r"^(\$[1-9][0-9]*|check)$")
    tool: str
    args: dict[str, Any]
    version: str
    backend: BackendNote | None
    key: str = Sha256
    output: dict[str, Any] | None
    error: ToolError | None


class RunStart(Data):
    """The header: everything that the run depends on.

    Attributes:
        history, results, confirmed: the thread before this turn.
        tools: `schema` is the SHA-256 of what planners are shown; else name to version.
        backends: each tool's backends, in order of preference.
        phraser: which language model words the answer, null where none does.
        weights: the package's weights files to their SHA-256.
        ontology: SHA-256 of the vocabulary.
    """

    format: Literal[1]
    instruction: str
    history: list[Turn]
    results: dict[str, Result]
    confirmed: list[str]
    image: ImageHandle
    planner: PlannerNote
    tools: dict[str, str]
    backends: dict[str, list[str]]
    phraser: dict[str, str] | None
    weights: dict[str, str]
    ontology: str
    environment: Environment


class PlanStart(Data):
    """The planner is asked."""

    instruction: str


class Proposed(Data):
    """One turn of the planner: the prompt that a model was given, and what was written.

    `instead`: where another planner wrote it than the header's: who, and why.
    """

    raw: str
    prompt: str | None
    instead: dict[str, str] | None = None


class PlanEnd(Data):
    """What planning came to: all turns, each one's faults, and the plan or why there is none."""

    proposals: list[Proposed]
    faults: list[str]
    plan: Plan | None
    error: str | None
    unavailable: bool


class CallStart(Data):
    """A call is about to run. `inputs`: reference argument to the SHA-256 of that output."""

    call: str
    tool: str
    args: dict[str, Any]
    inputs: dict[str, str]
    backends: list[str]


class GuardQuestion(Data):
    """A doubt that the user is asked about before anything is measured."""

    doubt: str
    text: str


class GuardAnswer(Data):
    """What the user said to it."""

    doubt: str
    go_on: bool


class ComposeStart(Data):
    """The answer is made from these results."""

    results: list[str]


class PhraseStart(Data):
    """A language model is asked to word the findings: its whole prompt."""

    prompt: list[dict[str, str]]


class PhraseEnd(Data):
    """What it wrote (null: it could not be reached), and `shown` or why that is not shown."""

    raw: str | None
    verdict: str


class ComposeEnd(Data):
    """The answer: `result.json` without times, each mask with its array's handle."""

    answer: dict[str, Any]


class Status(Data):
    """How the run ended (`run.end`), or that it waits for the user (`run.pause`)."""

    status: str


class RunError(Data):
    """A fault of ours ended the run."""

    type: str
    message: str


class Meta(Data):
    """When, how long and where: outside the hash. `seconds` at each end, the rest at a call's.

    `device` and `threads` are torch's in the process that ran the call, on Ray a worker's.
    """

    time: str
    seconds: float | None = None
    attempts: int | None = None
    device: str | None = None
    threads: int | None = None


EVENTS: dict[str, type[Data]] = {
    "run.start": RunStart,
    "plan.start": PlanStart,
    "plan.end": PlanEnd,
    "call.start": CallStart,
    "call.end": Result,
    "guard.question": GuardQuestion,
    "guard.answer": GuardAnswer,
    "compose.start": ComposeStart,
    "phrase.start": PhraseStart,
    "phrase.end": PhraseEnd,
    "compose.end": ComposeEnd,
    "run.end": Status,
    "run.pause": Status,
    "run.error": RunError,
}


def unfit(event: Event) -> str | None:
    """Where an event does not fit the format, None where it does."""
    try:
        EVENTS.get(event.event, Data).model_validate(event.data)
        Meta.model_validate(event.meta)
    except ValidationError as error:
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return None


def schema() -> dict[str, Any]:
    """The JSON schema of one line of `events.jsonl`."""
    models: list[type[BaseModel]] = [Meta, *dict.fromkeys(EVENTS.values())]
    places, shared = models_json_schema([(model, "validation") for model in models])
    lines = [
        {
            "properties": {
                "event": {"const": name},
                "data": places[model, "validation"],
            }
        }
        for name, model in EVENTS.items()
    ]
    other: dict[str, Any] = {"properties": {"event": {"not": {"enum": list(EVENTS)}}}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"HistoPilot trace format {FORMAT}: one line of events.jsonl",
        "type": "object",
        "required": ["n", "event", "data", "meta", "hash"],
        "properties": {
            "n": {"type": "integer", "minimum": 0},
            "event": {"type": "string"},
            "data": {"type": "object"},
            "meta": places[Meta, "validation"],
            "hash": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        },
        "oneOf": [*lines, other],
        "$defs": shared["$defs"],
    }


if __name__ == "__main__":
    print(json.dumps(schema(), indent=1))
