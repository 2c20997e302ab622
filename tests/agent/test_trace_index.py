"""Many traces: listing, filtering, an index that may be lost, and pruning."""

import json
import os
import sqlite3
import sys
from datetime import UTC, datetime, timedelta

import pytest

from agent.cli import main
from agent.record.index import INDEX_FILE, Filter, listed, prunable, prune, traces_in
from agent.record.trace import EVENTS_FILE, Recorder
from tools.errors import BadInput

NOW = datetime.now(UTC)


def write(folder, words="count the nuclei", tool="count_nuclei", status="completed", days=0.0):
    """A small trace, written so many days ago."""
    recorder = Recorder(folder)
    recorder.write("run.start", {"instruction": words, "planner": {"name": "rules"}})
    recorder.write("call.start", {"call": "$1", "tool": tool})
    if status != "unfinished":
        recorder.write("compose.end", {"answer": {"text": "12 found."}})
        recorder.write("run.end", {"status": status})
    recorder.close()
    (folder / "blobs").mkdir(exist_ok=True)
    (folder / "blobs" / "x").write_bytes(b"x" * 10_000)
    then = (NOW - timedelta(days=days)).timestamp()
    os.utime(folder / EVENTS_FILE, (then, then))
    return folder


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "a" / "trace", days=30)
    write(tmp_path / "b" / "trace", "outline the Dermis", "segment", "declined", days=20)
    write(tmp_path / "c" / "trace", status="unfinished", days=10)
    return tmp_path


def paths(rows) -> set[str]:
    return {row["path"][0] for row in rows}


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Filter(), "abc"),
        (Filter(status="completed"), "a"),
        (Filter(status="unfinished"), "c"),
        (Filter(tool="segment"), "b"),
        (Filter(planner="local"), ""),
        (Filter(grep="dermis"), "b"),
        (Filter(grep="12 FOUND"), "ab"),
        (Filter(since=NOW - timedelta(days=1)), "abc"),
        (Filter(since=NOW + timedelta(days=1)), ""),
    ],
)
def test_traces_are_filtered(folder, wanted, found) -> None:
    assert paths(listed(folder, wanted)) == set(found)


def test_new_changed_and_deleted_traces_are_seen(folder) -> None:
    listed(folder)
    write(folder / "d" / "trace")
    recorder = Recorder(folder / "c" / "trace")
    recorder.write("run.end", {"status": "completed"})
    recorder.close()
    prune([folder / "a" / "trace"])
    rows = {row["path"][0]: row["status"] for row in listed(folder)}
    assert rows == {"b": "declined", "c": "completed", "d": "completed"}


@pytest.mark.parametrize("harm", ["lost", "garbage", "old", "other table"])
def test_the_index_is_made_again(folder, harm) -> None:
    before = listed(folder)
    file = folder / INDEX_FILE
    if harm == "lost":
        file.unlink()
    elif harm == "garbage":
        file.write_bytes(b"not a database" * 100)
    else:
        with sqlite3.connect(file) as index:
            index.execute("DROP TABLE traces")
            if harm == "old":
                index.execute("CREATE TABLE traces (path)")
                index.execute("PRAGMA user_version = 0")
        index.close()
    assert listed(folder) == before
    assert listed(folder) == before


def test_a_warm_index_reads_no_trace(folder, monkeypatch) -> None:
    before = listed(folder)
    monkeypatch.setattr("agent.record.index._read", None)
    assert listed(folder) == before


def test_a_folder_that_can_not_be_written_to_is_listed_all_the_same(folder, monkeypatch) -> None:
    monkeypatch.setattr("agent.record.index.INDEX_FILE", "no/such/folder/index")
    assert paths(listed(folder)) == set("abc")


def test_damage_is_listed_not_raised(folder) -> None:
    (folder / "b" / "trace" / EVENTS_FILE).write_text('{"torn', "utf-8")
    (folder / "a" / "trace" / EVENTS_FILE).write_text("[]\n", "utf-8")
    damage = {row["path"][0]: row["damage"] for row in listed(folder)}
    assert damage["a"] == damage["b"] == "line 1 is torn or not an event"
    assert damage["c"] == ""


