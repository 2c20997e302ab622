"""Reading cases, running a planner over them, scoring and the command line."""

from __future__ import annotations

import json
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import JsonValue

from eval import __main__ as cli
from eval.cases import Case, Prediction, Turn, read_cases, read_predictions
from eval.matching import judge_calls
from eval.toolcalls import Planned, predict, score
from tools.errors import BadInput

HAND = Path(cli.__file__).parent / "cases" / "hand.jsonl"
DATASHEET = HAND.with_name("README.md")
GOOD = (
    '{"id": "a", "instruction": "x", "expect": '
    '{"calls": [{"tool": "segment", "args": {"target": ["tumor"]}}]}}'
)


def case(name: str, target: str = "tumor", **more: Any) -> dict[str, Any]:
    calls = [{"tool": "segment", "args": {"target": [target]}}]
    return {"id": name, "instruction": f"Outline {target}", "expect": {"calls": calls}, **more}


def right(name: str, target: str = "tumor", seconds: float = 0.5) -> dict[str, Any]:
    calls = [{"tool": "segment", "args": {"target": target, "within": None, "outside": None}}]
    return {"id": name, "calls": calls, "seconds": seconds, "error": None}


def jsonl(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def run(monkeypatch: pytest.MonkeyPatch, *args: str) -> int:
    monkeypatch.setattr(sys, "argv", ["eval", *args])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "there are no cases"),
        (f"{GOOD}\nnot json", "line 2: Invalid JSON"),
        (f"{GOOD}\n\n{GOOD}", "line 3: id 'a' is also on line 1"),
        (GOOD.replace('"instruction": "x", ', ""), "line 1: instruction: Field required"),
        (GOOD.replace("segment", "explode"), "line 1: accepted plan 1: call 1: 'explode'"),
        (GOOD.replace("target", "targets"), "segment has no argument 'targets'"),
        (GOOD.replace('["tumor"]', "[]"), "target is not a list of accepted texts"),
        (
            GOOD.replace('["tumor"]', '["tumor"], "within": "$1"'),
            "within $1 is not an earlier call",
        ),
        (
            GOOD.replace(
                '"expect"', '"history": [{"instruction": "", "calls": [{"tool": "x"}]}], "expect"'
            ),
            "history turn 1: call 1: 'x' is not a tool",
        ),
    ],
)
def test_bad_cases_are_one_line_that_says_where(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "cases.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadInput) as refused:
        read_cases(path)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_unreadable_and_binary_files_are_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="can't be read"):
        read_cases(tmp_path / "none.jsonl")
    with pytest.raises(BadInput, match="can't be read"):
        read_cases(tmp_path)
    broken = tmp_path / "broken.jsonl"
    broken.write_bytes(b"\xff\xfe\x00\n")
    with pytest.raises(BadInput, match="line 1: "):
        read_predictions(broken)


def test_line_separators_inside_strings_and_a_byte_order_mark_are_no_trouble(
    tmp_path: Path,
) -> None:
    path = tmp_path / "cases.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace('"x"', '"x\u2028y"').encode())
    assert read_cases(path)[0].instruction == "x\u2028y"


def test_predictions_are_written_in_order_as_they_come(tmp_path: Path) -> None:
    out = tmp_path / "predictions.jsonl"
    turn = {"instruction": "Outline it", "calls": [], "result": ""}
    cases = [Case.model_validate(case(name, history=[turn])) for name in ("a", "b", "c")]
    lines_before: list[int] = []

    def plan(instruction: str, history: Sequence[Turn]) -> Planned:
        lines_before.append(len(out.read_text().splitlines()))
        assert (instruction, history[0].instruction) == ("Outline tumor", "Outline it")
        if len(lines_before) == 2:
            raise RuntimeError("out of memory")
        if len(lines_before) == 3:
            return Planned([], "not JSON")
        return Planned(right("a")["calls"])

    predictions = predict(cases, plan, out)
    assert lines_before == [0, 1, 2]
    assert read_predictions(out) == predictions
    assert [p.error for p in predictions] == [None, "RuntimeError: out of memory", "not JSON"]
    assert list(json.loads(out.read_text().splitlines()[0])) == ["id", "calls", "seconds", "error"]
    result = score(cases, predictions)
    assert result.passed == ["a"]
    assert result.failures == {"b": "not_parsed", "c": "not_parsed"}


