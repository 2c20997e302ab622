"""Slips of the pen mended before anything is looked up: "lymhpocytes" is read as "lymphocytes".

Only a word that no dictionary has is touched, and only where a word of the project's own, of its
lexicon or its frames, is one slip away: a letter too many, too few, another, or two that changed
places (Damerau, CACM 1964); two slips in a long English word. Nothing is mended into a word that
the planner has not been taught.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache

from rapidfuzz import process
from rapidfuzz.distance import OSA, JaroWinkler
from spellchecker import SpellChecker

from models.ontology import american
from models.planner.words import LANGUAGES, WORD, english_words, folded, language_of, lexicon_of

_LEAST, _SHORT = 3, 4
"""Letters of the shortest word that is looked at; up to which only changed places are mended."""
_LONG = 9
"""Letters from which on two slips are mended, in English."""
_BARE = 7
"""Letters of the shortest word that is mended in a language without a dictionary."""
_ENDING = 3
"""Letters at the end in which two slips make another word rather: "anaplasia", "anaplastic"."""
_CLITIC = 2
"""Letters of a pronoun at the end of a verb, in the languages that write it so."""
_ENDINGS = ("", "s", "es", "d", "ed", "ing", "ly")
"""What an English word may have besides."""
_NEAREST = 24
_BEGIN = re.compile(r"(?:^|[.:;!?\n])[\W\d_]*")
_MOST_LETTERS = 10_000
"""Longer texts are not mended: the planner's model can't read so much."""
_DICTIONARIES = frozenset({"en", "es", "fr", "de", "it", "pt"})
"""Languages that `pyspellchecker` has a dictionary of. In others words are known from here alone,
or from the English one."""


def mended(text: str) -> str:
    """`text` without slips of the pen, in its own language."""
    return mended_in(language_of(text), text)


def mended_in(code: str, text: str) -> str:
    """`text` in the language `code` without slips of the pen.

    Names, with a capital within a sentence, are left alone; in German every noun has one.
    """
    if len(text) > _MOST_LETTERS:
        return text
    mend, begins = _speller(code).mend, {match.end() for match in _BEGIN.finditer(text)}

    def mend_one(match: re.Match[str]) -> str:
        named = code != "de" and match[0][0].isupper() and match.start() not in begins
        return match[0] if named else mend(match[0])

    return WORD.sub(mend_one, text)


class Speller:
    """Mends words of one language."""

    def __init__(self, code: str, words: Collection[str]) -> None:
        """Take the language's code, and the words that slips are mended to, `folded`."""
        self._code, self._words = code, frozenset(words)
        self._mended_to = sorted(word for word in words if len(word) >= _LEAST)
        self._longest = max(map(len, words)) + 2
        self._looked_up = lru_cache(maxsize=65536)(self._look_up)

    def mend(self, word: str) -> str:
        """`word`, or the word that was meant, in lower case and without accents."""
        plain = re.fullmatch(r"[^\W\d_]+", word) and not word.isupper()
        return self._looked_up(word) if plain and len(word) <= self._longest else word

    def _look_up(self, word: str) -> str:
        own = folded(word)
        bare = self._code not in _DICTIONARIES
        if len(own) < (_BARE if bare else _LEAST) or self._is_known(word, own):
            return word
        most = 2 if self._code == "en" and len(own) >= _LONG else 1
        near = process.extract(
            own, self._mended_to, scorer=OSA.distance, score_cutoff=most, limit=_NEAREST
        )
        likely = [(slips, found) for found, slips, _ in near if self._is_likely(own, found, slips)]
        nearest = ((slips, JaroWinkler.distance(own, found), found) for slips, found in likely)
        return min(nearest)[-1] if likely else word

    def _is_known(self, word: str, own: str) -> bool:
        for end in _ENDINGS if self._code == "en" else ("",):
            stem = own.removesuffix(end)
            if stem in self._words or american(stem) in self._words:
                return True
        codes = {self._code, "en"} & _DICTIONARIES
        return any(word.lower() in _dictionary(code) for code in codes)

    def _is_likely(self, own: str, meant: str, slips: int) -> bool:
        """Whether `own` is rather `meant` misspelt than a word that is not known here."""
        alike = own[0] == meant[0]
        if len(meant) <= _SHORT:
            return alike and sorted(own) == sorted(meant)
        if slips > 1:
            return alike and own[:-_ENDING] != meant[: len(own) - _ENDING]
        inflected = own[:-1] == meant[:-1]
        if self._code != "en":  # where more than one letter says number and gender
            inflected = not {own[:-1], own}.isdisjoint((meant[:-1], meant))
            other = sorted(own) != sorted(meant)
            inflected |= other and own[:-_CLITIC] == meant[:-_CLITIC]  # "misurami", "misurali"
        return not inflected and (alike or self._code in _DICTIONARIES)


@lru_cache(maxsize=len(_DICTIONARIES))
def _dictionary(code: str) -> frozenset[str]:
    return frozenset(SpellChecker(language=code).word_frequency.words())


@lru_cache(maxsize=1 + len(LANGUAGES))
def _speller(code: str) -> Speller:
    return Speller(code, english_words() if code == "en" else lexicon_of(code).exact)
