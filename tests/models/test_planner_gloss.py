"""Nouns of other languages in English, and organs in words."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.ontology import find
from models.planner import words as module
from models.planner.generate import examples
from models.planner.gloss import gloss
from models.planner.organs import borne_out, organs_in
from models.planner.serialise import Turn, thread_text
from models.planner.shorthand import lexicon_rows


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("Cuenta los linfocitos dentro del tumor", "Cuenta los lymphocyte dentro del tumor"),
        ("biopsia epatica, conta gli epatociti", "biopsia liver, conta gli hepatocyte"),
        ("Leberbiopsie: bitte Kupffer-Zellen zählen", "liver biopsie: bitte kupffer cell zählen"),
        ("schliesse die Fetttroepfchen aus", "schliesse die fat droplet aus"),
        ("c'est bien de la rate, non ?", "c'est bien de la spleen, non ?"),
        (
            "Compta els nuclis de les cèl·lules epitelials",
            "Compta els nucleus de les epithelial cell",
        ),
        ("no rim, conta os glomérulos", "no kidney, conta os glomerulus"),
        ("biopsie de l’œil", "biopsie de l’eye"),
        ("Es una parótida: los acinos serosos", "Es una parotid gland: los serous acinus"),
        ("Encadre chaque canal galactophore", "Encadre chaque lactiferous duct"),
        ("Fettvakuolen markieren", "fat vacuole markieren"),
        ("cuenta los queratinocitos atípicos", "cuenta los atypical keratinocyte"),
        ("die Nervenfaszikel bitte", "die nerve fascicle bitte"),
        ("zähle die großen Kerne", "zähle die large nucleus"),
        ("una muestra: ¿hay nidos?", "una muestra: ¿hay tumor nest?"),
        ("compte les mitoses au sein du stroma", "compte les mitosis au sein du stroma"),
        ("a occhio nudo, poi il cuore", "a occhio nudo, poi il heart"),
        ("no tengo estómago: el estómago", "no tengo estómago: el stomach"),
        ("quanto costa, e la costa", "quanto costa, e la rib"),
        ("zähle die Melanozyten im Auge", "zähle die melanocyte im eye"),
        ("liegt mir auf der Zunge: auf der Zunge", "liegt mir auf der Zunge: auf der tongue"),
        (
            "tumeur au sein gauche, ou au sein d'un nerf",
            "tumor au breast gauche, ou au sein d'un nerve",
        ),
        ("biòpsia d'estómac per comptar els nuclis", "biòpsia d'stomach per comptar els nucleus"),
    ],
)
def test_nouns_are_put_into_english(said: str, read: str) -> None:
    assert gloss(said) == read


@pytest.mark.parametrize(
    "said",
    ["", "Count the mitotic rate per HPF", "os", "wie viele davon?", "数一下淋巴细胞", "12 %"],
)
def test_what_has_none_stays(said: str) -> None:
    assert gloss(said) == said


@given(st.text(max_size=60))
@settings(deadline=None)
def test_any_text_can_be_read(said: str) -> None:
    assert isinstance(gloss(said), str)
    organs_in(said)


def test_the_language_is_told_apart() -> None:
    made = [e for e in examples(5, 400) if len(e.instruction.split()) > 3]
    wrong = [e for e in made if module.language_of(e.instruction) != e.tags[1]]
    assert len(wrong) <= 0.03 * len(made)


def test_neighbours_are_told_apart() -> None:
    assert module.language_of("Quantos macrófagos há fora dos vasos?") == "pt"
    assert module.language_of("quina part del tumor és necròtica?") == "ca"


def test_translations_agree_in_number() -> None:
    plural = {"es": ("los", "las"), "fr": ("les",), "it": ("i", "gli", "le")}
    plural |= {"ca": ("els", "les"), "pt": ("os", "as")}
    for name in ("translations.csv", "translations_more.csv"):
        for row in lexicon_rows(name):
            numbers = {row[code].split(" ")[0] in articles for code, articles in plural.items()}
            assert len(numbers) == 1, row


def test_every_synonym_means_something_that_the_ontology_has() -> None:
    rows = lexicon_rows("synonyms.csv")
    assert [row for row in rows if find(row["concept"]) is None] == []
    assert {row["language"] for row in rows} <= set(module.LANGUAGES)


def test_threads_are_glossed_for_the_model_and_verbatim_for_others() -> None:
    history = [Turn("zähle die Lymphozyten im Stroma", [], "")]
    assert "lymphocyte im stroma" in thread_text(history, "und die Plasmazellen im Tumor?")
    assert "die Lymphozyten" in thread_text(history, "und?", verbatim=True)


@pytest.mark.parametrize(
    ("said", "organs"),
    [
        ("this here is a vas deferens, isn't it?", ("vas deferens",)),
        ("Ileal biopsy, ?Crohn. Neutrophils in the crypts?", ("ileum",)),
        ("cerebellar cortex: count the Purkinje cells", ("brain",)),
        ("hepatocytes, in this kidney?", ("liver", "kidney")),
        ("Bronchus: outline the glands", ("lung", "bronchus")),
        ("count the lymphocytes in the tumor", ()),
        ("To the naked eye they're gone; the heart of the matter is the skin", ("skin",)),
        ("outline the sweat ducts in this thick skin", ("skin",)),
        ("a biopsy of the stomach for gastritis, no stomach for more", ("stomach",)),
        ("this section of an eye on H&E; I've kept an eye out for it", ("eye",)),
        ("Anant al cor de la qüestió: compta els lymphocyte", ()),
    ],
)
def test_organs_are_found_in_words(said: str, organs: tuple[str, ...]) -> None:
    assert organs_in(said) == organs


def test_an_organ_is_borne_out_by_its_words_or_by_another_name() -> None:
    assert borne_out("sural nerve", "sural nerve biopsy")
    assert borne_out("liver", "hepatic biopsy")
    assert not borne_out("testis", "is it vas deferens?")
