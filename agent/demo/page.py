"""The page: its parts, and what happens at each of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from agent.demo.api import publish
from agent.demo.conversation import Conversation
from agent.demo.corrections import Correction
from agent.demo.desk import SAMPLES, Desk, Sample
from agent.demo.files import asset
from agent.demo.guests import found, number_of, told, user_of
from agent.demo.regions import region_of
from agent.demo.replay import replay_page
from agent.session import MAX_INSTRUCTION_CHARS
from models.ontology import concepts

NOTICE = "For research. Not a medical device."
KEPT_S = 600
"""How long an upload is kept. Gradio names it by its content, so two users may share one."""
_DECODERS = 2
_EMPTY = "Open an image or a sample. Then ask about it, in your own words."
Page = tuple[Any, ...]


@dataclass(frozen=True)
class _Parts:
    """The parts of the page that something happens at."""

    token: Any
    chat: Any
    words: Any
    stop: Any
    source: Any
    samples: list[Any]
    mpp: Any
    upload: Any
    plan: Any
    viewer: Any
    findings: Any

    def shown(self) -> list[Any]:
        """Those that `_page` fills."""
        return [self.chat, self.plan, self.viewer, self.findings, self.words, self.stop]


def build(desk: Desk) -> gr.Blocks:
    """The page: the conversation on the left, the image and what was found on the right."""
    page: gr.Blocks = gr.Blocks(
        title="HistoPilot", analytics_enabled=False, fill_width=True, delete_cache=(60, KEPT_S)
    )
    with page:
        token = gr.BrowserState(None, storage_key="histopilot")
        kept = " Corrections, and the images they are of, are kept." if desk.collects else ""
        gr.Markdown(
            f"# HistoPilot\nAsk an H&E image a question in words. **{NOTICE}**{kept}",
            elem_classes="hp-head",
        )
        with gr.Tab("Ask"):
            parts = _layout(token)
        _talking(page, desk, parts)
        _opening(desk, parts)
        _pointing(desk, parts)
        with gr.Tab("Replay") as tab:
            replay_page(desk, token, tab)
        publish(desk)
    everything: Iterable[Any] = page.blocks.values()
    for part in everything:
        part.async_move_resource_to_block_cache = _uploads_only(part)
    return page


def _layout(token: gr.BrowserState) -> _Parts:
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            with gr.Accordion("Image") as source, gr.Row():
                upload = gr.File(label="PNG, JPEG, TIFF, SVS …", height=172, scale=3, min_width=170)
                with gr.Column(scale=2, min_width=150):
                    samples = [gr.Button(f"Sample: {name}", size="sm") for name in SAMPLES]
                    mpp = gr.Textbox(
                        label="µm per pixel", placeholder="where the file does not say"
                    )
            chat = gr.Chatbot(
                label="Conversation",
                show_label=False,
                height="calc(100vh - 490px)",
                min_height=320,
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
        with gr.Column(scale=3, min_width=320):
            plan = gr.HTML(label="Plan", elem_classes="hp-plans")
            types = "".join(f"<option>{cell.name}</option>" for cell in concepts("cell"))
            viewer = gr.HTML(
                {},
                label="Image",
                html_template=asset("viewer.html").replace("TYPES", types),
                js_on_load=asset("viewer.js") + asset("hands.js"),
                apply_default_css=False,
            )
            findings = gr.HTML(label="Findings", apply_default_css=False)
    return _Parts(token, chat, words, stop, source, samples, mpp, upload, plan, viewer, findings)


def _talking(page: gr.Blocks, desk: Desk, parts: _Parts) -> None:
    def say(text: str, key: str | None) -> Iterator[Page]:
        talk = found(desk, key)
        with told():
            desk.ask(talk, text)
        yield from (_page(talk) for _ in talk.follow())

    def choose(key: str | None, click: gr.SelectData) -> Iterator[Page]:
        yield from say(str(click.value), key)

    def halt(key: str | None) -> Page:
        talk = found(desk, key)
        talk.stop()
        return _page(talk)

    def resume(key: str | None) -> Iterator[Page]:
        talk = desk.find(key)
        if talk is not None:
            yield from ((gr.update(open=False), *_page(talk)) for _ in talk.follow())

    shown = parts.shown()
    # No limit here: turns wait in the desk's line, where a stopped one still counts until it ends.
    turn: dict[str, Any] = {
        "outputs": shown,
        "concurrency_limit": None,
        "show_progress_on": parts.chat,
        "api_visibility": "undocumented",
    }
    parts.words.submit(say, [parts.words, parts.token], **turn)
    parts.chat.option_select(choose, parts.token, **turn)
    parts.stop.click(halt, parts.token, shown, queue=False, api_visibility="undocumented")
    back = {"outputs": [parts.source, *shown], "show_progress": "hidden"}
    page.load(resume, parts.token, **{**turn, **back})


def _opening(desk: Desk, parts: _Parts) -> None:
    def start(file: str, size: str, earlier: str | None, request: gr.Request) -> Page:
        with told():
            return begun(Path(file), number_of(size), earlier, request)

    def start_sample(name: str, earlier: str | None, request: gr.Request) -> Page:
        sample = SAMPLES.get(name.removeprefix("Sample: "), SAMPLES["Skin, H&E"])
        return begun(sample, None, earlier, request)

    def begun(
        image: Path | Sample, size: float | None, earlier: str | None, request: gr.Request
    ) -> Page:
        with told():
            opened = desk.open(image, size, earlier, user_of(request))
        return opened.token, None, gr.update(open=False), *_page(opened)

    event: dict[str, Any] = {
        "outputs": [parts.token, parts.upload, parts.source, *parts.shown()],
        "concurrency_id": "open",
        "concurrency_limit": _DECODERS,
        "show_progress_on": parts.viewer,
        "api_visibility": "undocumented",
    }
    opened = parts.upload.upload(start, [parts.upload, parts.mpp, parts.token], **event)
    empty: dict[str, Any] = {"queue": False, "api_visibility": "undocumented"}
    opened.failure(lambda: None, None, parts.upload, **empty)  # so that another can be dropped
    for sample in parts.samples:
        sample.click(start_sample, [sample, parts.token], **event)


def _pointing(desk: Desk, parts: _Parts) -> None:
    def restrict(key: str | None, drawn: gr.EventData) -> Page:
        talk = found(desk, key)
        with told():
            desk.restrict(talk, region_of(getattr(drawn, "region", None)))
        return _page(talk)

    def correct(key: str | None, said: gr.EventData) -> Page:
        talk = found(desk, key)
        with told():
            fields = (getattr(said, name, None) for name in ("places", "verdict", "type"))
            desk.correct(talk, Correction.of(*fields))
        return _page(talk)

    event: dict[str, Any] = {
        "outputs": parts.shown(),
        "concurrency_limit": None,
        "show_progress": "hidden",
        "api_visibility": "undocumented",
    }
    parts.viewer.select(restrict, parts.token, **event)
    parts.viewer.input(correct, parts.token, **event)


def _uploads_only(part: Any) -> Callable[[Any], Awaitable[str | None]]:
    """Gradio fetches a URL that is sent to any part in a file's place; this takes uploads alone."""
    move = part.async_move_resource_to_block_cache

    async def moved(path: Any) -> str | None:
        if "://" in str(path):
            raise gr.Error("Only uploaded files are read.", print_exception=False)
        kept: str | None = await move(path)
        return kept

    return moved


def _page(talk: Conversation) -> Page:
    """What the page shows of a conversation, as the outputs of its events."""
    stop = gr.update(visible=talk.running, value="Stop")  # Gradio keeps no label of what is hidden
    return *talk.shown(), gr.update(value=""), stop
