"""`histopilot demo`: the page, and serving it.

No path and no URL is ever taken from a user: an image arrives as an upload, is read and deleted.
Of a browser only words, a click, a pixel size and its conversation's token are taken; what a page
shows is kept by the server.
"""

from __future__ import annotations

import html
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import gradio as gr

from agent.commands import make_runtime
from agent.demo.conversation import Conversation
from agent.demo.desk import MAX_OPEN, Desk
from agent.demo.files import route
from agent.planners import load as load_planner
from agent.session import MAX_INSTRUCTION_CHARS, Kit
from tools.errors import BadInput

MAX_UPLOAD = "200mb"
WORKERS = 2
NOTICE = "For research. Not a medical device."
_EMPTY = "Drop an H&E image below, or take the sample."
_FONT = ["system-ui", "sans-serif"]
Page = tuple[Any, ...]


@dataclass(frozen=True)
class _Parts:
    """The parts of the page that something happens at."""

    token: Any
    chat: Any
    words: Any
    stop: Any
    sample: Any
    mpp: Any
    upload: Any
    plan: Any
    viewer: Any
    found: Any

    def shown(self) -> list[Any]:
        """Those that `_page` fills."""
        return [self.chat, self.plan, self.viewer, self.found, self.words, self.stop]


def build(desk: Desk) -> gr.Blocks:
    """The page: the conversation on the left, the image and what was found on the right."""
    page: gr.Blocks = gr.Blocks(
        title="HistoPilot", analytics_enabled=False, fill_width=True, delete_cache=(3600, 86400)
    )
    with page:
        parts = _layout()
        _talking(page, desk, parts)
        _opening(desk, parts)
    return page


def _layout() -> _Parts:
    token = gr.BrowserState(None, storage_key="histopilot")
    gr.Markdown(f"# HistoPilot\nAsk an H&E image a question in words. **{NOTICE}**")
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            chat = gr.Chatbot(
                label="Conversation",
                height="58vh",
                placeholder=_EMPTY,
                render_markdown=False,
                feedback_options=None,
                buttons=[],
                elem_classes="hp-chat",
            )
            words = gr.Textbox(
                label="Instruction",
                placeholder="Count the nuclei inside …",
                submit_btn="Ask",
                max_length=MAX_INSTRUCTION_CHARS,
            )
            stop = gr.Button("Stop", variant="stop", visible=False)
            upload: Any = gr.File(label="Image: PNG, JPEG, TIFF, SVS …", height=130)
            upload.async_move_resource_to_block_cache = _uploads_only(upload)
            with gr.Row():
                mpp = gr.Number(
                    label="µm per pixel, where the file does not say", placeholder="e.g. 0.25"
                )
                sample = gr.Button("Use the sample (skin)")
        with gr.Column(scale=3, min_width=320):
            plan = gr.HTML(label="Plan")
            viewer = gr.HTML(
                {},
                label="Image",
                html_template=_asset("viewer.html"),
                js_on_load=_asset("viewer.js"),
                apply_default_css=False,
            )
            found = gr.HTML(label="Findings", apply_default_css=False)
    return _Parts(token, chat, words, stop, sample, mpp, upload, plan, viewer, found)


def _talking(page: gr.Blocks, desk: Desk, parts: _Parts) -> None:
    def say(text: str, key: str | None) -> Iterator[Page]:
        talk = _found(desk, key)
        with _told():
            talk.say(text)
        yield from (_page(talk) for _ in talk.follow())

    def choose(key: str | None, click: gr.SelectData) -> Iterator[Page]:
        yield from say(str(click.value), key)

    def halt(key: str | None) -> Page:
        talk = _found(desk, key)
        talk.stop()
        return _page(talk)

    def resume(key: str | None) -> Iterator[Page]:
        talk = desk.find(key)
        if talk is not None:
            yield from (_page(talk) for _ in talk.follow())

    shown = parts.shown()
    turn: dict[str, Any] = {
        "outputs": shown,
        "concurrency_id": "turn",
        "concurrency_limit": WORKERS,
        "show_progress_on": parts.chat,
    }
    parts.words.submit(say, [parts.words, parts.token], **turn)
    parts.chat.option_select(choose, parts.token, **turn)
    parts.stop.click(halt, parts.token, shown, queue=False)
    page.load(resume, parts.token, shown, show_progress="hidden", concurrency_limit=16)


