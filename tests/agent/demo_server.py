"""The demo served for tests: the rules planner, fast backends, and a gate before every call."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.demo.app import serve
from agent.demo.conversation import Conversation
from agent.demo.desk import Desk
from agent.planners import load
from agent.session import Kit
from tools.registry import DEFAULT_BACKENDS
from tools.runtime import LocalRuntime


class Gate(threading.Event):
    """Open when set; knows who waits at it."""

    def __init__(self) -> None:
        super().__init__()
        self.set()
        self.waiting: list[str] = []

    def passed(self, name: str) -> None:
        self.waiting.append(name)
        self.wait(60)
        self.waiting.remove(name)


class GatedRuntime(LocalRuntime):
    """Runs calls while its gate is open."""

    def __init__(self) -> None:
        self.gate = Gate()

    def execute(self, request, store):
        self.gate.passed(request.call)
        return super().execute(request, store)


@dataclass
class Served:
    url: str
    desk: Desk
    gate: Gate


def quick_kit(runtime: LocalRuntime) -> Kit:
    """What answers without a network."""
    return Kit(load("rules"), runtime, dict.fromkeys(DEFAULT_BACKENDS, ("classical",)))


@contextmanager
def serving(corrections: Path | None = None, **options) -> Iterator[Served]:
    runtime = GatedRuntime()
    many = (1000, 1.0)
    kit = quick_kit(runtime)
    desk = Desk(kit, opened=many, asked=many, corrections=corrections)
    page, url = serve(desk, ("127.0.0.1", None), quiet=True, **options)
    yield Served(url, desk, runtime.gate)
    runtime.gate.set()
    page.close()
    desk.close()


def waited(holds, seconds: float = 120) -> None:
    """Waits until `holds` gives true."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.05)


def turn(talk: Conversation, words: str) -> list[dict]:
    """Ask, wait for the end, and give the messages since."""
    before = len(talk.shown()[0])
    talk.say(words)
    for _ in talk.follow():
        pass
    return talk.shown()[0][before:]
