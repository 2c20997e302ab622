"""A small network that tells the outline of a plan from the words alone.

The embedded language model is slow to train and has seen few instructions; this network, two
recurrent layers with attention between them (Luong et al., EMNLP 2015) over hashed words and their
parts (Bojanowski et al., TACL 2017), learns from many times as many in less time, and is wrong
elsewhere.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils import rnn

from models.planner.fetch import file_sha256
from models.planner.outline import END, SYMBOLS, Outline

WEIGHTS = Path(__file__).with_name("outline.safetensors")
BUCKETS = 2**15
_WORD, _SYMBOL, _HIDDEN = 64, 48, 192
_DROPOUT = 0.1
_PARTS = 4
_LONGEST = 96
"""Tokens of a thread that are read, the last ones."""
_TOKEN = re.compile(r"\$\d+|[^\W\d_]+|\d+|[^\w\s]")
_LETTERS = 40
"""Letters of a word that are read."""
_BEAM = 4
_MOST_SYMBOLS = 60  # twelve calls with both references


def tokens(thread: str, start: int) -> list[list[int]]:
    """The buckets of the words of `thread` (`serialise.thread_text`), and of their parts.

    Args:
        thread: the words.
        start: the number of the next call, from which the numbers of earlier calls are counted.

    Returns:
        For each token its own bucket, and those of its beginnings and its end if it is a longer
        word; filled with 0 up to four.
    """
    found = _TOKEN.findall(thread.lower())[-_LONGEST:]
    words = (
        f"${int(t[1:_LETTERS]) - start}" if t[0] == "$" and t[1:] else t[:_LETTERS] for t in found
    )
    return [_buckets(word) for word in words]


@lru_cache(maxsize=65536)
def _buckets(word: str) -> list[int]:
    parts = [word]
    if len(word) > _PARTS:
        parts += [f"{word[:4]}-", f"{word[:6]}-", f"-{word[-4:]}"]
    found = [1 + zlib.crc32(part.encode()) % (BUCKETS - 1) for part in parts]
    return found + [0] * (_PARTS - len(found))


def classes(outline: Outline) -> list[int]:
    """What the network is to write: an outline's symbols and the end, counted from 1."""
    return [1 + SYMBOLS.index(symbol) for symbol in (*outline.symbols, END)]


@dataclass(frozen=True)
class Read:
    """Threads as the network has read them.

    Attributes:
        words: (B, T, hidden), what it makes of each word.
        nothing: (B, T), whether there is no word.
        state: (B, hidden), what it begins to write with.
    """

    words: Tensor
    nothing: Tensor
    state: Tensor


class OutlineNet(nn.Module):
    """Reads a thread in both directions and writes the symbols of its plan's outline."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.EmbeddingBag(BUCKETS, _WORD, mode="sum", sparse=True, padding_idx=0)
        nn.init.normal_(self.words.weight, std=0.1)
        self.reader = nn.GRU(_WORD, _HIDDEN // 2, batch_first=True, bidirectional=True)
        self.begin = nn.Linear(2 * _HIDDEN, _HIDDEN)
        self.symbols = nn.Embedding(1 + len(SYMBOLS), _SYMBOL)
        self.writer = nn.GRU(_SYMBOL, _HIDDEN, batch_first=True)
        self.query = nn.Linear(_HIDDEN, _HIDDEN, bias=False)
        self.mix = nn.Linear(2 * _HIDDEN, _HIDDEN)
        self.out = nn.Linear(_HIDDEN, 1 + len(SYMBOLS))
        self.drop = nn.Dropout(_DROPOUT)

    def read(self, threads: Sequence[Sequence[Sequence[int]]]) -> Read:
        """Read B threads as `tokens` gives them."""
        buckets = rnn.pad_sequence([torch.tensor(one) for one in threads], batch_first=True)
        lengths = torch.tensor([len(one) for one in threads])
        words = self.words(buckets.flatten(0, 1)).view(*buckets.shape[:2], _WORD)
        packed = rnn.pack_padded_sequence(
            self.drop(words), lengths, batch_first=True, enforce_sorted=False
        )
        states, last = self.reader(packed)
        seen, _ = rnn.pad_packed_sequence(states, batch_first=True, padding_value=-1.0)
        most = seen.max(dim=1).values  # states lie between -1 and 1
        begin = torch.tanh(self.begin(torch.cat([most, *last], 1)))
        nothing = torch.arange(seen.shape[1]) >= lengths[:, None]
        return Read(seen, nothing, begin)

    def forward(self, before: Tensor, read: Read) -> tuple[Tensor, Tensor]:
        """What is written after the classes `before` (B, L), 0 at first.

        Returns:
            Log probabilities (B, L, classes), and the state (B, hidden) to go on with.
        """
        written, state = self.writer(self.symbols(before), read.state[None])
        alike = self.query(written) @ read.words.transpose(1, 2) / math.sqrt(_HIDDEN)
        looked = alike.masked_fill(read.nothing[:, None], -math.inf).softmax(-1) @ read.words
        mixed = torch.tanh(self.mix(torch.cat([written, looked], -1)))
        return self.out(self.drop(mixed)).log_softmax(-1), state[0]

    def likelihoods(self, read: Read, written: Tensor) -> Tensor:
        """The log probability, in nats, of each row of the classes `written` (B, L), 0 at ends."""
        before = nn.functional.pad(written[:, :-1], (1, 0))
        logs, _ = self(before, read)
        likelihoods: Tensor = (logs.gather(2, written[..., None])[..., 0] * (written > 0)).sum(1)
        return likelihoods


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
    def read(self, thread: str, start: int) -> Opinion:
        """What the words of `thread` say about the plan that begins with call number `start`."""
        return Opinion(self.net, self.net.read([tokens(thread, start)]))


@dataclass(frozen=True)
class Opinion:
    """What the network thinks of outlines for one thread."""

    net: OutlineNet
    read: Read

    @torch.inference_mode()
    def of(self, outline: Outline) -> float:
        """The log probability of `outline`, in nats."""
        return float(self.net.likelihoods(self.read, torch.tensor([classes(outline)]))[0])

    @torch.inference_mode()
    def best(
        self, admits: Callable[[Outline], bool], count: int = 1
    ) -> list[tuple[Outline, float]]:
        """Up to `count` outlines that `admits` allows, the likeliest first, with log probabilities.

        A beam search: none where nothing that it finds is allowed.
        """
        end, found = 1 + SYMBOLS.index(END), list[tuple[Outline, float]]()
        unfinished: list[tuple[tuple[str, ...], float, int]] = [((), 0.0, 0)]
        read = self.read
        for _ in range(_MOST_SYMBOLS):
            last = [1 + SYMBOLS.index(symbols[-1]) if symbols else 0 for symbols, *_ in unfinished]
            logs, states = self.net(torch.tensor(last)[:, None], read)
            longer: list[tuple[tuple[str, ...], float, int]] = []
            for row, (symbols, log, _) in enumerate(unfinished):
                for own, which in zip(*map(Tensor.tolist, logs[row, 0].topk(_BEAM)), strict=True):
                    if which not in (0, end):
                        longer.append(((*symbols, SYMBOLS[which - 1]), log + own, row))
                    elif symbols and admits(Outline(symbols)):
                        found.append((Outline(symbols), log + own))
            found = sorted(found, key=lambda one: -one[1])[:count]
            unfinished = sorted(longer, key=lambda one: -one[1])[:_BEAM]
            least = found[-1][1] if len(found) == count else -math.inf
            if not unfinished or least >= unfinished[0][1]:
                break
            read = replace(read, state=states[[row for *_, row in unfinished]])
        return found
