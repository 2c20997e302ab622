"""The rules planner: a lexicon and a grammar instead of a language model.

It is the baseline that every language model is measured against, and a planner that needs no
weights and gives its plan in milliseconds. It reads English, and short imperative sentences in
Spanish, French, German, Italian, Catalan and Portuguese. What it does not understand it asks back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from agent.plan import MAX_CALLS
from agent.planners.base import PlannerRequest, Proposal
from agent.planners.rules_build import build
from agent.planners.rules_parse import parse
from agent.planners.rules_phrases import Target
from agent.planners.rules_read import Request
from agent.planners.rules_thread import Thread
from agent.planners.rules_words import read_items
from models import ontology
from models.planner.replies import reply_text

MAX_CHARS = 2_000
"""Longest instruction that is read: one of this length already holds dozens of requests."""

Verdict = Literal["task", "decline", "answer", "unclear", "context", "courtesy"]
_PRECEDENCE: tuple[Verdict, ...] = ("decline", "answer", "unclear", "context", "courtesy")
_NO_TEXT = (
    "That is a general question, and the rules planner knows only short definitions of structures "
    "and cells: ask “what is …?” for one. I can outline, count or measure what is in this image."
)
_HERE = frozenset(
    {"this", "that", "these", "those", "it", "the", "my", "patient", "he", "she", "i"}
)
_ALWAYS_DECLINED = frozenset({"measure", "image", "unrelated", "system"})
_QUESTIONS = frozenset(
    {
        *("what", "which", "how", "why", "who", "when", "where", "is", "are", "was", "do", "does"),
        *("did", "can", "could", "will", "should", "has", "have"),
    }
)


def _general(request: Request) -> bool:
    """Whether a request that can't be done is a question about it: "what is HER2?"."""
    asked = request.words & {"is", "are", "does", "do", "can"} and request.words & _QUESTIONS
    here = request.words & (_HERE | {"best", "should", "need", "we"})
    plain = bool(asked) and not here and request.decline not in _ALWAYS_DECLINED
    return plain or "general" in request.tags


def _verdict(request: Request, *, follows: bool) -> Verdict:
    """Judge what a request is, before the thread is looked at.

    Args:
        request: the request.
        follows: whether it may lean on an earlier result.
    """
    tags = request.tags
    here = tags & {"deictic", "ref", "image"}
    known = any(t.phrase is None or t.phrase.known or t.restricted for t in request.targets)
    if request.decline:
        return "answer" if _general(request) else "decline"
    if "ability" in tags and not (request.targets and here):
        return "answer"
    if "general" in tags:
        here |= tags & {"domain", "tissue"}
        domain = (known and request.targets) or here
        return "answer" if domain or request.intents or request.organs or follows else "decline"
    if "tissue" in tags:
        general = known and request.targets and not here and not request.intents
        return "answer" if general else "task"
    if request.organs and not request.targets and not request.intents:
        asked = request.question or bool(request.words & _QUESTIONS)
        return "task" if asked or tags & {"ask", "show"} else "context"
    if request.intents or (follows and ((request.targets and known) or request.operands)):
        return "unclear" if "vague" in tags and not request.targets else "task"
    if follows and not request.targets and not tags & {"courtesy", "domain"}:
        asked = request.question or "ask" in tags
        return "answer" if asked and "same" not in tags else "unclear"
    return _undirected(request, known=known, here=bool(here))


def _undirected(request: Request, *, known: bool, here: bool) -> Verdict:
    """Judge a request that names no command and follows nothing."""
    tags = request.tags
    asked = request.question or bool(request.words & {"what", "which", "who", "how", "when"})
    if request.targets and known:
        plain = "ask" in tags and not any(t.restricted for t in request.targets)
        if plain and request.words & {"what", "how"}:
            return "unclear" if here else "answer"
        return "task"
    if "domain" in tags or ("image" in tags and tags & {"be", "ask"}):
        return "answer"
    if "courtesy" in tags and not request.targets:
        return "courtesy"
    if (
        "same" not in tags
        and asked
        and (request.targets or request.words & _QUESTIONS)
        and not here
    ):
        return "decline"
    return "unclear"


def _reply(kind: str, text: str) -> list[dict[str, Any]]:
    return [{"tool": "reply", "args": {"kind": kind, "text": text}}]


