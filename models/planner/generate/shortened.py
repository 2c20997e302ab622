"""The shorter name by which someone speaks of what was named before: "the thrombus"."""

from __future__ import annotations

import re

from models.planner.generate.grammar import Noun

_LATIN = (
    *("area", "carcinoma", "corpora", "corpus", "crista", "lamina", "limbus", "macula", "membrana"),
    *("muscularis", "nucleus", "pars", "stratum", "substantia", "tunica", "vasa", "zona"),
)
"""Begin names whose first noun is their head, and which nobody shortens."""
_GENERAL = (
    *("area", "areas", "band", "bed", "bodies", "body", "cell", "cells", "center", "change"),
    *("foci", "focus", "layer", "layers", "margin", "material", "nuclei", "nucleus", "part"),
    *("mucosae", "propria", "pancreas", "Pankreas", "Substanz", "aggs"),
    *("region", "regions", "situ", "space", "spaces", "structure", "tissue", "units", "zone"),
    *("área", "áreas", "célula", "células", "cuerpos", "espacio", "espacios", "focos", "tejido"),
    *("unidades", "zonas", "aire", "cellules", "corps", "espace", "espaces", "foyers", "tissu"),
    *("unités", "zones", "aree", "cellule", "corpi", "foci", "spazi", "spazio", "tessuto", "unità"),
    *(
        "zone",
        "cossos",
        "espai",
        "espais",
        "focus",
        "teixit",
        "unitats",
        "àrea",
        "àrees",
        "cèl·lules",
    ),
    *("corpos", "espaço", "espaços", "tecido", "carcinoma", "Bereiche", "Gewebe", "Raum", "Zone"),
)
"""Heads that say too little by themselves."""


def shortened(noun: Noun, code: str) -> Noun | None:
    """The head of a noun phrase of several words, or None where that is no name for it.

    Args:
        noun: as it was said in full.
        code: of its language, which says where the head stands.
    """
    text, one = _head(noun.text, code), _head(noun.singular, code)
    if text == noun.text or len(text) < 4 or text in _GENERAL or not text.isalpha():
        return None
    if noun.text.lower().startswith(tuple(f"{word} " for word in _LATIN)):
        return None
    return Noun(text, one, noun.article, noun.plural)


def _head(text: str, code: str) -> str:
    words = text.split()
    if code == "en":
        return re.split(r" (?:of|with|in|without) ", text)[0].split()[-1]
    if code == "de":
        return words[-1] if len(words) == 2 and words[0].islower() else text
    return words[0]
