"""What came out of a turn, made up: plausible figures in the lines that planners see.

The wording is that of the tools' `line` methods (layers above this one); a test holds the two
together.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from models.planner.generate.grammar import Language
from models.planner.serialise import Call
from models.wording import area_in_words, plural

SHARE = "% of the tissue"
"""What a line says that states a share of the tissue."""


def tissue_line(label: str | None, probability: float) -> str:
    """As `classify_tissue` words it."""
    return f"{label or 'tissue not known'} {probability:.2f}"


def segment_line(target: str, present: float, fraction: float | None) -> str:
    """As `segment` words it; `fraction` of the tissue in 0..1."""
    text = f"{target}: present {present:.2f}"
    return text if fraction is None else f"{text}, {fraction * 100:.0f}% of the tissue"


def count_line(cell_type: str | None, count: int, density: float | None) -> str:
    """As `count_nuclei` words it; `density` per mm²."""
    text = f"{count} {plural(cell_type or 'nucleus', count)}"
    return text if density is None else f"{text}, {density:.1f}/mm2"


def boxes_line(count: int) -> str:
    """As `extract_boxes` words it."""
    return f"{count} {'box' if count == 1 else 'boxes'}"


def measure_line(um2: float | None, pixels: int, mean_um2: float | None) -> str:
    """As `measure` words it: areas in µm² (None without a pixel size) and px."""
    text = f"area {area_in_words(um2, pixels)}"
    return text if mean_um2 is None else f"{text}, mean area {mean_um2:.1f} µm²"


def count_in(line: str) -> int | None:
    """The count that a `count_nuclei` line states, or None."""
    match = re.match(r"(\d+) ", line)
    return int(match[1]) if match else None


def retold(rng: Random, line: str, what: str, language: Language) -> str:
    """A line as another system might have put it, in its language: the same figures.

    Args:
        rng: the source of chance.
        line: as the tool words it.
        what: the name of what the line is about.
        language: of the other system.
    """
    for section, pattern in _LINES.items():
        if match := pattern.fullmatch(line):
            slots = {"what": what} | match.groupdict()
            if p := slots.get("p"):
                slots["sure"] = f"{float(p):.0%}"
            text, _ = language.say(rng, f"told.{section}", slots)
            if language.code != "en" and rng.random() < 0.7:
                return re.sub(r"(?<=\d)\.(?=\d)", ",", text)
            return re.sub(r"\b0\.(?=\d)", ".", text) if rng.random() < 0.15 else text
    return line


_LINES = {
    section: re.compile(pattern)
    for section, pattern in (
        ("share", r".+: present (?P<p>[\d.]+), (?P<share>[\d.]+)% of the tissue"),
        ("present", r".+: present (?P<p>[\d.]+)"),
        ("density", r"(?P<n>\d+) .+, (?P<density>[\d.]+)/mm2"),
        ("boxes", r"(?P<n>\d+) box(?:es)?"),
        ("count", r"(?P<n>\d+) .+"),
        ("tissue", r"(?P<organ>(?!tissue)[a-z ]+) (?P<p>0\.\d+)"),
        ("areas", r"area (?P<area>[^,]+), mean area (?P<mean>.+)"),
        ("extent", r"area (?P<area>[^,]+), (?P<share>[\d.]+)% of the tissue"),
        ("area", r"area (?P<area>[^,]+)"),
    )
}
"""What a line says, as a section of the frames below `told`; the first that fits."""

_SHARE_MISSING = 0.65
"""How often a region's line states no share of the tissue: it is then to be measured."""
_DENSITY_MISSING = 0.55
"""How often a count's line states no density though the pixel size is known."""
_MISSING = ("outside vocabulary", "no input")
"""How the line of a call ends that gave nothing: what refers to it can't run."""


@dataclass
class World:
    """The made-up image behind a thread.

    Attributes:
        organ: what the tissue check finds.
        mpp: pixel size in µm, None where it is not known (then there are no densities).
    """

    organ: str
    mpp: float | None

    def line(self, rng: Random, call: Call, sources: Sequence[str] = ()) -> str:
        """The result line of one call; `sources` are the lines of the calls that it refers to."""
        args = call["args"]
        counted = count_in(sources[0]) if sources else None
        if any(line.endswith(_MISSING) for line in sources):
            return f"{call['tool']}: no input"
        match call["tool"]:
            case "classify_tissue":
                if rng.random() < 0.15:
                    return tissue_line(None, rng.uniform(0.2, 0.6))
                label = args["expected"] or self.organ
                return tissue_line(label, rng.uniform(0.55, 0.99))
            case "segment":
                if rng.random() < 0.06:
                    return "segment: outside vocabulary"
                share = None if rng.random() < _SHARE_MISSING else rng.betavariate(1.2, 3)
                return segment_line(args["target"], rng.uniform(0.6, 1.0), share)
            case "count_nuclei":
                if rng.random() < 0.04:
                    return "count_nuclei: outside vocabulary"
                count = int(10 ** rng.uniform(0, 3.3))
                silent = self.mpp is None or rng.random() < _DENSITY_MISSING
                density = None if silent else count / rng.uniform(0.1, 1.5)
                return count_line(args["cell_type"], count, density)
            case "extract_boxes":
                return boxes_line(counted or int(10 ** rng.uniform(0, 2.2)))
            case "measure":
                pixels = int(10 ** rng.uniform(3, 6.5))
                um2 = self.mpp and pixels * self.mpp**2
                return measure_line(um2, pixels, rng.uniform(20, 180) if counted and um2 else None)
        return str(args["text"])
