"""What can be spoken of: cells, regions and organs as mentions, and how one is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Literal

from models.planner.generate.grammar import Noun, Template

Kind = Literal["cell", "region"]

_COINED, _MODIFIED, _LOCAL, _PLACED, _PART = 0.06, 0.14, 0.04, 0.05, 0.04
"""How often a mention is coined, has something, an organ's adjective or one of place added, or is
a part."""
_FEATURED = 0.2
"""How often what is added is a feature: "with prominent nucleoli"."""
_IN_ORGAN = 6.0
"""How much more often than others an entity of the organ in question is spoken of."""


@dataclass(frozen=True, slots=True)
class Mention:
    """A structure or a cell type as someone says it, and what a plan must call it.

    Attributes:
        target: the argument: English, singular, American; None for every nucleus.
        kind: `cell` is counted, `region` outlined.
        organ: the organ that naming it presumes, or None.
        noun: how it is said.
        verbatim: whether the words are to stay as they are (a typo could not be mended).
    """

    target: str | None
    kind: Kind
    organ: str | None
    noun: Noun
    verbatim: bool = False

    @property
    def countable(self) -> bool:
        """Whether one can ask how many there are."""
        return self.noun.plural


@dataclass(frozen=True, slots=True)
class Organ:
    """An organ as someone says it.

    Attributes:
        expected: the argument of `classify_tissue`.
        noun: how it is said, with its article.
        adjective: how it is said with "biopsy": "hepatic" or "liver", "hépatique", "Leber" (as in
            "Leberbiopsie"); the same as `noun` where a language has none.
    """

    expected: str
    noun: Noun
    adjective: Noun


@dataclass(frozen=True, slots=True)
class Idiom:
    """A set phrase, and what it asks for; see `lexicon/idioms.toml`."""

    say: tuple[Template, ...]
    targets: tuple[Mention, ...]
    boxes: bool
    measures: bool
    organ: Organ | None


@dataclass(frozen=True)
class Inventions:
    """Noun phrases that no lexicon has.

    Attributes:
        modifiers: adjectives that a speaker adds to an entity, by kind.
        features: what is added after "with", by kind.
        parts: what an entity has, by its kind.
        looks, heads: adjectives and heads that are put together at random, heads by kind.
        predicates: how a region is said of another ("necrotic"), and what it means.
        local: what is said with an organ's adjective ("renal vessels").
        places: adjectives of place, which name no organ.
        placed: what is said with one of them ("pericapsular fat").
    """

    modifiers: Mapping[str, Sequence[str]]
    features: Mapping[str, Sequence[str]]
    parts: Mapping[str, Sequence[Noun]]
    looks: Sequence[str]
    heads: Mapping[str, Sequence[Noun]]
    predicates: Sequence[tuple[str, Mention]]
    local: Sequence[Mention]
    places: Sequence[str]
    placed: Sequence[Mention]

    def localised(self, rng: Random, organ: Organ) -> Mention:
        """Something that any organ has, as that organ's."""
        return _before(organ.adjective.text, replace(rng.choice(self.local), organ=organ.expected))

    def at_place(self, rng: Random) -> Mention:
        """Something at a place that sounds like an organ's and is none's."""
        return _before(rng.choice(self.places), rng.choice(self.placed))

    def modified(self, rng: Random, entity: Mention) -> Mention:
        """`entity` with an adjective or a feature, where it takes one."""
        if entity.noun.plural and rng.random() < _FEATURED:
            return _after(entity, f" with {rng.choice(self.features[entity.kind])}")
        word = rng.choice(self.modifiers[entity.kind])
        if not entity.noun.plural or word in str(entity.target):
            return entity
        return _before(word, entity)

    def part_of(self, rng: Random, owner: Mention) -> Mention:
        """A part of something, which is outlined: "the lumina of the glands"."""
        part = rng.choice(self.parts[owner.kind])
        said = replace(
            part,
            text=f"{part.text} of the {owner.noun.text}",
            singular=f"{part.singular} of the {owner.noun.text}",
        )
        return Mention(f"{owner.target} {part.singular}", "region", owner.organ, said)

    def coin(self, rng: Random, kind: Kind) -> Mention:
        """A new phrase, to be copied word by word."""
        words = " ".join(rng.sample(self.looks, 1 + (rng.random() < 0.4)))
        head = rng.choice(self.heads[kind])
        phrase = f"{words} {head.singular}"
        noun = Noun(f"{words} {head.text}", phrase, head.article, head.plural)
        return Mention(phrase, kind, None, noun, verbatim=True)


