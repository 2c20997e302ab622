"""The expansion loop against a real HTTP server: what is kept, what it costs, what can go wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from typer.testing import CliRunner

from eval.expand import same
from models.planner.generate import Example, examples, expand
from models.planner.generate.__main__ import app
from models.planner.generate.expand import Costs, EndpointMissing, Verifier, endpoint
from models.planner.serialise import Call, Turn
from tests.agent.served import KEY, Answer, Served, chat_answer, json_answer, refusal, serving

COUNT = {"cell_type": "lymphocyte", "within": None, "outside": None}
PLAN = [{"tool": "count_nuclei", "args": COUNT}]
GLANDS = {"target": "gland", "within": None, "outside": None}
OTHER = [{"tool": "segment", "args": GLANDS}]
SEED = Example("1-0", "Count the lymphocytes.", (), PLAN, ("intent:count.cell", "en"), "en:count#0")


@pytest.fixture
def served() -> Iterator[Served]:
    with serving() as state:
        yield state


def ask(state: Served) -> expand.Ask:
    return endpoint(environment(state))


def environment(state: Served) -> dict[str, str]:
    return {
        "OPENAI_API_KEY": KEY,
        "OPENAI_BASE_URL": state.url,
        "HISTOPILOT_OPENAI_MODEL": "m",
    }


def answer(content: str) -> Answer:
    status, headers, body = chat_answer(content)
    usage = {"prompt_tokens": 200, "completion_tokens": 40, "total_tokens": 240}
    return json_answer(status, json.loads(body) | {"usage": usage}, **headers)


def planned(first: dict[str, Any], second: dict[str, Any] | None = None) -> Verifier:
    """Planners that know a plan for some texts and none for others."""

    def planner(known: dict[str, Any]) -> expand.Planner:
        def plan(history: Sequence[Turn], instruction: str) -> Sequence[Call] | None:
            del history
            found: Sequence[Call] | None = known.get(instruction)
            return found

        return plan

    return Verifier((planner(first), planner(first if second is None else second)), same)


def run(state: Served, verifier: Verifier, content: str) -> tuple[list[Example], Costs]:
    state.behaviours = [lambda _: answer(content)]
    costs = Costs()
    return list(expand.expand([SEED], ask(state), verifier, 3, costs)), costs


def test_only_what_two_planners_re_derive_is_kept(served: Served) -> None:
    texts = {"paraphrases": ["lymphocytes, number?", "Count the lymphs", "segment the glands"]}
    texts |= {"new": ["outline all glands", "what?"]}
    first = {
        "lymphocytes, number?": PLAN,
        "Count the lymphs": PLAN,
        "segment the glands": OTHER,
        "outline all glands": OTHER,
        "what?": OTHER,
    }
    second = first | {"Count the lymphs": OTHER, "what?": None}
    kept, costs = run(served, planned(first, second), f"```json\n{json.dumps(texts)}\n```")
    assert [(e.instruction, e.plan) for e in kept] == [
        ("lymphocytes, number?", PLAN),
        ("outline all glands", OTHER),
    ]
    assert (costs.proposed, costs.not_verified) == (5, 3)
    assert (costs.kept_paraphrases, costs.kept_new) == (1, 1)
    assert (costs.requests, costs.prompt_tokens, costs.completion_tokens) == (1, 200, 40)
    assert kept[0].group == SEED.id
    assert kept[1].group is None


def test_the_model_sees_the_thread_and_the_number_of_wordings(served: Served) -> None:
    run(served, planned({}), "{}")
    prompt = served.seen[0]["messages"][0]["content"]
    assert prompt.endswith("> Count the lymphocytes.")
    assert "Write 3 paraphrases" in prompt


def test_repetitions_and_the_test_set_are_dropped(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expand, "held_out", lambda text: "secret" in text)
    texts = ["count the lymphocyte", "Lymphocytes?", "lymphocytes?", "the secret one", "x" * 700]
    known = dict.fromkeys(texts, PLAN)
    kept, costs = run(served, planned(known), json.dumps({"paraphrases": texts}))
    assert [e.instruction for e in kept] == ["Lymphocytes?"]
    assert (costs.duplicates, costs.held_out) == (3, 1)


@pytest.mark.parametrize("garbage", ["sorry", "[1, 2]", '{"paraphrases": 3}', "{"])
def test_garbage_is_counted_and_skipped(served: Served, garbage: str) -> None:
    kept, costs = run(served, planned({}), garbage)
    assert kept == []
    assert costs.unreadable_answers == 1


def test_an_endpoint_that_refuses_ends_the_run(served: Served) -> None:
    served.behaviours = [lambda _: refusal("no such model", 404)]
    with pytest.raises(EndpointMissing, match="did not answer"):
        list(expand.expand([SEED], ask(served), planned({}), 2, Costs()))


def test_equal_plans_may_differ_in_order_and_spelling() -> None:
    one = [
        {"tool": "segment", "args": {"target": "tumour"}},
        {"tool": "count_nuclei", "args": {"cell_type": "mitosis", "within": "$1"}},
        {"tool": "measure", "args": {"source": "$1"}},
    ]
    other = [one[0] | {"args": {"target": "tumor"}}, one[2], one[1]]
    assert same((), one, other)
    assert not same((), one, one[:2])


PLANS = {example.instruction: example.plan for example in examples(5, 3)}


def verifier() -> Verifier:
    """For the command: both planners know the seeds, in another case."""
    return planned({text.upper(): plan for text, plan in PLANS.items()})


def test_the_command_writes_verified_cases_and_the_costs(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shout(body: dict[str, Any]) -> Answer:
        last = body["messages"][0]["content"].rpartition("\n> ")[2]
        return answer(json.dumps({"paraphrases": [last.upper(), last]}))

    monkeypatch.setattr("models.planner.generate.expand.words", str)
    for name, value in environment(served).items():
        monkeypatch.setenv(name, value)
    served.behaviours = [shout]
    options = ["--n", "3", "--seed", "5", "--expand", "--verifier", f"{__name__}:verifier"]
    result = CliRunner().invoke(app, options)
    assert result.exit_code == 0
    kept = [json.loads(line)["instruction"] for line in result.stdout.splitlines()]
    assert kept == [text.upper() for text in PLANS if text.upper() != text]
    assert "completion tokens: 120" in result.stderr


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        ([], 1, "set OPENAI_API_KEY"),
        (["--verifier", "nowhere:nothing"], 2, "nowhere"),
        (["--verifier", "json:JSONDecoder"], 2, "json:JSONDecoder"),
    ],
)
def test_what_is_missing_is_one_line(
    options: list[str], status: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    if options:
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("HISTOPILOT_OPENAI_MODEL", "m")
    result = CliRunner().invoke(app, ["--n", "1", "--expand", *options])
    assert result.exit_code == status
    assert said in result.stderr
