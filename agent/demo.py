"""`histopilot demo`: a chat about an image, on the same threads as the command line.

Each browser session has a thread of its own in a temporary folder, which goes when the session
ends. No path and no URL is ever taken from a user: an image arrives as an upload.
"""

from __future__ import annotations

import html
import logging
import queue
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image as PillowImage

from agent.commands import make_runtime
from agent.output.overlay import render
from agent.output.writer import boxes_of, layers_of
from agent.plan import Plan
from agent.planners import load as load_planner
from agent.progress import call_in_words
from agent.samples import sample_path
from agent.session import Kit, Outcome, Thread
from models.backend import Image
from tools.errors import BadInput
from tools.image import read_image

MAX_UPLOAD = "200mb"
MAX_SESSIONS = 64
log = logging.getLogger(__name__)
NOTICE = "For research. Not a medical device."
EXAMPLES = (
    "Count the nuclei inside the epidermis",
    "What percentage of the tissue is dermis?",
    "Now box them",
)
Messages = list[dict[str, Any]]
Update = tuple[Messages, Any, Any]


class Desk:
    """The sessions of one server: who talks about which image."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._root = tempfile.TemporaryDirectory(prefix="histopilot-demo-")
        self._threads: dict[str, Thread] = {}
        self._images: dict[str, Image] = {}

    def open(self, session: str, upload: str | None, mpp: float | None) -> PillowImage.Image:
        """Start a new thread on an uploaded file (None: the sample) and give its picture.

        Raises:
            gr.Error: the image can't be read; the message is the one line for the user.
        """
        path = sample_path() if upload is None else Path(upload)
        try:
            loaded = read_image(path, mpp=mpp or None)
        except BadInput as error:
            raise _told(html.escape(str(error))) from None
        self.close(session)
        if len(self._threads) >= MAX_SESSIONS:
            raise _told("All places are taken. Please try again later.")
        folder = Path(tempfile.mkdtemp(dir=self._root.name))
        self._threads[session] = Thread(folder, self._kit, keep=True)
        self._images[session] = loaded.image
        return render(loaded.image, [], [], caption=None)

    def talk(self, session: str, words: str, messages: Messages) -> Iterator[Update]:
        """One turn, step by step: messages, the overlay once it is there, the yes/no buttons."""
        thread = self._threads.get(session)
        if thread is None:
            raise _told("Upload an image or take the sample first.")
        image = self._images[session]
        messages = [*messages, {"role": "user", "content": html.escape(words)}]
        yield messages, gr.skip(), gr.update(visible=False)
        yield from _steps(messages, lambda listen: thread.ask(words, image, listen))

    def decide(self, session: str, go_on: bool, messages: Messages) -> Iterator[Update]:
        """The user's answer to the guard's question."""
        thread = self._threads.get(session)
        if thread is None or thread.question is None:
            raise _told("There is no open question.")
        messages = [*messages, {"role": "user", "content": "Yes" if go_on else "No"}]
        yield from _steps(messages, lambda listen: thread.answer(go_on, listen))

    def close(self, session: str) -> None:
        """Forget a session and delete its files."""
        self._images.pop(session, None)
        thread = self._threads.pop(session, None)
        if thread is not None:
            thread.close()
            shutil.rmtree(thread.folder, ignore_errors=True)


def build(desk: Desk) -> gr.Blocks:
    """The page."""
    page: gr.Blocks = gr.Blocks(
        title="HistoPilot", analytics_enabled=False, fill_width=True, delete_cache=(3600, 86400)
    )
    with page:
        gr.Markdown(f"# HistoPilot\nAsk an H&E image a question in words. *{NOTICE}*")
        with gr.Row():
            with gr.Column(scale=2):
                chat = gr.Chatbot(height=560, label="Conversation", feedback_options=None)
                with gr.Row(visible=False) as doubt:
                    yes = gr.Button("Yes, go on", variant="primary")
                    no = gr.Button("No, stop")
                words = gr.Textbox(label="Instruction", submit_btn=True, max_length=4000)
                gr.Examples([[text] for text in EXAMPLES], inputs=[words])
            with gr.Column(scale=3):
                view = gr.Image(label="Image", interactive=False, format="png", height=640)
                with gr.Row():
                    upload = gr.File(label="Image file (PNG, JPEG, TIFF, SVS …)", height=120)
                    mpp = gr.Number(label="µm per pixel (if the file does not say)", value=None)
                    sample = gr.Button("Use the sample (skin)")

        hidden = gr.update(visible=False)

        def start(file: str | None, size: float | None, request: gr.Request) -> Any:
            return desk.open(str(request.session_hash), file, size), [], hidden

        def start_sample(request: gr.Request) -> Any:
            return desk.open(str(request.session_hash), None, None), [], hidden

        def say(text: str, past: Messages, request: gr.Request) -> Iterator[Update]:
            yield from desk.talk(str(request.session_hash), text, past)

        def answer_yes(past: Messages, request: gr.Request) -> Iterator[Update]:
            yield from desk.decide(str(request.session_hash), True, past)

        def answer_no(past: Messages, request: gr.Request) -> Iterator[Update]:
            yield from desk.decide(str(request.session_hash), False, past)

        def leave(request: gr.Request) -> None:
            desk.close(str(request.session_hash))

        turn: dict[str, Any] = {
            "outputs": [chat, view, doubt],
            "concurrency_id": "turn",
            "concurrency_limit": 2,
        }
        upload.upload(start, [upload, mpp], [view, chat, doubt])
        sample.click(start_sample, None, [view, chat, doubt])
        words.submit(say, [words, chat], **turn).then(lambda: "", None, words)
        yes.click(answer_yes, [chat], **turn)
        no.click(answer_no, [chat], **turn)
        page.unload(leave)
    return page


def launch(host: str, port: int, planner: str, runtime: str) -> None:
    """Load the planner and the tools, and serve the page until it is stopped."""
    kit = Kit(load_planner(planner), make_runtime(runtime))
    try:
        build(Desk(kit)).queue(max_size=64).launch(
            server_name=host,
            server_port=port,
            max_file_size=MAX_UPLOAD,
            run_history=False,
            share=False,
        )
    finally:
        kit.runtime.close()


def _steps(messages: Messages, turn: Any) -> Iterator[Update]:
    events: queue.Queue[Any] = queue.Queue()
    worker = threading.Thread(target=_worker, args=(turn, events), daemon=True)
    worker.start()
    while True:
        event = events.get()
        if isinstance(event, Outcome):
            break
        if isinstance(event, Exception):
            messages = [*messages, _said(str(event))]
            yield messages, gr.skip(), gr.update(visible=False)
            return
        step = _step(*event)
        if step is not None:
            messages = [*messages, step]
            yield messages, gr.skip(), gr.update(visible=False)
    answer = event.answer
    messages = [*messages, _said(answer["text"])]
    picture: Any = gr.skip()
    if answer["masks"] or answer["boxes"]:
        picture = render(event.image, layers_of(event), boxes_of(event), caption=None)
    asks = answer["status"] == "needs_confirmation"
    yield messages, picture, gr.update(visible=asks)


def _told(text: str) -> gr.Error:
    """An error that is the user's to mend: shown to them, not logged as a fault."""
    return gr.Error(text, print_exception=False)


def _worker(turn: Any, events: queue.Queue[Any]) -> None:
    try:
        events.put(turn(lambda event, data, meta: events.put((event, data, meta))))
    except Exception as error:  # the page waits for an end, whatever it is
        log.exception("a turn of the demo failed")
        events.put(error)


def _said(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": html.escape(text)}


def _step(event: str, data: dict[str, Any], meta: dict[str, Any]) -> dict[str, Any] | None:
    """A trace event as a step in the chat, None for those that are of no interest there."""
    if event == "plan.end" and data["plan"] is not None:
        calls = Plan.model_validate(data["plan"]).numbered()
        lines = [f"{ref} {call_in_words(call.tool, call.args)}" for ref, call in calls.items()]
        return _thought("Plan", "\n".join(lines), meta["seconds"])
    if event == "call.end":
        error = data["error"]
        body = error["message"] if error else call_in_words(data["tool"], data["args"])
        return _thought(f"{data['call']} {data['tool']}", body, meta["seconds"])
    return None


def _thought(title: str, body: str, seconds: float) -> dict[str, Any]:
    return {
        "role": "assistant",
        "content": f"<pre>{html.escape(body)}</pre>",
        "metadata": {"title": title, "duration": round(seconds, 2), "status": "done"},
    }
