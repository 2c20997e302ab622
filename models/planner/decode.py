"""The embedded language model: base, adapter, and greedy decoding that only writes valid plans."""

from __future__ import annotations

import copy
import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from llguidance import LLMatcher, LLTokenizer
from transformers import DynamicCache

from models.planner.base import converted_base
from models.planner.fetch import GGUF_NAME, GGUF_SHA256, file_sha256
from models.planner.grammar import PlanState, write_plan
from models.planner.lora import load_model
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

ADAPTER = Path(__file__).with_name("adapter.safetensors")
MAX_PROMPT_TOKENS = 2048
MAX_FREE_TOKENS = 128
"""Where an unconstrained plan is cut off. A constrained one is bounded by its grammar."""


class PromptTooLong(ValueError):  # noqa: N818 - named for what the user gave
    """The instruction doesn't fit the embedded model's prompt. The message is one line."""


@dataclass(frozen=True)
class Rival:
    """Another plan than the model's own, for the model to weigh.

    Attributes:
        calls: the plan, valid under the contract.
        margin: how much less likely than its own plan the model may find it, in nats, and it wins.
        source: who says so, for traces.
    """

    calls: Sequence[Call]
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


_decoding = threading.Lock()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run torch on one thread, one caller at a time.

    Reading a token is a few hundred matrix-vector products of half a millisecond, bound by memory:
    a second thread gains little on an idle machine, and on a busy one the threads' spinning at
    each product's end makes a plan ten times slower. The lock keeps the setting, which is the
    process's own, from being restored in the wrong order.
    """
    with _decoding:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)


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
        self.model = load_model(base, adapter)
        known = inspect.signature(self.model.forward).parameters
        self._memory = "cache" if "cache" in known else "past_key_values"  # as older versions say
        tokenizer_file = base / "tokenizer.json"
        self.tokenizer = PlanTokenizer(tokenizer_file)
        self._grammar_tokens = LLTokenizer(
            tokenizer_file.read_text(encoding="utf-8"), eos_token=self.tokenizer.end
        )
        after = self.tokenizer.inner.encode("\n").ids
        self._static = [
            token
            for thread, plan in examples
            for token in (*self.tokenizer.example(thread, plan)[0], *after)
        ]
        self._static_cache: DynamicCache | None = None
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
        with _one_thread(), torch.inference_mode():
            if not constrained:
                text = self._write_any(ids)
                return Decoded(parse_plan(text, first, state.results), text, prompt_text(thread))
            text, cache = self._write_lines(ids, state)
            own = Decoded(parse_plan(text, first, state.results), text, prompt_text(thread))
            return self._weighed(own, rivals(own.calls) if rivals else (), first, ids, cache)

    def _weighed(
        self,
        own: Decoded,
        rivals: Sequence[Rival],
        first: int,
        ids: list[int],
        cache: DynamicCache,
    ) -> Decoded:
        """The likeliest of the model's own plan and its rivals, each of them with its margin.

        Args:
            own: the model's plan.
            rivals: the others.
            first: the number of the plans' first call.
            ids: the prompt.
            cache: what the model has read: examples, prompt, plan.
        """
        if not rivals:
            return own
        unread = len(self._static) + len(ids) - 1 - cache.get_seq_length()
        cache.crop(unread)
        best, most = own, self._likelihood(own.text, ids[-1], cache)
        for rival in rivals:
            text = "\n".join(plan_lines(rival.calls, first))
            score = self._likelihood(text, ids[-1], cache) + rival.margin
            if score > most:
                best, most = Decoded([*rival.calls], text, own.prompt, rival.source), score
        return best

    def _likelihood(self, text: str, last: int, cache: DynamicCache) -> float:
        """The log probability of a plan's text after the prompt, whose `last` token is unread."""
        written = self.tokenizer.written(text)
        logits = self._read([last, *written[:-1]], cache)
        cache.crop(-len(written))
        return float(logits.log_softmax(-1).gather(1, torch.tensor(written)[:, None]).sum())

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

    def _primed(self) -> DynamicCache:
        """A cache in which the model has read the examples, and nothing else.

        Only what never changes is kept: how a prompt is cut into passes shows in the last digits
        of its scores, so a cache that depended on earlier plans would make plans depend on them.
        """
        if self._static_cache is None:
            self._static_cache = DynamicCache(config=self.model.config)
            if self._static:
                self._scores(self._static, self._static_cache)
        return copy.deepcopy(self._static_cache)

    def _write_lines(self, ids: list[int], state: PlanState) -> tuple[str, DynamicCache]:
        """Lines of valid plan, one grammar a line, until the model ends at a line's end.

        Returns:
            The lines, and the cache of what the model has read: all but the last few tokens.
        """
        cache, pending = self._primed(), ids

        def write_line(pattern: str, lines: Sequence[str]) -> str:
            nonlocal cache, pending
            if not lines:  # the first line, also where it is written anew
                cache, pending = self._primed(), ids
            grammar = LLMatcher.grammar_from_regex(pattern)
            matcher = LLMatcher(self._grammar_tokens, grammar)
            line, pending = self._write_line(pending, cache, matcher)
            return line

        return write_plan(state, write_line), cache

    def _write_line(
        self, pending: list[int], cache: DynamicCache, matcher: LLMatcher
    ) -> tuple[str, list[int]]:
        """One line, and the tokens of it that the model has not read yet."""
        written: list[int] = []
        while True:
            # What the grammar leaves no choice about costs no pass through the model.
            forced = matcher.compute_ff_tokens()
            matcher.consume_tokens(forced)
            written += forced
            pending = pending + forced
            if matcher.is_stopped():
                break
            scores = self._scores(pending, cache)
            allowed = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
            scores[np.unpackbits(allowed, bitorder="little")[: scores.size] == 0] = -np.inf
            token = int(scores.argmax())
            if token == self.tokenizer.end:
                break
            matcher.consume_token(token)
            written.append(token)
            pending = [token]
        if matcher.is_error():
            raise RuntimeError(f"the plan grammar failed: {matcher.get_error()}")
        return self.tokenizer.decode(written), pending

    def _write_any(self, pending: list[int]) -> str:
        """Whatever the bare model writes."""
        cache, written = self._primed(), list[int]()
        while len(written) < MAX_FREE_TOKENS:
            token = int(self._scores(pending, cache).argmax())
            if token == self.tokenizer.end:
                break
            written.append(token)
            pending = [token]
        return self.tokenizer.decode(written)

    def _scores(self, ids: list[int], cache: DynamicCache) -> npt.NDArray[np.float32]:
        """Read `ids` after what `cache` holds; the next token's scores, shape (vocabulary,)."""
        scores: npt.NDArray[np.float32] = self._read(ids, cache, logits_to_keep=1)[-1].numpy()
        return scores

    def _read(self, ids: list[int], cache: DynamicCache, **more: int) -> torch.Tensor:
        """Logits after each of `ids`, or the last ones, read after what `cache` holds."""
        out = self.model(torch.tensor([ids]), **{self._memory: cache}, **more)
        logits: torch.Tensor = out.logits[0].float()
        return logits
