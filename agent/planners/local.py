"""The `local` planner: the embedded language model with our adapter, on the CPU, offline."""

from __future__ import annotations

import unicodedata
from functools import cached_property
from typing import TYPE_CHECKING

from agent.planners.base import PlannerRequest, PlannerUnavailable, Proposal
from agent.planners.serialised import plain_turns, proposal_of
from models.planner.fetch import BaseModelMissing, converted_folder, ensure_base
from models.planner.fewshot import EXAMPLES
from models.planner.serialise import PlanSyntaxError

if TYPE_CHECKING:
    from models.planner.decode import Decoder
    from models.planner.outliner import Outliner


OTHER_SCRIPT = (
    "I read English and other languages in Latin script. Please put the instruction so, "
    "or use the openai planner with a model that reads it."
)


class LocalPlanner:
    """Plans by SmolLM2-135M-Instruct with the adapter in `models/planner`.

    Decoding is greedy and constrained, and a second opinion is weighed: every proposal is a valid
    plan, and the same request has the same one. Feedback is therefore not looked at: there are no
    faults to mend, and the model was not trained to read them.
    """

    repairs = False

    def __init__(
        self,
        name: str = "local",
        *,
        adapted: bool = True,
        constrained: bool = True,
        advised: bool = True,
    ) -> None:
        """Check that the base model is there; it is loaded at the first proposal.

        Args:
            name: what it is called in traces.
            adapted: with our adapter; else the bare base model, which is shown examples.
            constrained: allow only valid plans. Off, to measure what that is worth: what the model
                writes may then be none.
            advised: with a second opinion (`agent.planners.second`). Off, to measure its worth.

        Raises:
            PlannerUnavailable: the base model is not on this machine.
        """
        self.name = name
        self._adapted, self._constrained = adapted, constrained
        self._advised = adapted and constrained and advised
        try:
            if not converted_folder().is_dir():
                ensure_base(fetch=False)
        except BaseModelMissing as missing:
            raise PlannerUnavailable(str(missing)) from missing

    @cached_property
    def _decoder(self) -> Decoder:
        from models.planner.decode import Decoder  # seconds of imports, only where it plans

        try:
            return Decoder() if self._adapted else Decoder(adapter=None, examples=EXAMPLES)
        except BaseModelMissing as missing:
            raise PlannerUnavailable(str(missing)) from missing

    @cached_property
    def _outliner(self) -> Outliner:
        from models.planner.outliner import Outliner

        return Outliner()

    def info(self) -> dict[str, str]:
        """The hashes of base model and adapter, the prompt form's name, how text is decoded."""
        decoding = "greedy, within the grammar" if self._constrained else "greedy"
        if not self._advised:
            return {**self._decoder.info, "decoding": decoding}
        from agent.planners.second import margins

        decoding += f"; second opinion: {margins()}"
        return {**self._decoder.info, "outline": self._outliner.digest, "decoding": decoding}

    def propose(self, request: PlannerRequest) -> Proposal:
        """Plan for `request.instruction` in the light of its history.

        What the model can't read, other scripts and instructions beyond its length, it is not
        asked: the plan is a reply that says so.

        Raises:
            PlannerUnavailable: the base model is not on this machine, or is damaged.
        """
        from agent.planners.second import by_rules, rivals
        from models.planner.decode import PromptTooLong

        history, said = plain_turns(request), request.instruction
        if _other_script(request.instruction):
            return _ask_back(OTHER_SCRIPT)
        ruled = by_rules(history, said) if self._advised else []
        try:
            decoded = self._decoder.plan(
                history,
                said,
                constrained=self._constrained,
                rivals=(
                    (lambda own: rivals(history, said, own, ruled, self._outliner))
                    if self._advised
                    else None
                ),
                hint=ruled,
            )
        except PromptTooLong as too_long:
            return _ask_back(f"I can't read that: {too_long}. Please say it more briefly.")
        except PlanSyntaxError as wrong:
            return Proposal(raw=str(wrong))
        return proposal_of(decoded.calls, decoded.prompt)


def _ask_back(text: str) -> Proposal:
    return proposal_of([{"tool": "reply", "args": {"kind": "clarify", "text": text}}])


def _other_script(text: str) -> bool:
    """Whether most of the letters are of a script that the model was never trained on."""
    letters = [char for char in text if char.isalpha()]
    latin = sum("LATIN" in unicodedata.name(char, "") for char in letters)
    return 2 * latin < len(letters)
