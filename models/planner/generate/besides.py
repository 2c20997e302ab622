"""What is written beside a request: what is not wanted, histories, idioms, injected orders."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

from models.planner.generate.drafts import Draft, mix
from models.planner.generate.entities import Kind, Lexicon
from models.planner.generate.extras import Extras
from models.planner.generate.grammar import Language

_NEITHER, _ONLY = 0.5, 0.6
"""How often two things are not wanted rather than one, and how often a request after a history is
called the only one."""


@dataclass
class Besides:
    """Says what is beside the point, in one language.

    Attributes:
        rng: the source of chance.
        language: grammar and frames.
        words: the lexicon, for what is mentioned.
    """

    rng: Random
    language: Language
    words: Lexicon

    def _chance(self, name: str) -> bool:
        return self.rng.random() < float(mix()["noise"][name])

    def _frame(
        self, section: str, slots: dict[str, Any], need: tuple[str, ...] = ()
    ) -> tuple[str, str]:
        return self.language.say(self.rng, section, Extras(self.rng, self.words, slots), need)

    def _negated(self, text: str, draft: Draft) -> str:
        named = {m.target for want in draft.intent.wants for m in want.mentions()}
        kind: Kind = next((m.kind for want in draft.intent.wants for m in want.mentions()), "cell")
        other = self.words.mention(self.rng, kind, plain=True)
        if other.target in named or other.target is None:
            return text
        slots = {"y": (other.noun,), "do": text}
        third = self.words.mention(self.rng, kind, plain=True)
        if third.target in named | {other.target, None} or self.rng.random() > _NEITHER:
            return self._frame("negate.do", slots)[0]
        return self._frame("negate.two", slots | {"z": (third.noun,)})[0]

    def _surrounded(self, text: str, draft: Draft, tags: list[str]) -> str:
        """The text with what else people write around a request."""
        beside = draft.intent.wants and draft.intent.presumed() is None
        if beside and not draft.intent.asks_tissue and self._chance("not_organ"):
            text = self._frame("mixed.front.not_organ", {"do": capital(text)})[0]
        if draft.intent.wants and self._chance("mixed") and not text.endswith("?"):
            tags.append("mixed")
            text = text.rstrip(".") + self._frame("filler.also_no", {})[0]
        if _is_within(draft) and self._chance("outer"):
            text = f"{closed(text)} {self._frame('filler.outer', {})[0]}"
        if draft.intent.wants and self._chance("aside"):
            text = self._frame("filler.aside", {"do": text})[0]
        if self._chance("clinical"):
            tags.append("clinical")
            text = self._after_history(text)
        elif self._chance("background"):
            tags.append("background")
            count = self.rng.choice((1, 1, 1, 2, 2, 3, 4))
            said = self._told("filler.background", count)
            if self.rng.random() < 0.75:
                text = f"{said} {capital(text)}"
            else:
                text = f"{closed(text)} {said}"
        if self._chance("injection"):
            tags.append("injection")
            if self.rng.random() < 0.5:
                text = self._frame("filler.injection", {})[0] + capital(text)
            else:
                text = closed(text) + self._frame("filler.injection_tail", {})[0]
        return text

    def _after_history(self, text: str) -> str:
        """The text after values, drugs and abbreviations that are beside the point."""
        told = self._told("filler.clinical", self.rng.randint(1, 4))
        said = self._frame("filler.only", {"do": text})[0] if self.rng.random() < _ONLY else text
        return f"{told} {capital(said)}"

    def _told(self, section: str, count: int) -> str:
        """Several sentences of a section, none twice."""
        drawn = (self._frame(section, {}) for _ in range(count))
        return " ".join({frame: words for words, frame in drawn}.values())


def _is_within(draft: Draft) -> bool:
    """Whether all that is asked for lies in one region: then there is an outside to leave."""
    scopes = [scope for want in draft.intent.wants for scope in want.scopes]
    return len(scopes) == 1 and scopes[0].within is not None and scopes[0].outside is None


def capital(text: str) -> str:
    """`text` with a capital, the rest as it is."""
    return text[:1].upper() + text[1:]


def closed(text: str) -> str:
    """`text` with a full stop, unless it ends in a mark of its own."""
    return text if text.endswith((".", "?", "!")) else f"{text}."
