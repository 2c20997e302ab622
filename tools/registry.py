"""Every tool by name, what planners are shown of them, and the backends that they prefer."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from typing import Any

from tools.base import Tool
from tools.check_image import CheckImage
from tools.classify_tissue import ClassifyTissue
from tools.count_nuclei import CountNuclei
from tools.extract_boxes import ExtractBoxes
from tools.measure import Measure
from tools.reply import Reply
from tools.segment import Segment

TOOLS: dict[str, Tool[Any, Any]] = {
    tool.name: tool
    for tool in (
        ClassifyTissue(),
        Segment(),
        CountNuclei(),
        ExtractBoxes(),
        Measure(),
        Reply(),
        CheckImage(),
    )
}

PLANNER_TOOLS: dict[str, Tool[Any, Any]] = {
    name: tool for name, tool in TOOLS.items() if tool.for_planners
}

DEFAULT_BACKENDS: dict[str, tuple[str, ...]] = {
    "check_image": ("classical",),
    "classify_tissue": ("classical",),
    "segment": ("regions", "infiltrate", "flow", "classical"),
    "count_nuclei": ("flow", "mitosis", "classical"),
}
"""Backends a tool asks, in order: the first whose vocabulary has the target answers."""


def openai_tools() -> list[dict[str, Any]]:
    """The planners' tools as an OpenAI `tools` array, as in the contract."""
    return [tool.schema() for tool in PLANNER_TOOLS.values()]


@cache
def schema_digest() -> str:
    """SHA-256 of the canonical `openai_tools()`: what a trace records of the tools' shape."""
    text = json.dumps(openai_tools(), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
