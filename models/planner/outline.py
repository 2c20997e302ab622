"""The outline of a plan: its calls and what they refer to, without the names in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from models.planner.serialise import Call

END = "end"
KINDS = ("clarify", "decline", "answer")
PLACES = range(-20, 12)
"""What a reference can be: a call's place, counted from the plan's first call, which is 0. Those of
earlier turns are negative; one beyond either end counts as that end."""
SYMBOLS = (
    *(END, "tissue", "tissue ?", "segment", "count", "count *", "boxes", "measure", "in", "out"),
    *KINDS,
    *map(str, PLACES),
)
"""What outlines are made of."""
_WORDS = {
    "classify_tissue": ("tissue", "expected", "tissue ?"),
    "segment": ("segment", "", ""),
    "count_nuclei": ("count", "cell_type", "count *"),
    "extract_boxes": ("boxes", "", ""),
    "measure": ("measure", "", ""),
}
"""For each tool its symbol, the argument that it may go without, and its symbol then."""
_REFERENCES = {"within": ("in",), "outside": ("out",), "source": ()}
"""The arguments that refer to a call, and what stands before the place."""


@dataclass(frozen=True)
class Outline:
    """A plan's calls in order, each with its references: `("segment", "in", "-2", "boxes", "0")`.

    A reply is its kind alone.
    """

    symbols: tuple[str, ...]

    @classmethod
    def of(cls, calls: Sequence[Call], start: int) -> Self:
        """The outline of a plan whose first call has the number `start` in its thread."""
        return cls(tuple(symbol for call in calls for symbol in _symbols(call, start)))

    def calls(self, start: int) -> Iterator[tuple[str, str]]:
        """The symbol of each call, and its references as a plan line has them: "in $2", "$3"."""
        symbol, references = "", list[str]()
        for word in self.symbols:
            if word in ("in", "out"):
                references.append(word)
            elif word.lstrip("-").isdecimal():
                references.append(f"${start + int(word)}")
            else:
                if symbol:
                    yield symbol, " ".join(references)
                symbol, references = word, []
        yield symbol, " ".join(references)


def _symbols(call: Call, start: int) -> Iterator[str]:
    args = call["args"]
    if call["tool"] == "reply":
        yield args["kind"]
        return
    word, optional, alone = _WORDS[call["tool"]]
    yield alone if optional and not args.get(optional) else word
    for argument, before in _REFERENCES.items():
        if reference := args.get(argument):
            yield from before
            place = int(reference.removeprefix("$")) - start
            yield str(min(max(place, PLACES[0]), PLACES[-1]))
