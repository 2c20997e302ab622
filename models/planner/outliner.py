"""A small network that tells the outline of a plan from the words alone.

The embedded language model is slow to train and has seen few instructions; this network, a
recurrent layer over hashed words and their parts (after Bojanowski et al., TACL 2017), learns from
many times as many in minutes, and is wrong elsewhere.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils import rnn

from models.planner.fetch import file_sha256
from models.planner.outline import KINDS, MOST, Outline

WEIGHTS = Path(__file__).with_name("outline.safetensors")
SIZES = (len(KINDS), *(most + 1 for most in MOST.values()))
"""The classes of each attribute, in the order of `Outline`'s attributes."""
_BUCKETS = 2**15
_WIDTH = 64
_HIDDEN = 96
_PARTS = 4
_LONGEST = 64
"""Tokens of a thread that are read, the last ones."""
_TOKEN = re.compile(r"\$\d+|[^\W\d_]+|\d+|[^\w\s]")


def tokens(thread: str) -> list[list[int]]:
    """The buckets of the words of `thread` (`serialise.thread_text`), and of their parts.

    Returns:
        For each token its own bucket, and those of its beginnings and its end if it is a longer
        word; filled with 0 up to four.
    """
    return [_buckets(word) for word in _TOKEN.findall(thread.lower())[-_LONGEST:]]


def _buckets(word: str) -> list[int]:
    parts = [word]
    if len(word) > _PARTS:
        parts += [f"{word[:4]}-", f"{word[:6]}-", f"-{word[-4:]}"]
    found = [1 + zlib.crc32(part.encode()) % (_BUCKETS - 1) for part in parts]
    return found + [0] * (_PARTS - len(found))


class OutlineNet(nn.Module):
    """Hashed words to a recurrent layer in both directions, to the logits of each attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.EmbeddingBag(_BUCKETS, _WIDTH, mode="sum", sparse=True, padding_idx=0)
        nn.init.normal_(self.words.weight, std=0.1)
        self.layer = nn.GRU(_WIDTH, _HIDDEN, batch_first=True, bidirectional=True)
        self.out = nn.Linear(4 * _HIDDEN, sum(SIZES))

    def forward(self, threads: Sequence[Sequence[Sequence[int]]]) -> tuple[Tensor, ...]:
        """Logits (B, classes) of each attribute, for B threads as `tokens` gives them."""
        buckets = rnn.pad_sequence([torch.tensor(one) for one in threads], batch_first=True)
        lengths = torch.tensor([len(one) for one in threads])
        words = self.words(buckets.flatten(0, 1)).view(*buckets.shape[:2], _WIDTH)
        packed = rnn.pack_padded_sequence(words, lengths, batch_first=True, enforce_sorted=False)
        states, last = self.layer(packed)
        seen, _ = rnn.pad_packed_sequence(states, batch_first=True, padding_value=-1.0)
        most = seen.max(dim=1).values  # states lie between -1 and 1
        logits: tuple[Tensor, ...] = self.out(torch.cat([most, *last], 1)).split(SIZES, dim=1)
        return logits


class Outliner:
    """The trained network. Keeps no state; several threads may share one.

    Attributes:
        digest: of the weights, for records of runs.
    """

    def __init__(self, weights: Path = WEIGHTS) -> None:
        """Load the network."""
        self.digest = f"sha256:{file_sha256(weights)}"
        self.net = OutlineNet()
        self.net.load_state_dict({k: v.float() for k, v in load_file(weights).items()})
        self.net.eval()

    @torch.inference_mode()
    def read(self, thread: str) -> Likelihoods:
        """What the words of `thread` say about the plan's outline."""
        logits = self.net([tokens(thread)])
        return Likelihoods(tuple(one[0].log_softmax(-1) for one in logits))


@dataclass(frozen=True)
class Likelihoods:
    """The log probability of each class of each attribute, in nats."""

    logs: tuple[Tensor, ...]

    def of(self, outline: Outline) -> float:
        """The log probability of `outline`: of a reply its kind's, of a plan its attributes'."""
        return float(self._sums(torch.tensor([outline.classes()]))[0])

    def best(self) -> Outline:
        """The likeliest outline that a plan can have."""
        outlines, classes = _outlines()
        return outlines[int(self._sums(classes).argmax())]

    def _sums(self, classes: Tensor) -> Tensor:
        kind, *numbers = (logs[own] for logs, own in zip(self.logs, classes.T, strict=True))
        return kind + torch.stack(numbers).sum(0) * (classes[:, 0] == 0)


@lru_cache(maxsize=1)
def _outlines() -> tuple[tuple[Outline, ...], Tensor]:
    """All outlines that plans can have, with their classes, (n, attributes).

    Restricted calls are there, and so is some call.
    """
    found = [Outline(reply=kind) for kind in KINDS if kind]
    for numbers in product(*(range(most + 1) for most in MOST.values())):
        outline = Outline("", *numbers)
        calls = outline.segment + outline.count
        if any(numbers[:5]) and max(outline.within, outline.outside) <= calls:
            found.append(outline)
    return tuple(found), torch.tensor([outline.classes() for outline in found])