def _before(word: str, entity: Mention) -> Mention:
    noun = entity.noun
    said = replace(noun, text=f"{word} {noun.text}", singular=f"{word} {noun.singular}")
    return replace(entity, target=f"{word} {entity.target}", noun=said)


def _after(entity: Mention, words: str) -> Mention:
    noun = entity.noun
    said = replace(noun, text=f"{noun.text}{words}", singular=f"{noun.singular}{words}")
    return replace(entity, target=f"{entity.target}{words}", noun=said)


class Lexicon:
    """Everything that one language can speak of."""

    def __init__(
        self,
        code: str,
        entities: Sequence[tuple[Mention, float]],
        organs: Sequence[Organ],
        idioms: Sequence[Idiom] = (),
        inventions: Inventions | None = None,
    ) -> None:
        """Take what can be spoken of.

        Args:
            code: the language.
            entities: cells and regions, with how often each is spoken of.
            organs: all equally often.
            idioms: set phrases.
            inventions: what new noun phrases are made of; without it none are made.
        """
        self.code = code
        self.entities, self.organs, self.idioms = entities, organs, idioms
        self.inventions = inventions
        self._pools: dict[tuple[Any, ...], tuple[list[Mention], list[float]]] = {}

    def mention(
        self,
        rng: Random,
        kind: Kind,
        organ: str | None = None,
        *,
        countable: bool | None = None,
        plain: bool = False,
    ) -> Mention:
        """A random entity.

        Args:
            rng: the source of chance.
            kind: cell or region.
            organ: what is already presumed; the entity presumes this or nothing.
            countable: only what one can ask the number of, or only what one can't.
            plain: without modifiers and coined phrases.
        """
        inventions = None if plain or countable is False else self.inventions
        if inventions and rng.random() < _COINED:
            return inventions.coin(rng, kind)
        if inventions and organ is None and kind == "region" and rng.random() < _LOCAL:
            return inventions.localised(rng, self.organ(rng))
        if inventions and kind == "region" and rng.random() < _PLACED:
            placed = inventions.at_place(rng)
            if placed.countable or not countable:
                return placed
        if inventions and organ is None and kind == "region" and rng.random() < _PART:
            owner = self.mention(rng, rng.choice(("cell", "region")), countable=True, plain=True)
            if owner.target:
                return inventions.part_of(rng, owner)
        pool, weights = self._pool(kind, organ, countable)
        found = rng.choices(pool, cum_weights=weights)[0]
        if inventions and found.target and rng.random() < _MODIFIED:
            return inventions.modified(rng, found)
        return found

    def _pool(
        self, kind: Kind, organ: str | None, countable: bool | None
    ) -> tuple[list[Mention], list[float]]:
        key = (kind, organ, countable)
        if key not in self._pools:
            chosen, total, sums = [], 0.0, []
            for entity, weight in self.entities:
                fits = entity.kind == kind and countable in (None, entity.countable)
                if fits and (organ is None or entity.organ in (None, organ)):
                    total += weight * (_IN_ORGAN if organ and entity.organ == organ else 1.0)
                    chosen.append(entity)
                    sums.append(total)
            self._pools[key] = chosen, sums
        return self._pools[key]

    def organ(self, rng: Random) -> Organ:
        """A random organ."""
        return self.organs[int(rng.random() * len(self.organs))]