def _answer(requests: Sequence[Request], results: Sequence[str]) -> str:
    """What the ontology says on the subject, else what the thread holds or the system can do."""
    for request in requests:
        if "ability" in request.tags or (request.decline and "can" in request.words):
            return reply_text("answer", "abilities")
        for target in request.targets:
            concept = ontology.find(target.phrase.text) if target.phrase else None
            if concept and concept.definition:
                return concept.definition
    if results and not any(r.targets or r.tags & {"general", "domain"} for r in requests):
        return reply_text("answer", "result", results)
    return _NO_TEXT


def _say(
    verdict: Verdict, requests: Sequence[Request], results: Sequence[str] = ()
) -> list[dict[str, Any]]:
    if verdict == "decline":
        return _reply("decline", reply_text("decline", requests[0].decline or "unrelated"))
    if verdict == "answer":
        return _reply("answer", _answer(requests, results))
    if verdict == "courtesy":
        return _reply("answer", reply_text("answer", "courtesy"))
    return _reply("clarify", reply_text("clarify", "target"))


def _tasks(requests: Sequence[Request], verdicts: Sequence[Verdict]) -> list[Request]:
    """The requests to plan. Beside a command, a plain sentence only says what the image is of."""
    tasks = []
    commands = [r for r, v in zip(requests, verdicts, strict=True) if v == "task" and r.intents]
    named = bool(commands) and all(t.phrase for r in commands for t in r.targets or [Target()])
    for request, verdict in zip(requests, verdicts, strict=True):
        plain = not request.intents and not request.tags & {"tissue", "same", "correct", "not"}
        if plain and (verdict == "unclear" or (named and verdict == "task")):
            tasks.append(Request(tags=request.tags, organs=request.organs))
        elif verdict in {"task", "context"}:
            tasks.append(request)
    return tasks


def plan_by_rules(
    instruction: str, history: Sequence[Mapping[str, Any]] = ()
) -> list[dict[str, Any]]:
    """Plan one instruction.

    Args:
        instruction: the user's words, any string.
        history: the thread's earlier turns, `{"instruction", "calls", "result"}` each, with calls
            as `{"tool", "args"}`.

    Returns:
        At least one call, `{"tool", "args"}`, every argument present. References count through
        the thread. Where the instruction is not understood, a reply that asks back.
    """
    thread = Thread(history)
    if len(instruction) > MAX_CHARS:
        return _reply(
            "clarify",
            "That is more than the rules planner reads. "
            "Please say in a sentence or two what to outline, count or measure.",
        )
    requests = parse(read_items(instruction))
    verdicts: list[Verdict] = []
    for request in requests:
        follows = bool(thread.recent()) or "task" in verdicts
        verdicts.append(_verdict(request, follows=follows))
    tasks = _tasks(requests, verdicts)
    if "task" in verdicts:
        build(tasks, thread)
        if thread.plan:
            return _bounded(thread)
        if thread.reused:
            return _reply("answer", reply_text("answer", "result", thread.results))
        verdicts.append("unclear")
    for verdict in _PRECEDENCE:
        matching = [r for r, v in zip(requests, verdicts, strict=False) if v == verdict]
        if verdict == "context" and matching:
            build(matching, thread)
            return thread.plan or _reply("answer", reply_text("answer", "result", thread.results))
        if verdict in verdicts:
            return _say(verdict, matching, thread.results)
    return _say("unclear", [])


def _bounded(thread: Thread) -> list[dict[str, Any]]:
    """The plan, unless it asks for more than one plan may hold."""
    if len(thread.plan) > MAX_CALLS:
        return _reply(
            "clarify",
            "That would take more tool calls than one plan holds. Please ask for a part first.",
        )
    return thread.plan


class RulesPlanner:
    """Plans by `plan_by_rules`."""

    name = "rules"
    repairs = False

    def info(self) -> dict[str, str]:
        """The grammar's version: its output depends on nothing else."""
        return {"name": self.name, "version": "1"}

    def propose(self, request: PlannerRequest) -> Proposal:
        """Propose the plan as JSON. Never fails, and takes milliseconds."""
        history = [turn.model_dump() for turn in request.history]
        return Proposal(raw=json.dumps({"calls": plan_by_rules(request.instruction, history)}))
