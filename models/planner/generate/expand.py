"""More examples from any OpenAI-compatible model, kept only where a verifier re-derives the plan.

For each generated example the model is asked for paraphrases and for new instructions that fit
the same thread. Two independent planners then plan each text. A paraphrase is kept where both
arrive at the example's plan, a new instruction where both arrive at one plan.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import openai

from models.planner.generate.examples import Example, held_out, words
from models.planner.serialise import Call, Turn, thread_text

TIMEOUT_S = 60.0
RETRIES = 2
MAX_CHARS = 600
"""Longer texts are dropped: nobody types such an instruction."""

_PROMPT = """You rewrite instructions to a histology image assistant that outlines structures, \
counts cells, draws boxes, measures areas and names the tissue of one H&E image. Below is a \
thread: lines that start with ">" are the user's, lines that start with "$" the assistant's tool \
calls, lines that start with "=" their results. The last line is the instruction.
Write {wordings} paraphrases of the last instruction. They must ask for exactly the same, of the \
same structures, with nothing added or left out; vary register, length, order and word choice, in \
the same language. Then write {wordings} new instructions that the same user might send instead, \
about other structures or other wishes.
Answer with JSON only: {{"paraphrases": ["..."], "new": ["..."]}}

{thread}"""


class EndpointMissing(RuntimeError):  # noqa: N818 - named for the state, as users see it
    """The model can't be asked; the message is one line with what to do."""


@dataclass(frozen=True)
class Answer:
    """What the model wrote, and what it cost."""

    text: str
    prompt_tokens: int
    completion_tokens: int


Ask = Callable[[str], Answer]
Planner = Callable[[Sequence[Turn], str], Sequence[Call] | None]
"""Plans an instruction after earlier turns; None where it has no plan."""


@dataclass(frozen=True)
class Verifier:
    """Two independent planners, and whether two plans for a thread are the same."""

    planners: tuple[Planner, Planner]
    same: Callable[[Sequence[Turn], Sequence[Call], Sequence[Call]], bool]

    def plan(self, history: Sequence[Turn], instruction: str) -> Sequence[Call] | None:
        """The plan that both planners arrive at, or None."""
        first = self.planners[0](history, instruction)
        if first is None:
            return None
        second = self.planners[1](history, instruction)
        return first if second is not None and self.same(history, first, second) else None


@dataclass
class Costs:
    """What an expansion took and gave, in requests, tokens and texts."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    unreadable_answers: int = 0
    proposed: int = 0
    duplicates: int = 0
    held_out: int = 0
    not_verified: int = 0
    kept_paraphrases: int = 0
    kept_new: int = 0

    def lines(self) -> Iterator[str]:
        """The report, line by line."""
        for one in fields(self):
            yield f"{one.name.replace('_', ' ')}: {getattr(self, one.name)}"


def endpoint(environment: Mapping[str, str] = os.environ) -> Ask:
    """The model that `OPENAI_API_KEY`, `OPENAI_BASE_URL`, `HISTOPILOT_OPENAI_MODEL` name.

    Raises:
        EndpointMissing: the key or the model's name is not set; asking it, that it failed.
    """
    model = environment.get("HISTOPILOT_OPENAI_MODEL")
    key = environment.get("OPENAI_API_KEY")
    if not model or not key:
        raise EndpointMissing("set OPENAI_API_KEY and HISTOPILOT_OPENAI_MODEL to expand")
    url = environment.get("OPENAI_BASE_URL") or None
    client = openai.OpenAI(api_key=key, base_url=url, timeout=TIMEOUT_S, max_retries=RETRIES)

    def ask(prompt: str) -> Answer:
        try:
            said = client.chat.completions.create(
                model=model, messages=[{"role": "user", "content": prompt}]
            )
            text, usage = said.choices[0].message.content or "", said.usage
        except (openai.OpenAIError, AttributeError, IndexError, TypeError) as error:
            raise EndpointMissing(f"the model {model} did not answer: {error}") from error
        if usage is None:
            return Answer(text, 0, 0)
        return Answer(text, usage.prompt_tokens, usage.completion_tokens)

    return ask


def expand(
    seeds: Iterable[Example], ask: Ask, verifier: Verifier, wordings: int, costs: Costs
) -> Iterator[Example]:
    """Verified variants of `seeds`, each once.

    Args:
        seeds: generated examples.
        ask: the model.
        verifier: re-derives the plan of what it wrote.
        wordings: paraphrases, and new instructions, to ask for per seed.
        costs: is counted up.

    Raises:
        EndpointMissing: the model can't be asked.
    """
    seen: set[tuple[str, str]] = set()
    for seed in seeds:
        thread = thread_text(seed.history, seed.instruction, verbatim=True)
        seen.add((thread_text(seed.history, ""), words(seed.instruction)))
        answer = ask(_PROMPT.format(wordings=wordings, thread=thread))
        costs.requests += 1
        costs.prompt_tokens += answer.prompt_tokens
        costs.completion_tokens += answer.completion_tokens
        read = _read(answer.text)
        if read is None:
            costs.unreadable_answers += 1
            continue
        for kind, texts in read.items():
            for text in texts:
                costs.proposed += 1
                if _fresh(seed, text, seen, costs) and (
                    found := _verified(seed, kind, text, verifier, costs)
                ):
                    yield found


def _read(text: str) -> dict[str, list[str]] | None:
    """The lists of an answer, also out of a code fence; None where it has none."""
    start, end = text.find("{"), text.rfind("}")
    try:
        data: Any = json.loads(text[start : end + 1])
    except ValueError:
        return None
    if not isinstance(data, dict):
        return None
    lists = {kind: data.get(kind) for kind in ("paraphrases", "new")}
    return {
        kind: [" ".join(t.split()) for t in texts if isinstance(t, str) and t.strip()]
        for kind, texts in lists.items()
        if isinstance(texts, list)
    } or None


def _fresh(seed: Example, text: str, seen: set[tuple[str, str]], costs: Costs) -> bool:
    """Whether `text` is new after this thread, and none of the test set's."""
    key = (thread_text(seed.history, ""), words(text))
    if key in seen or len(text) > MAX_CHARS:
        costs.duplicates += 1
        return False
    seen.add(key)
    if held_out(text):
        costs.held_out += 1
        return False
    return True


def _verified(
    seed: Example, kind: str, text: str, verifier: Verifier, costs: Costs
) -> Example | None:
    plan = verifier.plan(seed.history, text)
    paraphrase = kind == "paraphrases"
    if plan is None or (paraphrase and not verifier.same(seed.history, seed.plan, plan)):
        costs.not_verified += 1
        return None
    number = costs.kept_paraphrases + costs.kept_new
    new = replace(seed, id=f"{seed.id}-x{number}", instruction=text, frame=f"llm:{kind}")
    if paraphrase:
        costs.kept_paraphrases += 1
        return replace(new, tags=(*seed.tags, "expanded"), group=seed.group or seed.id)
    costs.kept_new += 1
    return replace(new, plan=plan, tags=("intent:new", seed.tags[1], "expanded"), group=None)
