"""Many traces: an index of the runs below a folder, and the pruning of old ones.

The index is an SQLite file in the folder. It holds nothing that the traces do not: lost, damaged
or of another version, it is made again; a trace that changed since is read again.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent.record.trace import BLOBS_FOLDER, EVENTS_FILE, THREAD_FILE
from tools.errors import BadInput

log = logging.getLogger(__name__)
INDEX_FILE = ".histopilot-index.sqlite"
_VERSION = 1
_KIND = re.compile(rb'\{"n":\d+,"event":"([a-z.]+)"')
_ANSWER = re.compile(rb',"data":\{"answer":\{"status":"\w+","text":("(?:[^"\\]|\\.)*")')
_UNLISTED = (b"call.end", b"plan.start", b"plan.end", b"phrase.start", b"phrase.end")
"""The bulk of a trace, and nothing of it is listed."""
_COLUMNS = ("path", "stamp", "time", "status", "planner", "tools", "instruction", "text", "damage")
Row = dict[str, Any]


@dataclass(frozen=True)
class Filter:
    """Which traces are listed; None takes all.

    Attributes:
        status: how the run ended, or `unfinished`.
        tool: a tool that was called.
        planner: who planned.
        since: begun at this time or later.
        grep: a text in the instruction or the answer, in any case.
    """

    status: str | None = None
    tool: str | None = None
    planner: str | None = None
    since: datetime | None = None
    grep: str | None = None

    def takes(self, row: Row) -> bool:
        """Whether it takes a row of the index."""
        begun = self.since is None or row["time"] >= self.since.astimezone(UTC).isoformat()
        words = f"{row['instruction']}\n{row['text']}".casefold()
        return (
            begun
            and self.status in (None, row["status"])
            and self.planner in (None, row["planner"])
            and (self.tool is None or self.tool in row["tools"].split())
            and (self.grep is None or self.grep.casefold() in words)
        )


def listed(folder: Path, wanted: Filter = Filter()) -> list[Row]:
    """The traces below `folder` that `wanted` takes, newest first.

    Returns:
        Rows of `path` (relative), `time` (ISO 8601, UTC, of the first event), `status`,
        `planner`, `tools` (by name, space between), `instruction`, `text` of the answer, and
        `damage` (empty for a whole trace).

    Raises:
        BadInput: there is no such folder.
    """
    places = {shown(path, folder): path for path in traces_in(folder)}
    stamps = {name: _stamp(path) for name, path in places.items()}
    with closing(_open(folder)) as index, index:
        known = dict(index.execute("SELECT path, stamp FROM traces"))
        gone = [(path,) for path in known.keys() - stamps.keys()]
        index.executemany("DELETE FROM traces WHERE path = ?", gone)
        new = [name for name, stamp in stamps.items() if known.get(name) != stamp]
        values = ", ".join(f":{column}" for column in _COLUMNS)
        rows = ({"path": name, "stamp": stamps[name], **_read(places[name])} for name in new)
        index.executemany(f"INSERT OR REPLACE INTO traces VALUES ({values})", rows)  # noqa: S608
        index.row_factory = sqlite3.Row
        found = [
            dict(row) for row in index.execute("SELECT * FROM traces ORDER BY time DESC, path")
        ]
    return [{k: v for k, v in row.items() if k != "stamp"} for row in found if wanted.takes(row)]


def shown(path: Path, folder: Path) -> str:
    """A path below `folder` as text; bytes of a name that are no UTF-8 are escaped."""
    return _text(path.relative_to(folder).as_posix())


def traces_in(folder: Path) -> Iterator[Path]:
    """Every trace folder at or below `folder`; links are not followed.

    Raises:
        BadInput: it is no folder.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder} is not a folder")
    for place, folders, files in os.walk(folder):
        if EVENTS_FILE in files:
            folders[:] = [name for name in folders if name != BLOBS_FOLDER]
            yield Path(place)


def prunable(
    folder: Path, older_than_days: float | None, keep_bytes: int | None, now: datetime
) -> list[tuple[Path, int]]:
    """The traces below `folder` that are too old, or too much: oldest first, with their bytes.

    Kept threads are left alone: their turns share their arrays, and go on from each other.

    Args:
        folder: with traces below it.
        older_than_days: takes what was last written to before that.
        keep_bytes: takes the oldest until what is left is no more than this.
        now: the time that ages are counted from.
    """
    alone = (path for path in traces_in(folder) if not (path.parent / THREAD_FILE).exists())
    sizes = [(path, *_age_and_size(path)) for path in alone]
    sizes.sort(key=lambda item: item[1])
    left = sum(size for _, _, size in sizes)
    taken = []
    for path, written, size in sizes:
        age = (now.timestamp() - written) / 86_400
        old = older_than_days is not None and age > older_than_days
        if old or (keep_bytes is not None and left > keep_bytes):
            taken.append((path, size))
            left -= size
    return taken


