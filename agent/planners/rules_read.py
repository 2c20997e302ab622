"""Reading one request: which targets it has, and which regions restrict which of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from agent.planners.rules_phrases import Phrase, Relation, Target
from agent.planners.rules_words import AREA_WORDS
from models import ontology

COMMANDS = frozenset({"count", "show", "box", "measure", "share", "amount", "ratio"})
BACK = frozenset({"ref", "first", "second", "third"})
"""Tags of the words that refer to an earlier result."""

RELATIONS: dict[str, Relation] = {"in": "within", "out": "outside"}
_JUDGEMENTS = frozenset(
    {
        *("malignant", "benign", "cancer", "cancerous", "precancerous"),
        *("normal", "healthy", "abnormal", "dysplastic"),
    }
)


@dataclass(frozen=True)
class Token:
    """An item, or a noun phrase made of several (tag `phrase`, then `words` are its last)."""

    tag: str
    words: tuple[str, ...]
    reason: str = ""
    phrase: Phrase | None = None


@dataclass
class Request:
    """What one part of an instruction asks for.

    Attributes:
        tags: the tags of all its tokens: its intents and its marks (`general`, `image`, ...).
        targets: what it is about, in the order of the words.
        operands: regions named before any target ("in the tumor, count ...", "now outside it").
        organs: organs named as what the image shows.
        presumed: organs that its structures presume.
        decline: reason code of something that can't be done, or empty.
        question: whether it is put as a question.
        words: its words, for the checks that need one exact word.
    """

    tags: set[str] = field(default_factory=set)
    targets: list[Target] = field(default_factory=list)
    operands: list[tuple[Relation, Target]] = field(default_factory=list)
    organs: list[str] = field(default_factory=list)
    presumed: list[str] = field(default_factory=list)
    decline: str = ""
    question: bool = False
    words: frozenset[str] = frozenset()

    def places(self) -> list[dict[Relation, Target]]:
        """The operands as a target's variants: one for each of "in the tumor and the stroma"."""
        variants: list[dict[Relation, Target]] = [{}]
        for relation, operand in self.operands:
            if relation in variants[-1]:
                variants.append({})
            variants[-1][relation] = operand
        return variants

    @property
    def intents(self) -> set[str]:
        """The commands among its tags."""
        return self.tags & COMMANDS


def _without_carriers(tokens: Sequence[Token]) -> list[Token]:
    """Leave out the pronoun that only carries a relation: "except those in", "only those in"."""
    kept: list[Token] = []
    for position, token in enumerate(tokens):
        after = tokens[position + 1].tag if position + 1 < len(tokens) else ""
        before = kept[-1].tag if kept else ""
        if token.tag == "ref" and after in RELATIONS and before in {*RELATIONS, "phrase"}:
            continue
        if token.tag == "in" and before in RELATIONS:
            continue
        kept.append(token)
    return kept


