"""What the generator says about earlier turns means the calls that it plans for."""

from __future__ import annotations

import re
from collections.abc import Iterator

from models.planner.generate import examples
from models.planner.generate.examples import Example

MADE = [example for example in examples(seed=2, n=12000) if example.history]
ORDINALS = ("first", "second", "third", "fourth")
_NAMES = "region|area|mask|outline|structure|zone|one you outlined|of the regions"
_PLACE = rf"the ({'|'.join(ORDINALS)}) (?:{_NAMES})"


def named(kind: str) -> Iterator[Example]:
    """The examples of one kind of reference."""
    return (e for e in MADE if e.tags[0] == f"intent:follow.refer.{kind}")


def regions(example: Example) -> list[int]:
    """The numbers of the regions that the thread has outlined."""
    calls = [call for turn in example.history for call in turn.calls]
    return [n for n, call in enumerate(calls, 1) if call["tool"] == "segment"]


def test_an_ordinal_is_a_place_among_the_regions() -> None:
    seen = 0
    for example in named("point"):
        said = re.search(_PLACE, example.instruction.lower())
        if said is None or example.plan[0]["tool"] == "reply":
            continue
        number = regions(example)[ORDINALS.index(said[1])]
        assert {call["args"]["source"] for call in example.plan} == {f"${number}"}
        seen += 1
    assert seen > 3


def test_everything_so_far_is_every_region() -> None:
    seen = 0
    for example in named("several"):
        if not re.search("outline|mask|region", said := example.instruction) or (
            "so far" not in said and "up to now" not in said
        ):
            continue
        wanted = {f"${number}" for number in regions(example)}
        assert {call["args"]["source"] for call in example.plan} == wanted
        seen += 1
    assert seen > 0


def test_a_place_that_the_thread_has_not_got_is_asked_back() -> None:
    plans = [example.plan for example in named("missing")]
    assert plans
    assert all([call["args"]["kind"] for call in plan] == ["clarify"] for plan in plans)


def test_without_restriction_nothing_restricts() -> None:
    plans = [example.plan for example in named("whole")]
    assert plans
    for plan in plans:
        counted = [call["args"] for call in plan if call["tool"] == "count_nuclei"]
        assert [(args["within"], args["outside"]) for args in counted] == [(None, None)]


def test_what_was_not_understood_is_done_once_it_is_said() -> None:
    cleared = [e for e in MADE if e.tags[0] == "intent:follow.meant"]
    assert cleared
    for example in cleared:
        assert example.history[-1].calls[0]["args"]["kind"] == "clarify"
        assert example.plan[-1]["tool"] in ("segment", "count_nuclei")
