"""The one place where events of a trace become names of OpenTelemetry.

Names are those of the GenAI semantic conventions 1.41.0, the last release in OpenTelemetry's main
repository: https://github.com/open-telemetry/semantic-conventions/tree/v1.41.0/docs/gen-ai.
They are not stable upstream; a change of version is a change of this file alone. What they have no
name for is under `histopilot.`.
"""

from __future__ import annotations

from typing import Any

from tools.execute import canonical

SEMCONV = "1.41.0"
SCHEMA_URL = f"https://opentelemetry.io/schemas/{SEMCONV}"

_PLACE = ("device", "threads")
Data = dict[str, Any]
Attributes = dict[str, str | int | float | bool]
Named = tuple[str, Attributes]
"""A span's name and attributes."""


def run(start: Data, answer: Data | None, digest: str, damage: str | None) -> Named:
    """The root span: header, answer (None where the run has none), digest and damage."""
    attributes: Attributes = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "histopilot",
        "gen_ai.agent.version": start["environment"]["packages"]["histopilot"],
        "gen_ai.input.messages": _messages("user", start["instruction"]),
        "histopilot.image.sha256": start["image"]["pixels"]["digest"],
        "histopilot.run.digest": digest,
        "histopilot.code.revision": start["environment"]["code"]["revision"] or "",
    }
    if answer is not None:
        attributes["gen_ai.output.messages"] = _messages("assistant", answer["text"], end="stop")
        attributes["histopilot.status"] = answer["status"]
    if damage:
        attributes["histopilot.damage"] = damage
    return "invoke_agent histopilot", attributes


def plan(start: Data, data: Data) -> Named:
    """A planning span: all turns of the planner, `data` of `plan.end`.

    The conventions have no word for planning without a language model; ours is `plan`.
    """
    planner = start["planner"]
    model = planner.get("model") or planner["name"]
    written = data.get("proposals", [])
    asked = [turn["prompt"] or start["instruction"] for turn in written]
    operation = "chat" if any(turn["prompt"] for turn in written) else "plan"
    attributes: Attributes = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": planner["name"],
        "gen_ai.request.model": model,
        "gen_ai.input.messages": _messages("user", *asked),
        "gen_ai.output.messages": _messages("assistant", *(t["raw"] for t in written), end="stop"),
    }
    attributes |= {f"histopilot.planner.{key}": str(value) for key, value in planner.items()}
    if data.get("error"):
        attributes["error.type"] = "unavailable" if data["unavailable"] else "invalid_plan"
    return f"{operation} {model}", attributes


def phrase(start: Data, started: Data, data: Data) -> Named:
    """A span of wording: data of `phrase.start`; of `phrase.end`, empty where it has none.

    A text that is not shown for what it says is no error; a model that can't be reached is.
    """
    phraser = start["phraser"]
    system, *asked = (message["content"] for message in started["prompt"])
    attributes: Attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": phraser["model"],
        "gen_ai.system_instructions": canonical([{"type": "text", "content": system}]),
        "gen_ai.input.messages": _messages("user", *asked),
    }
    attributes |= {f"histopilot.phraser.{key}": str(value) for key, value in phraser.items()}
    if data:
        attributes["histopilot.phraser.verdict"] = data["verdict"]
    if data.get("raw") is not None:
        attributes["gen_ai.output.messages"] = _messages("assistant", data["raw"], end="stop")
    elif data:
        attributes["error.type"] = "unavailable"
    return f"chat {phraser['model']}", attributes


def call(started: Data, data: Data, meta: Data) -> Named:
    """A tool's span: data of `call.start`; data and meta of `call.end`, empty where it has none."""
    attributes: Attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": started["tool"],
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": started["call"],
        "gen_ai.tool.call.arguments": canonical(started["args"]),
    }
    if data:
        attributes["gen_ai.tool.call.result"] = canonical(data["output"] or data["error"])
        attributes["histopilot.call.key"] = data["key"]
        attributes["histopilot.call.attempts"] = meta.get("attempts", 1)
        attributes |= {f"histopilot.call.{k}": meta[k] for k in _PLACE if meta.get(k) is not None}
        attributes["histopilot.backend"] = (data["backend"] or {}).get("name", "")
        if data["error"]:
            attributes["error.type"] = data["error"]["code"]
    return f"execute_tool {started['tool']}", attributes


def _messages(role: str, *texts: str, end: str = "") -> str:
    """Texts in the conventions' JSON form of messages; `end` is the finish reason of outputs."""
    finish = {"finish_reason": end} if end else {}
    parts = [{"type": "text", "content": text} for text in texts]
    return canonical([{"role": role, "parts": [part], **finish} for part in parts])
