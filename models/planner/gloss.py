"""Nouns of other languages and short forms in English, before the model reads an instruction.

The embedded model was pretrained on English: it takes in the verbs and the word order of six more
languages from few examples, but not hundreds of nouns. Those are in a lexicon already, that of the
generator, so they are looked up: "Kupffer-Zellen in der Leber zählen" is read as "kupffer cell in
der liver zählen". Of English, only the short forms are spelt out (`models.planner.shorthand`).
Training and decoding share this, as part of the one prompt form. What the lexicon doesn't have is
left as it is.
"""

from __future__ import annotations

import csv
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

from models.ontology import concepts, fold
from models.planner.shorthand import short_words, specimens, spelt_out

LANGUAGES = ("es", "fr", "de", "it", "ca", "pt")
"""What is read besides English."""

_DATA = resources.files("models.planner") / "generate"  # not imported: it imports this
_WORD = re.compile(r"[^\W\d_]+(?:·[^\W\d_]+)*")
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
_NO_NOUNS = {
    "fr": frozenset({"au sein", "au cœur", "au coeur", "côté", "côtés"}),
    "de": frozenset({"leben"}),
}
"""What reads like an organ and is none: "au sein de la tumeur"."""
_SHORT = 4
"""Words of fewer letters are kept whole, and are nouns only after an article."""
_LONGEST_PART = 24
"""Letters of the first part of a German compound."""
_LONGEST = 5
"""Words of the longest noun phrase that is looked up."""
_MOST = 3
"""Adjectives that are looked for on each side of a noun."""
_SPECIMEN = re.compile(
    r"bi[oò]ps|muestr|amostr|mostr|cort|secci|se[cç]|pie[zc]|tej|teix|teci|tessut|tissu|frag|framm"
    r"|[ée]chant|coup|pi[èe]c|pr[ée]l[eè]v|campion|sezion|prelev|punci|ponct|agoaspir|tall"
)
_GERMAN_SPECIMEN = re.compile(
    r"(?:en|n|s)?(?:biops\w*|pe|stanz\w*|gewebe\w*|schnitt\w*|pr[äa]e?parat\w*|resekt\w*|prob\w*)$"
)


@dataclass(frozen=True)
class _Lexicon:
    """What is known of one language.

    Attributes:
        nouns: stems of a noun phrase to its English name.
        short: nouns of fewer than `_SHORT` letters, with their accents: "uña", which is no "una".
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


def gloss(text: str) -> str:
    """`text` with its nouns in English, where it is in one of `LANGUAGES`, and no short forms.

    Args:
        text: an instruction, any string; the work grows linearly with its length.
    """
    code = language_of(text)
    if code == "en":
        return spelt_out(text)
    out: list[str] = []
    end = 0
    for start, stop, english in _found(text, code):
        out += (text[end:start], english)
        end = stop
    return "".join((*out, text[end:]))


def language_of(text: str) -> str:
    """The language that has most of the words of `text`; English where none has more."""
    words = [match[0] for match in _WORD.finditer(text)]
    if all(_key(word) in _english() for word in words):
        return "en"
    known = {code: sum(_stem(w, code) in _lexicon(code).words for w in words) for code in LANGUAGES}
    exact = {code: sum(_key(w) in _lexicon(code).exact for w in words) for code in LANGUAGES}
    best = max(LANGUAGES, key=lambda code: known[code] + exact[code])
    english = sum(_key(word) in _english() for word in words)
    return best if known[best] > english else "en"


def _found(text: str, code: str) -> Iterator[tuple[int, int, str]]:
    """Start, end and English of what the lexicon of `code` has, longest phrases first."""
    words = list(_WORD.finditer(text))
    stems = [_stem(word[0], code) for word in words]
    at = 0
    while at < len(words):
        length, english = 0, ""
        if not _is_no_noun(words, at, code):
            length, english = (
                _described(words, stems, at, code) or _adjective(words, stems, at, code) or (0, "")
            )
        if length:
            yield words[at].start(), words[at + length - 1].end(), english
        at += length or 1


def _described(
    words: Sequence[re.Match[str]], stems: Sequence[str], at: int, code: str
) -> tuple[int, str] | None:
    """A noun, with adjectives that stand beside it put before it: "núcleos atípicos"."""
    modifiers = _lexicon(code).modifiers
    noun, found = at, _noun(words, stems, at, code)
    while (
        found is None and noun < len(words) - 1 and noun < at + _MOST and stems[noun] in modifiers
    ):
        noun += 1
        found = _noun(words, stems, noun, code)
    if found is None:
        return None
    end = noun + found[0]
    after = end
    while code != "de" and after < len(words) and after < end + _MOST and stems[after] in modifiers:
        after += 1
    around = (*reversed(stems[end:after]), *stems[at:noun])
    return after - at, " ".join((*(modifiers[stem] for stem in around), found[1]))


def _is_no_noun(words: Sequence[re.Match[str]], at: int, code: str) -> bool:
    before, word = words[at - 1][0].lower() if at else "", words[at][0].lower()
    return not _NO_NOUNS.get(code, frozenset()).isdisjoint({word, f"{before} {word}"})


def _noun(
    words: Sequence[re.Match[str]], stems: Sequence[str], at: int, code: str
) -> tuple[int, str] | None:
    nouns, short = _lexicon(code).nouns, _lexicon(code).short
    for length in range(min(_LONGEST, len(stems) - at), 0, -1):
        english = nouns.get(tuple(stems[at : at + length]))
        bare = length == 1 and len(words[at][0]) < _SHORT
        article = at > 0 and len(stems[at - 1]) < _SHORT and words[at][0].lower() in short
        if english and (article or not bare):
            return length, english
    if code == "de" and (english := _compound(_key(words[at][0]))):
        return 1, english
    return None


@lru_cache(maxsize=4096)
def _compound(key: str) -> str | None:
    """A German compound of two nouns: "Nervenfaszikel" is "nerve fascicle"."""
    nouns = _lexicon("de").nouns
    for at in range(_SHORT, min(len(key) - _SHORT, _LONGEST_PART) + 1):
        first, second = (nouns.get((_stem(part, "de"),)) for part in (key[:at], key[at:]))
        if first and second:
            return f"{first} {second}"
    return None


def _adjective(
    words: Sequence[re.Match[str]], stems: Sequence[str], at: int, code: str
) -> tuple[int, str] | None:
    """An organ's adjective beside a specimen: "biopsia hepática", "Leberbiopsie"."""
    adjectives = _lexicon(code).adjectives
    if code == "de":
        key = _key(words[at][0])
        for begin, organ in adjectives.items():
            rest = key.removeprefix(begin)
            if rest != key and _GERMAN_SPECIMEN.match(rest):
                return 1, f"{organ} {rest}"
        return None
    beside = any(_SPECIMEN.match(_key(word[0])) for word in words[max(0, at - 2) : at])
    return (1, adjectives[stems[at]]) if beside and stems[at] in adjectives else None


