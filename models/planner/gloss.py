"""Misspelt words mended, nouns and short forms in English, before the model reads an instruction.

The embedded model was pretrained on English: it takes in the verbs and the word order of six more
languages from few examples, but not hundreds of nouns. Those are in a lexicon already, that of the
generator, so they are looked up: "Kupffer-Zellen in der Leber zählen" is read as "kupffer cell in
der liver zählen". Of English, only the short forms are spelt out (`models.planner.shorthand`).
Misspelt words are mended first (`models.planner.spelling`). Training and decoding share this, as
part of the one prompt form. What the lexicon doesn't have is left as it is.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache

from models.planner.shorthand import spelt_out
from models.planner.spelling import mended_in
from models.planner.words import (
    SHORT,
    WORD,
    folded,
    language_of,
    lexicon_of,
    sayings,
    stem_of,
)

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


@lru_cache(maxsize=256)  # a plan asks for a turn's words more than once
def gloss(text: str) -> str:
    """`text` without slips of the pen and short forms, its nouns in English.

    Args:
        text: an instruction, any string; the work grows linearly with its length.
    """
    text = unicodedata.normalize("NFC", text)
    code = language_of(text)
    text = mended_in(code, text)
    if code == "en":
        return spelt_out(text)
    out: list[str] = []
    end = 0
    for start, stop, english in _found(text, code):
        out += (text[end:start], english)
        end = stop
    return "".join((*out, text[end:]))


def _found(text: str, code: str) -> Iterator[tuple[int, int, str]]:
    """Start, end and English of what the lexicon of `code` has, longest phrases first."""
    words = list(WORD.finditer(text))
    stems = [stem_of(word[0], code) for word in words]
    at = 0
    while at < len(words):
        if said := sayings(code).match(text, words[at].start()):
            at += sum(word.start() < said.end() for word in words[at:])
            continue
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
    modifiers = lexicon_of(code).modifiers
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


def _noun(
    words: Sequence[re.Match[str]], stems: Sequence[str], at: int, code: str
) -> tuple[int, str] | None:
    nouns, short = lexicon_of(code).nouns, lexicon_of(code).short
    for length in range(min(_LONGEST, len(stems) - at), 0, -1):
        english = nouns.get(tuple(stems[at : at + length]))
        bare = length == 1 and len(words[at][0]) < SHORT
        article = at > 0 and len(stems[at - 1]) < SHORT and words[at][0].lower() in short
        if english and (article or not bare):
            return length, english
    if code == "de" and (english := _compound(folded(words[at][0]))):
        return 1, english
    return None


@lru_cache(maxsize=4096)
def _compound(key: str) -> str | None:
    """A German compound of two nouns: "Nervenfaszikel" is "nerve fascicle"."""
    nouns = lexicon_of("de").nouns
    for at in range(SHORT, min(len(key) - SHORT, _LONGEST_PART) + 1):
        first, second = (nouns.get((stem_of(part, "de"),)) for part in (key[:at], key[at:]))
        if first and second:
            return f"{first} {second}"
    return None


def _adjective(
    words: Sequence[re.Match[str]], stems: Sequence[str], at: int, code: str
) -> tuple[int, str] | None:
    """An organ's adjective beside a specimen: "biopsia hepática", "Leberbiopsie"."""
    adjectives = lexicon_of(code).adjectives
    if code == "de":
        key = folded(words[at][0])
        for begin, organ in adjectives.items():
            rest = key.removeprefix(begin)
            if rest != key and _GERMAN_SPECIMEN.match(rest):
                return 1, f"{organ} {rest}"
        return None
    beside = any(_SPECIMEN.match(folded(word[0])) for word in words[max(0, at - 2) : at])
    return (1, adjectives[stems[at]]) if beside and stems[at] in adjectives else None
