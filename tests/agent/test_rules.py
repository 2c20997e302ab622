"""The rules planner against hand-written cases, and against anything that a user might type."""

from __future__ import annotations

import json
import time
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.plan import Call, Turn, read_plan
from agent.planners import rules_words
from agent.planners.base import PlannerRequest
from agent.planners.rules import MAX_CHARS, RulesPlanner, plan_by_rules
from eval.cases import Case, plan_problem
from eval.matching import judge_calls

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT.parent / "shared" / "contract" / "cases.sample.jsonl"
CASES = [
    Case.model_validate_json(line)
    for line in (Path(__file__).parent / "rules_cases.jsonl").read_text("utf-8").splitlines()
]
TUMOR: dict[str, Any] = {"tool": "segment", "args": {"target": "tumor"}}
LYMPHOCYTES: dict[str, Any] = {
    "tool": "count_nuclei",
    "args": {"cell_type": "lymphocyte", "within": "$1"},
}
COUNTED = {
    "instruction": "Count the lymphocytes in the tumor.",
    "calls": [TUMOR, LYMPHOCYTES],
    "result": "812 lymphocytes, 1430/mm2",
}


def check(case: Case) -> None:
    history = [turn.model_dump() for turn in case.history]
    verdict = judge_calls(case, plan_by_rules(case.instruction, history))
    assert verdict.passed, f"{case.instruction!r}: {verdict.detail}"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_own_case(case: Case) -> None:
    check(case)


def test_own_cases_cover_the_categories() -> None:
    tags = Counter(tag for case in CASES for tag in case.tags)
    assert len(CASES) >= 80
    for tag in ("single", "guardrail", "tissue", "within", "outside", "multi", "boxes", "measure"):
        assert tags[tag] >= 4, tag
    assert min(tags["follow-up"], tags["reply"], tags["language"]) >= 10


@pytest.mark.skipif(not SAMPLES.exists(), reason="the contract's sample cases are not here")
def test_sample_cases() -> None:
    for line in SAMPLES.read_text("utf-8").splitlines():
        check(Case.model_validate_json(line))


def test_one_meaning_has_one_plan_in_seven_languages() -> None:
    plans = [
        plan_by_rules(instruction)
        for instruction in (
            "Count the lymphocytes in the stroma",
            "Cuenta los linfocitos en el estroma",
            "Compte les lymphocytes dans le stroma",
            "Zähle die Lymphozyten im Stroma",
            "Conta i linfociti nello stroma",
            "Compta els limfòcits dins de l'estroma",
            "Conte os linfócitos no estroma",
        )
    ]
    assert plans == [plans[0]] * 7
    assert [call["tool"] for call in plans[0]] == ["segment", "count_nuclei"]


def test_targets_keep_the_users_words_in_the_singular() -> None:
    (call,) = plan_by_rules("highlight the large oedematous villi")
    assert call["args"] == {"target": "large edematous villus", "within": None, "outside": None}


def test_unknown_structures_are_passed_on_as_they_are() -> None:
    (call,) = plan_by_rules("Segment the gribbly bodies")
    assert call["args"]["target"] == "gribbly body"


def test_a_definition_comes_from_the_ontology() -> None:
    (call,) = plan_by_rules("What is a germinal center?")
    assert call["args"]["kind"] == "answer"
    assert "lymphoid follicle" in call["args"]["text"]


def test_what_the_thread_states_is_quoted() -> None:
    (call,) = plan_by_rules("how many were there?", [COUNTED])
    assert call["args"]["kind"] == "answer"
    assert "812 lymphocytes" in call["args"]["text"]


def test_a_decline_names_its_reason() -> None:
    texts = {
        plan_by_rules(instruction)[0]["args"]["text"]
        for instruction in (
            "What is the diagnosis?",
            "What grade is this?",
            "Show me the CD8 stain",
        )
    }
    assert len(texts) == 3


