"""Threads written one by one: valid, no test case among them, and the same when told of others."""

from random import Random

import pytest

from eval.cases import Case
from models.planner.generate import examples
from models.planner.generate.examples import held_out
from models.planner.generate.grammar import LANGUAGES
from models.planner.generate.written import Dialogue, dialogues, read, told
from models.planner.outline import Outline
from models.planner.serialise import plan_lines
from models.planner.words import language_of

THREAD = """> Segment the stroma
$1 segment stroma
= stroma 0.97
> an eosinophil in it? box every eosinophil there
$2 count eosinophil in $1
$3 boxes $2"""


def outlines(one: Dialogue) -> list[Outline]:
    number, found = 1, []
    for calls in (*(turn.calls for turn in one.history), one.plan):
        found.append(Outline.of(calls, number))
        number += len(calls)
    return found


def test_every_thread_is_a_valid_case_in_the_grammar_and_none_of_a_test_set() -> None:
    made = list(examples(seed=1, n=3000, written=1.0))
    assert {example.frame for example in made} <= {one.id for one in dialogues()}
    for example in made:
        Case.model_validate(example.case())
    assert not any(held_out(one.instruction) for one in dialogues())


def test_no_thread_is_there_twice_and_all_languages_are() -> None:
    keys = {
        (one.instruction, tuple((t.instruction, t.result) for t in one.history))
        for one in dialogues()
    }
    assert len(keys) == len(dialogues())
    assert {language_of(one.instruction) for one in dialogues()} == set(LANGUAGES)


def test_a_thread_told_of_others_asks_for_the_same() -> None:
    rng = Random(4)  # noqa: S311 - chance, no secret
    changed = 0
    for one in dialogues():
        new = told(rng, one)
        changed += new != one
        assert outlines(new) == outlines(one)
        assert [t.calls for t in new.history] != [t.calls for t in one.history] or (
            new.plan != one.plan or new == one
        )
    assert changed > 100


def test_names_are_exchanged_with_their_number_and_article() -> None:
    (one,) = read(THREAD, "made")
    rng = Random(0)  # noqa: S311 - chance, no secret
    seen = set()
    for _ in range(60):
        new = told(rng, one)
        cell = str(new.plan[0]["args"]["cell_type"])
        seen.add(cell)
        article = "an" if cell[0] in "aeiou" else "a"
        assert new.instruction == f"{article} {cell} in it? box every {cell} there"
        region = new.history[0].calls[0]["args"]["target"]
        assert new.history[0].instruction == f"Segment the {region}"
        assert new.history[0].result == f"{region} 0.97"
    assert len(seen) > 10


def test_nothing_is_exchanged_in_other_languages_nor_what_is_part_of_another_name() -> None:
    rng = Random(0)  # noqa: S311 - chance, no secret
    spanish = "> cuenta los linfocitos\n$1 count lymphocyte"
    nested = "> tumor cells in the tumor\n$1 segment tumor\n$2 count tumor cell in $1"
    for text, name in ((spanish, "lymphocyte"), (nested, "tumor")):
        (one,) = read(text, "made")
        for _ in range(30):
            assert any(name in line for line in plan_lines(told(rng, one).plan, 1))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("> a\n$1 segment gland\n= done", "the last turn must be a plan alone"),
        ("$1 segment gland", "the last turn must be a plan alone"),
        ("> a\n$2 segment gland", "number 1"),
        ("> a\n$1 segment gland\n\n> b\n$1 outline gland", "thread 2"),
    ],
)
def test_what_is_no_thread_is_refused_with_its_place(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        list(read(text, "made"))


def test_only_the_share_that_was_asked_for_is_written() -> None:
    made = list(examples(seed=2, n=400, written=0.25))
    share = sum(example.tags[0] == "written" for example in made) / len(made)
    assert 0.18 < share < 0.32
    assert not any(e.tags[0] == "written" for e in examples(seed=2, n=50))
