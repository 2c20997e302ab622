"""Outlines of plans: the network that tells them, and plans that are written within one."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from models.planner.generate import examples
from models.planner.grammar import PlanState, admits, write_plan
from models.planner.outline import PLACES, Outline
from models.planner.outliner import OutlineNet, Outliner, classes, tokens
from models.planner.serialise import TEXT, Turn, parse_plan, plan_lines
from models.planner.train import outline as training

SEGMENT = {"tool": "segment", "args": {"target": "tumor", "within": None, "outside": None}}
COUNT = {"tool": "count_nuclei", "args": {"cell_type": None, "within": "$1", "outside": None}}
BOXES = {"tool": "extract_boxes", "args": {"source": "$2"}}


def test_an_outline_is_a_plan_without_its_names() -> None:
    assert Outline.of([SEGMENT, COUNT, BOXES], 1).symbols == (
        *("segment", "count *", "in", "0"),
        *("boxes", "1"),
    )
    assert Outline.of([COUNT], 3).symbols == ("count *", "in", "-2")
    assert Outline.of([COUNT], 90).symbols == ("count *", "in", str(PLACES[0]))
    assert Outline.of([COUNT], -90).symbols == ("count *", "in", str(PLACES[-1]))
    reply = {"tool": "reply", "args": {"kind": "decline", "text": "no"}}
    assert Outline.of([reply], 4) == Outline(("decline",))


@pytest.mark.parametrize("seed", range(3))
def test_every_plan_can_be_written_within_its_own_outline_and_no_other(seed: int) -> None:
    for case in examples(seed, 40):
        state = PlanState.after(case.history)
        outline = Outline.of(case.plan, state.number)
        assert admits(state, outline)
        lines = plan_lines(case.plan, state.number)

        def write(pattern: str, before: Sequence[str], lines: Sequence[str] = lines) -> str:
            rest = lines[len(before) :]
            line = rest[0] + ("\n" if rest[1:] else "")
            assert re.fullmatch(pattern, line), (lines, pattern)
            return line

        assert write_plan(state, write, outline) == "\n".join(lines)


LINES = (
    *("segment", "count *", "tissue", "decline", "measure -1", "boxes 0", "boxes 1"),
    *("count in 0", "segment out -1", "count in -1 out 0", "segment in 0 out 0", "in 0"),
)


@settings(suppress_health_check=[HealthCheck.filter_too_much])
@given(st.data(), st.lists(st.sampled_from(LINES), min_size=1, max_size=4), st.booleans())
def test_an_outline_that_is_admitted_gives_plans_that_have_it(
    data: st.DataObject, lines: list[str], follows: bool
) -> None:
    history = [Turn("the tumor", [SEGMENT], "present 0.9")] if follows else []
    words = " ".join(lines).replace("count *", "count_*").split()
    wanted = Outline(tuple(word.replace("_", " ") for word in words))
    state = PlanState.after(history)
    assume(admits(state, wanted))
    first = state.number

    def write(pattern: str, _: Sequence[str]) -> str:
        word = r"[0-9A-Za-z]{1,5}"  # what the text says is not looked at here
        return data.draw(st.from_regex(pattern.replace(TEXT, word), fullmatch=True))

    text = write_plan(state, write, wanted)
    assert Outline.of(parse_plan(text, first, state.results), first) == wanted


@pytest.mark.parametrize(
    "symbols",
    [
        ("boxes", "0"),  # of itself
        ("boxes", "-1"),  # of what is not there
        ("count", "in", "0"),
        ("count", "segment", "in", "0"),  # a count is no place
        ("segment", "measure", "0", "measure", "0"),
        ("segment", "tissue"),
        ("decline", "segment"),
        ("segment", "in"),
        ("in", "0"),
        ("0",),
        ("segment",) * 13,
    ],
)
def test_an_outline_that_no_plan_can_have_is_not_admitted(symbols: tuple[str, ...]) -> None:
    state = PlanState()
    assert not admits(state, Outline(symbols))
    assert state == PlanState()


def test_a_repeated_tissue_check_gives_no_plan_within_an_outline() -> None:
    check = {"tool": "classify_tissue", "args": {"expected": "liver"}}
    state = PlanState.after([Turn("liver?", [check], "liver")])
    outline = Outline(("tissue", "count"))
    assert admits(state, outline)
    assert write_plan(state, lambda *_: "$2 tissue liver\n", outline) == ""


def test_tokens_are_words_and_their_parts() -> None:
    found = tokens("> box them\n$1 boxes $2", 2)
    assert all(len(own) == 4 for own in found)
    _, box, them, _, boxes, _ = found
    assert (box[1:], them[1:]) == ([0, 0, 0], [0, 0, 0])
    assert 0 not in boxes
    assert tokens("> " + "word " * 100, 1) == tokens("> " + "word " * 200, 1)


def test_calls_are_told_by_how_far_back_they_are() -> None:
    assert tokens("$3 boxes $2", 4) == tokens("$5 boxes $4", 6) != tokens("$3 boxes $2", 5)
    assert len(tokens("> $" + "9" * 5000, 1)) == 2, "what a user writes may be no number"


def test_the_shipped_network_tells_plain_outlines() -> None:
    outliner = Outliner()
    for said, symbols in (
        ("> count the lymphocytes", ("count",)),
        ("> outline the glands and measure them", ("segment", "measure", "0")),
        ("> lymphocytes outside the tumor", ("segment", "count", "out", "0")),
        ("> outline the tumor\n$1 segment tumor\n= present\n> box it", ("boxes", "-1")),
    ):
        state = PlanState() if "$1" not in said else PlanState.after([Turn("", [SEGMENT], "")])
        opinion = outliner.read(said, state.number)
        (best, likely), (_, less) = opinion.best(partial(admits, state), 2)
        assert best.symbols == symbols
        assert likely == pytest.approx(opinion.of(best), abs=1e-4)
        assert less < likely
    assert outliner.digest.startswith("sha256:")


def test_only_outlines_that_are_allowed_are_looked_for() -> None:
    opinion = Outliner().read("> count the lymphocytes", 1)
    ((best, likely),) = opinion.best(lambda outline: outline.symbols != ("count",))
    assert best.symbols != ("count",)
    assert likely < opinion.of(Outline(("count",)))
    assert opinion.best(lambda _: False) == []


def test_training_learns_and_writes_weights_that_load(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "_HELD_BACK", 40)
    training.main(tmp_path, count=300, epochs=2, rate=0.01, seed=5)
    assert "step 6 of 6" in capsys.readouterr().out
    opinion = Outliner(tmp_path / "outline.safetensors").read("> count nuclei", 1)
    assert opinion.of(Outline(("count *",))) > opinion.of(Outline(("measure", "3") * 4))
    run = "--count 300 --epochs 2 --rate 0.01 --seed 5\n"
    assert run in (tmp_path / "outline.md").read_text(encoding="utf-8")
    on = {"count": 1, "epochs": 1, "seed": 6, "rate": 1e-6}
    training.main(tmp_path / "on", **on, start=tmp_path / "outline.safetensors")
    after = Outliner(tmp_path / "on" / "outline.safetensors").read("> count nuclei", 1)
    count = Outline(("count *",))
    assert after.of(count) == pytest.approx(opinion.of(count), abs=0.01)
    card = (tmp_path / "on" / "outline.md").read_text(encoding="utf-8")
    assert card.index(run) < card.index("--seed 6 --start WEIGHTS")
    kept = {"count": 128, "epochs": 1, "seed": 7, "rate": 0.1, "written": 1.0, "start_share": 1.0}
    training.main(tmp_path / "kept", **kept, start=tmp_path / "outline.safetensors")
    same = Outliner(tmp_path / "kept" / "outline.safetensors").read("> count nuclei", 1)
    assert same.of(count) == pytest.approx(opinion.of(count), abs=0.01), "all of the start stays"
    card = (tmp_path / "kept" / "outline.md").read_text(encoding="utf-8")
    assert "--seed 7 --written 1 --start WEIGHTS --start-share 1" in card


def test_a_network_reads_each_thread_of_a_batch_alone() -> None:
    torch.manual_seed(0)
    net = OutlineNet().eval()
    one, two = tokens("> a", 1), tokens("> b c d e", 1)
    written = torch.tensor([classes(Outline(("count",))), [*classes(Outline(())), 0]])
    both = net.likelihoods(net.read([one, two]), written)
    alone = net.likelihoods(net.read([one]), written[:1])
    assert torch.allclose(both[0], alone[0], atol=1e-6)


def test_training_lowers_the_loss() -> None:
    cases = list(itertools.islice(training.draw(3), 128))
    net = training.fit(cases, epochs=12, rate=0.02, seed=1)
    with torch.inference_mode():
        before, after = (training.surprise(one, cases) for one in (OutlineNet(), net))
    assert after < 0.7 * before
