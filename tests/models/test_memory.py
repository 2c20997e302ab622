"""What backends keep of the last images."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from models.memory import Memory


def test_threads_that_miss_a_key_at_once_wait_for_one_computation() -> None:
    memory, made, begun = Memory(2), [], threading.Barrier(4)
    release = threading.Event()

    def compute() -> object:
        made.append(object())
        release.wait(5)
        return made[-1]

    def ask() -> object:
        begun.wait(5)
        return memory.get(("a",), compute)

    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask) for _ in range(4)]
        release.set()
        assert {one.result(5) for one in asked} == {made[0]}
    assert len(made) == 1


def test_a_computation_may_ask_for_another_key_and_the_oldest_goes() -> None:
    memory = Memory(2)
    assert memory.get(("a",), lambda: memory.get(("b",), lambda: 1) + 1) == 2
    assert memory.get(("b",), lambda: 9) == 1
    assert memory.get(("c",), lambda: 3) == 3
    assert memory.get(("a",), lambda: 7) == 7


def test_a_failed_computation_is_made_again() -> None:
    memory = Memory(2)

    def fails() -> int:
        raise OSError("torn")

    with pytest.raises(OSError, match="torn"):
        memory.get(("a",), fails)
    assert memory.get(("a",), lambda: 1) == 1
