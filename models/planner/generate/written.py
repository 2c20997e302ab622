"""Threads that were written one by one, and told again of other structures and organs.

`dialogues/*.txt` holds them in the planner's own form, a blank line between two threads, the last
plan of each being what is right; a file an author. The authors are language models that were told
the contract's rules and a kind of user, and saw neither the frames nor any test case. Frames can't
say everything that people say; these show how they say it, and what they say it of is exchanged
where that is safe.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from random import Random

from models.planner.generate.besides import capital
from models.planner.generate.entities import Mention
from models.planner.generate.grammar import Noun
from models.planner.generate.lexicons import lexicon
from models.planner.serialise import Call, Turn, parse_plan
from models.planner.words import language_of

_TOLD_OF_ANOTHER = 0.6
"""How often what a thread is about is exchanged, where it can be."""
_STEM = 4
"""Two words sound alike that have so many first letters in common."""
_NAMES = ("target", "cell_type")
"""Arguments that name what is looked for."""


@dataclass(frozen=True)
class Dialogue:
    """A thread with its plan.

    Attributes:
        id: the file's name and the thread's place in it.
        history: the earlier turns.
        instruction: what is planned for.
        plan: the right calls.
    """

    id: str
    history: tuple[Turn, ...]
    instruction: str
    plan: tuple[Call, ...]


def read(text: str, name: str) -> Iterator[Dialogue]:
    """The threads of a file.

    Args:
        text: `> instruction`, a line a call, `= result`, and so on; the last turn has no result.
        name: of the file.

    Raises:
        ValueError: a thread isn't in this form; the message names it.
    """
    for place, block in enumerate(re.split(r"\n\s*\n", text.strip()), 1):
        turns: list[Turn] = []
        number = 1
        for part in re.split(r"^> ", block, flags=re.MULTILINE)[1:]:
            instruction, *lines = part.strip().split("\n")
            ended = bool(lines) and lines[-1].startswith("= ")
            result = lines.pop().removeprefix("= ") if ended else ""
            try:
                calls = parse_plan("\n".join(lines), number)
            except ValueError as error:
                raise ValueError(f"{name}, thread {place}: {error}") from error
            number += len(calls)
            turns.append(Turn(instruction, calls, result))
        if not block.startswith("> ") or not turns or turns[-1].result:
            raise ValueError(f"{name}, thread {place}: the last turn must be a plan alone")
        *earlier, last = turns
        yield Dialogue(f"{name}-{place}", tuple(earlier), last.instruction, tuple(last.calls))


@lru_cache(maxsize=1)
def dialogues() -> Sequence[Dialogue]:
    """All threads of `dialogues/`."""
    folder = resources.files(__package__) / "dialogues"
    files = sorted(folder.iterdir(), key=lambda file: file.name)
    return tuple(
        one
        for file in files
        if file.name.endswith(".txt")
        for one in read(file.read_text("utf-8"), file.name.removesuffix(".txt"))
    )


def told(rng: Random, one: Dialogue) -> Dialogue:
    """`one`, at random about other structures and cells.

    Only in English, where nothing else in a sentence follows the noun; only what presumes no organ,
    for something else of its kind that can be counted or can't, like it; and only where every turn
    that asks for it names it, and nothing else in the thread sounds like it ("tumor", "tumour",
    "tumor cell").
    """
    turns = [*((turn.instruction, turn.calls) for turn in one.history), (one.instruction, one.plan)]
    if any(language_of(text) != "en" for text, _ in turns):
        return one
    names = {name for _, calls in turns for name in _names(calls)}
    whole = " ".join((*(text for text, _ in turns), *(turn.result for turn in one.history)))
    new: dict[str, Mention] = {}
    for name in sorted(names & _mentions().keys()):
        old = _mentions()[name]
        drawn = lexicon("en").mention(rng, old.kind, countable=old.countable, plain=True)
        other = _mentions().get(str(drawn.target))
        said = _words((name,))
        rest = " ".join((said.sub(" ", whole), *(names - {name}))).lower()
        named = all(said.search(text) for text, calls in turns if name in _names(calls))
        taken = names | {mention.target for mention in new.values()}
        fresh = other and other.target not in taken and name[:_STEM] not in rest
        if other and fresh and named and rng.random() < _TOLD_OF_ANOTHER:
            new[name] = other
    if not new:
        return one
    history = [
        Turn(_retold(t.instruction, new), _renamed(t.calls, new), _retold(t.result, new))
        for t in one.history
    ]
    instruction = _retold(one.instruction, new)
    return Dialogue(one.id, tuple(history), instruction, tuple(_renamed(one.plan, new)))


def _names(calls: Sequence[Call]) -> set[str]:
    return {call["args"][key] for call in calls for key in _NAMES if call["args"].get(key)}


@lru_cache(maxsize=1)
def _mentions() -> Mapping[str, Mention]:
    """What can be exchanged, by its name in a plan."""
    entities = (mention for mention, _ in lexicon("en").entities)
    return {m.target: m for m in entities if m.target == m.noun.singular and not m.organ}


@lru_cache(maxsize=4096)
def _words(names: tuple[str, ...]) -> re.Pattern[str]:
    """What matches these names, in either number, with the article before it."""
    nouns = (_mentions()[name].noun for name in names)
    said = "|".join(re.escape(word) for noun in nouns for word in (noun.text, noun.singular))
    return re.compile(rf"\b(an? )?({said})\b", re.IGNORECASE)


def _retold(text: str, new: Mapping[str, Mention]) -> str:
    def exchanged(match: re.Match[str]) -> str:
        old = next(n for name in new if match[2].lower() in _both(n := _mentions()[name].noun))
        noun = new[old.singular].noun
        said = noun.text if match[2].lower() == old.text else noun.singular
        article = ("an " if said[0] in "aeiou" else "a ") if match[1] else ""
        return capital(article + said) if match[0][0].isupper() else article + said

    return _words(tuple(new)).sub(exchanged, text)


def _both(noun: Noun) -> tuple[str, str]:
    return noun.text.lower(), noun.singular.lower()


def _renamed(calls: Sequence[Call], new: Mapping[str, Mention]) -> list[Call]:
    def arg(value: str | None) -> str | None:
        return new[value].target if value is not None and value in new else value

    return [
        {"tool": call["tool"], "args": {key: arg(value) for key, value in call["args"].items()}}
        for call in calls
    ]
