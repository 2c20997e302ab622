"""How English is spelt by others, and how anything is misspelt."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from random import Random

from models.ontology import american
from models.planner.generate.grammar import Language

_BRITISH = tuple(
    (re.compile(pattern, re.IGNORECASE), british)
    for pattern, british in (
        (r"\b(t)umor(?!ig)", r"\1umour"),
        (r"\bcenter", "centre"),
        (r"\bfiber", "fibre"),
        (r"\b(h)em(?=at|or|ang|o[sgl])", r"\1aem"),
        (r"\bedema", "oedema"),
        (r"\besoph", "oesoph"),
        (r"leuk(?=oc)", "leuc"),
        (r"\bcolor", "colour"),
        (r"\bgray\b", "grey"),
        (r"\banem", "anaem"),
        (r"\bnev(?=us|i\b)", "naev"),
        (r"artifact", "artefact"),
        (r"(keratin|hyalin)iz", r"\1is"),
        (r"\bcec(?=um|al)", "caec"),
    )
)
_NAMES = re.compile(
    r"\b(purkinje|kupffer|sertoli|leydig|paneth|langerhans|langhans|schwann|hassall|bowman|henle"
    r"|brunner|peyer|hofbauer|merkel|reed sternberg|hodgkin|barrett|disse|mallory|councilman|lewy"
    r"|gleason|henle|touton|bergmann|golgi|rosenthal|russell|haversian|lieberkuhn|hurthle)\b"
)
_HYPHENS = re.compile(r"\b(tumor infiltrating|signet ring|foreign body|small round blue)(?= )")
_UMLAUTS = str.maketrans(
    {"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "ß": "ss"}
)
_NEAR = {
    **dict(zip("qwertyuiop", "wertyuiopo", strict=True)),
    **dict(zip("asdfghjkl", "sdfghjklk", strict=True)),
    **dict(zip("zxcvbnm", "xcvbnmn", strict=True)),
}

_TEXTED = {
    **{"you": "u", "your": "ur", "are": "r", "could": "cd", "would": "wd", "should": "shd"},
    **{"please": "pls", "thanks": "ta", "with": "w/", "without": "w/o", "and": "n", "for": "4"},
    **{"because": "cos", "what": "wot", "before": "b4", "about": "abt", "percentage": "%age"},
}
_BRIEF = 0.6
"""How often someone on a phone shortens a word that can be shortened."""


@lru_cache(maxsize=65536)
def _british(word: str) -> str:
    spelt = word
    for pattern, british in _BRITISH:
        spelt = pattern.sub(british, spelt)
    return spelt if american(spelt.lower()) == american(word.lower()) else word


def american_to_british(text: str) -> str:
    """`text` with British spellings; only such as the ontology reads back."""
    return " ".join(_british(word) if word.isalpha() else word for word in text.split(" "))


def named(rng: Random, text: str) -> str:
    """`text` with proper names and hyphens as most people write them."""
    if rng.random() < 0.7:
        text = _NAMES.sub(lambda match: match[0].title().replace(" ", "-"), text)
    if rng.random() < 0.5:
        text = _HYPHENS.sub(lambda match: match[0].replace(" ", "-"), text)
    return text


def careless(text: str, code: str) -> str:
    """`text` without the apostrophes of English contractions, or without others' accents."""
    if code == "en":
        return re.sub(r"\b(\w+)['’](s|t|m|d|re|ll)\b", r"\1\2", text)
    if code == "de":
        text = text.translate(_UMLAUTS)
    decomposed = unicodedata.normalize("NFD", text)
    return "".join(c for c in decomposed if not unicodedata.combining(c))


def texted(rng: Random, text: str) -> str:
    """English `text` with some of its small words as they are typed on a phone: "cd u", "w/o"."""
    words = text.split(" ")
    return " ".join(_TEXTED.get(w, w) if rng.random() < _BRIEF else w for w in words)


def dictated(rng: Random, text: str, language: Language, *, hesitant: bool) -> str:
    """`text` as it is taken down: no capitals, marks left out or spoken, some hesitations."""
    spoken = language.spoken if rng.random() < _SPOKEN else {}
    text = re.sub(
        r"\s*([.,;:!?¿¡])(?=\s|$)|[¿¡]",
        lambda match: f" {spoken.get(match[1], '')}".rstrip(),
        text,
    )
    words = text.lower().split()
    if hesitant and len(words) > 3 and rng.random() < _HESITANT:
        for _ in range(rng.randint(1, 3)):
            words.insert(rng.randrange(1, len(words)), rng.choice(language.hesitations))
    return " ".join(words)


_SPOKEN, _HESITANT = 0.2, 0.25
"""How often someone who dictates speaks the punctuation, or hesitates."""


def typos(rng: Random, text: str) -> str:
    """`text` with one to three slips in words of five letters and more."""
    words = text.split(" ")
    places = [i for i, word in enumerate(words) if len(word) > 4 and word.isalpha()]
    for place in rng.sample(places, min(len(places), 1 + int(rng.random() * 2.2))):
        words[place] = _slip(rng, words[place])
    return " ".join(words)


def _slip(rng: Random, word: str) -> str:
    at = rng.randrange(1, len(word) - 1)
    match rng.randrange(4):
        case 0:
            return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        case 1:
            return word[:at] + word[at + 1 :]
        case 2:
            return word[:at] + word[at] + word[at:]
        case _:
            return word[:at] + _NEAR.get(word[at], word[at]) + word[at + 1 :]
