"""Runs for people at a terminal: one as a tree with times, or many as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich import markup
from rich.table import Table
from rich.tree import Tree

from agent.progress import call_in_words
from agent.record.index import Row
from agent.record.trace import Event, Trace, run_digest
from agent.shell import visible


def escape(text: str) -> str:
    """Text that is neither rich's markup nor the terminal's."""
    return markup.escape(visible(text))


def tree(trace: Trace) -> Tree:
    """A run as a tree with times."""
    start = trace.start()
    image = start["image"]
    height, width = image["pixels"]["shape"][:2]
    mpp = f"{image['mpp']:g} µm/px" if image["mpp"] else "pixel size unknown"
    root = Tree(f"[bold]{escape(start['instruction'])}[/]")
    root.add(f"image {width} × {height} px, {mpp}, sha256 {escape(image['pixels']['digest'][:12])}")
    root.add(f"planner {escape(start['planner']['name'])}")
    for event in trace.events:
        line = _line(event)
        if line:
            branch = root.add(line)
            for detail in _details(event):
                branch.add(detail)
    if trace.damage:
        root.add(f"[red]{escape(trace.damage)}[/]")
    elif not trace.all("run.end"):
        root.add("[yellow]the run has not ended here[/]")
    root.add(f"[dim]digest {run_digest(trace.events)}[/]")
    return root


def table(rows: Sequence[Row]) -> Table:
    """Traces of an index, a line each."""
    columns = ("when", "status", "planner", "tools", "instruction", "trace")
    shown = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        when = row["time"][:19].replace("T", " ")
        status = f"{row['status']}, damaged" if row["damage"] else row["status"]
        words = (when, status, row["planner"], row["tools"], row["instruction"], row["path"])
        shown.add_row(*(escape(word) for word in words))
    return shown


def side_by_side(one: Trace, other: Trace, report: dict[str, Any]) -> Table:
    """Two runs step by step, as `agent.record.compare.compare` found them."""
    shown = Table("step", one.folder.name, other.folder.name, "", box=None, pad_edge=False)
    told = [
        {step: line for step, line in map(_said, trace.events) if step} for trace in (one, other)
    ]
    for row in report["steps"]:
        colour = {"identical": "green", "within tolerance": "yellow"}.get(row["verdict"], "red")
        cells = [escape(side.get(row["step"], "–")) for side in told]
        shown.add_row(row["step"], *cells, f"[{colour}]{row['verdict']}[/]")
    return shown


def _said(event: Event) -> tuple[str, str]:
    """The step that an event ends (as `compare` names it) and what came of it, in words."""
    data = event.data
    if event.event == "plan.end":
        calls = (data["plan"] or {}).get("calls", [])
        return "plan", f"{len(calls)} calls" if calls else str(data["error"])
    if event.event == "call.end":
        words = call_in_words(data["tool"], data["args"])
        figures = data["error"]["code"] if data["error"] else "; ".join(_figures(data["output"]))
        return data["call"], f"{words}\n{figures}".strip()
    if event.event == "compose.end":
        return "answer", f"{data['answer']['status']}: {data['answer']['text']}"
    return "", ""


def _line(event: Event) -> str | None:
    data, meta = event.data, event.meta
    if event.event == "plan.end":
        return f"plan [dim]{meta['seconds']:.3f} s[/]"
    if event.event == "call.end":
        words = escape(call_in_words(data["tool"], data["args"]))
        mark = "[green]✓[/]" if data["error"] is None else "[red]✗[/]"
        backend = f" on {escape(data['backend']['name'])}" if data["backend"] else ""
        return f"{mark} {escape(data['call'])} {words}{backend} [dim]{meta['seconds']:.3f} s[/]"
    if event.event == "guard.question":
        return f"[yellow]? {escape(data['text'])}[/]"
    if event.event == "guard.answer":
        return f"[yellow]{'yes' if data['go_on'] else 'no'}[/]"
    if event.event == "compose.end":
        return f"[bold]{escape(data['answer']['status'])}[/] {escape(data['answer']['text'])}"
    if event.event == "run.error":
        return f"[red]failed inside: {escape(data['type'])}: {escape(data['message'])}[/]"
    return None


def _details(event: Event) -> list[str]:
    """What hangs below a line: a call's figures or its error, a plan's faults."""
    if event.event == "plan.end":
        return [escape(line) for line in [*event.data["faults"], event.data["error"]] if line]
    if event.event != "call.end":
        return []
    if event.data["error"]:
        return [escape(f"{event.data['error']['code']}: {event.data['error']['message']}")]
    return [escape(line) for line in _figures(event.data["output"])]


def _figures(output: dict[str, Any]) -> list[str]:
    simple = (str, int, float, bool)
    return [f"{key}: {value}" for key, value in output.items() if isinstance(value, simple)]
