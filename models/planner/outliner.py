"""A small network that tells the outline of a plan from the words alone.

The embedded language model is slow to train and has seen few instructions; this network reads a bag
of word n-grams (after Joulin et al., EACL 2017), learns from many times as many in minutes, and is
wrong elsewhere.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from models.planner.fetch import file_sha256
from models.planner.outline import MOST, REPLIES, Outline

WEIGHTS = Path(__file__).with_name("outline.safetensors")
SIZES = (len(REPLIES), *(most + 1 for most in MOST.values()))
"""The classes of each attribute, in the order of `Outline`'s attributes."""
_BUCKETS = 2**16
_WIDTH = 48
_LONGEST = 3
_TOKEN = re.compile(r"[^\W\d_]+|\d+|[^\w\s]")


def features(thread: str) -> list[int]:
    """The buckets of what `thread` (`serialise.thread_text`) has: n-grams, and what came before.

    Of the earlier turns only the tools count, those of the last turn apart.
    """
    *earlier, last = thread.split("\n")
    tokens = ["<", *(t.lower() for t in _TOKEN.findall(last.removeprefix("> "))), ">"]
    calls = [line.split()[1] for line in earlier if line.startswith("$")]
    turns = [n for n, line in enumerate(earlier) if line.startswith(">")]
    recent = [line.split()[1] for line in earlier[turns[-1] :] if line[0] == "$"] if turns else []
    results = [line for line in earlier if line.startswith("=")]
    stated = bool(results) and any(unit in results[-1] for unit in ("%", "mm", "µm"))
    context = sorted(
        {f"turns {min(len(turns), 3)}", f"stated {stated}", *(f"had {c}" for c in calls)}
    )
    context += [f"recent {call}" for call in recent]
    grams = [
        " ".join(tokens[at : at + length])
        for length in range(1, _LONGEST + 1)
        for at in range(len(tokens) - length + 1)
    ]
    parts = [
        part for t in tokens if len(t) > 4 for part in (f"{t[:4]}-", f"{t[:6]}-", f"-{t[-4:]}")
    ]
    placed = [f"{bool(turns)} {token}" for token in tokens]
    words = (*grams, *parts, *placed, *context, " ".join(context))
    return [zlib.crc32(word.encode()) % _BUCKETS for word in words]


class OutlineNet(nn.Module):
    """A bag of `features` to the logits of each attribute's classes."""

    def __init__(self) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(_BUCKETS, _WIDTH, mode="sum", sparse=True)
        nn.init.normal_(self.bag.weight, std=0.02)
        self.shift = nn.Parameter(torch.zeros(_WIDTH))
        self.out = nn.Linear(_WIDTH, sum(SIZES))

    def forward(self, buckets: Tensor, starts: Tensor) -> tuple[Tensor, ...]:
        """Logits (B, classes) of each attribute.

        Args:
            buckets: int64 (N,), the features of B threads one after the other.
            starts: int64 (B,), where each thread's begin.
        """
        lengths = torch.diff(starts, append=starts.new_tensor([len(buckets)]))
        hidden = self.bag(buckets, starts) / lengths.sqrt()[:, None] + self.shift
        logits: tuple[Tensor, ...] = self.out(hidden.relu()).split(SIZES, dim=1)
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
        buckets = torch.tensor(features(thread))
        logits = self.net(buckets, torch.tensor([0]))
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
    found = [Outline(reply=kind) for kind in REPLIES if kind]
    for numbers in product(*(range(most + 1) for most in MOST.values())):
        outline = Outline("", *numbers)
        calls = outline.segment + outline.count
        if any(numbers[:5]) and max(outline.within, outline.outside) <= calls:
            found.append(outline)
    return tuple(found), torch.tensor([outline.classes() for outline in found])
