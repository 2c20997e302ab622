"""Figures that a thread states or lacks, and names cut to their heads."""

from __future__ import annotations

import re

import pytest

from models.planner.generate.examples import Example, examples
from models.planner.generate.grammar import Noun
from models.planner.generate.shortened import shortened

MADE = [example for example in examples(seed=5, n=8000) if example.history]


def asked(name: str) -> list[Example]:
    """The examples that ask for a figure of that name, by name or not."""
    return [e for e in MADE if re.search(rf":figure\.(it\.)?{name}#", e.frame)]


@pytest.mark.parametrize(
    ("name", "tool"),
    [
        ("percent", "measure"),
        ("area", "measure"),
        ("density", "measure"),
        ("mean", "measure"),
        ("pieces", "extract_boxes"),
    ],
)
def test_a_figure_is_answered_or_measured_about_as_often(name: str, tool: str) -> None:
    found = asked(name)
    answered = [e for e in found if e.plan[0]["tool"] == "reply"]
    assert {e.plan[0]["tool"] for e in found} == {"reply", tool}
    assert 0.15 < len(answered) / len(found) < 0.85


def test_a_percentage_is_measured_only_where_no_result_states_it() -> None:
    for example in asked("percent"):
        if example.plan[0]["tool"] == "reply":
            assert any("%" in turn.result for turn in example.history)


@pytest.mark.parametrize(
    ("code", "name", "one", "head"),
    [
        ("en", "fibrin thrombi", "fibrin thrombus", "thrombi"),
        ("en", "islets of Langerhans", "islet of Langerhans", "islets"),
        ("en", "nerves", "nerve", None),
        ("en", "lamina propria", "lamina propria", None),
        ("de", "papilläre Dermis", "papilläre Dermis", "Dermis"),
        ("es", "haces nerviosos", "haces nerviosos", "haces"),
    ],
)
def test_a_name_is_cut_to_its_head(code: str, name: str, one: str, head: str | None) -> None:
    found = shortened(Noun(name, one, "the", one != name), code)
    assert (found and found.text) == head
