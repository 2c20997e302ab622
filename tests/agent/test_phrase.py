"""Text by a language model behind a real HTTP server: shown only where its figures are measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent.commands import Means
from agent.phrase import ModelPhraser, RecordedPhraser
from agent.planners.base import PlannerUnavailable
from agent.record.trace import read_trace
from agent.session import Kit, Outcome, Thread
from models.backend import Image
from tests.agent.scripted import EPIDERMIS, NUCLEI_IN, ScriptedPlanner
from tests.agent.served import KEY, Answer, Served, chat_answer, refusal
from tools.registry import DEFAULT_BACKENDS
from tools.runtime import LocalRuntime

CLASSICAL = dict.fromkeys(DEFAULT_BACKENDS, ("classical",))
INSTRUCTION = "count the nuclei inside the epidermis"


def ask(folder: Path, served: Served, image: Image, *plan: Any) -> Outcome:
    planner = ScriptedPlanner(list(plan) or [EPIDERMIS, NUCLEI_IN])
    kit = Kit(planner, LocalRuntime(), CLASSICAL, ModelPhraser(served.endpoint(retries=0)))
    return Thread(folder, kit, keep=False).ask(INSTRUCTION, image)


def findings(body: dict[str, Any]) -> list[str]:
    """What the model was given to word."""
    asked = json.loads(body["messages"][1]["content"])
    assert asked["instruction"] == INSTRUCTION
    found: list[str] = asked["findings"]
    return found


def retold(body: dict[str, Any]) -> Answer:
    return chat_answer("Here is what was seen.\n" + " ".join(findings(body)))


def verdict(folder: Path) -> dict[str, Any]:
    (end,) = read_trace(folder).all("phrase.end")
    return end.data


def test_words_with_measured_figures_are_shown(tmp_path: Path, skin: Image, served: Served) -> None:
    served.behaviours = [retold]
    text = ask(tmp_path, served, skin).answer["text"]
    assert text.startswith("Here is what was seen. ")
    assert "\n" not in text
    assert "Methods: " in text, "they are told in any case"
    said = verdict(tmp_path)
    assert said["verdict"] == "shown"
    assert said["raw"].startswith("Here is what was seen.\n")
    (start,) = read_trace(tmp_path).all("phrase.start")
    assert start.data["prompt"] == served.seen[0]["messages"]
    assert read_trace(tmp_path).start()["phraser"] == {"endpoint": served.url, "model": "m"}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("There are 7 mitoses. {}", "figures that no tool gave: 7"),
        ("About a dozen more. {}", "figures that no tool gave: dozen"),
        ("Many nuclei.", "leaves out"),
        ("  ", "empty or too long"),
        ("{} " * 40, "empty or too long"),
    ],
)
def test_else_the_deterministic_sentences_stand(
    tmp_path: Path, skin: Image, served: Served, words: str, why: str
) -> None:
    found: list[str] = []

    def behave(body: dict[str, Any]) -> Answer:
        found.extend(findings(body))
        return chat_answer(words.replace("{}", " ".join(found)))

    served.behaviours = [behave]
    text = ask(tmp_path, served, skin).answer["text"]
    assert text.startswith(" ".join(found))
    assert why in verdict(tmp_path)["verdict"]


def test_a_model_that_is_away_changes_nothing(tmp_path: Path, skin: Image, served: Served) -> None:
    served.behaviours = [lambda _: refusal("no")]
    answer = ask(tmp_path, served, skin).answer
    assert answer["status"] == "completed"
    assert "nuclei were found" in answer["text"]
    said = verdict(tmp_path)
    assert said["raw"] is None
    assert "answered 400" in said["verdict"]
    trace = read_trace(tmp_path)
    recorded = RecordedPhraser(trace.start()["phraser"], trace.all("phrase.end")[-1])
    with pytest.raises(PlannerUnavailable, match="answered 400"):
        recorded.write([])


def test_a_reply_and_a_refusal_are_not_worded_anew(
    tmp_path: Path, skin: Image, served: Served
) -> None:
    hello = {"tool": "reply", "args": {"kind": "answer", "text": "Hello."}}
    assert ask(tmp_path, served, skin, hello).answer["text"] == "Hello."
    assert served.seen == []


def test_the_option_names_the_model(monkeypatch: pytest.MonkeyPatch, served: Served) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", served.url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    kit = Means("rules", phrase="llama").kit()
    assert kit.phraser is not None
    assert kit.phraser.info() == {"endpoint": served.url, "model": "llama"}
    assert Means("rules").kit().phraser is None
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(PlannerUnavailable, match="OPENAI_API_KEY"):
        Means("rules", phrase="llama").kit()
