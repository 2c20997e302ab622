"""Verify: is a record whole, and does its result follow from it? Offline; no model is loaded.

The events are read in order, as the run wrote them, and every step is held against those before
it: arrays against their digests, a call's arguments against the plan, its inputs against the
outputs that they name, questions and the answer against what the guard and the composer make of
the recorded outputs now.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from agent.compose import compose, noted
from agent.guard import CHECK, open_doubt
from agent.output.masks import read_mask
from agent.output.writer import RESULT_FILE
from agent.phrase import RecordedPhraser, phrase
from agent.plan import Call, InvalidPlan, Plan, Turn, references
from agent.planning import plan_of
from agent.record.events import unfit
from agent.record.privacy import scrub
from agent.record.trace import Event, Recorder, Trace, run_digest
from agent.record.whole import lost_arrays, unfinished, unpaired
from tools.execute import canonical, digest_of

State = dict[str, Any]
_PLACES: tuple[Mapping[str, str], ...] = ({}, os.environ)
"""Whose secrets a record is told without: of no machine, or of this one. Where it was made is not
known, and a secret of this one may be a plain word of that one's record."""


def verify(trace: Trace, folder: Path | None = None) -> dict[str, Any]:
    """Check a record.

    Args:
        trace: as read.
        folder: of the result (`result.json` and its masks), where that is to be checked too.

    Returns:
        `identical`: whether nothing is wrong; `faults`, one line each; `checked`: how many
        events, calls and arrays; `digest` of the run.

    Raises:
        BadInput: there is no header, so there is nothing to check by.
    """
    trace.start()
    faults: list[str] = []
    try:
        faults.extend(_faults(trace, folder))
        arrays = len({handle.digest for handle in trace.arrays()})
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        what = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        faults.append(f"what is recorded can't be followed to its end ({what})")
        arrays = 0
    return {
        "mode": "verify",
        "identical": not faults,
        "faults": faults,
        "checked": {
            "events": len(trace.events),
            "calls": len(trace.all("call.end")),
            "arrays": arrays,
        },
        "digest": run_digest(trace.events),
    }


def _faults(trace: Trace, folder: Path | None) -> Iterator[str]:
    misfits = [
        f"line {event.n + 1} ({event.event}) does not fit the format: {wrong}"
        for event in trace.events
        if (wrong := unfit(event))
    ]
    faults = [*unfinished(trace), *misfits]
    yield from faults
    for found in (lost_arrays, *(() if misfits else (unpaired, _inconsistent))):
        for fault in found(trace):
            faults.append(fault)
            yield fault
    if folder is not None and (folder / RESULT_FILE).is_file() and not faults:
        yield from _other_result(trace, folder)


def in_words(report: dict[str, Any]) -> str:
    """The report as a few lines for people."""
    lines = [f"Wrong: {fault}." for fault in report["faults"]]
    found = ", ".join(f"{number} {what}" for what, number in report["checked"].items())
    verdict = "The record is whole, and its result follows from it"
    lines.append(f"{verdict if report['identical'] else 'The record does not hold'} ({found}).")
    return "\n".join(lines)


def _inconsistent(trace: Trace) -> Iterator[str]:
    """Steps that do not follow from the steps before them."""
    start = trace.start()
    known = ("image", "history", "results", "confirmed", "instruction")
    state: State = {"plan": None, "running": {}, **{name: start[name] for name in known}}
    state["results"], state["confirmed"] = dict(state["results"]), list(state["confirmed"])
    state["phraser"], state["said"], state["status"] = start["phraser"], None, None
    state["tools"], state["backends"] = start["tools"], start["backends"]
    checks = {
        "plan.end": _plan,
        "call.start": _call_start,
        "call.end": _call_end,
        "guard.question": _question,
        "guard.answer": _answered,
        "phrase.end": _worded,
        "compose.end": _composed,
        "run.pause": _paused,
        "run.end": _ended,
    }
    for event in trace.events:
        if event.event in checks:
            wrong = checks[event.event](event, state)
            if wrong:
                yield f"line {event.n + 1}: {wrong}"


def _plan(event: Event, state: State) -> str | None:
    data = event.data
    state |= {"plan": data["plan"], "planning_error": data["error"]}
    state["planner_missing"] = data["unavailable"]
    state["instead"] = data["proposals"][-1].get("instead") if data["proposals"] else None
    turns = [Turn.model_validate(turn) for turn in state["history"]]
    wrongs = [_misplanned(data, turns, environment) for environment in _PLACES]
    return None if None in wrongs else wrongs[0]


def _misplanned(
    data: dict[str, Any], turns: list[Turn], environment: Mapping[str, str]
) -> str | None:
    """Where what the planner wrote is not the recorded plan, or not shown the recorded faults."""
    faults: list[str] = []
    plan = None
    for said in data["proposals"]:
        if plan is not None:
            return "the planner was asked again after it had given a plan"
        try:
            plan = plan_of(said["raw"], turns, environment)
        except InvalidPlan as invalid:
            faults.append(scrub(invalid.feedback(), environment))
    if (plan is None) != (data["plan"] is None):
        return "what the planner wrote is not the recorded plan"
    if plan and canonical(plan.model_dump(mode="json")) != canonical(data["plan"]):
        return "what the planner wrote is another plan than the recorded one"
    return None if faults == data["faults"] else "the planner was shown other faults than it made"


