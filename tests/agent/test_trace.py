"""The trace: chained, append-only, and readable wherever a process was killed."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.record.trace import EVENTS_FILE, Recorder, export, read_trace, run_digest
from tests.conftest import ROOT
from tools.arrays import DiskStore
from tools.errors import BadInput


def record(folder, calls=("$1", "$2"), **meta) -> None:
    recorder = Recorder(folder)
    recorder.write("run.start", {"format": 1, "instruction": "count"})
    for call in calls:
        recorder.write("call.start", {"call": call})
    for call in calls:
        recorder.write("call.end", {"call": call, "output": {"count": 3}}, **meta)
    recorder.write("run.end", {"status": "completed"})
    recorder.close()


def test_what_is_written_is_read(tmp_path) -> None:
    record(tmp_path, seconds=0.5)
    trace = read_trace(tmp_path)
    assert trace.damage is None
    assert [event.n for event in trace.events] == list(range(6))
    assert trace.all("call.end")[0].meta["seconds"] == 0.5
    assert trace.start()["instruction"] == "count"


def test_equal_runs_have_one_digest_whatever_their_order_and_time(tmp_path) -> None:
    record(tmp_path / "a", ("$1", "$2"), seconds=0.1)
    record(tmp_path / "b", ("$2", "$1"), seconds=9.9)
    record(tmp_path / "c", ("$1", "$3"))
    digests = [run_digest(read_trace(tmp_path / name).events) for name in "abc"]
    assert digests[0] == digests[1] != digests[2]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_trace_cut_at_any_byte_says_where_it_ends_and_can_go_on(data, tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("cut")
    record(folder)
    file = folder / EVENTS_FILE
    whole = file.read_bytes()
    size = data.draw(st.integers(0, len(whole)))
    file.write_bytes(whole[:size])
    trace = read_trace(folder)
    lines = whole[:size].count(b"\n")
    assert len(trace.events) == lines
    assert (trace.damage is None) == (not whole[:size] or whole[:size].endswith(b"\n"))
    recorder = Recorder(folder)
    recorder.write("run.end", {"status": "failed"})
    recorder.close()
    again = read_trace(folder)
    assert again.damage is None
    assert len(again.events) == len(trace.events) + 1


def test_a_trace_cut_at_every_byte_is_read_up_to_its_last_whole_line(tmp_path) -> None:
    record(tmp_path)
    file = tmp_path / EVENTS_FILE
    whole = file.read_bytes()
    for size in range(len(whole) + 1):
        file.write_bytes(whole[:size])
        trace = read_trace(tmp_path)
        assert len(trace.events) == whole[:size].count(b"\n")
        assert trace.torn == (size > 0 and whole[size - 1 : size] != b"\n")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_killed_writer_leaves_a_readable_trace_that_can_go_on() -> None:
    """In a process of its own: this one has threads, and must not fork."""
    words = [sys.executable, "-m", "tests.agent.killed", "12"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["kills"] == 12
    assert found["events_kept"] >= 12


def test_a_changed_line_ends_the_trust(tmp_path) -> None:
    record(tmp_path)
    file = tmp_path / EVENTS_FILE
    lines = file.read_text("utf-8").splitlines(keepends=True)
    changed = json.loads(lines[3])
    changed["data"]["output"]["count"] = 4
    file.write_text("".join([*lines[:3], json.dumps(changed) + "\n", *lines[4:]]), "utf-8")
    trace = read_trace(tmp_path)
    assert len(trace.events) == 3
    assert trace.damage == "line 4 does not follow from the lines before it"


def test_times_may_be_changed_without_breaking_the_chain(tmp_path) -> None:
    record(tmp_path)
    file = tmp_path / EVENTS_FILE
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    for line in lines:
        line["meta"] = {}
    file.write_text("\n".join(map(json.dumps, lines)) + "\n", "utf-8")
    assert read_trace(tmp_path).damage is None


def test_an_exported_trace_has_its_arrays(tmp_path) -> None:
    store = DiskStore(tmp_path / "store")
    handle = store.put(np.arange(4))
    recorder = Recorder(tmp_path / "turn")
    recorder.write("run.start", {"format": 1, "image": handle.model_dump(mode="json")})
    recorder.close()
    export(tmp_path / "turn", tmp_path / "copy", store)
    copy = read_trace(tmp_path / "copy")
    np.testing.assert_array_equal(copy.store().get(handle.digest), np.arange(4))


def test_what_is_no_trace_is_told_in_one_line(tmp_path) -> None:
    with pytest.raises(BadInput, match="is not a trace"):
        read_trace(tmp_path)
    record(tmp_path / "newer")
    file = tmp_path / "newer" / EVENTS_FILE
    file.unlink()
    recorder = Recorder(tmp_path / "newer")
    recorder.write("run.start", {"format": 99})
    recorder.close()
    with pytest.raises(BadInput, match="format 99"):
        read_trace(tmp_path / "newer")


@pytest.mark.parametrize("wrong", [{"data": [1]}, {"data": None}, {"meta": "now"}])
def test_a_line_whose_data_or_meta_is_no_object_is_no_event(tmp_path, wrong) -> None:
    whole = {"n": 0, "event": "run.start", "data": {}, "meta": {}, "hash": "0" * 64}
    (tmp_path / EVENTS_FILE).write_text(json.dumps(whole | wrong) + "\n", "utf-8")
    trace = read_trace(tmp_path)
    assert (trace.events, trace.damage) == ((), "line 1 is not an event")
