"""The demo served for tests: the rules planner, fast backends, and a gate before every call."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from agent.demo.app import serve
from agent.demo.desk import Desk
from agent.planners import load
from agent.session import Kit
from tools.registry import DEFAULT_BACKENDS
from tools.runtime import LocalRuntime


class GatedRuntime(LocalRuntime):
    """Runs calls while its gate is open."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()

    def execute(self, request, store):
        self.gate.wait(60)
        return super().execute(request, store)


@dataclass
class Served:
    url: str
    desk: Desk
    gate: threading.Event


@contextmanager
def serving(**options) -> Iterator[Served]:
    runtime = GatedRuntime()
    kit = Kit(load("rules"), runtime, dict.fromkeys(DEFAULT_BACKENDS, ("classical",)))
    desk = Desk(kit)
    page, url = serve(desk, "127.0.0.1", None, prevent_thread_lock=True, quiet=True, **options)
    yield Served(url, desk, runtime.gate)
    runtime.gate.set()
    page.close()
    desk.close()
