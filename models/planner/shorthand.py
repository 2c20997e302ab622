"""English short forms spelt out, and organs put beside specimens, before the model reads them.

Nobody needs a model to learn that "GCs" are germinal centers or that "TURP chips" come from the
prostate: the generator's lexicon says so. "gastrectomy: count the eos" is read as "stomach
gastrectomy: count the eosinophil". Fixed names (TILs, DCIS) stay as they are.
"""

from __future__ import annotations

import csv
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

from models.ontology import american, expected_organ, find, fold, singular

_LEXICON = resources.files("models.planner") / "generate" / "lexicon"
_WORD = re.compile(r"[^\W\d_]+")
_BIOPSY = re.compile(r"\bbxs?\b", re.IGNORECASE)
_LONGEST = 4
"""Words of the longest phrase that is looked up."""


@dataclass(frozen=True)
class _Short:
    """What is looked up: `any_case` by words as they are compared, `capitals` as written."""

    any_case: Mapping[Sequence[str], str]
    capitals: Mapping[Sequence[str], str]
    specimens: Mapping[Sequence[str], str]


@dataclass(frozen=True, slots=True)
class Specimen:
    """A specimen's English name and the organ that it comes from.

    Attributes:
        said: "turp chips"; in capitals what is read in capitals only: "LN".
        organ: as `classify_tissue` expects it.
        others: its names in other languages, by code; a language may have none.
    """

    said: str
    organ: str
    others: Mapping[str, str]

    @property
    def glossed(self) -> str:
        """How the model reads it: with the organ, unless the words name that already."""
        if self.said.isupper():
            return self.organ
        return self.said if _names(self.said, self.organ) else f"{self.organ} {self.said}"


def spelt_out(text: str) -> str:
    """`text`, in English, with its short forms spelt out and its specimens' organs named."""
    out: list[str] = []
    end = 0
    for start, stop, meant in _found(text):
        out += (text[end:start], meant)
        end = stop
    return "".join((*out, text[end:]))


@lru_cache(maxsize=1)
def specimens() -> Sequence[Specimen]:
    """The specimens that `lexicon/specimens.csv` lists, in its order."""
    rows = [dict(row) for row in lexicon_rows("specimens.csv")]
    return tuple(
        Specimen(row.pop("en"), _expected(row.pop("organ")), {k: v for k, v in row.items() if v})
        for row in rows
    )


@lru_cache(maxsize=8)
def lexicon_table(name: str) -> Mapping[str, Any]:
    """A TOML file of the generator's lexicon, which is read here: the generator imports this."""
    return tomllib.loads((_LEXICON / name).read_text("utf-8"))


@lru_cache(maxsize=16)
def lexicon_rows(name: str) -> Sequence[Mapping[str, str]]:
    """The rows of a CSV file of the lexicon."""
    return tuple(csv.DictReader((_LEXICON / name).read_text("utf-8").splitlines()))


def short_words() -> frozenset[str]:
    """All words of the short forms and specimens, in lower case."""
    short = _short()
    keys = (*short.any_case, *short.capitals, *short.specimens)
    return frozenset(word.lower() for key in keys for word in key)


def _found(text: str) -> Iterator[tuple[int, int, str]]:
    words = list(_WORD.finditer(text))
    at = 0
    while at < len(words):
        length = 1
        for size in range(min(_LONGEST, len(words) - at), 0, -1):
            start, stop = words[at].start(), words[at + size - 1].end()
            around = (words[max(0, at - 2) : at], words[at + size : at + size + 3])
            if meant := _meant(text[start:stop], [[w[0] for w in side] for side in around]):
                length = size
                yield start, stop, meant
                break
        at += length


def _meant(said: str, around: Sequence[Sequence[str]]) -> str | None:
    """What `said` means, where it is a short form or a specimen; `around` are words beside it."""
    short, written = _short(), tuple(re.split(r"[ -]", said))
    meant = short.capitals.get(written) or short.any_case.get(tuple(map(str.lower, written)))
    if meant:
        named = around[1][:1] in (["cell"], ["cells"])  # "parietals cells"
        return meant.removesuffix(" cell") if named else meant
    organ = short.specimens.get(tuple(_key(_BIOPSY.sub("biopsy", word)) for word in written))
    if organ is None:
        return None
    named = _names(said, organ) or any(_names(" ".join(side), organ) for side in around)
    spelt = _BIOPSY.sub("biopsy", said)
    return spelt if named else f"{organ} {spelt}"


@lru_cache(maxsize=1)
def _short() -> _Short:
    data = lexicon_table("english.toml")
    in_any_case = data["slang"] | data["words"]
    any_case: dict[Sequence[str], str] = {tuple(s.split()): in_any_case[s] for s in in_any_case}
    capitals = dict(data["initials"])
    named: dict[Sequence[str], str] = {}
    for specimen in specimens():
        if specimen.said.isupper():
            capitals[specimen.said] = specimen.organ
        else:
            named[tuple(map(_key, specimen.said.split()))] = specimen.organ
    many = {f"{said}{ending}": name for said, name in capitals.items() for ending in ("", "s", "S")}
    return _Short(any_case, {(said,): name for said, name in many.items()}, named)


def _expected(organ: str) -> str:
    concept = find(organ, "organ")
    return (expected_organ(concept) if concept else None) or organ


def _names(phrase: str, organ: str) -> bool:
    """Whether a run of words in `phrase` names `organ`."""
    words = phrase.split()
    runs = (words[a:b] for b in range(1, len(words) + 1) for a in range(max(0, b - 3), b))
    return any(_expected_of(" ".join(run)) == organ for run in runs)


def _expected_of(name: str) -> str | None:
    concept = find(name, "organ")
    return expected_organ(concept) if concept else None


@lru_cache(maxsize=65536)
def _key(word: str) -> str:
    return singular(american(fold(word).replace(" ", "")))
