"""The conversations of one server, each known by its token alone.

One is deleted when it has been idle for `IDLE_S`, when its user opens another image, when all
places are taken and it has been idle longest, and when the server stops. How often one user may
open an image and ask is limited here too.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from agent.demo.conversation import Conversation
from agent.demo.corrections import Correction
from agent.demo.line import Line, Rate
from agent.demo.picture import Region, picture_of
from agent.samples import sample_path
from agent.session import Kit
from tools.errors import BadInput

MAX_OPEN = 64
IDLE_S = 1800.0
WORKERS = 2
OPENED = (30, 600.0)
"""How many images a user may open in how many seconds."""
ASKED = (20, 60.0)
"""How many questions may be asked in a conversation in how many seconds."""
POINTED = (120, 60.0)
"""How many regions and corrections."""
QUESTIONS = ("Count the nuclei", "Outline the tissue", "Count the lymphocytes")


@dataclass(frozen=True)
class Sample:
    """An image that comes with the packages, and what may well be asked about it."""

    path: Path
    questions: tuple[str, ...]


SAMPLES = {
    "Skin, H&E": Sample(
        sample_path(),
        (
            "Count the nuclei inside the epidermis",
            "What percentage of the tissue is dermis?",
            "Count the nuclei",
        ),
    ),
    "Colon, not H&E": Sample(
        Path(str(files("skimage.data") / "ihc.png")), ("Count the nuclei", "Outline the tissue")
    ),
}


class Desk:
    """Opens, finds and deletes conversations."""

    def __init__(
        self,
        kit: Kit,
        workers: int = WORKERS,
        opened: tuple[int, float] = OPENED,
        asked: tuple[int, float] = ASKED,
        corrections: Path | None = None,
    ) -> None:
        """`workers` turns run at once; `opened` and `asked` limit one user.

        What users correct is kept below `corrections`, with its traces; None keeps nothing.
        """
        self._kit, self._corrections = kit, corrections
        self._line = Line(workers, MAX_OPEN)
        self._opened, self._asked, self._pointed = Rate(*opened), Rate(*asked), Rate(*POINTED)
        self._root = tempfile.TemporaryDirectory(
            prefix="histopilot-demo-", ignore_cleanup_errors=True
        )
        self._known: dict[str, Conversation] = {}
        self._lock = threading.Lock()

    @property
    def collects(self) -> bool:
        """Whether corrections are kept."""
        return self._corrections is not None

    def open(
        self,
        upload: Path | Sample,
        mpp: float | None = None,
        earlier: str | None = None,
        user: str = "",
    ) -> Conversation:
        """Start a conversation about an image, in place of `earlier`.

        Args:
            upload: a user's file, or a sample.
            mpp: µm/px, where the file does not say.
            earlier: token of the user's conversation before.
            user: whom the limits are counted for.

        Raises:
            BadInput: the image can't be read, all places are taken, or the user was too fast.
        """
        self.admit(user)
        folder = Path(tempfile.mkdtemp(dir=self._root.name))
        try:
            given = Sample(upload, QUESTIONS) if isinstance(upload, Path) else upload
            picture = picture_of(given.path, mpp or None, folder)
            self._forget(lambda one: one.token == earlier)
            self._forget(lambda one: not one.running and time.monotonic() - one.used > IDLE_S)
            with self._lock:
                self._make_room()
                new = Conversation(folder, self._kit, self._line, picture, given.questions)
                self._known[new.token] = new
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return new

    def admit(self, user: str) -> None:
        """Count what a user opens.

        Raises:
            BadInput: that was too fast.
        """
        self._opened.count(user)

    def ask(self, talk: Conversation, words: str) -> None:
        """Start a turn (`Conversation.say`).

        Raises:
            BadInput: as `Conversation.say`, or that was too fast.
        """
        self._asked.count(talk.token)
        talk.say(words)

    def restrict(self, talk: Conversation, region: Region | None) -> None:
        """Ask on about a part of the image (`Conversation.restrict`).

        Raises:
            BadInput: as `Conversation.restrict`, or that was too fast.
        """
        self._pointed.count(talk.token)
        talk.restrict(region)

    def correct(self, talk: Conversation, correction: Correction) -> None:
        """Keep a correction (`Conversation.correct`).

        Raises:
            BadInput: as `Conversation.correct`, or that was too fast.
        """
        self._pointed.count(talk.token)
        talk.correct(correction, self._corrections)

    def find(self, token: str | None) -> Conversation | None:
        """The conversation of a token, None where there is none, or not any more."""
        found = self._known.get(token) if isinstance(token, str) else None  # it says anything
        if found is not None:
            found.used = time.monotonic()
        return found

    def file(self, token: str, name: str) -> Path | bytes | None:
        """What a conversation has by a name, for `agent.demo.files.route`."""
        found = self.find(token)
        try:
            return None if found is None else found.file(name)
        except BadInput:  # a tile of a damaged slide, or a file whose arrays are gone
            return None

    def close(self) -> None:
        """Delete all conversations, without waiting for the steps that run."""
        for one in self._known.values():
            one.stop()
        self._root.cleanup()

    def _make_room(self) -> None:
        """Where all places are taken, the conversation goes that has been idle longest.

        Under the lock, so that the place is not taken by another before.

        Raises:
            BadInput: a turn runs or waits in every one of them.
        """
        if len(self._known) < MAX_OPEN:
            return
        idle = [one for one in self._known.values() if not one.running]
        if not idle:
            raise BadInput("All places are taken. Please try again later.")
        self._close([min(idle, key=lambda one: one.used)])

    def _forget(self, which: Callable[[Conversation], bool]) -> None:
        with self._lock:
            self._close([one for one in self._known.values() if which(one)])

    def _close(self, gone: list[Conversation]) -> None:
        for one in gone:
            del self._known[one.token]
            # In a thread: closing waits for the step that runs.
            threading.Thread(target=_delete, args=(one,), daemon=True).start()


def _delete(one: Conversation) -> None:
    one.close()
    shutil.rmtree(one.folder, ignore_errors=True)
