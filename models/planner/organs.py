"""Which organs an instruction speaks of, by the ontology and the lexicon's sites and specimens.

The embedded model copies what it has seen often and replaces what it has not: "vas deferens"
becomes "testis". A tissue check has to expect an organ that the words bear out, so the words are
looked at.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from models.ontology import american, concepts, expected_organ, find, fold, normalise, singular
from models.planner.shorthand import lexicon_rows, specimens
from models.planner.words import LANGUAGES, sayings

_WORD = re.compile(r"[^\W_]+")
_LONGEST = 4


def organs_in(text: str) -> tuple[str, ...]:
    """The organs that `text` names or that a structure in it presumes, in order, each once.

    Args:
        text: in English, or with its nouns in English (`models.planner.gloss`).

    Returns:
        Organs as `classify_tissue` expects them: "brain" for "cerebellar".
    """
    words, found = _words(_plain(text)), list[str]()
    at = 0
    while at < len(words):
        for length in range(min(_LONGEST, len(words) - at), 0, -1):
            if organs := _organs().get(words[at : at + length]):
                found += organs
                break
        at += length
    return tuple(dict.fromkeys(found))


def borne_out(organ: str, text: str) -> bool:
    """Whether `text` speaks of `organ`: has its words, or names it in another way.

    A part or a kind of an organ ("axillary lymph node") is not borne out: the organ is expected.
    """
    known = [normalise(name) for name in organs_in(organ)]
    if known and normalise(organ) not in known:
        return False
    return set(_words(organ)) <= set(_words(_plain(text))) or normalise(organ) in map(
        normalise, organs_in(text)
    )


def _plain(text: str) -> str:
    """`text` without sayings, in which no organ is meant: "to the naked eye"."""
    return sayings("en", *LANGUAGES).sub(" ", text)


def _words(text: str) -> tuple[str, ...]:
    return tuple(singular(american(word)) for word in _WORD.findall(fold(text)))


@lru_cache(maxsize=1)
def _organs() -> Mapping[Sequence[str], Sequence[str]]:
    """What each phrase can mean: "bronchus" presumes the lung, and is a site of its own."""
    organs: dict[Sequence[str], list[str]] = {}
    for concept in concepts():
        if organ := expected_organ(concept):
            for name in (concept.name, *concept.synonyms):
                organs.setdefault(_words(name), [organ])
    for row in lexicon_rows("sites.csv"):
        organs.setdefault(_words(row["site"]), []).append(row["site"])
        if find(row["adjective"]) is None and row["adjective"] != row["site"]:
            organs.setdefault(_words(row["adjective"]), []).append(row["site"])
    for specimen in specimens():
        organs.setdefault(_words(specimen.said), [specimen.organ])
    return organs
