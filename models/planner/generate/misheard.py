"""A turn that can't be made out, and the next, which clears it up: "oops, I meant necrosis"."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from models.planner.generate.drafts import Draft, Part, nouns
from models.planner.generate.grammar import Noun
from models.planner.generate.intents import Intent, Reply, Want
from models.planner.generate.plans import plan
from models.planner.generate.requests import Sampler
from models.planner.generate.speech import Speaker
from models.planner.generate.threads import Thread

_KINDS = ("show.region", "show.region", "count.cell")


def misheard(thread: Thread, sampler: Sampler, speaker: Speaker) -> None:
    """Add a turn to `thread` whose target nobody could know, and the question back."""
    kind = sampler.rng.choice(_KINDS)
    target = sampler.mention("cell" if kind == "count.cell" else "region")
    if target.target is None or target.verbatim:
        return
    said = replace(target, noun=garbled(sampler.rng, target.noun))
    meant = Intent(kind, (Want((target,)),))
    text, _, _ = speaker.say(Draft(meant, (Part(kind, {"x": nouns(said)}),)))
    asked = Intent("clarify.target", reply=Reply("clarify", "target"))
    thread.add(sampler.rng, text, asked, plan(asked, thread.ledger))
    thread.unclear = meant


def cleared(thread: Thread) -> Draft | None:
    """The turn that says what was meant, or None where nothing is unclear."""
    if thread.unclear is None:
        return None
    action = thread.unclear.name.partition(".")[0]
    targets = thread.unclear.wants[0].targets
    part = Part(f"meant.{action}", {"x": nouns(*targets)})
    return Draft(replace(thread.unclear, name="follow.meant"), (part,))


def garbled(rng: Random, noun: Noun) -> Noun:
    """`noun` with so many wrong letters that it may be anything."""
    letters = list(noun.text)
    for _ in range(3 + len(letters) // 5):
        at = rng.randrange(1, len(letters))
        if letters[at] != " ":
            letters[at] = rng.choice("aeiounrstlmk")
    text = "".join(letters)
    return replace(noun, text=text, singular=text)
