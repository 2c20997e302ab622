"""The generator's result lines are those that the tools write in production."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.planner.generate import results
from models.planner.generate.grammar import LANGUAGES, language
from tools.registry import TOOLS

fractions = st.none() | st.floats(0, 1)
areas = st.none() | st.floats(0, 1e9)


def line(tool: str, args: dict[str, Any], **output: Any) -> str:
    """What the tool itself says of an output with these fields."""
    one = TOOLS[tool]
    return one.line(one.arguments.model_validate(args), one.output.model_construct(**output))


@given(st.none() | st.just("liver"), st.floats(0, 1))
def test_tissue(label: str | None, probability: float) -> None:
    told = line("classify_tissue", {"expected": None}, label=label, probability=probability)
    assert results.tissue_line(label, probability) == told


@given(st.floats(0, 1), fractions)
def test_segment(present: float, fraction: float | None) -> None:
    told = line("segment", {"target": "gland"}, present=present, fraction_of_tissue=fraction)
    assert results.segment_line("gland", present, fraction) == told


@given(
    st.sampled_from([None, "mitosis", "apoptotic body", "hyperchromatic nucleus", "lymphs", "TIL"]),
    st.integers(0, 3000),
    st.none() | st.floats(0, 1e5),
)
def test_count(cell_type: str | None, count: int, density: float | None) -> None:
    told = line("count_nuclei", {"cell_type": cell_type}, count=count, density_per_mm2=density)
    assert results.count_line(cell_type, count, density) == told


@given(st.integers(0, 500))
def test_boxes(count: int) -> None:
    told = line("extract_boxes", {"source": "$1"}, count=count)
    assert results.boxes_line(count) == told


@given(areas, st.integers(0, 10**7), areas)
def test_measure(um2: float | None, pixels: int, mean: float | None) -> None:
    told = line("measure", {"source": "$1"}, area_um2=um2, area_px=pixels, mean_area_um2=mean)
    assert results.measure_line(um2, pixels, mean) == told


@pytest.mark.parametrize("code", LANGUAGES)
@pytest.mark.parametrize(
    ("line", "figures"),
    [
        ("gland: present 0.91, 7% of the tissue", ["7"]),
        ("58 eosinophils, 44.5/mm2", ["58", "44.5"]),
        ("14 boxes", ["14"]),
        ("area 0.38 mm², 5.2% of the tissue", ["38", "5.2"]),
    ],
)
def test_another_system_tells_the_same_figures(code: str, line: str, figures: list[str]) -> None:
    dice = Random(0)  # noqa: S311 - chance, no secret
    for _ in range(20):
        told = results.retold(dice, line, "GLAND", language(code))
        assert all(figure in told.replace(",", ".") for figure in figures), told


@pytest.mark.parametrize("missing", ["segment: outside vocabulary", "count_nuclei: no input"])
def test_what_refers_to_a_failed_call_has_no_input(missing: str) -> None:
    dice = Random(0)  # noqa: S311 - chance, no secret
    call = {"tool": "measure", "args": {"source": "$1"}}
    world = results.World("lung", 0.25)
    assert world.line(dice, call, [missing]) == "measure: no input"
    assert world.line(dice, call, ["gland: present 0.90"]).startswith("area ")
