"""The matcher: the contract's rules, the known traps of other matchers, and mutations."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.cases import Case, Prediction
from eval.matching import judge, judge_calls
from eval.signatures import SIGNATURES, plan_problem
from eval.verdict import LAYERS
from tests.conftest import SHARED, needs_shared

TUMOR_TURN = {
    "instruction": "Segment the tumour.",
    "calls": [{"tool": "segment", "args": {"target": "tumor"}}],
    "result": "tumor: 41% of the tissue",
}


def call(tool: str, **args: Any) -> dict[str, Any]:
    return {"tool": tool, "args": args}


def make(*calls: dict[str, Any], history: Any = (), alternatives: Any = ()) -> Case:
    expect = {"calls": calls, "alternatives": [{"calls": plan} for plan in alternatives]}
    return Case.model_validate(
        {"id": "c", "instruction": "i", "history": history, "expect": expect}
    )


def code(case: Case, *calls: Any) -> str | None:
    verdict = judge_calls(case, calls)
    assert verdict.passed == (verdict.code is None)
    assert bool(verdict.detail) == (not verdict.passed)
    return verdict.code


TUMOR = call("segment", target=["tumor"])
STROMA = call("segment", target=["stroma"])
IN_TUMOR = make(TUMOR, call("count_nuclei", cell_type=["lymphocyte"], within="$1"))


def test_the_plan_itself_passes_with_and_without_explicit_nulls() -> None:
    assert (
        code(
            IN_TUMOR,
            call("segment", target="Tumour region", within=None, outside=None),
            call("count_nuclei", cell_type="lymphocytes", within="$1", outside=None),
        )
        is None
    )
    assert (
        code(
            IN_TUMOR,
            call("segment", target="tumor"),
            call("count_nuclei", cell_type="lymphocyte", within="$1"),
        )
        is None
    )


@pytest.mark.parametrize(
    ("expected", "calls"),
    [
        ("missing_call", [call("segment", target="tumor")]),
        ("missing_call", []),
        (
            "extra_call",
            [
                call("segment", target="tumor"),
                call("count_nuclei", cell_type="lymphocyte", within="$1"),
                call("measure", source="$2"),
            ],
        ),
        (
            "wrong_tool",
            [
                call("segment", target="tumor"),
                call("segment", target="lymphocyte", within="$1"),
            ],
        ),
        ("unexpected_reply", [call("reply", kind="decline", text="No.")]),
        (
            "wrong_argument",
            [
                call("segment", target="tumor"),
                call("count_nuclei", cell_type="neutrophil", within="$1"),
            ],
        ),
        (
            "wrong_argument",
            [call("segment", target="tumor"), call("count_nuclei", within="$1")],
        ),
        (
            "wrong_reference",
            [
                call("segment", target="tumor"),
                call("count_nuclei", cell_type="lymphocyte", outside="$1"),
            ],
        ),
        (
            "wrong_reference",
            [call("segment", target="tumor"), call("count_nuclei", cell_type="lymphocyte")],
        ),
    ],
)
def test_failure_codes(expected: str, calls: list[Any]) -> None:
    assert code(IN_TUMOR, *calls) == expected


@pytest.mark.parametrize(
    ("expected", "calls"),
    [
        ("malformed_call", ["segment"]),
        ("malformed_call", [{"tool": "segment", "args": "tumor"}]),
        ("unknown_tool", [{"args": {}}]),
        ("unknown_tool", [call("explode")]),
        ("bad_argument", [call("segment")]),
        ("bad_argument", [call("segment", target="")]),
        ("bad_argument", [call("segment", target=["tumor"])]),
        ("bad_argument", [call("segment", target="tumor", colour="red")]),
        ("bad_reference", [call("segment", target="tumor", within="1")]),
        ("bad_reference", [call("segment", target="tumor", within="$0")]),
        ("forward_reference", [call("segment", target="tumor", within="$1")]),
        ("forward_reference", [call("measure", source="$2"), call("segment", target="tumor")]),
        ("bad_reference", [call("count_nuclei"), call("segment", target="tumor", within="$1")]),
        (
            "bad_reference",
            [call("classify_tissue", expected=None), call("measure", source="$1")],
        ),
        ("bad_argument", [call("segment", target="tumor"), call("measure", source=None)]),
        ("bad_argument", [call("reply", kind="refuse", text="No.")]),
        (
            "reply_not_alone",
            [call("segment", target="tumor"), call("reply", kind="answer", text="Done.")],
        ),
    ],
)
def test_calls_that_the_contract_does_not_allow(expected: str, calls: list[Any]) -> None:
    assert code(IN_TUMOR, *calls) == expected
    assert expected in LAYERS["valid"]


def test_a_greedy_matcher_would_fail_here() -> None:
    """BFCL's fails on `{1, 2}, {1}` against `1, 2`: the first expected call takes the only 1."""
    case = make(
        call("segment", target=["tumor", "stroma"]),
        call("segment", target=["tumor"]),
    )
    assert code(case, call("segment", target="tumor"), call("segment", target="stroma")) is None
    assert code(case, call("segment", target="stroma"), call("segment", target="tumor")) is None
    assert (
        code(case, call("segment", target="stroma"), call("segment", target="stroma"))
        == "wrong_argument"
    )


