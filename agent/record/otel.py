"""A trace as OpenTelemetry spans, in OTLP/JSON: to a file, or to a receiver over HTTP.

Plain JSON of the OTLP 1.x protocol, so that nothing need be installed; a Collector takes it, and
so does every receiver that speaks OTLP/HTTP with JSON. Nothing is cut off or sampled. The ids come
from the trace itself: exporting twice gives the same spans.
"""

from __future__ import annotations

import hashlib
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from agent.record import genai
from agent.record.trace import Event, Trace, run_digest
from tools.errors import BadInput

TIMEOUT_S = 30.0
HEADERS = "OTEL_EXPORTER_OTLP_HEADERS"
"""OpenTelemetry's own variable: `name=value,name=value`, for receivers that want a key."""
_OK, _ERROR = 1, 2


def spans(trace: Trace) -> dict[str, Any]:
    """The trace as an OTLP/JSON `ExportTraceServiceRequest`.

    The run is the root span, each planning, call and wording a span below it. What began and has no
    end, for the process was killed, ends with the trace, as an error.
    """
    start = trace.start()
    found = list(_spans(trace, start))
    version = start["environment"]["packages"]["histopilot"]
    scope = {"name": "histopilot", "version": version}
    resource = {"service.name": "histopilot", "service.version": version}
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": _attributes(resource)},
                "scopeSpans": [{"scope": scope, "spans": found, "schemaUrl": genai.SCHEMA_URL}],
                "schemaUrl": genai.SCHEMA_URL,
            }
        ]
    }


def send(request: dict[str, Any], endpoint: str) -> int:
    """Post spans to a receiver; gives how many it took.

    Args:
        request: as `spans` makes it.
        endpoint: for example `http://127.0.0.1:4318`; `/v1/traces` is added to a bare address.

    Raises:
        BadInput: it is no HTTP address, can't be reached, or did not take all of the spans.
    """
    parts = urllib.parse.urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise BadInput(f"--endpoint {endpoint} is not an http address, as http://127.0.0.1:4318")
    url = parts._replace(path=parts.path.rstrip("/") or "/v1/traces").geturl()
    headers = {"content-type": "application/json"}
    for pair in filter(None, os.environ.get(HEADERS, "").split(",")):
        name, _, value = pair.partition("=")
        headers[name.strip()] = urllib.parse.unquote(value.strip())
    post = urllib.request.Request(url, json.dumps(request).encode(), headers)  # noqa: S310 - checked
    try:
        with urllib.request.urlopen(post, timeout=TIMEOUT_S) as answer:  # noqa: S310
            said = json.loads(answer.read() or b"{}")
    except (OSError, ValueError) as error:
        raise BadInput(f"{parts.netloc} did not take the spans ({error})") from error
    lost = int((said.get("partialSuccess") or {}).get("rejectedSpans", 0))
    if lost:
        why = said["partialSuccess"].get("errorMessage", "no reason given")
        raise BadInput(f"{parts.netloc} rejected {lost} of the spans ({why})")
    return sum(len(scope["spans"]) for scope in request["resourceSpans"][0]["scopeSpans"])


def _spans(trace: Trace, start: dict[str, Any]) -> Iterator[dict[str, Any]]:
    first, last = trace.events[0], trace.events[-1]
    seed = f"{first.hash} {first.meta['time']}"
    ends = trace.all("compose.end")
    answer = ends[-1].data["answer"] if ends else None
    root = genai.run(start, answer, run_digest(trace.events), trace.damage)
    whole = last.event in ("run.end", "run.pause")
    yield _span(seed, first, last, root, None, failed=not whole)
    open_: dict[str, Event] = {}
    for event in trace.events:
        what = f"{event.event.partition('.')[0]} {event.data.get('call', '')}"
        if event.event in ("plan.start", "call.start", "phrase.start"):
            if what in open_:  # the process was killed and began again
                yield _child(seed, open_[what], None, event, start)
            open_[what] = event
        elif event.event in ("plan.end", "call.end", "phrase.end"):
            yield _child(seed, open_.pop(what), event, event, start)
    for begun in open_.values():
        yield _child(seed, begun, None, last, start)


def _child(
    seed: str, begun: Event, end: Event | None, until: Event, start: dict[str, Any]
) -> dict[str, Any]:
    data, meta = (end.data, end.meta) if end else ({}, {})
    if begun.event == "plan.start":
        named = genai.plan(start, data)
    elif begun.event == "phrase.start":
        named = genai.phrase(start, begun.data, data)
    else:
        named = genai.call(begun.data, data, meta)
    return _span(seed, begun, until, named, seed, failed=end is None or "error.type" in named[1])


def _span(
    seed: str, begun: Event, until: Event, named: genai.Named, parent: str | None, *, failed: bool
) -> dict[str, Any]:
    name, attributes = named
    span = {
        "traceId": _id(seed, 32),
        "spanId": _id(f"{seed} {begun.n}", 16),
        "name": name,
        "kind": 1,  # internal
        "startTimeUnixNano": _nanoseconds(begun),
        "endTimeUnixNano": _nanoseconds(until),
        "attributes": _attributes(attributes),
        "status": {"code": _ERROR if failed else _OK},
    }
    return span | ({} if parent is None else {"parentSpanId": _id(f"{parent} 0", 16)})


def _id(seed: str, digits: int) -> str:
    return hashlib.sha256(seed.encode()).hexdigest()[:digits]


def _nanoseconds(event: Event) -> str:
    return str(round(datetime.fromisoformat(event.meta["time"]).timestamp() * 1e6) * 1000)


def _attributes(values: genai.Attributes) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in values.items()]


def _value(value: str | float | bool) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"doubleValue": value} if isinstance(value, float) else {"stringValue": value}
