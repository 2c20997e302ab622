"""A language model behind an OpenAI-compatible endpoint (vLLM, llama.cpp, OpenAI, ...)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import openai
from openai.types.chat import ChatCompletion, ChatCompletionMessage

from agent.planners.base import PlannerUnavailable

TIMEOUT_S = 30.0
RETRIES = 2
"""The client's own, with jittered back-off: connection errors, time-outs, 408, 409, 429, 5xx."""


class Refused(PlannerUnavailable):
    """The endpoint doesn't take the request as it is (400, 422).

    Attributes:
        said: its words, in lower case.
    """

    def __init__(self, message: str, said: str) -> None:
        super().__init__(message)
        self.said = said


class Endpoint:
    """One model at one endpoint, asked greedily; a temperature that it refuses is left out."""

    def __init__(
        self,
        api_key: str,
        model: str,
        base_url: str | None = None,
        timeout_s: float = TIMEOUT_S,
        retries: int = RETRIES,
    ) -> None:
        """Configure the client; nothing is sent yet.

        Args:
            api_key: sent to the endpoint, and never written anywhere.
            model: the model's name at the endpoint.
            base_url: for example `http://127.0.0.1:8000/v1`; None is OpenAI's own.
            timeout_s: seconds that one try may wait for the server.
            retries: tries after the first, on transient errors only.

        Raises:
            PlannerUnavailable: `base_url` is not a URL.
        """
        self.model = model
        self._key = api_key
        self._temperature: dict[str, float] = {"temperature": 0.0}
        self._timeout_s, self._tries = timeout_s, retries + 1
        try:
            self._client = openai.OpenAI(
                api_key=api_key, base_url=base_url, timeout=timeout_s, max_retries=retries
            )
        except ValueError as error:
            raise PlannerUnavailable(f"OPENAI_BASE_URL is not a URL: {error}") from None
        url = self._client.base_url.copy_with(userinfo=b"", query=None)
        self.url = str(url).rstrip("/")

    @classmethod
    def from_environment(
        cls, model: str | None = None, environment: Mapping[str, str] = os.environ
    ) -> Endpoint:
        """The endpoint that `OPENAI_BASE_URL` and `OPENAI_API_KEY` name.

        Args:
            model: the model's name there; by default `HISTOPILOT_OPENAI_MODEL`.
            environment: where to look.

        Raises:
            PlannerUnavailable: the key or the model's name is not set.
        """
        model = model or environment.get("HISTOPILOT_OPENAI_MODEL")
        key = environment.get("OPENAI_API_KEY")
        for name, value, use in (
            ("HISTOPILOT_OPENAI_MODEL", model, "the model's name at the endpoint"),
            ("OPENAI_API_KEY", key, "the endpoint's key, any word for a server without keys"),
        ):
            if not value:
                raise PlannerUnavailable(f"the openai planner needs {name} to be set ({use})")
        return cls(str(key), str(model), environment.get("OPENAI_BASE_URL") or None)

    def info(self) -> dict[str, str]:
        """The endpoint and the model's name there. Never the key."""
        return {"endpoint": self.url, "model": self.model}

    def chat(self, messages: list[dict[str, str]], **more: Any) -> ChatCompletionMessage:
        """The model's answer to a conversation.

        Args:
            messages: the conversation.
            more: further fields of the request.

        Raises:
            Refused: the endpoint does not take one of them.
            PlannerUnavailable: it can't be reached or used; says what to do.
        """
        answer = self._post(messages=messages, **more)
        choices = answer.choices if isinstance(answer, ChatCompletion) else None
        if not isinstance(choices, list) or not choices or choices[0].message is None:
            raise PlannerUnavailable(
                f"{self.url} did not answer with a chat completion: check OPENAI_BASE_URL"
            )
        return choices[0].message

    def _post(self, **body: Any) -> Any:
        while True:
            try:
                create: Any = self._client.chat.completions.create
                return create(model=self.model, **body, **self._temperature)
            except openai.APIStatusError as error:
                if error.status_code not in (400, 422):
                    raise PlannerUnavailable(self._explain(error)) from None
                said = f"{error.message} {error.param or ''}".lower()
                if "temperature" not in said or not self._temperature:
                    raise Refused(self._explain(error), said) from None
                self._temperature = {}
            except (openai.OpenAIError, ValueError) as error:
                raise PlannerUnavailable(self._explain(error)) from None

    def _explain(self, error: Exception) -> str:
        """One line: what is wrong and what to do. The key is not in it, whatever a server says."""
        where = f"the language model at {self.url}"
        match error:
            case openai.APITimeoutError():
                return f"{where} gave no answer within {self._timeout_s:g} s, {self._tries} times"
            case openai.APIConnectionError():
                return f"{where} can't be reached: check OPENAI_BASE_URL and that it is running"
            case openai.AuthenticationError() | openai.PermissionDeniedError():
                return f"{where} refused the key ({error.status_code}): check OPENAI_API_KEY"
            case openai.NotFoundError():
                return (
                    f"{where} has no model {self.model!r} or no chat completions (404): "
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
