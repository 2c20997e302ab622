"""The `openai` planner: any OpenAI-compatible chat endpoint (vLLM, llama.cpp, OpenAI, ...)."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import openai
from openai.types.chat import ChatCompletion, ChatCompletionMessage

from agent.planners import openai_prompt as prompts
from agent.planners.base import PlannerRequest, PlannerUnavailable, Proposal
from tools.registry import openai_tools

TIMEOUT_S = 30.0
RETRIES = 2
"""The client's own, with jittered back-off: connection errors, time-outs, 408, 409, 429, 5xx."""

FORMS = ("json_schema", "tool_calls", "text")
"""How a plan is asked for, best first: one strict JSON object, tool calls, JSON in plain text."""
_REFUSALS = {
    "json_schema": ("response_format", "json_schema", "schema", "structured", "grammar"),
    "tool_calls": ("tool", "function"),
}
"""Words in an endpoint's 400 or 422 that tell that it doesn't take the form."""


class OpenAIPlanner:
    """Plans by a language model behind an OpenAI-compatible endpoint.

    It starts with the best form of request and steps down where the endpoint refuses it; what the
    endpoint took is remembered for the planner's life. Nothing is sent but the instruction, the
    thread's earlier turns and the tools: no image, no file name.
    """

    name = "openai"
    repairs = True

    def __init__(
        self,
        api_key: str,
        model: str,
        base_url: str | None = None,
        tools: Sequence[dict[str, Any]] | None = None,
        timeout_s: float = TIMEOUT_S,
        retries: int = RETRIES,
    ) -> None:
        """Configure the client; nothing is sent yet.

        Args:
            api_key: sent to the endpoint, and never written anywhere.
            model: the model's name at the endpoint.
            base_url: for example `http://127.0.0.1:8000/v1`; None is OpenAI's own.
            tools: an OpenAI `tools` array; the registry's where it is not given.
            timeout_s: seconds that one try may take.
            retries: tries after the first, on transient errors only.

        Raises:
            PlannerUnavailable: `base_url` is not a URL.
        """
        self._tools = list(openai_tools() if tools is None else tools)
        self._system = prompts.system_prompt(self._tools)
        self._model = model
        self._key = api_key
        self._form = 0
        self._temperature: dict[str, float] = {"temperature": 0.0}
        self._tries = retries + 1
        try:
            self._client = openai.OpenAI(
                api_key=api_key, base_url=base_url, timeout=timeout_s, max_retries=retries
            )
        except ValueError as error:
            raise PlannerUnavailable(f"OPENAI_BASE_URL is not a URL: {error}") from None
        url = self._client.base_url.copy_with(userinfo=b"", query=None)
        self.endpoint = str(url).rstrip("/")
        self._timeout_s = timeout_s

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> OpenAIPlanner:
        """The planner that `OPENAI_API_KEY`, `HISTOPILOT_OPENAI_MODEL`, `OPENAI_BASE_URL` name.

        Raises:
            PlannerUnavailable: one of the first two is not set.
        """
        for name, use in (
            ("HISTOPILOT_OPENAI_MODEL", "the model's name at the endpoint"),
            ("OPENAI_API_KEY", "the endpoint's key, any word for a server without keys"),
        ):
            if not environment.get(name):
                raise PlannerUnavailable(f"the openai planner needs {name} to be set ({use})")
        return cls(
            environment["OPENAI_API_KEY"],
            environment["HISTOPILOT_OPENAI_MODEL"],
            environment.get("OPENAI_BASE_URL") or None,
        )

    def info(self) -> dict[str, str]:
        """The endpoint, the model's name there, and the system prompt's hash. Never the key."""
        return {
            "endpoint": self.endpoint,
            "model": self._model,
            "template": f"sha256:{hashlib.sha256(self._system.encode()).hexdigest()}",
        }

    def propose(self, request: PlannerRequest) -> Proposal:
        """Ask for a plan.

        Raises:
            PlannerUnavailable: the endpoint can't be reached or used; says what to do.
        """
        while True:
            form = FORMS[self._form]
            extra = prompts.FORMAT if form != "tool_calls" else ""
            conversation = prompts.messages(request, f"{self._system}{extra}")
            body: dict[str, Any] = {"model": self._model, "messages": conversation}
            body |= self._temperature | self._asking(form)
            try:
                answer = self._client.chat.completions.create(**body)
            except openai.APIStatusError as error:
                if not self._step_down(error, form):
                    raise PlannerUnavailable(self._explain(error)) from None
            except (openai.OpenAIError, ValueError) as error:
                raise PlannerUnavailable(self._explain(error)) from None
            else:
                prompt = json.dumps({"form": form, "messages": conversation}, ensure_ascii=False)
                return Proposal(raw=_plan_text(self._message(answer)), prompt=prompt)

    def _asking(self, form: str) -> dict[str, Any]:
        if form == "json_schema":
            schema = prompts.plan_schema(self._tools)
            named = {"name": "plan", "strict": True, "schema": schema}
            return {"response_format": {"type": "json_schema", "json_schema": named}}
        if form == "tool_calls":
            # No tool_choice or parallel_tool_calls: their defaults fit, and some servers refuse
            # the words themselves.
            return {"tools": prompts.strict(self._tools)}
        return {}

    def _step_down(self, error: openai.APIStatusError, form: str) -> bool:
        """Whether the endpoint refused something that can be left out; it is, from now on."""
        if error.status_code not in (400, 422):
            return False
        said = f"{error.message} {error.param or ''}".lower()
        if "temperature" in said and self._temperature:
            self._temperature = {}
            return True
        if any(word in said for word in _REFUSALS.get(form, ())):
            self._form = FORMS.index(form) + 1
            return True
        return False

    def _message(self, answer: Any) -> ChatCompletionMessage:
        """The first choice's message, whatever an endpoint passes off as a completion."""
        choices = answer.choices if isinstance(answer, ChatCompletion) else None
        if not isinstance(choices, list) or not choices or choices[0].message is None:
            raise PlannerUnavailable(
                f"{self.endpoint} did not answer with a chat completion: check OPENAI_BASE_URL"
            )
        return choices[0].message

    def _explain(self, error: Exception) -> str:
        """One line: what is wrong and what to do. The key is not in it, whatever a server says."""
        where = f"the language model at {self.endpoint}"
        match error:
            case openai.APITimeoutError():
                return f"{where} gave no answer within {self._timeout_s:g} s, {self._tries} times"
            case openai.APIConnectionError():
                return f"{where} can't be reached: check OPENAI_BASE_URL and that it is running"
            case openai.AuthenticationError() | openai.PermissionDeniedError():
                return f"{where} refused the key ({error.status_code}): check OPENAI_API_KEY"
            case openai.NotFoundError():
                return (
                    f"{where} has no model {self._model!r} or no chat completions (404): "
                    f"check HISTOPILOT_OPENAI_MODEL and OPENAI_BASE_URL"
                )
            case openai.RateLimitError():
                return f"{where} is over its rate limit (429), {self._tries} times: try again later"
            case openai.APIStatusError():
                said = error.message.removeprefix(f"Error code: {error.status_code} - ")
                said = " ".join(said.replace(self._key, "[key]").split())[:200]
                return f"{where} answered {error.status_code}: {said}"
            case _:
                return f"{where} gave an answer that can't be read ({type(error).__name__})"


def _plan_text(message: ChatCompletionMessage) -> str:
    """What the model wrote, tool calls as JSON; `read_plan` judges it, whatever its shape."""
    said = message.to_dict(mode="json", warnings=False)
    if said.get("tool_calls"):
        return json.dumps({"calls": said["tool_calls"]}, ensure_ascii=False)
    content = said.get("content") or said.get("refusal") or ""
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
