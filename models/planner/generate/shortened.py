"""The shorter name by which someone speaks of what was named before: "the thrombus"."""

from __future__ import annotations

import re

from models.planner.generate.grammar import Noun
from models.planner.generate.lexicons import uncut


def shortened(noun: Noun, code: str) -> Noun | None:
    """The head of a noun phrase of several words, or None where that is no name for it.

    Args:
        noun: as it was said in full.
        code: of its language, which says where the head stands.
    """
    text, one = _head(noun.text, code), _head(noun.singular, code)
    anatomical, general = uncut(code)
    if text == noun.text or len(text) < 4 or text in general or not text.isalpha():
        return None
    if noun.text.lower().split()[0] in anatomical:
        return None
    return Noun(text, one, noun.article, noun.plural)


def _head(text: str, code: str) -> str:
    words = text.split()
    if code == "en":
        return re.split(r" (?:of|with|in|without) ", text)[0].split()[-1]
    if code == "de":
        return words[-1] if len(words) == 2 and words[0].islower() else text
    return words[0]
