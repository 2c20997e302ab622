"""Exports: spans for an OTLP receiver, a page that runs nothing, a bundle that replays."""

import base64
import gzip
import inspect
import io
import json
import re
import socket
import subprocess
import time
import zipfile
from contextlib import contextmanager
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread as Worker

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.semconv._incubating.attributes import error_attributes, gen_ai_attributes
from opentelemetry.semconv.schemas import Schemas
from PIL import Image as Pillow

from agent.record import genai, otel
from agent.record.bundle import opened, pack, unpack
from agent.record.page import page
from agent.record.replay import WhatIf, replay
from agent.record.trace import EVENTS_FILE, read_trace, run_digest
from agent.record.verify import verify
from tests.agent.recorded import PLAN, first, rewritten, run
from tools.errors import BadInput

ATTACK = "count <script>alert(1)</script><img src=x onerror=alert(2)> & \"nuclei\" '\u202e'"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, skin):
    place = tmp_path_factory.mktemp("export")
    run(place, skin, ATTACK)
    return place


@pytest.fixture(scope="module")
def trace(folder):
    return read_trace(folder / "trace")


class Handler(BaseHTTPRequestHandler):
    """Keeps what is posted to it, and answers with what it is told to."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.append((self.path, self.headers, body))
        answer = json.dumps(self.server.answer).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_) -> None:
        pass


@contextmanager
def receiver(answer=None):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.got, server.answer = [], answer or {}
    Worker(target=server.serve_forever, daemon=True).start()
    try:
        yield server, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def collector(sink: str):
    """Rotel, a real OpenTelemetry Collector, which passes all that it takes on to `sink`."""
    rotel = pytest.importorskip("rotel", reason="rotel has wheels for Linux alone")
    port = free_port()
    words = [
        *(str(Path(rotel.__file__).with_name("rotel-agent")), "start", "--disable-batching"),
        *("--otlp-http-endpoint", f"127.0.0.1:{port}"),
        *("--otlp-grpc-endpoint", f"127.0.0.1:{free_port()}"),
        *("--exporter", "otlp", "--otlp-exporter-protocol", "http"),
        *("--otlp-exporter-endpoint", sink),
    ]
    agent = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: not socket.socket().connect_ex(("127.0.0.1", port)))
        yield f"http://127.0.0.1:{port}"
    finally:
        agent.terminate()
        agent.wait()


def until(done) -> None:
    end = time.monotonic() + 60
    while not done():
        assert time.monotonic() < end
        time.sleep(0.02)


def attributes(span) -> dict:
    return {
        item.key: getattr(item.value, item.value.WhichOneof("value")) for item in span.attributes
    }


def test_a_collector_gets_the_run_its_plan_and_its_calls(trace) -> None:
    """Through a real Collector, into OpenTelemetry's own messages at the other end."""
    with receiver() as (sink, url), collector(url) as endpoint:
        assert otel.send(otel.spans(trace), endpoint) == 6
        assert otel.send(otel.spans(trace), endpoint) == 6
        until(lambda: len(sink.got) == 2)
    message, again = (
        ExportTraceServiceRequest.FromString(
            gzip.decompress(body) if headers["content-encoding"] == "gzip" else body
        )
        for _, headers, body in sink.got
    )
    assert message == again
    scope = message.resource_spans[0].scope_spans[0]
    assert scope.schema_url == "https://opentelemetry.io/schemas/1.41.0"
    root, *children = scope.spans
    assert root.name == "invoke_agent histopilot"
    (asked,) = json.loads(attributes(root)["gen_ai.input.messages"])
    assert asked == {"role": "user", "parts": [{"type": "text", "content": ATTACK}]}
    assert attributes(root)["histopilot.run.digest"] == run_digest(trace.events)
    names = ["plan scripted", *(f"execute_tool {e.data['tool']}" for e in trace.all("call.end"))]
    assert [span.name for span in children] == names
    assert all(span.parent_span_id == root.span_id for span in children)
    assert all(root.start_time_unix_nano <= s.start_time_unix_nano for s in children)
    assert all(s.start_time_unix_nano <= s.end_time_unix_nano for s in scope.spans)
    call = attributes(children[-1])
    assert json.loads(call["gen_ai.tool.call.arguments"]) == PLAN[2]["args"]
    recorded = trace.all("call.end")[-1].data["output"]
    assert json.loads(call["gen_ai.tool.call.result"]) == recorded


