"""Reports, traces, results on images, and Inspect logs: files in, files out."""

from __future__ import annotations

import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageFilter
from skimage.draw import ellipse

from agent.record.trace import Recorder
from agent.session import Kit
from eval.cases import Case, Prediction, read_cases, read_predictions
from eval.inspect_log import from_inspect, to_inspect
from eval.pages import Section, markdown
from eval.results import faults, nuclei_cases, run_cases
from eval.toolcalls import prediction_line, score
from eval.traces import score_traces
from tests.eval.test_toolcalls import jsonl, run
from tools.errors import BadInput

COUNT: dict[str, Any] = {"tool": "count_nuclei", "args": {}}
TUMOR: dict[str, Any] = {"tool": "segment", "args": {"target": ["tumor"]}}
GIVEN: dict[str, Any] = {
    "tool": "count_nuclei",
    "args": {"cell_type": None, "within": None, "outside": None},
}


def case(name: str, instruction: str, *calls: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": name, "instruction": instruction, "expect": {"calls": calls}, **more}


def files(tmp_path: Path) -> tuple[Path, Path]:
    """Cases whose words try the escaping, and predictions: right, wrong, and none."""
    rows = [
        case("a", "Count <b>nuclei</b> | all", COUNT, tags=["x & y"]),
        case("b", "Outline the tumour", TUMOR, tags=["x & y"], group="g"),
        case("c", "Outline the cancer", TUMOR, group="g"),
    ]
    given = [
        Prediction(id="a", calls=[GIVEN], seconds=0.25),
        Prediction(id="b", calls=[GIVEN], seconds=0.5),
    ]
    predictions = tmp_path / "p.jsonl"
    predictions.write_text("".join(map(prediction_line, given)), encoding="utf-8")
    return jsonl(tmp_path / "c.jsonl", rows), predictions


def test_report_is_whole_and_escaped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cases, predictions = files(tmp_path)
    out = tmp_path / "report"
    options = ["--cases", str(cases), "--predictions", str(predictions), "--report", str(out)]
    assert run(monkeypatch, "score", *options, "--baselines", "decline") == 0
    plots = sorted(path.name for path in out.glob("*.svg"))
    assert plots == [
        *("accuracy-by-category.svg", "confusion-of-tools.svg"),
        *("failures.svg", "planning-time.svg"),
    ]
    for name in plots:
        root = ElementTree.parse(out / name).getroot()  # noqa: S314 - it is our own
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<b>nuclei" not in page
    assert not re.search(r'(src|href)="', page)
    assert page.count("<svg") == len(plots)
    text = (out / "report.md").read_text(encoding="utf-8")
    assert "| a |" not in text  # it passed
    assert re.search(r"\| b \| Outline the tumour \| wrong_tool \|", text)
    for name in plots:
        assert f"({name})" in text
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["score"]["passed"] == ["a"]
    assert [row["name"] for row in report["baselines"]] == ["decline"]
    assert "33.3%" in capsys.readouterr().out


def test_compare_and_passk_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cases, predictions = files(tmp_path)
    other = tmp_path / "q.jsonl"
    other.write_text(prediction_line(Prediction(id="a", calls=[TUMOR])), encoding="utf-8")
    both = [str(predictions), str(other), "--cases", str(cases)]
    assert run(monkeypatch, "compare", *both, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["n"], found["only_a"], found["left_out"]) == (1, ["a"], ["b", "c"])
    assert run(monkeypatch, "compare", *both) == 0
    assert run(monkeypatch, "passk", *both) == 0
    shown = capsys.readouterr().out
    assert "1 of 3" in shown
    assert "2 of 3" in shown
    empty = jsonl(tmp_path / "e.jsonl", [])
    assert run(monkeypatch, "compare", str(empty), str(other), "--cases", str(cases)) == 2


def test_export_and_import_give_the_predictions_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases, predictions = files(tmp_path)
    log, back = tmp_path / "log.json", tmp_path / "back.jsonl"
    options = ["--cases", str(cases), "--predictions", str(predictions), "--inspect", str(log)]
    assert run(monkeypatch, "export", *options) == 0
    assert run(monkeypatch, "import", "--inspect", str(log), "--out", str(back)) == 0
    given, returned = read_predictions(predictions), read_predictions(back)
    assert returned[:2] == given
    assert returned[2].unavailable  # no prediction is not a wrong one, there and back
    known = read_cases(cases)
    assert score(known, returned).passed == score(known, given).passed


SAMPLE = '{"id": 1, "epoch": 1}'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        *(("", "not an Inspect log"), ("{}", "not an Inspect log"), ("[1]", "not an Inspect log")),
        ('{"samples": [{"id": 1, "epoch": 1, "output": 3}]}', "not an Inspect log"),
        ('{"samples": [{"id": 1, "epoch": 1, "working_time": NaN}]}', "seconds"),
        ("[" * 100_000, "RecursionError"),
        (f'{{"samples": [{SAMPLE}, {SAMPLE}]}}', "sample '1' occurs twice"),
        ('{"samples": [{"id": 1, "epoch": 2}]}', "no sample of epoch 1"),
    ],
)
def test_what_is_no_log_is_one_line(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=says) as told:
        from_inspect(path)
    assert "\n" not in str(told.value)


