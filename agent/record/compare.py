"""Two runs side by side: call by call what is identical, what is near enough, what differs.

On one machine with the same packages a replay must be exact. Elsewhere, floating point adds up in
another order, and each tool's tolerance says how far its outputs may then be from the record.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from agent.record.trace import Trace, run_digest
from tools.arrays import ArrayHandle
from tools.errors import BadInput
from tools.execute import canonical

EXPLAINED = ("python", "machine", "packages", "device", "threads")
"""What of the header's `environment` can explain that equal code gives other numbers."""


@dataclass(frozen=True)
class Tolerance:
    """How far two outputs of one call may be apart.

    Attributes:
        dice: least Dice of two masks' foregrounds.
        number: largest difference of two numbers, as a fraction of the larger one (of 1, where
            both are smaller); lists and per-instance arrays are compared by their lengths.
    """

    dice: float = 1.0
    number: float = 0.0


EXACT = Tolerance()
TOLERANCES = {
    "check_image": Tolerance(number=0.02),
    "classify_tissue": Tolerance(number=0.02),
    "segment": Tolerance(dice=0.98, number=0.02),
    "count_nuclei": Tolerance(dice=0.95, number=0.02),
    "extract_boxes": Tolerance(number=0.02),
    "measure": Tolerance(number=0.02),
}
"""By tool; a tool that is not here is exact. Decisions, not measurements."""
ANSWER = Tolerance(dice=0.95, number=0.02)

_FIGURE = re.compile(r"\d[\d.,]*")
Array = Callable[[dict[str, Any]], Any]


def compare(recorded: Trace, other: Trace, *, exact: bool | None = None) -> dict[str, Any]:
    """Compare two runs.

    Args:
        recorded: the one.
        other: the other, a replay of it for example.
        exact: whether every difference counts; None: only where both ran in one environment.

    Returns:
        `identical`: nothing differs. `agrees`: nothing differs by more than the tolerance.
        `steps`: in order, `plan`, each call, each question, and `answer`: `step`, `tool`,
        `verdict` (`identical`, `within tolerance`, `differs`, `missing`: only in the other run,
        `unconsumed`: only in the record) and `differences` (`at`, `recorded`, `other`, `note`).
        `first`: the first step that does not agree, or None. `digests` of both.
    """
    if exact is None:
        exact = not _elsewhere(recorded, other)
    before, after = _steps(recorded), _steps(other)
    handles = (_reader(recorded), _reader(other))
    rows = []
    for name in sorted({**before, **after}, key=_order):
        tool, old = before.get(name, (None, None))
        tool, new = after.get(name, (tool, None))
        rows.append(_row(name, tool, (old, new), handles, exact))
    wrong = [row for row in rows if row["verdict"] not in ("identical", "within tolerance")]
    return {
        "identical": all(row["verdict"] == "identical" for row in rows),
        "agrees": not wrong,
        "first": wrong[0] if wrong else None,
        "steps": rows,
        "digests": {"recorded": run_digest(recorded.events), "other": run_digest(other.events)},
    }


def in_words(report: dict[str, Any]) -> str:
    """The steps as lines for people, and the first divergence as a diff."""
    lines = [
        f"{row['step']:<8} {row['verdict']:<17} {row['tool'] or ''}" for row in report["steps"]
    ]
    first = report["first"]
    if first:
        lines += ["", f"First divergence: {first['step']} {first['tool'] or ''}".rstrip()]
        for item in first["differences"]:
            note = f"   ({item['note']})" if item["note"] else ""
            lines.append(f"  - {item['at']}: {_brief(item['recorded'])}")
            lines.append(f"  + {item['at']}: {_brief(item['other'])}{note}")
    return "\n".join(line.rstrip() for line in lines)


def differences(
    old: Any, new: Any, arrays: tuple[Array, Array], tolerance: Tolerance = EXACT, at: str = ""
) -> Iterator[dict[str, Any]]:
    """The leaves in which two JSON values differ by more than `tolerance`.

    `arrays` give the array of a handle of either side.
    """
    near, note = tolerance != EXACT, ""
    if canonical(old) == canonical(new):
        return
    if _is_handle(old) and _is_handle(new):
        same, note = _near_arrays(arrays[0](old), arrays[1](new), tolerance)
        if near and same:
            return
    elif isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            if not (near and key in ("key", "inputs")):  # digests of what may differ a little
                place = f"{at}.{key}".lstrip(".")
                yield from differences(old.get(key), new.get(key), arrays, tolerance, place)
        return
    elif isinstance(old, list) and isinstance(new, list):
        if near and _close(len(old), len(new), tolerance):
            return
        if not near and len(old) == len(new):
            for number, pair in enumerate(zip(old, new, strict=True)):
                yield from differences(*pair, arrays, tolerance, f"{at}[{number}]")
            return
        note = f"{len(old)} and {len(new)} items"
    elif near and _near_leaves(old, new, tolerance):
        return
    yield {"at": at or "it", "recorded": old, "other": new, "note": note}


