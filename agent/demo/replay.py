"""The replay page: a trace step by step with what was found so far, and two side by side."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from agent.demo.desk import Desk
from agent.demo.files import asset
from agent.demo.guests import told, user_of
from agent.demo.picture import MAX_PIXELS
from agent.output.overlay import render
from agent.output.writer import boxes_of, layers_of
from agent.progress import call_in_words
from agent.record.bundle import opened
from agent.record.compare import compare
from agent.record.page import outcome_of
from agent.record.trace import Trace
from agent.session import Outcome
from tools.errors import BadInput

MAX_UNPACKED = 256 * 2**20
MAX_EVENTS = 400
MAX_MASKS = 24
_MAX_CHARS = 8_000
_SIDE = 900
_SHORT = 120


def replay_page(desk: Desk, token: Any, tab: Any) -> None:
    """Add the page to the one that is being built.

    Args:
        desk: whose conversations it shows.
        token: holds the conversation's.
        tab: the page's own, which is opened.
    """

    def offer(key: str | None) -> tuple[Any, Any]:
        talk = desk.find(key)
        said = [] if talk is None else list(talk.asked.values())
        choices = [(f"{n + 1}. {words[:_SHORT]}", n) for n, words in enumerate(said)]
        last = len(said) - 1 if said else None
        return gr.update(choices=choices, value=last), gr.update(choices=choices, value=None)

    def show(
        turn: object,
        other: object,
        first: str | None,
        second: str | None,
        key: str | None,
        request: gr.Request,
    ) -> tuple[str, str]:
        talk = desk.find(key)
        asked = [] if talk is None else list(talk.asked)
        path = _trace(turn, first, asked)
        if path is None:
            raise gr.Error("Ask something first, or open a trace.", print_exception=False)
        with told():
            desk.admit(user_of(request))
            return replayed(path, _trace(other, second, asked))

    gr.Markdown("Step through an answer of this conversation, or put two side by side.")
    with gr.Row():
        turns = [gr.Dropdown(label=label, choices=[]) for label in ("Answer", "Compare with")]
    with gr.Accordion("Or open traces (trace.zip)", open=False), gr.Row():
        files = [
            gr.File(label=label, file_types=[".zip"], height=110)
            for label in ("Trace", "Compare with this trace")
        ]
    button = gr.Button("Replay", variant="primary")
    steps = gr.HTML(label="Steps", js_on_load=asset("replay.js"), apply_default_css=False)
    differences = gr.HTML(label="Comparison", apply_default_css=False)
    hidden: dict[str, Any] = {"api_visibility": "undocumented"}
    tab.select(offer, token, turns, show_progress="hidden", **hidden)
    shown = [steps, differences]
    button.click(show, [*turns, *files, token], shown, concurrency_id="open", **hidden)


def _trace(turn: object, file: str | None, asked: list[Path]) -> Path | None:
    """The trace that is meant: an upload, or an own answer by its number."""
    if file:
        return Path(file)
    return asked[turn] if type(turn) is int and 0 <= turn < len(asked) else None


def replayed(path: Path, other: Path | None) -> tuple[str, str]:
    """The steps of a trace as HTML, and how it compares with another.

    Args:
        path: a trace folder of ours, or a bundle of anybody's.
        other: what it is compared with, None: nothing.

    Raises:
        BadInput: one of them is no trace, damaged, or too large.
    """
    with ExitStack() as stack:
        traces = []
        for one in (path, other):
            if one is None:
                continue
            if one.is_file() and not zipfile.is_zipfile(one):
                raise BadInput(f"{one.name} is not the bundle of a trace")
            trace = stack.enter_context(opened(one, MAX_UNPACKED))
            _check_arrays(trace)
            traces.append(trace)
        differences = _compared(*traces) if other else ""
        return _steps(traces[0]), differences


def _check_arrays(trace: Trace) -> None:
    """Refuse arrays that would fill the memory: what a file holds, not what the events say."""
    store = trace.store()
    for handle in trace.arrays():
        if store.nbytes(handle.digest) > 4 * MAX_PIXELS:
            raise BadInput(f"the array {handle.digest[:12]} is too large to be shown here")


def _steps(trace: Trace) -> str:
    """Each event as a section, of which `replay.js` shows one; the picture as it was by then."""
    start = trace.start()
    ends = trace.all("compose.end")
    answer = ends[-1].data["answer"] if ends else {"masks": [], "boxes": []}
    found_by = {one["call"] for name in ("masks", "boxes") for one in answer[name]}
    if len(answer["masks"]) > MAX_MASKS:
        raise BadInput(f"{len(answer['masks'])} masks are more than are shown here")
    whole = outcome_of(trace, answer)
    done: list[str] = []
    pictures: dict[tuple[str, ...], str] = {}
    sections = []
    for event in trace.events[:MAX_EVENTS]:
        if event.event == "call.end" and event.data["call"] in found_by:
            done.append(event.data["call"])
        if tuple(done) not in pictures:
            here = {
                name: [one for one in answer[name] if one["call"] in done]
                for name in ("masks", "boxes")
            }
            pictures[tuple(done)] = _picture(replace(whole, answer=here))
        number = list(pictures).index(tuple(done))
        sections.append(_section(event.n, event.event, event.data, event.meta, number))
    drawn = "".join(
        f'<img hidden alt="The image with what was found by then" src="{url}">'
        for url in pictures.values()
    )
    damage = f"<p>The record is damaged: {escape(trace.damage)}.</p>" if trace.damage else ""
    return (
        '<div class="hp-replay" role="region" aria-label="Replay">'
        f"<h2>{escape(start['instruction'])}</h2>{damage}"
        '<p><button type="button" data-by="-1">Previous</button> '
        '<button type="button" data-by="1">Next</button> <span role="status"></span></p>'
        f'<div class="hp-replayed">{drawn}<div>{"".join(sections)}</div></div></div>'
    )


def _section(n: int, event: str, data: dict[str, Any], meta: dict[str, Any], picture: int) -> str:
    seconds = f", {meta['seconds']:.3f} s" if "seconds" in meta else ""
    words = f" {data['call']} {call_in_words(data['tool'], data['args'])}" if "tool" in data else ""
    body = json.dumps(data, indent=1, ensure_ascii=False)
    body = body if len(body) <= _MAX_CHARS else f"{body[:_MAX_CHARS]}…"
    return (
        f'<section hidden data-picture="{picture}"><h3>{n} {escape(event)}{escape(words)}{seconds}'
        f'</h3><pre tabindex="0">{escape(body)}</pre></section>'
    )


def _picture(outcome: Outcome) -> str:
    """The overlay as a data URL, small enough to be sent for each step."""
    drawn = render(outcome.image, layers_of(outcome), boxes_of(outcome), caption=None)
    drawn.thumbnail((_SIDE, _SIDE))
    packed = io.BytesIO()
    drawn.convert("RGB").save(packed, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(packed.getvalue()).decode()}"


def _compared(one: Trace, other: Trace) -> str:
    report = compare(one, other)
    rows = "".join(_rows(report))
    head = "".join(f'<th scope="col">{name}</th>' for name in ("step", "verdict", "differences"))
    agree = "identical" if report["identical"] else "alike" if report["agrees"] else "different"
    return (
        f'<div class="hp-findings"><table><caption>The two runs are {agree}</caption>'
        f"<tr>{head}</tr>{rows}</table></div>"
    )


def _rows(report: dict[str, Any]) -> Iterator[str]:
    for row in report["steps"]:
        told = "; ".join(
            f"{item['at']}: {_brief(item['recorded'])} → {_brief(item['other'])} {item['note']}"
            for item in row["differences"]
        )
        cells = (f"{row['step']} {row['tool'] or ''}", row["verdict"], told)
        yield f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHORT else f"{text[:_SHORT]}…"
