"""kill -9 while a trace is written: `python -m tests.agent.killed [KILLS]` prints what was left.

A child writes events as fast as it can and says after each that it is written; at a random moment
it is killed. Then the trace is read, and a new process goes on with it.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NoReturn

from agent.record import trace as module
from agent.record.trace import EVENTS_FILE, Recorder, read_trace

LONGEST_S = 0.2


def main(kills: int) -> dict[str, int]:
    """The figures of so many kills; every claim of the specification is asserted on each."""
    found: Counter[str] = Counter(kills=kills)
    rng = random.Random(0)  # noqa: S311
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(kills):
            found.update(_killed_once(Path(scratch) / str(number), rng.uniform(0, LONGEST_S)))
    return dict(found)


def _killed_once(folder: Path, after_s: float) -> dict[str, int]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _write(folder, writing)
    os.close(writing)
    told = os.read(reading, 1)  # the first event is written
    time.sleep(after_s)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while more := os.read(reading, 2**16):
        told += more
    os.close(reading)
    trace = read_trace(folder)
    size = (folder / EVENTS_FILE).stat().st_size
    assert trace.torn == (trace.damage is not None)
    assert len(told) <= len(trace.events) <= len(told) + 1  # nothing lost that was said written
    recorder = Recorder(folder)
    assert recorder.first == len(trace.events)
    cut = size - (folder / EVENTS_FILE).stat().st_size
    recorder.write("run.end", {"status": "failed"})
    recorder.close()
    assert read_trace(folder).damage is None
    return {"torn": trace.torn, "events_kept": len(trace.events), "bytes_cut_off": cut}


def _write(folder: Path, writing: int) -> NoReturn:
    module.scrub = lambda value: value  # type: ignore[assignment] # else it is mostly that
    recorder = Recorder(folder)
    recorder.write("run.start", {"format": 1})
    while True:
        os.write(writing, b".")
        recorder.write("call.end", {"call": "$1", "output": "x" * 2_000_000})


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)))
