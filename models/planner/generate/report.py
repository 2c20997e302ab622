"""How varied examples are: n-grams, self-BLEU, the coverage of lexicon and frames."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache

from models.planner.generate.examples import Example
from models.planner.generate.grammar import LANGUAGES, language
from models.planner.generate.lexicons import lexicon

_SAMPLE = 300
"""Instructions that self-BLEU is taken over, each against the others."""


@dataclass
class Diversity:
    """What `diversity` found.

    Attributes:
        n: examples looked at.
        unique: share of instructions that occur once (lower case, without outer spaces).
        distinct: share of different n-grams among all n-grams of the instructions, for n = 1, 2, 3.
        self_bleu: mean BLEU-4 of an instruction against the others of a sample, 0..1; lower is
            more varied (Zhu et al., Texygen, 2018).
        targets: different arguments in the plans, and how many the lexicon has.
        frames: frames that occurred, and how many there are.
        pairs: different (target, frame section) pairs, of all pairs of those that occurred.
        shares: of the examples, by language, register, intent, reply and earlier turns.
    """

    n: int = 0
    unique: float = 0.0
    distinct: tuple[float, float, float] = (0.0, 0.0, 0.0)
    self_bleu: float = 0.0
    targets: tuple[int, int] = (0, 0)
    frames: tuple[int, int] = (0, 0)
    pairs: tuple[int, int] = (0, 0)
    shares: dict[str, dict[str, float]] = field(default_factory=dict)

    def lines(self) -> Iterator[str]:
        """The report, line by line."""
        yield f"{self.n} examples, {self.unique:.1%} of the instructions occur once"
        yield "distinct-1, -2, -3: " + ", ".join(f"{share:.3f}" for share in self.distinct)
        yield f"self-BLEU-4 over {min(_SAMPLE, self.n)}: {self.self_bleu:.3f}"
        yield "targets in plans: {} (the lexicon has {})".format(*self.targets)
        yield "frames: {} of {}".format(*self.frames)
        yield "target × frame section: {} of {} pairs".format(*self.pairs)
        for name, table in self.shares.items():
            yield f"by {name}: " + ", ".join(f"{key} {share:.1%}" for key, share in table.items())


def diversity(examples: Iterable[Example]) -> Diversity:
    """Measure examples.

    Raises:
        ValueError: there are none.
    """
    found = list(examples)
    if not found:
        raise ValueError("no examples to report on")
    words = [_words(example.instruction) for example in found]
    seen = [(_targets(example), _section(example.frame)) for example in found]
    targets = {target for named, _ in seen for target in named}
    sections = {section for _, section in seen}
    pairs = {(target, section) for named, section in seen for target in named}
    texts = Counter(" ".join(example.instruction.lower().split()) for example in found)
    return Diversity(
        n=len(found),
        unique=sum(count == 1 for count in texts.values()) / len(found),
        distinct=(_distinct(words, 1), _distinct(words, 2), _distinct(words, 3)),
        self_bleu=_self_bleu(words[:: max(1, len(words) // _SAMPLE)][:_SAMPLE]),
        targets=(len(targets), _known_targets()),
        frames=(len({example.frame for example in found}), _known_frames()),
        pairs=(len(pairs), len(targets) * len(sections)),
        shares=_shares(found),
    )


def _words(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text.lower())


def _targets(example: Example) -> set[str]:
    args = (call["args"] for call in example.plan)
    return {str(a.get("target") or a.get("cell_type")) for a in args if "within" in a}


def _section(frame: str) -> str:
    return frame.partition(":")[2].partition("#")[0]


@cache
def _known_targets() -> int:
    return len({m.target for code in LANGUAGES for m, _ in lexicon(code).entities})


@cache
def _known_frames() -> int:
    return sum(len(frames) for code in LANGUAGES for frames in language(code).frames.values())


def _grams(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(words[i:] for i in range(n)), strict=False))


def _distinct(texts: Sequence[Sequence[str]], n: int) -> float:
    grams: Counter[tuple[str, ...]] = Counter()
    for words in texts:
        grams.update(_grams(words, n))
    return len(grams) / max(1, grams.total())


def _self_bleu(texts: Sequence[Sequence[str]]) -> float:
    """Mean BLEU-4 of each text against all others, with add-one smoothing (Lin and Och, 2004)."""
    grams = [[_grams(words, n) for words in texts] for n in range(1, 5)]
    best = [_two_best(counted) for counted in grams]
    scores = []
    for at, words in enumerate(texts):
        others = [len(other) for i, other in enumerate(texts) if i != at]
        if not others or not words:
            continue
        logs = 0.0
        for counted, highest in zip(grams, best, strict=True):
            own = counted[at]
            hits = sum(min(c, _elsewhere(highest[gram], at)) for gram, c in own.items())
            logs += math.log((hits + 1) / (own.total() + 1)) / 4
        closest = min(others, key=lambda length: (abs(length - len(words)), length))
        scores.append(math.exp(logs + min(0.0, 1 - closest / len(words))))
    return sum(scores) / max(1, len(scores))


def _two_best(
    counted: Sequence[Counter[tuple[str, ...]]],
) -> dict[tuple[str, ...], list[tuple[int, int]]]:
    """For each n-gram the two texts with most of it: (count, text)."""
    best: dict[tuple[str, ...], list[tuple[int, int]]] = {}
    for at, grams in enumerate(counted):
        for gram, count in grams.items():
            best[gram] = sorted([*best.get(gram, []), (count, at)], reverse=True)[:2]
    return best


def _elsewhere(best: Sequence[tuple[int, int]], at: int) -> int:
    """The most of an n-gram in any text but `at`."""
    return next((count for count, text in best if text != at), 0)


def _shares(found: Sequence[Example]) -> dict[str, dict[str, float]]:
    tables: dict[str, Counter[str]] = {
        "language": Counter(example.tags[1] for example in found),
        "register": Counter(example.tags[2] for example in found),
        "earlier turns": Counter(str(len(example.history)) for example in found),
        "intent": Counter(
            example.tags[0].removeprefix("intent:").split(".named")[0] for example in found
        ),
        "reply": Counter(
            example.plan[0]["args"]["kind"] if example.plan[0]["tool"] == "reply" else "none"
            for example in found
        ),
    }
    return {
        name: {key: count / len(found) for key, count in counter.most_common()}
        for name, counter in tables.items()
    }
