"""From items to requests: who is to be outlined, counted, boxed or measured, and within what.

The grammar, informally:

    instruction = request { joiner request }
    request     = { relation phrase } { intent } target { joiner target } { intent }
    target      = ( phrase | back-reference ) { relation phrase }
    relation    = in | outside          joiner = and | , | then | .
"""

from __future__ import annotations

from collections.abc import Sequence

from agent.planners.rules_phrases import Phrase, make_phrase
from agent.planners.rules_read import BACK, COMMANDS, RELATIONS, Request, Token, read_request
from agent.planners.rules_words import AREA_WORDS, Item

_OPENERS = COMMANDS | {"tissue", "ask", "decline", "general", "ability", "same", "correct"}
_SUBSTANCE = BACK | {"phrase", "decline", "general", "tissue"}


def _area_is_measured(items: Sequence[Item], position: int) -> bool:
    """Whether "area" is a figure ("the tumor's area") rather than a place ("necrotic areas")."""
    beside = position > 0 and items[position - 1].tag in {"term", "word"}
    for item in reversed(items[:position]):
        if item.tag in {"show", "count", "box", "in", "out"}:
            return False
        if item.tag in {"ask", "measure", "share", "stop"} or (item.tag == "and" and not beside):
            return True
    return True


def _settle_figures(items: Sequence[Item]) -> list[Item]:
    """Tell figures from attributes: "the tumor's area", "are they round", but "round nuclei"."""
    settled = []
    for position, item in enumerate(items):
        if item.tag == "area":
            measured = _area_is_measured(items, position)
            item = Item("measure" if measured else "vague", item.words)
        elif item.tag == "shape":
            before_noun = any(i.tag == "term" for i in items[position + 1 : position + 3])
            item = Item("word" if before_noun else "measure", item.words)
        settled.append(item)
    return settled


def _compares(items: Sequence[Item], position: int) -> bool:
    """Whether "compared to" names a second structure rather than another organ."""
    nouns = [item.concept for item in items[position + 1 :] if item.concept][:1]
    return items[position].words[0] in {"compared", "in"} and any(n.kind != "organ" for n in nouns)


def _without_asides(items: Sequence[Item]) -> list[Item]:
    """Leave out what is only mentioned: history, comparison, purpose."""
    kept: list[Item] = []
    aside = False
    for position, item in enumerate(items):
        if item.tag == "aside" and _compares(items, position):
            item = Item("and", item.words)
        if item.tag in COMMANDS or item.tag in {"and", "stop"}:
            aside = False
        purpose = item.tag == "decline" and bool(kept) and kept[-1].tag == "prep"
        if item.tag == "aside" or (purpose and any(i.tag == "term" for i in kept)):
            aside = True
        if not aside:
            kept.append(item)
    return kept


def _phrase_end(items: Sequence[Item], start: int) -> int:
    end = start
    while end < len(items) and (
        items[end].tag in {"term", "word"}
        or (end > start and items[end].tag == "vague" and items[end].words[0] in AREA_WORDS)
    ):
        end += 1
    return end


def _pronoun(item: Item, before: str, after: str) -> list[Token]:
    """Read "this", "their" and the like: before a noun they point, alone they refer back."""
    if after in {"term", "word"} and item.words == ("their",):
        return [Token("in", item.words), Token("ref", item.words)]
    if item.words == ("that",) and before == "phrase":
        return []
    if item.tag == "ref":
        return [Token("ref", item.words)]
    introduces = after == "be" and before in {"", "and", "stop"}
    if introduces or after in {"term", "word", "image", "vague", "wrapper", "tissue"}:
        return [Token("deictic", item.words)]
    # "what percentage of this is fat" is asked of the image.
    image = item.words == ("this",) and before in {"of", "in"}
    return [Token("image" if image else "ref", item.words)]


def _next_tag(items: Sequence[Item], position: int) -> str:
    return next((item.tag for item in items[position:] if item.tag != "filler"), "")


def _tokens(items: Sequence[Item]) -> list[Token]:
    """Join neighbouring nouns to phrases, and settle what small words stand for."""
    out: list[Token] = []
    position = 0
    while position < len(items):
        item = items[position]
        before = out[-1].tag if out else ""
        end = _phrase_end(items, position)
        after = _next_tag(items, max(end, position + 1))
        if end > position:
            # "a breast cancer patient" is nothing in the image.
            tag = "person" if after == "person" else "phrase"
            phrase = make_phrase(items[position:end])
            out.append(Token(tag, items[end - 1].words, phrase=phrase))
        elif item.tag in {"det", "ref"}:
            out += _pronoun(item, before, after)
        elif item.tag in {"vague", "wrapper"}:
            if after == "of":
                end = position + 2
            elif before != "phrase":
                out.append(Token("phrase", item.words, phrase=Phrase(item.words[0], "vague")))
        elif item.words == ("around",) and before in {"phrase", "ref"}:
            out.append(Token("decline", item.words, "measure"))
        else:
            out.append(Token(item.tag, item.words, item.reason))
        position = max(end, position + 1)
    return out


def _has_substance(tokens: Sequence[Token]) -> bool:
    """Whether there is anything to act on besides a fronted "in the tumor"."""
    fronted = False
    for token in tokens:
        fronted = token.tag in RELATIONS or (fronted and token.tag not in COMMANDS)
        if token.tag in _SUBSTANCE and not fronted:
            return True
    return False


def _split(tokens: Sequence[Token]) -> list[list[Token]]:
    """Cut where a joiner leads to a new intent, and at every full stop."""
    parts: list[list[Token]] = [[]]
    joined = False
    for token in tokens:
        current = parts[-1]
        full = _has_substance(current)
        if token.tag == "stop":
            current.append(token)
            parts.append([])
        elif joined and full and token.tag in _OPENERS:
            parts.append([token])
        else:
            current.append(token)
        joined = token.tag == "and" or (joined and token.tag == "not")
    return [part for part in parts if any(token.tag != "stop" for token in part)]


def parse(items: Sequence[Item]) -> list[Request]:
    """Read the requests of an instruction, in the order of its words."""
    tokens = _tokens(_without_asides(_settle_figures(items)))
    return [read_request(part) for part in _split(tokens)]