def test_the_choice_among_equal_calls_follows_their_consumers() -> None:
    case = make(
        TUMOR,
        TUMOR,
        call("count_nuclei", cell_type=["lymphocyte"], within="$1"),
        call("count_nuclei", cell_type=["neutrophil"], within="$2"),
    )
    first = [call("segment", target="tumor")] * 2
    crossed = [
        call("count_nuclei", cell_type="lymphocyte", within="$2"),
        call("count_nuclei", cell_type="neutrophil", within="$1"),
    ]
    shared = [
        call("count_nuclei", cell_type="lymphocyte", within="$1"),
        call("count_nuclei", cell_type="neutrophil", within="$1"),
    ]
    assert code(case, *first, *crossed) is None
    assert code(case, *first, *shared) == "wrong_reference"


def test_dots_are_not_stripped_from_texts() -> None:
    """BFCL's takes `0.25` and `025` for the same."""
    case = make(call("segment", target=["grade 2.5 focus"]))
    assert code(case, call("segment", target="grade 2.5 foci")) is None
    assert code(case, call("segment", target="grade 25 focus")) == "wrong_argument"


SAME_TEXT = (
    # NFKD without accents, lower case, compatibility letters
    *(
        ("Fibrose Épithéliale", "fibrose epitheliale"),
        ("ﬁbrosis", "FIBROSIS"),
        ("ｔｕｍｏｒ", "tumor"),
    ),
    *(("naïve B-cell", "naive b cell"), ("grade Ⅲ", "grade iii"), ("i\u0307n situ", "in situ")),
    # hyphens and apostrophes of every kind, and white space
    *(("tumor\u2011infiltrating", "tumor infiltrating"), ("goblet_cell", "goblet cell")),
    *(("Hassall\u2019s corpuscle", "hassall s corpuscle"), ("Crohn`s", "crohn's")),
    *((" fat\t\u00a0 cell\n", "fat cell"), ("in\u2010situ", "in\u2212situ")),
    # British to American
    *(("tumours", "tumor"), ("oedema", "edema"), ("oedematous stroma", "edematous stroma")),
    *(("haemorrhage", "hemorrhage"), ("anaemia", "anemia"), ("leukaemia", "leukemia")),
    *(
        ("leucocytes", "leukocyte"),
        ("oesophageal", "esophageal"),
        ("muscle fibres", "muscle fiber"),
    ),
    *(("germinal centres", "germinal center"), ("discoloured", "discolored")),
    # irregular plurals
    *(("nuclei", "nucleus"), ("mitoses", "mitosis"), ("foci", "focus"), ("lumina", "lumen")),
    *(("glomeruli", "glomerulus"), ("villi", "villus"), ("alveoli", "alveolus")),
    *(("bronchi", "bronchus"), ("follicles", "follicle"), ("septa", "septum")),
    *(("metastases", "metastasis"), ("papillae", "papilla"), ("stromata", "stroma")),
    # plain -s, and what only looks like a plural
    *(("plasma cells", "plasma cell"), ("arteries", "artery"), ("processes", "process")),
    *(("pancreas", "Pancreas"), ("sinuses", "sinus"), ("abscesses", "abscess")),
    # dropped words, where something is left
    *(("the areas of a tumour", "tumor"), ("an adipose tissue compartment", "adipose")),
    *(("the region", "regions"), ("zone", "the zones"), ("tissue", "a tissue area")),
)
OTHER_TEXT = (
    *(("nucleus", "nucleolus"), ("T cell", "B cell"), ("T-cell", "cell"), ("non-tumor", "tumor")),
    *(("grade 2.5", "grade 25"), ("3+4", "34"), ("CD3", "CD8"), ("zone 1", "zone 2")),
    *(("region", "area"), ("fat cell", "cell fat"), ("lens", "len"), ("gas", "ga")),
    *(("gland", "glans"), ("axis", "ax"), ("tumor, stroma", "tumor stroma"), ("β cell", "b cell")),
    *(("intumor", "in tumor"), ("micro vessel", "microvessel"), ("hour", "hor"), ("virus", "viru")),
)