class _Reader:
    """Reads the tokens of one request from left to right.

    Between two noun phrases it remembers what links them: `relations` ("in", "outside"), `joined`
    ("and"), `of`, `be`, `prep`, `negated` ("not") and `rate` ("per"). `operand` is the region that
    restricts the last target, for "in the glands of the tumor" and "in the tumor and the stroma".
    """

    def __init__(self) -> None:
        self.request = Request()
        self.operand: Target | None = None
        self.relation: Relation = "within"
        self.before = self.before_of = ""
        self._forget()

    def _forget(self) -> None:
        """Drop what links the last noun phrase to the next one."""
        self.relations: list[Relation] = []
        self.joined = self.of = self.be = self.prep = self.negated = self.rate = False

    def read(self, tokens: Sequence[Token]) -> Request:
        """Read them all."""
        request = self.request
        request.words = frozenset(word for token in tokens for word in token.words)
        tokens = _without_carriers([token for token in tokens if token.tag != "filler"])
        following = [*(t.tag for t in tokens[1:]), ""]
        for token, after in zip(tokens, following, strict=False):
            request.tags.add(token.tag)
            if token.tag == "phrase" and token.phrase is not None:
                self._phrase(token, token.phrase, after)
            elif token.tag in BACK:
                back = " ".join(token.words) if token.tag == "ref" else token.tag
                self._place(Target(back=back), after)
            else:
                self._link(token)
            self.before_of = self.before_of if token.tag == "of" else token.tag
            self.before = token.tag
        bare = [token for token in tokens if token.tag != "stop"][-1:]
        if self.relations and bare and bare[0].words[-1] in {"inside", "outside", "within"}:
            self._place(Target(back="it"), "")
        self._judge(tokens)
        self._tidy()
        self._distribute()
        return request

    def _link(self, token: Token) -> None:
        if token.tag in RELATIONS:
            self.relations.append(RELATIONS[token.tag])
            self.rate = token.words == ("per",)
        elif token.tag in {"image", "color"}:
            self._forget()
        elif token.tag == "decline":
            self.request.decline = self.request.decline or token.reason
        elif token.tag == "stop":
            self.request.question = token.words == ("?",)
        elif token.tag in {"and", "of", "be", "prep", "not"}:
            self.joined |= token.tag == "and"
            self.of = token.tag == "of"
            self.be |= token.tag == "be"
            self.prep |= token.tag == "prep"
            self.negated = token.tag == "not"

    def _phrase(self, token: Token, phrase: Phrase, after: str) -> None:
        request = self.request
        pointed = self.before == "deictic" and not request.intents
        whole_image = phrase.text == "tissue" and (self.relations or self.of or pointed)
        sampled = after == "image" and ontology.find(phrase.text) is None
        if phrase.organ and (phrase.kind == "organ" or sampled):
            linked = self.relations or self.of or self.prep or self.before == "deictic"
            named = linked or "be" in request.tags or after == "image"
            if named or not request.intents:
                request.organs.append(phrase.organ)
                self._forget()
                return
            phrase = Phrase(phrase.text, "region", phrase.organ)
        if whole_image:
            self._forget()
            request.tags.add("image")
        elif phrase.kind == "vague":
            request.tags.add("vague")
            if self.relations and token.words[0] in AREA_WORDS:
                self._place(Target(back="it"), after)
        else:
            if phrase.organ:
                request.presumed.append(phrase.organ)
            self._place(Target(phrase), after)

    def _place(self, target: Target, after: str) -> None:
        """Put a target where its links say it belongs."""
        request = self.request
        last = request.targets[-1] if request.targets else None
        region = target.phrase is None or target.phrase.kind == "region"
        if self.rate and target.is_cell:  # "lymphocytes per mitosis": both are counted
            self.relations = []
        if self.negated and not self.relations:
            if self.operand:
                self.relations = ["outside"]
                self._attach(target, last)
        elif self.relations:
            self._attach(target, last)
        elif self.joined and self.operand and region and after not in {*RELATIONS, *COMMANDS}:
            self.relations = [self.relation]
            self._attach(target, last)
        elif self.of and last and self._owned(target, last):
            self._possess(target, last)
        elif self.prep and target.phrase and not target.phrase.known and last:
            pass
        else:
            if self.of:
                target.role = "whole"
            elif self.be and last:
                target.role = "predicate"
                if self._qualifies(target, last):
                    return
            target.asked = (
                (self.joined and last is not None)
                or self.of
                or self.before in {*COMMANDS, "deictic"}
            )
            request.targets.append(target)
            self.operand = None
        self._forget()

    def _attach(self, operand: Target, host: Target | None) -> None:
        """Restrict the last target (or what is yet to come) to a region."""
        request = self.request
        if "share" in request.tags and operand.is_cell and "within" in self.relations:
            operand.role = "whole"
            request.targets.append(operand)
            return
        if self.operand and not self.joined and self.relations == ["within"] and not self.be:
            self.operand.variants[-1]["within"] = operand
            return
        for relation in self.relations:
            self.relation = relation
            if host is None:
                request.operands.append((relation, operand))
                continue
            host.located |= self.be and host.role == "whole"
            latest = host.variants[-1]
            apart = len(self.relations) > 1 or (self.joined and not operand.phrase)
            if latest and (relation in latest or apart):
                host.variants.append({relation: operand})
            else:
                latest[relation] = operand
        self.operand = operand

    def _qualifies(self, target: Target, last: Target) -> bool:
        """Read "how many glomeruli are sclerotic": an unknown word after "are" is an adjective."""
        word, noun = target.phrase, last.phrase
        if not word or word.known or not noun or not self.request.tags & {"count", "share"}:
            return False
        target.phrase = Phrase(f"{word.text} {noun.text}", noun.kind, noun.organ)
        if "share" not in self.request.tags:
            last.phrase = target.phrase
            self._forget()
        return "share" not in self.request.tags

    def _owned(self, target: Target, last: Target) -> bool:
        """Whether "of" links to the last noun phrase: also "lymphocyte density of the stroma"."""
        density = self.before_of == "count" and last.is_cell and not target.is_cell
        return density or self.before_of in {"phrase", *BACK}

    def _possess(self, owner: Target, last: Target) -> None:
        """Read "X of Y": the nuclei of the lymphocytes, the lumina of the glands."""
        phrase, of = last.phrase, owner.phrase
        if self.operand:
            self.operand.variants[-1]["within"] = owner
        elif phrase and of and not phrase.known:
            last.phrase = Phrase(f"{phrase.text} of {of.text}", "region", of.organ, of.known)
        elif phrase and of and phrase.kind == "cell" and of.kind == "cell":
            last.phrase = of
        else:
            last.variants[-1]["within"] = owner

    def _judge(self, tokens: Sequence[Token]) -> None:
        """Notice "is this tumor benign?": a judgement on the patient, not a structure."""
        last = [token for token in tokens if token.tag != "stop"][-1:]
        asked = "be" in self.request.tags and not self.request.intents
        if asked and last and last[0].words[-1] in _JUDGEMENTS:
            self.request.decline = self.request.decline or "diagnosis"

    def _tidy(self) -> None:
        """Drop stray unknown words, and settle whether an amount is a number or an area."""
        request = self.request
        known = any(t.phrase is None or t.phrase.known for t in request.targets)
        if known or request.intents or "tissue" in request.tags:
            request.targets = [
                t for t in request.targets if t.asked or t.phrase is None or t.phrase.known
            ]
        if "amount" in request.tags:
            cells = any(t.is_cell for t in request.targets)
            shared = any(t.role == "predicate" for t in request.targets)
            request.tags.add("count" if cells and not shared else "share")

    def _distribute(self) -> None:
        """Let a region restrict all targets that it may: "X and Y in Z", "in Z, X and Y"."""
        carried = None
        for target in reversed(self.request.targets):
            if target.restricted:
                carried = target.variants
            elif carried and target.phrase:
                target.variants = carried
        if self.request.targets:
            for target in self.request.targets:
                target.variants = [
                    place | own for place in self.request.places() for own in target.variants
                ]
            self.request.operands = []


def read_request(tokens: Sequence[Token]) -> Request:
    """Read the tokens of one request."""
    return _Reader().read(tokens)
