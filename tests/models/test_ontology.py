"""The ontology: normalisation by the contract, lookups that never guess, consistent data."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import ontology
from models.ontology import ancestors, concepts, find, normalise, organ_agrees

REGIONS_IN_CODE = (
    "tissue",
    "background",
    "epithelium",
    "epidermis",
    "dermis",
    "stroma",
    "tumor",
    "necrosis",
    "gland",
    "lumen",
    "adipose tissue",
    "keratin",
    "metastasis",
    "nuclei-dense region",
    "eosinophilic region",
    "white space",
    "mucus",
    "smooth muscle",
    "fat droplet",
)
CELLS_IN_CODE = (
    "nucleus",
    "inflammatory cell",
    "lymphocyte",
    "epithelial cell",
    "spindle cell",
    "neoplastic cell",
    "mitotic figure",
    "apoptotic body",
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Tumour", "tumor"),
        ("OEDEMA", "edema"),
        ("haemorrhage", "hemorrhage"),
        ("haematoma", "hematoma"),
        ("anaemic", "anemic"),
        ("leukaemia", "leukemia"),
        ("leucocytes", "leukocyte"),
        ("oesophageal", "esophageal"),
        ("gastro-oesophageal", "gastro esophageal"),
        ("collagen fibres", "collagen fiber"),
        ("germinal centres", "germinal center"),
        ("coloured", "colored"),
        ("nuclei", "nucleus"),
        ("mitoses", "mitosis"),
        ("foci", "focus"),
        ("lumina", "lumen"),
        ("glomeruli", "glomerulus"),
        ("villi", "villus"),
        ("alveoli", "alveolus"),
        ("bronchi", "bronchus"),
        ("follicles", "follicle"),
        ("septa", "septum"),
        ("metastases", "metastasis"),
        ("arteries", "artery"),
        ("masses", "mass"),
        ("biopsies", "biopsy"),
        ("TILs", "til"),
        ("GCs", "gc"),
        ("mitosis", "mitosis"),
        ("pancreas", "pancreas"),
        ("Café", "cafe"),
        ("Bowman’s capsule", "bowman s capsule"),
        ("high–grade", "high grade"),
        ("ﬁbrosis", "fibrosis"),
    ],
)
def test_normalise_words(text: str, expected: str) -> None:
    assert normalise(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the areas of necrosis", "necrosis"),
        ("a region of the tumour", "tumor"),
        ("connective tissue", "connective"),
        ("the stromal compartment", "stromal"),
        ("mantle zones", "mantle"),
        ("tissue", "tissue"),
        ("the tissue", "tissue"),
        ("tissue areas", "tissue"),
        ("the area", "area"),
        ("of the", "of"),
        ("", ""),
        ("  \t ", ""),
    ],
)
def test_normalise_drops_words_only_where_something_is_left(text: str, expected: str) -> None:
    assert normalise(text) == expected


@settings(max_examples=500, deadline=None)
@given(st.text() | st.text("aceimnostuxyz' -_´ḪİſﬁÆ"))
def test_normalise_is_idempotent(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert bool(once) == bool(ontology.fold(text))


def test_size_of_the_ontology() -> None:
    assert len(concepts("organ")) >= 60
    assert len(concepts("region")) + len(concepts("cell")) >= 300
    assert len(concepts()) == sum(len(concepts(kind)) for kind in ("organ", "region", "cell"))


@pytest.mark.parametrize("name", REGIONS_IN_CODE)
def test_regions_that_code_names(name: str) -> None:
    concept = find(name)
    assert concept is not None
    assert (concept.name, concept.kind) == (name, "region")


@pytest.mark.parametrize("name", CELLS_IN_CODE)
def test_cells_that_code_names(name: str) -> None:
    concept = find(name)
    assert concept is not None
    assert (concept.name, concept.kind) == (name, "cell")


def test_names_are_lower_case_singular_american() -> None:
    latin_or_proper = {"meninges", "muscularis mucosae"}
    for concept in concepts():
        assert concept.name == concept.name.lower().strip()
        if concept.name in latin_or_proper:
            continue
        for word in ontology.fold(concept.name).replace("nuclei", "nucleus").split():
            assert ontology.singular(ontology.american(word)) == word, concept.name


def test_every_phrase_finds_its_own_concept() -> None:
    for concept in concepts():
        for phrase in (concept.name, *concept.synonyms):
            assert find(phrase) is concept
            assert find(phrase.upper(), concept.kind) is concept


@pytest.mark.parametrize(
    ("phrase", "name"),
    [
        ("cells", "nucleus"),
        ("TILs", "tumor infiltrating lymphocyte"),
        ("DCIS", "ductal carcinoma in situ"),
        ("GCs", "germinal center"),
        ("hepatic", "liver"),
        ("renal", "kidney"),
        ("necrotic areas", "necrosis"),
        ("fat", "adipose tissue"),
        ("mitoses", "mitotic figure"),
        ("islets of Langerhans", "islet"),
        ("tumour-infiltrating lymphocytes", "tumor infiltrating lymphocyte"),
        ("red blood cells", "erythrocyte"),
    ],
)
def test_find_knows_synonyms(phrase: str, name: str) -> None:
    concept = find(phrase)
    assert concept is not None
    assert concept.name == name


@pytest.mark.parametrize(
    "phrase", ["", "lymphocite", "lymphocytes and", "tumor budding score", "💥"]
)
def test_find_never_guesses(phrase: str) -> None:
    assert find(phrase) is None


def test_find_keeps_to_the_kind() -> None:
    assert find("lymphocyte", "region") is None
    assert find("liver", "cell") is None


@pytest.mark.parametrize(
    ("phrase", "organ"),
    [
        ("hepatocytes", "liver"),
        ("glomeruli", "kidney"),
        ("Purkinje cells", "brain"),
        ("alveoli", "lung"),
        ("epidermis", "skin"),
        ("seminiferous tubules", "testis"),
        ("colonic", "colon"),
        ("cerebellum", "brain"),
        ("duodenum", "duodenum"),
    ],
)
def test_what_a_structure_presumes(phrase: str, organ: str) -> None:
    concept = find(phrase)
    assert concept is not None
    assert ontology.expected_organ(concept) == organ


@pytest.mark.parametrize(
    "phrase",
    [
        *("nuclei", "lymphocytes", "plasma cells", "tumour", "stroma", "necrosis", "mitoses"),
        *("glands", "epithelium", "vessels", "fat", "cartilage", "muscle", "germinal centres"),
        *("goblet cells", "ganglion cells", "keratin", "crypts", "villi"),
    ],
)
def test_what_the_contract_lists_as_presuming_nothing(phrase: str) -> None:
    concept = find(phrase)
    assert concept is not None
    assert ontology.expected_organ(concept) is None


def test_ancestors() -> None:
    assert ancestors("lymphocyte") == ("inflammatory cell", "nucleus")
    assert ancestors("cerebellum") == ("brain",)
    assert ancestors("nucleus") == ()
    with pytest.raises(KeyError):
        ancestors("lymphocytes")


def test_ancestors_hold_no_cycle_and_every_cell_is_a_nucleus() -> None:
    for concept in concepts():
        assert concept.name not in ancestors(concept.name)
        if concept.kind == "cell" and concept.name != "nucleus":
            assert "nucleus" in ancestors(concept.name)


@pytest.mark.parametrize(
    ("found", "expected", "agrees"),
    [
        ("liver", "hepatic", True),
        ("cerebellum", "brain", True),
        ("brain", "cerebellar", True),
        ("colon", "large intestine", True),
        ("rectum", "large bowel", True),
        ("colon", "colorectal", True),
        ("duodenum", "small intestine", True),
        ("kidney", "liver", False),
        ("colon", "small intestine", False),
        ("lung", "flux capacitor", None),
        ("", "lung", None),
    ],
)
def test_organ_agrees(found: str, expected: str, agrees: bool | None) -> None:
    assert organ_agrees(found, expected) is agrees
    assert organ_agrees(expected, found) is agrees


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        ('"a" = { colour = "red" }', "takes only"),
        ('"a" = 3', "takes only"),
        ('"a" = { synonyms = ["b"] }\n"b" = {}', "already belongs"),
        ('"a" = { parents = ["nowhere"] }', "unknown parent"),
        ('"a" = { presumes = "moon" }', "no known organ"),
        ('"a" = {', "regions.toml"),
    ],
)
def test_a_broken_data_file_is_refused_with_its_place(regions: str, message: str) -> None:
    with pytest.raises(ontology.OntologyError, match=message):
        ontology.build({"region": regions})
