"""A turn as it runs: trace events in, the chat's nested steps and the plan's graph out."""

from __future__ import annotations

import html
import time
from dataclasses import dataclass, field
from typing import Any, Literal

from agent.plan import Call, Plan
from agent.progress import call_in_words
from tools.registry import TOOLS

State = Literal["earlier", "waiting", "running", "done", "failed"]
Messages = list[dict[str, Any]]


@dataclass
class Step:
    """One thing that is done in a turn, and how far it is; `seconds` None until it ended."""

    title: str
    body: str = ""
    state: State = "waiting"
    seconds: float | None = None


@dataclass
class Steps:
    """The steps of a turn, from its question or the user's yes up to an answer or a question.

    Attributes:
        name: tells the steps of one turn from those of others in the chat.
        calls: the plan's calls by reference.
        steps: by name: `plan`, `check`, and the references of the calls.
        ended: how it came out in a word, None while it runs.
    """

    name: str
    calls: dict[str, Call] = field(default_factory=dict)
    steps: dict[str, Step] = field(default_factory=dict)
    ended: str | None = None
    seconds: float = 0.0
    began: float = field(default_factory=time.perf_counter)

    def take(self, event: str, data: dict[str, Any], meta: dict[str, Any]) -> None:
        """Note one trace event; those that no step starts or ends with are passed over."""
        if event == "plan.start":
            self.steps["plan"] = Step("Plan", state="running")
        elif event == "plan.end":
            self._planned(data, meta["seconds"])
        elif event == "call.start":
            words = call_in_words(data["tool"], data["args"]).replace("_", " ")
            title = words if data["call"] == "check" else f"{data['call']} {words}"
            self.steps.pop(data["call"], None)  # what runs stands behind what ran
            self.steps[data["call"]] = Step(title, state="running")
        elif event == "call.end":
            step = self.steps[data["call"]]
            step.seconds, step.body = meta["seconds"], _result(data)
            step.state = "failed" if data["error"] else "done"

    def end(self, how: str) -> None:
        """The turn has come out, or was stopped: nothing runs any more for the user."""
        self.ended, self.seconds = how, time.perf_counter() - self.began
        for step in self.steps.values():
            if step.state == "running":
                step.state, step.body = "failed", "Stopped."

    def go_on(self, name: str) -> Steps:
        """The steps of the turn's next leg, after the user's yes: the same plan."""
        kept = {ref: self.steps[ref] for ref in self.calls if ref in self.steps}
        return Steps(name, self.calls, kept)

    def messages(self, ahead: int | None = None) -> Messages:
        """The steps as the chat shows them: nested below one that says how far it is.

        `ahead` is how many turns wait before this one, None once it is its turn.
        """
        waiting = "Working" if ahead is None else f"Waiting: place {ahead + 1} in the line"
        title = self.ended or waiting
        root = _thought(self.name, title, "", None, self.seconds if self.ended else None)
        started = [(key, step) for key, step in self.steps.items() if step.state != "waiting"]
        below = [
            _thought(
                f"{self.name} {key}",
                ("✗ " if step.state == "failed" else "") + step.title,
                step.body,
                self.name,
                step.seconds if step.seconds is not None or step.state == "running" else 0.0,
            )
            for key, step in started
        ]
        return [root, *below]

    def _planned(self, data: dict[str, Any], seconds: float) -> None:
        step = self.steps["plan"]
        step.seconds, step.state = seconds, "done"
        if data["plan"] is None:
            step.state, step.body = "failed", str(data["error"])
            return
        self.calls = Plan.model_validate(data["plan"]).numbered()
        lines = [f"{ref} {call_in_words(c.tool, c.args)}" for ref, c in self.calls.items()]
        step.body = "\n".join(lines)
        self.steps |= {ref: Step(line) for ref, line in zip(self.calls, lines, strict=True)}


def as_text(message: dict[str, Any]) -> dict[str, Any]:
    """A message that the chat shows as it is: it would take markup for markup."""
    shown = {**message, "content": html.escape(message["content"])}
    if "metadata" in message:
        title = html.escape(message["metadata"]["title"])
        shown["metadata"] = {**message["metadata"], "title": title}
    return shown


def _result(data: dict[str, Any]) -> str:
    """What came of a call, in a few words."""
    if data["error"]:
        return str(data["error"]["message"])
    tool = TOOLS[data["tool"]]
    args = tool.arguments.model_validate(data["args"])
    text: str = tool.line(args, tool.output.model_validate(data["output"]))
    return f"{text} ({data['backend']['name']})" if data["backend"] else text


def _thought(
    name: str, title: str, body: str, parent: str | None, seconds: float | None
) -> dict[str, Any]:
    metadata: dict[str, Any] = {"id": name, "title": title, "status": "pending"}
    if parent is not None:
        metadata["parent_id"] = parent
    if seconds is not None:
        metadata |= {"status": "done", "duration": round(seconds, 2)}
    return {"role": "assistant", "content": body, "metadata": metadata}
