"""What the `local` planner does around its model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.plan import InvalidPlan, Turn, read_plan, validate
from agent.planners import load
from agent.planners.base import PlannerRequest, PlannerUnavailable
from agent.planners.local import LocalPlanner
from agent.planners.second import margins
from models.planner import fetch
from models.planner.decode import ADAPTER, Decoded, PromptTooLong, Rival, Rivals
from models.planner.fetch import file_sha256
from models.planner.fewshot import EXAMPLES
from models.planner.outliner import WEIGHTS
from models.planner.serialise import Call, PlanSyntaxError, parse_plan
from models.planner.serialise import Turn as PlainTurn

MEASURE = {"tool": "measure", "args": {"source": "$1"}}
SEGMENT = {"tool": "segment", "args": {"target": "tumor", "within": None, "outside": None}}


class FakeDecoder:
    """Stands for the loaded model, and keeps what it was shown."""

    info = {"base": "b", "adapter": "a", "template": "t"}  # noqa: RUF012

    def __init__(self) -> None:
        self.shown: list[tuple[list[PlainTurn], str]] = []
        self.constrained: list[bool] = []
        self.rivals: list[list[Rival] | None] = []
        self.hints: list[list[Call]] = []

    def plan(
        self,
        history: list[PlainTurn],
        instruction: str,
        *,
        constrained: bool = True,
        rivals: Rivals | None = None,
        hint: Sequence[Call] = (),
    ) -> Decoded:
        self.shown.append((history, instruction))
        self.constrained.append(constrained)
        self.rivals.append(list(rivals([MEASURE])) if rivals else None)
        self.hints.append(list(hint))
        if not constrained:
            raise PlanSyntaxError("not a plan line with number 1: 'banana'")
        if len(instruction) > 100:
            raise PromptTooLong("the instruction is 5000 tokens long; at most 2048 are read")
        return Decoded([MEASURE], "$2 measure $1", "the prompt")


@pytest.fixture
def planner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalPlanner:
    gguf = tmp_path / "base.gguf"
    gguf.touch()
    monkeypatch.setattr(fetch, "find_base", lambda: gguf)
    made = LocalPlanner()
    made.__dict__["_decoder"] = FakeDecoder()
    return made


def test_a_request_goes_to_the_model_and_its_plan_comes_back(planner: LocalPlanner) -> None:
    turn = Turn.model_validate({"instruction": "tumor", "calls": [SEGMENT], "result": "present"})
    proposal = planner.propose(PlannerRequest(instruction="how big?", history=(turn,)))
    assert read_plan(proposal.raw, [turn]).numbered()["$2"].args == {"source": "$1"}
    assert proposal.prompt == "the prompt"
    decoder: FakeDecoder = planner.__dict__["_decoder"]
    assert decoder.shown == [([PlainTurn("tumor", [SEGMENT], "present")], "how big?")]
    assert decoder.constrained == [True]
    assert decoder.rivals == [[]], "the rules give the same plan"
    assert decoder.hints == [[MEASURE]]
    digest = f"sha256:{file_sha256(WEIGHTS)}"
    decoding = f"greedy, within the grammar; second opinion: {margins()}"
    assert planner.info() == {**FakeDecoder.info, "outline": digest, "decoding": decoding}


def test_without_the_grammar_what_is_no_plan_is_a_fault(planner: LocalPlanner) -> None:
    bare = load("local-unconstrained")
    bare.__dict__["_decoder"] = FakeDecoder()
    assert (bare.name, bare.info()["decoding"]) == ("local-unconstrained", "greedy")
    alone = load("local-alone")
    alone.__dict__["_decoder"] = decoder = FakeDecoder()
    assert alone.info()["decoding"] == "greedy, within the grammar"
    alone.propose(PlannerRequest(instruction="count"))
    assert decoder.rivals == [None]
    assert decoder.hints == [[]]
    with pytest.raises(InvalidPlan, match="no JSON list of calls"):
        read_plan(bare.propose(PlannerRequest(instruction="count")).raw)


def test_the_examples_of_the_bare_base_are_valid_plans() -> None:
    for thread, plan in EXAMPLES:
        *earlier, _asked = thread.split("\n")
        shown = [line for line in earlier if line.startswith("$")]
        calls = parse_plan("\n".join([*shown, plan]), 1)
        producers = [call["tool"] for call in calls[: len(shown)]]
        assert validate(calls[len(shown) :], producers)


@pytest.mark.parametrize(
    ("instruction", "says"),
    [
        ("数一下淋巴细胞", "Latin script"),
        ("посчитай лимфоциты", "Latin script"),
        ("count them " * 20, "more briefly"),
    ],
)
def test_what_it_cannot_read_it_says(planner: LocalPlanner, instruction: str, says: str) -> None:
    proposal = planner.propose(PlannerRequest(instruction=instruction))
    reply = read_plan(proposal.raw).reply()
    assert reply is not None
    assert reply.args["kind"] == "clarify"
    assert says in reply.args["text"]
    assert proposal.prompt is None


@pytest.mark.parametrize("instruction", ["Zähle β-Zellen", "¿núcleos?", "123 %", ""])
def test_what_it_can_read_goes_to_the_model(planner: LocalPlanner, instruction: str) -> None:
    assert planner.propose(PlannerRequest(instruction=instruction)).prompt == "the prompt"


def test_without_its_base_model_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HISTOPILOT_CACHE", str(tmp_path))
    monkeypatch.setattr(fetch, "find_base", lambda: None)
    with pytest.raises(PlannerUnavailable, match="run `histopilot models pull`"):
        LocalPlanner()


def test_the_card_names_the_adapter_that_is_there() -> None:
    assert fetch.file_sha256(ADAPTER) in ADAPTER.with_suffix(".md").read_text(encoding="utf-8")
