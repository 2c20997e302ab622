"""Trace format 1: the schema, the header's truth, and what never enters a trace."""

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from agent.record import events
from agent.record.privacy import PATH, PATH_ON, SECRET, scrub
from agent.record.provenance import environment
from agent.record.trace import EVENTS_FILE, Recorder, read_trace, run_digest
from agent.session import Kit, Thread
from models.classical import ClassicalBackend
from tests.agent.recorded import CLASSICAL, PLAN, run
from tests.agent.scripted import EPIDERMIS, ScriptedPlanner
from tests.conftest import ROOT
from tools.registry import TOOLS, schema_digest
from tools.runtime import LocalRuntime

FOLDER = Path(events.__file__).parent
KEY = "sk-live-0123456789abcdef"


@pytest.fixture(scope="module")
def trace(tmp_path_factory, skin):
    folder = tmp_path_factory.mktemp("format")
    run(folder, skin)
    return read_trace(folder / "trace")


def test_the_schema_file_is_the_types_schema() -> None:
    shipped = json.loads((FOLDER / "schema.json").read_text("utf-8"))
    assert shipped == events.schema(), "python -m agent.record.events > agent/record/schema.json"


def test_every_line_of_a_real_trace_fits_the_schema_and_holds_nothing_undocumented(trace) -> None:
    validator = Draft202012Validator(events.schema())
    for line in (trace.folder / EVENTS_FILE).read_text("utf-8").splitlines():
        validator.validate(json.loads(line))
    for event in trace.events:
        known = events.EVENTS[event.event].model_fields
        assert event.data.keys() <= known.keys(), event.event
    assert events.unfit(trace.events[0]) is None


def test_the_specification_names_every_event_and_field_of_the_header() -> None:
    text = (FOLDER / "spec.md").read_text("utf-8")
    for name in (*events.EVENTS, *events.RunStart.model_fields, *events.Environment.model_fields):
        assert f"`{name}`" in text, name


@pytest.mark.parametrize(
    "line",
    [
        {"event": "call.end", "data": {"call": "$1"}},
        {"event": "run.start", "data": {"format": 2}},
        {"event": "guard.answer", "data": {"doubt": "check", "go_on": "perhaps"}},
    ],
)
def test_a_misshapen_line_does_not_fit(line) -> None:
    whole = {"n": 0, "meta": {"time": "2026-11-23T00:00:00+00:00"}, "hash": "0" * 64, **line}
    assert not Draft202012Validator(events.schema()).is_valid(whole)


def test_an_unknown_event_is_let_be() -> None:
    line = {"n": 0, "event": "coffee.end", "data": {}, "meta": {"time": "now"}, "hash": "0" * 64}
    Draft202012Validator(events.schema()).validate(line)


def test_the_header_says_what_is_true(trace) -> None:
    head = trace.start()
    git = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    place = head["environment"]
    if commit:
        assert place["code"]["revision"].removesuffix("-dirty") == commit
    import numpy

    assert place["packages"]["numpy"] == numpy.__version__
    assert (place["runtime"], place["threads"] >= 1) == ("local", True)
    assert head["tools"]["schema"] == schema_digest()
    assert {name: head["tools"][name] for name in TOOLS} == {n: t.version for n, t in TOOLS.items()}
    for name, digest in head["weights"].items():
        assert hashlib.sha256((ROOT / name).read_bytes()).hexdigest() == digest
    assert "models/planner/adapter.safetensors" in head["weights"]


def test_pairs_inputs_and_attempts_are_recorded(trace) -> None:
    starts, ends = trace.all("call.start"), trace.all("call.end")
    assert [e.data["call"] for e in starts] == [e.data["call"] for e in ends]
    boxes = starts[-1].data
    assert boxes["args"] == PLAN[2]["args"]
    assert len(boxes["inputs"]["source"]) == 64
    assert all(event.meta["attempts"] == 1 and event.meta["seconds"] >= 0 for event in ends)
    place = trace.start()["environment"]
    assert ends[-1].meta["device"] == place["device"]
    assert ends[-1].meta["threads"] >= 1
    assert not {"device", "threads"} & ends[-1].data.keys()
    assert len(trace.arrays()) == 5  # image, region, nuclei, their kinds and confidences


