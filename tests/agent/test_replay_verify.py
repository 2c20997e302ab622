"""Verify: a record that holds passes; whatever was done to it is found, and no model is loaded."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from skimage import data

from agent.output.masks import read_mask
from agent.record.replay import WhatIf, replay
from agent.record.trace import EVENTS_FILE, read_trace
from agent.record.verify import in_words, verify
from agent.session import Kit, Thread, copy_trace
from models.backend import Image
from models.classical import ClassicalBackend
from tests.agent.recorded import CLASSICAL, PLAN, first, rewritten, run
from tests.agent.scripted import EPIDERMIS, ScriptedPlanner
from tests.conftest import ROOT
from tools.arrays import DiskStore
from tools.runtime import LocalRuntime


@pytest.fixture(scope="module")
def folder(tmp_path_factory, skin):
    place = tmp_path_factory.mktemp("verify")
    run(place, skin)
    return place


@pytest.fixture(scope="module")
def trace(folder):
    return read_trace(folder / "trace")


def test_a_whole_record_holds(trace, folder) -> None:
    report = verify(trace, folder)
    assert report["faults"] == []
    assert report["identical"]
    assert report["checked"] == {"events": len(trace.events), "calls": 4, "arrays": 5}
    assert in_words(report).startswith("The record is whole, and its result follows from it")


LOADS_NOTHING = """
import json, sys
from pathlib import Path
from models import backends
for name in backends.LOADERS:
    backends.LOADERS[name] = lambda: sys.exit("a backend was loaded")