def test_too_long_an_instruction_is_not_read_in_part() -> None:
    (call,) = plan_by_rules("count the nuclei " * MAX_CHARS)
    assert call["args"]["kind"] == "clarify"
    assert "more than the rules planner reads" in call["args"]["text"]


def test_more_calls_than_a_plan_holds() -> None:
    kinds = ", ".join(f"{a}{b} body" for a in "abcdef" for b in "uvwxyz")
    (call,) = plan_by_rules(f"segment {kinds}")
    assert call["args"]["kind"] == "clarify"
    assert "more tool calls than one plan holds" in call["args"]["text"]


@pytest.mark.parametrize(
    "text",
    [
        "a" * 100_000,
        "a" * MAX_CHARS,
        "count the lymphocytes in the tumor and " * 100,
        "$ " * (MAX_CHARS // 2),
        "of tumor " * 400,
        "核" * MAX_CHARS,
    ],
    ids=["100k", "word", "clauses", "symbols", "nested", "chinese"],
)
def test_the_work_is_bounded(text: str) -> None:
    plan_by_rules("warm up")
    start = time.process_time()
    plan = plan_by_rules(text, [COUNTED])
    assert time.process_time() - start < 1.0
    assert plan_problem(plan, ["segment", "count_nuclei"]) is None


VOCABULARY = (
    "count segment box measure area of the in outside not and , . ? it them each first second what "
    "percentage is how many ratio tumor glands lymphocytes nuclei liver this image everything no "
    "region same except those share gland's benign grade why for around per their flump instead"
)
HISTORIES: list[list[dict[str, Any]]] = [
    [],
    [COUNTED],
    [{"instruction": "?", "calls": [{"tool": "reply", "args": {"kind": "clarify", "text": "?"}}]}],
    [{"instruction": "organ?", "calls": [{"tool": "classify_tissue", "args": {}}], "result": ""}],
]


@settings(max_examples=400, deadline=None)
@given(
    st.text(max_size=80) | st.lists(st.sampled_from(VOCABULARY.split()), max_size=20).map(" ".join),
    st.sampled_from(HISTORIES),
)
def test_every_instruction_gets_a_valid_plan(
    instruction: str, history: list[dict[str, Any]]
) -> None:
    plan = plan_by_rules(instruction, history)
    earlier = [call["tool"] for turn in history for call in turn["calls"]]
    assert plan_problem(plan, earlier) is None
    assert plan


def test_planner_speaks_the_planner_protocol() -> None:
    planner = RulesPlanner()
    turn = Turn(instruction="Segment the tumor", calls=(Call(**TUMOR),), result="41%")
    request = PlannerRequest(instruction="count the mitoses in it", history=(turn,))
    plan = read_plan(planner.propose(request).raw, [turn])
    assert plan.calls[0].args == {"cell_type": "mitosis", "within": "$1", "outside": None}
    assert planner.repairs is False
    assert planner.info()["name"] == planner.name == "rules"


def phrases(section: dict[str, list[str]]) -> list[tuple[str, ...]]:
    return [rules_words.phrase_words(p) for ps in section.values() for p in ps]


def test_no_english_phrase_has_two_tags() -> None:
    folder = Path(rules_words.__file__).parent
    english = tomllib.loads((folder / "rules_english.toml").read_text("utf-8"))
    found = Counter(phrases(english["tags"]) + phrases(english["decline"]))
    assert [phrase for phrase, n in found.items() if n > 1] == []
    assert max(map(len, found)) <= rules_words.LONGEST_PHRASE


def test_every_translation_means_something_in_english() -> None:
    for table in rules_words.lexicon().languages.values():
        for meaning in set(table.values()):
            tags = {item.tag for item in rules_words.read_items(" ".join(meaning))}
            assert "word" not in tags, meaning


def test_plans_are_json() -> None:
    plan = plan_by_rules("Box the glands outside the tumour")
    assert json.loads(json.dumps(plan)) == plan
