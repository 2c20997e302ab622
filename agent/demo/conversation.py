"""One conversation of the demo: its turns run in threads of their own, its pages follow.

What is shown lives here and not in the browser, so that a page that is reloaded while a turn runs
goes on where it was, and nothing that a browser sends back is taken for what was said.
"""

from __future__ import annotations

import logging
import math
import re
import secrets
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from agent.demo.audience import Audience
from agent.demo.corrections import Correction
from agent.demo.drawings import plan_graph
from agent.demo.files import PREFIX, Offer
from agent.demo.line import Line, Turn
from agent.demo.picture import MAX_PIXELS, TILE, Picture, Region, levels_of, tile_of
from agent.demo.regions import Regions
from agent.demo.result import Result
from agent.demo.sketch import Sketch
from agent.demo.steps import Messages, Steps, as_text
from agent.session import Kit, Outcome, Thread, checked_instruction
from tools.errors import BadInput

log = logging.getLogger(__name__)
AFTER_INSTANCES = ("Now box them", "How large are they?")
AFTER_REGION = ("Count the nuclei inside it", "How large is it?")
YES, NO = "Yes, go on", "No, stop"
_MEANT = {YES.lower(): True, NO.lower(): False, "yes": True, "no": False}
_TILE_NAME = re.compile(r"tile-(\d{1,2})-(\d{1,5})-(\d{1,5})\.jpg", re.ASCII)
_REST = " The step that was running ends in the background, and what it finds is dropped."


class Stopped(BadInput):
    """The user stopped the turn; raised into it at its next trace event."""


