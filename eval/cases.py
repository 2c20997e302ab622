"""Cases and predictions of the tool-call scorer, and the readers of their JSON lines.

A case is one instruction in its thread together with every plan that is accepted for it. A
reference `"$n"` is absolute: it names the n-th call of the thread, counted from 1 through all of
its turns.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from tools.errors import BadInput

REFERENCE = re.compile(r"\$([1-9][0-9]{0,5})", re.ASCII)
REPLY_KINDS = ("clarify", "decline", "answer")

ArgRole = Literal["text", "reference", "kind", "prose"]


@dataclass(frozen=True)
class Arg:
    """One argument of a tool, as the scorer sees it.

    Attributes:
        role: `text` is free text that is compared after normalisation, `reference` is `"$n"`,
            `kind` is a reply's kind, `prose` is not compared at all.
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


def _text_problem(value: JsonValue, *, alternatives: bool) -> str | None:
    if alternatives and isinstance(value, list):
        if value and all(item is None or (isinstance(item, str) and item) for item in value):
            return None
        return "is not a list of accepted texts"
    return None if isinstance(value, str) and value.strip() else "is not a text"


def _reference_problem(value: JsonValue, arg: Arg, thread: Sequence[str]) -> str | None:
    if not isinstance(value, str) or REFERENCE.fullmatch(value) is None:
        return f'is {value!r}, not a reference like "$1"'
    number = reference_number(value)
    if number > len(thread):
        return f"{value} is not an earlier call"
    producer = thread[number - 1]
    return None if producer in arg.producers else f"{value} is a {producer} call"


def _arg_problem(
    value: JsonValue, arg: Arg, thread: Sequence[str], *, alternatives: bool
) -> str | None:
    if value is None:
        return "is required" if arg.required else None
    if arg.role == "reference":
        return _reference_problem(value, arg, thread)
    if arg.role == "kind":
        return None if value in REPLY_KINDS else f"is {value!r}, not one of {REPLY_KINDS}"
    if arg.role == "prose":
        return None if isinstance(value, str) else "is not a text"
    return _text_problem(value, alternatives=alternatives)


def call_problem(
    call: JsonValue, thread: Sequence[str], *, alternatives: bool = False
) -> str | None:
    """What is wrong with one call, in one phrase, or None.

    Args:
        call: `{"tool": name, "args": {...}}`; a nullable argument that is absent is null.
        thread: the tools of all earlier calls of the thread, in order.
        alternatives: whether a free text may be a list of accepted texts (expected plans only).
    """
    if not isinstance(call, dict):
        return "is not an object"
    tool, args = call.get("tool"), call.get("args", {})
    if not isinstance(tool, str) or tool not in SIGNATURES:
        return f"{tool!r} is not a tool"
    if not isinstance(args, dict):
        return f"{tool}: args is not an object"
    signature = SIGNATURES[tool]
    for name in args:
        if name not in signature:
            return f"{tool} has no argument {name!r}"
    for name, arg in signature.items():
        problem = _arg_problem(args.get(name), arg, thread, alternatives=alternatives)
        if problem:
            return f"{tool}: {name} {problem}"
    return None


def plan_problem(
    calls: Sequence[JsonValue], earlier: Sequence[str], *, alternatives: bool = False
) -> str | None:
    """What is wrong with a plan that follows the calls `earlier` (tool names), or None."""
    thread = list(earlier)
    for position, call in enumerate(calls, start=1):
        problem = call_problem(call, thread, alternatives=alternatives)
        if problem:
            return f"call {position}: {problem}"
        if isinstance(call, dict):
            thread.append(str(call["tool"]))
    if "reply" in thread[len(earlier) :] and len(calls) > 1:
        return "reply does not stand alone"
    return None


class Call(BaseModel):
    """A call of a case: in a turn of its history, or in a plan that it accepts."""

    model_config = ConfigDict(frozen=True)

    tool: str
    args: dict[str, JsonValue] = Field(default_factory=dict)