import socket
socket.socket.connect = lambda *_: sys.exit("the network was used")
from agent.record.trace import read_trace
from agent.record.verify import verify
folder = Path(sys.argv[1])
report = verify(read_trace(folder / "trace"), folder)
heavy = [name for name in ("torch", "transformers", "ray", "cellpose") if name in sys.modules]
print(json.dumps([report["faults"], heavy]))
"""


def test_verifying_loads_no_model_and_no_network_library(folder) -> None:
    words = [sys.executable, "-c", LOADS_NOTHING, str(folder)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[], []]


def more_nuclei(events):
    first(events, "call.end", "$2")["output"]["count"] += 1


def another_answer(events):
    first(events, "compose.end")["answer"]["text"] = "All is well."


def a_box_less(events):
    first(events, "compose.end")["answer"]["boxes"].pop()


def a_call_less(events):
    events[:] = [event for event in events if event["data"].get("call") != "$3"]


def an_end_less(events):
    events[:] = [e for e in events if (e["event"], e["data"].get("call")) != ("call.end", "$3")]


def a_start_less(events):
    events[:] = [e for e in events if (e["event"], e["data"].get("call")) != ("call.start", "$1")]


def another_plan(events):
    first(events, "plan.end")["plan"]["calls"][0]["args"]["target"] = "dermis"


def no_plan(events):
    first(events, "plan.end").update(plan=None, error="the planner gave no valid plan")


def another_fault(events):
    first(events, "plan.end")["faults"].append("plan: empty: it has no calls")


def a_second_try(events):
    proposals = first(events, "plan.end")["proposals"]
    proposals.insert(0, proposals[0])


def other_arguments(events):
    first(events, "call.start", "$1")["args"]["target"] = "dermis"


def other_ended(events):
    first(events, "call.end", "$3")["args"]["source"] = "$1"


def an_unasked_yes(events):
    said = {"event": "guard.answer", "data": {"doubt": "check", "go_on": True}, "meta": {}}
    events.insert(5, said)


def another_input(events):
    first(events, "call.start", "$3")["inputs"]["source"] = "0" * 64


def both(events):
    error = {"code": "internal", "message": "oh", "missing": None}
    first(events, "call.end", "$3")["error"] = error


def cut(events):
    del events[-1]


def misshapen(events):
    first(events, "call.end", "$3")["key"] = "short"


def a_made_up_question(events):
    asked = {"event": "guard.question", "data": {"doubt": "check", "text": "Sure?"}, "meta": {}}
    events.insert(5, asked)


def two_headers(events):
    events.insert(1, json.loads(json.dumps(events[0])))


def another_end(events):
    first(events, "run.end")["status"] = "failed"


def a_pause(events):
    events[-1] = {"event": "run.pause", "data": {"status": "needs_confirmation"}, "meta": {}}


def other_backends(events):
    first(events, "run.start")["backends"]["segment"] = ["moon"]


def another_version(events):
    first(events, "run.start")["tools"]["segment"] = "0"


def a_number_that_is_none(events):
    first(events, "call.end", "$2")["output"]["count"] = "many"


def a_handle_that_is_none(events):
    first(events, "call.end", "$2")["output"]["mask"]["digest"] = "../../etc/passwd"


def a_tool_that_is_none(events):
    first(events, "plan.end")["plan"]["calls"][0]["tool"] = "explode"


@pytest.mark.parametrize(
    ("forge", "says"),
    [
        (two_headers, "line 2 is another header"),
        (another_end, "the run ended as something else than its answer says"),
        (a_pause, "the run waits, and no question is open"),
        (other_backends, "$1 asked other backends than the header names"),
        (another_version, "$1 is of another version of its tool"),
        (a_number_that_is_none, "can't be followed to its end (ValidationError"),
        (a_handle_that_is_none, "can't be followed to its end (ValidationError"),
        (a_tool_that_is_none, "another plan than the recorded one"),
        (more_nuclei, "$3 had other inputs than those recorded"),
        (another_answer, "the recorded answer does not follow from the outputs (text)"),
        (a_box_less, "the recorded answer does not follow from the outputs (boxes)"),
        (a_call_less, "$3 was planned and has no record"),
        (an_end_less, "call $3 began and has no end"),
        (a_start_less, "ends call $1, which had not begun"),
        (another_plan, "is another plan than the recorded one"),
        (no_plan, "what the planner wrote is not the recorded plan"),
        (another_fault, "the planner was shown other faults than it made"),
        (a_second_try, "the planner was asked again after it had given a plan"),
        (other_arguments, "$1 is not a call of the plan"),
        (other_ended, "$3 ended as another call than it began"),
        (an_unasked_yes, "an answer to what was not asked"),
        (another_input, "$3 had other inputs than those recorded"),
        (both, "$3 needs an output or an error, one of them"),
        (cut, "the record stops before the end of the run"),
        (misshapen, "(call.end) does not fit the format: key: "),
        (a_made_up_question, "the question does not follow"),
    ],
)
def test_a_forged_record_is_found_also_where_the_chain_was_made_anew(
    trace, tmp_path, forge, says
) -> None:
    report = verify(rewritten(trace.folder, tmp_path / "t", forge))
    assert not report["identical"]
    assert any(says in fault for fault in report["faults"]), report["faults"]


def test_a_changed_byte_breaks_the_chain(trace, tmp_path) -> None:
    copy = rewritten(trace.folder, tmp_path / "t", lambda events: None).folder
    file = copy / EVENTS_FILE
    file.write_bytes(file.read_bytes().replace(b'"is_he":true', b'"is_he":null', 1))
    assert "the record is damaged" in verify(read_trace(copy))["faults"][0]


@pytest.mark.parametrize("harm", ["missing", "changed", "broken", "reshaped"])
def test_an_array_that_is_not_the_recorded_one_is_found(tmp_path, folder, harm) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    trace = read_trace(tmp_path / "copy" / "trace")
    digest = trace.all("call.end")[1].data["output"]["mask"]["digest"]
    file = trace.blobs / f"{digest}.npy.gz"
    if harm == "missing":
        file.unlink()
    elif harm == "broken":
        file.write_bytes(file.read_bytes()[:40])
    elif harm == "changed":
        other = DiskStore(tmp_path / "other").put(np.ones((4, 4), np.uint8))
        (tmp_path / "other" / f"{other.digest}.npy.gz").replace(file)
    else:

        def reshape(events):
            first(events, "call.end", "$1")["output"]["mask"]["shape"] = [1, 1]

        trace = rewritten(trace.folder, tmp_path / "t", reshape)
    faults = verify(trace)["faults"]
    assert any("array" in fault for fault in faults), faults


def test_result_and_masks_beside_the_trace_are_held_against_it(tmp_path, folder) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    trace = read_trace(tmp_path / "trace")
    assert verify(trace, tmp_path)["identical"]
    result = json.loads((tmp_path / "result.json").read_text("utf-8"))
    forged = {**result, "text": "No nuclei."}
    (tmp_path / "result.json").write_text(json.dumps(forged), "utf-8")
    assert verify(trace, tmp_path)["faults"] == ["text in result.json is not the recorded one"]
    (tmp_path / "result.json").write_text(json.dumps(result), "utf-8")
    (tmp_path / "mask-1.png").write_bytes((tmp_path / "mask-2.png").read_bytes())
    assert verify(trace, tmp_path)["faults"] == ["mask-1.png is not the recorded mask"]
    assert read_mask(tmp_path / "mask-2.png").max() > 1


class Wordy:
    """Words the findings its own way."""

    def info(self):
        return {"model": "wordy"}

    def write(self, messages):
        return f"In short: {json.loads(messages[1]['content'])['findings'][0]}"


def test_what_a_language_model_worded_is_verified_and_replayed(tmp_path, skin) -> None:
    plan = [{"tool": "segment", "args": {"target": "epidermis"}}]
    kit = Kit(ScriptedPlanner(plan), LocalRuntime(), CLASSICAL, Wordy())
    outcome = Thread(tmp_path / "t", kit, keep=False).ask("outline the epidermis", skin)
    assert outcome.answer["text"].startswith("In short: The epidermis covers")
    trace = read_trace(outcome.trace)
    assert verify(trace)["faults"] == []
    assert replay(trace, WhatIf(), "local")["identical"]

    def forge(events):
        first(events, "phrase.end")["raw"] = "In short: The epidermis covers 99 mm²."

    forged = rewritten(trace.folder, tmp_path / "forged", forge)
    assert "does not follow from the outputs (text)" in verify(forged)["faults"][0]


def test_a_question_and_its_answer_are_verified(tmp_path) -> None:
    photo = Image(np.ascontiguousarray(data.astronaut()), 0.5)
    kit = Kit(ScriptedPlanner(PLAN), LocalRuntime(), CLASSICAL)
    thread = Thread(tmp_path / "t", kit, keep=True)
    asked = thread.ask("box the nuclei", photo)
    assert verify(read_trace(asked.trace))["faults"] == []
    answered = thread.answer(False)
    assert answered.answer["status"] == "declined"
    assert verify(read_trace(answered.trace))["faults"] == []
    assert verify(read_trace(copy_trace(answered, tmp_path / "copy")))["faults"] == []


def test_a_turn_that_was_worded_twice_since_it_was_killed_is_verified_by_the_last(
    tmp_path, skin
) -> None:
    plan = [{"tool": "segment", "args": {"target": "epidermis"}}]
    kit = Kit(ScriptedPlanner(plan), LocalRuntime(), CLASSICAL, Wordy())
    outcome = Thread(tmp_path / "t", kit, keep=False).ask("outline the epidermis", skin)

    def killed_once(events):
        names = [event["event"] for event in events]
        begin, end = names.index("compose.start"), names.index("phrase.end")
        earlier = json.loads(json.dumps(events[begin : end + 1]))
        earlier[-1]["data"]["raw"] = "Something else: none."
        events[begin:begin] = earlier

    resumed = rewritten(read_trace(outcome.trace).folder, tmp_path / "resumed", killed_once)
    assert verify(resumed)["faults"] == []
    assert replay(resumed, WhatIf(), "local")["agrees"]


@pytest.mark.parametrize(
    "target",
    ["/data/Jane Doe/my slide", "C:\\Users\\Jane Doe\\slide 7", "'/a b' and \"/c d\"", '/a/b\\"c'],
)
def test_a_plan_with_a_path_in_it_is_recorded_as_what_was_written(tmp_path, skin, target) -> None:
    raw = json.dumps([{"tool": "segment", "args": {"target": target}}])
    kit = Kit(ScriptedPlanner(raw), LocalRuntime(), CLASSICAL)
    outcome = Thread(tmp_path / "t", kit, keep=False).ask("outline it", skin)
    trace = read_trace(outcome.trace)
    assert trace.all("plan.end")[0].data["plan"] is not None
    assert verify(trace)["faults"] == []
    escaped = raw.replace("/", "\\u002f")
    kit = Kit(ScriptedPlanner(escaped), LocalRuntime(), CLASSICAL)
    again = Thread(tmp_path / "u", kit, keep=False).ask("outline it", skin)
    assert verify(read_trace(again.trace))["faults"] == []


def test_secrets_of_the_machine_that_verifies_raise_no_alarm(trace, folder, monkeypatch) -> None:
    for name, secret in (("A_TOKEN", "epidermis"), ("B_KEY", "completed")):
        monkeypatch.setenv(name, secret)
    assert verify(trace, folder)["faults"] == []


@pytest.mark.parametrize(
    "said", ["no /data/Jane Doe", "hunter22hunter", "no '/data/x y' nor /a/b."]
)
def test_what_was_scrubbed_from_an_error_is_scrubbed_from_its_answer(
    tmp_path, skin, monkeypatch, said
) -> None:
    """Here, where the result beside the trace tells the secret, and elsewhere, where none is."""
    monkeypatch.setenv("A_TOKEN", "hunter22hunter")

    def broken(*_):
        raise OSError(said)

    monkeypatch.setattr(ClassicalBackend, "region", broken)
    run(tmp_path, skin, plan=[EPIDERMIS])
    trace = read_trace(tmp_path / "trace")
    assert said in json.loads((tmp_path / "result.json").read_text("utf-8"))["text"]
    assert said not in (trace.folder / EVENTS_FILE).read_text("utf-8")
    assert verify(trace, tmp_path)["faults"] == []
    monkeypatch.delenv("A_TOKEN")
    assert verify(trace)["faults"] == []


def test_the_faults_of_a_first_proposal_are_verified(tmp_path, skin) -> None:
    """`repairs`: the planner is shown what is wrong with a path in it, and plans again."""
    wrong = json.dumps([{"tool": "segment", "args": {"target": "x", "within": "/data/Jane Doe"}}])
    kit = Kit(ScriptedPlanner(wrong, [EPIDERMIS], repairs=True), LocalRuntime(), CLASSICAL)
    trace = read_trace(Thread(tmp_path / "t", kit, keep=False).ask("outline it", skin).trace)
    data = trace.all("plan.end")[0].data
    assert (len(data["proposals"]), len(data["faults"])) == (2, 1)
    assert "Jane" not in json.dumps(data)
    assert verify(trace)["faults"] == []
