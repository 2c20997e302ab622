"""The figure checker: a number in a text to the user must be one that a tool gave.

It holds for the deterministic sentences, and above all for text that a language model wrote. A
reply may also do plain arithmetic on what was measured: the sum, difference, ratio or percentage of
two figures of one kind.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, product
from typing import Any

_TOKEN = re.compile(r"(?<![\w.])(?:\d+(?:,\d{3})*(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?")
_ODD = re.compile(r"(?<!m)[¼-¾⅐-⅞⁰¹²³⁴-⁹₀-₉]")
"""Fractions and raised digits; m² and m³ are units."""
_SMALL = (
    "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty"
)
_WORDS = {word: value for value, word in enumerate(_SMALL.split(" "), start=2)} | {
    "thirty": 30,
    "forty": 40,
    "fifty": 50,
    "sixty": 60,
    "seventy": 70,
    "eighty": 80,
    "ninety": 90,
    "hundred": 100,
    "thousand": 1000,
    "million": 1_000_000,
    "billion": 1_000_000_000,
    "dozen": 12,
    "half": 0.5,
}
_TIMES = re.compile(r"\s*(?:-?fold\b|times\b|[x×](?!\w))", re.IGNORECASE)
_RATIO_OF = re.compile(r"\bratio\b[^.;]*$", re.IGNORECASE)
"""What tells that a number is a ratio: what stands behind it, and what before."""
_WORD = re.compile(rf"\b({'|'.join(_WORDS)})s?\b", re.IGNORECASE)


def unsupported(text: str, facts: Any, operands: Sequence[Mapping[str, float]] = ()) -> list[str]:
    """The numbers in `text` that nothing in `facts` supports, as written, in order.

    Args:
        text: what the user is to be told.
        facts: JSON-like: figures of tool outputs and words that were shown before, nothing else:
            a coordinate or a digest would support what nobody measured. A number in it supports
            its own rounding to the decimals that the text shows; a fraction also its percentage,
            µm² also mm² (the unit must stand behind the number). A number inside one of its
            strings supports the same characters.
        operands: figures by name, a mapping a call, that the text may reckon with, two of one name
            at a time.
    """
    values = list(_numbers(facts))
    ratios = []
    for one, other in _pairs(operands):
        values += [one + other, abs(one - other)]
        ratios += [a / b for a, b in ((one, other), (other, one)) if b]
    strings = [string.lower() for string in _strings(facts)]
    quoted = {match.group() for string in strings for match in _TOKEN.finditer(string)}
    wrong = [
        match.group()
        for match in _TOKEN.finditer(text)
        if match.group().lower() not in quoted and not _supported(match, text, values, ratios)
    ]
    wrong += _ODD.findall(text)
    spoken = {match.group().lower() for string in strings for match in _WORD.finditer(string)}
    for match in _WORD.finditer(text):
        known = _WORDS[match.group(1).lower()] in values or match.group().lower() in spoken
        if not known:
            wrong.append(match.group())
    return wrong


def _supported(
    match: re.Match[str], text: str, values: Sequence[float], ratios: Sequence[float]
) -> bool:
    token = match.group().replace(",", "")
    shown = float(token)
    if not math.isfinite(shown):
        return False
    decimals = len(token.partition(".")[2]) if "e" not in token.lower() else 0
    behind = text[match.end() : match.end() + 10].lstrip()
    percent = behind.startswith(("%", "percent", "per cent"))
    scale = 100.0 if percent else 1e-6 if behind.startswith("mm²") else 1.0
    slack = 0.5 * 10.0**-decimals + 1e-9
    if "e" in token.lower():
        slack = abs(shown) * 0.005
    known = [value * scale for value in values]
    if percent or _TIMES.match(text, match.end()) or _RATIO_OF.search(text[: match.start()]):
        known += [ratio * scale for ratio in ratios]
    return any(abs(value - shown) <= slack for value in known)


def _pairs(operands: Sequence[Mapping[str, float]]) -> Iterator[tuple[float, float]]:
    """Two different figures of one name, each as it was recorded and as a tool's words tell it.

    Who reckons from the words has an area to three digits and a density without decimals.
    """
    by_name: dict[str, set[float]] = {}
    for figures in operands:
        for name, value in figures.items():
            by_name.setdefault(name, set()).add(value)
    for known in by_name.values():
        for one, other in combinations(sorted(known), 2):
            yield from product(_told(one), _told(other))


def _told(value: float) -> set[float]:
    if isinstance(value, int):
        return {value}
    return {value, float(f"{value:.3g}")} | ({float(round(value))} if value >= 100 else set())


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, bool):
        return
    if isinstance(value, (int, float)):
        yield float(value)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _numbers(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _numbers(item)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield str(key)
            yield from _strings(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _strings(item)
