"""Cases and predictions of the tool-call scorer, and the readers of their JSON lines.

A case is one instruction in its thread together with every plan that is accepted for it and, where
it names an image, with what must come out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    model_validator,
)

from eval.signatures import plan_problem
from tools.errors import BadInput

Status = Literal["completed", "needs_confirmation", "declined", "answered", "clarify", "failed"]


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


def _inside(name: str) -> str:
    """A path of the images' folder, and of nowhere else."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or not name.strip():
        raise ValueError(f"{name!r} is not a file below the images' folder")
    return name


FileName = Annotated[str, AfterValidator(_inside)]
"""Of an image or a mask, relative to the images' folder."""


class ResultCheck(BaseModel):
    """One figure or mask that must come out, whatever the plan was.

    Attributes:
        target: accepted texts of the mask's target, compared after normalisation; where it is
            empty the last mask of the kind is meant.
        count: true number of instances; where no instances came out, of boxes.
        tolerance: how far the number found may be from `count`.
        mask: the true mask's file, not 0 where the structure is.
        dice: least Dice of the mask that came out with the true one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: tuple[str, ...] = ()
    count: int | None = Field(default=None, ge=0, strict=True)
    tolerance: int = Field(default=0, ge=0, strict=True)
    mask: FileName | None = None
    dice: float = Field(default=0.5, gt=0, le=1)

    @model_validator(mode="after")
    def _one_truth(self) -> Self:
        if (self.count is None) == (self.mask is None):
            raise ValueError("a check has either a count or a mask")
        return self


class ExpectResult(BaseModel):
    """What must come out where the case is run on an image.

    Attributes:
        image: its file.
        mpp: µm/px, where the file does not say.
        status: of the answer; `needs_confirmation` is a doubt that must be raised.
        checks: what must be right about the masks.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: FileName
    mpp: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    status: Status = "completed"
    checks: tuple[ResultCheck, ...] = ()


class Case(BaseModel):
    """One instruction, its thread so far, and what is accepted.

    Attributes:
        id: unique in its file.
        instruction: as the user typed it, in any language.
        history: earlier turns, oldest first.
        expect: the accepted plans.
        tags: categories, by which scores are broken down.
        group: cases of one group mean the same; all of them right is what counts.
        expect_result: what must come out on an image; only in a case without history.
    """

    model_config = ConfigDict(frozen=True)

    id: str = Field(min_length=1)
    instruction: str
    history: tuple[Turn, ...] = ()
    expect: Expect
    tags: tuple[str, ...] = ()
    group: str | None = None
    expect_result: ExpectResult | None = None

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
                raise ValueError(f"history turn {number}: {problem.text}")
            thread.extend(call.tool for call in turn.calls)
        for number, plan in enumerate(self.expect.plans, start=1):
            calls = [call.model_dump() for call in plan.calls]
            problem = plan_problem(calls, thread, alternatives=True)
            if problem:
                raise ValueError(f"accepted plan {number}: {problem.text}")
        if self.expect_result and self.history:
            raise ValueError("expect_result: only of a case without history, so that it can be run")
        return self


class Prediction(BaseModel):
    """What a planner gave for one case.

    Attributes:
        id: the case's.
        calls: the plan as the planner gave it. Malformed calls are kept: they are for the matcher
            to fail, not for the reader to refuse.
        seconds: wall time of planning, in s.
        error: why there is no plan; with an error the plan counts as not parsed.
        unavailable: whether the planner itself could not be reached: the case is then unscored
            where trials are counted, and not a failure to plan.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    calls: list[JsonValue]
    seconds: float | None = Field(default=None, ge=0, allow_inf_nan=False, strict=True)
    error: str | None = None
    unavailable: bool = Field(default=False, strict=True)


_Row = TypeVar("_Row", Case, Prediction)


# An escaped character, an escaped pair of surrogates, or (the group) one that has no partner.
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)


def _mended(line: bytes) -> bytes:
    """A line with U+FFFD for surrogates without a partner: JSON can write them, no text is one."""
    return _ESCAPE.sub(lambda found: b"\\ufffd" if found[1] else found[0], line)


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
            row = model.model_validate_json(_mended(line))
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
