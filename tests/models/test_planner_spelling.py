"""Slips of the pen are mended, and nothing else is touched."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.planner.generate.noise import typos
from models.planner.gloss import gloss
from models.planner.spelling import Speller, mended
from models.planner.words import folded

WORDS = ("lymphocyte", "tumor", "tumors", "stroma", "count", "where", "eosinophils", "núcleo")
CASES = Path(__file__).parents[2] / "eval" / "cases" / "development.jsonl"


@pytest.fixture(scope="module")
def speller() -> Speller:
    return Speller("en", [folded(word) for word in WORDS])


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("lymhpocyte", "lymphocyte"),  # changed places
        ("Tumr", "tumor"),  # left out
        ("stromma", "stroma"),  # too many
        ("cpunt", "count"),  # another
        ("eosinohpilss", "eosinophils"),  # two slips in a long word
    ],
)
def test_a_slip_is_mended(speller: Speller, written: str, meant: str) -> None:
    assert speller.mend(written) == meant


@pytest.mark.parametrize(
    "word",
    [
        *("tumour", "Tumors", "counted", "counting", "NUCLEO"),  # known by another form
        *("aroma", "mount", "humor", "strobe"),  # other words
        *("TILs", "CD3", "HE", "cnt", "str0ma", "CONUT"),  # short forms
        "toumr",  # "tumor" after two slips: too few letters to tell
        "東京", "",
    ],
)  # fmt: skip
def test_other_words_are_left_alone(speller: Speller, word: str) -> None:
    assert speller.mend(word) == word


def test_the_nearest_is_meant_and_of_these_the_one_that_is_most_alike() -> None:
    speller = Speller("en", ["never", "nerves", "stroma", "aroma"])
    assert speller.mend("nrves") == "nerves"
    assert speller.mend("sroma") == "stroma"


@pytest.mark.parametrize(
    "text",
    [
        "eosinophilia, basophilia, hyperchromasia and anaplasia near a canalicular vessel",
        "the organ of Corti and, says Dr Stroman, Müller cells",
        "tumour oedema with haemosiderin and leucocytes in foetal membranes",
        "corpúsculos de Müller",
        "corpuscoli di Pacini",
        "timus i ossos",
        "count H&E, IHC, PAS, hpf, TILs, DCIS, CD138",
        "la zona glomerulosa",
    ],
)
def test_words_of_the_field_and_names_are_left_alone(text: str) -> None:
    assert mended(text) == text


def test_a_text_is_mended_however_its_accents_are_written() -> None:
    text = "núcleos atípicos y células"
    assert gloss(unicodedata.normalize("NFD", text)) == gloss(text) == "atypical nucleus y cell"


def test_what_is_too_long_to_be_read_is_not_mended() -> None:
    assert mended("tumro " * 10_000) == "tumro " * 10_000
    assert mended("x" * 9_000) == "x" * 9_000


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("cuont the lymhpocytes in the tumro", "count the lymphocytes in the tumor"),
        ("sgement de tumour", "segment de tumour"),
        ("contar los linfoctios", "contar los lymphocyte"),
        ("Lymphozyten im Tumro zählen", "lymphocyte im tumor zählen"),
        ("compter les lymphocites", "compter les lymphocyte"),
    ],
)
def test_instructions_are_mended_before_anything_is_looked_up(written: str, read: str) -> None:
    assert gloss(written) == read


@given(st.text(max_size=12) | st.from_regex(r"[a-z]{4,9}", fullmatch=True))
def test_what_is_mended_is_a_word_of_its_own(word: str) -> None:
    speller = Speller("en", [folded(word) for word in WORDS])
    mended = speller.mend(word)
    assert mended == word or mended in {folded(own) for own in WORDS}
    assert speller.mend(mended) == mended


def test_most_slips_in_instructions_are_mended() -> None:
    rng, right, slipped = Random(1), 0, 0  # noqa: S311 - no secret
    for line in CASES.read_text(encoding="utf-8").splitlines():
        case = json.loads(line)
        if "language" not in case["tags"]:
            meant = case["instruction"]
            slipped += 1
            right += gloss(typos(rng, meant)).lower() == gloss(meant).lower()
    assert right / slipped > 0.8


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("outline the hyalinisd stroma", "outline the hyalinised stroma"),
        ("mark the calcifed and the myxiod bits", "mark the calcified and the myxoid bits"),
    ],
)
def test_adjectives_are_mended_in_either_spelling(written: str, read: str) -> None:
    assert gloss(written) == read


def test_a_verb_keeps_its_pronoun() -> None:
    assert gloss("Misurami la necrosi") == "Misurami la necrosis"
