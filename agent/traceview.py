"""`histopilot trace show`: a run as a tree with times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.tree import Tree

from agent.progress import call_in_words
from agent.replay import find_trace, well_formed
from agent.trace import Event, Trace, read_trace, run_digest


def tree(path: Path) -> Tree:
    """The trace at `path` (a trace or result folder) as a rich tree.

    Raises:
        BadInput: there is no trace.
    """
    with well_formed(path):
        return _tree(read_trace(find_trace(path)))


def _tree(trace: Trace) -> Tree:
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
    output: dict[str, Any] = event.data["output"]
    simple = (str, int, float, bool)
    return [escape(f"{key}: {value}") for key, value in output.items() if isinstance(value, simple)]
