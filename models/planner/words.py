"""The words that are known of each language: the ontology's of English, the lexicon's of six more.

The generator's lexicon and frames are the one source of them, for training and for use.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

from models.ontology import american, concepts, fold
from models.planner.shorthand import lexicon_rows, lexicon_table, short_words, specimens

LANGUAGES = ("es", "fr", "de", "it", "ca", "pt")
"""What is read besides English."""

_DATA = resources.files("models.planner") / "generate"  # not imported: it imports this
_PARTS = ("compound", "thread", "reply")
"""Folders with more frames of each language: of several requests at once, of earlier turns, of what
no tool serves or is beside the point."""
WORD = re.compile(r"[^\W\d_]+(?:·[^\W\d_]+)*")
_ENDINGS = {"de": re.compile(r"(?:en|ern|er|es|n|e|s)$")}
_ROMANCE = re.compile(r"(?:es|os|as|is|us|i|e|o|a|s)$")
_PLURALS = {
    "es": ((r"ces$", "z"),),
    "fr": (
        *((r"eaux$", "eau"), (r"aux$", "al"), (r"euses?$", "eux")),
        *((r"ives?$", "if"), (r"ignes?$", "in")),
    ),
    "it": ((r"(?<=[cg])h(?=[ei]$)", ""),),
    "ca": ((r"ions$", "io"),),
    "pt": ((r"ns$", "m"), (r"[oa]es$", "ao"), (r"(?<=[aeou])is$", "l")),
}
"""Plurals and feminines that differ from the singular by more than an ending."""
_MANY = ((r"(?<!s)$", "s"), (r"us$", "i"), (r"(um|on)$", "a"), (r"is$", "es"), (r"y$", "ies"))
"""English and Latin plurals."""
_BRITISH = (r"(?<=[a-z]{4})iz(?=[aei])", "is")
"""The British spelling that slips are compared with too: "hyalinisd"; "size" has but one."""
SHORT = 4
"""Words of fewer letters are kept whole, and are nouns only after an article."""


@dataclass(frozen=True)
class Lexicon:
    """What is known of one language.

    Attributes:
        nouns: stems of a noun phrase to its English name.
        short: nouns of fewer than `SHORT` letters, with their accents: "uña", which is no "una".
        modifiers: stem of an adjective that describes a noun to its English.
        adjectives: stem of an organ's adjective to the organ; for German what compounds begin with.
        words: stems of all words that people use with them, by which the language is told.
        exact: the same words in full; they tell neighbours apart ("quantos", "quants").
    """

    nouns: Mapping[Sequence[str], str]
    short: frozenset[str]
    modifiers: Mapping[str, str]
    adjectives: Mapping[str, str]
    words: frozenset[str]
    exact: frozenset[str]


def folded(word: str) -> str:
    """A word as words are compared: lower case, no accents, ligatures apart."""
    return fold(word.replace("·", "").replace("œ", "oe").replace("æ", "ae")).replace(" ", "")


def language_of(text: str) -> str:
    """The language that has most of the words of `text`; English where none has more."""
    words = [match[0] for match in WORD.finditer(text)]
    keys = list(map(folded, words))
    english = sum(not english_words().isdisjoint((key, american(key))) for key in keys)
    if english == len(words):
        return "en"
    known: dict[str, int] = {}
    exact: dict[str, int] = {}
    for code in LANGUAGES:
        lexicon = lexicon_of(code)
        known[code] = sum(stem_of(word, code) in lexicon.words for word in words)
        exact[code] = sum(key in lexicon.exact for key in keys)
    best = max(LANGUAGES, key=lambda code: known[code] + exact[code])
    return best if known[best] > english else "en"


@lru_cache(maxsize=65536)
def stem_of(word: str, code: str) -> str:
    """A word without the endings of number and gender, roughly."""
    key = folded(word)
    if code == "de":
        key = re.sub(r"([aou])e", r"\1", key)  # umlauts may be spelt so
    if len(key) <= SHORT:
        return key
    for plural, single in _PLURALS.get(code, ()):
        key = re.sub(plural, single, key)
    stem = _ENDINGS.get(code, _ROMANCE).sub("", key)
    return stem if len(stem) >= SHORT or code == "de" else key.removesuffix("s")


def stems_of(phrase: str, code: str) -> tuple[str, ...]:
    """The stems of the words of `phrase`, in their order."""
    return tuple(stem_of(match[0], code) for match in WORD.finditer(phrase))


def _bare(phrase: str) -> str:
    """A noun phrase of the lexicon without its article."""
    return re.split(r"(?<=^[lL])['’]|\s", phrase, maxsplit=1)[1]


@lru_cache(maxsize=len(LANGUAGES))
def lexicon_of(code: str) -> Lexicon:
    """What is known of one of `LANGUAGES`."""
    said = dict(reversed(list(_said(code))))  # what comes first counts
    adjectives = {row[code]: row["concept"] for row in lexicon_rows("adjectives.csv")}
    if code == "de":  # "Gastrektomiepräparat"
        adjectives |= {s.others[code]: s.organ for s in specimens() if code in s.others}
    key = folded if code == "de" else lambda adjective: stem_of(adjective, code)
    ordered = sorted(adjectives, key=len, reverse=True)
    modifiers = {row[code]: row["modifier"] for row in lexicon_rows("modifiers.csv") if row[code]}
    spoken = [
        match[0]
        for phrase in (*_frames(code), *said, *adjectives, *modifiers)
        for match in WORD.finditer(phrase)
    ]
    return Lexicon(
        nouns={stems_of(phrase, code): english for phrase, english in said.items()},
        short=frozenset(phrase.lower() for phrase in said if len(phrase) < SHORT),
        modifiers={stem_of(word, code): english for word, english in modifiers.items()},
        adjectives={key(adjective): adjectives[adjective] for adjective in ordered},
        words=frozenset(stem_of(word, code) for word in spoken),
        exact=frozenset(map(folded, spoken)),
    )


def _said(code: str) -> Iterator[tuple[str, str]]:
    """The noun phrases of a language with their English names, the likelier ones first."""
    files = ("translations.csv", "translations_more.csv", "places.csv", "organs.csv", "sites.csv")
    for name in files:
        for row in lexicon_rows(name):
            yield _bare(row[code]), row.get("concept") or row["site"]
    for row in lexicon_rows("synonyms.csv"):
        if row["language"] == code:
            yield row["said"], row["concept"]
    for specimen in specimens():
        if code in specimen.others:
            yield specimen.others[code], specimen.glossed


@lru_cache(maxsize=1 + len(LANGUAGES))
def sayings(*codes: str) -> re.Pattern[str]:
    """What matches a saying of these languages, in which no noun is meant: "to the naked eye".

    The longest first; accents tell them from other words ("côtés").
    """
    listed = {phrase for code in codes for phrase in lexicon_table("sayings.toml")[code]}
    phrases = (r"[\W_]+".join(WORD.findall(said)) for said in sorted(listed))
    longest_first = sorted(phrases, key=len, reverse=True)
    return re.compile(rf"\b(?:{'|'.join(longest_first)})\b", re.IGNORECASE)


@lru_cache(maxsize=1)
def english_words() -> frozenset[str]:
    """English words that the planner has been taught, `folded`, with their plurals."""
    names = [name for concept in concepts() for name in (concept.name, *concept.synonyms)]
    said = (*_frames("en"), *names, *_adjectives())
    words = {folded(word) for text in said for word in WORD.findall(text)}
    words |= {re.sub(*_BRITISH, word) for word in words}
    many = {re.sub(*ending, word) for word in words for ending in _MANY}
    return frozenset(words | many | short_words())


def _adjectives() -> Iterator[str]:
    """What English says of a structure: "hyalinized", "back-to-back"."""
    data = lexicon_table("english.toml")
    yield from data["predicate"]
    yield from (said for words in data["modifiers"].values() for said in words)
    yield from data["coined"]["looks"]


def frames_of(code: str) -> list[dict[str, Any]]:
    """The tables of the generator's frames of a language, English too: the main file's come first.

    Raises:
        ValueError: a file is not TOML.
    """
    folder = _DATA / "frames"
    files = [part / f"{code}.toml" for part in (folder, *(folder / name for name in _PARTS))]
    return [tomllib.loads(file.read_text("utf-8")) for file in files]


def _frames(code: str) -> list[str]:
    """The frames of a language, without their slots: the words that its speakers use."""
    return [re.sub(r"\{[^}]*\}", " ", text) for text in _texts(frames_of(code))]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    else:
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)
