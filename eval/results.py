"""End to end: the real tools on images whose truth is known, `python -m eval results`.

What came out is checked against `expect_result` from the result folder alone, whatever the plan
was: a right plan can come to a wrong result, and a wrong plan to a right one. The tools' part and
the planner's are told apart that way.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.progress import track

from agent.commands import Job, Source, answer
from agent.output.writer import RESULT_FILE, writable
from agent.record.trace import read_trace
from agent.session import Kit
from eval.cases import Case, ExpectResult, ResultCheck
from eval.matching import judge
from eval.metrics import dice
from eval.pages import RATE_HEAD, Section, rate_row
from eval.stats import Rate, rate
from eval.traces import read_run
from eval.verdict import FailureCode
from models.ontology import normalise
from tools.errors import BadInput

DOUBT = "needs_confirmation"


COUNT_TOLERANCE = 0.2
LEAST_DICE = 0.7
"""What is asked of nuclei where a set has labels but no cases."""


class EndToEnd(BaseModel):
    """One case, run.

    Attributes:
        id: the case's.
        plan_right: whether the plan is an accepted one.
        code: why not.
        status: of the answer.
        faults: what is wrong with the result, a line each; none where it is right.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    plan_right: bool
    code: FailureCode | None
    status: str
    faults: tuple[str, ...]


class ResultReport(BaseModel):
    """All cases, run.

    Attributes:
        cases: in order.
        table: ids of the cases by right or wrong plan and right or wrong result.
        doubts: share of the cases that must be doubted that were.
        false_alarms: share of the other cases that were doubted.
    """

    model_config = ConfigDict(frozen=True)

    cases: list[EndToEnd]
    table: dict[str, list[str]]
    doubts: Rate | None
    false_alarms: Rate | None


def _pixels(path: Path) -> npt.NDArray[np.int64]:
    try:
        return np.asarray(Pillow.open(path)).astype(np.int64)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: can't be read as a mask ({error}).") from error


def _last(masks: Sequence[dict[str, Any]], check: ResultCheck) -> dict[str, Any] | None:
    """The mask that a check is about: the last of its target, of instances where it counts."""
    names = {normalise(text) for text in check.target}
    fitting = [
        mask
        for mask in masks
        if (not names or normalise(mask["target"]) in names)
        and (check.count is None or mask["kind"] == "instance")
    ]
    return fitting[-1] if fitting else None


def _fault(folder: Path, result: dict[str, Any], check: ResultCheck, images: Path) -> str | None:
    """What is wrong with the result by one check, or None."""
    mask = _last(result["masks"], check)
    if check.count is not None:
        found = mask["count"] if mask else len(result["boxes"])
        if abs(found - check.count) <= check.tolerance:
            return None
        return f"counted {found}, not {check.count} ± {check.tolerance}"
    if mask is None:
        return f"no mask for {check.mask}"
    truth, given = _pixels(images / str(check.mask)) > 0, _pixels(folder / mask["file"]) > 0
    if truth.shape != given.shape:
        return f"{check.mask} is {truth.shape}, the mask that came out {given.shape}"
    overlap = dice(truth, given)
    if overlap >= check.dice:
        return None
    return f"{mask['target']}: Dice {overlap:.3f} with {check.mask}, below {check.dice:g}"


def faults(folder: Path, expect: ExpectResult, images: Path) -> Iterator[str]:
    """What is wrong with the result in `folder`, a line each.

    Args:
        folder: of a result, as `histopilot ask` writes it.
        expect: what must have come out.
        images: folder of the true masks.

    Raises:
        BadInput: a true mask can't be read.
    """
    result = json.loads((folder / RESULT_FILE).read_text(encoding="utf-8"))
    if result["status"] != expect.status:
        yield f"{result['status']}, not {expect.status}"
        return
    for check in expect.checks:
        fault = _fault(folder, result, check, images)
        if fault:
            yield fault


