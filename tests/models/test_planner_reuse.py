"""What a plan has already is not asked for again."""

from __future__ import annotations

import pytest

from models.planner.reuse import without_repeats
from models.planner.serialise import Turn, parse_plan, plan_lines

THREAD = [
    Turn("outline the tumor", parse_plan("$1 segment tumor", 1), "tumor: present"),
    Turn("thanks", [{"tool": "reply", "args": {"kind": "answer", "text": "You're welcome."}}], ""),
]


def _reused(plan: str) -> str:
    return "\n".join(plan_lines(without_repeats(parse_plan(plan, 3), THREAD), 3))


def test_what_the_thread_has_is_referred_to() -> None:
    assert _reused("$3 segment tumors\n$4 count lymphocyte in $3\n$5 boxes $4") == (
        "$3 count lymphocyte in $1\n$4 boxes $3"
    )
    assert _reused("$3 segment tumor") == "", "it is there"


def test_a_plan_asks_for_nothing_twice() -> None:
    plan = "$3 segment gland\n$4 segment glands\n$5 count lymphocyte out $4\n$6 boxes $4"
    assert _reused(plan) == "$3 segment gland\n$4 count lymphocyte out $3\n$5 boxes $3"
    plan = "$3 segment gland in $1\n$4 segment tumor\n$5 segment gland in $4\n$6 measure $5"
    assert _reused(plan) == "$3 segment gland in $1\n$4 measure $3", "known by its place too"


def test_another_place_makes_another_call() -> None:
    plan = "$3 segment tumor out $1\n$4 count *\n$5 count * in $1\n$6 count * out $1"
    assert _reused(plan) == plan
    assert _reused("$3 reply answer histology") == "$3 reply answer histology"


def test_an_argument_that_is_absent_null_or_empty_is_one() -> None:
    whole = {"tool": "count_nuclei", "args": {"cell_type": None, "within": None, "outside": None}}
    for args in ({}, {"cell_type": "", "within": ""}, {"cell_type": None, "outside": " "}):
        thread = [Turn("count", [{"tool": "count_nuclei", "args": args}], "")]
        box = {"tool": "extract_boxes", "args": {"source": "$2"}}
        assert without_repeats([whole, box], thread) == [
            {"tool": "extract_boxes", "args": {"source": "$1"}}
        ]


FAILED = (
    *("segment: worker lost", "segment: timeout", "error: worker timed out after 60 s"),
    *("FAILED: image could not be read", "request failed (memory), nothing was drawn"),
    *("Zeitüberschreitung", "Netzwerkfehler", "erreur : délai dépassé", "tiempo agotado"),
    *("ha fallat", "errore di rete", "falhou"),
)
WORKED = (
    "tumor: present 0.9",
    "done, no errors",
    "mean count error 12%",
    "ohne Fehler",
    "sans erreur",
)


@pytest.mark.parametrize(
    ("result", "again"), [(r, True) for r in FAILED] + [(r, False) for r in WORKED]
)
def test_what_failed_may_be_asked_for_again(result: str, again: bool) -> None:
    thread = [Turn("outline the tumor", parse_plan("$1 segment tumor", 1), result)]
    plan = parse_plan("$2 segment tumor", 2)
    assert without_repeats(plan, thread) == (plan if again else [])


def test_of_a_turn_only_what_failed_is_asked_for_again() -> None:
    calls = parse_plan("$1 segment tumor\n$2 count lymphocyte in $1", 1)
    thread = [Turn("count them in it", calls, "tumor: present 0.90; count_nuclei: worker lost")]
    plan = parse_plan("$3 segment tumor\n$4 count lymphocyte in $3", 3)
    assert plan_lines(without_repeats(plan, thread), 3) == ["$3 count lymphocyte in $1"]


def test_which_tissue_it_is_and_whether_it_is_one_are_two_questions() -> None:
    thread = [Turn("is it lung?", parse_plan("$1 tissue lung", 1), "lung 0.9")]
    asked, named = parse_plan("$2 tissue ?", 2), parse_plan("$2 tissue Lungs\n$3 count *", 2)
    assert without_repeats(asked, thread) == asked
    assert plan_lines(without_repeats(named, thread), 2) == ["$2 count *"]


def test_calls_of_unknown_tools_or_with_odd_values_repeat_nothing_else() -> None:
    odd = [
        {"tool": "segment", "args": {"target": ["tumor"], "within": 1}},
        {"tool": "register", "args": {"target": "tumor"}},
        {"tool": "segment", "args": {"target": "tumor", "margin": 3}},
    ]
    plan = parse_plan("$4 segment tumor\n$5 measure $4", 4)
    assert without_repeats(plan, [Turn("", odd, "")]) == plan
