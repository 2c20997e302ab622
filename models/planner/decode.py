"""The embedded language model: base, adapter, and greedy decoding that only writes valid plans."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from models.planner.base import converted_base
from models.planner.fetch import GGUF_NAME, GGUF_SHA256, file_sha256
from models.planner.grammar import PlanState
from models.planner.llama import Memory
from models.planner.lora import load_model
from models.planner.outline import Outline
from models.planner.reuse import without_repeats
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
        text: the plan's lines, without repetitions.
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
        with one_thread():
            model = load_model(base, adapter)
        self.writer = Writer(model, self.tokenizer, tokenizer_file, examples)
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
        hint: Sequence[Call] = (),
    ) -> Decoded:
        """Write the plan for `instruction`, greedily, and weigh it against its rivals.

        The oldest turns are left out of a prompt that would be too long.

        Args:
            history: the thread's earlier turns, oldest first.
            instruction: what the user asks now.
            constrained: allow only lines of `line_pattern`. Off, the bare model writes, for
                evaluation: then the plan may be invalid.
            rivals: other plans that may be meant; only with `constrained`.
            hint: a plan that the model may write too, or in part: that is then faster.

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
            memory = self.writer.primed()
            likely = self.writer.tokenizer.written("\n".join(plan_lines(hint, first)))
            text = self.writer.write_lines(ids, state, memory, [*ids, *likely])
            own = Decoded(parse_plan(text, first, state.results), text, prompt_text(thread))
            if found := rivals(own.calls) if rivals else ():
                memory.length = len(self.writer.static) + len(ids) - 1
                own = self._weighed(own, found, history, ids, memory)
            return _reused(own, history)

    def _weighed(
        self,
        own: Decoded,
        rivals: Sequence[Rival],
        history: Sequence[Turn],
        ids: list[int],
        memory: Memory,
    ) -> Decoded:
        """The likeliest of the model's own plan and its rivals, each of them with its margin.

        The plans that are written already are read in one pass; then what an outline makes is
        written, as long as it can still win. A plan that only repeats what the thread has wins
        over none.

        Args:
            own: the model's plan.
            rivals: the others.
            history: the thread's earlier turns.
            ids: the prompt.
            memory: what the model has read: the prompt but for its last token.
        """
        first = PlanState.after(history).number
        plans, margins = [own], [0.0]
        for rival in rivals:
            if not isinstance(rival.plan, Outline):
                text = "\n".join(plan_lines(rival.plan, first))
                plans.append(Decoded([*rival.plan], text, own.prompt, rival.source))
                margins.append(rival.margin)
        likely = self.writer.likelihoods([plan.text for plan in plans], ids[-1], memory)
        scores = [
            score + margin if without_repeats(plan.calls, history) else -math.inf
            for plan, score, margin in zip(plans, likely, margins, strict=True)
        ]
        most, best = max(scores), plans[scores.index(max(scores))]
        hint = [*ids, *self.tokenizer.written(own.text)]
        for rival in rivals:
            if isinstance(rival.plan, Outline):
                state, least = PlanState.after(history), most - rival.margin
                text, score = self._within(rival.plan, state, ids[-1], memory, hint, least)
                calls = parse_plan(text, first, state.results) if score > least else []
                if without_repeats(calls, history):
                    best = Decoded(calls, text, own.prompt, rival.source)
                    most = score + rival.margin
        return best

    def _within(
        self,
        outline: Outline,
        state: PlanState,
        last: int,
        memory: Memory,
        hint: list[int],
        least: float,
    ) -> tuple[str, float]:
        """What the model writes within `outline`, and its log probability.

        That is minus infinity where there is no such plan: it is less likely than `least`, or the
        outline's tissue check is a repetition. `memory` is left as it is.
        """
        read = memory.length
        text = self.writer.write_lines([last], state, memory, hint, outline, least)
        memory.length = read
        return text, self.writer.likelihoods([text], last, memory)[0] if text else -math.inf

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


def _reused(plan: Decoded, history: Sequence[Turn]) -> Decoded:
    """`plan` without what repeats a call, unless that is all of it."""
    calls = without_repeats(plan.calls, history)
    if not calls or calls == plan.calls:
        return plan
    first = PlanState.after(history).number
    return replace(plan, calls=calls, text="\n".join(plan_lines(calls, first)))
