"""The trace: the product of record. `spec.md` is its specification.

Lines of events, append-only and hash-chained, and the arrays that they name in a folder beside
them. Every event is scrubbed of secrets and paths on its way in, here and nowhere else.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent.record.privacy import scrub
from tools.arrays import ArrayHandle, DiskStore, handles_in
from tools.errors import BadInput
from tools.execute import canonical, digest_of

FORMAT = 1
EVENTS_FILE = "events.jsonl"
BLOBS_FOLDER = "blobs"
THREAD_FILE = "thread.sqlite"
"""Where it lies beside the turns' traces, they are a kept thread that can go on."""
_GENESIS = "0" * 64

Listener = Callable[[str, dict[str, Any], dict[str, Any]], None]
"""Gets an event's name, data and meta."""


@dataclass(frozen=True)
class Event:
    """One line of a trace."""

    n: int
    event: str
    data: dict[str, Any]
    meta: dict[str, Any]
    hash: str


@dataclass(frozen=True)
class Trace:
    """A trace as read.

    Attributes:
        folder: where it lies.
        events: the events up to the first line that can't be trusted.
        damage: what is wrong from there on, None for a whole trace.
        torn: whether that is only a last line that a killed process did not finish.
    """

    folder: Path
    events: tuple[Event, ...]
    damage: str | None = None
    torn: bool = False

    @property
    def blobs(self) -> Path:
        """The folder of the arrays; the turns of a kept thread share the one beside them."""
        own, shared = self.folder / BLOBS_FOLDER, self.folder.parent / BLOBS_FOLDER
        return shared if shared.is_dir() and not own.is_dir() else own

    def store(self) -> DiskStore:
        """The arrays of the trace."""
        return DiskStore(self.blobs)

    def arrays(self) -> tuple[ArrayHandle, ...]:
        """Every handle in the events, each once."""
        found = (handle for event in self.events for handle in handles_in(event.data))
        return tuple(dict.fromkeys(found))

    def all(self, event: str) -> list[Event]:
        """The events of one kind, in order."""
        return [item for item in self.events if item.event == event]

    def start(self) -> dict[str, Any]:
        """The header: data of `run.start`.

        Raises:
            BadInput: the trace has none.
        """
        if not self.events or self.events[0].event != "run.start":
            why = self.damage or "it has no run.start"
            raise BadInput(f"{self.folder.name} is not a whole trace: {why}")
        return self.events[0].data


class Recorder:
    """Appends events to a trace. Safe to call from several threads."""

    def __init__(self, folder: Path, listener: Listener | None = None) -> None:
        """Open the trace in `folder`, going on after its last whole line where there is one.

        Args:
            folder: of the trace; made where it is not there.
            listener: called with each event once it is written: what shows progress to people.

        Raises:
            BadInput: the trace there was changed after it was written.
        """
        self._listener = listener
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        path = folder / EVENTS_FILE
        last = _GENESIS
        count = 0
        if path.exists():
            known = read_trace(folder)
            if known.damage and not known.torn:
                raise BadInput(
                    f"{path.name} was changed ({known.damage}): it can't be gone on with"
                )
            if known.torn:
                _cut(path, len(known.events))
            count = len(known.events)
            last = known.events[-1].hash if known.events else _GENESIS
        self._last, self._count = last, count
        self.first = count
        self._lock = threading.Lock()
        self._file = path.open("a", encoding="utf-8")

    @property
    def started(self) -> bool:
        """Whether the trace has any event yet."""
        return self._count > 0

    def write(self, event: str, data: dict[str, Any], **meta: Any) -> None:
        """Append an event; it is on its way to the disk when this returns.

        Secrets and absolute paths are taken out of it (`agent.record.privacy`); the listener,
        who is the user, is shown it as it was.
        """
        told, told_meta = scrub(data), scrub(meta)
        with self._lock:
            digest = _chained(self._last, self._count, event, told)
            line: dict[str, Any] = {
                "n": self._count,
                "event": event,
                "data": told,
                "meta": {"time": datetime.now(UTC).isoformat(), **told_meta},
                "hash": digest,
            }
            self._file.write(json.dumps(line, separators=(",", ":")) + "\n")
            self._file.flush()
            self._last, self._count = digest, self._count + 1
        if self._listener is not None:
            self._listener(event, data, line["meta"])

    def close(self) -> None:
        """Make sure of the disk, and close."""
        with self._lock:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()


def read_trace(path: Path) -> Trace:
    """Read a trace folder (or its `events.jsonl`).

    A torn or changed line ends the events there and is told in `damage`: the rest is not trusted.

    Raises:
        BadInput: there is no trace at `path`, or one of a newer format.
    """
    file = path / EVENTS_FILE if path.is_dir() else path
    if not file.is_file():
        raise BadInput(f"{path.name} is not a trace: it has no {EVENTS_FILE}")
    events: list[Event] = []
    last = _GENESIS
    damage = None
    torn = False
    for number, line in enumerate(_lines(file)):
        if not line.endswith(b"\n"):
            torn = True
            damage = f"line {number + 1} is torn: the trace ends before it"
            break
        try:
            event = Event(**json.loads(line))
            if not isinstance(event.data, dict) or not isinstance(event.meta, dict):
                raise TypeError
            whole = event.n == number and event.hash == _chained(
                last, number, event.event, event.data
            )
        except (ValueError, TypeError, RecursionError):
            damage = f"line {number + 1} is not an event"
            break
        if not whole:
            damage = f"line {number + 1} does not follow from the lines before it"
            break
        events.append(event)
        last = event.hash
    if events and events[0].data.get("format", FORMAT) != FORMAT:
        raise BadInput(f"{path.name} has trace format {events[0].data['format']!r}, not {FORMAT}")
    return Trace(file.parent, tuple(events), damage, torn)


def run_digest(events: tuple[Event, ...]) -> str:
    """One SHA-256 for what a run did: equal runs have equal digests, whenever and wherever.

    Where it ran, the header's `environment`, is chained but not digested.
    """
    told = ({k: v for k, v in item.data.items() if k != "environment"} for item in events)
    return digest_of(
        sorted(canonical([item.event, data]) for item, data in zip(events, told, strict=True))
    )


def export(source: Path, target: Path, store: DiskStore) -> None:
    """Copy a trace to `target`, with every array that it names taken from `store`."""
    trace = read_trace(source)
    target.mkdir(parents=True, exist_ok=True)
    (target / EVENTS_FILE).write_bytes((source / EVENTS_FILE).read_bytes())
    blobs = DiskStore(target / BLOBS_FOLDER)
    for handle in trace.arrays():
        store.share(handle.digest, blobs)


def _chained(last: str, n: int, event: str, data: dict[str, Any]) -> str:
    text = last + canonical({"n": n, "event": event, "data": data})
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _lines(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        yield from stream


def _cut(path: Path, lines: int) -> None:
    """Keep the first `lines` lines: what a killed process left half-written is no record."""
    kept = b"".join(line for _, line in zip(range(lines), _lines(path), strict=False))
    aside = path.with_suffix(".cut")
    aside.write_bytes(kept)
    aside.replace(path)
