"""What a planner has to beat: always declining, a random valid plan, the rules, the untuned model.

On a set of cases that mostly asks for one call, chance and a constant answer are worth something;
a score without them beside it says little.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, ConfigDict

from eval import untuned
from eval.cases import Case, Prediction, Turn
from eval.compare import Comparison, compare
from eval.signatures import REPLY_KINDS, SIGNATURES, Arg
from eval.stats import Rate
from eval.toolcalls import Planned, PlanOnce, plan_case, score
from models import ontology

DEFAULT = f"decline,random,rules,{untuned.NAME}"
"""Always in the table. Any other planner's name can be a baseline, too."""


class Beside(BaseModel):
    """A baseline beside the planner.

    Attributes:
        name: the baseline's.
        n: how many of the cases it has a plan for: the untuned model may have but a sample.
        interval: its share of right plans among those; None where there are none.
        comparison: of the planner (B) with it (A); None without a case that both were scored on.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    n: int
    interval: Rate | None
    comparison: Comparison | None


_MOST_CALLS = 4
_KINDS: dict[str, ontology.Kind] = {"expected": "organ", "target": "region", "cell_type": "cell"}


def decline(_instruction: str, _history: Sequence[Turn]) -> Planned:
    """Always refuse."""
    return Planned([{"tool": "reply", "args": {"kind": "decline", "text": "No."}}])


@lru_cache(maxsize=3)
def _names(kind: ontology.Kind) -> tuple[str, ...]:
    return tuple(concept.name for concept in ontology.concepts(kind))


def _producers(arg: Arg, thread: Sequence[str]) -> list[str]:
    """The earlier calls that a reference may point to."""
    return [f"${n}" for n, tool in enumerate(thread, start=1) if tool in arg.producers]


def _value(name: str, arg: Arg, thread: Sequence[str], rng: random.Random) -> str | None:
    if arg.role == "kind":
        return rng.choice(REPLY_KINDS)
    if arg.role == "prose":
        return "As you like."
    known = _producers(arg, thread) if arg.role == "reference" else _names(_KINDS[name])
    return None if not known or (not arg.required and rng.random() < 0.5) else rng.choice(known)


def _possible(tool: str, thread: Sequence[str]) -> bool:
    return all(
        _producers(arg, thread)
        for arg in SIGNATURES[tool].values()
        if arg.required and arg.role == "reference"
    )


def random_calls(rng: random.Random, thread: Sequence[str] = ()) -> list[dict[str, Any]]:
    """A valid plan of one to four calls with the ontology's names, every choice uniform.

    Args:
        rng: source of the choices.
        thread: the tools of the thread's earlier calls.
    """
    tools = list(thread)
    calls: list[dict[str, Any]] = []
    for _ in range(rng.randint(1, _MOST_CALLS)):
        options = [
            tool
            for tool in SIGNATURES
            if _possible(tool, tools) and not (calls and tool == "reply")
        ]
        tool = rng.choice(options)
        args = {name: _value(name, arg, tools, rng) for name, arg in SIGNATURES[tool].items()}
        calls.append({"tool": tool, "args": args})
        tools.append(tool)
        if tool == "reply":
            break
    return calls


def random_plan(instruction: str, history: Sequence[Turn]) -> Planned:
    """A random valid plan; the same for the same instruction in the same thread."""
    thread = [call.tool for turn in history for call in turn.calls]
    return Planned(random_calls(random.Random(f"{len(thread)} {instruction}"), thread))  # noqa: S311


def load(name: str) -> PlanOnce:
    """The planner or baseline of that name, as the scorer calls planners.

    Raises:
        BadInput: there is none.
        PlannerUnavailable: its model can't be reached.
    """
    if name == "decline":
        return decline
    if name == "random":
        return random_plan
    # Loaded here, so that scoring given predictions needs no language model's packages.
    from agent.plan import Turn as AgentTurn
    from agent.planners import load as load_planner
    from agent.planning import plan_once

    loaded = load_planner(name)

    def plan(instruction: str, history: Sequence[Turn]) -> Planned:
        turns = [AgentTurn.model_validate(turn.model_dump()) for turn in history]
        planned = plan_once(loaded, instruction, turns)
        calls = [call.model_dump() for call in planned.calls]
        return Planned(calls, planned.error, planned.unavailable)

    return plan


def beside(
    cases: Sequence[Case],
    predictions: Sequence[Prediction],
    names: Sequence[str],
    sample: int = untuned.SAMPLE,
) -> list[Beside]:
    """Each of the baselines `names` on the same cases, compared with the planner's predictions.

    Args:
        cases: what was planned.
        predictions: the planner's.
        names: of baselines or planners.
        sample: see `eval.untuned.predictions`.

    Raises:
        BadInput: there is no baseline of that name.
        PlannerUnavailable: its model can't be reached.
    """
    rows = []
    for name in names:
        if name == untuned.NAME:
            given = untuned.predictions(cases, sample, load)
        else:
            plan = load(name)
            given = [plan_case(case, plan) for case in cases]
        there = {prediction.id for prediction in given}
        chosen = [case for case in cases if case.id in there]
        interval = score(chosen, given).interval if chosen else None
        comparison = compare(cases, given, predictions)
        rows.append(Beside(name=name, n=len(chosen), interval=interval, comparison=comparison))
    return rows
