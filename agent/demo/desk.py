"""The conversations of one server, each known by its token alone.

One is deleted when it has been idle for `IDLE_S`, when its user opens another image, and when the
server stops.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from agent.demo.conversation import Conversation
from agent.samples import sample_path
from agent.session import Kit
from tools.errors import BadInput
from tools.image import read_image

MAX_OPEN = 64
MAX_PIXELS = 50_000_000
IDLE_S = 1800.0
SAMPLE_QUESTIONS = (
    "Count the nuclei inside the epidermis",
    "What percentage of the tissue is dermis?",
    "Count the nuclei",
)
QUESTIONS = ("Count the nuclei", "Outline the tissue", "Count the lymphocytes")


class Desk:
    """Opens, finds and deletes conversations."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._root = tempfile.TemporaryDirectory(
            prefix="histopilot-demo-", ignore_cleanup_errors=True
        )
        self._known: dict[str, Conversation] = {}
        self._lock = threading.Lock()

    def open(self, upload: Path | None, mpp: float | None, earlier: str | None) -> Conversation:
        """Start a conversation about an uploaded file (None: the sample), in place of `earlier`.

        Raises:
            BadInput: the image can't be read, or all places are taken.
        """
        path = sample_path() if upload is None else upload
        try:
            loaded = read_image(path, mpp=mpp or None, max_pixels=MAX_PIXELS)
        except BadInput as error:  # a page has no options of the command line to recommend
            raise BadInput(str(error).partition(": use --")[0].removeprefix("--mpp ")) from None
        self._forget(lambda one: one.token == earlier)
        self._forget(lambda one: not one.running and time.monotonic() - one.used > IDLE_S)
        with self._lock:
            if len(self._known) >= MAX_OPEN:
                raise BadInput("All places are taken. Please try again later.")
            folder = Path(tempfile.mkdtemp(dir=self._root.name))
            questions = SAMPLE_QUESTIONS if upload is None else QUESTIONS
            new = Conversation(folder, self._kit, loaded, questions)
            self._known[new.token] = new
        return new

    def find(self, token: str | None) -> Conversation | None:
        """The conversation of a token, None where there is none, or not any more."""
        found = self._known.get(token or "")
        if found is not None:
            found.used = time.monotonic()
        return found

    def file(self, token: str, name: str) -> Path | None:
        """A file of a conversation by its name, for `agent.demo.files.route`."""
        found = self.find(token)
        return None if found is None else found.files.get(name)

    def close(self) -> None:
        """Delete all conversations, without waiting for the steps that run."""
        for one in self._known.values():
            one.stop()
        self._root.cleanup()

    def _forget(self, which: Callable[[Conversation], bool]) -> None:
        with self._lock:
            gone = [one for one in self._known.values() if which(one)]
            for one in gone:
                del self._known[one.token]
        for one in gone:  # closing waits for the step that runs
            threading.Thread(target=_delete, args=(one,), daemon=True).start()


def _delete(one: Conversation) -> None:
    one.close()
    shutil.rmtree(one.folder, ignore_errors=True)
