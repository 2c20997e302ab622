"""The second opinion on the embedded model's plan."""

from __future__ import annotations

from agent.planners.second import ORGAN, RULES, rivals
from models.planner.serialise import Call, Turn

SEGMENT: Call = {"tool": "segment", "args": {"target": "gland", "within": None, "outside": None}}
BOXES: Call = {"tool": "extract_boxes", "args": {"source": "$1"}}


def tissue(expected: str | None) -> Call:
    return {"tool": "classify_tissue", "args": {"expected": expected}}


def test_the_rules_have_a_say_where_they_plan_otherwise() -> None:
    (rival,) = rivals([], "Outline the glands.", [SEGMENT, BOXES])
    assert (rival.calls, rival.margin, rival.source) == ([SEGMENT], RULES, "rules")
    assert rivals([], "Outline the glands.", [SEGMENT]) == []
    assert rivals([], "xyzzy", [SEGMENT]) == [], "what they don't understand is no opinion"


def test_a_check_of_an_organ_that_nobody_spoke_of_is_doubted() -> None:
    found = rivals([], "Lippenbiopsie: Drüsen umranden", [tissue("breast"), SEGMENT])
    organs = [rival for rival in found if rival.source == "organ"]
    assert [(rival.calls, rival.margin) for rival in organs] == [([tissue("lip"), SEGMENT], ORGAN)]


def test_a_check_that_the_words_bear_out_is_not() -> None:
    for said, expected in (("lip biopsy", "lip"), ("unheard-of organ", "unheard of organ")):
        found = rivals([], f"{said}: outline the glands", [tissue(expected), SEGMENT])
        assert [rival for rival in found if rival.source == "organ"] == []
    found = rivals([], "what tissue is this lip?", [tissue(None)])
    assert [rival for rival in found if rival.source == "organ"] == []


def test_what_the_thread_has_checked_is_not_checked_again() -> None:
    history = [Turn("lip biopsy?", [tissue("lip")], "lip 0.9")]
    found = rivals(history, "outline the glands of the lip", [tissue("breast"), SEGMENT])
    assert [rival for rival in found if rival.source == "organ"] == []
