"""Noun phrases: what is to be outlined or counted, in the user's own words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from agent.planners.rules_words import AREA_WORDS, Item
from models import ontology
from models.ontology import Concept

_ADJECTIVE = re.compile(r"(ic|al|ous|ar|ory|ary|oid|ed|ive|ant)$")
_CELL = re.compile(r"(cyte|blast|phage|phil|cell|nucleus|clast)$")
_LONGEST = 12
"""Words in the longest phrase that can name a structure."""
Relation = Literal["within", "outside"]


@dataclass(frozen=True)
class Phrase:
    """A noun phrase.

    Attributes:
        text: what a tool is asked for: the user's words, singular, American.
        kind: `cell` is counted, `region` is outlined, `organ` is checked, `vague` is none of them.
        organ: the organ that it presumes or names, or None.
        known: whether the ontology knows the phrase or its head noun.
        every_cell: whether it means every nucleus.
    """

    text: str
    kind: Literal["cell", "region", "organ", "vague"]
    organ: str | None = None
    known: bool = True
    every_cell: bool = False


@dataclass
class Target:
    """What a request is about, with the regions that restrict it.

    Attributes:
        phrase: the noun phrase, or None where the target is an earlier result.
        back: which earlier result: `it`, or an ordinal `first`, `second`, `third`.
        variants: the restrictions; more than one where the user wants one result for each
            ("in the tumor and in the stroma").
        role: `whole` after "of", `predicate` after "is": "how much of WHOLE is PREDICATE".
        located: a share is asked of where it lies: "what part of X is in Y".
        asked: it stands right after a command or a joiner, so that even an unknown word is meant.
    """

    phrase: Phrase | None = None
    back: str = ""
    variants: list[dict[Relation, Target]] = field(default_factory=lambda: [{}])
    role: Literal["", "whole", "predicate"] = ""
    located: bool = False
    asked: bool = False

    @property
    def is_cell(self) -> bool:
        """Whether it is counted."""
        return self.phrase is not None and self.phrase.kind == "cell"

    @property
    def restricted(self) -> bool:
        """Whether any region restricts it."""
        return any(self.variants)


def _head(words: Sequence[str]) -> Concept | None:
    """The concept of the whole phrase, else of its longest end: "large lymphocyte"."""
    for start in range(len(words)):
        if words[start] not in AREA_WORDS and (found := ontology.find(" ".join(words[start:]))):
            return found
    return None


def _named(words: Sequence[str], concept: Concept | None) -> str:
    """The target's text: an adjective alone ("mitotic", "necrotic area") gives way to its noun."""
    bare = [word for word in words if word not in AREA_WORDS]
    adjective = len(bare) == 1 and _ADJECTIVE.search(bare[0]) and bare[0] != "tumor"
    return concept.name if concept and adjective else " ".join(words)


def make_phrase(items: Sequence[Item]) -> Phrase:
    """Make one phrase of neighbouring `term`, `word` and area items."""
    words = [word for item in items for word in item.words]
    if len(words) > _LONGEST:
        return Phrase(words[0], "vague")
    whole = ontology.find(" ".join(words))
    if words[-1] == "nucleus" and len(words) > 1 and not whole:
        owner = ontology.find(" ".join(words[:-1]), "cell")
        if owner and not _ADJECTIVE.search(words[-2]):
            words, whole = words[:-1], owner
    head = whole or _head(words)
    organs = [o for i in items if i.concept and (o := ontology.expected_organ(i.concept))]
    if head is None:
        kind: Literal["cell", "region", "organ"] = "cell" if _CELL.search(words[-1]) else "region"
        known = any(item.concept for item in items)
        return Phrase(" ".join(words), kind, organs[0] if organs else None, known)
    organ = ontology.expected_organ(head)
    if organ is None and head.kind != "organ" and organs:
        organ = organs[0]
    kind = head.kind
    if kind == "cell" and words[-1] in AREA_WORDS:
        kind = "region"
    text = _named(words, whole)
    every = whole is not None and whole.name == "nucleus" and kind == "cell"
    return Phrase(text, kind, organ, every_cell=every)
