"""Replay by re-execution: a recorded turn runs again from its trace, and the two are compared."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.commands import chosen_backends, make_runtime
from agent.phrase import RecordedPhraser
from agent.planners import load as load_planner
from agent.planners.base import Planner, PlannerRequest, PlannerUnavailable, Proposal
from agent.record.compare import compare
from agent.record.compare import in_words as steps_in_words
from agent.record.trace import BLOBS_FOLDER, Trace, read_trace
from agent.record.whole import lost_arrays, unfinished
from agent.session import Kit, Thread, checked_instruction
from tools.arrays import DiskStore
from tools.errors import BadInput


@dataclass(frozen=True)
class WhatIf:
    """What a replay does otherwise than the record.

    Attributes:
        planner: plans anew, None takes the recorded plan.
        instruction: in place of the recorded one; planned by the recorded run's planner where
            no other is given.
        swaps: `TOOL=BACKEND`, in place of the tool's recorded backends.
    """

    planner: str | None = None
    instruction: str | None = None
    swaps: tuple[str, ...] = ()


class RecordedPlanner:
    """Says again what the recorded planner said: the turn runs as it was planned."""

    def __init__(self, trace: Trace) -> None:
        self.name = str(trace.start()["planner"]["name"])
        self._info = {k: v for k, v in trace.start()["planner"].items() if k != "name"}
        ends = trace.all("plan.end")
        if not ends:
            raise BadInput(f"{trace.folder.name} ends before its plan: there is nothing to replay")
        self.left = [Proposal.model_validate(item) for item in ends[-1].data["proposals"]]
        self._error = str(ends[-1].data["error"])
        self.repairs = len(self.left) > 1

    def info(self) -> dict[str, str]:
        """As recorded."""
        return self._info

    def propose(self, request: PlannerRequest) -> Proposal:
        """The next of the recorded proposals.

        Raises:
            PlannerUnavailable: as recorded, where there was no proposal.
        """
        del request
        if not self.left:
            raise PlannerUnavailable(self._error)
        return self.left.pop(0)


def replay(recorded: Trace, what_if: WhatIf, runtime: str) -> dict[str, Any]:
    """Run a recorded turn again.

    Args:
        recorded: the trace.
        what_if: what is done otherwise.
        runtime: where the calls run.

    Returns:
        As `agent.record.compare.compare`, and `mode`, and `faults`: what is missing from the
        record, and what of it the replay never came to.

    Raises:
        BadInput: the trace does not hold what a replay needs, or an option names nothing.
        PlannerUnavailable: the planner asked for is not there.
    """
    start = recorded.start()
    asked, anew = start["instruction"], what_if.planner
    if what_if.instruction is not None:
        asked, anew = checked_instruction(what_if.instruction), anew or start["planner"]["name"]
    saying = RecordedPlanner(recorded)
    backends = chosen_backends(what_if.swaps, start["backends"], "--swap")
    planner: Planner = load_planner(anew) if anew else saying
    worded = next(reversed(recorded.all("phrase.end")), None)
    phraser = RecordedPhraser(start["phraser"], worded) if start["phraser"] is not None else None
    kit = Kit(planner, make_runtime(runtime), backends, phraser)
    yeses = [event.data["go_on"] for event in recorded.all("guard.answer")]
    with tempfile.TemporaryDirectory(prefix="histopilot-replay-") as scratch:
        try:
            thread = Thread(_with_arrays(recorded, Path(scratch)), kit, keep=False)
            outcome = thread.again({**start, "instruction": asked})
            while outcome.answer["status"] == "needs_confirmation" and yeses:
                outcome = thread.answer(yeses.pop(0))
        finally:
            kit.runtime.close()
        report = compare(recorded, read_trace(outcome.trace))
    faults = [*unfinished(recorded), *lost_arrays(recorded)]
    if not anew:
        faults += ["a recorded proposal of the planner was not consumed"] * len(saying.left)
    faults += ["a recorded yes or no was not consumed: it was not asked for"] * len(yeses)
    return {
        "mode": "re-execute",
        **report,
        "identical": report["identical"] and not faults,
        "agrees": report["agrees"] and not faults,
        "faults": faults,
    }


def in_words(report: dict[str, Any]) -> str:
    """The report as a few lines for people."""
    lines = [f"{fault[0].upper()}{fault[1:]}." for fault in report["faults"]]
    lines.append(steps_in_words(report))
    if report["identical"]:
        lines.append("The replay is identical.")
    elif report["agrees"]:
        lines.append("The replay agrees within the tools' tolerances: it ran in another place.")
    else:
        lines.append("The replay differs.")
    return "\n".join(lines)


def _with_arrays(recorded: Trace, scratch: Path) -> Path:
    """A thread's folder in `scratch` with the arrays that the turn starts from."""
    source, target = recorded.store(), DiskStore(scratch / BLOBS_FOLDER)
    header = Trace(recorded.folder, recorded.events[:1])
    for handle in header.arrays():
        try:
            source.share(handle.digest, target)
        except KeyError:
            lacking = f"{recorded.folder.name} lacks the array {handle.digest[:12]}"
            raise BadInput(f"{lacking}: copy the trace whole, with its blobs") from None
    return scratch