def prune(traces: Iterable[Path]) -> None:
    """Delete traces: their events and arrays, and the folder where that was all it held."""
    for path in traces:
        (path / EVENTS_FILE).unlink()
        shutil.rmtree(path / BLOBS_FOLDER, ignore_errors=True)
        (path / ".lock").unlink(missing_ok=True)
        if not any(path.iterdir()):
            path.rmdir()


def _open(folder: Path) -> sqlite3.Connection:
    """The index of a folder: made anew where it is damaged, in memory where it can't be kept."""
    file = folder / INDEX_FILE
    for name in (str(file), str(file), ":memory:"):
        try:
            index = sqlite3.connect(name, timeout=10)
            if index.execute("PRAGMA user_version").fetchone() != (_VERSION,):
                index.execute("DROP TABLE IF EXISTS traces")
                index.execute(f"CREATE TABLE traces (path PRIMARY KEY, {', '.join(_COLUMNS[1:])})")
                index.execute(f"PRAGMA user_version = {_VERSION}")
            index.execute(f"SELECT {', '.join(_COLUMNS)} FROM traces LIMIT 1")  # noqa: S608
            index.commit()
            index.execute("BEGIN IMMEDIATE")  # tells now whether it can be written to
            return index
        except sqlite3.OperationalError as error:
            log.info("the index of %s can't be kept (%s)", folder.name, error)
        except sqlite3.DatabaseError:
            file.unlink(missing_ok=True)
    raise AssertionError("SQLite can keep a table in memory")


def _stamp(path: Path) -> str:
    stat = (path / EVENTS_FILE).stat()
    return f"{stat.st_mtime_ns} {stat.st_size}"


def _read(path: Path) -> Row:
    """The row of a trace; what can't be read of it is said in `damage`.

    Outputs, prompts and boxes are not parsed, and the chain is left to `verify`: that is most of
    the time.
    """
    row = dict.fromkeys(_COLUMNS[2:], "")
    row["status"] = "unfinished"
    tools: dict[str, None] = {}
    try:
        with (path / EVENTS_FILE).open("rb") as lines:
            for number, line in enumerate(lines, 1):
                kind = _KIND.match(line)
                if kind is None or not line.endswith(b"\n"):
                    row["damage"] = f"line {number} is torn or not an event"
                    break
                if kind[1] == b"compose.end" and (found := _ANSWER.match(line, kind.end())):
                    row["text"] = json.loads(found[1])
                elif kind[1] not in _UNLISTED:
                    event = json.loads(line)
                    told = _told(event["event"], event["data"], event["meta"])
                    tools |= dict.fromkeys(told.pop("tools", ()))
                    row |= told
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        row["damage"] = f"it can't be read ({type(error).__name__})"
    row["tools"] = " ".join(tools)
    return {key: _text(value) for key, value in row.items()}


def _text(value: Any) -> str:
    """What SQLite and a terminal can take: a lone surrogate is neither's."""
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")


def _told(event: str, data: dict[str, Any], meta: dict[str, Any]) -> Row:
    """What an event says about its run as a whole."""
    match event:
        case "run.start":
            instruction, planner = data["instruction"], data["planner"]["name"]
            return {"time": meta["time"], "instruction": instruction, "planner": planner}
        case "call.start":
            return {"tools": [data["tool"]]}
        case "compose.end":
            return {"text": data["answer"]["text"]}
        case "guard.question":
            return {"text": data["text"]}
        case "run.end" | "run.pause":
            return {"status": data["status"]}
        case "run.error":
            return {"status": "failed", "text": data["message"]}
    return {}


def _age_and_size(path: Path) -> tuple[float, int]:
    """When a trace was last written to (seconds since the epoch), and its bytes."""
    events = (path / EVENTS_FILE).stat()
    blobs = path / BLOBS_FOLDER
    arrays = blobs.iterdir() if blobs.is_dir() else ()
    return events.st_mtime, events.st_size + sum(file.stat().st_size for file in arrays)
