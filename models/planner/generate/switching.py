"""A thread that goes on in another language: what it has found is called anew."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from models.planner.generate.entities import Lexicon, Mention
from models.planner.generate.grammar import Language
from models.planner.generate.intents import Intent, Known, Scope, Thing
from models.planner.generate.threads import Thread

_Key = tuple[str, str | None]
"""What a mention is in any language: its kind and target."""


def switch(rng: Random, thread: Thread, words: Lexicon, spoken: Language) -> bool:
    """Let the thread go on in the language `spoken`, if its lexicon has a name for all that it has.

    A question that was asked back is cleared up in its own language first.

    Returns:
        Whether it does now; else nothing has changed.
    """
    if thread.unclear is not None:
        return False
    names: dict[_Key, dict[Mention, float]] = {}
    for entity, weight in words.entities:
        names.setdefault(_key(entity), {})[entity] = weight
    renamed: dict[_Key, Mention] = {}
    for mention in _mentions(thread):
        if (options := names.get(_key(mention))) is None:
            return False
        (drawn,) = rng.choices(list(options), list(options.values()))
        renamed.setdefault(_key(mention), drawn)
    about = {n: renamed[_key(mention)] for n, mention in thread.ledger.about.items()}
    thread.ledger = replace(thread.ledger, about=about)
    thread.focus = tuple(Known(k.number, about[k.number]) for k in thread.focus)
    thread.last = thread.last and _renamed(thread.last, renamed)
    thread.language = spoken
    return True


def _key(mention: Mention) -> _Key:
    return mention.kind, mention.target


def _mentions(thread: Thread) -> list[Mention]:
    """What the thread has, and what its last request names."""
    last = thread.last.wants if thread.last else ()
    return [*thread.ledger.about.values(), *(m for want in last for m in want.mentions())]


def _renamed(intent: Intent, names: dict[_Key, Mention]) -> Intent:
    """The same request in the other language's names."""

    def thing(one: Thing) -> Thing:
        if isinstance(one, Known):
            return replace(one, mention=names[_key(one.mention)])
        return names[_key(one)]

    def scope(one: Scope) -> Scope:
        places = (one.within, one.outside, one.around)
        return Scope(*(place and thing(place) for place in places))

    wants = tuple(
        replace(
            want,
            targets=tuple(thing(one) for one in want.targets),
            scopes=tuple(scope(one) for one in want.scopes),
        )
        for want in intent.wants
    )
    return replace(intent, wants=wants)
