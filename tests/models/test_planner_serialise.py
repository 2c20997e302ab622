"""Threads and plans as text: what is written reads back, and nothing can pose as structure."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.planner.replies import REPLIES, reason_of, reply_text
from models.planner.serialise import (
    TEXT,
    PlanSyntaxError,
    Turn,
    parse_plan,
    plan_lines,
    thread_text,
)

CALLS = [
    ({"tool": "classify_tissue", "args": {"expected": "liver"}}, "$1 tissue liver"),
    ({"tool": "classify_tissue", "args": {"expected": None}}, "$1 tissue ?"),
    (
        {"tool": "segment", "args": {"target": "portal tract", "within": None, "outside": None}},
        "$1 segment portal tract",
    ),
    (
        {
            "tool": "count_nuclei",
            "args": {"cell_type": "lymphocyte", "within": "$2", "outside": "$1"},
        },
        "$1 count lymphocyte in $2 out $1",
    ),
    (
        {"tool": "count_nuclei", "args": {"cell_type": None, "within": None, "outside": "$3"}},
        "$1 count * out $3",
    ),
    (
        {
            "tool": "segment",
            "args": {"target": "cancer in situ", "within": "$1", "outside": None},
        },
        "$1 segment cancer in situ in $1",
    ),
    ({"tool": "extract_boxes", "args": {"source": "$12"}}, "$1 boxes $12"),
    ({"tool": "measure", "args": {"source": "$3"}}, "$1 measure $3"),
    (
        {"tool": "reply", "args": {"kind": "decline", "text": reply_text("decline", "grade")}},
        "$1 reply decline grade",
    ),
]

words = st.text("aZ9é’γ-.,()/&%+'", min_size=1, max_size=8) | st.sampled_from(["in", "out"])
texts = st.lists(words, min_size=1, max_size=12).map(" ".join)
references = st.integers(1, 40).map(lambda number: f"${number}")
scopes = {"within": st.none() | references, "outside": st.none() | references}


def call(tool: str, **args: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"tool": st.just(tool), "args": st.fixed_dictionaries(args)})


replies = st.sampled_from(
    [
        {"tool": "reply", "args": {"kind": kind, "text": reply_text(kind, reason)}}
        for kind, reasons in REPLIES.items()
        for reason in reasons
    ]
)
calls = st.one_of(
    call("classify_tissue", expected=st.none() | texts),
    call("segment", target=texts, **scopes),
    call("count_nuclei", cell_type=st.none() | texts, **scopes),
    call("extract_boxes", source=references),
    call("measure", source=references),
    replies,
)


@pytest.mark.parametrize(("call", "line"), CALLS)
def test_each_call_has_its_line(call: dict[str, Any], line: str) -> None:
    assert plan_lines([call], 1) == [line]
    assert parse_plan(line, 1) == [call]


@given(texts)
def test_the_tests_write_what_the_grammar_allows(text: str) -> None:
    assert re.fullmatch(TEXT, text)


@given(st.lists(calls, min_size=1, max_size=12), st.integers(1, 30))
def test_a_plan_reads_back_as_it_was(plan: list[dict[str, Any]], start: int) -> None:
    assert parse_plan("\n".join(plan_lines(plan, start)), start) == plan


@given(st.text(), st.text(), st.text(min_size=1))
@settings(deadline=None)  # the first reads the lexicons
def test_no_text_can_open_a_line_of_its_own(instruction: str, result: str, target: str) -> None:
    segment = {"tool": "segment", "args": {"target": target, "within": None, "outside": None}}
    thread = thread_text([Turn(instruction, [segment], result)], instruction)
    heads = [line[:3].split(" ")[0] for line in thread.split("\n")]
    assert heads == [">", "$1", "=", ">"]
    assert "$" not in thread.split("\n")[1][2:]
    assert len(thread.splitlines()) == 4


def test_a_thread_is_written_turn_by_turn() -> None:
    segment = {"tool": "segment", "args": {"target": "tumor"}}
    count = {"tool": "count_nuclei", "args": {"cell_type": "mitotic figure", "within": "$1"}}
    history = [
        Turn("Segment  the\ntumour.", [segment], "tumor: present 0.97"),
        Turn("mitoses in it", [count], "3 mitotic figures"),
    ]
    assert thread_text(history, "box those") == (
        "> Segment the tumour.\n$1 segment tumor\n= tumor: present 0.97\n"
        "> mitoses in it\n$2 count mitotic figure in $1\n= 3 mitotic figures\n> box those"
    )
    assert thread_text(history, "box those", first=1).startswith("> mitoses in it\n$2 count")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "$1",
        "$1 segment",
        "$1 segment ",
        "$2 segment gland",
        "$1 segment gland\n$3 boxes $1",
        "$1 segment gland\n",
        "$1 boxes gland",
        "$1 measure $0",
        "$1 reply decline target",
        "$1 reply maybe grade",
        "$1 tissue liver in $1",
        "$1 grade tumor",
        "1 segment gland",
    ],
)
def test_what_is_no_plan_is_told(text: str) -> None:
    with pytest.raises(PlanSyntaxError, match=r"\$|''|1 "):
        parse_plan(text, 1)


@given(st.text())
def test_no_text_breaks_the_reader(text: str) -> None:
    try:
        assert parse_plan(text, 1)
    except PlanSyntaxError as error:
        assert "\n" not in str(error)  # noqa: PT017 - not every text is an error


def test_every_reply_is_a_sentence_found_by_its_code() -> None:
    for kind, reasons in REPLIES.items():
        for reason in reasons:
            text = reply_text(kind, reason, ["3 mitotic figures."])
            assert reason_of(kind, text) == reason
            assert re.fullmatch(r"[A-Z].*[.]", text)
    assert reason_of("decline", "words of another planner") == "unrelated"


def test_an_answer_quotes_the_thread() -> None:
    quoted = reply_text("answer", "result", ["tumor: 41% of the tissue", "3 mitotic figures."])
    assert quoted.endswith("so far: tumor: 41% of the tissue; 3 mitotic figures.")
    assert "nothing has been measured" in reply_text("answer", "result", [])
    with pytest.raises(KeyError):
        reply_text("clarify", "grade")
