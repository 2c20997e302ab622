"""A run as one HTML page that opens without a server: the overlay, and all that went in and out.

Whatever comes from a trace is text: it is escaped here, and the page's own policy forbids scripts,
forms and anything from elsewhere.
"""

from __future__ import annotations

import base64
import html
import io
import json
from typing import Any

from agent.output.geojson import WHOLE
from agent.output.overlay import render
from agent.output.writer import boxes_of, layers_of
from agent.progress import call_in_words
from agent.record.trace import Trace, run_digest
from agent.session import Outcome
from models.backend import Image
from tools.execute import ImageHandle

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem;
  color: #1d1d22; background: #fff }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2rem }
img { max-width: 100%; border: 1px solid #ddd } .dim { color: #62626b; font-size: .85rem }
pre { background: #f5f5f7; padding: .75rem; overflow-x: auto; white-space: pre-wrap;
  overflow-wrap: anywhere; font-size: .8rem } summary { cursor: pointer; padding: .25rem 0 }
.bad { color: #a3130b } .answer { font-size: 1.1rem }
@media (prefers-color-scheme: dark) { body { color: #eee; background: #17171a }
  pre { background: #232328 } .dim { color: #a5a5b0 } .bad { color: #ff8a80 } }
"""


def page(trace: Trace) -> str:
    """The page. Nothing of the trace is left out but the arrays, which the overlay shows.

    Raises:
        BadInput, KeyError: an array that the overlay needs is damaged or not there.
    """
    start = trace.start()
    ends = trace.all("compose.end")
    answer = ends[-1].data["answer"] if ends else None
    title = html.escape(start["instruction"])
    parts = [f"<h1>{title}</h1>"]
    if trace.damage:
        parts.append(_paragraph(f"The record is damaged: {trace.damage}.", "bad"))
    if answer is None:
        parts.append(_paragraph("The run has no answer: see its last events.", "bad"))
        answer = {"masks": [], "boxes": []}
    else:
        parts.append(_paragraph(f"{answer['status']}: {answer['text']}", "answer"))
    parts += [
        f'<img alt="The image with what was found" src="{_overlay(outcome_of(trace, answer))}">'
    ]
    parts += ["<h2>What happened</h2>", *_steps(trace)]
    parts += ["<h2>The record</h2>", _details("Header", start)]
    result = {key: value for key, value in answer.items() if key != "text"}
    parts += [_details("Answer", result), _paragraph(f"digest {run_digest(trace.events)}", "dim")]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f'<meta name="viewport" content="width=device-width"><title>{title}</title>'
        f"<style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _steps(trace: Trace) -> list[str]:
    """Each planner turn with its prompt, each call with inputs and output, each question."""
    parts = []
    inputs: dict[str, Any] = {}
    for event in trace.events:
        data, seconds = event.data, f"{event.meta.get('seconds', 0):.3f} s"
        if event.event == "plan.end":
            for turn in data["proposals"]:
                prompt = turn["prompt"] or "(no language model)"
                parts.append(_details(f"plan, {seconds}", f"{prompt}\n\n→\n\n{turn['raw']}"))
            parts += [_paragraph(text, "bad") for text in (*data["faults"], data["error"]) if text]
        elif event.event == "call.start":
            inputs[data["call"]] = data["inputs"]
        elif event.event == "call.end":
            words = f"{data['call']} {call_in_words(data['tool'], data['args'])}, {seconds}"
            told = {"inputs": inputs.get(data["call"], {}), **data}
            parts.append(_details(words, told, bad=data["error"] is not None))
        elif event.event.startswith(("guard.", "phrase.")) or event.event == "run.error":
            parts.append(_details(event.event, data, bad=event.event == "run.error"))
    return parts


def outcome_of(trace: Trace, answer: dict[str, Any]) -> Outcome:
    """A recorded answer with its image, to be drawn.

    Raises:
        BadInput, KeyError: the image's array is damaged or not there.
    """
    store, handle = trace.store(), ImageHandle.model_validate(trace.start()["image"])
    image = Image(store.get(handle.pixels.digest), handle.mpp, handle.pixels.digest)
    return Outcome(answer, {}, trace.folder, image, WHOLE, store)


def _overlay(outcome: Outcome) -> str:
    """The picture with masks and boxes, as a data URL."""
    drawn, image = io.BytesIO(), outcome.image
    render(image, layers_of(outcome), boxes_of(outcome), caption=None).save(drawn, "PNG")
    return f"data:image/png;base64,{base64.b64encode(drawn.getvalue()).decode()}"


def _details(title: str, body: Any, *, bad: bool = False) -> str:
    text = body if isinstance(body, str) else json.dumps(body, indent=1, ensure_ascii=False)
    kind = ' class="bad"' if bad else ""
    summary = f"<summary{kind}>{html.escape(title)}</summary>"
    return f"<details>{summary}<pre>{html.escape(text)}</pre></details>"


def _paragraph(text: str, kind: str) -> str:
    return f'<p class="{kind}">{html.escape(text)}</p>'