def test_inspect_reads_our_log_and_we_read_what_it_writes(tmp_path: Path) -> None:
    inspect = pytest.importorskip("inspect_ai.log")
    turn = {"instruction": "Outline the tumour", "calls": [{**TUMOR, "args": {"target": "x"}}]}
    measure = {"tool": "measure", "args": {"source": "$1"}}
    cases = [
        Case.model_validate(case("a", "How big is it?", measure, history=[turn], tags=["t"])),
        Case.model_validate(case("b", "Count", COUNT)),
        Case.model_validate(case("c", "Count", COUNT)),
        Case.model_validate(case("d", "Count", COUNT)),
    ]
    given = [
        Prediction(id="a", calls=[measure], seconds=1.5),
        Prediction(id="b", calls=["count"]),
        Prediction(id="c", calls=[], error="not JSON"),
        Prediction(id="d", calls=[], error="no connection", unavailable=True),
    ]
    ours = tmp_path / "ours.json"
    ours.write_text(json.dumps(to_inspect(cases, given, "rules", "cases")), encoding="utf-8")
    log = inspect.read_eval_log(str(ours))
    assert log.status == "success"
    assert log.results.scores[0].metrics["accuracy"].value == pytest.approx(1 / 3)
    first, *_, last = log.samples
    assert [message.role for message in first.input] == ["user", "assistant", "user"]
    assert first.output.message.tool_calls[0].arguments == {"source": "$1"}
    assert first.scores["histopilot/strict"].value == "C"
    assert not last.scores
    theirs = tmp_path / "theirs.json"
    inspect.write_eval_log(log, str(theirs))
    back = from_inspect(theirs)
    assert [(p.id, bool(p.error), p.unavailable) for p in back] == [
        ("a", False, False),
        ("b", True, False),
        ("c", True, False),
        ("d", True, True),
    ]
    assert back[0] == given[0]


def record(folder: Path, instruction: str, calls: list[Any] | None, *, fail: bool = False) -> None:
    """A trace as a run leaves it; `calls` None: killed before there was a plan."""
    recorder = Recorder(folder)
    start = {"instruction": instruction, "history": [], "planner": {"name": "rules"}}
    recorder.write("run.start", {"format": 1, **start})
    if calls is not None:
        plan = {"calls": calls, "first": 1}
        recorder.write("plan.end", {"plan": plan, "error": None, "unavailable": False}, seconds=0.1)
        error = {"code": "outside_vocabulary", "message": "m", "missing": None} if fail else None
        recorder.write("call.end", {"call": "$1", "error": error})
        recorder.write("run.end", {"status": "declined" if fail else "completed"})
    recorder.close()


