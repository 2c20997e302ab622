"""What the embedded model writes, token by token: within a grammar, greedily, and how likely."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from llguidance import LLMatcher, LLTokenizer

from models.planner.grammar import PlanState, write_plan
from models.planner.llama import Llama, Memory
from models.planner.outline import Outline
from models.planner.tokens import PlanTokenizer

MAX_FREE_TOKENS = 128
"""Where an unconstrained plan is cut off. A constrained one is bounded by its grammar."""
_ALIKE, _GUESSED = 3, 8
"""The most tokens that a hint is looked up by, and that are read along on trust."""
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


class Line(NamedTuple):
    """A line that the model wrote.

    Attributes:
        text: the line, with a line break at its end where another is to follow.
        unread: the tokens of it that the model has not read yet.
        likelihood: the log probability of it is at most this: of the tokens that it was asked for.
    """

    text: str
    unread: list[int]
    likelihood: float


class _Hopeless(Exception):  # noqa: N818 - no error
    """What is being written is less likely than it may be."""


class Writer:
    """The model with its tokenizer. Calls keep no state.

    Attributes:
        static: ids of the examples that stand before every prompt.
        grammar_tokens: the vocabulary as the grammar library takes it.
    """

    def __init__(
        self,
        model: Llama,
        tokenizer: PlanTokenizer,
        tokenizer_file: Path,
        examples: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Prepare `model`; `examples` are as in `Decoder`."""
        self.model, self.tokenizer = model, tokenizer
        self.grammar_tokens = LLTokenizer(
            tokenizer_file.read_text(encoding="utf-8"), eos_token=tokenizer.end
        )
        after = tokenizer.inner.encode("\n").ids
        self.static = [
            token
            for thread, plan in examples
            for token in (*tokenizer.example(thread, plan)[0], *after)
        ]
        self._first: Memory | None = None

    def primed(self) -> Memory:
        """A memory in which the model has read the examples, and nothing else.

        Only what never changes is kept: how a prompt is cut into passes shows in the last digits
        of its scores, so a memory that depended on earlier plans would make plans depend on them.
        """
        if self._first is None:
            self._first = self.model.memory()
            if self.static:
                self.model.read(self.static, self._first)
        return self._first.copy()

    def write_lines(
        self,
        ids: list[int],
        state: PlanState,
        memory: Memory,
        hint: Sequence[int] = (),
        outline: Outline | None = None,
        least: float = -math.inf,
    ) -> str:
        """Lines of valid plan, one grammar a line, until the model ends at a line's end.

        Args:
            ids: the prompt, or what the model has not read of it.
            state: where the plan begins.
            memory: what the model has read before `ids`. Afterwards it holds the plan too, all but
                the last few tokens.
            hint: tokens that the plan may have in common with; see `write_line`.
            outline: what the plan is to have, as in `write_plan`.
            least: the log probability below which the plan is of no use; it is then not finished.

        Returns:
            The lines; empty where there is no plan.
        """
        start, pending, likely = memory.length, ids, 0.0

        def write_line(pattern: str, lines: Sequence[str]) -> str:
            nonlocal pending, likely
            if not lines:  # the first line, also where it is written anew
                memory.length, pending, likely = start, ids, 0.0
            grammar = LLMatcher.grammar_from_regex(pattern)
            matcher = LLMatcher(self.grammar_tokens, grammar)
            line = self.write_line(pending, memory, matcher, hint, least - likely)
            pending, likely = line.unread, likely + line.likelihood
            return line.text

        try:
            return write_plan(state, write_line, outline)
        except _Hopeless:
            return ""

    def write_line(
        self,
        pending: list[int],
        memory: Memory,
        matcher: LLMatcher,
        hint: Sequence[int] = (),
        least: float = -math.inf,
    ) -> Line:
        """One line, as `matcher` allows, after what `memory` holds and the tokens `pending`.

        A pass takes hardly longer for a few tokens than for one, so what follows in `hint` on the
        last tokens written is read along, and kept as far as the model writes it too (Leviathan et
        al., ICML 2023): that changes the time, and the line only where two tokens are as likely.

        Raises:
            _Hopeless: the line's log probability is less than `least`.
        """
        written, likely = list[int](), 0.0
        while True:
            # What the grammar leaves no choice about costs no pass through the model.
            forced = matcher.compute_ff_tokens()
            matcher.consume_tokens(forced)
            written += forced
            pending = pending + forced
            if matcher.is_stopped():
                break
            guess = _continued(hint, written)
            guess = guess[: matcher.validate_tokens(guess)]
            logits = self.model.read([*pending, *guess], memory, 1 + len(guess))
            taken = self._taken(guess, logits, matcher)
            memory.length -= 1 + len(guess) - len(taken)
            each = logits[: len(taken)].log_softmax(-1)
            likely += float(each[range(len(taken)), taken].sum())
            if likely < least:
                raise _Hopeless
            if taken[-1] == self.tokenizer.end:
                written += taken[:-1]
                break
            written += taken
            pending = taken[-1:]
        if matcher.is_error():
            raise RuntimeError(f"the plan grammar failed: {matcher.get_error()}")
        return Line(self.tokenizer.decode(written), pending, likely)

    def _taken(self, guess: Sequence[int], logits: torch.Tensor, matcher: LLMatcher) -> list[int]:
        """The tokens of `guess` that the model writes too, and the one that it writes after them.

        Args:
            guess: tokens that the grammar allows.
            logits: before each of them and after the last.
            matcher: takes in what is written.
        """
        taken: list[int] = []
        for scores, guessed in zip(logits.numpy(), (*guess, None), strict=True):
            forced = matcher.compute_ff_tokens()
            taken.append(forced[0] if forced else _likeliest(scores, matcher))
            if taken[-1] == self.tokenizer.end:
                break
            matcher.consume_token(taken[-1])
            if taken[-1] != guessed or matcher.is_stopped():
                break
        return taken

    def write_any(self, pending: list[int]) -> str:
        """Whatever the bare model writes."""
        memory, written = self.primed(), list[int]()
        while len(written) < MAX_FREE_TOKENS:
            token = int(self.model.read(pending, memory).argmax())
            if token == self.tokenizer.end:
                break
            written.append(token)
            pending = [token]
        return self.tokenizer.decode(written)

    def likelihoods(self, plans: Sequence[str], last: int, memory: Memory) -> list[float]:
        """The log probability of each of `plans` after the prompt, whose `last` token is unread."""
        written = [self.tokenizer.written(plan) for plan in plans]
        logits = self.model.read_each([[last, *tokens[:-1]] for tokens in written], memory)
        return [
            float(each.log_softmax(-1).gather(1, torch.tensor(tokens)[:, None]).sum())
            for each, tokens in zip(logits, written, strict=True)
        ]


def _likeliest(scores: npt.NDArray[np.float32], matcher: LLMatcher) -> int:
    """The token with the highest score of those that `matcher` allows next."""
    allowed = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
    chosen = np.unpackbits(allowed, bitorder="little")[: scores.size]
    return int(np.where(chosen, scores, -np.inf).argmax())


def _continued(hint: Sequence[int], written: Sequence[int]) -> list[int]:
    """What follows in `hint` on the last tokens of `written`, on as many of them as it has."""
    for length in range(min(_ALIKE, len(written)), 0, -1):
        tail = list(written[-length:])
        for start in range(len(hint) - length - 1, -1, -1):
            if list(hint[start : start + length]) == tail:
                return list(hint[start + length : start + length + _GUESSED])
    return []