def test_every_name_is_one_of_the_conventions_or_ours(trace) -> None:
    source = inspect.getsource(gen_ai_attributes)
    named = re.findall(r'Final = "(gen_ai[\w.]+)"\n"""\n(.*)', source)
    moved = "Deprecated: Moved to"  # to a repository of their own, after the version that we name
    known = {name for name, says in named if "Deprecated" not in says or says.startswith(moved)}
    known |= {error_attributes.ERROR_TYPE}
    request = otel.spans(trace)
    spans = request["resourceSpans"][0]["scopeSpans"][0]["spans"]
    used = {item["key"] for span in spans for item in span["attributes"]}
    assert {name for name in used if not name.startswith("histopilot.")} <= known
    operations = {a["value"]["stringValue"] for s in spans for a in s["attributes"][:1]}
    assert operations == {"invoke_agent", "plan", "execute_tool"}
    assert request["resourceSpans"][0]["schemaUrl"] == Schemas.V1_41_0.value
    assert genai.SEMCONV == "1.41.0"


def test_errors_and_a_killed_run_are_spans_with_an_error(trace, tmp_path) -> None:
    def kill(events):
        del events[-4:]  # the end of the last call, and all after it

    killed = rewritten(trace.folder, tmp_path / "t", kill)
    spans = otel.spans(killed)["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert [span["status"]["code"] for span in spans] == [2, 1, 1, 1, 1, 2]


def test_a_receiver_that_wants_a_key_gets_it_and_one_that_takes_less_is_told(
    trace, monkeypatch
) -> None:
    monkeypatch.setenv(otel.HEADERS, "authorization=Basic%20abc,x-project=7")
    with receiver() as (server, url):
        otel.send(otel.spans(trace), url)
    ((path, headers, body),) = server.got
    assert (path, headers["content-type"]) == ("/v1/traces", "application/json")
    assert (headers["authorization"], headers["x-project"]) == ("Basic abc", "7")
    assert json.loads(body) == otel.spans(trace)
    partial = {"partialSuccess": {"rejectedSpans": "2", "errorMessage": "too old"}}
    with receiver(partial) as (_, url), pytest.raises(BadInput, match=r"rejected 2 .*too old"):
        otel.send(otel.spans(trace), url)
    with pytest.raises(BadInput, match="did not take the spans"):
        otel.send(otel.spans(trace), url)
    with pytest.raises(BadInput, match="is not an http address"):
        otel.send(otel.spans(trace), "file:///etc/passwd")


class Page(HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, text) -> None:
        self.text += text


def test_the_page_holds_everything_as_text_and_runs_nothing(trace) -> None:
    read = Page(page(trace))
    assert not {"script", "iframe", "form", "link", "object"} & {tag for tag, _ in read.tags}
    assert not any(name.startswith("on") for _, attrs in read.tags for name in attrs)
    assert ATTACK in read.text
    policy = [a["content"] for t, a in read.tags if t == "meta" and "http-equiv" in a]
    assert policy[0].startswith("default-src 'none'")
    (picture,) = [attrs["src"] for tag, attrs in read.tags if tag == "img"]
    drawn = Pillow.open(io.BytesIO(base64.b64decode(picture.partition(",")[2])))
    assert min(drawn.size) >= 400
    for call in trace.all("call.end"):
        assert call.data["key"] in read.text
    for name in ("box the nuclei", "searched_px", "sources", run_digest(trace.events)):
        assert (name in read.text) == (name != "box the nuclei")


def test_a_page_of_a_run_without_an_answer_says_so(trace, tmp_path) -> None:
    cut = rewritten(
        trace.folder, tmp_path / "t", lambda events: events.__delitem__(slice(-3, None))
    )
    assert "The run has no answer" in Page(page(cut)).text


def test_a_bundle_is_the_same_twice_and_replays_elsewhere(trace, tmp_path) -> None:
    one, two = tmp_path / "one.zip", tmp_path / "two.zip"
    pack(trace, one)
    with opened(one) as there:
        assert verify(there)["faults"] == []
        assert replay(there, WhatIf(), "local")["identical"]
        pack(there, two)
    assert one.read_bytes() == two.read_bytes()
    assert not there.folder.exists()
    with zipfile.ZipFile(one) as archive:
        names = archive.namelist()
    assert names == [EVENTS_FILE, *sorted(names[1:])]
    assert len(names) == 6


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "/etc/evil",
        "blobs/../../evil",
        "blobs/x.npy.gz",
        "a\\b",
        "events.jsonl/",
        "C:evil",
    ],
)
def test_a_bundle_can_not_write_anywhere_else(tmp_path, name) -> None:
    bundle = tmp_path / "b.zip"
    with zipfile.ZipFile(bundle, "w") as archive:
        archive.writestr(EVENTS_FILE, "")
        archive.writestr(name, "evil")
    (tmp_path / "in").mkdir()
    with pytest.raises(BadInput, match="is not a bundle of a trace"):
        unpack(bundle, tmp_path / "in")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["b.zip", "in"]


