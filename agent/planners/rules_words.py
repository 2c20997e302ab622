"""From text to items: words with what they are for, by a lexicon and the ontology.

The lexicons are data (`rules_english.toml`, `rules_languages.toml`). An instruction in another
language is first put into English phrase by phrase; word order is left alone, which the short
imperative sentences that people write to a tool survive.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

from models import ontology
from models.ontology import Concept

_TOKEN = re.compile(r"h&e|[a-z]{1,2}[:/][a-z]{1,2}\b|\d+\.\d+|\w+(?:·\w+)?\+?|[.,;:?!%&+/]")
LONGEST_PHRASE = 6
_ARTICLES = frozenset({"a", "an", "the", "of"})
AREA_WORDS = frozenset({"area", "region", "zone", "compartment", "component", "tissue"})
"""Nouns that turn what stands before them into a region."""

Words = tuple[str, ...]


@dataclass(frozen=True)
class Item:
    """A word or fixed phrase of the instruction.

    Attributes:
        tag: what it is for: a tag of the lexicon, `term` (in the ontology) or `word` (unknown).
        words: its words, singular, American, lower case.
        concept: the ontology's concept of a `term`.
        reason: the reason code of a `decline`.
    """

    tag: str
    words: Words
    concept: Concept | None = None
    reason: str = ""


@dataclass(frozen=True)
class Lexicon:
    """What the data files say.

    Attributes:
        rewrites: English phrases that are read as others.
        tags: English phrases with their tag, and the reason code of a `decline`.
        languages: by language, its phrases with their English meaning.
        english: every word of the English phrases and of the ontology.
    """

    rewrites: Mapping[Words, Words]
    tags: Mapping[Words, tuple[str, str]]
    languages: Mapping[str, Mapping[Words, Words]]
    english: frozenset[str]


def _load(name: str) -> dict[str, Any]:
    return tomllib.loads((resources.files(__package__) / name).read_text("utf-8"))


def _tokens(text: str) -> list[str]:
    return _TOKEN.findall(ontology.fold(text))


def _singular(words: Iterable[str]) -> Words:
    """The words as the English lexicon spells them."""
    return tuple(ontology.singular(ontology.american(word)) for word in words)


def phrase_words(phrase: str) -> Words:
    """The words of a phrase of the English lexicon or the ontology, as instructions are read."""
    return _singular(_tokens(phrase))


def _foreign(entries: Mapping[str, Sequence[str]]) -> dict[Words, Words]:
    """A language's phrases with their meaning, also with every word in a plural in -s or -es."""
    table: dict[Words, Words] = {}
    for meaning, phrases in entries.items():
        for words in map(_tokens, phrases):
            table[tuple(words)] = tuple(_tokens(meaning))
            for ending in ("s", "es"):
                table.setdefault(tuple(word + ending for word in words), tuple(_tokens(meaning)))
    return table


@lru_cache(maxsize=1)
def lexicon() -> Lexicon:
    """Read the data files, once."""
    english = _load("rules_english.toml")
    tags = {
        phrase_words(phrase): (tag, "")
        for tag, phrases in english["tags"].items()
        for phrase in phrases
    }
    for reason, phrases in english["decline"].items():
        for phrase in phrases:
            tags[phrase_words(phrase)] = ("decline", reason)
    rewrites = {phrase_words(old): phrase_words(new) for old, new in english["rewrite"].items()}
    known = {word for phrase in (*tags, *rewrites) for word in phrase}
    for concept in ontology.concepts():
        for name in (concept.name, *concept.synonyms):
            known.update(phrase_words(name))
    languages = {
        language: _foreign(entries) for language, entries in _load("rules_languages.toml").items()
    }
    return Lexicon(rewrites, tags, languages, frozenset(known))


def _match(words: Sequence[str], start: int, table: Mapping[Words, Any]) -> int:
    """Length of the longest phrase of `table` that begins at `start`; 0 where none does."""
    for length in range(min(LONGEST_PHRASE, len(words) - start), 0, -1):
        if tuple(words[start : start + length]) in table:
            return length
    return 0


def _replace(words: Sequence[str], table: Mapping[Words, Words]) -> tuple[list[str], int]:
    """Replace the phrases of `table`, longest first; also how many words were in one."""
    out: list[str] = []
    hits = position = 0
    while position < len(words):
        length = _match(words, position, table)
        hits += length
        out.extend(table[tuple(words[position : position + length])] if length else ())
        out.extend(() if length else (words[position],))
        position += length or 1
    return out, hits


def _translate(words: list[str]) -> list[str]:
    """Put `words` into English where another language explains more of them than English does."""
    known_words = lexicon()
    letters = [word for word in words if word[0].isalpha()]
    english = sum(word in known_words.english for word in _singular(letters))
    best, most = words, english
    for table in known_words.languages.values():
        translated, hits = _replace(words, table)
        if hits > most:
            best, most = translated, hits
    return best


def _term(words: Words) -> Concept | None:
    """The concept that the words name as they stand, without articles or a final "area"."""
    if words[0] in _ARTICLES or words[-1] in _ARTICLES or words[-1] == "area":
        return None
    if not (words[0][0].isalpha() and words[-1][0].isalnum()):
        return None
    if words[0] in AREA_WORDS and len(words) > 1:
        return None
    return ontology.find(" ".join(words))


def _item(words: Words, start: int) -> Item:
    """The item that begins at `start`: the longest phrase, the lexicon's before the ontology's."""
    tags = lexicon().tags
    for length in range(min(LONGEST_PHRASE, len(words) - start), 0, -1):
        phrase = words[start : start + length]
        if phrase in tags:
            tag, reason = tags[phrase]
            return Item(tag, phrase, reason=reason)
        if concept := _term(phrase):
            return Item("term", phrase, concept)
    return Item("word" if words[start][0].isalpha() else "filler", words[start : start + 1])


def read_items(text: str) -> list[Item]:
    """Read an instruction, in English or one of the languages of the lexicon.

    Args:
        text: any string; the work grows linearly with its length.
    """
    rewritten, _ = _replace(_singular(_translate(_tokens(text))), lexicon().rewrites)
    words = tuple(rewritten)
    items: list[Item] = []
    position = 0
    while position < len(words):
        item = _item(words, position)
        items.append(item)
        position += len(item.words)
    return items