def test_traces_are_trials_of_their_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tumor = {"tool": "segment", "args": {"target": "tumour", "within": None, "outside": None}}
    record(tmp_path / "t" / "1" / "trace", "Count the nuclei", [GIVEN])
    record(tmp_path / "t" / "2" / "trace", "Count the nuclei ", [tumor], fail=True)
    record(tmp_path / "t" / "3", "Count the nuclei", None)
    record(tmp_path / "t" / "4", "Something else", [GIVEN])
    record(tmp_path / "t" / "5", "Outline the tumor", [tumor, GIVEN])
    record(tmp_path / "t" / "6", "Count the nuclei", [GIVEN])
    spoilt = tmp_path / "t" / "6" / "events.jsonl"
    spoilt.write_text(spoilt.read_text().replace("Count", "Score"))
    rows = [case("a", "Count the nuclei", COUNT), case("b", "Outline the tumor", TUMOR)]
    cases = jsonl(tmp_path / "c.jsonl", rows)
    report = score_traces(read_cases(cases), tmp_path / "t")
    rules = report.planners["rules"]
    assert (rules.runs, rules.unscored) == (4, 1)
    assert [(it.k, it.value, it.n) for it in rules.pass_k] == [(1, 0.25, 2), (2, 0.0, 1)]
    assert rules.codes == {"wrong_tool": 1, "extra_call": 1}
    assert rules.carried_out == {
        "right plan, carried out": 1,
        "wrong plan, not carried out": 2,
    }
    assert rules.undone == {"outside_vocabulary": 1, "not run": 1}
    assert rules.statuses == {"completed": 2, "declined": 1, "broken off": 1}
    assert report.no_case == ["4"]
    assert list(report.unreadable) == ["6"]
    options = ["traces", str(tmp_path / "t"), "--cases", str(cases)]
    assert run(monkeypatch, *options) == 0
    assert "4 runs, 1 unscored" in capsys.readouterr().out
    assert run(monkeypatch, *options, "--json") == 0
    assert json.loads(capsys.readouterr().out) == report.model_dump()
    assert run(monkeypatch, "traces", str(cases), "--cases", str(cases)) == 2


def blobs(folder: Path) -> int:
    """Draw an H&E-like field, 0.5 µm/px, with its label map; gives how many nuclei were drawn."""
    rng = np.random.default_rng(1)
    rgb = np.full((320, 320, 3), (222, 165, 196), float) + rng.normal(0, 6, (320, 320, 1))
    labels = np.zeros((320, 320), np.uint16)
    for y, x in [(y, x) for y in range(20, 320, 40) for x in range(20, 320, 40)]:
        if rng.random() < 0.25:
            continue
        down, right = rng.uniform(-8, 8, 2)
        rows, columns = ellipse(y + down, x + right, *rng.uniform(6, 9, 2), shape=labels.shape)
        rgb[rows, columns] = np.array((95, 65, 140)) + rng.normal(0, 8, (len(rows), 1))
        labels[rows, columns] = labels.max() + 1
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    image = Pillow.fromarray(rgb.clip(0, 255).astype(np.uint8))
    image.filter(ImageFilter.GaussianBlur(0.7)).save(folder / "images" / "field.png")
    Pillow.fromarray(labels).save(folder / "labels" / "field.png")
    return int(labels.max())


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    folder = tmp_path_factory.mktemp("field")
    yield folder, blobs(folder)
    shutil.rmtree(folder)