def _call_start(event: Event, state: State) -> str | None:
    ref, data = event.data["call"], event.data
    if data["backends"] != state["backends"].get(data["tool"], []):
        return f"{ref} asked other backends than the header names"
    if ref == CHECK:
        return None
    planned = _numbered(state).get(ref)
    if planned is None or planned != Call(tool=data["tool"], args=data["args"]):
        return f"{ref} is not a call of the plan"
    state["running"][ref] = planned
    outputs = {
        name: (state["results"].get(source) or {}).get("output")
        for name, source in references(planned).items()
    }
    inputs = {name: digest_of(output) for name, output in outputs.items() if output is not None}
    return None if inputs == data["inputs"] else f"{ref} had other inputs than those recorded"


def _call_end(event: Event, state: State) -> str | None:
    ref, data = event.data["call"], event.data
    state["results"][ref] = data
    if ref != CHECK and state["running"].get(ref) != Call(tool=data["tool"], args=data["args"]):
        return f"{ref} ended as another call than it began"
    if data["version"] != state["tools"].get(data["tool"], data["version"]):
        return f"{ref} is of another version of its tool than the header names"
    both = (data["output"] is None) == (data["error"] is None)
    return f"{ref} needs an output or an error, one of them" if both else None


def _question(event: Event, state: State) -> str | None:
    doubt = open_doubt(state)
    same = doubt is not None and _told([event.data["doubt"], event.data["text"]], doubt)
    return None if same else "the question does not follow from the results before it"


def _answered(event: Event, state: State) -> str | None:
    doubt = open_doubt(state)
    if event.data["go_on"]:
        state["confirmed"].append(event.data["doubt"])
    else:
        state["declined"] = True
    asked = doubt is not None and _told(event.data["doubt"], doubt[0])
    return None if asked else "an answer to what was not asked"


def _paused(event: Event, state: State) -> str | None:
    asked = event.data["status"] == "needs_confirmation" and state["plan"] and open_doubt(state)
    return None if asked else "the run waits, and no question is open"


def _ended(event: Event, state: State) -> str | None:
    same = event.data["status"] == state["status"]
    return None if same else "the run ended as something else than its answer says"


def _worded(event: Event, state: State) -> str | None:
    state["said"] = event
    return None


def _composed(event: Event, state: State) -> str | None:
    state["status"] = event.data["answer"].get("status")
    ran = {ref for ref in _numbered(state) if ref in state["results"]}
    if not state.get("declined") and ran and ran != set(_numbered(state)):
        lost = sorted(set(_numbered(state)) - ran)
        return f"{lost[0]} was planned and has no record"
    again, answer = _answer_again(state), event.data["answer"]
    fields = [key for key in {**again, **answer} if not _told(answer.get(key), again.get(key))]
    if not fields:
        return None
    return f"the recorded answer does not follow from the outputs ({', '.join(fields)})"


def _told(recorded: Any, value: Any) -> bool:
    """Whether `value`, told as a trace tells it, is what is recorded."""
    return any(canonical(scrub(value, place)) == canonical(recorded) for place in _PLACES)


class _Unwritten(Recorder):
    """Takes the events of a wording that is only checked."""

    def __init__(self) -> None:
        """Nothing is opened."""

    def write(self, event: str, data: dict[str, Any], **meta: Any) -> None:
        """Nothing is written."""


def _answer_again(state: State) -> dict[str, Any]:
    """What the composer makes of the recorded results, with the recorded wording judged anew."""
    if state["phraser"] is None:
        return noted(compose(state), state)
    phraser, asked = RecordedPhraser(state["phraser"], state["said"]), state["instruction"]
    silent = _Unwritten()
    worded = compose(state, lambda found, facts: phrase(phraser, asked, found, facts, silent))
    return noted(worded, state)


def _numbered(state: State) -> dict[str, Any]:
    return Plan.model_validate(state["plan"]).numbered() if state["plan"] else {}


def _other_result(trace: Trace, folder: Path) -> Iterator[str]:
    """Where `result.json` and the masks beside it are not the recorded answer."""
    try:
        result = json.loads((folder / RESULT_FILE).read_text("utf-8"))
        masks = [read_mask(folder / Path(mask["file"]).name) for mask in result["masks"]]
    except (ValueError, KeyError, TypeError, RecursionError, OSError) as error:
        yield f"the result beside the trace can't be read ({type(error).__name__})"
        return
    answer = _recorded_answer(trace)
    recorded = answer.pop("masks", [])
    for name, value in answer.items():
        if not _told(value, result.get(name)):
            yield f"{name} in {RESULT_FILE} is not the recorded one"
    told = [
        {key: mask.get(key) for key in seen}
        for mask, seen in zip(recorded, result["masks"], strict=False)
    ]
    if len(masks) != len(recorded) or not _told(told, result["masks"]):
        yield f"masks in {RESULT_FILE} are not the recorded ones"
        return
    for mask, pixels in zip(recorded, masks, strict=True):
        if not np.array_equal(trace.store().get(mask["array"]["digest"]), pixels):
            yield f"{mask['file']} is not the recorded mask"


def _recorded_answer(trace: Trace) -> State:
    """The answer, or what stands for it where the run waits for the user or has failed."""
    last = trace.events[-1]
    if last.event == "run.pause":
        text = trace.all("guard.question")[-1].data["text"]
        return {"status": "needs_confirmation", "text": text}
    ends = trace.all("compose.end")
    return {"status": "failed"} if last.event == "run.error" else dict(ends[-1].data["answer"])
