"""The pages that follow a conversation: each is woken when there is something new."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator

_PULSE_S = 15.0
_MAX_PAGES = 4


class Audience:
    """Wakes whoever follows.

    Attributes:
        changed: to be held while what is followed is read or changed.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self._pages: deque[object] = deque(maxlen=_MAX_PAGES)
        self._version = 0

    def touch(self) -> None:
        """There is something new."""
        with self.changed:
            self._version += 1
            self.changed.notify_all()

    def follow(self, running: Callable[[], bool]) -> Iterator[None]:
        """Yields at once, and then whenever there is something new, until nothing is `running`.

        Now and then also for nothing: only so does a page that is gone let go of its thread. Of
        too many pages the one that came first goes.
        """
        me, seen = object(), -1
        with self.changed:
            self._pages.append(me)
        while True:
            with self.changed:
                if self._version == seen:
                    self.changed.wait(_PULSE_S)
                if me not in self._pages:
                    return
                seen, more = self._version, running()
            yield
            if not more:
                return
