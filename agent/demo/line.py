"""Who may do how much: the line in which turns wait, and how often one user may ask."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from tools.errors import BadInput


@dataclass(frozen=True, eq=False)
class Turn:
    """Work that waits its turn.

    Attributes:
        owner: of its turns one runs at a time.
        work: the turn itself.
        moved: called where its place in the line may have changed.
    """

    owner: object
    work: Callable[[], None]
    moved: Callable[[], None]


class Line:
    """Runs turns in the order in which they came, `places` of them at once.

    A turn has its place until its work has returned, also one that its user has given up: what
    still computes counts. Only a turn that runs has a thread. Calls out with no lock held.
    """

    def __init__(self, places: int, room: int) -> None:
        """`room` is how many may wait."""
        self._places, self._room = places, room
        self._waiting: list[Turn] = []
        self._running: list[Turn] = []
        self._lock = threading.Lock()

    def join(self, turn: Turn) -> None:
        """Stand at the end of the line.

        Raises:
            BadInput: it is full.
        """
        with self._lock:
            if len(self._waiting) >= self._room:
                raise BadInput("Too many questions are waiting. Please try again in a minute.")
            self._waiting.append(turn)
        self._advance()

    def leave(self, turn: Turn) -> bool:
        """Take a turn that still waits out of the line; says whether it did."""
        with self._lock:
            if turn not in self._waiting:
                return False
            self._waiting.remove(turn)
        self._advance()
        return True

    def ahead(self, turn: Turn) -> int | None:
        """How many wait before it; None where it does not wait (any more)."""
        with self._lock:
            return self._waiting.index(turn) if turn in self._waiting else None

    def _advance(self) -> None:
        with self._lock:
            busy = {turn.owner for turn in self._running}
            called = []
            for turn in self._waiting:
                if len(busy) >= self._places:
                    break
                if turn.owner not in busy:
                    busy.add(turn.owner)
                    called.append(turn)
            self._waiting = [turn for turn in self._waiting if turn not in called]
            self._running += called
            left = list(self._waiting)
        for turn in called:
            threading.Thread(target=self._run, args=(turn,), daemon=True).start()
        for turn in left:
            turn.moved()

    def _run(self, turn: Turn) -> None:
        try:
            turn.work()
        finally:
            with self._lock:
                self._running.remove(turn)
            self._advance()


class Rate:
    """At most `most` times in any `seconds` for each key."""

    def __init__(self, most: int, seconds: float) -> None:
        self._most, self._seconds = most, seconds
        self._times: dict[str, deque[float]] = {}
        self._lock = threading.RLock()

    def count(self, key: str) -> None:
        """Count one more.

        Raises:
            BadInput: as `check`.
        """
        with self._lock:
            self.check(key)
            self._times.setdefault(key, deque(maxlen=self._most)).append(time.monotonic())

    def check(self, key: str) -> None:
        """See that one more may come.

        Raises:
            BadInput: that is too many; it says when the next one may come.
        """
        with self._lock:
            now = time.monotonic()
            for other in [k for k, times in self._times.items() if times[-1] < now - self._seconds]:
                del self._times[other]
            times = self._times.get(key, deque())
            if len(times) == self._most:
                wait = times[0] + self._seconds - now
                if wait > 0:
                    raise BadInput(f"That was too fast. Please try again in {wait:.0f} s.")