AGAIN = """
import sys
from pathlib import Path
import numpy as np
from agent.record.trace import read_trace, run_digest
from models.backend import Image
from tests.agent.recorded import run
folder = Path(sys.argv[1])
run(folder, Image(np.load(folder / "pixels.npy"), float(sys.argv[2])))
print(run_digest(read_trace(folder / "trace").events))
"""


def test_the_same_run_in_another_process_has_the_same_digest(trace, tmp_path, skin) -> None:
    """On both runtimes: see tests/agent/test_session.py."""
    np.save(tmp_path / "pixels.npy", skin.rgb)
    words = [sys.executable, "-c", AGAIN, str(tmp_path), repr(skin.mpp)]
    place = {**os.environ, "OMP_NUM_THREADS": "2", "HISTOPILOT_NOTE": "elsewhere"}
    done = subprocess.run(words, cwd=ROOT, env=place, capture_output=True, text=True, check=False)
    assert done.stdout.split() == [run_digest(trace.events)], done.stderr


def test_no_secret_and_no_path_enters_a_trace(tmp_path, skin, monkeypatch) -> None:
    home = str(Path.home())
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("HISTOPILOT_TOKEN", "correct horse battery")

    def broken(*_):
        raise OSError(
            f"cannot read '{home}/Jane Doe/slide 7.svs' with {KEY} and correct horse battery"
        )

    monkeypatch.setattr(ClassicalBackend, "region", broken)
    kit = Kit(ScriptedPlanner([EPIDERMIS]), LocalRuntime(), CLASSICAL)
    outcome = Thread(tmp_path, kit, keep=False).ask(f"outline {home}/x/y.png", skin)
    text = (outcome.trace / EVENTS_FILE).read_text("utf-8")
    for secret in (KEY, "correct horse", "Jane", "slide 7", f"{home}/", str(tmp_path), str(ROOT)):
        assert secret not in text
    assert f"cannot read '{PATH}' with {SECRET} and {SECRET}" in text
    assert "Jane Doe" in outcome.answer["text"]  # the user is told; the record is not


def test_what_the_listener_shows_is_not_scrubbed(tmp_path) -> None:
    heard = []
    recorder = Recorder(tmp_path, lambda event, data, meta: heard.append(data))
    recorder.write("run.error", {"type": "OSError", "message": "no /data/a/b.svs"})
    recorder.close()
    assert heard[0]["message"] == "no /data/a/b.svs"
    assert read_trace(tmp_path).events[0].data["message"] == f"no {PATH}"


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("at /data/p/1.svs, line 3", f"at {PATH}, line 3"),
        ("error:/mnt/scans/Doe", f"error:{PATH_ON}"),
        (r"C:\Users\jane\x.png failed", f"{PATH} failed"),
        (r"\\nas\scans\x.svs", PATH),
        ("~/slides/x.svs", PATH),
        ("file:///home/jane/x.svs", PATH),
        ('{"p": "\\n/srv/a/b c"}', f'{{"p": "\\n{PATH_ON}"}}'),
        ("http://user:hunter22@10.0.0.1/v1", f"http://{SECRET}@10.0.0.1/v1"),
        ("Authorization: Bearer abc.def.ghi", f"Authorization: Bearer {SECRET}"),
        ("hf_abcdefghijklmnopqrst", SECRET),
        ("AIza" + "Sy0" * 12, SECRET),
        ("github_pat_" + "11AB" * 8, SECRET),
        ("jwt eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.abc-_x", f"jwt {SECRET}"),
        ("authorization: bearer abc123def456", f"authorization: bearer {SECRET}"),
        (r"C:\Users\Jane Doe\my slide 7.svs failed", f"{PATH} failed"),
        ("C:/Users/Jane Doe/x y/z.png is gone", f"{PATH} is gone"),
        ("open /Users/jane/My Scans/slide 7.svs, line 3", f"open {PATH}, line 3"),
        ("/data/Doe, Jane/slide (1).svs failed", f"{PATH} failed"),
        ('"/Users/jane/Anna\'s slides/x.svs" failed', f'"{PATH}" failed'),
        (r'{"t": "see C:\\Users\\Jane Doe\\x.svs now"}', f'{{"t": "see {PATH} now"}}'),
        (r'{"t": "see \\\\nas\\my scans\\x.svs now"}', f'{{"t": "see {PATH} now"}}'),
        (r'{"t": "open \"/data/x y\" now"}', rf'{{"t": "open \"{PATH}\" now"}}'),
        ("/data/a/b. Then count.", f"{PATH_ON}. Then count."),
        ("no /data/Jane Doe", f"no {PATH_ON}"),
        ("no /data/jane van der doe: 404", f"no {PATH_ON}: 404"),
        ("/data/Doe, Jane M. (old), then count", f"{PATH_ON}, then count"),
        ("/data/Dr. J. O'Brien failed", PATH_ON),
        ("/data/v2.Doe Jane", PATH_ON),
        (r"D:\scans\Jane Doe", PATH_ON),
        ("file:///home/jane doe", PATH_ON),
        ("/Jane Doe.svs failed", f"{PATH} failed"),
        (r'{"t": "see \/data\/x.svs"}', f'{{"t": "see {PATH}"}}'),
        (r'{"t": "see /data/J\u00e9r\u00f4me/x.svs now"}', f'{{"t": "see {PATH} now"}}'),
        (r"sk\u002dlive-0123456789abcdef", SECRET),
    ],
)
def test_the_forms_of_paths_and_secrets(text, scrubbed) -> None:
    assert scrub(text, {}) == scrubbed


