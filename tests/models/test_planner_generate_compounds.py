"""Compound requests: each shape can be said in every language, and asks for what its data says."""

from __future__ import annotations

from random import Random

import pytest

from models.planner.generate.compounds import SECTION, shaped, shapes
from models.planner.generate.drafts import Draft, mix
from models.planner.generate.grammar import LANGUAGES, language
from models.planner.generate.lexicons import lexicon
from models.planner.generate.plans import Ledger, plan
from models.planner.generate.requests import Sampler
from models.planner.outline import Outline

_PAIR = ("segment", "count", "in", "0")
_INSIDE = ("segment", "in", "0")
_MEASURED = ("measure", "0", "measure", "1", "measure", "2")

BY_SHAPE = {name: SECTION + (shape.say or name) for name, shape in shapes().items()}


def _drawn(shape: str, seed: int = 0) -> Draft:
    """A request of a shape that presumes no organ."""
    rng = Random(seed)  # noqa: S311
    drafts = (shaped(Sampler(rng, lexicon("en")), shape) for _ in range(1000))
    return next(draft for draft in drafts if draft.intent.presumed() is None)


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
        ("drop_third", ("segment", "segment")),
        ("each", ("segment", "segment", "count", "in", "0", "count", "in", "1")),
        ("minus_show", ("segment", "segment", "out", "0")),
        ("three_last", ("segment", "segment", "segment", "count", "in", "2")),
        ("out_first", ("segment", "segment", "count", "in", "0", "out", "1")),
        ("pieces", ("segment", "boxes", "0")),
        ("two_first", ("segment", "segment", "count", "in", "0")),
        ("inside_beyond", ("segment", "count", "in", "0", "count", "out", "0")),
        ("in_and_rest_of", (*_PAIR, "segment", "count", "in", "2", "out", "0")),
        ("outlined_pair", ("segment", "segment", "count", "in", "0", "count", "in", "1")),
        ("shares_of", ("segment", *_INSIDE, *_INSIDE, *_MEASURED)),
    ],
)
def test_a_shape_asks_for_what_its_data_says(shape: str, expected: tuple[str, ...]) -> None:
    planned = plan(_drawn(shape).intent, Ledger())
    assert Outline.of(planned.calls, 1).symbols == expected


def test_what_is_named_again_is_named_by_its_head() -> None:
    again = [_drawn("two_first", seed).parts[0].slots for seed in range(200)]
    short = [(slots["x"][0].text, slots["X"][0].text) for slots in again]
    assert any(whole != head for whole, head in short)
    assert all(head in whole for whole, head in short)
