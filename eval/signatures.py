"""The tools' signatures as the scorer sees them, and what is wrong with a call or a plan.

A reference `"$n"` is absolute: it names the n-th call of the thread, counted from 1 through all of
its turns.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pydantic import JsonValue

REFERENCE = re.compile(r"\$([1-9][0-9]{0,5})", re.ASCII)
REPLY_KINDS = ("clarify", "decline", "answer")

ArgRole = Literal["text", "reference", "kind", "prose"]
SchemaCode = Literal[
    "malformed_call",
    "unknown_tool",
    "bad_argument",
    "bad_reference",
    "forward_reference",
    "reply_not_alone",
]


class Problem(NamedTuple):
    """Why a plan can't be run: the kind of fault, and one phrase that says where and what."""

    code: SchemaCode
    text: str

    def at(self, place: str) -> Problem:
        """The same, with `place` put before the phrase."""
        return Problem(self.code, f"{place} {self.text}")


@dataclass(frozen=True)
class Arg:
    """One argument of a tool.

    Attributes:
        role: how it is compared. `text` is free text, compared after normalisation; `reference` is
            `"$n"`, compared by the role of the call that it names; `kind` is a reply's kind;
            `prose` is not compared at all. No planner tool takes a number.
        required: whether null (or absence) is an error.
        producers: for a reference, the tools that it may point to.
    """

    role: ArgRole
    required: bool = False
    producers: tuple[str, ...] = ()


_REGION = Arg("reference", producers=("segment",))
_SOURCE = Arg("reference", required=True, producers=("segment", "count_nuclei"))

# The scorer's own copy of the tools' signatures: were it taken from `tools`, a mistake there would
# be made by the planner and forgiven by its judge. A test holds it against the contract's file.
SIGNATURES: Mapping[str, Mapping[str, Arg]] = {
    "classify_tissue": {"expected": Arg("text")},
    "segment": {"target": Arg("text", required=True), "within": _REGION, "outside": _REGION},
    "count_nuclei": {"cell_type": Arg("text"), "within": _REGION, "outside": _REGION},
    "extract_boxes": {"source": _SOURCE},
    "measure": {"source": _SOURCE},
    "reply": {"kind": Arg("kind", required=True), "text": Arg("prose")},
}


def reference_number(value: str) -> int:
    """The n of `"$n"`.

    Raises:
        ValueError: `value` is not a reference.
    """
    found = REFERENCE.fullmatch(value)
    if found is None:
        raise ValueError(f"{value!r} is not a reference")
    return int(found.group(1))


def _text_problem(value: JsonValue, *, alternatives: bool) -> Problem | None:
    if alternatives and isinstance(value, list):
        if value and all(item is None or (isinstance(item, str) and item) for item in value):
            return None
        return Problem("bad_argument", "is not a list of accepted texts")
    if isinstance(value, str) and value.strip():
        return None
    return Problem("bad_argument", "is not a text")


def _reference_problem(value: JsonValue, arg: Arg, thread: Sequence[str]) -> Problem | None:
    if not isinstance(value, str) or REFERENCE.fullmatch(value) is None:
        return Problem("bad_reference", f'is {value!r}, not a reference like "$1"')
    number = reference_number(value)
    if number > len(thread):
        return Problem("forward_reference", f"{value} is not an earlier call")
    producer = thread[number - 1]
    if producer in arg.producers:
        return None
    return Problem("bad_reference", f"{value} is a {producer} call")


def _arg_problem(
    value: JsonValue, arg: Arg, thread: Sequence[str], *, alternatives: bool
) -> Problem | None:
    if value is None:
        return Problem("bad_argument", "is required") if arg.required else None
    if arg.role == "reference":
        return _reference_problem(value, arg, thread)
    if arg.role == "text":
        return _text_problem(value, alternatives=alternatives)
    if arg.role == "kind" and value not in REPLY_KINDS:
        return Problem("bad_argument", f"is {value!r}, not one of {REPLY_KINDS}")
    if arg.role == "prose" and not isinstance(value, str):
        return Problem("bad_argument", "is not a text")
    return None


def call_problem(
    call: JsonValue, thread: Sequence[str], *, alternatives: bool = False
) -> Problem | None:
    """What is wrong with one call, or None.

    Args:
        call: `{"tool": name, "args": {...}}`; a nullable argument that is absent is null.
        thread: the tools of all earlier calls of the thread, in order.
        alternatives: whether a free text may be a list of accepted texts (expected plans only).
    """
    if not isinstance(call, dict):
        return Problem("malformed_call", "is not an object")
    tool, args = call.get("tool"), call.get("args", {})
    if not isinstance(tool, str) or tool not in SIGNATURES:
        return Problem("unknown_tool", f"{tool!r} is not a tool")
    if not isinstance(args, dict):
        return Problem("malformed_call", f"{tool}: args is not an object")
    signature = SIGNATURES[tool]
    for name in args:
        if name not in signature:
            return Problem("bad_argument", f"{tool} has no argument {name!r}")
    for name, arg in signature.items():
        problem = _arg_problem(args.get(name), arg, thread, alternatives=alternatives)
        if problem:
            return problem.at(f"{tool}: {name}")
    return None


def plan_problem(
    calls: Sequence[JsonValue], earlier: Sequence[str], *, alternatives: bool = False
) -> Problem | None:
    """The first thing wrong with a plan that follows the calls `earlier` (tool names), or None."""
    thread = list(earlier)
    for position, call in enumerate(calls, start=1):
        problem = call_problem(call, thread, alternatives=alternatives)
        if problem:
            return problem.at(f"call {position}:")
        if isinstance(call, dict):
            thread.append(str(call["tool"]))
    if "reply" in thread[len(earlier) :] and len(calls) > 1:
        return Problem("reply_not_alone", "reply does not stand alone")
    return None
