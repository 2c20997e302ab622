"""Is a record whole? What of it is missing, damaged or without its other half."""

from __future__ import annotations

from collections.abc import Iterator

from agent.record.trace import Trace
from tools.errors import BadInput

_ENDS = ("run.end", "run.pause", "run.error")


def unfinished(trace: Trace) -> Iterator[str]:
    """Where the record stops too early, if it does."""
    if trace.damage:
        yield f"the record is damaged: {trace.damage}"
    elif trace.events[-1].event not in _ENDS:
        yield "the record stops before the end of the run"


def lost_arrays(trace: Trace) -> Iterator[str]:
    """Arrays that the events name and that are missing, changed, or of another shape or type."""
    store = trace.store()
    for handle in trace.arrays():
        try:
            array = store.get(handle.digest)
        except KeyError:
            yield f"the array {handle.digest[:12]} is missing"
        except BadInput as error:
            yield str(error)
        else:
            if (array.shape, array.dtype.str) != (handle.shape, handle.dtype):
                yield f"the array {handle.digest[:12]} is not of its handle's shape and type"


def unpaired(trace: Trace) -> Iterator[str]:
    """Ends without a start, and starts without an end. A crash in between leaves two starts."""
    open_: dict[tuple[str, str], bool] = {}
    for event in trace.events:
        if event.event == "run.start" and event.n > 0:
            yield f"line {event.n + 1} is another header"
        kind, _, phase = event.event.rpartition(".")
        what = (kind, str(event.data.get("call", "")))
        if phase == "start":
            open_[what] = True
        elif phase == "end" and not open_.pop(what, False):
            yield f"line {event.n + 1} ends {' '.join(what).strip()}, which had not begun"
    if trace.events[-1].event == "run.end":
        for what in open_:
            yield f"{' '.join(what).strip()} began and has no end"
