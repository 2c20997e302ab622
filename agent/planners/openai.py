"""The `openai` planner: any OpenAI-compatible chat endpoint, told the rules in its prompt."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast, get_args

from openai.types.chat import ChatCompletionMessage

from agent.planners import openai_prompt as prompts
from agent.planners.base import Planner, PlannerRequest, Proposal
from agent.planners.openai_endpoint import Endpoint, Refused
from agent.planners.openai_lines import LinesPlanner
from tools.errors import BadInput
from tools.registry import openai_tools

Form = Literal["json", "tools", "text"]
"""How a plan is asked for: one strict JSON object, parallel tool calls, JSON in plain text."""
FORMS: tuple[Form, ...] = get_args(Form)
_REFUSALS: dict[Form, tuple[str, ...]] = {
    "json": ("response_format", "json_schema", "schema", "structured", "grammar"),
    "tools": ("tool", "function"),
    "text": (),
}
"""Words in an endpoint's refusal that tell that it doesn't take the form."""


def from_environment(environment: Mapping[str, str] = os.environ) -> Planner:
    """The planner that the environment describes.

    `HISTOPILOT_OPENAI_FORMAT` is a form of `FORMS`, `lines` for a model that was fine-tuned by our
    recipe (`agent.planners.openai_lines`), or `auto`, the default: the best form that is taken.

    Raises:
        BadInput: there is no such format.
        PlannerUnavailable: see `Endpoint.from_environment`.
    """
    form = environment.get("HISTOPILOT_OPENAI_FORMAT") or "auto"
    if form not in (*FORMS, "lines", "auto"):
        known = ", ".join((*FORMS, "lines", "auto"))
        raise BadInput(f"HISTOPILOT_OPENAI_FORMAT is one of {known}, not {form!r}")
    endpoint = Endpoint.from_environment(environment=environment)
    if form == "lines":
        return LinesPlanner(endpoint)
    return OpenAIPlanner(endpoint, FORMS if form == "auto" else (cast(Form, form),))


class OpenAIPlanner:
    """Plans by a general language model behind an endpoint.

    It starts with the first form of request and steps down where the endpoint refuses it; what the
    endpoint took is remembered for the planner's life. Nothing is sent but the instruction, the
    thread's earlier turns and the tools: no image, no file name.
    """

    name = "openai"
    repairs = True

    def __init__(
        self,
        endpoint: Endpoint,
        forms: Sequence[Form] = FORMS,
        tools: Sequence[dict[str, Any]] | None = None,
    ) -> None:
        """Nothing is sent yet.

        Args:
            endpoint: the model.
            forms: how a plan may be asked for, best first.
            tools: an OpenAI `tools` array; the registry's where it is not given.
        """
        self._endpoint = endpoint
        self._forms = list(forms)
        self._tools = list(openai_tools() if tools is None else tools)
        self._system = prompts.system_prompt(self._tools)

    def info(self) -> dict[str, str]:
        """The endpoint, the model's name there, and the system prompt's hash."""
        template = f"sha256:{hashlib.sha256(self._system.encode()).hexdigest()}"
        decoding = "temperature 0, where the endpoint takes one"
        return {**self._endpoint.info(), "template": template, "decoding": decoding}

    def propose(self, request: PlannerRequest) -> Proposal:
        """Ask for a plan.

        Raises:
            PlannerUnavailable: the endpoint can't be reached or used; says what to do.
        """
        while True:
            form = self._forms[0]
            extra = prompts.FORMAT if form != "tools" else ""
            conversation = prompts.messages(request, f"{self._system}{extra}")
            try:
                message = self._endpoint.chat(conversation, **self._asking(form))
            except Refused as refused:
                if len(self._forms) == 1 or not any(w in refused.said for w in _REFUSALS[form]):
                    raise
                del self._forms[0]
            else:
                prompt = json.dumps({"form": form, "messages": conversation}, ensure_ascii=False)
                return Proposal(raw=_plan_text(message), prompt=prompt)

    def _asking(self, form: Form) -> dict[str, Any]:
        if form == "json":
            schema = prompts.plan_schema(self._tools)
            named = {"name": "plan", "strict": True, "schema": schema}
            return {"response_format": {"type": "json_schema", "json_schema": named}}
        if form == "tools":
            # No tool_choice or parallel_tool_calls: their defaults fit, and some servers refuse
            # the words themselves.
            return {"tools": prompts.strict(self._tools)}
        return {}


def _plan_text(message: ChatCompletionMessage) -> str:
    """What the model wrote, tool calls as JSON; `read_plan` judges it, whatever its shape."""
    said = message.to_dict(mode="json", warnings=False)
    if said.get("tool_calls"):
        return json.dumps({"calls": said["tool_calls"]}, ensure_ascii=False)
    content = said.get("content") or said.get("refusal") or ""
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
