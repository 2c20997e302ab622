"""Compound requests: each shape can be said in every language, and asks for what its data says."""

from __future__ import annotations

import pytest

from models.planner.generate import examples
from models.planner.generate.compounds import SECTION, shapes
from models.planner.generate.drafts import mix
from models.planner.generate.grammar import LANGUAGES, language
from models.planner.outline import Outline

BY_SHAPE = {name: SECTION + (shape.say or name) for name, shape in shapes().items()}


@pytest.fixture(scope="module")
def outlines() -> dict[str, set[tuple[str, ...]]]:
    """The outlines of first requests without a tissue check, by shape."""
    found: dict[str, set[tuple[str, ...]]] = {}
    for example in examples(seed=12, n=10000):
        name = example.tags[0].removeprefix("intent:").removeprefix("chain.")
        if name.startswith(SECTION) and not example.history:
            symbols = Outline.of(example.plan, 1).symbols
            if symbols[0] != "tissue":
                found.setdefault(name.removeprefix(SECTION), set()).add(symbols)
    return found


def test_the_mix_names_every_shape() -> None:
    assert {*mix()["mixed"]} == {*shapes(), "joined"}


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_shape_can_be_said(code: str) -> None:
    frames = language(code).frames
    unsaid = [name for name, section in BY_SHAPE.items() if section not in frames]
    assert unsaid == []


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("first_boxes_cell", ("count", "count", "boxes", "0")),
        ("second_boxes_cell", ("count", "count", "boxes", "1")),
        ("two_outlined", ("segment", "segment")),
        ("drop_second", ("segment",)),
        ("each", ("segment", "segment", "count", "in", "0", "count", "in", "1")),
        ("minus_show", ("segment", "segment", "out", "0")),
        ("three_last", ("segment", "segment", "segment", "count", "in", "2")),
        ("out_first", ("segment", "segment", "count", "in", "0", "out", "1")),
        ("pieces", ("segment", "boxes", "0")),
    ],
)
def test_a_shape_asks_for_what_its_data_says(
    outlines: dict[str, set[tuple[str, ...]]], shape: str, expected: tuple[str, ...]
) -> None:
    assert expected in outlines[shape]
