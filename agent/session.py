"""Threads: a conversation about one image, kept on disk, and its turns.

The command line, the demo, batches and replays all go through `Thread.ask`.
"""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.types import Command
from platformdirs import user_data_path

from agent.compose import failure, needs_confirmation
from agent.graph import Workshop, build, finished_calls
from agent.output.geojson import WHOLE, Placement
from agent.phrase import Phraser
from agent.planners.base import Planner
from agent.record.trace import BLOBS_FOLDER, THREAD_FILE, Listener, Recorder, export, read_trace
from models.backend import Image
from tools.arrays import DiskStore
from tools.errors import BadInput
from tools.execute import ImageHandle
from tools.registry import DEFAULT_BACKENDS
from tools.runtime import Runtime

log = logging.getLogger(__name__)
MAX_INSTRUCTION_CHARS = 4_000
_CONFIG = {"configurable": {"thread_id": "thread"}, "max_concurrency": os.cpu_count()}
_THREAD_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


@dataclass(frozen=True)
class Kit:
    """What turns are worked with: loaded once, shared by threads.

    Attributes:
        planner: who plans.
        runtime: where calls run.
        backends: vision backends of each tool, in order of preference.
        phraser: words the answers, where a language model is to.
    """

    planner: Planner
    runtime: Runtime
    backends: dict[str, tuple[str, ...]] = field(default_factory=lambda: dict(DEFAULT_BACKENDS))
    phraser: Phraser | None = None


@dataclass(frozen=True)
class Outcome:
    """What a turn came to.

    Attributes:
        answer: as `agent.compose.compose` gives it.
        seconds: `total`, `planning`, and `calls` by reference, wall time.
        trace: the folder of the turn's trace.
        image: the thread's image.
        place: where the image lies in its file.
        store: holds the arrays of the answer's masks.
    """

    answer: dict[str, Any]
    seconds: dict[str, Any]
    trace: Path
    image: Image
    place: Placement
    store: DiskStore


