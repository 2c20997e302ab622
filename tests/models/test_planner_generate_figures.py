"""Figures that a thread states or lacks, and names cut to their heads."""

from __future__ import annotations

import re

import pytest

from models.planner.generate.examples import Example, examples
from models.planner.generate.grammar import Noun
from models.planner.generate.shortened import shortened


@pytest.fixture(scope="module")
def made() -> list[Example]:
    return [example for example in examples(seed=5, n=8000) if example.history]


def asked(made: list[Example], name: str) -> list[Example]:
    """The examples that ask for a figure of that name, by name or not."""
    return [e for e in made if re.search(rf":figure\.(it\.)?{name}#", e.frame)]


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
def test_a_figure_is_answered_or_measured(made: list[Example], name: str, tool: str) -> None:
    found = asked(made, name)
    answered = [e for e in found if e.plan[0]["tool"] == "reply"]
    assert {e.plan[0]["tool"] for e in found} == {"reply", tool}
    assert 0.15 < len(answered) / len(found) < 0.85


def test_a_percentage_is_told_only_where_a_result_states_one(made: list[Example]) -> None:
    told = [e for e in asked(made, "percent") if e.plan[0]["tool"] == "reply"]
    assert told
    for example in told:
        assert any(
            re.search(r"\d ?(%|percent|per cent|pct|p\.)", t.result) for t in example.history
        )


def test_all_nuclei_are_told_by_no_name_of_a_cell(made: list[Example]) -> None:
    turns = [turn for example in made for turn in example.history if len(turn.calls) == 1]
    counts = [t for t in turns if t.calls[0]["args"].get("cell_type", "") is None]
    assert counts
    for turn in counts:
        assert not re.search(r"phage|cyte|blast|plasma cell|mitos", turn.result), turn


@pytest.mark.parametrize(
    ("frame", "tools"),
    [
        (":refer.among.all#", {"count_nuclei"}),
        (":refer.among.in#", {"count_nuclei"}),
        (":refer.held.boxes#", {"extract_boxes", "count_nuclei"}),
        (":refer.held.measures#", {"measure", "count_nuclei"}),
    ],
)
def test_what_follows_uses_the_calls_before(
    made: list[Example], frame: str, tools: set[str]
) -> None:
    found = [e for e in made if frame in e.frame]
    assert found
    for example in found:
        plan = {c["tool"]: c["args"] for c in example.plan if c["tool"] != "classify_tissue"}
        assert set(plan) == tools
        count = plan.pop("count_nuclei")
        assert count["cell_type"] is None or plan
        assert all(args["source"] == count["within"] for args in plan.values())


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
