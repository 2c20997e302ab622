"""The plan: read from anything, wrong in typed ways, ready in waves."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.plan import Call, InvalidPlan, Turn, parse, read_plan, ready, references, validate
from tools.registry import PLANNER_TOOLS

SEGMENT = {"tool": "segment", "args": {"target": "tumor"}}
COUNT_IN = {"tool": "count_nuclei", "args": {"cell_type": "lymphocyte", "within": "$1"}}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
almost_calls = st.fixed_dictionaries(
    {
        "tool": st.sampled_from([*PLANNER_TOOLS, "fly"]),
        "args": st.dictionaries(
            st.sampled_from(["target", "within", "outside", "source", "cell_type", "kind", "text"]),
            st.sampled_from(["$1", "$2", "$0", "$99999999999", "tumor", "", "answer"]) | st.none(),
        ),
    }
)


def codes(raw: str, history: tuple[Turn, ...] = ()) -> list[str]:
    with pytest.raises(InvalidPlan) as caught:
        read_plan(raw, history)
    return [fault.code for fault in caught.value.faults]


@pytest.mark.parametrize(
    "raw",
    [
        json.dumps({"calls": [SEGMENT, COUNT_IN]}),
        json.dumps([SEGMENT, COUNT_IN]),
        f"Sure! Here is the plan:\n```json\n{json.dumps([SEGMENT, COUNT_IN])}\n```\nDone {{x}}",
        json.dumps(
            {
                "tool_calls": [
                    {
                        "id": str(number),
                        "type": "function",
                        "function": {"name": c["tool"], "arguments": json.dumps(c["args"])},
                    }
                    for number, c in enumerate([SEGMENT, COUNT_IN])
                ]
            }
        ),
        json.dumps([{"name": c["tool"], "arguments": c["args"]} for c in (SEGMENT, COUNT_IN)]),
    ],
    ids=["object", "list", "prose and fence", "openai", "name and arguments"],
)
def test_models_write_plans_in_many_shapes(raw: str) -> None:
    plan = read_plan(raw)
    assert [call.tool for call in plan.calls] == ["segment", "count_nuclei"]
    assert plan.calls[1].args == {"cell_type": "lymphocyte", "within": "$1", "outside": None}


def test_references_count_through_the_thread() -> None:
    history = (Turn(instruction="x", calls=(Call(**SEGMENT), Call(**COUNT_IN))),)
    plan = read_plan('[{"tool": "extract_boxes", "args": {"source": "$2"}}]', history)
    assert list(plan.numbered()) == ["$3"]
    assert references(plan.calls[0]) == {"source": "$2"}


def test_every_fault_has_its_code() -> None:
    assert codes("I'd rather not") == ["not_json"]
    assert codes("[]") == ["no_calls"]
    assert codes(json.dumps([SEGMENT] * 25)) == ["too_many_calls"]
    assert codes('[{"tool": "rm", "args": {}}]') == ["unknown_tool"]
    assert codes('[{"tool": "segment", "args": {}}]') == ["bad_arguments"]
    assert codes('[{"tool": "segment", "args": {"target": "x", "image": "y"}}]') == [
        "bad_arguments"
    ]
    assert codes('[{"tool": "segment", "args": {"target": "\\u0000"}}]') == ["bad_arguments"]
    assert codes(json.dumps([COUNT_IN])) == ["bad_reference"]
    own = {"tool": "extract_boxes", "args": {"source": "$1"}}
    assert codes(json.dumps([own])) == ["bad_reference"]
    boxes_of_boxes = {"tool": "extract_boxes", "args": {"source": "$2"}}
    assert codes(json.dumps([SEGMENT, own, boxes_of_boxes])) == ["wrong_producer"]
    reply = {"tool": "reply", "args": {"kind": "answer", "text": "Hello."}}
    assert codes(json.dumps([SEGMENT, reply])) == ["reply_not_alone"]


def test_all_faults_are_told_at_once_and_name_their_call() -> None:
    with pytest.raises(InvalidPlan) as caught:
        read_plan(json.dumps([{"tool": "rm"}, {"tool": "measure", "args": {"source": "$7"}}]))
    assert [(fault.call, fault.code) for fault in caught.value.faults] == [
        ("$1", "unknown_tool"),
        ("$2", "bad_reference"),
    ]
    assert caught.value.feedback().startswith("$1: unknown_tool: 'rm' is not a tool")


def test_independent_calls_are_ready_together_and_the_tissue_check_comes_first() -> None:
    plan = validate(
        [
            {"tool": "classify_tissue", "args": {"expected": "liver"}},
            SEGMENT,
            {"tool": "segment", "args": {"target": "necrosis"}},
            {"tool": "count_nuclei", "args": {"within": "$2", "outside": "$3"}},
            {"tool": "measure", "args": {"source": "$4"}},
        ]
    )
    assert ready(plan, set()) == ["$1"]
    assert ready(plan, {"$1"}) == ["$2", "$3"]
    assert ready(plan, {"$1", "$3"}) == ["$2"]
    assert ready(plan, {"$1", "$2", "$3"}) == ["$4"]
    assert ready(plan, {"$1", "$2", "$3", "$4", "$5"}) == []


@given(raw=st.text() | json_values.map(lambda value: json.dumps(value, default=str)))
def test_no_text_crashes_the_reader(raw: str) -> None:
    try:
        plan = read_plan(raw)
    except InvalidPlan as invalid:
        told = invalid.feedback()
    else:
        told = plan.calls
    assert told


@given(
    items=st.lists(almost_calls, max_size=6), producers=st.lists(st.sampled_from([*PLANNER_TOOLS]))
)
def test_what_validates_is_a_dag_of_fitting_calls(items, producers) -> None:
    try:
        plan = validate(items, producers)
    except InvalidPlan:
        return
    tools = [*producers, *(call.tool for call in plan.calls)]
    done = {f"${n + 1}" for n in range(len(producers))}
    for ref, call in plan.numbered().items():
        for name, source in references(call).items():
            number = int(source[1:])
            assert number < int(ref[1:])
            accepted = PLANNER_TOOLS[call.tool].arguments.references()[name]
            assert tools[number - 1] in accepted
    while wave := ready(plan, done):
        done |= set(wave)
    assert set(plan.numbered()) <= done


@pytest.mark.parametrize(
    "raw", ["[" * 100_000, '{"a":' * 50_000, "9" * 99_999, "[" + "1," * 40_000]
)
def test_hostile_output_is_refused_quickly(raw: str) -> None:
    with pytest.raises(InvalidPlan):
        parse(raw)
