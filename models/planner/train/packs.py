"""Training examples packed into rows without padding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from models.planner.generate import examples
from models.planner.serialise import plan_lines, thread_text

Encode = Callable[[str, str], tuple[list[int], list[bool]]]
"""Thread and plan to ids, and which of the ids are the planner's words."""
_DRAWN = 16


class Packs(Dataset[dict[str, Tensor]]):
    """Pack n holds examples that depend on `seed` and n alone: nothing is stored, any can be had.

    A pack is one row in the form that transformers calls padding-free: `position_ids` start again
    with each example, and attention stays inside it. Logits are only computed where a word of a
    plan follows.
    """

    def __init__(
        self, seed: int, packs: int, tokens: int, encode: Encode, written: float = 0.0
    ) -> None:
        """Packs of at least `tokens` tokens each, and less than one example more.

        `written` is the share of the examples that were written one by one.
        """
        self.seed, self.packs, self.tokens, self.encode = seed, packs, tokens, encode
        self.written = written

    def __len__(self) -> int:
        return self.packs

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        """`input_ids`, `position_ids`, `logits_to_keep`, and labels of the kept positions."""
        ids: list[int] = []
        positions: list[int] = []
        kept: list[int] = []
        for row, own in self._examples(number):
            kept += [len(ids) + at - 1 for at, word in enumerate(own) if word]
            ids += row
            positions += range(len(row))
            if len(ids) >= self.tokens:
                break
        row_ids, keep = torch.tensor([ids]), torch.tensor(kept)
        labels = row_ids[:, keep + 1]
        return {
            "input_ids": row_ids,
            "position_ids": torch.tensor([positions]),
            "logits_to_keep": keep,
            "labels": labels,
            "shift_labels": labels,
        }

    def _examples(self, number: int) -> Iterator[tuple[list[int], list[bool]]]:
        for part in count():
            for case in examples(hash((self.seed, number, part)), _DRAWN, written=self.written):
                start = 1 + sum(len(turn.calls) for turn in case.history)
                plan = "\n".join(plan_lines(case.plan, start))
                ids, own = self.encode(thread_text(case.history, case.instruction), plan)
                yield ids, own if case.sound else last_alone(own)


def last_alone(own: list[bool]) -> list[bool]:
    """`own` without the planner's words before those that it ends with: its last plan is left."""
    start = len(own) - own[::-1].index(False)
    return [False] * start + own[start:]


def one(rows: list[Any]) -> Any:
    """The collator: a pack is a batch already."""
    (row,) = rows
    return row