@pytest.mark.parametrize(("accepted", "given_"), SAME_TEXT)
def test_texts_that_the_contract_takes_for_one(accepted: str, given_: str) -> None:
    for one, other in ((accepted, given_), (given_, accepted)):
        assert code(make(call("segment", target=[one])), call("segment", target=other)) is None


@pytest.mark.parametrize(("accepted", "given_"), OTHER_TEXT)
def test_texts_that_stay_different(accepted: str, given_: str) -> None:
    for one, other in ((accepted, given_), (given_, accepted)):
        case = make(call("segment", target=[one]))
        assert code(case, call("segment", target=other)) == "wrong_argument"


def test_null_is_a_text_of_its_own() -> None:
    every, some = make(call("count_nuclei")), make(call("count_nuclei", cell_type=["null", "none"]))
    either = make(call("count_nuclei", cell_type=[None, "nucleus"]))
    assert code(every, call("count_nuclei", cell_type="null")) == "wrong_argument"
    assert code(some, call("count_nuclei", cell_type=None)) == "wrong_argument"
    for given_ in ({}, {"cell_type": None}, {"cell_type": "Nuclei"}):
        assert code(either, call("count_nuclei", **given_)) is None


def test_a_chain_of_references_is_followed_to_its_end() -> None:
    """Each pair agrees with its neighbour; only the far ends tell the two plans apart."""
    case = make(
        *(call("segment", target=["tumor"]), call("segment", target=["stroma"])),
        *(
            call("segment", target=["gland"], within="$1"),
            call("segment", target=["gland"], within="$2"),
        ),
        *(call("count_nuclei", within="$3"), call("count_nuclei", within="$4", outside="$3")),
        *(call("measure", source="$5"), call("extract_boxes", source="$6")),
    )
    ends = [call("measure", source="$5"), call("extract_boxes", source="$6")]
    plan = [
        *(call("segment", target="stroma"), call("segment", target="tumor")),
        *(
            call("segment", target="gland", within="$2"),
            call("segment", target="gland", within="$1"),
        ),
        *(call("count_nuclei", within="$3"), call("count_nuclei", within="$4", outside="$3")),
    ]
    assert code(case, *plan, *ends) is None
    crossed = [call("measure", source="$6"), call("extract_boxes", source="$5")]
    assert code(case, *plan, *crossed) == "wrong_reference"
    turned = [
        *plan[:4],
        call("count_nuclei", within="$4"),
        call("count_nuclei", within="$3", outside="$4"),
    ]
    assert code(case, *turned, *ends) == "wrong_reference"


def test_a_malformed_call_is_no_refusal() -> None:
    """BFCL's counts whatever it can't read as a refusal, and so as right."""
    case = make(call("reply", kind="decline"))
    assert code(case, call("reply", kind="decline", text="It can't be told from H&E.")) is None
    assert code(case, call("reply", kind="decline")) is None
    assert code(case) == "missing_call"
    assert code(case, {"tool": "reply"}) == "bad_argument"
    assert code(case, call("reply", kind="clarify", text="Which?")) == "wrong_kind"
    assert code(case, call("segment", target="tumor")) == "missing_reply"
    unread = Prediction(id="c", calls=[], error="not JSON")
    assert judge(case, unread).code == "not_parsed"
    gone = Prediction(id="c", calls=[], error="no connection", unavailable=True)
    assert judge(case, gone).code == "unavailable"


