"""The composer: statuses, shares and sentences, from results written by hand."""

from typing import Any

import numpy as np
import pytest

from agent.compose import WITHHELD, compose
from agent.figures import unsupported
from tools.arrays import handle_of
from tools.registry import TOOLS

HANDLE = handle_of(np.zeros(3)).model_dump(mode="json")
SEGMENT = {
    "concept": "tumor",
    "mask": HANDLE,
    "present": 0.91,
    "area_px": 4000,
    "area_um2": 1000.0,
    "fraction_of_tissue": 0.25,
    "fraction_of_within": None,
    "method": "drawing",
    "quality": {"metric": "Dice", "value": 0.815, "dataset": "a set", "n": 3},
}
COUNT = {
    "concept": "nucleus",
    "mask": HANDLE,
    "kinds": ["nucleus"],
    "kind_of": HANDLE,
    "confidence": HANDLE,
    "present": 1.0,
    "count": 40,
    "by_kind": {"nucleus": 40},
    "searched_px": 4000,
    "searched_um2": 1000.0,
    "density_per_mm2": 40000.0,
    "method": "drawing",
    "quality": None,
}


def result(tool: str, args: dict[str, Any], output: Any = None, error: Any = None):
    full = TOOLS[tool].arguments.model_validate(args).model_dump(mode="json")
    return {"tool": tool, "args": full, "output": output, "error": error}


def answer(*results: dict[str, Any], **state: Any) -> dict[str, Any]:
    calls = [{"tool": item["tool"], "args": item["args"]} for item in results]
    return compose(
        {
            "plan": {"calls": calls, "first": 1},
            "results": {f"${n}": item for n, item in enumerate(results, start=1)},
            "instruction": "do it",
            **state,
        }
    )


def failed(code: str) -> dict[str, Any]:
    return {"code": code, "message": "It did not work.", "missing": None}


def test_the_sentence_asked_for_comes_first_and_methods_last() -> None:
    text = answer(
        result("segment", {"target": "tumor"}, SEGMENT),
        result("count_nuclei", {"within": "$1"}, COUNT),
    )["text"]
    assert text == (
        "40 nuclei were found inside the tumor, 40,000 per mm². "
        "The tumor covers 1,000 µm², 25.0% of the tissue. "
        "Methods: tumor – drawing (Dice 0.81 on a set); nucleus – drawing."
    )


def test_a_share_of_cells_is_told() -> None:
    some = {**COUNT, "count": 10, "concept": "lymphocyte", "density_per_mm2": 10000.0}
    got = answer(
        result("count_nuclei", {"cell_type": "lymphocyte"}, some),
        result("count_nuclei", {}, COUNT),
    )
    assert got["measurements"]["share"] == {"of": "$1", "in": "$2", "fraction": 0.25}
    assert "lymphocyte: 25.0% of all nuclei." in got["text"]


@pytest.mark.parametrize(
    ("error", "status"),
    [("outside_vocabulary", "declined"), ("internal", "failed"), ("timeout", "failed")],
)
def test_an_error_decides_the_status(error: str, status: str) -> None:
    got = answer(result("segment", {"target": "tumor"}, error=failed(error)))
    assert (got["status"], got["text"], got["masks"]) == (status, "It did not work.", [])


def test_what_could_be_done_is_done_and_the_rest_is_told() -> None:
    got = answer(
        result("segment", {"target": "tumor"}, SEGMENT),
        result("segment", {"target": "gland"}, error=failed("outside_vocabulary")),
    )
    assert got["status"] == "completed"
    assert [mask["call"] for mask in got["masks"]] == ["$1"]
    assert "It did not work." in got["text"]


def test_a_sentence_with_a_figure_that_nobody_measured_is_withheld(monkeypatch) -> None:
    tool = type(TOOLS["count_nuclei"])
    monkeypatch.setattr(tool, "sentence", lambda *_: "There are 41 nuclei.")
    got = answer(result("count_nuclei", {}, COUNT))
    assert got["text"].startswith(WITHHELD)
    assert "41" not in got["text"]


def test_every_figure_of_an_answer_is_in_its_results() -> None:
    results = (
        result("segment", {"target": "tumor"}, SEGMENT),
        result("count_nuclei", {"within": "$1"}, COUNT),
        result("extract_boxes", {"source": "$2"}, {"of": "instance", "count": 40, "boxes": []}),
    )
    assert unsupported(answer(*results)["text"], list(results)) == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("That is 10 fewer.", True),
        ("They are 75% of them, 70 in all.", True),
        ("That is 12 fewer.", False),
        ("They are 60% of them.", False),
    ],
)
def test_a_reply_may_reckon_with_the_threads_figures(text: str, shown: bool) -> None:
    some = {**COUNT, "count": 30, "by_kind": {"nucleus": 30}}
    reply = {"tool": "reply", "args": {"kind": "answer", "text": text}}
    got = compose(
        {
            "plan": {"calls": [reply], "first": 3},
            "results": {
                "$1": result("count_nuclei", {}, COUNT),
                "$2": result("count_nuclei", {}, some),
            },
            "history": [],
        }
    )
    assert got["text"] == (text if shown else WITHHELD)


def test_without_a_plan_the_answer_is_a_failure_that_says_why() -> None:
    got = compose({"plan": None, "planning_error": "no JSON", "planner_missing": False})
    assert got["status"] == "failed"
    assert "no JSON" in got["text"]