def _key(word: str) -> str:
    """A word as words are compared: lower case, no accents, ligatures apart."""
    return fold(word.replace("·", "").replace("œ", "oe").replace("æ", "ae")).replace(" ", "")


@lru_cache(maxsize=65536)
def _stem(word: str, code: str) -> str:
    """A word without the endings of number and gender, roughly."""
    key = _key(word)
    if code == "de":
        key = re.sub(r"([aou])e", r"\1", key)  # umlauts may be spelt so
    if len(key) <= _SHORT:
        return key
    for plural, single in _PLURALS.get(code, ()):
        key = re.sub(plural, single, key)
    stem = _ENDINGS.get(code, _ROMANCE).sub("", key)
    return stem if len(stem) >= _SHORT or code == "de" else key.removesuffix("s")


def _stems(phrase: str, code: str) -> tuple[str, ...]:
    return tuple(_stem(match[0], code) for match in _WORD.finditer(phrase))


def _rows(name: str) -> Iterable[dict[str, str]]:
    return csv.DictReader((_DATA / "lexicon" / name).read_text("utf-8").splitlines())


def _bare(phrase: str) -> str:
    """A noun phrase of the lexicon without its article."""
    return re.split(r"(?<=^[lL])['’]|\s", phrase, maxsplit=1)[1]


@lru_cache(maxsize=len(LANGUAGES))
def _lexicon(code: str) -> _Lexicon:
    said = dict(reversed(list(_said(code))))  # what comes first counts
    adjectives = {row[code]: row["concept"] for row in _rows("adjectives.csv")}
    if code == "de":  # "Gastrektomiepräparat"
        adjectives |= {s.others[code]: s.organ for s in specimens() if code in s.others}
    key = _key if code == "de" else lambda adjective: _stem(adjective, code)
    ordered = sorted(adjectives, key=len, reverse=True)
    modifiers = {row[code]: row["modifier"] for row in _rows("modifiers.csv") if row[code]}
    spoken = [
        match[0]
        for phrase in (*_frames(code), *said, *adjectives, *modifiers)
        for match in _WORD.finditer(phrase)
    ]
    return _Lexicon(
        nouns={_stems(phrase, code): english for phrase, english in said.items()},
        short=frozenset(phrase.lower() for phrase in said if len(phrase) < _SHORT),
        modifiers={_stem(word, code): english for word, english in modifiers.items()},
        adjectives={key(adjective): adjectives[adjective] for adjective in ordered},
        words=frozenset(_stem(word, code) for word in spoken),
        exact=frozenset(map(_key, spoken)),
    )


def _said(code: str) -> Iterator[tuple[str, str]]:
    """The noun phrases of a language with their English names, the likelier ones first."""
    for name in ("translations.csv", "translations_more.csv", "organs.csv", "sites.csv"):
        for row in _rows(name):
            yield _bare(row[code]), row.get("concept") or row["site"]
    for row in _rows("synonyms.csv"):
        if row["language"] == code:
            yield row["said"], row["concept"]
    for specimen in specimens():
        if code in specimen.others:
            yield specimen.others[code], specimen.glossed


@lru_cache(maxsize=1)
def _english() -> frozenset[str]:
    names = [name for concept in concepts() for name in (concept.name, *concept.synonyms)]
    words = {_key(word) for text in (*_frames("en"), *names) for word in _WORD.findall(text)}
    return frozenset(words | {f"{word}s" for word in words} | short_words())


def _frames(code: str) -> list[str]:
    """The frames of a language, without their slots: the words that its speakers use."""
    frames = tomllib.loads((_DATA / "frames" / f"{code}.toml").read_text("utf-8"))
    return [re.sub(r"\{[^}]*\}", " ", text) for text in _texts(frames)]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    else:
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)