@pytest.mark.parametrize(
    "text",
    [
        "tumour/stroma and/or 1/2/3, 12/03/2024, cells/mm² at 0.5 µm/px",
        "http://127.0.0.1:8000/v1/chat/completions",
        "meta-llama/Llama-3.3-70B-Instruct",
        "models/weights/nuclei.safetensors",
        "0" * 64,
        "the bearer presented it, bearer something.",
        '"tumor"/"stroma", 3 /HPF',
        "http://[::1]:8000/v1/chat",
        r"C\u00e9lulas \u0022a\u0022 \\u0041",
    ],
)
def test_what_only_looks_like_one_stays(text) -> None:
    assert scrub(text, {}) == text


@given(st.text(alphabet="/ab .\\\"'C:~,()\n"), st.text(alphabet="ab ."))
def test_what_is_put_behind_a_scrubbed_text_changes_nothing(text, more) -> None:
    """A composed answer is checked against its scrubbed parts."""
    whole = scrub(f"no /data/x{text}", {})
    if whole.endswith(PATH_ON):
        assert scrub(f"{whole} {more}", {}) == scrub(f"no /data/x{text} {more}", {})


@pytest.mark.parametrize("word", ["/a b", "/a/", "'/a", "/a.b c", "a b/", "C:\\", "x, ", "/a(b)"])
def test_scrubbing_takes_time_in_proportion(word) -> None:
    began = time.process_time()
    scrub("/a/" + word * 10_000, {})
    assert time.process_time() - began < 4


@given(st.text(alphabet="/ab .\\\"'C:~,()\n"))
def test_scrubbing_a_text_full_of_separators_twice_is_scrubbing_it_once(text) -> None:
    assert scrub(scrub(text, {}), {}) == scrub(text, {})


SCRUBBED = """
from agent.record.privacy import scrub
print(scrub("tumour/stroma, 3 / 4 of ~ and /root alone"))
"""


@pytest.mark.parametrize(
    ("home", "alone"), [("/", "/root"), ("", "/root"), ("/root", PATH), ("/root/", PATH)]
)
def test_a_home_at_the_root_spoils_no_text(home, alone) -> None:
    words = [sys.executable, "-c", SCRUBBED]
    told = subprocess.run(words, cwd=ROOT, env={"HOME": home}, capture_output=True, text=True)
    assert told.stdout == f"tumour/stroma, 3 / 4 of ~ and {alone} alone\n"


def test_settings_that_are_paths_are_not_told(monkeypatch) -> None:
    given_ = {
        "MODELS": r"C:\Users\Jane Doe\models.toml",
        "CACHE": "/scans",
        "A": "~/Jane Doe/x",
        "LOG": "error",
        "B": "0.25",
    }
    for name, value in given_.items():
        monkeypatch.setenv(f"HISTOPILOT_{name}", value)
    told = environment("local")["settings"]
    assert [told[f"HISTOPILOT_{name}"] for name in given_] == [PATH, PATH, PATH, "error", "0.25"]


@given(st.recursive(st.text() | st.integers() | st.none(), st.lists, max_leaves=8))
def test_scrubbing_twice_is_scrubbing_once(value) -> None:
    once = scrub(value, {"A_KEY": "swordfish1"})
    assert scrub(once, {"A_KEY": "swordfish1"}) == once