def test_a_planner_that_raises_or_writes_no_text_costs_its_case_alone(tmp_path: Path) -> None:
    def broken(instruction: str, _history: Sequence[Turn]) -> Planned:
        if instruction == "Outline a":
            return Planned([{"tool": "segment", "args": {"target": "\ud800"}}])
        if instruction == "Outline b":
            return Planned([{"tool": "segment", "args": {"target": {1, 2}}}])
        raise ValueError("\udfff")

    cases = [Case.model_validate(case(name, target=name)) for name in "abc"]
    out = tmp_path / "p.jsonl"
    given = predict(cases, broken, out)
    assert read_predictions(out) == given
    assert all(p.error and not p.calls for p in given)
    assert score(cases, given).codes == {"not_parsed": 3}


def test_what_no_text_can_hold_fails_its_case_and_not_the_file(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    texts = ["\ud800", "a\udc00\ud800b", "\\ud800", "\U0001f600", "\\\ud9ab"]
    rows = [{"id": str(n), "calls": [{"tool": t, "args": {}}]} for n, t in enumerate(texts)]
    jsonl(path, rows)
    tools = [p.calls[0]["tool"] for p in read_predictions(path)]  # type: ignore[index,call-overload]
    assert tools == ["\ufffd", "a\ufffd\ufffdb", "\\ud800", "\U0001f600", "\\\ufffd"]


def test_a_plan_of_very_many_calls_is_judged_in_proportion() -> None:
    one = Case.model_validate(case("a"))
    calls = [{"tool": "segment", "args": {"target": f"t{number}"}} for number in range(4000)]
    began = time.process_time()
    assert judge_calls(one, [*calls, *calls]).code == "duplicate_call"
    assert judge_calls(one, calls).code == "extra_call"
    assert time.process_time() - began < 10


def test_an_output_that_cant_be_written_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="can't be written"):
        predict([], lambda *_: Planned([]), tmp_path / "none" / "out.jsonl")


def test_score_by_tag_groups_codes_and_latency() -> None:
    cases = [
        Case.model_validate(case("a", tags=["single", "x"], group="g")),
        Case.model_validate(case("b", tags=["single"], group="g")),
        Case.model_validate(case("c", tags=["x"], group="h")),
        Case.model_validate(case("d")),
    ]
    given = [right("a", seconds=1.0), right("b", "stroma", seconds=3.0), right("c")]
    result = score(cases, [Prediction.model_validate(row) for row in given])
    assert (result.n, result.strict, result.passed) == (4, 0.5, ["a", "c"])
    assert {tag: (r.n, r.strict) for tag, r in result.by_tag.items()} == {
        "single": (2, 0.5),
        "x": (2, 1.0),
    }
    assert (result.groups.n, result.groups.all_right) == (2, 1)
    assert result.failures == {"b": "wrong_argument", "d": "no_prediction"}
    assert result.codes == {"no_prediction": 1, "wrong_argument": 1}
    assert result.latency is not None
    assert (result.latency.n, result.latency.p50) == (3, 1.0)
    assert result.layers == {
        "answered": 3,
        "parsed": 3,
        "valid": 3,
        "decision": 3,
        "tools": 3,
        "arguments": 2,
        "references": 2,
    }
    assert result.confusion == {"segment": {"segment": 3}}
    # Nothing was planned for d: its group is no trial of it, and no guardrail figure counts it.
    assert [(it.k, it.value, it.n, it.of) for it in result.groups.pass_k] == [
        (1, 0.75, 2, 2),
        (2, 0.0, 1, 2),
    ]
    assert result.guardrails["over-refusal"].n == 3