def nuclei_cases(folder: Path, mpp: float | None) -> list[Case]:
    """A case for each image of a labelled set: count the nuclei.

    The count may be off by `COUNT_TOLERANCE` of the truth, the Dice must be `LEAST_DICE`.

    Args:
        folder: holds `images/STEM.*` and `labels/STEM.png`, label maps of the nuclei.
        mpp: µm/px of the images.

    Raises:
        BadInput: there is no labelled image in it, or a label map can't be read.
    """
    found = []
    for path in sorted((folder / "images").glob("*")):
        label = folder / "labels" / f"{path.stem}.png"
        if not label.is_file():
            continue
        count = int(np.count_nonzero(np.unique(_pixels(label))))
        check = {"count": count, "tolerance": round(COUNT_TOLERANCE * count)}
        mask = {"mask": f"labels/{label.name}", "dice": LEAST_DICE}
        expect = {"image": f"images/{path.name}", "mpp": mpp, "checks": [check, mask]}
        calls = [{"tool": "count_nuclei", "args": {}}]
        found.append(
            Case.model_validate(
                {
                    "id": path.stem,
                    "instruction": "Count the nuclei.",
                    "expect": {"calls": calls},
                    "expect_result": expect,
                }
            )
        )
    if not found:
        raise BadInput(f"{folder} holds no images/ with labels/: give --cases.")
    return found


def run_case(case: Case, expect: ExpectResult, images: Path, folder: Path, kit: Kit) -> EndToEnd:
    """Run one case on its image into `folder`, and judge its plan and its result.

    Raises:
        BadInput: the image or a true mask can't be read.
    """
    source = Source(images / expect.image, expect.mpp)
    job = Job(source, case.instruction, folder)
    result = answer(job, source.read(), writable(folder), kit)
    verdict = judge(case, read_run(read_trace(folder / result["trace"])).prediction)
    return EndToEnd(
        id=case.id,
        plan_right=verdict.passed,
        code=verdict.code,
        status=result["status"],
        faults=tuple(faults(folder, expect, images)),
    )


def run_cases(cases: Sequence[Case], images: Path, out: Path, kit: Kit) -> ResultReport:
    """Run every case that has `expect_result`, each into a numbered folder of `out`.

    Raises:
        BadInput: there is no such case, or as `run_case`.
    """
    chosen = [(case, case.expect_result) for case in cases if case.expect_result]
    if not chosen:
        raise BadInput("none of the cases has expect_result: there is nothing to run.")
    steps = track(chosen, "Running", console=Console(stderr=True), transient=True)
    ran = [
        run_case(case, expect, images, out / f"{number:04d}", kit)
        for number, (case, expect) in enumerate(steps, start=1)
    ]
    table: dict[str, list[str]] = {
        f"{plan} plan, {result} result": []
        for plan in ("right", "wrong")
        for result in ("right", "wrong")
    }
    for one in ran:
        plan = "right" if one.plan_right else "wrong"
        table[f"{plan} plan, {'wrong' if one.faults else 'right'} result"].append(one.id)
    doubted = [
        (case, expect.status == DOUBT, one.status == DOUBT)
        for (case, expect), one in zip(chosen, ran, strict=True)
    ]
    due = [(case, got) for case, wanted, got in doubted if wanted]
    others = [(case, got) for case, wanted, got in doubted if not wanted]
    return ResultReport(
        cases=ran,
        table=table,
        doubts=rate(due) if due else None,
        false_alarms=rate(others) if others else None,
    )


def sections(report: ResultReport) -> Iterator[Section]:
    """Plans against results, doubts, and every result that is wrong."""
    grid = [("", "right result", "wrong result")]
    for plan in ("right plan", "wrong plan"):
        good, bad = (len(report.table[f"{plan}, {end} result"]) for end in ("right", "wrong"))
        grid.append((plan, str(good), str(bad)))
    yield Section("End to end, cases", "", grid)
    doubts = {"doubts raised where due": report.doubts, "false alarms": report.false_alarms}
    rows = [rate_row(name, value) for name, value in doubts.items() if value]
    yield Section("Doubts", "", [RATE_HEAD, *rows])
    faulty = [it for it in report.cases if it.faults]
    if faulty:
        lines = [(it.id, it.code or "right", "; ".join(it.faults)) for it in faulty]
        yield Section("Wrong results", "", [("case", "plan", "what is wrong"), *lines])
