"""The embedded language model: base, adapter, and greedy decoding that only writes valid plans."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import DynamicCache

from models.planner.base import converted_base
from models.planner.fetch import GGUF_NAME, GGUF_SHA256, file_sha256
from models.planner.grammar import PlanState
from models.planner.lora import load_model
from models.planner.outline import Outline
from models.planner.serialise import (
    Call,
    Turn,
    parse_plan,
    plan_lines,
    prompt_text,
    template,
    thread_text,
)
from models.planner.tokens import PlanTokenizer
from models.planner.writer import Writer, one_thread

ADAPTER = Path(__file__).with_name("adapter.safetensors")
MAX_PROMPT_TOKENS = 2048


class PromptTooLong(ValueError):  # noqa: N818 - named for what the user gave
    """The instruction doesn't fit the embedded model's prompt. The message is one line."""


@dataclass(frozen=True)
class Rival:
    """Another plan than the model's own, for the model to weigh.

    Attributes:
        plan: the calls, valid under the contract; or an outline that the thread admits, and the
            model writes what it finds the likeliest within it.
        margin: how much less likely than its own plan the model may find it, in nats, and it wins.
        source: who says so, for traces.
    """

    plan: Sequence[Call] | Outline
    margin: float
    source: str


Rivals = Callable[[list[Call]], Sequence[Rival]]
"""Gives the rivals of the plan that the model wrote."""


@dataclass(frozen=True)
class Decoded:
    """What the model wrote, or chose.

    Attributes:
        calls: the plan; valid under the contract where decoding was constrained.
        text: the plan's lines.
        prompt: the prompt's whole text.
        source: of the rival that was chosen; empty where it is the model's own plan.
    """

    calls: list[Call]
    text: str
    prompt: str
    source: str = ""


class Decoder:
    """The loaded planner model. Calls keep no state; several threads may share one."""

    def __init__(
        self,
        base: Path | None = None,
        adapter: Path | None = ADAPTER,
        examples: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Load the model.

        Args:
            base: a converted base; by default the cached one, converted first where needed.
            adapter: the LoRA adapter to merge, None for none.
            examples: threads and plans that stand before every prompt. The model reads them once.

        Raises:
            BaseModelMissing: no base model on this machine.
        """
        base = base or converted_base()
        tokenizer_file = base / "tokenizer.json"
        self.tokenizer = PlanTokenizer(tokenizer_file)
        self.writer = Writer(load_model(base, adapter), self.tokenizer, tokenizer_file, examples)
        self.info = {
            "base": f"{GGUF_NAME} sha256:{GGUF_SHA256}",
            "adapter": f"sha256:{file_sha256(adapter)}" if adapter else "none",
            "template": template(),
            "tokenizer": f"sha256:{file_sha256(tokenizer_file)}",
        }

    def plan(
        self,
        history: Sequence[Turn],
        instruction: str,
        *,
        constrained: bool = True,
        rivals: Rivals | None = None,
    ) -> Decoded:
        """Write the plan for `instruction`, greedily, and weigh it against its rivals.

        The oldest turns are left out of a prompt that would be too long.

        Args:
            history: the thread's earlier turns, oldest first.
            instruction: what the user asks now.
            constrained: allow only lines of `line_pattern`. Off, the bare model writes, for
                evaluation: then the plan may be invalid.
            rivals: other plans that may be meant; only with `constrained`.

        Raises:
            PromptTooLong: the instruction alone has more than `MAX_PROMPT_TOKENS` tokens.
            PlanSyntaxError: unconstrained, and what came out is not a plan.
        """
        thread, ids = self._fit(history, instruction)
        state = PlanState.after(history)
        first = state.number
        with one_thread(), torch.inference_mode():
            if not constrained:
                text = self.writer.write_any(ids)
                return Decoded(parse_plan(text, first, state.results), text, prompt_text(thread))
            text, cache = self.writer.write_lines(ids, state)
            own = Decoded(parse_plan(text, first, state.results), text, prompt_text(thread))
            found = rivals(own.calls) if rivals else ()
            if not found:
                return own
            self.writer.unread(ids, cache)
            plans = [(self._rival(one, own, history, ids, cache), one.margin) for one in found]
            return self._weighed(own, plans, ids[-1], cache)

    def _rival(
        self,
        rival: Rival,
        own: Decoded,
        history: Sequence[Turn],
        ids: list[int],
        cache: DynamicCache,
    ) -> Decoded | None:
        """The plan of `rival`, None where it has none: its outline's tissue check is a repetition.

        `cache` holds the prompt `ids` but for its last token, and is left as it is.
        """
        state = PlanState.after(history)
        first = state.number
        if not isinstance(rival.plan, Outline):
            text = "\n".join(plan_lines(rival.plan, first))
            return Decoded([*rival.plan], text, own.prompt, rival.source)
        text, _ = self.writer.write_lines(ids, state, cache, rival.plan)
        if not text:
            return None
        return Decoded(parse_plan(text, first, state.results), text, own.prompt, rival.source)

    def _weighed(
        self,
        own: Decoded,
        rivals: Sequence[tuple[Decoded | None, float]],
        last: int,
        cache: DynamicCache,
    ) -> Decoded:
        """The likeliest of the model's own plan and its rivals, each of them with its margin.

        Args:
            own: the model's plan.
            rivals: the others, None where there is none.
            last: the prompt's last token.
            cache: what the model has read: the prompt but for that token.
        """
        best, most = own, self.writer.likelihood(own.text, last, cache)
        for rival, margin in rivals:
            if rival is None:
                continue
            score = self.writer.likelihood(rival.text, last, cache) + margin
            if score > most:
                best, most = rival, score
        return best

    def _fit(self, history: Sequence[Turn], instruction: str) -> tuple[str, list[int]]:
        for first in range(len(history) + 1):
            thread = thread_text(history, instruction, first)
            ids = self.tokenizer.prompt(thread)
            if len(ids) <= MAX_PROMPT_TOKENS:
                return thread, ids
        raise PromptTooLong(
            f"the instruction is {len(ids)} tokens long; "
            f"the local planner reads at most {MAX_PROMPT_TOKENS}"
        )