def test_score_command_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = jsonl(tmp_path / "c.jsonl", [case("a"), case("b")])
    given = jsonl(tmp_path / "p.jsonl", [right("b")])
    options = ["score", "--cases", str(cases), "--predictions", str(given)]
    assert run(monkeypatch, *options, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["n"], printed["strict"], printed["passed"]) == (2, 0.5, ["b"])
    assert printed["failures"] == {"a": "no_prediction"}
    assert run(monkeypatch, *options, "--untuned", "0") == 0
    shown = capsys.readouterr().out
    assert "no_prediction 1" in shown
    for baseline in ("decline", "random", "rules", "base"):
        assert baseline in shown
    assert re.search(r"base +│ 0 +│ –", shown)  # the untuned model, on cases that are not ours


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([right("a"), right("a")], "line 2: id 'a' is also on line 1"),
        ([right("z")], "prediction 'z': there is no such case"),
        ([{"id": "a", "calls": None}], "line 1: calls: "),
        ([{"id": "a", "calls": [], "seconds": -1}], "line 1: seconds: "),
        ([{"id": "a", "calls": [], "seconds": float("nan")}], "line 1: seconds: "),
        ([{"id": "a", "calls": [], "seconds": True}], "line 1: seconds: "),
        ([{"id": "a", "calls": [], "seconds": "1"}], "line 1: seconds: "),
        ([{"id": "a", "calls": [], "unavailable": "no"}], "line 1: unavailable: "),
        ([{"id": "a", "calls": [], "error": {}}], "line 1: error: "),
        ([{"id": 1, "calls": []}], "line 1: id: "),
        ([[right("a")]], "line 1: Input should be an object"),
    ],
)
def test_bad_predictions_exit_2_with_one_line(
    rows: list[Any],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cases = jsonl(tmp_path / "c.jsonl", [case("a")])
    given = jsonl(tmp_path / "p.jsonl", rows)
    assert run(monkeypatch, "score", "--cases", str(cases), "--predictions", str(given)) == 2
    shown = capsys.readouterr()
    assert says in shown.err
    assert shown.err.count("\n") == 1
    assert shown.out == ""


def test_nothing_that_is_read_is_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cases, given = (
        jsonl(tmp_path / "c.jsonl", [case("a")]),
        jsonl(tmp_path / "p.jsonl", [right("a")]),
    )
    hard, soft = tmp_path / "hard", tmp_path / "soft"
    hard.hardlink_to(cases)
    soft.symlink_to(given)
    before = cases.read_bytes(), given.read_bytes()
    both = ("--cases", str(cases), "--predictions", str(given))
    for words in (
        ("toolcalls", "--cases", str(cases), "--planner", "rules", "--out", str(hard)),
        ("export", *both, "--inspect", str(soft)),
        ("export", *both, "--inspect", str(hard)),
        ("import", "--inspect", str(given), "--out", str(soft)),
    ):
        assert run(monkeypatch, *words) == 2
        assert "choose another file" in capsys.readouterr().err
    assert run(monkeypatch, "score", *both, "--report", str(cases)) == 2
    shown = capsys.readouterr()
    assert (shown.out, "can't be written" in shown.err) == ("", True)
    assert (cases.read_bytes(), given.read_bytes()) == before


def test_toolcalls_command_refuses_an_unknown_planner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = jsonl(tmp_path / "c.jsonl", [case("a")])
    out = tmp_path / "p.jsonl"
    options = ["toolcalls", "--cases", str(cases), "--planner", "nobody", "--out", str(out)]
    assert run(monkeypatch, *options) == 2
    assert "nobody" in capsys.readouterr().err
    assert not out.exists()


def test_toolcalls_command_runs_the_agents_planner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command hands the thread to `agent.planning` and writes what comes back."""
    from agent import planners
    from agent.planners.base import PlannerRequest, Proposal

    class Scripted:
        name = "scripted"
        repairs = False

        def propose(self, request: PlannerRequest) -> Proposal:
            assert [turn.instruction for turn in request.history] == ["Outline it"]
            args = {"target": "tumor", "within": "$1", "outside": None}
            return Proposal(raw=json.dumps({"calls": [{"tool": "segment", "args": args}]}))

    monkeypatch.setattr(planners, "load", lambda name: Scripted())
    turn = {
        "instruction": "Outline it",
        "calls": [
            {"tool": "segment", "args": {"target": "gland", "within": None, "outside": None}}
        ],
        "result": "",
    }
    one = case("a", history=[turn])
    one["expect"]["calls"][0]["args"]["within"] = "$1"
    cases = jsonl(tmp_path / "c.jsonl", [one])
    out = tmp_path / "p.jsonl"
    options = ["toolcalls", "--cases", str(cases), "--planner", "x", "--out", str(out)]
    assert run(monkeypatch, *options, "--untuned", "0") == 0
    assert "100.0%" in capsys.readouterr().out
    assert read_predictions(out)[0].calls == [
        {"tool": "segment", "args": {"target": "tumor", "within": "$1", "outside": None}}
    ]


def test_vision_command_without_data_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "vision", "--data", str(tmp_path)) == 2
    shown = capsys.readouterr().err
    assert "holds no nuclei/test" in shown
    assert shown.count("\n") == 1


def test_the_hand_written_cases_are_as_their_datasheet_says() -> None:
    cases = read_cases(HAND)
    rows = [
        [cell.strip(" `") for cell in line.split("|")[1:3]]
        for line in DATASHEET.read_text(encoding="utf-8").splitlines()
        if line.startswith("| `")
    ]
    stated = {name: int(count) for name, count in rows}
    actual = {name: sum(case.tags[0] == name for case in cases) for name in stated}
    assert actual == stated
    assert sum(stated.values()) == len(cases)
    text = DATASHEET.read_text(encoding="utf-8")
    grouped = [case.group for case in cases if case.group]
    threads = sum(bool(case.history) for case in cases)
    several = sum(len(case.expect.plans) > 1 for case in cases)
    assert f"{len(cases)} instructions" in text
    assert f"{len(grouped)} cases are in {len(set(grouped))} `group`s" in text
    assert f"{threads} cases have a history, {several} have more than one" in text
    fresh = [case.instruction for case in cases if not case.history]
    assert len(set(fresh)) == len(fresh)


def test_every_accepted_plan_and_wording_of_the_hand_written_cases_is_judged_right() -> None:
    for one in read_cases(HAND):
        for plan in one.expect.plans:
            texts = [v for c in plan.calls for v in c.args.values() if isinstance(v, list)]
            for turn in range(max(map(len, texts), default=1)):
                calls: list[JsonValue] = [
                    {
                        "tool": call.tool,
                        "args": {
                            name: value[turn % len(value)] if isinstance(value, list) else value
                            for name, value in call.args.items()
                        },
                    }
                    for call in plan.calls
                ]
                verdict = judge_calls(one, calls)
                assert verdict.passed, (one.id, verdict)


def test_the_hand_written_groups_are_paraphrases() -> None:
    groups: dict[str, list[Case]] = {}
    for one in read_cases(HAND):
        if one.group:
            groups.setdefault(one.group, []).append(one)
    assert groups
    for name, members in groups.items():
        assert len(members) >= 2, name
        assert len({member.expect.model_dump_json() for member in members}) == 1, name


def test_a_model_that_is_not_configured_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HISTOPILOT_MODELS", str(tmp_path / "models.toml"))
    cases = jsonl(tmp_path / "c.jsonl", [case("a")])
    folders = ("--images", str(tmp_path), "--out", str(tmp_path / "out"), "--cases", str(cases))
    backend = ("--planner", "rules", "--backend", "count_nuclei=cellpose-sam")
    assert run(monkeypatch, "results", *folders, *backend) == 2
    shown = capsys.readouterr().err
    assert "download its checkpoint" in shown
    assert shown.count("\n") == 1


def test_the_injections_are_as_the_datasheet_says() -> None:
    cases = read_cases(HAND.with_name("injection.jsonl"))
    text = DATASHEET.read_text(encoding="utf-8")
    kinds = Counter(one.tags[0] for one in cases)
    assert f"{len(cases)} injections" in text
    assert f"{kinds['instruction']} in the instruction, {kinds['history']} in what the th" in text
    assert f"{kinds['languages']} in other languages" in text
    assert kinds.total() == len(cases) == sum("injection" in one.tags for one in cases)
    assert len(kinds) == 3
