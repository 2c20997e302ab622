"""The `openai` planner for a model that was fine-tuned by our recipe (`models.planner.train`).

Thread, plan form and grammar are those of `models.planner`: what the model was trained on, and what
the embedded planner decodes. Nothing about tools or rules is in the prompt.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from agent.planners.base import PlannerRequest, Proposal
from agent.planners.openai_endpoint import Endpoint, Refused
from agent.planners.serialised import plain_turns, proposal_of
from models.planner.grammar import PlanState, write_plan
from models.planner.serialise import PlanSyntaxError, parse_plan, template, thread_text

MAX_TOKENS = 512
"""The most that one request may write; a line has 12 words of 32 characters at most."""

Messages = list[dict[str, str]]


class _Unheld(Exception):  # noqa: N818 - not an error: how the answer came
    """The endpoint took the expression and did not keep to it; holds all that was written."""


class LinesPlanner:
    """Plans by a fine-tuned model behind an endpoint such as vLLM's, in the model's own chat form.

    A request asks for one line and holds it to the line's expression by vLLM's
    `structured_outputs`, so every plan is valid; the server keeps the prompt in its prefix cache.
    Of an endpoint that ignores or refuses this, one answer is the whole plan, which is validated
    like any other; a refusal is remembered.

    Feedback is not looked at: the model was not trained to read it.
    """

    name = "openai"
    repairs = False

    def __init__(self, endpoint: Endpoint) -> None:
        """Nothing is sent yet."""
        self._endpoint = endpoint
        self._held = True

    def info(self) -> dict[str, str]:
        """The endpoint, the model's name there, the prompt form's name, how text is decoded."""
        return {**self._endpoint.info(), "template": template(), "decoding": "greedy"}

    def propose(self, request: PlannerRequest) -> Proposal:
        """Ask for a plan.

        Raises:
            PlannerUnavailable: the endpoint can't be reached or used; says what to do.
        """
        history = plain_turns(request)
        thread = thread_text(history, request.instruction)
        # The server reads special tokens in what it is sent: a user's own must be plain text.
        asked = [{"role": "user", "content": thread.replace("<|", "< |")}]
        prompt = json.dumps({"form": "lines", "messages": asked}, ensure_ascii=False)
        text = self._write(asked, PlanState.after(history))
        state = PlanState.after(history)
        try:
            calls = parse_plan(text, state.number, state.results)
        except PlanSyntaxError:
            return Proposal(raw=text, prompt=prompt)
        return proposal_of(calls, prompt)

    def _write(self, asked: Messages, state: PlanState) -> str:
        """The plan's lines, held to their expressions where the endpoint can."""

        def write_line(pattern: str, lines: Sequence[str]) -> str:
            # Chat templates strip a message, so a line break goes before the new line instead.
            written, opening = "\n".join(lines), "\n" if lines else ""
            constraint = {"structured_outputs": {"regex": opening + pattern}}
            text = self._ask(asked, written, constraint)
            if re.fullmatch(opening + pattern, text) is None:
                raise _Unheld(written + text)
            return text.removeprefix(opening)

        if self._held:
            try:
                return write_plan(state, write_line)
            except _Unheld as unheld:
                return str(unheld).rstrip()
            except Refused as refused:
                if "structured_outputs" not in refused.said:
                    raise
                self._held = False
        return self._ask(asked, "", {}).rstrip()

    def _ask(self, asked: Messages, written: str, extra: dict[str, Any]) -> str:
        """What the model writes after `written`, the beginning of its answer."""
        messages = asked
        if written:
            messages = [*asked, {"role": "assistant", "content": written}]
            extra = {**extra, "continue_final_message": True, "add_generation_prompt": False}
        answer = self._endpoint.chat(messages, max_tokens=MAX_TOKENS, extra_body=extra)
        return answer.content or ""
