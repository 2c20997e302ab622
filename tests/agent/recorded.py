"""Real recorded runs for the tests of the record, on a part of the sample."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.output.writer import write_turn
from agent.record.trace import EVENTS_FILE, Recorder, Trace, read_trace
from agent.session import Kit, Outcome, Thread
from models.backend import Image
from tests.agent.scripted import EPIDERMIS, NUCLEI_IN, ScriptedPlanner
from tools.registry import DEFAULT_BACKENDS
from tools.runtime import LocalRuntime

CLASSICAL = dict.fromkeys(DEFAULT_BACKENDS, ("classical",))
BOXES = {"tool": "extract_boxes", "args": {"source": "$2"}}
PLAN = [EPIDERMIS, NUCLEI_IN, BOXES]


def run(folder: Path, image: Image, words: str = "box the nuclei", plan: Any = PLAN) -> Outcome:
    """A turn, with its result in `folder` and its trace in `folder/trace`."""
    kit = Kit(ScriptedPlanner(plan), LocalRuntime(), CLASSICAL)
    outcome = Thread(folder / "trace", kit, keep=False).ask(words, image)
    write_turn(outcome, folder, "trace")
    return outcome


def rewritten(source: Path, target: Path, change: Callable[[list[dict[str, Any]]], Any]) -> Trace:
    """The trace of `source` with its events changed and the chain made anew: a forger's work."""
    events = [json.loads(line) for line in (source / EVENTS_FILE).read_text("utf-8").splitlines()]
    change(events)
    target.mkdir()
    (target / "blobs").symlink_to(source / "blobs")
    recorder = Recorder(target)
    for event in events:
        recorder.write(event["event"], event["data"], **event["meta"])
    recorder.close()
    return read_trace(target)


def first(events: list[dict[str, Any]], event: str, call: str | None = None) -> dict[str, Any]:
    """The data of the first event of that name (and call)."""
    found = (e["data"] for e in events if e["event"] == event)
    return next(data for data in found if call is None or data["call"] == call)
