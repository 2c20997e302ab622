"""The untuned base model as a baseline: its plans are kept, since each takes it seconds.

`untuned.jsonl` beside this file holds them for our own cases: `python -m eval.untuned` writes it.
Of other cases a sample is planned where they are scored, and kept in the user's cache. A plan is
found by a digest of all that the model reads, so where that changes it is planned anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console
from rich.progress import track

from agent.planners.base import PlannerUnavailable
from eval.cases import Case, Prediction, read_cases
from eval.toolcalls import PlanOnce, plan_case
from models.planner.fetch import GGUF_SHA256, cache_dir
from models.planner.fewshot import EXAMPLES
from models.planner.serialise import Turn, thread_text
from tools.execute import canonical

NAME = "base"
SAMPLE = 12
"""Cases without a kept plan that are planned by default: about 3 s each, on one core."""
SHIPPED = Path(__file__).with_name("untuned.jsonl")
CASES = Path(__file__).with_name("cases")
Load = Callable[[str], PlanOnce]
"""Gives a planner by its name; raises PlannerUnavailable."""


@lru_cache(maxsize=1)
def _model() -> str:
    return canonical([GGUF_SHA256, EXAMPLES])


def key(case: Case) -> str:
    """What the model's plan for a case depends on, as a digest: the model and all that it reads."""
    history = [
        Turn(turn.instruction, [call.model_dump() for call in turn.calls], turn.result)
        for turn in case.history
    ]
    seen = thread_text(history, case.instruction)
    return hashlib.sha256(f"{_model()}{seen}".encode()).hexdigest()[:32]


def cache() -> Path:
    """Where plans for other cases than ours are kept."""
    return cache_dir() / SHIPPED.name


def kept(*files: Path) -> dict[str, Prediction]:
    """The plans in files by their `key`; what is no plan, as a torn line, is left out."""
    found: dict[str, Prediction] = {}
    for line in (line for file in files if file.is_file() for line in file.open("rb")):
        with contextlib.suppress(ValidationError):
            plan = Prediction.model_validate_json(line)
            found[plan.id] = plan
    return found


def predictions(cases: Sequence[Case], sample: int, load: Load) -> list[Prediction]:
    """The model's plans for those of `cases` that have one, after a sample has been planned.

    The sample is the same whenever the cases are: the first by their digests. Where the model is
    not on this machine none is planned.

    Args:
        cases: any.
        sample: how many of those that do not come with us are planned, where they are not yet.
        load: not called where there is nothing to plan.
    """
    keys = {case.id: key(case) for case in cases}
    ours = kept(SHIPPED)
    others = sorted((case for case in cases if keys[case.id] not in ours), key=lambda c: keys[c.id])
    known = {**kept(cache()), **ours}
    missing = [case for case in others[: max(sample, 0)] if keys[case.id] not in known]
    with contextlib.suppress(PlannerUnavailable):
        known |= _planned(missing, load)
    there = [(name, known[place]) for name, place in keys.items() if place in known]
    return [plan.model_copy(update={"id": name}) for name, plan in there]


def _planned(cases: Sequence[Case], load: Load) -> dict[str, Prediction]:
    """Plans made now, each added to the cache as soon as it is there."""
    made: dict[str, Prediction] = {}
    if not cases:
        return made
    model = load(NAME)
    steps = track(cases, "The untuned model", console=Console(stderr=True), transient=True)
    for case in steps:
        given = plan_case(case, model)
        if given.unavailable:
            break
        plan = Prediction(id=key(case), calls=_plain(given.calls), error=given.error)
        made[plan.id] = plan
        with contextlib.suppress(OSError):  # it is only kept for the next time
            cache().parent.mkdir(parents=True, exist_ok=True)
            with cache().open("a", encoding="utf-8") as stream:
                stream.write(f"\n{_line(plan)}")  # a line that was torn stays alone
    return made


def _line(plan: Prediction) -> str:
    return plan.model_dump_json(exclude_defaults=True) + "\n"


def _plain(calls: Iterable[Any]) -> list[Any]:
    """Calls without their null arguments, which mean the same."""
    return [
        {**call, "args": {name: v for name, v in call["args"].items() if v is not None}}
        for call in calls
    ]


def main() -> None:
    """Write `untuned.jsonl` for every case in `cases/`; those planned before are not planned anew.

    Raises:
        PlannerUnavailable: the model is not on this machine.
    """
    from eval.baselines import load

    cases = [case for file in sorted(CASES.glob("*.jsonl")) for case in read_cases(file)]
    wanted = list(dict.fromkeys(map(key, cases)))
    known = kept(cache(), SHIPPED)
    known |= _planned([case for case in cases if key(case) not in known], load)
    lines = [_line(known[name]) for name in wanted if name in known]
    SHIPPED.write_text("".join(lines), encoding="utf-8")
    sys.stdout.write(f"{SHIPPED.name}: {len(lines)} plans for {len(wanted)} different cases\n")


if __name__ == "__main__":
    main()
