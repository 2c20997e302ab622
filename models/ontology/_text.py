"""Text normalisation: what two phrases must share to count as the same phrase.

The contract's rule: Unicode NFKD without accents, lower case, hyphens and apostrophes to spaces,
British to American spelling, plurals to singular, and the words that say nothing dropped where
something is left.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_HYPHENS = "-_\u00ad\u02d7\u2010\u2011\u2012\u2013\u2014\u2015\u2043\u2212\u30fb"
_APOSTROPHES = "'`\u00b4\u02b9\u02bb\u02bc\u02c8\u2018\u2019\u201a\u201b\u2032\u055a"
_TO_SPACE = str.maketrans(dict.fromkeys(_HYPHENS + _APOSTROPHES, " "))

DROPPED = (
    *("a", "an", "the", "of"),
    *("region", "area", "zone", "structure", "component", "compartment", "tissue"),
)
"""Words dropped where something is left, in the order of dropping: `tissue` says most, so last."""

_AMERICAN = tuple(
    (re.compile(pattern), american)
    for pattern, american in (
        (r"(tum|col|behavi|neighb|od)our", r"\1or"),
        (r"oedem", "edem"),
        (r"haem", "hem"),
        (r"anaem", "anem"),
        (r"aemi(as?|c)$", r"emi\1"),
        (r"leuc(o|aem|em)", r"leuk\1"),
        (r"leukaem", "leukem"),
        (r"(^|o)oesoph", r"\1esoph"),
        (r"(fib|calib)re(s?)$", r"\1er\2"),
        (r"centre(s?)$", r"center\1"),
        (r"^oestr", "estr"),
        (r"^foet(us|al)", r"fet\1"),
        (r"^(c|f|gyn|h|p)ae(c|di)", r"\1e\2"),
        (r"^coeli", "celi"),
        (r"^naev", "nev"),
        (r"rrhoe", "rrhe"),
        (r"^grey(s?|ish)$", r"gray\1"),
        (r"artefact", "artifact"),
        (r"^sulph", "sulf"),
        (
            r"(keratin|hyalin|vascular|necrot|granular|calc|organ|vacuol|epithelial|decidual|local"
            r"|visual|general|character|summar|recogn|colon|binucleol)is(e[ds]?|ing|ations?)$",
            r"\1iz\2",
        ),
    )
)

_IRREGULAR = {
    plural: singular
    for singular, plurals in {
        "alga": "algae",
        "anastomosis": "anastomoses",
        "apex": "apices apexes",
        "appendix": "appendices appendixes",
        "atrium": "atria",
        "axis": "axes",
        "bacterium": "bacteria",
        "calyx": "calyces calices",
        "carcinoma": "carcinomata",
        "cervix": "cervices cervixes",
        "child": "children",
        "cilium": "cilia",
        "corpus": "corpora",
        "cortex": "cortices cortexes",
        "crisis": "crises",
        "criterion": "criteria",
        "diverticulum": "diverticula",
        "endothelium": "endothelia",
        "epithelium": "epithelia",
        "flagellum": "flagella",
        "focus": "foci focuses",
        "foot": "feet",
        "foramen": "foramina",
        "ganglion": "ganglia",
        "half": "halves",
        "hepatitis": "hepatitides",
        "hilum": "hila",
        "index": "indices",
        "infundibulum": "infundibula",
        "interstitium": "interstitia",
        "labium": "labia",
        "larynx": "larynges",
        "leaf": "leaves",
        "locus": "loci",
        "lumen": "lumina",
        "man": "men",
        "matrix": "matrices",
        "meninx": "meninges",
        "mesothelium": "mesothelia",
        "mitochondrion": "mitochondria",
        "mouse": "mice",
        "myometrium": "myometria",
        "omentum": "omenta",
        "organism": "organisms",
        "ostium": "ostia",
        "ovum": "ova",
        "pharynx": "pharynges",
        "phenomenon": "phenomena",
        "plexus": "plexuses",
        "septum": "septa",
        "serum": "sera",
        "spermatogonium": "spermatogonia",
        "spermatozoon": "spermatozoa",
        "sphincter": "sphincteres",
        "stratum": "strata",
        "testis": "testes",
        "tooth": "teeth",
        "urothelium": "urothelia",
        "varix": "varices",
        "ventriculus": "ventriculi",
        "vertex": "vertices",
        "woman": "women",
        # -us, -i: spelled out, because other words end in -i too (arrector pili, Golgi).
        **{
            stem + "us": stem + "i"
            for stem in (
                *("acin", "alveol", "annul", "bacill", "bronch", "calcul", "canalicul", "cocc"),
                *("colicul", "embol", "fung", "glomerul", "gyr", "hil", "humer", "isthm"),
                *("microvill", "nev", "nodul", "nucle", "nucleol", "papill", "pronucle", "radi"),
                *("ram", "sacc", "stimul", "sulc", "syncyti", "thalam", "thromb", "thym", "tof"),
                *("tub", "tubul", "uter", "utricul", "vill", "hippocamp", "meat", "uncin"),
            )
        },
    }.items()
    for plural in plurals.split()
}

_SINGULAR_IN_S = frozenset(
    {
        *("alas", "albicans", "always", "as", "ascites", "atlas", "biceps", "bias", "caries"),
        *("diabetes", "does", "dens", "facies", "feces", "gas", "glans", "has", "herpes"),
        *("langerhans", "langhans", "lens", "mons", "pancreas", "plus", "pons", "pus", "rabies"),
        *("scabies", "series", "species", "thus", "triceps", "vas", "was", "yes"),
    }
)
"""Words that end in a single s and are no plural."""

_PLURAL_ENDINGS = tuple(
    (re.compile(pattern), singular)
    for pattern, singular in (
        (r"(ss|us|is)$", r"\1"),
        (r"(?<=[a-z]{2}m)ata$", "a"),
        (r"(?<=[a-z]{3})ae$", "a"),
        (r"(?<=[a-z]{2})(?<![cdnpr])oses$", "osis"),
        (r"(necr|myc|fibr|scler|sten|thromb|diagn|progn|apopt|neur|cirrh|keratin)oses$", r"\1osis"),
        (r"(anal|lys|dial|paral)yses$", r"\1ysis"),
        (r"(st|i)ases$", r"\1asis"),
        (r"([a-z]{2,})ies$", r"\1y"),
        (r"(ss|sh|ch|x|zz)es$", r"\1"),
        (r"([a-z]{2,}[^aeo])uses$", r"\1us"),
        (r"(?<=[^\W\d_]{2})s$", ""),
    )
)


_LONGEST_WORD = 64
"""Letters of the longest word that is looked at; longer ones are no words and stay."""


def singular(word: str) -> str:
    """Give the singular of `word` (lower case, no spaces); a word that is no plural stays."""
    if len(word) > _LONGEST_WORD:
        return word
    while (shorter := _singular_step(word)) != word:
        word = shorter
    return word


def _singular_step(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word in _SINGULAR_IN_S:
        return word
    for pattern, ending in _PLURAL_ENDINGS:
        result, found = pattern.subn(ending, word)
        if found:
            return result
    return word


def american(word: str) -> str:
    """Give the American spelling of `word` (lower case, no accents)."""
    if len(word) > _LONGEST_WORD:
        return word
    for pattern, spelling in _AMERICAN:
        word = pattern.sub(spelling, word)
    return word


@lru_cache(maxsize=8192)
def _word(word: str) -> str:
    return singular(american(word))


def fold(text: str) -> str:
    """Lower-case `text` without accents, hyphens and apostrophes as single spaces."""
    decomposed = unicodedata.normalize("NFKD", text.translate(_TO_SPACE).lower())
    bare = "".join(c for c in decomposed if not unicodedata.combining(c))
    if not bare.isascii():
        # A compatibility letter can decompose into an upper-case letter or an apostrophe.
        bare = unicodedata.normalize("NFKD", bare.translate(_TO_SPACE).lower())
        bare = "".join(c for c in bare if not unicodedata.combining(c))
    return " ".join(bare.translate(_TO_SPACE).lower().split())


def normalise(text: str) -> str:
    """Bring a phrase to the form in which phrases are compared.

    Args:
        text: any string; a noun phrase in English where the result is to mean something.

    Returns:
        The normal form. `normalise(normalise(x)) == normalise(x)` for every string.

    Source: the contract's section "A case". Words are dropped one kind at a time, so that a
    phrase of nothing but such words keeps one: "the tissue" is "tissue", "the area" is "area".
    """
    words = [_word(word) for word in fold(text).split()]
    for dropped in DROPPED:
        words = [word for word in words if word != dropped] or words
    return " ".join(words)
