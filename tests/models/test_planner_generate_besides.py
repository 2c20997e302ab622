"""What is written beside a request, and what no tool serves, in all languages."""

import re
from random import Random

import pytest

from models.planner.generate.examples import Example, examples
from models.planner.generate.grammar import LANGUAGES, language
from models.planner.generate.noise import texted
from models.planner.gloss import gloss
from models.planner.organs import organs_in
from models.planner.replies import REPLIES

MADE = list(examples(seed=23, n=3000))
PLAIN = {
    "en": "count the lymphocytes in the tumor",
    "es": "cuenta los linfocitos del tumor",
    "fr": "compte les lymphocytes de la tumeur",
    "de": "zähle die Lymphozyten im Tumor",
    "it": "conta i linfociti nel tumore",
    "ca": "compta els limfòcits del tumor",
    "pt": "conta os linfócitos do tumor",
}


def _arguments(example: Example) -> list[str]:
    return [str(value) for call in example.plan for value in call["args"].values() if value]


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_reason_is_asked_for_in_every_language(code: str) -> None:
    frames = language(code).frames
    asked = [(kind, reason) for kind in REPLIES for reason in REPLIES[kind] if reason != "result"]
    assert all(len(frames[f"{kind}.{reason}"]) >= 10 for kind, reason in asked)
    for section in ("filler.clinical", "filler.aside", "double.count", "negate.two"):
        assert frames[section]


@pytest.mark.parametrize("code", LANGUAGES)
def test_an_idiom_names_nothing(code: str) -> None:
    for number in range(len(language(code).frames["filler.aside"]) * 10):
        idiom, _ = language(code).say(Random(number), "filler.aside", {"do": ""})  # noqa: S311
        said = f"{idiom} {PLAIN[code]}"
        assert gloss(said) == f"{idiom} {gloss(PLAIN[code])}"
        assert organs_in(gloss(said)) == ()


def test_values_of_a_history_are_never_asked_for() -> None:
    histories = [e for e in MADE if "clinical" in e.tags and e.plan[0]["tool"] != "reply"]
    assert len(histories) > 40
    for example in histories:
        assert not re.search(r"\b\d{2,}\b", " ".join(_arguments(example)).replace("$", "n"))


def test_none_that_is_not_in_a_region_is_what_is_in_it() -> None:
    doubled = [e for e in MADE if ":double." in e.frame]
    assert len(doubled) > 3
    for example in doubled:
        assert any(call["args"].get("within") for call in example.plan)
        assert not any(call["args"].get("outside") for call in example.plan)


def test_the_other_one_is_unclear_where_there_is_but_one() -> None:
    asked = [e for e in MADE if e.frame.partition(":")[2].startswith("clarify.other")]
    assert asked
    assert all(e.history and e.plan[0]["args"]["kind"] == "clarify" for e in asked)


def test_small_words_are_typed_short() -> None:
    written = "could you count cells without nuclei"
    said = {texted(Random(seed), written) for seed in range(40)}  # noqa: S311 - no secret
    assert "cd u count cells w/o nuclei" in said


def test_catalan_contracts_its_articles() -> None:
    frames = [str(frame) for told in language("ca").frames.values() for frame in told]
    assert not [frame for frame in frames if re.search(r"\b(a|de|per) {\w\.the}", frame)]
