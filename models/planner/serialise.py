"""The one text form of threads and plans, used alike in training, decoding and serving.

A thread is, for each turn, `> instruction`, its calls a line each, and `= result`; it ends with the
instruction to plan for. Slips of the pen in an instruction are mended; one in another language has
its nouns in English, and one in English no short forms (`gloss`). A plan is one line a call,
numbered on through the thread:

    $1 tissue liver            classify_tissue(expected="liver"); "tissue ?" is null
    $2 segment portal tract    segment(target="portal tract")
    $3 count lymphocyte in $2  count_nuclei(cell_type, within, outside); "count *" is every nucleus
    $4 boxes $3                extract_boxes(source)
    $5 measure $3              measure(source)
    $1 reply decline grade     reply(kind) by a reason code of `models.planner.replies`
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import models.ontology
from models.planner.gloss import gloss
from models.planner.replies import REPLIES, reason_of, reply_text

Call = dict[str, Any]
"""One tool call as the contract writes it: `{"tool": str, "args": {...}}`."""

TEMPLATE = "histopilot-plan-4"
"""Names this form; it changes whenever the same thread would be written differently."""
_ONTOLOGY = Path(models.ontology.__file__).parent
_WRITTEN = frozenset({".py", ".toml", ".csv"})


@lru_cache(maxsize=1)
def template() -> str:
    """This form's name with the SHA-256 of the code and words that write it, for runs' records.

    The words are those of lexicon, frames and ontology. Misspellings are told by the dictionaries
    of a package and measured by another: their versions are part of it.
    """
    folder = Path(__file__).parent
    names = ("serialise.py", "gloss.py", "shorthand.py", "spelling.py", "words.py")
    code = [folder / name for name in names]
    words = [folder / "generate" / "lexicon", folder / "generate" / "frames", _ONTOLOGY]
    data = (path for part in words for path in sorted(part.rglob("*.*")) if path.suffix in _WRITTEN)
    digest = hashlib.sha256()
    for path in (*code, *data):
        digest.update(path.read_bytes())
    digest.update("".join(map(version, ("pyspellchecker", "rapidfuzz"))).encode())
    return f"{TEMPLATE} sha256:{digest.hexdigest()}"


_WORD = r"[0-9A-Za-zÀ-ɏΑ-ΡΣ-Ωα-ω'’()/&%+.,-]{1,32}"
TEXT = rf"{_WORD}(?: {_WORD}){{0,11}}"
"""What a free-text argument may be in a plan line: 1-12 words, no `$`, no line break."""

_SCOPE = r"(?: in \$(?P<within>[1-9][0-9]*))?(?: out \$(?P<outside>[1-9][0-9]*))?"
_LINES = {
    "classify_tissue": re.compile(rf"tissue (?P<expected>{TEXT}|\?)"),
    "segment": re.compile(rf"segment (?P<target>{TEXT}?){_SCOPE}"),
    "count_nuclei": re.compile(rf"count (?P<cell_type>{TEXT}?|\*){_SCOPE}"),
    "extract_boxes": re.compile(r"boxes \$(?P<source>[1-9][0-9]*)"),
    "measure": re.compile(r"measure \$(?P<source>[1-9][0-9]*)"),
    "reply": re.compile(r"reply (?P<kind>clarify|decline|answer) (?P<reason>[a-z]+)"),
}
_NULL = {"expected": "?", "cell_type": "*"}
REFERENCES = ("within", "outside", "source")
"""Arguments that name another call."""


class PlanSyntaxError(ValueError):
    """A text is not a plan in this form. The message quotes the line that is not."""


@dataclass(frozen=True)
class Turn:
    """An earlier turn: what was asked, the calls that were run, one line of what came out."""

    instruction: str
    calls: Sequence[Call]
    result: str


def one_line(text: str) -> str:
    """`text` with every run of white space and control characters as one space, none at the ends.

    So no instruction or result can open a line of its own in the prompt.
    """
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def thread_text(
    history: Sequence[Turn], instruction: str, first: int = 0, *, verbatim: bool = False
) -> str:
    """The thread that ends with `instruction`, as lines joined by line breaks.

    Turns before the index `first` are left out; the others keep their calls' numbers. `verbatim`
    leaves the instructions as they are, for a reader other than the planner's model.
    """
    said = str if verbatim else gloss
    lines: list[str] = []
    number = 1 + sum(len(turn.calls) for turn in history[:first])
    for turn in history[first:]:
        lines.append(f"> {one_line(said(turn.instruction))}")
        lines += plan_lines(turn.calls, number)
        lines.append(f"= {one_line(turn.result)}")
        number += len(turn.calls)
    lines.append(f"> {one_line(said(instruction))}")
    return "\n".join(lines)


def prompt_text(thread: str) -> str:
    """The whole prompt for `thread` in the base model's chat form, for traces and training."""
    return f"<|im_start|>user\n{thread}<|im_end|>\n<|im_start|>assistant\n"


