"""The ontology: the names of organs, regions and cells, and what they imply.

The data are the three TOML files beside this module, written for a pathologist to extend: a
concept is one line with its synonyms, the organ that it presumes and what it is a part or a kind
of. Nothing here is learned, and no lookup guesses: `find` matches a whole phrase or finds nothing.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any, Literal, get_args

from models.ontology._text import american, fold, normalise, singular

__all__ = [
    "Concept",
    "Kind",
    "OntologyError",
    "american",
    "ancestors",
    "concepts",
    "digest",
    "expected_organ",
    "find",
    "fold",
    "normalise",
    "organ_agrees",
    "singular",
]

Kind = Literal["organ", "region", "cell"]
_KINDS: tuple[Kind, ...] = get_args(Kind)
_FIELDS = frozenset({"synonyms", "presumes", "parents", "definition"})


class OntologyError(ValueError):
    """A data file is wrong; the message names the file, the concept and what to change."""


@dataclass(frozen=True)
class Concept:
    """Something that a pathologist has a name for.

    Attributes:
        name: lower case, singular, American English; unique across all kinds.
        kind: `organ` (an image comes from it), `region` (outlined) or `cell` (counted).
        synonyms: other names, abbreviations and adjectives; each belongs to one concept only.
        presumes: the organ that naming it takes for granted, or None. For an organ's part, the
            organ that an image is checked against.
        parents: names of what it is a kind of or a part of.
        definition: one sentence for people, or None.
    """

    name: str
    kind: Kind
    synonyms: tuple[str, ...] = ()
    presumes: str | None = None
    parents: tuple[str, ...] = ()
    definition: str | None = None


@dataclass(frozen=True)
class _Ontology:
    by_name: Mapping[str, Concept]
    by_phrase: Mapping[str, Concept]


def _concept(file: str, name: str, kind: Kind, entry: Any) -> Concept:
    if not isinstance(entry, dict) or not entry.keys() <= _FIELDS:
        raise OntologyError(f'{file}: "{name}" takes only {", ".join(sorted(_FIELDS))}')
    return Concept(
        name=name,
        kind=kind,
        synonyms=tuple(entry.get("synonyms", ())),
        presumes=entry.get("presumes"),
        parents=tuple(entry.get("parents", ())),
        definition=entry.get("definition"),
    )


def build(texts: Mapping[Kind, str]) -> _Ontology:
    """Read and check the data files.

    Args:
        texts: the TOML text of each kind's file.

    Raises:
        OntologyError: a file is not TOML, a name or synonym belongs to two concepts, or a parent
            or presumed organ does not exist.
    """
    by_name: dict[str, Concept] = {}
    by_phrase: dict[str, Concept] = {}
    for kind, text in texts.items():
        file = f"{kind}s.toml"
        try:
            entries = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise OntologyError(f"{file}: {error}") from error
        for name, entry in entries.items():
            concept = _concept(file, name, kind, entry)
            by_name[name] = concept
            for phrase in (name, *concept.synonyms):
                taken = by_phrase.setdefault(normalise(phrase), concept)
                if taken is not concept:
                    raise OntologyError(
                        f'{file}: "{phrase}" of "{name}" already belongs to "{taken.name}"'
                    )
    for concept in by_name.values():
        for other in concept.parents:
            if other not in by_name:
                raise OntologyError(f'"{concept.name}" has the unknown parent "{other}"')
        organ = by_name.get(concept.presumes) if concept.presumes else None
        if concept.presumes and (organ is None or organ.kind != "organ"):
            raise OntologyError(f'"{concept.name}" presumes "{concept.presumes}", no known organ')
    return _Ontology(by_name, by_phrase)


@lru_cache(maxsize=1)
def _ontology() -> _Ontology:
    folder = resources.files(__package__)
    return build({kind: (folder / f"{kind}s.toml").read_text("utf-8") for kind in _KINDS})


@lru_cache(maxsize=1)
def digest() -> str:
    """SHA-256 (hex) of the data files: equal digests resolve every text alike."""
    files = (resources.files(__name__) / f"{kind}s.toml" for kind in _KINDS)
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def concepts(kind: Kind | None = None) -> tuple[Concept, ...]:
    """List every concept, or those of one kind, in the order of the data files."""
    return tuple(c for c in _ontology().by_name.values() if kind is None or c.kind == kind)


def find(text: str, kind: Kind | None = None) -> Concept | None:
    """Look a whole phrase up among names and synonyms.

    Args:
        text: a phrase as people write it; compared by `normalise`.
        kind: only a concept of this kind counts, where given.

    Returns:
        The concept, or None where no name or synonym is this phrase. Never a near match.
    """
    concept = _ontology().by_phrase.get(normalise(text))
    return concept if concept and kind in (None, concept.kind) else None


def ancestors(name: str) -> tuple[str, ...]:
    """Give the names of everything that the concept `name` is a kind or part of, nearest first.

    Raises:
        KeyError: there is no concept of that name (synonyms are for `find`).
    """
    by_name = _ontology().by_name
    found: list[str] = []
    level = by_name[name].parents
    while level:
        found.extend(parent for parent in level if parent not in found and parent != name)
        level = tuple(p for parent in level for p in by_name[parent].parents if p not in found)
    return tuple(found)


def expected_organ(concept: Concept) -> str | None:
    """Give the organ that naming `concept` takes for granted, or None where it takes none.

    An organ stands for itself unless it is a part of one (the cerebellum presumes the brain).
    """
    return concept.presumes or (concept.name if concept.kind == "organ" else None)


def organ_agrees(found: str, expected: str) -> bool | None:
    """Judge whether an image of `found` is what someone who expects `expected` means.

    Args:
        found: organ or tissue in words ("hepatic", "cerebellum").
        expected: the same.

    Returns:
        True for the same organ, or where one is a part of the other; None where either name is
        unknown, since nothing can be said then; otherwise False.
    """
    one, other = find(found), find(expected)
    if one is None or other is None:
        return None
    return one is other or one.name in ancestors(other.name) or other.name in ancestors(one.name)
