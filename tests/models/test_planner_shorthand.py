"""English short forms spelt out, and the organs of specimens."""

from __future__ import annotations

import csv

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.ontology import find
from models.planner import shorthand
from models.planner.generate.lexicons import lexicon, specimens_of
from models.planner.gloss import gloss
from models.planner.organs import borne_out, organs_in
from models.planner.shorthand import specimens, spelt_out


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("MNGCs, bb each", "multinucleated giant cell, bounding box each"),
        ("LN: GCs please", "lymph node: germinal center please"),
        ("renal bx, seg gloms", "renal biopsy, segment glomerulus"),
        ("WHERE R THE SIGNET RINGS", "WHERE R THE signet ring cell"),
        ("the parietals cells, and parietals", "the parietal cells, and parietal cell"),
        ("met tumour deposits", "metastatic tumor deposit"),
        ("TURP chips. Box the lymphs.", "prostate TURP chips. Box the lymphocyte."),
        ("right haemicolectomy, mets?", "right colon haemicolectomy, metastasis?"),
        ("cone bx: mets", "cervix cone biopsy: metastasis"),
        ("this breast mastectomy", "this breast mastectomy"),
        ("ovarian cystectomy", "ovarian cystectomy"),
    ],
)
def test_short_forms_are_spelt_out(said: str, read: str) -> None:
    assert gloss(said) == read


@pytest.mark.parametrize(
    "said",
    [
        "",
        "TILs, IELs and sTILs in the DCIS, per HPF",
        "the gc content",
        "signet ring cells",
        "GCSE",
    ],
)
def test_the_rest_stays(said: str) -> None:
    assert spelt_out(said) == said


@given(st.text(max_size=60))
@settings(deadline=None)
def test_any_text_can_be_read(said: str) -> None:
    assert isinstance(spelt_out(said), str)


def test_what_is_spelt_out_is_not_spelt_out_again() -> None:
    short = shorthand._short()
    for meant in (*short.any_case.values(), *short.capitals.values()):
        assert spelt_out(meant) == meant


def test_every_short_form_means_something_that_the_ontology_has() -> None:
    meant = {target for mention, _ in lexicon("en").entities if (target := mention.target)}
    assert {"red blood cell", "germinal center", "metastatic deposit"} <= meant


@pytest.mark.parametrize(
    ("said", "organ"),
    [
        ("gastrectomía: cuenta las mitosis", "stomach"),
        ("pièce de conisation, contour de l'épithélium", "cervix"),
        ("Gastrektomiepräparat: Siegelringzellen zählen", "stomach"),
        ("emicolectomia destra, conta i linfociti", "colon"),
        ("linfonodo axilar, conta os linfócitos", "lymph node"),
        ("mastectomia: compta els nuclis de l'estroma", "breast"),
    ],
)
def test_specimens_are_read_in_other_languages(said: str, organ: str) -> None:
    assert organs_in(gloss(said)) == (organ,)


def test_specimens_come_from_organs_that_are_known() -> None:
    file = shorthand._LEXICON / "sites.csv"
    sites = {row["site"] for row in csv.DictReader(file.read_text("utf-8").splitlines())}
    for specimen in specimens():
        assert find(specimen.organ, "organ") or specimen.organ in sites, specimen
        assert specimen.organ in organs_in(specimen.glossed), specimen
    assert "TURP chips" in specimens_of("en")["prostate"]


def test_a_kind_of_an_organ_is_not_what_is_expected() -> None:
    assert not borne_out("axillary lymph node", "axillary lymph node: GCs?")
    assert borne_out("lymph node", "axillary lymph node: GCs?")
    assert borne_out("prostate", "TURP chips")