def test_pruning_takes_what_is_old_or_too_much_oldest_first(folder) -> None:
    def taken(**limits):
        found = prunable(folder, limits.get("days"), limits.get("keep"), NOW)
        return [path.parent.name for path, _ in found]

    assert taken(days=15) == ["a", "b"]
    assert taken(days=40) == []
    assert taken(keep=25_000) == ["a"]
    assert taken(keep=0) == ["a", "b", "c"]
    assert taken(days=25, keep=12_000) == ["a", "b"]


def test_pruning_deletes_traces_and_nothing_else(folder) -> None:
    (folder / "a" / "result.json").write_text("{}")
    (folder / "b" / "trace" / "notes.txt").write_text("mine")
    outside = write(folder.parent / f"{folder.name}-outside")
    (folder / "link").symlink_to(outside)
    prune(path for path, _ in prunable(folder, None, 0, NOW))
    left = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    assert left == ["a", "a/result.json", "b", "b/trace", "b/trace/notes.txt", "c", "link"]
    assert list(traces_in(outside)) == [outside]


def test_the_commands(folder, monkeypatch, capsys) -> None:
    def call(*words):
        monkeypatch.setattr(sys, "argv", ["histopilot", "trace", *map(str, words)])
        try:
            status = main()
        except SystemExit as done:
            status = done.code
        return int(status or 0), *capsys.readouterr()

    status, out, _ = call("list", folder, "--grep", "dermis", "--json")
    assert (status, [row["status"] for row in json.loads(out)]) == (0, ["declined"])
    assert "Dermis" in call("list", folder)[1]
    status, out, _ = call("prune", folder, "--older-than", 15)
    assert (status, out.splitlines()[-1].split(",")[0]) == (0, "2 traces")
    assert len(list(traces_in(folder))) == 3
    call("prune", folder, "--older-than", 15, "--delete")
    assert len(list(traces_in(folder))) == 1
    for words, says in (
        (("prune", folder), "give --older-than"),
        (("prune", folder, "--keep", "lots"), "is not a size"),
        (("list", folder / "none"), "is not a folder"),
        (("export", folder / "c" / "trace", "--format", "html"), "give --out FILE"),
        (("diff", folder / "c" / "trace", folder), "no trace at"),
    ):
        status, out, err = call(*words)
        assert (status, out) == (2, "")
        assert says in err


def test_no_folder_is_told(tmp_path) -> None:
    with pytest.raises(BadInput, match="is not a folder"):
        listed(tmp_path / "none")


def test_pruning_leaves_kept_threads_alone(folder) -> None:
    kept = write(folder / "kept" / "turn-1", days=90)
    (folder / "kept" / "thread.sqlite").touch()
    assert kept not in [path for path, _ in prunable(folder, 15, 0, NOW)]


def test_a_name_or_a_text_that_is_no_utf_8_is_listed(folder, monkeypatch, capsys) -> None:
    write(folder / os.fsdecode(b"caf\xe9") / "trace", "count \ud800 nuclei", days=90)
    for _ in range(2):
        (row,) = (row for row in listed(folder) if row["path"].startswith("caf"))
        assert (row["path"], row["damage"]) == ("caf\\udce9/trace", "")
        assert row["instruction"] == "count \\ud800 nuclei"
    monkeypatch.setattr(sys, "argv", ["histopilot", "trace", "prune", str(folder), "--keep", "0"])
    assert main() == 0
    assert "caf\\udce9/trace" in capsys.readouterr().out


def test_an_answer_is_listed_whatever_stands_before_its_text(folder) -> None:
    recorder = Recorder(folder / "d" / "trace")
    recorder.write("run.start", {"instruction": "x", "planner": {"name": "rules"}})
    answer = {"status": "completed", "text": 'two "words" \\ é', "boxes": [{"text": "no"}]}
    recorder.write("compose.end", {"answer": answer})
    recorder.close()
    assert listed(folder, Filter(grep="two"))[0]["text"] == answer["text"]