class Thread:
    """A conversation about one image. One turn at a time; not shared between processes.

    Args:
        folder: where arrays and traces are written.
        kit: planner, runtime and backends.
        keep: whether the conversation itself is kept too (`thread.sqlite`), so that it can go on
            in another process, also after a crash.
    """

    def __init__(self, folder: Path, kit: Kit, *, keep: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.store = DiskStore(folder / BLOBS_FOLDER)
        self._kit = kit
        self._keep = keep
        self._lock = threading.Lock()
        self._file_lock = FileLock(folder / ".lock")
        self._saver: BaseCheckpointSaver[Any] = InMemorySaver()
        self._connection: sqlite3.Connection | None = None
        if keep:
            self._connection = sqlite3.connect(folder / THREAD_FILE, check_same_thread=False)
            self._saver = SqliteSaver(self._connection)

    @property
    def question(self) -> str | None:
        """The question that waits for a yes or no, if there is one."""
        interrupts = self._snapshot().interrupts
        return str(interrupts[0].value["question"]) if interrupts else None

    @property
    def instruction(self) -> str | None:
        """The instruction of the last turn, finished or not."""
        asked = self._snapshot().values.get("instruction")
        return None if asked is None else str(asked)

    def ask(
        self,
        instruction: str,
        image: Image | None = None,
        listener: Listener | None = None,
        place: Placement = WHOLE,
    ) -> Outcome:
        """Work on an instruction; goes on with it where an earlier process was killed at it.

        Args:
            instruction: the user's words.
            image: needed in the first turn; later ones keep the thread's image.
            listener: called with every trace event as it happens.
            place: where the image lies in its file.

        Raises:
            BadInput: no or another image, or an instruction that can't be one.
        """
        instruction = checked_instruction(instruction)
        with self._busy():
            return self._ask(instruction, image, listener, place)

    def answer(self, go_on: bool, listener: Listener | None = None) -> Outcome:
        """Answer the guard's question.

        Raises:
            BadInput: no question is open.
        """
        with self._busy():
            if self.question is None:
                raise BadInput("there is no open question in this thread to say yes or no to")
            return self._go(Command(resume=go_on), listener)

    def close(self) -> None:
        """Wait for a running turn and let go of the files; nothing may be asked afterwards."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()

    def again(self, start: dict[str, Any]) -> Outcome:
        """Run the turn whose trace has this header (`run.start`); its arrays are in the store."""
        names = ("image", "history", "results", "confirmed", "instruction")
        with self._busy():
            return self._go({name: start[name] for name in names}, None, new=True)

    def _ask(
        self, instruction: str, image: Image | None, listener: Listener | None, place: Placement
    ) -> Outcome:
        before = self._snapshot()
        kept = before.values.get("image")
        given = None if image is None else self._handle(image, place)
        if kept is None and given is None:
            raise BadInput("this thread has no image yet: give one with the first instruction")
        if kept and given and given != kept:
            raise BadInput(
                "this thread is about another image, pixel size or region: "
                "start a new --thread for this one"
            )
        crashed = bool(before.next) and not before.interrupts
        if crashed and before.values.get("instruction") == instruction:
            return self._go(None, listener)
        done = finished_calls(before.values.get("history", []))
        stale = [
            ref
            for ref in before.values.get("results", {})
            if ref.startswith("$") and int(ref[1:]) > done
        ]
        turn = {
            "image": kept or given,
            "instruction": instruction,
            "results": dict.fromkeys(stale),
        }
        return self._go(turn, listener, new=True)

    @contextmanager
    def _busy(self) -> Iterator[None]:
        """One turn at a time: others of this process wait, other processes are told."""
        with self._lock:
            try:
                with self._file_lock.acquire(timeout=0):
                    yield
            except Timeout:
                raise BadInput(
                    "this thread is in use by another process: try again later"
                ) from None

    def _go(self, given: Any, listener: Listener | None, *, new: bool = False) -> Outcome:
        began = time.perf_counter()
        folder = self._trace_folder(new)
        recorder = Recorder(folder, listener)
        kit = self._kit
        shop = Workshop(kit.planner, kit.runtime, self.store, recorder, kit.backends, kit.phraser)
        graph = build(shop, self._saver)
        try:
            answer = _run(graph, given, recorder)
        finally:
            recorder.close()
        state = graph.get_state(_CONFIG)
        seconds = _spent(folder, recorder.first, time.perf_counter() - began)
        kept = ImageHandle.model_validate(state.values["image"])
        place = Placement(kept.origin, kept.downsample)
        image = Image(self.store.get(kept.pixels.digest), kept.mpp, kept.pixels.digest)
        return Outcome(answer, seconds, folder, image, place, self.store)

    def _trace_folder(self, new: bool) -> Path:
        """The folder of this turn's trace: a new one for a new turn, else the last one."""
        if not self._keep:
            return self.folder
        turns = [path.name[5:] for path in self.folder.glob("turn-*")]
        last = max((int(name) for name in turns if name.isdecimal()), default=0)
        number = last + 1 if new or not last else last
        return self.folder / f"turn-{number}"

    def _snapshot(self) -> Any:
        return self._reader.get_state(_CONFIG)

    @cached_property
    def _reader(self) -> Any:
        recorder: Any = None  # nothing runs, so nothing is recorded
        shop = Workshop(self._kit.planner, self._kit.runtime, self.store, recorder)
        return build(shop, self._saver)

    def _handle(self, image: Image, place: Placement) -> dict[str, Any]:
        pixels = self.store.put(image.rgb)
        handle = ImageHandle(
            pixels=pixels, mpp=image.mpp, origin=place.origin, downsample=place.downsample
        )
        return handle.model_dump(mode="json")


def kept_thread(name: str, kit: Kit, home: Path | None = None) -> Thread:
    """The thread of that name in the user's data folder (or `home`), made where it is not there.

    Raises:
        BadInput: the name can't be a folder's, or the folder can't be used.
    """
    checked_name(name)
    folder = (home or user_data_path("histopilot", appauthor=False)) / "threads" / name
    try:
        thread = Thread(folder, kit, keep=True)
        _ = thread.question
    except OSError as error:
        raise BadInput(f"can't keep threads in {folder.parent} ({error.strerror})") from error
    except sqlite3.Error as error:
        why = f"the thread {name} can't be opened ({error})"
        raise BadInput(f"{why}: remove {folder} or use another --thread") from error
    return thread


def checked_name(name: str) -> str:
    """The name of a thread.

    Raises:
        BadInput: it can't be a folder's.
    """
    if not _THREAD_NAME.fullmatch(name):
        raise BadInput("a thread's name is 1 to 64 letters, digits, '.', '_' or '-'")
    return name


def checked_instruction(instruction: str) -> str:
    """The instruction without surrounding space.

    Raises:
        BadInput: it is empty, not text, or too long.
    """
    text = instruction.strip()
    if not text or not any(char.isalnum() for char in text):
        raise BadInput("the instruction is empty: say what to outline, count, box or measure")
    if len(text) > MAX_INSTRUCTION_CHARS:
        raise BadInput(
            f"the instruction has {len(text):,} characters, {MAX_INSTRUCTION_CHARS:,} is the most"
        )
    return text.encode("utf-8", "replace").decode("utf-8")


def copy_trace(outcome: Outcome, target: Path) -> Path:
    """The turn's trace, whole, in `target` (where it is not there already); gives the folder."""
    if outcome.trace != target:
        export(outcome.trace, target, outcome.store)
    return target


def _run(graph: Any, given: Any, recorder: Recorder) -> dict[str, Any]:
    """Invoke the graph up to its end or its question; a fault of ours becomes the answer."""
    try:
        graph.invoke(given, _CONFIG, durability="sync")
    except BadInput:
        raise
    except Exception as fault:
        log.exception("the turn failed inside")
        recorder.write("run.error", {"type": type(fault).__name__, "message": str(fault)})
        return failure(f"{type(fault).__name__}: {fault}")
    state = graph.get_state(_CONFIG)
    if state.interrupts:
        recorder.write("run.pause", {"status": "needs_confirmation"})
        return needs_confirmation(str(state.interrupts[0].value["question"]), state.values)
    answer: dict[str, Any] = state.values["answer"]
    return answer


def _spent(folder: Path, first: int, wall: float) -> dict[str, Any]:
    """The seconds of a turn from its trace: `wall` is of the events from number `first` on.

    Of earlier legs (before the user's yes, or a crash) the planning and the calls count.
    """
    planning, earlier = 0.0, 0.0
    calls: dict[str, float] = {}
    for event in read_trace(folder).events:
        if event.event not in ("plan.end", "call.end"):
            continue
        seconds = event.meta["seconds"]
        earlier += seconds if event.n < first else 0.0
        if event.event == "plan.end":
            planning += seconds
        else:
            calls[event.data["call"]] = round(seconds, 4)
    total = round(wall + earlier, 4)
    return {"total": total, "planning": round(planning, 4), "calls": calls}
