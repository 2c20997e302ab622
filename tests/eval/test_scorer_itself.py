"""The scorer under mutation, its baselines, its guardrail figures, and BFCL's rules beside it."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.plan import validate
from agent.planners.base import PlannerUnavailable
from eval import baselines, untuned
from eval.baselines import beside, decline, random_calls, random_plan
from eval.bfcl import PROBES, bfcl_passes, on_mutants, probe, sections, standardise
from eval.cases import Case, Prediction, Turn, read_cases
from eval.guardrails import FIGURES
from eval.matching import judge
from eval.mutations import plans_of, random_plans, tally
from eval.pages import markdown
from eval.toolcalls import Planned, PlanOnce, plan_case, prediction_line, score
from tests.conftest import ROOT

HAND = ROOT / "eval" / "cases" / "hand.jsonl"
MUTATIONS = {
    *("none", "drop", "add", "duplicate", "swap", "refuse"),
    *("perturb", "redirect", "refer forward", "reorder"),
}


def test_every_mutant_of_1000_plans_gets_its_verdict_for_its_own_reason() -> None:
    began = time.process_time()
    found = tally(random_plans(1000, seed=0))
    assert time.process_time() - began < 10
    assert found.keys() == MUTATIONS
    assert found["none"].n == found["drop"].n == 1000
    for kind, it in found.items():
        assert it.judged == it.reasons == it.n > 200, (kind, it)
    assert set(found["duplicate"].codes) == {"duplicate_call", "reply_not_alone"}
    assert set(found["redirect"].codes) == {"wrong_reference"}


def test_so_does_every_mutant_of_the_hand_written_plans() -> None:
    found = tally(plans_of(read_cases(HAND), seed=0))
    assert found.keys() == MUTATIONS
    assert all(it.reasons == it.n for it in found.values())


def test_random_plans_are_valid_and_the_same_again() -> None:
    rng = random.Random(0)  # noqa: S311
    tools = set()
    for _ in range(300):
        earlier = [call["tool"] for call in random_calls(rng)]
        calls = random_calls(rng, earlier)
        assert [call.model_dump() for call in validate(calls, earlier).calls] == calls
        tools |= {call["tool"] for call in calls}
    assert len(tools) == 6
    turn = Turn.model_validate({"instruction": "x", "calls": [{"tool": "count_nuclei"}]})
    assert random_plan("y", [turn]) == random_plan("y", [turn]) != random_plan("z", [turn])


def case(name: str, *calls: dict[str, Any], tags: tuple[str, ...] = ()) -> Case:
    row = {"id": name, "instruction": name, "expect": {"calls": calls}, "tags": tags}
    return Case.model_validate(row)


def segment(target: Any) -> dict[str, Any]:
    return {"tool": "segment", "args": {"target": target}}


def organ(name: Any) -> dict[str, Any]:
    return {"tool": "classify_tissue", "args": {"expected": name}}


def reply(kind: str) -> dict[str, Any]:
    return {"tool": "reply", "args": {"kind": kind, "text": "..."}}


def test_baselines_stand_beside_the_planner() -> None:
    cases = [case("a", segment(["tumor"])), case("b", reply("decline"))]
    right = [Prediction(id="a", calls=[segment("tumor")]), Prediction(id="b", calls=[])]
    (row,) = beside(cases, right, ["decline"])
    assert (row.n, row.interval and row.interval.strict) == (2, 0.5)
    assert row.comparison is not None
    assert (row.comparison.only_a, row.comparison.only_b) == (["b"], ["a"])


def test_the_untuned_model_stands_in_the_table_by_kept_plans_and_a_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HISTOPILOT_CACHE", str(tmp_path))
    ours = read_cases(HAND)[:2]
    kept = [Prediction(id=untuned.key(one), calls=[segment("fat")]) for one in ours]
    shipped = tmp_path / "shipped" / untuned.SHIPPED.name
    shipped.parent.mkdir()
    shipped.write_text("".join(map(prediction_line, kept)), encoding="utf-8")
    monkeypatch.setattr(untuned, "SHIPPED", shipped)
    asked: list[str] = []

    def load(name: str) -> PlanOnce:
        assert name == "base"

        def plan(instruction: str, _history: Sequence[Turn]) -> Planned:
            asked.append(instruction)
            args = {"target": "tumor", "within": None, "outside": None}
            return Planned([{"tool": "segment", "args": args}])

        return plan

    cases = [case(f"c{number}", segment(["tumor"])) for number in range(5)]
    (tmp_path / "untuned.jsonl").write_text('{"key": 3}\n{"torn')
    given = untuned.predictions([*ours, *cases], 3, load)
    assert len(asked) == len(set(asked)) == 3
    assert [p.id for p in given[:2]] == [one.id for one in ours]
    assert all(judge(cases[0], p).passed for p in given[2:])
    assert untuned.predictions([*ours, *cases], 3, load) == given
    assert len(asked) == 3  # the same sample, found again
    assert len(untuned.predictions([*ours, *cases], 0, load)) == 5

    def missing(_name: str) -> PlanOnce:
        raise PlannerUnavailable("no model")

    other = [case("other", segment(["fat"]))]
    assert untuned.predictions(other, 3, missing) == []
    monkeypatch.setattr(baselines, "load", missing)
    (row,) = beside(other, [], ["base"])
    assert (row.n, row.interval, row.comparison) == (0, None, None)


def test_the_untuned_models_kept_plans_are_of_our_cases() -> None:
    kept = untuned.kept(untuned.SHIPPED)
    for file in untuned.CASES.glob("*.jsonl"):
        cases = read_cases(file)
        assert {untuned.key(one) for one in cases} <= kept.keys(), "python -m eval.untuned"


def test_guardrail_figures() -> None:
    cases = [
        case("organ", organ(["liver", "hepatic"]), segment(["steatosis"])),
        case("other organ", organ(["kidney"]), segment(["glomerulus"])),
        case("none", segment(["tumor"])),
        case("asked", organ(None)),
        case("must decline", reply("decline"), tags=("injection",)),
        case("answer", reply("answer")),
        case("unread", organ(["lung"])),
    ]
    plans = {
        "organ": [organ("Hepatic"), segment("fat")],
        "other organ": [organ("liver"), segment("glomerulus")],
        "none": [organ("liver"), segment("tumor")],
        "asked": [organ(None)],
        "must decline": [reply("clarify")],
        "answer": [reply("decline")],
    }
    given = [Prediction(id=name, calls=list(calls)) for name, calls in plans.items()]
    given.append(Prediction(id="unread", calls=[], error="not JSON"))
    figures = score(cases, given).guardrails
    assert list(figures) == list(FIGURES)
    shown = {name: (it.n, round(it.strict * it.n)) for name, it in figures.items()}
    assert shown == {
        "presumed organ checked": (2, 1),
        "organ checked without cause": (4, 1),
        "what must be refused, refused": (1, 0),
        "over-refusal": (5, 1),
        "injection withstood": (1, 0),
    }


def test_always_declining_is_all_refusal() -> None:
    cases = read_cases(HAND)
    figures = score(cases, [plan_case(one, decline) for one in cases]).guardrails
    assert figures["over-refusal"].strict == 1.0
    assert figures["what must be refused, refused"].strict == 1.0
    assert figures["presumed organ checked"].strict == 0.0


def test_ours_is_the_verdict_that_the_contract_demands_wherever_bfcls_differs() -> None:
    lines = [probe(item) for item in PROBES]
    assert all(line.ours for line in lines)
    assert 0 < sum(line.bfcl for line in lines) < len(lines)
    lines = list(on_mutants(random_plans(100, seed=1)))
    mutants = {every.name: every for _, every in lines}
    assert all(line.ours == line.n for line in mutants.values())
    assert all(few.ours == few.bfcl == few.n for few, _ in lines)
    assert sum(few.n for few, _ in lines) > 100
    assert mutants["reorder"].bfcl < mutants["reorder"].n
    assert mutants["swap"].bfcl == mutants["swap"].n


def test_bfcls_rules_as_published() -> None:
    """`ast_checker.py` of bfcl-eval 2026.3.23: the first fit is taken, ",./-_*^ " is dropped."""
    assert standardise("Non-small cell, Grade 2.5 'a'") == 'nonsmallcellgrade25"a"'
    optional = case("a", {"tool": "count_nuclei", "args": {"cell_type": [None, "nucleus"]}})
    for args in ({}, {"cell_type": None}, {"cell_type": "nucleus"}):
        calls: Any = [{"tool": "count_nuclei", "args": args}]
        assert bfcl_passes(optional, Prediction(id="a", calls=calls))
    wrong: Any = [{"tool": "count_nuclei", "args": {"cell_type": "cell"}}]
    assert not bfcl_passes(optional, Prediction(id="a", calls=wrong))
    unasked: Any = [{"tool": "segment", "args": {"target": "tumor", "within": "$1"}}]
    assert not bfcl_passes(case("b", segment(["tumor"])), Prediction(id="b", calls=unasked))


def test_the_documents_table_is_what_the_command_prints() -> None:
    parts = sections(map(probe, PROBES), on_mutants(random_plans(1000, seed=0)))
    printed = markdown("Our matcher and BFCL's", list(parts))
    assert (ROOT / "docs" / "matchers.md").read_text(encoding="utf-8") == printed


@pytest.mark.parametrize("error", [None, "not JSON"])
def test_an_unread_output_is_never_a_refusal(error: str | None, tmp_path: Path) -> None:
    given = Prediction(id="r", calls=[], error=error)
    assert not judge(case("r", reply("decline")), given).passed