class Conversation:
    """A thread about one image, and what its page shows of it.

    Attributes:
        token: 256 random bits; who has it, has the conversation.
        files: what the conversation's address gives out beside tiles, by name.
        asked: the words of what was answered, by the folder of the turn's trace.
        used: when its user last came, on the monotonic clock.
        folder: everything it has on the disk.
    """

    def __init__(
        self, folder: Path, kit: Kit, line: Line, picture: Picture, questions: tuple[str, ...]
    ) -> None:
        """Start a conversation about the `picture` in `folder`.

        `questions` are those that may be clicked.
        """
        self.token = secrets.token_urlsafe(32)
        self.folder = folder
        self.files: dict[str, Offer] = {}
        self.asked: dict[Path, str] = {}
        self.used = time.monotonic()
        self._kit, self._line = kit, line
        self._picture, self._questions = picture, questions
        self._regions = Regions(folder, kit, picture)
        height, width = picture.shape
        mpp = picture.mpp
        size = f"{mpp:.3g} µm/px" if mpp else "pixel size not known, so areas are in px"
        label = f"{width} × {height} px, {size}"
        self._viewer: dict[str, Any] = {
            "base": f"{PREFIX}/{self.token}",
            "label": label,
            "width": width,
            "height": height,
            "mpp": mpp,
            "tile": TILE,
            "levels": levels_of(picture),
            "features": None,
            "region": None,
            "noted": [],
        }
        self._said: Messages = []
        self._result: Result | None = None
        self._steps: Steps | None = None
        self._running: Steps | None = None
        self._turn: Turn | None = None
        self._audience = Audience()
        self._changed = self._audience.changed
        hint = ""
        if math.prod(picture.shape) > MAX_PIXELS:
            hint = " It is large: drag a region (▭) to ask about it in full detail."
        self._say(f"{label}.{hint} What would you like to know?", questions)

    @property
    def running(self) -> bool:
        """Whether a turn is being worked on, or waits to be."""
        return self._running is not None

    def shown(self) -> tuple[Messages, str, dict[str, Any], str]:
        """The chat's messages, the plan's graph, what `viewer.js` is told, the findings."""
        with self._changed:
            live: Messages = []
            if self._running is not None and not self._running.ended:
                ahead = self._line.ahead(self._turn) if self._turn else None
                live = self._running.messages(ahead)
            chat = [as_text(message) for message in (*self._said, *live)]
            found = self._result.findings(self._viewer["base"]) if self._result else ""
            return chat, plan_graph(self._steps), self._viewer, found

    def file(self, name: str) -> Path | bytes | None:
        """What its address gives out by a name: a file or a tile, None where there is neither.

        Raises:
            BadInput: it can't be made.
        """
        tile = _TILE_NAME.fullmatch(name)
        if tile:
            return tile_of(self._picture, *map(int, tile.groups()))
        return self.files[name].file() if name in self.files else None

    def told(self) -> dict[str, Any]:
        """For a program what the last turn came to: `result.json` where something was measured."""
        with self._changed:
            ended = (self._steps and self._steps.ended) or "Failed"
            status, text = ended.lower().replace(" ", "_"), self._said[-1]["content"]
            answer: dict[str, Any] = {"status": status, "text": text, "files": {}}
            if self._result and self._steps and self._result.calls is self._steps.calls:
                answer = self._result.told(self._viewer["base"])
            return {"conversation": self.token, **answer}

    def say(self, words: str) -> None:
        """Start a turn on the user's words; a yes or no answers an open question.

        Raises:
            BadInput: they can't be an instruction, or the last turn is still being worked on.
        """
        words = checked_instruction(words)
        go_on = _MEANT.get(words.strip(" .!").lower())
        with self._changed:
            self._free()
            thread = self._regions.thread()
            if go_on is not None and thread.question is None:
                go_on = None
            name = f"turn {len(self._said)}"
            steps = Steps(name) if go_on is None or not self._steps else self._steps.go_on(name)
            self._steps = self._running = steps
            self._said.append({"role": "user", "content": words})
            work = partial(self._work, steps, thread, words, go_on)
            self._turn = turn = Turn(self, work, self._audience.touch)
            self._audience.touch()
        try:
            self._line.join(turn)
        except BadInput as full:
            self._fail(steps, str(full))
            self._end(steps)

    def restrict(self, region: Region | None) -> None:
        """Ask on about a part of the image alone, None: about all of it.

        Raises:
            BadInput: it is none, or a turn is being worked on.
        """
        with self._changed:
            self._free()
            said = self._regions.choose(region)
            self._viewer = {**self._viewer, "region": self._regions.chosen}
            self._say(said, self._questions)

    def correct(self, correction: Correction, shared: Path | None) -> None:
        """Keep what the user says of a nucleus, also below `shared` where that is given.

        Raises:
            BadInput: it can't be of anything that is shown.
        """
        with self._changed:
            self._free()  # what is shown may be of the turn that runs
            if self._result is None:
                raise BadInput("There is nothing to correct.")
            self._result.correct(correction, shared)
            self.files |= self._result.files
            self._viewer = {**self._viewer, "noted": list(self._result.noted)}
            self._audience.touch()

    def follow(self) -> Iterator[None]:
        """Yields at once, and then whenever there is something new, until no turn runs."""
        return self._audience.follow(lambda: self.running)

    def stop(self) -> None:
        """Stop the turn that runs or waits: for the user at once; on Ray its workers are freed too.

        Its place in the line is free once what it computes has ended.
        """
        with self._changed:
            steps, self._running = self._running, None
            if steps is None or self._turn is None:
                return
            self._audience.touch()
            if steps.ended:  # only its files were still being written
                return
            self._settle()
            steps.end("Stopped")
            self._said += steps.messages()
            turn, store = self._turn, self._regions.thread().store
        # Outside the lock: leaving moves others in the line, whose locks are held by their own.
        freed = self._line.leave(turn) or self._kit.runtime.stop(store)
        self._say(f"Stopped. Nothing was answered.{'' if freed else _REST}", self._questions)

    def close(self) -> None:
        """Wait for what runs, and let go of the files."""
        self.stop()
        self._regions.close()

    def _free(self) -> None:
        if self._running is not None:
            raise BadInput("The last question is still being worked on: wait, or stop it.")

    def _work(self, steps: Steps, thread: Thread, words: str, go_on: bool | None) -> None:
        sketch = Sketch(thread.store, self.folder, f"sketch-{len(self._said)}")

        def listen(event: str, data: dict[str, Any], meta: dict[str, Any]) -> None:
            drawn = sketch.take(event, data)
            with self._changed:
                if self._running is not steps:
                    raise Stopped("stopped")
                steps.take(event, data, meta)
                if drawn is not None:
                    self.files[drawn.name] = Offer(drawn)
                    self._viewer = {**self._viewer, "features": drawn.name, "noted": []}
                self._audience.touch()

        self._audience.touch()
        try:
            if go_on is None:
                outcome = self._regions.ask(thread, words, listen)
            else:
                outcome = thread.answer(go_on, listen)
            if self._answer(steps, words, outcome) and outcome.answer["measurements"]:
                self._show(steps, outcome)
        except BadInput as error:
            self._fail(steps, str(error))
        except Exception as fault:  # the page waits for an end, whatever it is
            log.exception("a turn of the demo failed")
            self._fail(steps, f"HistoPilot failed inside ({type(fault).__name__}).")
        thread.store.forget()
        self._end(steps)

    def _answer(self, steps: Steps, words: str, outcome: Outcome) -> bool:
        """Say the answer, unless the user has stopped the turn."""
        answer = outcome.answer
        asks = answer["status"] == "needs_confirmation"
        with self._changed:
            if self._running is not steps:
                return False
            self.asked.setdefault(outcome.trace, words)  # a yes goes on with the same turn
            steps.end(answer["status"].replace("_", " ").capitalize())
            self._said += steps.messages()
            self._say(answer["text"], (YES, NO) if asks else self._next(answer))
        return True

    def _show(self, steps: Steps, outcome: Outcome) -> None:
        """Write the answer's files, and show its layers and figures."""
        folder = self.folder / f"{outcome.trace.name}-{len(self._said)}"
        result = Result(outcome, steps.calls, folder, self._picture.notes)
        with self._changed:
            self.files |= result.files
            if self._running is steps:
                self._result = result

    def _fail(self, steps: Steps, text: str) -> None:
        with self._changed:
            if self._running is not steps:
                return
            if not steps.ended:
                steps.end("Failed")
                self._said += steps.messages()
            self._say(text, self._questions)

    def _end(self, steps: Steps) -> None:
        with self._changed:
            if self._running is steps:
                self._settle()
                self._running = None
                self._audience.touch()

    def _settle(self) -> None:
        """Show what the last answer found, in place of what a turn has sketched."""
        result = self._result
        features, noted = (result.features, list(result.noted)) if result else (None, [])
        self._viewer = {**self._viewer, "features": features, "noted": noted}

    def _next(self, answer: dict[str, Any]) -> tuple[str, ...]:
        """What one may well ask after an answer."""
        kinds = [mask["kind"] for mask in answer["masks"] if mask["count"]]
        if not kinds:
            return self._questions
        return AFTER_INSTANCES if "instance" in kinds else AFTER_REGION

    def _say(self, text: str, options: tuple[str, ...]) -> None:
        clicks = [{"value": option, "label": option} for option in options]
        with self._changed:
            self._said.append({"role": "assistant", "content": text, "options": clicks})
            self._audience.touch()
