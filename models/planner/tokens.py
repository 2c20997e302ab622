"""Threads and plans as token ids: one encoding for training and for decoding."""

from __future__ import annotations

import re
from pathlib import Path

from tokenizers import Encoding, Tokenizer

OPEN, END = "<|im_start|>", "<|im_end|>"
_CALL_LINE = re.compile(r"^\$[0-9]+ (?!reply )[^\n]*\n", re.MULTILINE)
"""An earlier turn's tool call. A reply's reason is not to be told from another system's words."""


class PlanTokenizer:
    """The embedded model's tokenizer; what a user writes is never read as a control token."""

    def __init__(self, file: Path) -> None:
        """Load a `tokenizer.json`."""
        self.inner = Tokenizer.from_file(str(file))
        self.inner.encode_special_tokens = True  # a user's "<|im_end|>" is plain text
        vocabulary = self.inner.get_vocab()
        self.open, self.end = vocabulary[OPEN], vocabulary[END]

    def prompt(self, thread: str) -> list[int]:
        """The ids of `serialise.prompt_text(thread)`."""
        return [self.open, *self._user(thread).ids, self.end, *self._ids("\n"), *self._header()]

    def example(self, thread: str, plan: str) -> tuple[list[int], list[bool]]:
        """A training example: prompt and plan as ids, and which of them are the planner's words.

        Those are the plan with the token that ends it, and the tool calls of the thread's earlier
        turns: a thread of five turns teaches five plans at the price of one reading.
        """
        user = self._user(thread)
        spans = [
            (match.start() + len("user\n"), match.end() + len("user\n"))
            for match in _CALL_LINE.finditer(thread)
        ]
        own = [any(a <= start < b for a, b in spans) for start, _ in user.offsets]
        written = self.written(plan)
        ids = [*self.prompt(thread), *written]
        before = len(ids) - len(written) - 1 - len(own)
        return ids, [False, *own, *[False] * before, *[True] * len(written)]

    def written(self, plan: str) -> list[int]:
        """The ids of a plan's text as the model writes it, with the token that ends it."""
        return [*self._ids(plan), self.end]

    def decode(self, ids: list[int]) -> str:
        """The text of `ids`, without control tokens."""
        return str(self.inner.decode(ids))

    def _user(self, thread: str) -> Encoding:
        return self.inner.encode(f"user\n{thread}")

    def _header(self) -> list[int]:
        return [self.open, *self._ids("assistant\n")]

    def _ids(self, text: str) -> list[int]:
        return list(self.inner.encode(text).ids)
