"""Errors as data: what went wrong in a call, and what a user did wrong.

A tool's failure never crosses a process boundary as an exception (Ray loses the type of exceptions
with arguments of their own): it is a `ToolError` value in the call's result and in the trace.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

ErrorCode = Literal[
    "outside_vocabulary",
    "outside_range",
    "no_input",
    "bad_input",
    "timeout",
    "worker_lost",
    "internal",
]


class BadInput(ValueError):  # noqa: N818 - named for what the user gave, not for our fault
    """The user's input can't be used. The message is one line: what is wrong, what to do."""


class ToolError(BaseModel):
    """Why a call gave no output.

    Attributes:
        code: machine-readable kind of the failure.
        message: one or two sentences for the user, true and complete.
        missing: for `outside_vocabulary`, the concept that no configured backend knows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    code: ErrorCode
    message: str
    missing: str | None = None


class ToolFailure(Exception):  # noqa: N818 - carries a ToolError, which is the error
    """Raised inside a tool's `run`; the runtime turns it into its `error` value."""

    def __init__(self, error: ToolError) -> None:
        super().__init__(error.message)
        self.error = error
