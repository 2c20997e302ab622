"""What a planner is: it is shown a thread and an instruction, and proposes the text of a plan."""

from __future__ import annotations

from typing import Protocol

from pydantic import BaseModel, ConfigDict

from agent.plan import Turn


class PlannerRequest(BaseModel):
    """What a planner is shown. The image is not: it belongs to the tools.

    Attributes:
        instruction: the user's words.
        history: the thread's earlier turns.
        feedback: the faults of its last proposal, where it is asked to mend it.
    """

    model_config = ConfigDict(frozen=True)

    instruction: str
    history: tuple[Turn, ...] = ()
    feedback: str | None = None


class Proposal(BaseModel):
    """What a planner wrote.

    Attributes:
        raw: its output, for `agent.plan.read_plan`.
        prompt: exactly what the model was given, where there is a model; recorded in the trace.
        instead: where another planner wrote it than was asked: its name and `info()`, and the
            `reason`.
    """

    model_config = ConfigDict(frozen=True)

    raw: str
    prompt: str | None = None
    instead: dict[str, str] | None = None


class Planner(Protocol):
    """Decomposes instructions into plans."""

    name: str
    repairs: bool
    """Whether asking again with feedback can give another answer."""

    def info(self) -> dict[str, str]:
        """What its output depends on: names, versions and hashes of weights and templates."""
        ...

    def propose(self, request: PlannerRequest) -> Proposal:
        """Propose a plan.

        Raises:
            PlannerUnavailable: its model can't be reached or loaded.
        """
        ...


class PlannerUnavailable(RuntimeError):  # noqa: N818 - named for the state, as users see it
    """The planner's model can't be used; the message is one line with what to do."""
