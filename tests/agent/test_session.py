"""Threads end to end on the real sample: plans, guards, follow-ups, crashes, faults."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from skimage import data

from agent.compose import WITHHELD
from agent.record.trace import read_trace, run_digest
from agent.session import Kit, Thread, checked_instruction, kept_thread
from models.backend import Image, Tissue
from models.backends import load
from models.classical import ClassicalBackend
from tests.agent.scripted import (
    DERMIS,
    EPIDERMIS,
    NUCLEI_IN,
    CountingRuntime,
    ScriptedPlanner,
)
from tests.conftest import ROOT
from tools.arrays import ArrayHandle
from tools.errors import BadInput
from tools.registry import DEFAULT_BACKENDS
from tools.runtime import LocalRuntime

CLASSICAL = dict.fromkeys(DEFAULT_BACKENDS, ("classical",))


def kit(*proposals, runtime=None, repairs=False) -> Kit:
    planner = ScriptedPlanner(*proposals, repairs=repairs)
    return Kit(planner, runtime or LocalRuntime(), CLASSICAL)


def array(outcome, mask):
    return outcome.store.get(ArrayHandle.model_validate(mask["array"]).digest)


def test_count_inside_a_region(tmp_path, sample) -> None:
    thread = Thread(tmp_path, kit([EPIDERMIS, NUCLEI_IN]), keep=False)
    outcome = thread.ask("count the nuclei inside the epidermis", sample)
    answer = outcome.answer
    assert answer["status"] == "completed"
    region, nuclei = (array(outcome, mask) for mask in answer["masks"])
    assert region.shape == nuclei.shape == sample.shape
    count = answer["masks"][1]["count"]
    assert count == nuclei.max() > 50
    assert f"{count:,} nuclei were found inside the epidermis" in answer["text"]
    sizes = np.bincount(nuclei.ravel())[1:]
    inside = np.bincount(nuclei[region > 0], minlength=count + 1)[1:]
    assert (2 * inside > sizes).all()
    area_mm2 = (region > 0).sum() * sample.mpp**2 / 1e6
    density = answer["measurements"]["$2"]["density_per_mm2"]
    assert density == pytest.approx(count / area_mm2, rel=1e-4)


def test_inside_and_outside_make_the_whole(tmp_path, sample) -> None:
    outside = {"tool": "count_nuclei", "args": {"outside": "$1"}}
    everything = {"tool": "count_nuclei", "args": {}}
    thread = Thread(tmp_path, kit([EPIDERMIS, NUCLEI_IN, outside, everything]), keep=False)
    answer = thread.ask("count nuclei in and out of the epidermis", sample).answer
    within, without, whole = (mask["count"] for mask in answer["masks"][1:])
    assert within > 0
    assert without > 0
    assert within + without == pytest.approx(whole, abs=2)  # a nucleus split in half is neither


def test_without_a_pixel_size_there_is_no_density_and_it_is_said_why(tmp_path, skin) -> None:
    thread = Thread(tmp_path, kit([{"tool": "count_nuclei", "args": {}}]), keep=False)
    answer = thread.ask("count the nuclei", Image(skin.rgb, None)).answer
    assert answer["measurements"]["$1"].get("density_per_mm2") is None
    assert (
        "no density: the pixel size of this image is not known; give the µm per pixel"
        in answer["text"]
    )


def test_a_follow_up_refers_to_what_was_found(tmp_path, sample) -> None:
    boxes = [{"tool": "extract_boxes", "args": {"source": "$2"}}]
    thread = Thread(tmp_path, kit([EPIDERMIS, NUCLEI_IN], boxes), keep=True)
    first = thread.ask("count the nuclei inside the epidermis", sample)
    runtime = CountingRuntime()
    thread = Thread(tmp_path, kit(boxes, runtime=runtime), keep=True)
    second = thread.ask("now box them")
    assert runtime.ran == ["$3"]
    assert len(second.answer["boxes"]) == first.answer["masks"][1]["count"]
    nuclei = array(first, first.answer["masks"][1])
    x0, y0, x1, y1 = second.answer["boxes"][0]["xyxy"]
    rows, columns = np.nonzero(nuclei == 1)
    assert (x0, y0, x1, y1) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_a_photograph_is_asked_about_before_anything_looks(tmp_path) -> None:
    photo = Image(np.ascontiguousarray(data.astronaut()), 0.5)
    runtime = CountingRuntime()
    thread = Thread(tmp_path, kit([EPIDERMIS, NUCLEI_IN], runtime=runtime), keep=True)
    asked = thread.ask("count the nuclei", photo)
    assert asked.answer["status"] == "needs_confirmation"
    assert "does not look like an H&E image" in asked.answer["text"]
    assert runtime.ran == ["check"]
    thread = Thread(tmp_path, kit([EPIDERMIS, NUCLEI_IN], runtime=runtime), keep=True)
    assert thread.question is not None
    answered = thread.answer(True)
    assert answered.answer["status"] in ("completed", "declined")
    assert "does not look like an H&E image" in answered.answer["text"]
    assert runtime.ran == ["check", "$1", "$2"]
    events = [event.event for event in read_trace(answered.trace).events]
    assert events.index("guard.question") < events.index("guard.answer") < len(events) - 1


def test_a_no_stops_the_turn_and_the_thread_goes_on(tmp_path) -> None:
    photo = Image(np.ascontiguousarray(data.coffee()), None)
    hello = [{"tool": "reply", "args": {"kind": "answer", "text": "Hello."}}]
    thread = Thread(tmp_path, kit([EPIDERMIS], hello), keep=True)
    thread.ask("outline the epidermis", photo)
    refused = thread.answer(False).answer
    assert (refused["status"], refused["masks"]) == ("declined", [])
    with pytest.raises(BadInput, match="no open question"):
        thread.answer(True)
    assert thread.ask("hello").answer["status"] == "answered"


def test_what_no_model_knows_is_declined_with_what_is_missing(tmp_path, skin) -> None:
    lost = {"tool": "segment", "args": {"target": "glomerulus"}}
    thread = Thread(tmp_path, kit([lost, NUCLEI_IN]), keep=False)
    answer = thread.ask("count the nuclei in the glomeruli", skin).answer
    assert answer["status"] == "declined"
    assert answer["masks"] == []
    assert "No configured model can outline “glomerulus”" in answer["text"]
    assert "It needs the result of $1" in answer["text"]


def test_one_repair_turn_shows_the_faults(tmp_path, skin) -> None:
    planner = ScriptedPlanner("gibberish", [EPIDERMIS], repairs=True)
    outcome = Thread(tmp_path, Kit(planner, LocalRuntime()), keep=False).ask("outline it", skin)
    assert outcome.answer["status"] == "completed"
    assert [request.feedback is None for request in planner.asked] == [True, False]
    assert "not_json" in planner.asked[1].feedback


def test_a_planner_that_never_plans_is_a_failure_that_says_so(tmp_path, skin) -> None:
    planner = ScriptedPlanner("gibberish", repairs=True)
    answer = Thread(tmp_path, Kit(planner, LocalRuntime()), keep=False).ask("outline", skin).answer
    assert answer["status"] == "failed"
    assert "no valid plan" in answer["text"]
    assert len(planner.asked) == 2


def test_a_fault_inside_is_a_typed_error_in_the_trace(tmp_path, skin, monkeypatch) -> None:
    def broken(*_):
        raise ZeroDivisionError("unlucky")

    monkeypatch.setattr(ClassicalBackend, "region", broken)
    outcome = Thread(tmp_path, kit([EPIDERMIS]), keep=False).ask("outline the epidermis", skin)
    assert outcome.answer["status"] == "failed"
    assert "ZeroDivisionError: unlucky" in outcome.answer["text"]
    errors = [e.data["error"] for e in read_trace(outcome.trace).all("call.end")]
    assert errors[-1]["code"] == "internal"


def test_a_reply_with_an_invented_figure_is_withheld_each_time(tmp_path, skin) -> None:
    lie = [{"tool": "reply", "args": {"kind": "answer", "text": "There are 12 mitoses."}}]
    thread = Thread(tmp_path, kit(lie), keep=False)
    for _ in range(2):
        answer = thread.ask("are there 12 mitoses?", skin).answer
        assert (answer["status"], answer["text"]) == ("answered", WITHHELD)


def test_another_organ_than_presumed_is_asked_about(tmp_path, skin, monkeypatch) -> None:
    monkeypatch.setattr(load("classical"), "organs", ("kidney", "liver"))
    monkeypatch.setattr(ClassicalBackend, "tissue", lambda *_: Tissue("kidney", 0.93))
    check = {"tool": "classify_tissue", "args": {"expected": "liver"}}
    runtime = CountingRuntime()
    thread = Thread(tmp_path, kit([check, EPIDERMIS], runtime=runtime), keep=True)
    asked = thread.ask("outline the epidermis of this liver", skin).answer
    assert asked["status"] == "needs_confirmation"
    assert asked["text"] == (
        "This appears to be kidney tissue (probability 0.93), are you sure this is a liver image?"
    )
    assert asked["tissue"] == {"label": "kidney", "probability": 0.93}
    assert runtime.ran == ["check", "$1"]
    outcome = thread.answer(True)
    assert outcome.answer["status"] == "completed"
    assert "not liver" in outcome.answer["text"]
    assert set(outcome.seconds["calls"]) == {"check", "$1", "$2"}


def test_after_a_no_the_numbers_start_again(tmp_path, skin, monkeypatch) -> None:
    monkeypatch.setattr(load("classical"), "organs", ("kidney", "liver"))
    monkeypatch.setattr(ClassicalBackend, "tissue", lambda *_: Tissue("kidney", 0.93))
    check = {"tool": "classify_tissue", "args": {"expected": "liver"}}
    boxes = [EPIDERMIS, {"tool": "extract_boxes", "args": {"source": "$1"}}]
    thread = Thread(tmp_path, kit([check, EPIDERMIS], boxes), keep=True)
    thread.ask("outline the epidermis of this liver", skin)
    thread.answer(False)
    answer = thread.ask("box the epidermis").answer
    assert answer["status"] == "completed"
    assert [mask["call"] for mask in answer["masks"]] == ["$1"]


def test_a_check_that_fails_inside_stops_everything_and_is_run_again(
    tmp_path, skin, monkeypatch
) -> None:
    def broken(*_):
        raise OSError("unlucky")

    thread = Thread(tmp_path, kit([EPIDERMIS]), keep=True)
    with monkeypatch.context() as patch:
        patch.setattr(ClassicalBackend, "gate", broken)
        answer = thread.ask("outline the epidermis", skin).answer
    assert (answer["status"], answer["masks"]) == ("failed", [])
    assert "nothing was measured" in answer["text"]
    assert thread.ask("outline the epidermis").answer["status"] == "completed"


def test_too_coarse_an_image_is_declined_and_not_counted_as_zero(tmp_path, skin) -> None:
    plan = [{"tool": "count_nuclei", "args": {}}]
    answer = Thread(tmp_path, kit(plan), keep=False).ask("count", Image(skin.rgb, 8.0)).answer
    assert (answer["status"], answer["measurements"]) == ("declined", {})
    assert "8 µm/px" in answer["text"]


def test_a_failed_turn_can_be_referred_to(tmp_path, skin, monkeypatch) -> None:
    def broken(*_):
        raise ZeroDivisionError("unlucky")

    boxes = [{"tool": "extract_boxes", "args": {"source": "$1"}}]
    count = {"tool": "count_nuclei", "args": {}}
    thread = Thread(tmp_path, kit([EPIDERMIS, count], boxes), keep=True)
    with monkeypatch.context() as patch:
        patch.setattr(ClassicalBackend, "nuclei", broken)
        assert thread.ask("outline and count", skin).answer["status"] == "failed"
    answer = thread.ask("box the epidermis").answer
    assert answer["status"] == "completed"
    assert answer["boxes"][0]["call"] == "$3"


def test_a_thread_is_one_process_at_a_time(tmp_path, skin) -> None:
    thread = Thread(tmp_path, kit([EPIDERMIS]), keep=True)
    with FileLock(tmp_path / ".lock"), pytest.raises(BadInput, match="another process"):
        thread.ask("outline the epidermis", skin)


def test_two_equal_runs_have_one_digest(tmp_path, skin, ray_runtime) -> None:
    plan = [EPIDERMIS, DERMIS, NUCLEI_IN, {"tool": "measure", "args": {"source": "$2"}}]
    digests = []
    for name, runtime in (("a", LocalRuntime()), ("b", LocalRuntime()), ("c", ray_runtime)):
        outcome = Thread(tmp_path / name, kit(plan, runtime=runtime), keep=False).ask("go", skin)
        assert outcome.answer["status"] == "completed"
        digests.append(run_digest(read_trace(outcome.trace).events))
    assert digests[0] == digests[1] == digests[2]


KILLED = """
import os, signal, sys
from pathlib import Path
from agent.compose import WITHHELD
from agent.session import Kit, Thread
from tests.agent.scripted import DERMIS, EPIDERMIS, NUCLEI_IN, CountingRuntime, ScriptedPlanner
from tools.image import read_image

