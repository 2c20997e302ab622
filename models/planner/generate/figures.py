"""A figure asked for after something was found: the thread states it, or a tool gives it.

The same words ask for both, so only the thread's results tell which it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from models.planner.generate.drafts import Draft, Part, nouns
from models.planner.generate.entities import Mention
from models.planner.generate.intents import Intent, Known, Reply, Want
from models.planner.generate.pointers import Pointers
from models.planner.generate.results import SHARE, count_in
from models.planner.generate.threads import Thread


@dataclass(frozen=True)
class _Figure:
    """What can be asked of `known`: a section below `figure`, and whether a result states it."""

    name: str
    known: tuple[Known, ...]
    stated: bool


class Figures:
    """Draws questions for a figure of what one thread has; None where it has nothing for it."""

    def __init__(self, thread: Thread, rng: Random) -> None:
        self.thread, self.rng = thread, rng

    def latest(self) -> Draft | None:
        """Of what was just found, unnamed: "and as a percentage?"."""
        focus = self.thread.focus
        if len(focus) != 1:
            return None
        return self._draft("figure.it", list(self._of(focus[0])))

    def named(self) -> Draft | None:
        """By name, however long ago: "density of the lymphocytes we counted"."""
        known = [k for k in self.thread.known() if k.mention.target and self.thread.unique(k)]
        found = [figure for one in known for figure in self._of(one)]
        return self._draft("figure", [*found, *self._pairs(found)])

    def among(self, every: Mention) -> Draft | None:
        """Cells as a share of all nuclei where they were counted: `every` is to be counted too."""
        cells = [k for k in self.thread.known() if k.mention.kind == "cell" and k.mention.target]
        cells = [k for k in cells if self.thread.unique(k)]
        if not cells:
            return None
        known = self.rng.choice(cells)
        scope = self.thread.scope_of(known.number)
        here = [k for k in self.thread.known() if self.thread.scope_of(k.number) == scope]
        if scope.outside is not None or any(k.mention.target is None for k in here):
            return None  # the latter: it follows from two figures that the thread states
        slots, section = {"x": nouns(known)}, "refer.among.all"
        if scope.within is not None:
            slots["r"], section = nouns(scope.within), "refer.among.in"
        intent = Intent(f"follow.{section}", (Want((every,), (scope,)),))
        return Draft(intent, (Part(section, slots),))

    def _pairs(self, found: Sequence[_Figure]) -> Iterator[_Figure]:
        """Two regions of which the same is asked and known: "cortex and medulla, in percent"."""
        for at, one in enumerate(found):
            for other in found[at + 1 :]:
                alike = one.name == other.name and one.stated == other.stated
                if alike and one.name in ("percent", "area"):
                    yield _Figure(one.name, one.known + other.known, one.stated)

    def _draft(self, head: str, options: Sequence[_Figure]) -> Draft | None:
        names = sorted({figure.name for figure in options})
        if not names:
            return None
        name = self.rng.choices(names, [_WEIGHTS[name] for name in names])[0]
        stated = self.rng.random() < _STATED[name]
        options = [one for one in options if (one.name, one.stated) == (name, stated)]
        if not options:
            return None  # else one of the two would be the rule
        figure = self.rng.choice(options)
        section = f"{head}.{name}"
        said = Pointers(self.thread, self.rng).shorter(figure.known)
        parts = (Part(section, {"x": nouns(*said)}),)
        if stated:
            return Draft(Intent(f"answer.{section}", reply=Reply("answer", "result")), parts)
        boxes = name == "pieces"
        want = Want(figure.known, boxes=boxes, measures=not boxes)
        return Draft(Intent(f"follow.{section}", (want,)), parts)

    def _of(self, known: Known) -> Iterator[_Figure]:
        line = self.thread.lines[known.number]
        figures = self._of_cells if known.mention.kind == "cell" else self._of_region
        if "present" in line or count_in(line) is not None:
            yield from (_Figure(name, (known,), stated) for name, stated in figures(known, line))

    def _of_region(self, known: Known, line: str) -> Iterator[tuple[str, bool]]:
        measured = self.thread.has("measure", known.number)
        if self.thread.unscoped(known) and (SHARE in line or not measured):
            yield "percent", SHARE in line
        if not self.thread.line_of("measure", known.number).endswith("px"):
            yield "area", measured
        yield "pieces", self.thread.has("extract_boxes", known.number)

    def _of_cells(self, known: Known, line: str) -> Iterator[tuple[str, bool]]:
        measure = self.thread.line_of("measure", known.number)
        if "/mm2" in line or not measure:
            yield "density", "/mm2" in line
        if "mean area" in measure or not measure:
            yield "mean", bool(measure)


_STATED = {"percent": 0.4, "density": 0.45, "pieces": 0.6, "area": 0.6, "mean": 0.8}
"""How often a stated figure is looked for: more often where few threads have one."""
_WEIGHTS = {"percent": 4.0, "density": 2.0, "pieces": 1.5, "area": 1.0, "mean": 1.0}
"""How often each figure is asked for."""