def _row(
    name: str,
    tool: str | None,
    pair: tuple[Any, Any],
    arrays: tuple[Array, Array],
    exact: bool,
) -> dict[str, Any]:
    found = list(differences(*pair, arrays))
    verdict = "differs" if found else "identical"
    if None in pair:
        verdict = "missing" if pair[0] is None else "unconsumed"
    elif found and not exact:
        tolerance = ANSWER if name == "answer" else TOLERANCES.get(str(tool), EXACT)
        far = list(differences(*pair, arrays, tolerance))
        verdict, found = ("differs", far) if far else ("within tolerance", found)
    return {"step": name, "tool": tool, "verdict": verdict, "differences": found}


def _steps(trace: Trace) -> dict[str, tuple[str | None, Any]]:
    """The plan, calls, questions, wording and answer of a run: name to tool and data."""
    steps: dict[str, tuple[str | None, Any]] = {}
    for event in trace.events:
        data = event.data
        if event.event == "plan.end":
            steps["plan"] = (None, {k: data[k] for k in ("plan", "error")})
        elif event.event == "call.end":
            steps[data["call"]] = (data["tool"], data)
        elif event.event in ("guard.question", "guard.answer"):
            steps[f"{event.event[6:]} {data['doubt']}"] = (None, data)
        elif event.event == "phrase.end":
            steps["wording"] = (None, data)
        elif event.event == "compose.end":
            steps["answer"] = (None, data["answer"])
        elif event.event == "run.error":
            steps["error"] = (None, data)
    return steps


def _order(step: str) -> tuple[int, int, str]:
    kinds = {"plan": 0, "check": 1, "error": 3, "answer": 5}
    if step.startswith("$"):
        return (2, int(step[1:]), step)
    return (kinds.get(step, 4), 0, step)


def _elsewhere(recorded: Trace, other: Trace) -> bool:
    """Whether something about the two environments explains other numbers."""
    places = [trace.start().get("environment", {}) for trace in (recorded, other)]
    differ = any(places[0].get(name) != places[1].get(name) for name in EXPLAINED)
    calls = [_workers(trace) for trace in (recorded, other)]
    return differ or (all(calls) and calls[0] != calls[1])


def _workers(trace: Trace) -> set[tuple[str, int]]:
    """The devices and threads that calls ran with, of those that ran and tell."""
    ends = (end.meta for end in trace.all("call.end"))
    return {(meta["device"], meta["threads"]) for meta in ends if meta.get("device")}


def _reader(trace: Trace) -> Array:
    store = trace.store()

    def read(handle: dict[str, Any]) -> Any:
        try:
            return store.get(handle["digest"])
        except (KeyError, BadInput):
            return None

    return read


def _is_handle(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == ArrayHandle.model_fields.keys()


def _near_arrays(old: Any, new: Any, tolerance: Tolerance) -> tuple[bool, str]:
    """Whether two arrays are near enough, and how near in words: masks by Dice, else by length."""
    if old is None or new is None:
        return False, "the array is not there"
    if old.ndim < 2 or old.shape != new.shape:
        return old.ndim == new.ndim == 1 and _close(len(old), len(new), tolerance), ""
    total = np.count_nonzero(old) + np.count_nonzero(new)
    dice = 2 * np.count_nonzero((old != 0) & (new != 0)) / total if total else 1.0
    return dice >= tolerance.dice, f"Dice {dice:.4f}"


def _near_leaves(old: Any, new: Any, tolerance: Tolerance) -> bool:
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in (old, new))
    if numbers:
        return _close(old, new, tolerance)
    texts = isinstance(old, str) and isinstance(new, str)
    return texts and _FIGURE.sub("0", old) == _FIGURE.sub("0", new)


def _close(old: float, new: float, tolerance: Tolerance) -> bool:
    return abs(old - new) <= tolerance.number * max(abs(old), abs(new), 1.0)


def _brief(value: Any) -> str:
    text = "nothing" if value is None else canonical(value)
    return text if len(text) <= 200 else f"{text[:200]}… ({len(text):,} characters; --json has all)"
