"""The parts of a conversation's image that are asked about: each has a thread of its own."""

from __future__ import annotations

from pathlib import Path

from agent.demo.picture import Picture, Region
from agent.record.trace import Listener
from agent.session import Kit, Outcome, Thread
from tools.errors import BadInput
from tools.image import MIN_SIDE

MAX_REGIONS = 8


def region_of(value: object) -> Region | None:
    """What a browser says is a region, None for the whole image.

    Raises:
        BadInput: it is none.
    """
    if value is None:
        return None
    try:
        x, y, width, height = (int(number) for number in value)  # type: ignore[attr-defined]
    except (TypeError, ValueError, OverflowError):
        raise BadInput("A region is x, y, width and height in px.") from None
    return x, y, width, height


class Regions:
    """A picture, and the threads about it and its parts.

    Attributes:
        chosen: the part that is asked about, None for the whole.
    """

    def __init__(self, folder: Path, kit: Kit, picture: Picture) -> None:
        """The threads write below `folder`."""
        self.chosen: Region | None = None
        self._folder, self._kit, self._picture = folder, kit, picture
        self._threads: dict[Region | None, Thread] = {}
        self._begun: set[Thread] = set()

    def thread(self) -> Thread:
        """The thread of the chosen part."""
        if self.chosen not in self._threads:
            name = f"thread-{len(self._threads)}"
            self._threads[self.chosen] = Thread(self._folder / name, self._kit, keep=True)
        return self._threads[self.chosen]

    def choose(self, region: Region | None) -> str:
        """Take another part, cut to the image; says so in words.

        Raises:
            BadInput: it is too small, or one too many.
        """
        if region is None:
            self.chosen = None
            return "Now about the whole image again."
        height, width = self._picture.shape
        x, y = (min(max(at, 0), size) for at, size in zip(region[:2], (width, height), strict=True))
        right, bottom = min(region[0] + region[2], width), min(region[1] + region[3], height)
        part = (x, y, right - x, bottom - y)
        if min(part[2:]) < MIN_SIDE:
            raise BadInput(f"A region has at least {MIN_SIDE} px a side.")
        if part not in self._threads and len(self._threads) >= MAX_REGIONS:
            raise BadInput("Too many regions: open the image again.")
        self.chosen = part
        return (
            f"Now about the region of {part[2]} × {part[3]} px at {x}, {y} alone. "
            "What would you like to know?"
        )

    def ask(self, thread: Thread, words: str, listener: Listener) -> Outcome:
        """Ask a thread of the whole or a part; the first question brings its pixels.

        Raises:
            BadInput: as `Thread.ask`.
        """
        if thread in self._begun:
            return thread.ask(words, None, listener)
        region = next(part for part, one in self._threads.items() if one is thread)
        image, place = self._picture.part(region)
        outcome = thread.ask(words, image, listener, place)
        self._begun.add(thread)
        return outcome

    def close(self) -> None:
        """Wait for what runs, and let go of the files."""
        for thread in self._threads.values():
            thread.close()