def _opening(desk: Desk, parts: _Parts) -> None:
    def start(file: str | None, size: float | None, earlier: str | None) -> Page:
        try:
            with _told():
                opened = desk.open(Path(file) if file else None, size, earlier)
        finally:
            if file:
                Path(file).unlink(missing_ok=True)
        return opened.token, None, *_page(opened)

    def start_sample(earlier: str | None) -> Page:
        return start(None, None, earlier)

    event: dict[str, Any] = {
        "outputs": [parts.token, parts.upload, *parts.shown()],
        "concurrency_id": "open",
        "concurrency_limit": WORKERS,
        "show_progress_on": parts.viewer,
    }
    parts.upload.upload(start, [parts.upload, parts.mpp, parts.token], **event)
    parts.sample.click(start_sample, parts.token, **event)


def serve(desk: Desk, host: str, port: int | None, **options: Any) -> tuple[gr.Blocks, str]:
    """Serve the page of a desk.

    Args:
        desk: whose sessions are served.
        host: address to listen on.
        port: None takes a free one.
        options: further ones of `gradio.Blocks.launch`.

    Returns:
        The page and its address, once it is stopped (at once with `prevent_thread_lock`).
    """
    page = build(desk).queue(max_size=MAX_OPEN, api_open=False)
    _, url, _ = page.launch(
        server_name=host,
        server_port=port,
        app_kwargs={"routes": [route(desk.file)]},
        max_file_size=MAX_UPLOAD,
        run_history=False,
        share=False,
        ssr_mode=False,
        strict_cors=True,
        footer_links=["settings"],
        theme=gr.themes.Default(primary_hue="violet", font=_FONT, font_mono=["monospace"]),
        css=_asset("page.css"),
        **options,
    )
    return page, url


def launch(host: str, port: int, planner: str, runtime: str, auth: str | None) -> None:
    """Load the planner and the tools, and serve the page until it is stopped.

    Args:
        host: address to listen on.
        port: to listen on.
        planner: its name.
        runtime: its name.
        auth: `USER:PASSWORD_FILE`, None where anybody who reaches the page may use it.

    Raises:
        BadInput: the planner, the runtime or `auth` can't be used.
    """
    login = None if auth is None else account(auth)
    kit = Kit(load_planner(planner), make_runtime(runtime))
    desk = Desk(kit)
    try:
        serve(desk, host, port, auth=login, auth_message=NOTICE)
    finally:
        desk.close()
        kit.runtime.close()


def account(auth: str) -> tuple[str, str]:
    """The user and the password of `USER:PASSWORD_FILE`; a password is no argument of a command.

    Raises:
        BadInput: it is not that, or the file is empty or can't be read.
    """
    user, _, file = auth.partition(":")
    if not user or not file:
        raise BadInput("--auth is USER:PASSWORD_FILE")
    try:
        password = Path(file).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the password file of --auth can't be read ({error})") from error
    if not password:
        raise BadInput("the password file of --auth is empty")
    return user, password


@contextmanager
def _told() -> Iterator[None]:
    """Bad input is shown to its user, as text; it is not logged as a fault."""
    try:
        yield
    except BadInput as error:
        raise gr.Error(html.escape(str(error)), print_exception=False) from None


def _uploads_only(upload: Any) -> Callable[[Any], Awaitable[str | None]]:
    """Gradio fetches a URL that is sent in an upload's place; this takes uploads alone."""
    move = upload.async_move_resource_to_block_cache

    async def moved(path: Any) -> str | None:
        if "://" in str(path):
            raise gr.Error("Only uploaded files are read.", print_exception=False)
        kept: str | None = await move(path)
        return kept

    return moved


def _found(desk: Desk, token: str | None) -> Conversation:
    talk = desk.find(token)
    if talk is None:
        raise gr.Error("Upload an image or take the sample first.", print_exception=False)
    return talk


def _page(talk: Conversation) -> Page:
    """What the page shows of a conversation, as the outputs of its events."""
    return *talk.shown(), gr.update(value=""), gr.update(visible=talk.running)


def _asset(name: str) -> str:
    return (files("agent.demo") / "assets" / name).read_text("utf-8")
