"""Outlines of plans: the network that tells them, and plans that are written within one."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.planner.generate import examples
from models.planner.grammar import PlanState, line_pattern, write_plan
from models.planner.outline import MOST, Outline
from models.planner.outliner import SIZES, Likelihoods, OutlineNet, Outliner, tokens
from models.planner.serialise import TEXT, Turn, parse_plan, plan_lines
from models.planner.train import outline as training

SEGMENT = {"tool": "segment", "args": {"target": "tumor", "within": None, "outside": None}}
COUNT = {"tool": "count_nuclei", "args": {"cell_type": None, "within": "$1", "outside": None}}
BOXES = {"tool": "extract_boxes", "args": {"source": "$2"}}


def test_an_outline_counts_calls_and_their_restrictions() -> None:
    assert Outline.of([SEGMENT, COUNT, BOXES]) == Outline(segment=1, count=1, boxes=1, within=1)
    assert Outline.of([SEGMENT] * 5).segment == MOST["segment"]
    reply = {"tool": "reply", "args": {"kind": "decline", "text": "no"}}
    assert Outline.of([reply]) == Outline(reply="decline")


@pytest.mark.parametrize("seed", range(3))
def test_every_plan_can_be_written_within_its_own_outline(seed: int) -> None:
    for case in examples(seed, 40):
        state = PlanState.after(case.history)
        state.wanted = Outline.of(case.plan)
        lines = plan_lines(case.plan, state.number)

        def write(pattern: str, before: Sequence[str], lines: Sequence[str] = lines) -> str:
            rest = lines[len(before) :]
            line = rest[0] + ("\n" if rest[1:] else "")
            assert re.fullmatch(pattern, line), (lines, pattern)
            return line

        assert write_plan(state, write) == "\n".join(lines)


@given(
    st.data(),
    st.builds(Outline, **{name: st.integers(0, most) for name, most in MOST.items()}),
    st.booleans(),
)
def test_what_is_written_within_an_outline_has_no_more_than_it(
    data: st.DataObject, wanted: Outline, follows: bool
) -> None:
    history = [Turn("the tumor", [SEGMENT], "present 0.9")] if follows else []
    state = PlanState.after(history)
    state.wanted = wanted
    first = state.number

    def write(pattern: str, _: Sequence[str]) -> str:
        word = r"[0-9A-Za-z]{1,5}"  # what the text says is not looked at here
        return data.draw(st.from_regex(pattern.replace(TEXT, word), fullmatch=True))

    text = write_plan(state, write)
    if text:
        got = Outline.of(parse_plan(text, first))
        assert all(getattr(got, name) <= getattr(wanted, name) for name in MOST)


def test_an_outline_that_nothing_has_gives_no_plan() -> None:
    state = PlanState()
    state.wanted = Outline(boxes=1)
    assert line_pattern(state) == ""
    assert write_plan(state, lambda *_: "never") == ""


def test_the_likeliest_outline_is_one_that_plans_can_have() -> None:
    logs = [torch.zeros(size) for size in SIZES]
    logs[0][0] = 1.0
    logs[-1][2] = 5.0  # two calls outside a region, of which there must be two then
    likely = Likelihoods(tuple(logs))
    best = likely.best()
    assert best.outside == 2
    assert best.segment + best.count >= 2
    assert likely.of(Outline(reply="answer")) == 0.0
    assert likely.of(Outline(segment=1)) == 1.0


def test_tokens_are_words_and_their_parts() -> None:
    found = tokens("> box them\n$1 boxes $2")
    assert all(len(own) == 4 for own in found)
    _, box, them, _, boxes, _ = found
    assert (box[1:], them[1:]) == ([0, 0, 0], [0, 0, 0])
    assert 0 not in boxes
    assert tokens("> " + "word " * 100) == tokens("> " + "word " * 200)


def test_the_shipped_network_tells_plain_outlines() -> None:
    outliner = Outliner()
    assert outliner.read("> count the lymphocytes").best() == Outline(count=1)
    assert outliner.read("> outline the glands and measure them").best() == Outline(
        segment=1, measure=1
    )
    assert outliner.digest.startswith("sha256:")


def test_training_learns_and_writes_weights_that_load(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training.main(tmp_path, count=300, epochs=2, rate=0.01, seed=5)
    assert "step 10 of 10" in capsys.readouterr().out
    assert Outliner(tmp_path / "outline.safetensors").read("> count nuclei").best()
    assert "300 examples" in (tmp_path / "outline.md").read_text(encoding="utf-8")


def test_a_network_reads_each_thread_of_a_batch_alone() -> None:
    torch.manual_seed(0)
    net = OutlineNet().eval()
    one, two = tokens("> a"), tokens("> b c d e")
    both, alone = net([one, two]), net([one])
    assert all(torch.allclose(b[0], a[0], atol=1e-6) for b, a in zip(both, alone, strict=True))


def test_training_lowers_the_loss() -> None:
    cases = list(itertools.islice(training.draw(3), 128))
    net = training.fit(cases, epochs=12, rate=0.02, seed=1)
    with torch.inference_mode():
        before, after = (training.surprise(one, cases) for one in (OutlineNet(), net))
    assert after < 0.7 * before
