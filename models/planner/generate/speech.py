"""From a draft to what the user writes: clauses, places, politeness, and how people type."""

from __future__ import annotations

import re
from random import Random
from typing import Any

from models.planner.generate.besides import Besides, capital
from models.planner.generate.compounds import SECTION
from models.planner.generate.drafts import Draft, Part, nouns, pick
from models.planner.generate.entities import Organ
from models.planner.generate.intents import Known, Scope
from models.planner.generate.lexicons import specimens_of
from models.planner.generate.noise import (
    american_to_british,
    careless,
    dictated,
    named,
    texted,
    typos,
)

_STYLES = {
    "plain": ("do", "do", "ask"),
    "polite": ("do", "ask"),
    "terse": ("terse",),
    "dictated": ("do", "ask"),
    "chatty": ("do", "ask"),
    "foreign": ("do",),
}
_SHOUTED = 0.05
"""How often someone who chats has the caps lock on."""
_SPECIMEN, _NOTED, _MARKS = 0.4, 0.5, (": ", ". ", " - ", ", ")
"""How often a specimen stands for the organ before a clause, how often then with an age or other
words, and what follows it without them."""
_BETWEEN = 0.08
"""How often what is outside of several things is said to lie between them."""


class Speaker(Besides):
    """Says drafts in one language."""

    def say(self, draft: Draft) -> tuple[str, str, tuple[str, ...]]:
        """The instruction, the id of its (first) frame, and tags for the register and noises."""
        register = pick(self.rng, "register")
        tags = [register]
        text, frame, style = self._clauses(draft, register)
        if draft.intent.reply is None:
            if "do" in style:
                text = self._wrapped(text, register)
            text = self._surrounded(text, draft, tags)
        elif draft.intent.reply.kind == "decline":
            if self._chance("organ"):
                text = self._fronted(_uncapital(text), self.words.organ(self.rng))
            if self._chance("background"):
                text = f"{self._frame('filler.background', {})[0]} {capital(text)}"
        text = self._typed(text, register, draft, tags)
        return text, frame, tuple(tags)

    def _clauses(self, draft: Draft, register: str) -> tuple[str, str, str]:
        organ = None if draft.organ_said else draft.intent.organ
        several = len(draft.parts) > 1 or draft.parts[0].section.startswith(SECTION)
        fronted = organ is not None and (several or self.rng.random() < 0.5)
        placed = None if fronted else organ
        styles = _STYLES[register]
        style = "do" if len(draft.parts) > 1 or draft.parts[0].tail else self.rng.choice(styles)
        if draft.parts[0].section.startswith("note."):
            style = "note"
        said = [self._clause(part, style, placed) for part in draft.parts]
        texts, frame = [text for text, _ in said], said[0][1]
        if draft.parts[0].section == "tissue.is" and len(texts) > 1:
            first, _ = self._frame("tissue.is.ask", dict(draft.parts[0].slots))
            text, style = f"{first} {capital(self._joined(texts[1:], 'join'))}", "ask"
        else:
            text = self._joined(texts, "notes" if style == "note" else "join")
        if ".do#" not in frame:
            style = "ask"  # not an imperative that can be wrapped
        if style == "do" and register == "dictated" and self._chance("repair"):
            text, style = self._frame("repair.do", {"do": text})[0], "ask"
        elif style == "do" and draft.intent.wants and self._chance("negate"):
            text, style = self._negated(text, draft), "ask"
        if fronted and organ is not None:
            text, style = self._fronted(text, organ), "ask"
        return text, frame, style

    def _clause(self, part: Part, style: str, organ: Organ | None) -> tuple[str, str]:
        slots = dict(part.slots)
        if "ordinal" in slots:
            slots["ordinal"] = self._frame(f"ordinals.{slots['ordinal']}", {})[0]
        scope = part.scope
        need = ("where",) if scope != Scope() else ()
        plain_in = scope.within is not None and scope.outside is None and scope.around is None
        fronted = style == "do" and plain_in and not part.pronoun and self.rng.random() < 0.12
        where = "" if fronted else self._where(scope, part.pronoun)
        in_organ = self._in_organ("where", organ, {}) if organ else ""
        slots["where"] = where + in_organ
        bare = plain_in and not (part.tail or part.pronoun or organ)
        if bare and (said := self._double(part)):
            return said
        text, frame = self._worded(part, style, slots, need)
        if in_organ not in text:
            text += in_organ
        if part.tail:
            text += self._frame(f"tail.{part.tail}", slots)[0]
        if fronted and scope.within is not None:
            text, _ = self._frame("front.in", {"r": nouns(scope.within), "do": text})
            frame = frame.replace(".do#", ".front#")
        return text, frame

    def _double(self, part: Part) -> tuple[str, str] | None:
        """A place by what is not to be outside it: "no mitoses that aren't in the tumor"."""
        section = f"double.{part.section.removesuffix('.cell').removesuffix('.region')}"
        said = part.slots.get("x", ())
        many = len(said) == 1 and said[0].plural
        place = part.scope.within if many and section in self.language.frames else None
        if place is None or not self._chance("double"):
            return None
        return self._frame(section, {**part.slots, "r": nouns(place)})

    def _fronted(self, text: str, organ: Organ) -> str:
        """The organ before a clause, sometimes after others that are beside the point."""
        specimens = specimens_of(self.language.code).get(organ.expected, ())
        sampled = specimens and self.rng.random() < _SPECIMEN
        slots = _organ_slots(organ) | {"do": text}
        if sampled:
            slots["s"] = self.rng.choice(specimens)
        if self._chance("history"):
            now = self._frame(f"mixed.front.{'sampled' if sampled else 'specimen'}", slots)[0]
            told = self._told("mixed.front.history", self.rng.randint(1, 3))
            return f"{told} {capital(now) if told.endswith('.') else now}"
        if sampled and self.rng.random() < _NOTED:
            return self._frame("mixed.front.noted", slots)[0]
        if sampled:
            return f"{slots['s']}{self.rng.choice(_MARKS)}{text}"
        return self._in_organ("front", organ, {"do": text})

    def _in_organ(self, place: str, organ: Organ, slots: dict[str, Any]) -> str:
        """The organ before a clause or at its end; half of the time by its adjective."""
        foreign = self.language.code != "en" and organ.adjective != organ.noun
        how = "adjective" if foreign and self.rng.random() < 0.5 else "organ"
        return self._frame(f"{place}.{how}", _organ_slots(organ) | slots)[0]

    def _worded(
        self, part: Part, style: str, slots: dict[str, Any], need: tuple[str, ...]
    ) -> tuple[str, str]:
        if part.words is not None:
            words = part.words.render(self.rng, self.language, slots)
            return words, f"{self.language.code}:{part.section}"
        try:
            return self._frame(f"{part.section}.{style}", slots, need)
        except KeyError:  # a follow-up: it has no styles
            return self._frame(part.section, slots, need)

    def _quality(self, scope: Scope) -> str:
        """A place or an exclusion by what the tissue is like there, or ""."""
        things = scope.within, scope.outside
        thing = next((t for t in things if t is not None), None)
        if thing is None or all(things) or scope.around is not None or not self.words.inventions:
            return ""
        mention = thing.mention if isinstance(thing, Known) else thing
        said = [p for p, found in self.words.inventions.predicates if found == mention]
        if not said or self.rng.random() < 0.3:
            return ""
        where = "in" if scope.within is not None else "out"
        return self._frame(f"where.quality.{where}", {"p": said[0]})[0]

    def _where(self, scope: Scope, pronoun: bool) -> str:
        if not pronoun and (quality := self._quality(scope)):
            return quality
        if scope.within and scope.outside and self.rng.random() < (1.0 if pronoun else 0.5):
            place = self._where(Scope(within=scope.within), pronoun)
            quality = self._quality(Scope(outside=scope.outside))
            return place + (quality or self._frame("where.minus", {"r": nouns(scope.outside)})[0])
        if pronoun:
            thing = scope.within or scope.outside
            many = isinstance(thing, Known) and thing.mention.noun.plural
            name = ("" if scope.within else "not") + ("them" if many else "it")
            return self._frame(f"where.{name}", {})[0]
        if scope.within is not None and scope.outside is not None:
            slots = {"r": nouns(scope.within), "q": nouns(scope.outside)}
            return self._frame("where.both", slots)[0]
        if scope.within is not None and scope.around is not None:
            slots = {"r": nouns(scope.within), "q": nouns(scope.around)}
            return self._frame("where.nested", slots)[0]
        if scope.within is not None:
            return self._frame("where.in", {"r": nouns(scope.within)})[0]
        if scope.outside is not None:
            many = nouns(scope.outside)[0].plural
            if many and self.rng.random() < _BETWEEN:
                return self._frame("where.between", {"r": nouns(scope.outside)})[0]
            return self._frame("where.out", {"r": nouns(scope.outside)})[0]
        return ""

    def _joined(self, texts: list[str], how: str) -> str:
        if len(texts) == 1:
            return texts[0]
        section = f"{how}.and" if len(texts) == 2 else f"{how}.three"
        return self._frame(section, dict(zip("abc", texts, strict=False)))[0]

    def _wrapped(self, text: str, register: str) -> str:
        if self._chance("mixed"):
            return self._frame("filler.no_first", {"do": text})[0]
        if register == "foreign":
            return self._frame("wrap.foreign", {"do": text})[0]
        if register in ("polite", "chatty") or self.rng.random() < 0.25:
            return self._frame("wrap.do", {"do": text})[0]
        return text

    def _typed(self, text: str, register: str, draft: Draft, tags: list[str]) -> str:
        """Punctuation, capitals, fillers, spelling."""
        rng, code = self.rng, self.language.code
        if register in ("chatty", "dictated") and rng.random() < 0.6:
            text = f"{self._frame('filler.lead', {})[0]} {_uncapital(text)}"
        if register in ("chatty", "terse") and rng.random() < 0.25 and not text.endswith("?"):
            text = f"{text.rstrip('.')} {self._frame('filler.tail', {})[0]}"
        if code == "en":
            text = re.sub(r"\b([aA]) (?=[aeioAEIO][a-z])", r"\1n ", text)
            text = named(rng, text)
            if self._chance("british"):
                text = american_to_british(text)
            if register in ("chatty", "terse") and self._chance("texted"):
                text = texted(rng, text)
        if code in ("fr", "ca"):
            text = re.sub(r"\b([Dd])e (?=[aeiouéèêàò])", r"\1'", text)
        if register in ("terse", "chatty", "dictated") and self._chance("careless"):
            text = careless(text, code)
        verbatim = any(m.verbatim for want in draft.intent.wants for m in want.mentions())
        if not verbatim and self._chance("typos"):
            tags.append("typos")
            text = typos(rng, text)
        if register == "dictated":
            return dictated(rng, " ".join(text.split()), self.language, hesitant=not verbatim)
        return _finished(rng, text, register)


def _organ_slots(organ: Organ) -> dict[str, Any]:
    return {"o": (organ.noun,), "a": (organ.adjective,)}


def _uncapital(text: str) -> str:
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


def _finished(rng: Random, text: str, register: str) -> str:
    text = " ".join(text.split()).replace(" ,", ",").replace(" ?", "?")
    if register == "terse":
        return text.lower() if rng.random() < 0.3 else text
    if register == "chatty" and rng.random() < _SHOUTED:
        return text.upper()
    if register in ("plain", "polite") or rng.random() < 0.4:
        text = re.sub(r"([.?!] )([a-zà-ÿ])", lambda m: m[1] + m[2].upper(), capital(text))
        if text[-1].isalnum() or text[-1] in ")%":
            text += "." if rng.random() < 0.75 else ""
    return text
