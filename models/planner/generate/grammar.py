"""Languages as data: noun phrases in the forms that a sentence needs, and templates with slots.

A language is one TOML file in `frames/`, with further frames in those of its name in
`frames/compound/` (several requests at once), `frames/thread/` (earlier turns) and `frames/reply/`
(what no tool serves, and what is beside the point). Its `articles` table says, for the article
that a lexicon entry is written with, what stands before the noun in each form ("los" → "de los ");
a form that ends in neither a space nor an apostrophe is a word of its own ("them" → "los").
`agreement` has words that follow number alone: [singular, plural].

In a template, `{x}` is the noun phrase of slot x, `{x.in}` one of its forms, `[a|b|]` a choice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from random import Random
from typing import Any

from models.ontology import singular as singular_of
from models.planner.words import frames_of

LANGUAGES = ("en", "es", "fr", "de", "it", "ca", "pt")

_LATIN = (
    *(("us", "i"), ("um", "a"), ("men", "mina"), ("is", "es"), ("ex", "ices")),
    *(("ia", "iae"), ("la", "lae"), ("na", "nae"), ("ha", "hae")),
)
"""English endings and the Latin plurals to try for them."""
_VOWELS = "aeiouhàáâäèéêëìíîïòóôöùúûüœAEIOUHÉ"


@dataclass(frozen=True, slots=True)
class Noun:
    """A noun phrase as said in one language.

    Attributes:
        text: without its article, in the number that it is used in.
        singular: the same in the singular (English only; elsewhere the same as `text`).
        article: the definite article that the lexicon writes; "the" in English.
        plural: whether `text` is a plural.
    """

    text: str
    singular: str
    article: str
    plural: bool


@lru_cache(maxsize=4096)
def plural_of(noun: str) -> str:
    """The English plural of a singular noun phrase, Latin where the ontology reads it back."""
    head, of, rest = noun.partition(" of ")
    if of:
        return plural_of(head) + of + rest
    head, _, word = noun.rpartition(" ")
    lead = f"{head} " if head else ""
    if len(word) < 5 and word.upper() == word:
        return f"{noun}s"
    for ending, many in _LATIN:
        if word.endswith(ending):
            guess = word[: -len(ending)] + many
            if singular_of(guess) == word:
                return lead + guess
    if word.endswith(("s", "x", "ch", "sh")):
        return f"{noun}es"
    if word.endswith("y") and word[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}s"


class Template:
    """A sentence with slots and choices, read once and rendered many times."""

    def __init__(self, text: str) -> None:
        """Read `text`.

        Raises:
            ValueError: a bracket has no partner.
        """
        self.text = text
        self._parts, end = _sequence(text, 0, top=True)
        if end != len(text):
            raise ValueError(f"unbalanced brackets in {text!r}")
        self.slots = frozenset(re.findall(r"\{(\w+)", text))

    def render(self, rng: Random, language: Language, slots: Mapping[str, Any]) -> str:
        """The sentence. `slots` maps a name to nouns, or to text that is put in as it is."""
        return _render(self._parts, rng, language, slots)


def _sequence(text: str, start: int, *, top: bool = False) -> tuple[list[Any], int]:
    parts: list[Any] = []
    at = start
    while at < len(text):
        char = text[at]
        if char == "{":
            end = text.index("}", at)
            name, _, form = text[at + 1 : end].partition(".")
            parts.append((name, form or "x"))
            at = end + 1
        elif char == "[":
            choice, at = _choice(text, at + 1)
            parts.append(choice)
        elif char in "|]" and not top:
            break
        else:
            end = min(
                (i for i in (text.find(c, at + 1) for c in "{[|]") if i > 0), default=len(text)
            )
            parts.append(text[at:end])
            at = end
    return parts, at


def _choice(text: str, start: int) -> tuple[list[list[Any]], int]:
    options: list[list[Any]] = []
    at = start
    while True:
        option, at = _sequence(text, at)
        options.append(option)
        if at >= len(text):
            raise ValueError(f"unbalanced brackets in {text!r}")
        at += 1
        if text[at - 1] == "]":
            return options, at


def _render(parts: list[Any], rng: Random, language: Language, slots: Mapping[str, Any]) -> str:
    done: list[str] = []
    for part in parts:
        if isinstance(part, str):
            done.append(part)
        elif isinstance(part, list):
            done.append(_render(part[int(rng.random() * len(part))], rng, language, slots))
        else:
            value = slots[part[0]]
            done.append(value if isinstance(value, str) else language.phrase(value, part[1]))
    return "".join(done)


@dataclass(frozen=True)
class Language:
    """One language's grammar and frames.

    Attributes:
        code: ISO 639-1.
        frames: section → templates.
        articles, agreement: see the module.
        joins: what stands before the last of several noun phrases (" and ").
        elision: what stands before a bare noun: ["de ", "d'"], the second before a vowel.
        spoken: marks as they are dictated; `hesitations`: what is said between the words.
        inflected: forms in which German nouns change their endings.
        memo: drawn sections, so that each is looked up once.
    """

    code: str
    frames: Mapping[str, tuple[Template, ...]]
    articles: Mapping[str, Mapping[str, str]]
    agreement: Mapping[str, Sequence[str]]
    joins: str
    elision: Sequence[str]
    inflected: Mapping[str, str]
    spoken: Mapping[str, str]
    hesitations: Sequence[str]
    memo: dict[tuple[str, ...], list[tuple[str, Template]]] = field(default_factory=dict)

    def phrase(self, nouns: Sequence[Noun], form: str) -> str:
        """Several noun phrases, joined, each in `form`."""
        several = len(nouns) > 1
        if form in self.agreement:
            return self.agreement[form][several or nouns[0].plural]
        said = [self._noun(noun, form) for noun in nouns]
        if several and form in ("the", "in", "out") and self.code == "en":
            prefix = self.articles["the"][form]
            said = [said[0], *(one.removeprefix(prefix) for one in said[1:])]
        words = said[0] in {forms.get(form) for forms in self.articles.values()}
        if not several or words:  # a word that stands for the noun, or asks for it, is said once
            return said[0]
        return ", ".join(said[:-1]) + self.joins + said[-1]

    def _noun(self, noun: Noun, form: str) -> str:
        if form == "s":
            return noun.singular
        if form == "de":
            return self.elision[noun.text[0] in _VOWELS] + noun.text
        text = noun.text
        if case := self.inflected.get(form):
            text = _german(noun, case)
        if form == "x":
            return text
        key = noun.article + ("*" if noun.plural and self.code == "de" else "")
        prefix = self.articles[key][form]
        return prefix + text if prefix.endswith((" ", "'")) else prefix

    def section(self, name: str) -> str:
        """The section that says `name`: itself, or the same without its cell, region or mass.

        Raises:
            KeyError: there is none.
        """
        if name in self.frames:
            return name
        shorter = re.sub(r"\.(cell|region|mass)\b", "", name)
        if shorter in self.frames:
            return shorter
        raise KeyError(f"{self.code} has no frames for {name}")

    def say(
        self, rng: Random, section: str, slots: Mapping[str, Any], need: Sequence[str] = ()
    ) -> tuple[str, str]:
        """A random frame of `section` that has all slots of `need`, and its id ("en:count.do#3").

        Raises:
            KeyError: the language has no such section or frame, or a slot is missing.
        """
        options = self._options(section, need)
        frame, template = options[int(rng.random() * len(options))]
        return template.render(rng, self, slots), frame

    def _options(self, section: str, need: Sequence[str]) -> list[tuple[str, Template]]:
        key = (section, *need)
        if key not in self.memo:
            name = self.section(section)
            self.memo[key] = [
                (f"{self.code}:{name}#{at}", template)
                for at, template in enumerate(self.frames[name])
                if template.slots.issuperset(need)
            ]
        if not self.memo[key]:
            raise KeyError(f"{self.code} has no frame of {section} with {', '.join(need)}")
        return self.memo[key]


def _german(noun: Noun, case: str) -> str:
    """A noun phrase in German: bare, or after a definite article in the dative or genitive."""
    words = noun.text.split(" ")
    if case == "bare":
        for at, word in enumerate(words[:-1]):
            if noun.plural and word[0].islower() and word.endswith("en"):
                words[at] = word[:-1]
            elif noun.article == "das" and word[0].islower() and word.endswith("e"):
                words[at] = f"{word}s"
        return " ".join(words)
    words = [w + "n" if w[0].islower() and w.endswith("e") else w for w in words]
    ends = (at for at, word in enumerate(words) if word in ("der", "des"))
    head = next(ends, len(words)) - 1  # what follows is a genitive already
    last = words[head]
    if noun.plural and case == "dative" and not last.endswith(("n", "s", "a", "i")):
        words[head] = f"{last}n"
    genitive = case == "genitive" and not noun.plural and noun.article in ("der", "das")
    if genitive and last[0].isupper() and not last.endswith(("s", "x")):
        words[head] = f"{last}s"
    return " ".join(words)


def _flatten(tree: Mapping[str, Any], path: str = "") -> dict[str, tuple[Template, ...]]:
    flat: dict[str, tuple[Template, ...]] = {}
    for name, value in tree.items():
        where = f"{path}.{name}" if path else name
        if isinstance(value, list):
            flat[where] = tuple(Template(text) for text in value)
        else:
            flat |= _flatten(value, where)
    return flat


def _add(tree: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Add tables and frames to those that `tree` has."""
    for name, value in more.items():
        if isinstance(value, dict):
            _add(tree.setdefault(name, {}), value)
        else:
            tree[name] = [*tree.get(name, ()), *value]


@lru_cache(maxsize=len(LANGUAGES))
def language(code: str) -> Language:
    """Load one of `LANGUAGES`.

    Raises:
        ValueError: its file is not TOML, or a template in it can't be read.
    """
    data, *more = frames_of(code)
    for part in more:
        _add(data, part)
    grammar = data.pop("grammar")
    return Language(
        code=code,
        frames=_flatten(data),
        articles=grammar["articles"],
        agreement=grammar.get("agreement", {}),
        joins=grammar["joins"],
        elision=grammar.get("elision", ("", "")),
        inflected=grammar.get("inflected", {}),
        spoken=grammar["spoken"],
        hesitations=grammar["hesitations"],
    )
