"""Replay: running again, comparing, tolerances, what-ifs, and the first divergence."""

import json
import sys

import numpy as np
import pytest

from agent.cli import main
from agent.record.compare import ANSWER, Tolerance, compare, differences
from agent.record.replay import WhatIf, in_words, replay
from agent.record.trace import read_trace
from models.backends import LOADERS
from tests.agent.recorded import first, rewritten, run
from tools.arrays import MemoryStore
from tools.errors import BadInput

SAME = WhatIf()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, skin):
    place = tmp_path_factory.mktemp("replay")
    run(place, skin)
    return place


@pytest.fixture(scope="module")
def trace(folder):
    return read_trace(folder / "trace")


@pytest.fixture
def command(monkeypatch, capsys):
    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["histopilot", *map(str, words)])
        try:
            status = main()
        except SystemExit as done:
            status = done.code
        return int(status or 0), *capsys.readouterr()

    return call


def test_a_run_replays_identically_with_one_digest(trace) -> None:
    report = replay(trace, SAME, "local")
    assert report["identical"]
    assert report["agrees"]
    assert report["first"] is None
    assert report["faults"] == []
    assert report["digests"]["recorded"] == report["digests"]["other"]
    steps = [(row["step"], row["verdict"]) for row in report["steps"]]
    assert steps == [(s, "identical") for s in ("plan", "check", "$1", "$2", "$3", "answer")]


def test_a_forged_count_is_the_first_divergence(trace, tmp_path) -> None:
    def forge(events):
        output = first(events, "call.end", "$2")["output"]
        output["count"] += 1

    report = replay(rewritten(trace.folder, tmp_path / "t", forge), SAME, "local")
    assert not report["agrees"]
    assert report["first"]["step"] == "$2"
    (item,) = report["first"]["differences"]
    assert item["at"] == "output.count"
    assert item["recorded"] == item["other"] + 1
    text = in_words(report)
    assert f"  - output.count: {item['recorded']}\n  + output.count: {item['other']}" in text


def test_elsewhere_a_tolerance_holds_and_here_it_does_not(trace, tmp_path) -> None:
    def drift(events):
        output = first(events, "call.end", "$2")["output"]
        output["searched_px"] = round(output["searched_px"] * 1.01)

    def drift_elsewhere(events):
        drift(events)
        first(events, "run.start")["environment"]["packages"]["numpy"] = "1.0"

    here = replay(rewritten(trace.folder, tmp_path / "here", drift), SAME, "local")
    assert (here["identical"], here["agrees"]) == (False, False)
    there = replay(rewritten(trace.folder, tmp_path / "there", drift_elsewhere), SAME, "local")
    assert (there["identical"], there["agrees"]) == (False, True)
    rows = {row["step"]: row for row in there["steps"]}
    assert rows["$2"]["verdict"] == "within tolerance"
    assert rows["$2"]["differences"][0]["at"] == "output.searched_px"


def test_another_backend_is_shown_with_the_overlap_of_its_masks(trace, monkeypatch) -> None:
    from models.classical import ClassicalBackend

    real = ClassicalBackend.nuclei

    def shifted(self, image, concept):
        found = real(self, image, concept)
        return type(found)(
            np.roll(found.labels, 1, axis=0),
            found.kinds,
            found.confidence,
            found.present,
            found.method,
        )

    monkeypatch.setattr(ClassicalBackend, "nuclei", shifted)
    report = replay(trace, SAME, "local")
    assert report["first"]["step"] == "$2"
    notes = {item["at"]: item["note"] for item in report["first"]["differences"]}
    dice = float(notes["output.mask"].removeprefix("Dice "))
    assert 0.5 < dice < 1


def test_what_was_recorded_and_not_reached_is_unconsumed(trace, tmp_path) -> None:
    def add(events):
        ends = [event for event in events if event["event"] == "call.end"]
        extra = json.loads(json.dumps(ends[-1]))
        extra["data"]["call"] = "$4"
        events.insert(-3, extra)
        plan_end = first(events, "plan.end")
        plan_end["proposals"].append(plan_end["proposals"][0])

    report = replay(rewritten(trace.folder, tmp_path / "t", add), SAME, "local")
    rows = {row["step"]: row["verdict"] for row in report["steps"]}
    assert rows["$4"] == "unconsumed"
    assert "a recorded proposal of the planner was not consumed" in report["faults"]
    assert not report["agrees"]


def test_what_the_record_lacks_is_missing(trace, tmp_path) -> None:
    def drop(events):
        events[:] = [e for e in events if e["data"].get("call") != "$3"]

    report = replay(rewritten(trace.folder, tmp_path / "t", drop), SAME, "local")
    assert report["first"]["step"] == "$3"
    assert report["first"]["verdict"] == "missing"