def test_one_call_does_not_satisfy_two() -> None:
    """tau2's lets it."""
    case = make(call("count_nuclei", cell_type=["lymphocyte", "cell"]), call("count_nuclei"))
    assert code(case, call("count_nuclei", cell_type="cell")) == "missing_call"
    twice = make(TUMOR, TUMOR)
    assert code(twice, call("segment", target="tumor")) == "missing_call"


def test_two_calls_do_not_satisfy_one() -> None:
    case = make(TUMOR)
    assert code(case, *[call("segment", target="tumor")] * 2) == "duplicate_call"
    assert code(case, call("segment", target="tumor"), call("count_nuclei")) == "extra_call"
    follow_up = make(call("measure", source="$1"), history=[TUMOR_TURN])
    again = [call("segment", target="tumour"), call("measure", source="$1")]
    assert code(follow_up, *again) == "duplicate_call"


def test_order_is_noted_and_does_not_fail_a_plan() -> None:
    case = make(call("classify_tissue", expected=["liver"]), TUMOR)
    check, segment = call("classify_tissue", expected="liver"), call("segment", target="tumor")
    first, last = judge_calls(case, [check, segment]), judge_calls(case, [segment, check])
    assert (first.passed, first.ordered) == (True, True)
    assert (last.passed, last.ordered) == (True, False)


def test_the_calls_stand_beside_the_expected_ones() -> None:
    beside = judge_calls(IN_TUMOR, [call("segment", target="tumor"), call("segment", target="fat")])
    assert set(beside.tools) == {("segment", "segment"), ("count_nuclei", "segment")}
    missing = judge_calls(IN_TUMOR, [call("segment", target="tumor")])
    assert set(missing.tools) == {("segment", "segment"), ("count_nuclei", None)}


def test_references_are_absolute_through_the_thread_and_replies_count() -> None:
    thanked = {"instruction": "thanks", "calls": [call("reply", kind="answer", text="Any time.")]}
    case = make(call("measure", source="$3"), history=[TUMOR_TURN, thanked, TUMOR_TURN])
    assert code(case, call("measure", source="$3")) is None
    assert code(case, call("measure", source="$1")) == "wrong_reference"
    assert code(case, call("measure", source="$2")) == "bad_reference"
    assert code(case, call("measure", source="$4")) == "forward_reference"
    new = make(TUMOR, call("measure", source="$4"), history=[TUMOR_TURN, thanked, TUMOR_TURN])
    plan = [call("segment", target="tumor"), call("measure", source="$4")]
    assert code(new, *plan) is None
    assert code(new, plan[0], call("measure", source="$1")) == "wrong_reference"


def test_alternatives_and_the_closest_of_them() -> None:
    case = make(
        call("segment", target=["gland"]),
        call("extract_boxes", source="$1"),
        alternatives=[[call("count_nuclei", cell_type=["epithelial cell"])]],
    )
    assert code(case, call("count_nuclei", cell_type="epithelial cells")) is None
    assert code(case, call("count_nuclei", cell_type="lymphocyte")) == "wrong_argument"
    assert (
        code(case, call("segment", target="glands"), call("measure", source="$1")) == "wrong_tool"
    )


def test_a_missing_prediction_fails() -> None:
    assert judge(IN_TUMOR, None).code == "no_prediction"


def test_many_equal_calls_are_judged_at_once() -> None:
    """Sixteen calls have 2e13 permutations; the bipartite bound goes straight to a match."""
    expected = [call("segment", target=["tumor", "stroma"])] * 8 + [TUMOR] * 8
    case = make(*expected)
    right = [call("segment", target="tumor")] * 9 + [call("segment", target="stroma")] * 7
    wrong = [call("segment", target="tumor")] * 7 + [call("segment", target="stroma")] * 9
    assert code(case, *right) is None
    assert code(case, *wrong) == "wrong_argument"


TEXTS = ["tumor", "stroma", "gland", "necrosis", "vessel"]
CELLS = ["lymphocyte", "plasma cell", "mitosis", "neutrophil", None]


