"""The judgement of a plan: the layers that it has to get through, and a code for each failure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict

from eval.signatures import SchemaCode

FailureCode = (
    SchemaCode
    | Literal[
        "no_prediction",
        "unavailable",
        "not_parsed",
        "unexpected_reply",
        "missing_reply",
        "wrong_kind",
        "missing_call",
        "extra_call",
        "duplicate_call",
        "wrong_tool",
        "wrong_argument",
        "wrong_reference",
    ]
)
LAYERS: Mapping[str, tuple[FailureCode, ...]] = {
    "answered": ("no_prediction", "unavailable"),
    "parsed": ("not_parsed",),
    "valid": get_args(SchemaCode),
    "decision": ("unexpected_reply", "missing_reply", "wrong_kind"),
    "tools": ("missing_call", "extra_call", "duplicate_call", "wrong_tool"),
    "arguments": ("wrong_argument",),
    "references": ("wrong_reference",),
}
"""What a plan has to get through, and the codes of those that stop there. `decision` is whether to
reply, and how: a refusal is a valid `reply` call, and nothing that can't be read counts as one.
`tools` includes minimality, `valid` the order that references demand."""
FAILURE_CODES: tuple[FailureCode, ...] = tuple(code for codes in LAYERS.values() for code in codes)
"""From the grossest failure to the finest; the first that applies is a plan's code."""
UNSCORED: frozenset[FailureCode | None] = frozenset(LAYERS["answered"])
"""The codes of cases that no plan was given for: not a trial, where trials are counted."""


class Verdict(BaseModel):
    """The judgement of one plan.

    Attributes:
        passed: whether it is one of the accepted plans.
        code: for a failure, the first of `FAILURE_CODES` that applies against the closest
            accepted plan.
        detail: one line that says what differs; empty for a pass.
        ordered: for a pass, whether the calls also stand in the accepted plan's order: the tissue
            check first, targets as the user names them. Either order is right.
        tools: for a plan that could be read, its calls beside the closest accepted plan's, as
            (expected tool, given tool); None where one has no partner.
    """

    model_config = ConfigDict(frozen=True)

    passed: bool
    code: FailureCode | None = None
    detail: str = ""
    ordered: bool = False
    tools: tuple[tuple[str | None, str | None], ...] = ()
