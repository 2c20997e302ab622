"""Drafts: an intent and the clauses that say it, before there are words."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import resources
from random import Random
from typing import Any

from models.planner.generate.grammar import Noun, Template
from models.planner.generate.intents import Intent, Known, Scope, Thing

Slots = Mapping[str, Any]


@dataclass(frozen=True)
class Part:
    """What one clause says.

    Attributes:
        section: of the frames; sections with `do`, `ask` and `terse` below them can be joined.
        slots: what fills the frame.
        scope: the place that the clause names, or nothing.
        pronoun: whether the scope's region is said as "it".
        tail: a section of `tail` that the clause ends with, or "".
        words: the frame itself, where it is none of a section's.
    """

    section: str
    slots: Slots
    scope: Scope = field(default_factory=Scope)
    pronoun: bool = False
    tail: str = ""
    words: Template | None = None


@dataclass(frozen=True)
class Draft:
    """An intent and the clauses that say it; `organ_said` where they name its organ already."""

    intent: Intent
    parts: tuple[Part, ...]
    organ_said: bool = False


def with_slots(draft: Draft, **slots: Any) -> Draft:
    """`draft` with more slots in its first clause."""
    part = draft.parts[0]
    return replace(draft, parts=(replace(part, slots={**part.slots, **slots}),))


@lru_cache(maxsize=1)
def mix() -> dict[str, dict[str, Any]]:
    """`mix.toml`: how often what is asked for."""
    text = (resources.files(__package__) / "mix.toml").read_text("utf-8")
    return tomllib.loads(text)


def pick(rng: Random, table: str) -> str:
    """A key of a table of `mix`, by its weights."""
    names, sums = _cumulated(table)
    return rng.choices(names, cum_weights=sums)[0]


@lru_cache(maxsize=32)
def _cumulated(table: str) -> tuple[list[str], list[float]]:
    total, sums = 0.0, []
    for weight in mix()[table].values():
        total += weight
        sums.append(total)
    return list(mix()[table]), sums


def nouns(*things: Thing) -> tuple[Noun, ...]:
    """How things are said."""
    return tuple((t.mention if isinstance(t, Known) else t).noun for t in things)
