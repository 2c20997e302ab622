"""`reply`: no tool looks at the image; the planner answers, asks back or declines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from tools.base import Arguments, Output, Scene, Tool


class ReplyArguments(Arguments):
    """What to say, and what kind of saying it is."""

    kind: Literal["clarify", "decline", "answer"]
    text: str = Field(min_length=1)


class ReplyOutput(Output):
    """Nothing was measured."""


class Reply(Tool[ReplyArguments, ReplyOutput]):
    """A question back, a refusal with its reason, or a plain answer."""

    name = "reply"
    version = "1"
    description = "Answer without running a tool: ask back, decline, or answer a general question."
    arguments = ReplyArguments
    output = ReplyOutput

    def run(self, args: ReplyArguments, scene: Scene) -> ReplyOutput:
        """Nothing to look at."""
        del args, scene
        return ReplyOutput()

    def line(self, args: ReplyArguments, output: ReplyOutput) -> str:
        """The planner's own text."""
        del output
        return args.text

    def sentence(self, args: ReplyArguments, output: ReplyOutput, names: Mapping[str, str]) -> str:
        """The planner's own text."""
        del output, names
        return args.text
