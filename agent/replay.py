"""Replay: a recorded turn is run again from its trace alone, and compared call by call."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent.commands import make_runtime
from agent.output.writer import RESULT_FILE
from agent.planners import load as load_planner
from agent.planners.base import Planner, PlannerRequest, PlannerUnavailable, Proposal
from agent.session import Kit, Thread
from agent.trace import EVENTS_FILE, Trace, read_trace, run_digest
from tools.arrays import DiskStore, handles_in
from tools.errors import BadInput
from tools.execute import canonical

log = logging.getLogger(__name__)


class RecordedPlanner:
    """Says again what the recorded planner said: the turn runs as it was planned."""

    def __init__(self, trace: Trace) -> None:
        self.name = str(trace.start()["planner"]["name"])
        self._info = {k: v for k, v in trace.start()["planner"].items() if k != "name"}
        ends = trace.all("plan.end")
        if not ends:
            raise BadInput(f"{trace.folder.name} ends before its plan: there is nothing to replay")
        self._proposals = [Proposal.model_validate(item) for item in ends[-1].data["proposals"]]
        self._error = str(ends[-1].data["error"])
        self.repairs = len(self._proposals) > 1

    def info(self) -> dict[str, str]:
        """As recorded."""
        return self._info

    def propose(self, request: PlannerRequest) -> Proposal:
        """The next of the recorded proposals.

        Raises:
            PlannerUnavailable: as recorded, where there was no proposal.
        """
        del request
        if not self._proposals:
            raise PlannerUnavailable(self._error)
        return self._proposals.pop(0)


def find_trace(path: Path) -> Path:
    """The trace folder at `path`, or the one that the result folder at `path` names.

    Raises:
        BadInput: there is neither.
    """
    if (path / EVENTS_FILE).is_file() or path.name == EVENTS_FILE:
        return path
    if (path / RESULT_FILE).is_file():
        try:
            name = str(json.loads((path / RESULT_FILE).read_text("utf-8"))["trace"])
        except (ValueError, KeyError, TypeError, RecursionError):
            name = ""
        if Path(name).name == name and (path / name / EVENTS_FILE).is_file():
            return path / name
    raise BadInput(f"there is no trace at {path}: give a trace folder or a result folder")


def replay(path: Path, planner: str | None, runtime: str) -> dict[str, Any]:
    """Run a recorded turn again.

    Args:
        path: a trace folder or a result folder.
        planner: plan anew with this planner; None takes the recorded plan.
        runtime: where the calls run.

    Returns:
        `identical`, `plan` (`recorded`, `replayed`, `identical`), `calls` (a row a call: `call`,
        `tool`, `identical`, `differences`), `answer` (`identical`, `differences`), `digests`,
        and `damage` where the record is not whole.

    Raises:
        BadInput: there is no trace, or it does not hold what a replay needs.
    """
    with well_formed(path):
        return _replay(read_trace(find_trace(path)), planner, runtime)


@contextmanager
def well_formed(path: Path) -> Iterator[None]:
    """Turn what a trace with events of another shape leads to into one line.

    Raises:
        BadInput: in place of any error that such data raise.
    """
    try:
        yield
    except (BadInput, PlannerUnavailable):
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        log.exception("the trace does not hold what it should")
        what = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        raise BadInput(f"{path.name} is not a trace that can be read ({what})") from error


def _replay(recorded: Trace, planner: str | None, runtime: str) -> dict[str, Any]:
    start = recorded.start()
    with tempfile.TemporaryDirectory(prefix="histopilot-replay-") as scratch:
        chosen: Planner = RecordedPlanner(recorded) if planner is None else load_planner(planner)
        kit = Kit(
            chosen,
            make_runtime(runtime),
            {tool: tuple(names) for tool, names in start["backends"].items()},
        )
        try:
            again = _run_again(recorded, start, kit, Path(scratch))
        finally:
            kit.runtime.close()
        return _compare(recorded, read_trace(again))


def _damage(trace: Trace) -> str | None:
    """What is missing from a record: lines, its end, or an array that its events name."""
    if trace.damage:
        return trace.damage
    if trace.events[-1].event not in ("run.end", "run.pause", "run.error"):
        return "the record stops before the end of the run"
    store = trace.store()
    for handle in handles_in([event.data for event in trace.events]):
        try:
            store.get(handle.digest)
        except KeyError:
            return f"the array {handle.digest[:12]} is missing"
        except BadInput as error:
            return str(error)
    return None


def _run_again(recorded: Trace, start: dict[str, Any], kit: Kit, scratch: Path) -> Path:
    source, target = recorded.store(), DiskStore(scratch / "blobs")
    for handle in handles_in(start):
        try:
            source.share(handle.digest, target)
        except KeyError:
            lacking = f"{recorded.folder.name} lacks the array {handle.digest[:12]}"
            raise BadInput(f"{lacking}: copy the trace whole, with its blobs") from None
    thread = Thread(scratch, kit, keep=False)
    outcome = thread.again(start)
    answers = [event.data["go_on"] for event in recorded.all("guard.answer")]
    while outcome.answer["status"] == "needs_confirmation" and answers:
        outcome = thread.answer(answers.pop(0))
    return outcome.trace


def _compare(recorded: Trace, replayed: Trace) -> dict[str, Any]:
    before, after = _calls(recorded), _calls(replayed)
    rows = []
    for ref in sorted(before.keys() | after.keys(), key=_order):
        old, new = before.get(ref), after.get(ref)
        differences = _differences(old, new)
        rows.append(
            {
                "call": ref,
                "tool": (old or new or {})["tool"],
                "identical": not differences,
                "differences": differences,
            }
        )
    plans = [_last(trace, "plan.end").get("plan") for trace in (recorded, replayed)]
    answers = [_last(trace, "compose.end").get("answer") for trace in (recorded, replayed)]
    damage = _damage(recorded)
    same_plan = canonical(plans[0]) == canonical(plans[1])
    differences = _differences(answers[0], answers[1])
    return {
        "identical": same_plan
        and not differences
        and all(row["identical"] for row in rows)
        and damage is None,
        "plan": {"identical": same_plan, "recorded": plans[0], "replayed": plans[1]},
        "calls": rows,
        "answer": {"identical": not differences, "differences": differences},
        "digests": {
            "recorded": run_digest(recorded.events),
            "replayed": run_digest(replayed.events),
        },
        "damage": damage,
    }


def in_words(report: dict[str, Any]) -> str:
    """The report as a few lines for people."""
    lines = []
    if report["damage"]:
        lines.append(f"The record is damaged: {report['damage']}.")
    lines.append(f"plan    {_verdict(report['plan']['identical'])}")
    for row in report["calls"]:
        lines.append(f"{row['call']:<7} {_verdict(row['identical'])}  {row['tool']}")
        lines += [f"        {line}" for line in row["differences"]]
    lines.append(f"answer  {_verdict(report['answer']['identical'])}")
    lines += [f"        {line}" for line in report["answer"]["differences"]]
    lines.append("The replay is identical." if report["identical"] else "The replay differs.")
    return "\n".join(lines)


def _verdict(identical: bool) -> str:
    return "identical" if identical else "differs"


def _calls(trace: Trace) -> dict[str, dict[str, Any]]:
    return {event.data["call"]: event.data for event in trace.all("call.end")}


def _last(trace: Trace, event: str) -> dict[str, Any]:
    found = trace.all(event)
    return found[-1].data if found else {}


def _order(ref: str) -> tuple[int, str]:
    return (int(ref[1:]), ref) if ref.startswith("$") else (0, ref)


def _differences(old: Any, new: Any, place: str = "") -> list[str]:
    """The leaves in which two JSON values differ, as `place: old → new`."""
    if canonical(old) == canonical(new):
        return []
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        return [
            line
            for key in keys
            for line in _differences(old.get(key), new.get(key), f"{place}.{key}".lstrip("."))
        ]
    return [f"{place or 'call'}: {_brief(old)} → {_brief(new)}"]


def _brief(value: Any) -> str:
    text = "nothing" if value is None else canonical(value)
    return text if len(text) <= 80 else text[:77] + "..."
