"""What the generator says about earlier turns means the calls that it plans for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from random import Random

from models.planner.generate import examples
from models.planner.generate.examples import Example
from models.planner.generate.grammar import language
from models.planner.generate.intents import Intent, Want
from models.planner.generate.lexicons import lexicon
from models.planner.generate.plans import plan
from models.planner.generate.results import World
from models.planner.generate.switching import switch
from models.planner.generate.threads import Thread
from models.planner.serialise import Call

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
    assert all([call["args"]["kind"] for call in calls] == ["clarify"] for calls in plans)


def test_without_restriction_nothing_restricts() -> None:
    plans = [example.plan for example in named("whole")]
    assert plans
    for calls in plans:
        counted = [call["args"] for call in calls if call["tool"] == "count_nuclei"]
        assert [(args["within"], args["outside"]) for args in counted] == [(None, None)]


def test_what_was_not_understood_is_done_once_it_is_said() -> None:
    cleared = [e for e in MADE if e.tags[0] == "intent:follow.meant"]
    assert cleared
    for example in cleared:
        assert example.history[-1].calls[0]["args"]["kind"] == "clarify"
        assert example.plan[-1]["tool"] in ("segment", "count_nuclei")


def counts(plan: Sequence[Call]) -> list[dict[str, str | None]]:
    """The arguments of the counts of a plan."""
    return [call["args"] for call in plan if call["tool"] == "count_nuclei"]


def test_a_count_is_split_over_as_many_places_as_are_named() -> None:
    split = [e for e in MADE if e.tags[0] == "intent:follow.add.split"]
    assert split
    for example in split:
        made = counts(example.plan)
        assert len({args["within"] for args in made}) == len(made) > 1
        assert len({args["cell_type"] for args in made}) == 1


def test_what_lies_in_there_is_counted_in_one_region_that_the_thread_has() -> None:
    there = [e for e in MADE if e.tags[0] == "intent:follow.add.there"]
    assert there
    for example in there:
        places = {args["within"] for args in counts(example.plan)}
        assert places <= {f"${number}" for number in regions(example)}
        assert len(places) == 1


def test_what_is_called_by_its_number_was_stated_with_it() -> None:
    numbered = [e for e in MADE if e.tags[0] == "intent:follow.alike.numbered"]
    assert numbered
    for example in numbered:
        assert [call["tool"] for call in example.plan] in (["extract_boxes"], ["measure"])
    english = [e for e in numbered if e.tags[1] == "en" and "typos" not in e.tags]
    said = [(re.findall(r"\d+", e.instruction), e.history) for e in english]
    assert any(n in turn.result for numbers, turns in said for turn in turns for n in numbers)


def test_a_thread_goes_on_in_another_language_with_all_that_it_has() -> None:
    rng = Random(0)  # noqa: S311 - no secret hangs on it
    thread = Thread(World("lung", None))
    tumor = next(one for one, _ in lexicon("en").entities if one.target == "tumor")
    intent = Intent("show.region", (Want((tumor,)),))
    thread.add(rng, "", intent, plan(intent, thread.ledger))
    assert switch(rng, thread, lexicon("de"), language("de"))
    (known,) = thread.known()
    assert (known.mention.target, known.number) == (tumor.target, thread.focus[0].number)
    assert known.mention.noun != tumor.noun
    assert thread.last == Intent("show.region", (Want((known.mention,)),))
