"""One conversation of the demo: its turns run in threads of their own, its pages follow.

What is shown lives here and not in the browser, so that a page that is reloaded while a turn runs
goes on where it was, and nothing that a browser sends back is taken for what was said.
"""

from __future__ import annotations

import html
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from agent.demo.drawings import findings, plan_graph
from agent.demo.files import PREFIX, TILE, write_results, write_tiles
from agent.demo.steps import Messages, Steps
from agent.output.writer import GEOJSON_FILE
from agent.record.trace import Listener
from agent.session import Kit, Outcome, Thread
from models.backend import Image
from tools.errors import BadInput
from tools.image import LoadedImage

log = logging.getLogger(__name__)
AFTER_INSTANCES = ("Now box them", "How large are they?")
AFTER_REGION = ("Count the nuclei inside it", "How large is it?")
YES, NO = "Yes, go on", "No, stop"
_MEANT = {YES.lower(): True, NO.lower(): False, "yes": True, "no": False}
_PULSE_S = 15.0
_REST = " The step that was running ends in the background, and what it finds is dropped."


class Stopped(BadInput):
    """The user stopped the turn; raised into it at its next trace event."""


class Conversation:
    """A thread about one image, and what its page shows of it.

    Attributes:
        token: 256 random bits; who has it, has the conversation.
        files: what the conversation's address gives out, by name.
        used: when its user last came, on the monotonic clock.
        folder: everything it has on the disk.
    """

    def __init__(
        self, folder: Path, kit: Kit, loaded: LoadedImage, questions: tuple[str, ...]
    ) -> None:
        """Start a conversation in an empty `folder`, with `questions` that may be clicked."""
        self.token = secrets.token_urlsafe(32)
        self.folder = folder
        self.used = time.monotonic()
        self._kit, self._notes, self._questions = kit, loaded.notes, questions
        self._thread = Thread(folder / "thread", kit, keep=True)
        self._image: Image | None = loaded.image  # until the thread has it
        tiles, levels = write_tiles(loaded.image.rgb, folder / "tiles")
        self.files = {path.name: path for path in tiles}
        height, width = loaded.image.shape
        mpp = loaded.image.mpp
        size = f"{mpp:.3g} µm/px" if mpp else "pixel size not known, so areas are in px"
        label = f"{width} × {height} px, {size}"
        self._viewer: dict[str, Any] = {
            "base": f"{PREFIX}/{self.token}",
            "label": label,
            "width": width,
            "height": height,
            "mpp": mpp,
            "tile": TILE,
            "levels": levels,
            "features": None,
        }
        self._said: Messages = []
        self._findings = ""
        self._steps: Steps | None = None
        self._running: Steps | None = None
        self._changed = threading.Condition()
        self._version = 0
        self._say(f"{label}. What would you like to know?", questions)

    @property
    def running(self) -> bool:
        """Whether a turn is being worked on."""
        return self._running is not None

    def shown(self) -> tuple[Messages, str, dict[str, Any], str]:
        """The chat's messages, the plan's graph, what `viewer.js` is told, the findings."""
        with self._changed:
            live = [] if self._running is None or self._running.ended else self._running.messages()
            chat = [_as_text(message) for message in (*self._said, *live)]
            return chat, plan_graph(self._steps), self._viewer, self._findings

    def say(self, words: str) -> None:
        """Start a turn on the user's words; a yes or no answers an open question.

        Raises:
            BadInput: the last turn is still being worked on.
        """
        go_on = _MEANT.get(words.strip(" .!").lower())
        with self._changed:
            if self._running is not None:
                raise BadInput("The last question is still being worked on: wait, or stop it.")
            if go_on is not None and self._thread.question is None:
                go_on = None
            name = f"turn {len(self._said)}"
            steps = Steps(name) if go_on is None or not self._steps else self._steps.go_on(name)
            self._steps = self._running = steps
            self._said.append({"role": "user", "content": words})
            self._touch()

        def work(listen: Listener) -> Outcome:
            if go_on is None:
                return self._thread.ask(words, self._image, listen)
            return self._thread.answer(go_on, listen)

        threading.Thread(target=self._work, args=(steps, work), daemon=True).start()

    def follow(self) -> Iterator[None]:
        """Yields at once, and then whenever there is something new, until no turn runs.

        Now and then also for nothing: only so does a page that is gone let go of its thread.
        """
        seen = -1
        while True:
            with self._changed:
                if self._version == seen:
                    self._changed.wait(_PULSE_S)
                seen, running = self._version, self.running
            yield
            if not running:
                return

    def stop(self) -> None:
        """Stop the running turn: for the user at once; on Ray its workers are freed too."""
        with self._changed:
            steps, self._running = self._running, None
            if steps is None:
                return
            self._touch()
            if steps.ended:  # only its files were still being written
                return
            freed = self._kit.runtime.stop(self._thread.store)
            steps.end("Stopped")
            self._said += steps.messages()
            rest = "" if freed else _REST
            self._say(f"Stopped. Nothing was answered.{rest}", self._questions)

    def close(self) -> None:
        """Wait for what runs, and let go of the files."""
        self.stop()
        self._thread.close()

    def _work(self, steps: Steps, work: Callable[[Listener], Outcome]) -> None:
        def listen(event: str, data: dict[str, Any], meta: dict[str, Any]) -> None:
            with self._changed:
                if self._running is not steps:
                    raise Stopped("stopped")
                steps.take(event, data, meta)
                self._touch()

        try:
            outcome = work(listen)
            if self._answer(steps, outcome) and outcome.answer["measurements"]:
                self._show(steps, outcome)
        except BadInput as error:
            self._fail(steps, str(error))
        except Exception as fault:  # the page waits for an end, whatever it is
            log.exception("a turn of the demo failed")
            self._fail(steps, f"HistoPilot failed inside ({type(fault).__name__}).")
        with self._changed:
            if self._running is steps:
                self._running = None
                self._touch()

    def _answer(self, steps: Steps, outcome: Outcome) -> bool:
        """Say the answer, unless the user has stopped the turn."""
        answer = outcome.answer
        asks = answer["status"] == "needs_confirmation"
        with self._changed:
            if self._running is not steps:
                return False
            self._image = None
            steps.end(answer["status"].replace("_", " ").capitalize())
            self._said += steps.messages()
            self._say(answer["text"], (YES, NO) if asks else self._next(answer))
        return True

    def _show(self, steps: Steps, outcome: Outcome) -> None:
        """Write the answer's files, and show its layers and figures."""
        name = f"{outcome.trace.name}-{len(self._said)}"
        paths, features = write_results(outcome, self.folder / name, self._notes)
        base = f"{self._viewer['base']}/{name}"
        links = {what: f"{base}/{path.name}" for what, path in paths.items()}
        drawn = findings(outcome.answer, steps.calls, features, links)
        with self._changed:
            self.files |= {f"{name}/{path.name}": path for path in paths.values()}
            if self._running is steps:
                self._findings = drawn
                self._viewer = {**self._viewer, "features": f"{name}/{GEOJSON_FILE}"}

    def _fail(self, steps: Steps, text: str) -> None:
        with self._changed:
            if self._running is not steps:
                return
            if not steps.ended:
                steps.end("Failed")
                self._said += steps.messages()
            self._say(text, self._questions)

    def _next(self, answer: dict[str, Any]) -> tuple[str, ...]:
        """What one may well ask after an answer."""
        kinds = [mask["kind"] for mask in answer["masks"] if mask["count"]]
        if not kinds:
            return self._questions
        return AFTER_INSTANCES if "instance" in kinds else AFTER_REGION

    def _say(self, text: str, options: tuple[str, ...]) -> None:
        clicks = [{"value": option, "label": option} for option in options]
        self._said.append({"role": "assistant", "content": text, "options": clicks})
        self._touch()

    def _touch(self) -> None:
        with self._changed:
            self._version += 1
            self._changed.notify_all()


def _as_text(message: dict[str, Any]) -> dict[str, Any]:
    """A message that the chat shows as it is: it would take markup for markup."""
    shown = {**message, "content": html.escape(message["content"])}
    if "metadata" in message:
        title = html.escape(message["metadata"]["title"])
        shown["metadata"] = {**message["metadata"], "title": title}
    return shown