def test_plans_and_results_are_told_apart(
    field: tuple[Path, int], tmp_path: Path, rules_kit: Kit
) -> None:
    images, drawn = field
    kit = replace(rules_kit, backends=dict.fromkeys(rules_kit.backends, ("classical",)))
    of = {"image": "images/field.png", "mpp": 0.5}
    count = {"count": drawn, "tolerance": drawn // 10}
    mask = {"mask": "labels/field.png", "dice": 0.7, "target": ["nuclei"]}
    rows = [
        case("right", "Count the nuclei", COUNT, expect_result={**of, "checks": [count, mask]}),
        case(
            "wrong result",
            "Count the nuclei",
            COUNT,
            expect_result={**of, "checks": [{"count": 2 * drawn, "tolerance": drawn // 10}]},
        ),
        case("wrong plan", "Count the nuclei", TUMOR, expect_result={**of, "checks": [count]}),
        case(
            "must doubt",
            "Count the nuclei",
            TUMOR,
            expect_result={**of, "status": "needs_confirmation"},
        ),
        case("not run", "Count the nuclei", COUNT),
    ]
    cases = [Case.model_validate(row) for row in rows]
    report = run_cases(cases, images, tmp_path, kit)
    assert report.table == {
        "right plan, right result": ["right"],
        "right plan, wrong result": ["wrong result"],
        "wrong plan, right result": ["wrong plan"],
        "wrong plan, wrong result": ["must doubt"],
    }
    assert report.cases[3].faults == ("completed, not needs_confirmation",)
    assert report.doubts is not None
    assert report.false_alarms is not None
    assert (report.doubts.strict, report.false_alarms.strict) == (0.0, 0.0)
    with pytest.raises(BadInput, match="nothing to run"):
        run_cases(cases[-1:], images, tmp_path, kit)


def test_a_labelled_set_is_a_set_of_cases(field: tuple[Path, int]) -> None:
    images, drawn = field
    (one,) = nuclei_cases(images, 0.5)
    assert one.expect_result is not None
    count, mask = one.expect_result.checks
    assert (count.count, count.tolerance) == (drawn, round(0.2 * drawn))
    assert (one.expect_result.image, mask.mask) == ("images/field.png", "labels/field.png")
    with pytest.raises(BadInput, match="give --cases"):
        nuclei_cases(images / "images", 0.5)


def result(folder: Path, **answer: Any) -> Path:
    """A result folder with a 4 px square at the top left for each mask."""
    masks = answer.setdefault("masks", [])
    array = np.zeros((8, 8), np.uint16)
    array[:4, :4] = 1
    for mask in masks:
        Pillow.fromarray(array).save(folder / mask["file"])
    text = json.dumps({"status": "completed", "boxes": [], **answer})
    (folder / "result.json").write_text(text, encoding="utf-8")
    return folder


def test_result_checks(tmp_path: Path) -> None:
    def found(check: dict[str, Any], status: str = "completed") -> list[str]:
        row = {"image": "i.png", "status": status, "checks": [check]}
        expect = Case.model_validate(case("x", "x", COUNT, expect_result=row)).expect_result
        assert expect is not None
        return list(faults(folder, expect, tmp_path))

    def mask(target: str, kind: str, count: int, number: int) -> dict[str, Any]:
        return {"target": target, "kind": kind, "count": count, "file": f"mask-{number}.png"}

    masks = [
        mask("Tumour region", "semantic", 1, 1),
        mask("lymphocytes", "instance", 3, 2),
        mask("nucleus", "instance", 9, 3),
    ]
    folder = result(tmp_path, masks=masks, boxes=[{}, {}])
    half = np.zeros((8, 8), np.uint8)
    half[:4, :2] = 1
    Pillow.fromarray(half).save(tmp_path / "half.png")
    Pillow.fromarray(half[:4]).save(tmp_path / "small.png")
    assert found({"count": 9}) == []
    assert found({"count": 4, "tolerance": 1, "target": ["lymphocyte"]}) == []
    assert found({"count": 5, "tolerance": 1, "target": ["lymphocyte"]}) == ["counted 3, not 5 ± 1"]
    assert found({"count": 2, "target": ["tumor"]}) == []  # regions are counted by their boxes
    assert found({"mask": "half.png", "dice": 0.66, "target": ["tumor"]}) == []
    (below,) = found({"mask": "half.png", "dice": 0.67, "target": ["tumor"]})
    assert "Dice 0.667" in below
    assert found({"mask": "half.png", "target": ["stroma"]}) == ["no mask for half.png"]
    (shape,) = found({"mask": "small.png"})
    assert "(4, 8)" in shape
    assert found({"count": 9}, "declined") == ["completed, not declined"]
    with pytest.raises(BadInput, match="can't be read as a mask"):
        found({"mask": "none.png"})


@pytest.mark.parametrize(
    ("expect", "says"),
    [
        ({"image": "../i.png"}, "not a file below"),
        ({"image": "/i.png"}, "not a file below"),
        ({"image": "i.png", "checks": [{"count": 1, "mask": "m.png"}]}, "either a count or a mask"),
        ({"image": "i.png", "checks": [{}]}, "either a count or a mask"),
        ({"image": "i.png", "status": "good"}, "Input should be"),
        ({"image": "i.png", "colour": 1}, "Extra inputs"),
        ({"image": "i.png", "mpp": float("inf")}, "mpp: Input should be"),
        ({"image": "i.png", "checks": [{"count": "5"}]}, "count: Input should be a valid integer"),
    ],
)
def test_what_expect_result_can_not_be(expect: dict[str, Any], says: str, tmp_path: Path) -> None:
    path = jsonl(tmp_path / "c.jsonl", [case("a", "x", COUNT, expect_result=expect)])
    with pytest.raises(BadInput, match=says):
        read_cases(path)


def test_what_a_user_wrote_stays_text_in_markdown() -> None:
    attack = "<script>alert(1)</script> ![x](http://h/p) [y](javascript:z) | & \\"
    part = Section(attack, attack, [("case",), (attack,)])
    text = markdown(attack, [part])
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 4
    assert not re.search(r"<|(?<!\\)[\[\]]", text)