def test_an_unasked_yes_is_a_fault(trace, tmp_path) -> None:
    def answer(events):
        said = {"event": "guard.answer", "data": {"doubt": "check", "go_on": True}, "meta": {}}
        events.insert(4, said)

    report = replay(rewritten(trace.folder, tmp_path / "t", answer), SAME, "local")
    assert "a recorded yes or no was not consumed: it was not asked for" in report["faults"]


def test_what_if_another_instruction_or_planner(trace, folder, command) -> None:
    report = replay(trace, WhatIf(planner="rules", instruction="segment the dermis"), "local")
    assert report["first"]["step"] == "plan"
    assert {row["step"]: row["verdict"] for row in report["steps"]}["$3"] == "unconsumed"
    assert report["faults"] == []
    status, out, _ = command("replay", folder, "--planner", "rules", "--instruction", "hello")
    assert (status, "First divergence: plan" in out) == (3, True)


def test_the_commands_exit_status_and_json(folder, command, monkeypatch) -> None:
    status, out, err = command("replay", folder, "--json")
    assert (status, err) == (0, "")
    assert json.loads(out)["identical"] is True
    monkeypatch.setitem(LOADERS, "blind", object)
    status, out, _ = command("replay", folder, "--swap", "segment=blind")
    assert (status, "First divergence: $1 segment" in out) == (3, True)
    assert '"code":"outside_vocabulary"' in out
    for words, says in (
        (("--swap", "segment=moon"), "--swap segment=moon is not TOOL=NAME"),
        (("--mode", "verify", "--planner", "rules"), "verify runs nothing"),
        (("--instruction", " "), "instruction is empty"),
        (("--planner", "moon"), "no planner"),
        (("--mode", "guess"), "guess"),
    ):
        status, out, err = command("replay", folder, *words)
        assert (status, out) == (2, "")
        assert says in err


def test_a_record_without_its_image_is_told(trace, tmp_path) -> None:
    copy = rewritten(trace.folder, tmp_path / "t", lambda events: None)
    (copy.folder / "blobs").unlink()
    with pytest.raises(BadInput, match="lacks the array"):
        replay(copy, SAME, "local")


def stores(*arrays):
    """The handles of arrays, and what reads them."""
    store = MemoryStore()
    handles = [store.put(array).model_dump(mode="json") for array in arrays]
    return handles, (lambda handle: store.get(handle["digest"]),) * 2


def test_tolerances_are_of_masks_numbers_and_lengths() -> None:
    mask = np.zeros((10, 10), np.uint8)
    mask[:5] = 1
    less = mask.copy()
    less[0, :2] = 0  # Dice 2 * 48 / 98 = 0.9796
    (old, new), arrays = stores(mask, less)

    def far(dice):
        return list(differences({"mask": old}, {"mask": new}, arrays, Tolerance(dice, 0.02)))

    assert far(0.97) == []
    assert far(0.98)[0]["note"] == "Dice 0.9796"

    def near(one, other):
        return not list(differences(one, other, arrays, ANSWER))

    assert near({"count": 100}, {"count": 102})
    assert not near({"count": 100}, {"count": 103})
    assert near({"count": True, "text": "1,234 nuclei."}, {"count": True, "text": "980 nuclei."})
    assert not near("12 nuclei", "12 mitoses")
    assert not near({"ok": True}, {"ok": False})
    assert near([[0, 0, 5, 5]] * 100, [[0, 0, 5, 6]] * 101)
    assert not near([1] * 100, [1] * 90)
    assert not near(old, None)


def test_comparing_with_itself_is_identical_on_every_step(trace) -> None:
    report = compare(trace, trace, exact=True)
    assert report["identical"]
    assert all(row["differences"] == [] for row in report["steps"])


def test_what_steers_a_terminal_is_not_printed(trace, tmp_path, command) -> None:
    hostile = "count \x1b]0;gone\x07 [red]nuclei[/] \u202e"

    def taint(events):
        first(events, "run.start")["instruction"] = hostile
        first(events, "compose.end")["answer"]["text"] = hostile

    copy = rewritten(trace.folder, tmp_path / "t", taint).folder
    for words in (
        *(("trace", "show", copy), ("trace", "diff", copy, trace.folder)),
        *(("trace", "list", tmp_path), ("replay", copy, "--mode", "verify")),
    ):
        _, out, err = command(*words)
        assert not {"\x1b", "\x07", "\u202e"} & set(out + err)
        assert ("[red]nuclei[/]" in out) == (words[0] == "trace")