def test_a_damaged_or_incomplete_bundle_is_told(trace, tmp_path) -> None:
    bundle = tmp_path / "b.zip"
    pack(trace, bundle)
    whole = bundle.read_bytes()
    with zipfile.ZipFile(bundle) as archive:
        first = archive.infolist()[0]
    begin = first.header_offset + 30 + len(first.filename)
    told = []
    for place in range(begin, begin + first.compress_size, 97):
        data = bytearray(whole)
        data[place] ^= 255
        bundle.write_bytes(data)
        try:
            with opened(bundle) as found:
                assert found.events == trace.events  # a byte of which deflate uses no bit
        except BadInput as error:
            told.append(str(error))
    assert len(told) > 1
    assert all("damaged bundle" in line for line in told)
    copy = rewritten(trace.folder, tmp_path / "t", lambda events: None)
    (copy.folder / "blobs").unlink()
    with pytest.raises(BadInput, match="lacks blobs"):
        pack(copy, bundle)


def test_an_encrypted_bundle_is_told_in_one_line(trace, tmp_path) -> None:
    bundle = tmp_path / "b.zip"
    pack(trace, bundle)
    data = bytearray(bundle.read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + flags] |= 1
    bundle.write_bytes(data)
    with pytest.raises(BadInput, match=r"damaged bundle .*encrypted") as told, opened(bundle):
        pass
    assert "\n" not in str(told.value)


def test_the_wording_is_a_span(trace, tmp_path) -> None:
    def worded(events):
        first(events, "run.start")["phraser"] = {"endpoint": "http://h/v1", "model": "m"}
        prompt = [{"role": "system", "content": "Word it."}, {"role": "user", "content": "{}"}]
        said = {"event": "phrase.start", "data": {"prompt": prompt}, "meta": {}}
        end = {"event": "phrase.end", "data": {"raw": "Six.", "verdict": "shown"}, "meta": {}}
        events[-2:-2] = [said, end]

    told = rewritten(trace.folder, tmp_path / "t", worded)
    *_, span = otel.spans(told)["resourceSpans"][0]["scopeSpans"][0]["spans"]
    values = {item["key"]: item["value"] for item in span["attributes"]}
    assert span["name"] == "chat m"
    assert span["status"]["code"] == 1
    assert "Six." in values["gen_ai.output.messages"]["stringValue"]
    assert "Word it." in values["gen_ai.system_instructions"]["stringValue"]
    assert values["histopilot.phraser.verdict"]["stringValue"] == "shown"