@st.composite
def plans(draw: st.DrawFn, sizes: tuple[int, int] = (1, 5)) -> list[dict[str, Any]]:
    """A valid plan, as a planner would give it, with null arguments left out."""
    made: list[dict[str, Any]] = []
    for _ in range(draw(st.integers(*sizes))):
        regions = [f"${n}" for n, c in enumerate(made, 1) if c["tool"] == "segment"]
        sources = [f"${n}" for n, c in enumerate(made, 1) if c["tool"] in SOURCES]
        tools = ["segment", "count_nuclei", "classify_tissue"]
        tools += ["measure", "extract_boxes"] if sources else []
        tool = draw(st.sampled_from(tools))
        args: dict[str, Any] = {}
        if tool in ("segment", "count_nuclei"):
            name, texts = ("target", TEXTS) if tool == "segment" else ("cell_type", CELLS)
            args[name] = draw(st.sampled_from(texts))
            for side in ("within", "outside"):
                if regions and draw(st.booleans()):
                    args[side] = draw(st.sampled_from(regions))
        elif tool == "classify_tissue":
            args["expected"] = draw(st.sampled_from(["liver", "kidney", None]))
        else:
            args["source"] = draw(st.sampled_from(sources))
        made.append({"tool": tool, "args": {k: v for k, v in args.items() if v is not None}})
    return made


SOURCES = ("segment", "count_nuclei")


def renumber(calls: list[dict[str, Any]], order: tuple[int, ...]) -> list[dict[str, Any]]:
    """The calls in another order, each reference following the call that it named."""
    place = {f"${old + 1}": f"${new + 1}" for new, old in enumerate(order)}
    return [
        {
            "tool": calls[old]["tool"],
            "args": {k: place.get(v, v) for k, v in calls[old]["args"].items()},
        }
        for old in order
    ]


def equivalent(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> bool:
    """Oracle by brute force: some order of the one, renumbered, is the other."""
    return len(one) == len(other) and any(
        renumber(one, order) == other for order in itertools.permutations(range(len(one)))
    )


@settings(max_examples=150, deadline=None)
@given(plans(), plans())
def test_the_verdict_is_that_of_all_permutations(one: Any, other: Any) -> None:
    assert judge_calls(make(*one), other).passed == equivalent(one, other)


@settings(max_examples=150, deadline=None)
@given(plans(), st.randoms(use_true_random=False))
def test_reordering_independent_calls_keeps_the_verdict(calls: Any, random: Any) -> None:
    order = tuple(random.sample(range(len(calls)), len(calls)))
    moved = renumber(calls, order)
    forward = plan_problem(moved, []) is None
    verdict = judge_calls(make(*calls), moved)
    assert verdict.passed == forward
    assert verdict.code == (None if forward else "forward_reference")


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["tool", "args", "target", "kind"]), inner, max_size=3
            )
        ),
        max_leaves=12,
    )
)
def test_no_output_of_a_planner_crashes_the_matcher(value: Any) -> None:
    verdict = judge_calls(IN_TUMOR, value if isinstance(value, list) else [value])
    assert not verdict.passed
    assert verdict.code in (*LAYERS["valid"], *LAYERS["tools"])


def test_signatures_are_the_contracts() -> None:
    path = Path(__file__).parents[1] / "data" / "contract-tools.json"
    tools = {item["function"]["name"]: item["function"] for item in json.loads(path.read_text())}
    assert tools.keys() == SIGNATURES.keys()
    for name, tool in tools.items():
        properties = tool["parameters"]["properties"]
        assert list(properties) == list(SIGNATURES[name])
        for key, schema in properties.items():
            arg = SIGNATURES[name][key]
            assert (arg.role == "reference") == ("pattern" in schema)
            # A reply's text is required by its schema but not by its score.
            nullable = "null" in schema["type"] or arg.role == "prose"
            assert arg.required == (not nullable)


@needs_shared
def test_the_contracts_sample_passes_against_itself() -> None:
    path = SHARED / "contract" / "cases.sample.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines():
        case = Case.model_validate_json(line)
        own = [
            {
                "tool": c.tool,
                "args": {k: v[0] if isinstance(v, list) else v for k, v in c.args.items()},
            }
            for c in case.expect.calls
        ]
        assert judge_calls(case, own).passed, case.id