class Turn(BaseModel):
    """An earlier turn of the thread: what was asked, what was called, one line of what came out."""

    model_config = ConfigDict(frozen=True)

    instruction: str
    calls: tuple[Call, ...]
    result: str = ""


class AcceptedPlan(BaseModel):
    """A plan that counts as right; a free-text argument lists its accepted texts."""

    model_config = ConfigDict(frozen=True)

    calls: tuple[Call, ...] = Field(min_length=1)


class Expect(AcceptedPlan):
    """The accepted plans: the first one, and others that are as good."""

    alternatives: tuple[AcceptedPlan, ...] = ()

    @property
    def plans(self) -> tuple[AcceptedPlan, ...]:
        """Every accepted plan, the first one first."""
        return (self, *self.alternatives)


class Case(BaseModel):
    """One instruction, its thread so far, and what is accepted.

    Attributes:
        id: unique in its file.
        instruction: as the user typed it, in any language.
        history: earlier turns, oldest first.
        expect: the accepted plans.
        tags: categories, by which scores are broken down.
        group: cases of one group mean the same; all of them right is what counts.
    """

    model_config = ConfigDict(frozen=True)

    id: str = Field(min_length=1)
    instruction: str
    history: tuple[Turn, ...] = ()
    expect: Expect
    tags: tuple[str, ...] = ()
    group: str | None = None

    @property
    def thread(self) -> tuple[str, ...]:
        """The tools of the history's calls, in order: `thread[n - 1]` is what `"$n"` names."""
        return tuple(call.tool for turn in self.history for call in turn.calls)

    @model_validator(mode="after")
    def _plans_are_valid(self) -> Self:
        thread: list[str] = []
        for number, turn in enumerate(self.history, start=1):
            problem = plan_problem([call.model_dump() for call in turn.calls], thread)
            if problem:
                raise ValueError(f"history turn {number}: {problem}")
            thread.extend(call.tool for call in turn.calls)
        for number, plan in enumerate(self.expect.plans, start=1):
            calls = [call.model_dump() for call in plan.calls]
            problem = plan_problem(calls, thread, alternatives=True)
            if problem:
                raise ValueError(f"accepted plan {number}: {problem}")
        return self


class Prediction(BaseModel):
    """What a planner gave for one case.

    Attributes:
        id: the case's.
        calls: the plan as the planner gave it. Malformed calls are kept: they are for the matcher
            to fail, not for the reader to refuse.
        seconds: wall time of planning, in s.
        error: why there is no plan; with an error the plan counts as not parsed.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    calls: list[JsonValue]
    seconds: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    error: str | None = None


_Row = TypeVar("_Row", Case, Prediction)


def _one_line(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    message = " ".join(first["msg"].removeprefix("Value error, ").split())
    return f"{place}: {message}" if place else message


def _rows(path: Path, model: type[_Row]) -> Iterator[_Row]:
    """Validate each line of a JSON lines file; ids must be unique."""
    seen: dict[str, int] = {}
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: can't be read ({error.strerror}).") from error
    # Only \n separates JSON lines: str.splitlines would also cut at U+2028 inside a string.
    for number, line in enumerate(raw.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = model.model_validate_json(line)
        except ValidationError as error:
            raise BadInput(f"{path}, line {number}: {_one_line(error)}") from error
        if row.id in seen:
            raise BadInput(f"{path}, line {number}: id {row.id!r} is also on line {seen[row.id]}.")
        seen[row.id] = number
        yield row


def read_cases(path: Path) -> list[Case]:
    """Read the cases of a JSON lines file, in order.

    Raises:
        BadInput: the file can't be read, a line is no valid case, an id occurs twice, or there is
            no case at all. The message names the line.
    """
    cases = list(_rows(path, Case))
    if not cases:
        raise BadInput(f"{path}: there are no cases in it.")
    return cases


def read_predictions(path: Path) -> list[Prediction]:
    """Read the predictions of a JSON lines file, in order.

    Raises:
        BadInput: the file can't be read, a line is no prediction, or an id occurs twice.
    """
    return list(_rows(path, Prediction))
