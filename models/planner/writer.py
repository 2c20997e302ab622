"""What the embedded model writes, token by token: within a grammar, greedily, and how likely."""

from __future__ import annotations

import copy
import inspect
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from llguidance import LLMatcher, LLTokenizer
from transformers import DynamicCache, LlamaForCausalLM

from models.planner.grammar import PlanState, write_plan
from models.planner.outline import Outline
from models.planner.tokens import PlanTokenizer

MAX_FREE_TOKENS = 128
"""Where an unconstrained plan is cut off. A constrained one is bounded by its grammar."""
_decoding = threading.Lock()


@contextmanager
def one_thread() -> Iterator[None]:
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


class Writer:
    """The model with its memory. Calls keep no state.

    Attributes:
        static: ids of the examples that stand before every prompt.
        grammar_tokens: the vocabulary as the grammar library takes it.
    """

    def __init__(
        self,
        model: LlamaForCausalLM,
        tokenizer: PlanTokenizer,
        tokenizer_file: Path,
        examples: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Prepare `model`; `examples` are as in `Decoder`."""
        self.model, self.tokenizer = model, tokenizer
        known = inspect.signature(model.forward).parameters
        self._memory = "cache" if "cache" in known else "past_key_values"  # as older versions say
        self.grammar_tokens = LLTokenizer(
            tokenizer_file.read_text(encoding="utf-8"), eos_token=tokenizer.end
        )
        after = tokenizer.inner.encode("\n").ids
        self.static = [
            token
            for thread, plan in examples
            for token in (*tokenizer.example(thread, plan)[0], *after)
        ]
        self._first: DynamicCache | None = None

    def primed(self) -> DynamicCache:
        """A cache in which the model has read the examples, and nothing else.

        Only what never changes is kept: how a prompt is cut into passes shows in the last digits
        of its scores, so a cache that depended on earlier plans would make plans depend on them.
        """
        if self._first is None:
            self._first = DynamicCache(config=self.model.config)
            if self.static:
                self.scores(self.static, self._first)
        return copy.deepcopy(self._first)

    def write_lines(
        self,
        ids: list[int],
        state: PlanState,
        read: DynamicCache | None = None,
        outline: Outline | None = None,
    ) -> tuple[str, DynamicCache]:
        """Lines of valid plan, one grammar a line, until the model ends at a line's end.

        Args:
            ids: the prompt.
            state: where the plan begins.
            read: a cache that holds the prompt but for its last token, which saves reading it.
            outline: what the plan is to have, as in `write_plan`.

        Returns:
            The lines, and the cache of what the model has read: all but the last few tokens.
        """

        def begun() -> tuple[DynamicCache, list[int]]:
            return (self.primed(), ids) if read is None else (copy.deepcopy(read), ids[-1:])

        cache, pending = begun()

        def write_line(pattern: str, lines: Sequence[str]) -> str:
            nonlocal cache, pending
            if not lines:  # the first line, also where it is written anew
                cache, pending = begun()
            grammar = LLMatcher.grammar_from_regex(pattern)
            matcher = LLMatcher(self.grammar_tokens, grammar)
            line, pending = self.write_line(pending, cache, matcher)
            return line

        return write_plan(state, write_line, outline), cache

    def write_line(
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
            scores = self.scores(pending, cache)
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

    def write_any(self, pending: list[int]) -> str:
        """Whatever the bare model writes."""
        cache, written = self.primed(), list[int]()
        while len(written) < MAX_FREE_TOKENS:
            token = int(self.scores(pending, cache).argmax())
            if token == self.tokenizer.end:
                break
            written.append(token)
            pending = [token]
        return self.tokenizer.decode(written)

    def scores(self, ids: list[int], cache: DynamicCache) -> npt.NDArray[np.float32]:
        """Read `ids` after what `cache` holds; the next token's scores, shape (vocabulary,)."""
        scores: npt.NDArray[np.float32] = self.read(ids, cache, logits_to_keep=1)[-1].numpy()
        return scores

    def read(self, ids: list[int], cache: DynamicCache, **more: int) -> torch.Tensor:
        """Logits after each of `ids`, or the last ones, read after what `cache` holds."""
        out = self.model(torch.tensor([ids]), **{self._memory: cache}, **more)
        logits: torch.Tensor = out.logits[0].float()
        return logits

    def unread(self, ids: list[int], cache: DynamicCache) -> None:
        """Cut `cache` back to the prompt `ids` without its last token."""
        cache.crop(len(self.static) + len(ids) - 1 - cache.get_seq_length())

    def likelihood(self, text: str, last: int, cache: DynamicCache) -> float:
        """The log probability of a plan's text after the prompt, whose `last` token is unread."""
        written = self.tokenizer.written(text)
        logits = self.read([last, *written[:-1]], cache)
        cache.crop(-len(written))
        return float(logits.log_softmax(-1).gather(1, torch.tensor(written)[:, None]).sum())
