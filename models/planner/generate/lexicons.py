"""The lexicons, read from files.

Names, synonyms and presumed organs come from `models.ontology`; the files in `lexicon/` add what a
speaker adds: short forms, nouns without plural, modifiers, idioms, rarer entities, translations;
rarer sites of the body, which a plan names as the user does; and specimens, which name an organ.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from models.ontology import Concept, concepts, expected_organ, find, singular
from models.planner.generate.entities import Idiom, Inventions, Kind, Lexicon, Mention, Organ
from models.planner.generate.grammar import LANGUAGES, Noun, Template, language, plural_of
from models.planner.shorthand import lexicon_rows, lexicon_table, specimens, spelt_out

_ADJECTIVE = ("ac", "ile", "ic", "al", "ar", "ous", "oid", "ed", "ive", "ary", "ian", "ine", "ant")
_COMMON = 6.0
"""How much more often what `translations.csv` has is spoken of than the rest."""
_PLACE, _PART, _MIXED = 5.0, 0.1, 0.3
"""The same for the regions of `places.csv`, for parts of cells, and for English nouns that are
said in another language."""
_WHOLE = ("cell", "cyte", "phage", "blast", "phil")
"""How names of whole cells end, which have a cytoplasm."""


@lru_cache(maxsize=len(LANGUAGES))
def lexicon(code: str) -> Lexicon:
    """The lexicon of one of `grammar.LANGUAGES`, built once.

    Raises:
        ValueError: a file names a concept that the ontology does not have.
    """
    if code == "en":
        return Lexicon(code, _english_entities(), _english_organs(), _idioms(), _inventions())
    return Lexicon(code, _translated(code), _translated_organs(code))


def _english() -> Mapping[str, Any]:
    return lexicon_table("english.toml")


@lru_cache(maxsize=len(LANGUAGES))
def uncut(code: str) -> tuple[frozenset[str], frozenset[str]]:
    """First words of names that nobody cuts to their head, and heads that say too little."""
    data = lexicon_table("heads.toml")
    return frozenset(data["anatomical"]), frozenset(data["general"][code])


def _noun(name: str) -> Noun:
    """The English noun for a singular name, in the number that it is used in."""
    data = _english()
    last = name.rpartition(" ")[2]
    if last in data["mass"] or name in data["mass"]:
        return Noun(name, name, "the", False)
    if last in data["invariable"] or name in data["invariable"]:
        return Noun(name, name, "the", True)
    return Noun(data["plurals"].get(name) or plural_of(name), name, "the", True)


def _mention(target: str | None, kind: Kind, organ: str | None, noun: Noun) -> Mention:
    concept = find(target, "cell") if target else None
    if concept and concept.name == "nucleus":
        target = None
    return Mention(target, kind, organ, noun)


def _concept(name: str) -> Concept:
    concept = find(name)
    if concept is None:
        raise ValueError(f"the ontology has no {name!r}, which the lexicon names")
    return concept


def _named(name: str, said: Noun | None = None) -> Mention:
    """The mention of a cell or region by one of its names in the ontology."""
    concept = _concept(name)
    if concept.kind == "organ":
        raise ValueError(f"{name!r} is an organ, and the lexicon has it as a cell or region")
    return _mention(name, concept.kind, concept.presumes, said or _noun(name))


def _inventions() -> Inventions:
    data = _english()
    coined = data["coined"]
    return Inventions(
        modifiers=data["modifiers"],
        features=data["features"],
        parts={kind: [_noun(part) for part in data["parts"][kind]] for kind in data["parts"]},
        looks=coined["looks"],
        heads={kind: [_noun(head) for head in coined[kind]] for kind in ("cell", "region")},
        predicates=[
            (said, _mention(name, "region", None, _noun(name)))
            for said, name in data["predicate"].items()
        ],
        local=[_mention(head, "region", None, _noun(head)) for head in data["local"]["heads"]],
        places=data["placed"]["looks"],
        placed=[_mention(head, "region", None, _noun(head)) for head in data["placed"]["heads"]],
    )


def _idioms() -> list[Idiom]:
    found = []
    for entry in lexicon_table("idioms.toml")["idiom"]:
        targets = [_named(name) for name in entry["finds"]]
        organ = entry.get("organ")
        noun = Noun(organ, organ, "the", False) if organ else None
        found.append(
            Idiom(
                say=tuple(map(Template, entry["say"])),
                targets=tuple(targets),
                boxes=entry.get("boxes", False),
                measures=entry.get("measures", False),
                organ=Organ(organ, noun, noun) if noun else None,
            )
        )
    return found


def _sayable(synonym: str) -> bool:
    if synonym in _english()["unsaid"]:
        return False
    adjective = " " not in synonym and synonym.endswith(_ADJECTIVE)
    return not adjective and singular(synonym.rpartition(" ")[2]) == synonym.rpartition(" ")[2]


def _written(name: str) -> str:
    """Acronyms as people write them; the rest in lower case."""
    acronyms = _english()["acronyms"]
    return " ".join(word.upper() if word in acronyms else word for word in name.split(" "))


def _english_entities() -> list[tuple[Mention, float]]:
    common = {row["concept"] for row in lexicon_rows("translations.csv")}
    found: list[tuple[Mention, float]] = []
    for concept in concepts():
        if concept.kind == "organ":
            continue
        names = [n for n in (concept.name, *concept.synonyms) if n == concept.name or _sayable(n)]
        names = [n for n in names if n == concept.name or n not in _english()["unsaid"]]
        for place, name in enumerate(names):
            said = _written(name)
            weight = _COMMON if name in common else 1.0 if place == 0 else 0.4
            mention = _mention(said, concept.kind, concept.presumes, _noun(said))
            found.append((mention, weight))
    for kind in ("cell", "region"):
        for name, organ in _english()["more"][kind].items():
            found.append((_mention(name, kind, organ or None, _noun(name)), 1.0))
    found = [(mention, weight) for mention, weight in found if _stays(mention.noun)]
    return found + [(mention, 1.0) for mention in _short_forms()]


def _stays(noun: Noun) -> bool:
    """Whether the model reads a noun as it is said: a plan names what the model reads."""
    return all(spelt_out(said) == said for said in (noun.text, noun.singular))


def _short_forms() -> list[Mention]:
    data = _english()
    found = []
    for said, name in data["slang"].items():
        plural = _noun(name).plural and said.endswith(("s", "i", "ta"))
        found.append(_named(name, Noun(said, said, "the", plural)))
    for said, name in data["initials"].items():
        plural = _noun(name).plural
        found.append(_named(name, Noun(f"{said}s" if plural else said, said, "the", plural)))
    return found


def _foreign_noun(row: Mapping[str, str], code: str) -> Noun:
    said = row[code]
    article, text = said.split("'", 1) if said[:2] in ("l'", "L'") else said.split(" ", 1)
    plural = row["es"].startswith(("los ", "las "))
    return Noun(text, text, f"{article}'" if said[1] == "'" else article, plural)


def _translated(code: str) -> list[tuple[Mention, float]]:
    files = {"translations.csv": _COMMON, "translations_more.csv": 1.0}
    found = [
        (_named(row["concept"], _foreign_noun(row, code)), weight)
        for name, weight in files.items()
        for row in lexicon_rows(name)
    ]
    for row in lexicon_rows("places.csv"):
        said = _foreign_noun(row, code)
        place = _mention(row["concept"], "region", row["organ"] or None, said)
        found.append((place, _PLACE))
    named = [one for one, _ in found]
    return [
        *found,
        *((part, _PART) for part in _parts(code, named)),
        *((mixed, _MIXED) for mixed in _mixed_in(code, named)),
    ]


def _mixed_in(code: str, named: Sequence[Mention]) -> Iterator[Mention]:
    """English plurals as they are said in another language: "los plasma cells"."""
    common = {row["concept"] for row in lexicon_rows("translations.csv")}
    for one in named:
        if one.target in common and one.countable and (english := _noun(one.target)).plural:
            text = english.text.title() if code == "de" else english.text
            yield replace(one, noun=Noun(text, text, one.noun.article, True))


def _parts(code: str, owners: Sequence[Mention]) -> Iterator[Mention]:
    """What cells have, as regions: "citoplasma delle cellule tumorali"."""
    common = {row["concept"] for row in lexicon_rows("translations.csv")}
    cells = [one for one in owners if one.target in common and one.target.endswith(_WHOLE)]
    for row in lexicon_rows("parts.csv"):
        part = _foreign_noun(row, code)
        for owner in cells:
            if owner.kind == "cell" and owner.countable:
                text = f"{part.text} {language(code).phrase([owner.noun], 'of')}"
                said = Noun(text, text, part.article, part.plural)
                yield Mention(f"{owner.target} {row['part']}", "region", owner.organ, said)


def _english_organs() -> list[Organ]:
    unsaid = _english()["unsaid"]
    found = []
    for concept in concepts("organ"):
        if concept.name in unsaid:
            continue
        expected = str(expected_organ(concept))
        adjectives = [s for s in concept.synonyms if s.endswith(_ADJECTIVE) and s not in unsaid]
        nouns = [concept.name, *(s for s in concept.synonyms if s not in (*adjectives, *unsaid))]
        for place, name in enumerate(nouns[:3]):
            options = [name, *(adjectives if place == 0 else [])]
            found += [Organ(expected, _singular(name), _singular(a)) for a in options]
    for row in lexicon_rows("sites.csv"):
        found.append(Organ(row["site"], _singular(row["site"]), _singular(row["adjective"])))
    return found


@lru_cache(maxsize=len(LANGUAGES))
def specimens_of(code: str) -> Mapping[str, Sequence[str]]:
    """How specimens of each organ are called in a language: "TURP chips" of the prostate."""
    found: dict[str, list[str]] = {}
    for specimen in specimens():
        said = _written(specimen.said) if code == "en" else specimen.others.get(code)
        if said:
            found.setdefault(specimen.organ, []).append(said)
    return found


def _singular(name: str) -> Noun:
    return Noun(name, name, "the", False)


def _translated_organs(code: str) -> list[Organ]:
    adjectives = {row["concept"]: row[code] for row in lexicon_rows("adjectives.csv")}
    found = []
    for row in (*lexicon_rows("organs.csv"), *lexicon_rows("sites.csv")):
        name = row.get("concept") or row["site"]
        expected = str(expected_organ(_concept(name))) if "concept" in row else name
        noun, adjective = _foreign_noun(row, code), adjectives.get(name)
        found.append(Organ(expected, noun, _singular(adjective) if adjective else noun))
    return found
