"""Figures, names and things beside the point, made up when a frame asks for them."""

from __future__ import annotations

from random import Random
from typing import Any

from models.planner.generate.entities import Kind, Lexicon

_NAMES = ("Meyer", "Rossi", "Puig", "Dubois", "Silva", "Novak", "Chen", "Okafor")
_LABS = (
    *(("Hb", 62, 158), ("plts", 14, 610), ("WCC", 1, 38), ("CRP", 3, 240), ("ESR", 4, 110)),
    *(("LDH", 160, 1400), ("creat", 48, 460), ("ALT", 9, 900), ("Na", 118, 146)),
    *(("ferritin", 8, 980), ("CA125", 12, 900), ("CEA", 2, 90), ("AFP", 3, 700), ("TSH", 1, 19)),
    ("IgG4", 1, 9),
)
"""Blood tests, with the lowest and the highest figure of each."""
_SLIPS = ("{{instruction}}", "${query}", "{text}", "[INSERT TEXT]", "<prompt>", "asdf", "lorem")
"""What is sent by mistake: a template that was not filled, keys that were tried."""


class Extras(dict[str, Any]):
    """The slots of a frame; what is missing is made up."""

    def __init__(self, rng: Random, words: Lexicon, slots: dict[str, Any]) -> None:
        super().__init__(slots)
        self._rng, self._words = rng, words

    def __missing__(self, name: str) -> Any:
        rng = self._rng
        match name:
            case "age":
                return str(rng.randint(19, 91))
            case "mm":
                return str(rng.randint(12, 140))
            case "n":
                return str(rng.randint(2, 9))
            case "year":
                return str(rng.randint(2004, 2025))
            case "block":
                return f"{rng.choice('ABC')}{rng.randint(1, 9)}"
            case "labs":
                drawn = rng.sample(_LABS, rng.randint(2, 4))
                return ", ".join(f"{lab} {rng.randint(low, high)}" for lab, low, high in drawn)
            case "name":
                return rng.choice(_NAMES)
            case "slip":
                return rng.choice(_SLIPS)
            case "o" | "other":
                return (self._words.organ(rng).noun,)
            case "a":
                return (self._words.organ(rng).adjective,)
            case "x" | "y":
                kind: Kind = "cell" if rng.random() < 0.5 else "region"
                noun = self._words.mention(rng, kind, countable=True, plain=True).noun
                self[name] = (noun,)  # the same when it is said again
                return self[name]
        raise KeyError(name)
