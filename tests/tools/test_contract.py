"""The tools hold to the contract, and a tool that could not is refused when it is defined."""

import json
from pathlib import Path

import pytest

from tests.conftest import SHARED, needs_shared
from tools.arrays import MemoryStore
from tools.base import Arguments, Output, Tool
from tools.registry import DEFAULT_BACKENDS, TOOLS, openai_tools, schema_digest

COPY = Path(__file__).parent.parent / "data" / "contract-tools.json"


def test_schemas_are_the_contracts() -> None:
    assert openai_tools() == json.loads(COPY.read_text("utf-8"))


@needs_shared
def test_the_copy_of_the_contract_is_current() -> None:
    theirs = (SHARED / "contract" / "tools.json").read_text("utf-8")
    assert json.loads(COPY.read_text("utf-8")) == json.loads(theirs)


def test_schema_digest_is_stable_and_short_of_collisions() -> None:
    assert schema_digest() == schema_digest()
    assert len(schema_digest()) == 64


def test_every_backend_preference_is_of_a_tool() -> None:
    assert set(DEFAULT_BACKENDS) <= set(TOOLS)


def test_a_tool_without_description_does_not_import() -> None:
    class Args(Arguments):
        size: int

    with pytest.raises(TypeError, match="no description"):

        class Broken(Tool[Args, Output]):
            name = "broken"
            version = "1"
            description = ""
            arguments = Args
            output = Output

            def run(self, args, scene):
                return Output()

            def sentence(self, args, output, names):
                return ""

            def line(self, args, output):
                return ""


def test_a_tool_with_an_unexplained_argument_does_not_import() -> None:
    class Args(Arguments):
        size: int

    with pytest.raises(TypeError, match="the argument size has no description"):

        class Broken(Tool[Args, Output]):
            name = "broken"
            version = "1"
            description = "Breaks."
            arguments = Args
            output = Output

            def run(self, args, scene):
                return Output()

            def sentence(self, args, output, names):
                return ""

            def line(self, args, output):
                return ""


def test_reply_measures_nothing() -> None:
    reply = TOOLS["reply"]
    args = reply.arguments.model_validate({"kind": "answer", "text": "Eosin is pink."})
    assert reply.run(args, None).model_dump() == {}
    assert reply.sentence(args, reply.output(), {}) == "Eosin is pink."
    assert MemoryStore().arrays == {}
