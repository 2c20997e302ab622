"""The second opinion on the embedded model's plan."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agent.planners.second import (
    DECLINE,
    LEAST,
    ORGAN,
    OUTLINE,
    RULES,
    WEIGHT,
    by_rules,
    margins,
    rivals,
)
from models.planner.decode import Rival
from models.planner.outline import Outline
from models.planner.serialise import Call, Turn

SEGMENT: Call = {"tool": "segment", "args": {"target": "gland", "within": None, "outside": None}}
BOXES: Call = {"tool": "extract_boxes", "args": {"source": "$1"}}


class Sure:
    """Stands for the outline network and its opinion: one outline is likelier by so many nats."""

    digest = "sha256:0"

    def __init__(self, outline: Outline | None = None, nats: float = 0.0) -> None:
        self.outline, self.nats = outline, nats

    def read(self, thread: str, start: int) -> Sure:
        """The same whatever the thread."""
        assert thread.startswith("> ")
        assert start >= 1
        return self

    def of(self, outline: Outline) -> float:
        """Likelier where it is the one."""
        return 0.0 if outline == self.outline else -self.nats

    def best(self, admits: Callable[[Outline], bool], count: int) -> list[tuple[Outline, float]]:
        """The one, where there is one."""
        assert count > 1
        return [(self.outline, 0.0)] if self.outline and admits(self.outline) else []


UNSURE = Sure()


def heard(history: list[Turn], said: str, calls: list[Call], outliner: Sure) -> list[Rival]:
    """The rivals, the rules' plan among them."""
    return rivals(history, said, calls, by_rules(history, said), outliner)


def tissue(expected: str | None) -> Call:
    return {"tool": "classify_tissue", "args": {"expected": expected}}


def test_the_rules_have_a_say_where_they_plan_otherwise() -> None:
    (rival,) = heard([], "Outline the glands.", [SEGMENT, BOXES], UNSURE)
    assert (rival.plan, rival.margin, rival.source) == ([SEGMENT], RULES, "rules")
    assert heard([], "Outline the glands.", [SEGMENT], UNSURE) == []
    none = heard([], "xyzzy", [SEGMENT], UNSURE)
    assert none == [], "what they don't understand is no opinion"


def test_a_likelier_outline_is_tried_and_weighs_on_the_rules() -> None:
    wanted, nats = Outline(("segment",)), LEAST + 1
    found = heard([], "Outline the glands.", [SEGMENT, BOXES], Sure(wanted, nats))
    by_rules, by_outline = found
    assert by_rules.margin == pytest.approx(RULES + WEIGHT * nats)
    assert (by_outline.plan, by_outline.source) == (wanted, "outline")
    assert by_outline.margin == pytest.approx(OUTLINE + WEIGHT * nats)
    assert heard([], "Outline the glands.", [SEGMENT], Sure(wanted, nats)) == []
    little = heard([], "Outline the glands.", [SEGMENT, BOXES], Sure(wanted, LEAST))
    assert [rival.source for rival in little] == ["rules"], "so little is not worth a plan"


def test_to_decline_counts_against_a_plan() -> None:
    refusal: Call = {"tool": "reply", "args": {"kind": "decline", "text": "No."}}
    (rival,) = heard([], "Outline the glands.", [refusal], UNSURE)
    assert (rival.source, rival.margin) == ("rules", RULES + DECLINE)
    wanted, nats = Outline(("decline",)), LEAST + 1
    (rival,) = heard([], "Outline the glands.", [SEGMENT], Sure(wanted, nats))
    assert rival.margin == pytest.approx(OUTLINE + WEIGHT * nats - DECLINE)


def test_records_name_the_margins() -> None:
    assert f"weight {WEIGHT:g}" in margins()


def test_a_check_of_an_organ_that_nobody_spoke_of_is_doubted() -> None:
    found = heard([], "Lippenbiopsie: Drüsen umranden", [tissue("breast"), SEGMENT], UNSURE)
    organs = [rival for rival in found if rival.source == "organ"]
    assert [(rival.plan, rival.margin) for rival in organs] == [([tissue("lip"), SEGMENT], ORGAN)]


def test_a_check_that_the_words_bear_out_is_not() -> None:
    for said, expected in (("lip biopsy", "lip"), ("unheard-of organ", "unheard of organ")):
        found = heard([], f"{said}: outline the glands", [tissue(expected), SEGMENT], UNSURE)
        assert [rival for rival in found if rival.source == "organ"] == []
    found = heard([], "what tissue is this lip?", [tissue(None)], UNSURE)
    assert [rival for rival in found if rival.source == "organ"] == []


def test_what_the_thread_has_checked_is_not_checked_again() -> None:
    history = [Turn("lip biopsy?", [tissue("lip")], "lip 0.9")]
    found = heard(history, "outline the glands of the lip", [tissue("breast"), SEGMENT], UNSURE)
    assert [rival for rival in found if rival.source == "organ"] == []