class Fatal(CountingRuntime):
    def execute(self, request, store):
        if request.call == "$3":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().execute(request, store)

kit = Kit(ScriptedPlanner([EPIDERMIS, DERMIS, NUCLEI_IN]), Fatal())
image = read_image(Path("tests/data/skin-256.png"), mpp=0.499).image
Thread(Path(sys.argv[1]), kit, keep=True).ask("count", image)
"""


def test_a_killed_run_goes_on_without_repeating_finished_calls(tmp_path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    torn = read_trace(tmp_path / "turn-1")
    assert torn.damage is None
    assert not torn.all("run.end")
    runtime = CountingRuntime()
    planner = ScriptedPlanner([EPIDERMIS, DERMIS, NUCLEI_IN])
    outcome = Thread(tmp_path, Kit(planner, runtime), keep=True).ask("count")
    assert runtime.ran == ["$3"]
    assert planner.asked == []
    assert outcome.answer["status"] == "completed"
    assert read_trace(outcome.trace).all("run.end")


def test_a_thread_keeps_to_its_image(tmp_path, skin) -> None:
    thread = Thread(tmp_path, kit([EPIDERMIS]), keep=True)
    with pytest.raises(BadInput, match="no image yet"):
        thread.ask("outline the epidermis")
    thread.ask("outline the epidermis", skin)
    with pytest.raises(BadInput, match="another image"):
        thread.ask("outline the epidermis", Image(np.ascontiguousarray(skin.rgb[:300]), skin.mpp))


@pytest.mark.parametrize("name", ["", "..", "a/b", "-x", "x" * 65, "a b"])
def test_a_thread_name_can_not_leave_its_folder(tmp_path, name: str) -> None:
    with pytest.raises(BadInput, match="a thread's name"):
        kept_thread(name, kit([EPIDERMIS]), home=Path(tmp_path))


@pytest.mark.parametrize("words", ["", "   ", "?!", "\n\t"])
def test_an_empty_instruction_is_told(words: str) -> None:
    with pytest.raises(BadInput, match="instruction is empty"):
        checked_instruction(words)


def test_a_huge_instruction_is_told() -> None:
    with pytest.raises(BadInput, match="100,000 characters"):
        checked_instruction("count " * 16_666 + "nuke")