def plan_lines(calls: Sequence[Call], start: int) -> list[str]:
    """`calls` as plan lines, the first with the thread number `start` (counted from 1).

    Free text is written without `$` and on one line, so that a line always has one meaning. An
    unknown tool is written by its name alone: the thread keeps its numbering.
    """
    return [f"${number} {_line(call)}" for number, call in enumerate(calls, start)]


def _line(call: Call) -> str:
    args = call["args"]
    match call["tool"]:
        case "classify_tissue":
            return f"tissue {_text(args, 'expected')}"
        case "segment":
            return f"segment {_text(args, 'target')}{_scope(args)}"
        case "count_nuclei":
            return f"count {_text(args, 'cell_type')}{_scope(args)}"
        case "extract_boxes":
            return f"boxes {args['source']}"
        case "measure":
            return f"measure {args['source']}"
        case "reply":
            kind = args["kind"]
            return f"reply {kind} {reason_of(kind, args.get('text') or '')}"
        case other:
            return one_line(str(other))


def _text(args: dict[str, Any], name: str) -> str:
    text = one_line((args.get(name) or "").replace("$", " "))
    return text or _NULL.get(name, "?")


def _scope(args: dict[str, Any]) -> str:
    within, outside = args.get("within"), args.get("outside")
    return (f" in {within}" if within else "") + (f" out {outside}" if outside else "")


def parse_plan(text: str, start: int, results: Sequence[str] = ()) -> list[Call]:
    """Read a plan back into calls.

    Args:
        text: plan lines, joined by line breaks.
        start: the thread number that the first line must have.
        results: the thread's result lines, for a reply that quotes them.

    Returns:
        The calls, every argument present, references as `"$n"`. Whether a reference fits is not
        looked at here: constrained decoding writes only fitting ones, and plans are validated.

    Raises:
        PlanSyntaxError: a line is not in this form or is misnumbered.
    """
    lines = text.split("\n")
    return [_parse_line(line, number, results) for number, line in enumerate(lines, start)]


def _parse_line(line: str, number: int, results: Sequence[str]) -> Call:
    head = f"${number} "
    if line.startswith(head):
        for tool, pattern in _LINES.items():
            if found := pattern.fullmatch(line, len(head)):
                args = {name: _value(name, value) for name, value in found.groupdict().items()}
                return _reply(args, results, line) if tool == "reply" else _call(tool, args)
    raise PlanSyntaxError(f"not a plan line with number {number}: {line!r}")


def _call(tool: str, args: dict[str, str | None]) -> Call:
    return {"tool": tool, "args": args}


def _value(name: str, value: str | None) -> str | None:
    if value is None or value == _NULL.get(name):
        return None
    return f"${value}" if name in REFERENCES else value


def _reply(args: dict[str, str | None], results: Sequence[str], line: str) -> Call:
    kind, reason = str(args["kind"]), str(args["reason"])
    if reason not in REPLIES[kind]:
        raise PlanSyntaxError(f"no such reply: {line!r}")
    return _call("reply", {"kind": kind, "text": reply_text(kind, reason, results)})
