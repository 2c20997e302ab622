"""The last results by key: how backends answer a follow-up about the same image at once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar, cast

T = TypeVar("T")


class Memory:
    """The last results by key; threads that miss the same key at once wait for one computation.

    Args:
        size: how many results are kept; the one that was not asked for longest goes first.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._held: OrderedDict[tuple[object, ...], object] = OrderedDict()
        self._lock = threading.Lock()
        self._turns: dict[tuple[object, ...], threading.Lock] = {}

    def get(self, key: tuple[object, ...], compute: Callable[[], T]) -> T:
        """The result of that key, computed where it is not held.

        `compute` may ask for other keys.
        """
        with self._lock:
            turn = self._turns.setdefault(key, threading.Lock())
        with turn:
            with self._lock:
                if key in self._held:
                    self._held.move_to_end(key)
                    self._turns.pop(key, None)
                    return cast(T, self._held[key])
            try:
                value = compute()
                with self._lock:
                    self._held[key] = value
                    while len(self._held) > self._size:
                        self._held.popitem(last=False)
            finally:
                with self._lock:
                    self._turns.pop(key, None)
        return value
