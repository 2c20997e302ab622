"""What the page shows beside the image, as HTML and SVG. Every word is escaped here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from agent.demo.steps import Steps
from agent.plan import Call, references
from agent.progress import call_in_words

_NODE = (168, 46)
_GAP = (44, 14)
_LETTERS = 22
_MARKS = {"earlier": "", "waiting": "", "running": "…", "done": "✓", "failed": "✗"}
_UNITS = (("_um2", " (µm²)"), ("_px", " (px)"), ("_per_mm2", " (per mm²)"))
_NAMES = {"present": "presence (probability)", "fraction_of_within": "fraction of the region"}
_BINS = 24


def plan_graph(steps: Steps | None) -> str:
    """The plan as a graph from left to right, each call with how far it is and its time.

    Calls of earlier turns that it refers to stand before it, dashed.
    """
    if steps is None or not steps.calls:
        return ""
    sources = {ref: sorted(set(references(call).values())) for ref, call in steps.calls.items()}
    depth = {ref: 0 for refs in sources.values() for ref in refs if ref not in steps.calls}
    for ref, found in sources.items():
        depth[ref] = 1 + max((depth[source] for source in found), default=-1)
    places: dict[str, tuple[int, int]] = {}
    for ref, column in depth.items():
        row = sum(depth[other] == column for other in places)
        places[ref] = (2 + column * (_NODE[0] + _GAP[0]), 2 + row * (_NODE[1] + _GAP[1]))
    lines = [_edge(places[one], places[ref]) for ref, refs in sources.items() for one in refs]
    nodes = [_node(ref, places[ref], steps) for ref in places]
    wide = max(x for x, _ in places.values()) + _NODE[0] + 2
    high = max(y for _, y in places.values()) + _NODE[1] + 2
    return (
        f'<div class="hp-plan" tabindex="0" role="region" aria-label="Plan"><svg role="img" '
        f'aria-label="{escape(_in_words(steps))}" width="{wide}" height="{high}">'
        f"{''.join(lines)}{''.join(nodes)}</svg></div>"
    )


def figures(
    answer: Mapping[str, Any], calls: Mapping[str, Call], features: Sequence[Mapping[str, Any]]
) -> str:
    """The figures of an answer as a table, and the sizes of its instances.

    Args:
        answer: as `agent.compose.compose` gives it.
        calls: the plan's calls by reference.
        features: of the answer's GeoJSON.
    """
    rows = "".join(
        f"<tr><td>{escape(what)}</td><td>{escape(name)}</td><td>{escape(value)}</td></tr>"
        for what, name, value in _figures(answer["measurements"], calls)
    )
    head = '<tr><th scope="col">step</th><th scope="col">figure</th><th scope="col">value</th></tr>'
    table = f"<table><caption>Measured</caption>{head}{rows}</table>" if rows else ""
    return f"{table}{''.join(_histograms(features))}"


def findings(drawn: str, files: Mapping[str, str]) -> str:
    """What `figures` has drawn, with links to files: their addresses by what each is, in words."""
    links = "".join(
        f'<a href="{escape(address)}" download>{escape(name)}</a>'
        for name, address in files.items()
    )
    below = f"<h2>Files</h2><p>{links}</p>" if links else ""
    return f'<div class="hp-findings">{drawn}{below}</div>'


def _figures(measured: Mapping[str, Any], calls: Mapping[str, Call]) -> Iterator[tuple[str, ...]]:
    for ref, figures in measured.items():
        call = calls.get(ref)
        what = ref if call is None else f"{ref} {call_in_words(call.tool, call.args)}"
        flat = {f"number, {kind}": n for kind, n in figures.get("by_kind", {}).items()}
        if len(flat) < 2:  # the count says it already
            flat = {}
        for name, value in {**figures, **flat}.items():
            if isinstance(value, (int, float)):
                yield what, _named(name), _number(value)


def _named(figure: str) -> str:
    if figure in _NAMES:
        return _NAMES[figure]
    for ending, unit in _UNITS:
        figure = figure.removesuffix(ending) + unit if figure.endswith(ending) else figure
    return figure.replace("_", " ")


def _number(value: float) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.2f}" if abs(value) >= 10 else f"{value:.4g}"


def _histograms(features: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The areas of each type of instances, where there are enough to be a distribution."""
    areas: dict[str, list[float]] = {}
    unit, colour = "px²", {}
    for feature in features:
        told = feature["properties"]
        if told["objectType"] != "detection":
            continue
        name = told["classification"]["name"]
        unit = "µm²" if "Area µm^2" in told["measurements"] else "px²"
        areas.setdefault(name, []).append(next(iter(told["measurements"].values())))
        colour[name] = "rgb({},{},{})".format(*told["classification"]["color"])
    for name, values in areas.items():
        if len(values) > 4:
            yield _histogram(name, values, unit, colour[name])


def _histogram(name: str, values: Sequence[float], unit: str, colour: str) -> str:
    top = float(np.percentile(values, 99))  # one clump must not squeeze all others into a bar
    counts, edges = np.histogram(np.minimum(values, top), _BINS, (0, top))
    wide, high = 18, 90
    bars = "".join(
        f'<rect x="{34 + i * wide}" y="{10 + high * (1 - count / counts.max()):.1f}" '
        f'width="{wide - 2}" height="{high * count / counts.max():.1f}" fill="{colour}" '
        f'stroke="#666"><title>{low:.0f} to {low + top / _BINS:.0f} {unit}: {count}</title></rect>'
        for i, (low, count) in enumerate(zip(edges, counts, strict=False))
    )
    label = f"{name}: area in {unit}, median {np.median(values):.1f}"
    ticks = "".join(
        f'<text x="{34 + _BINS * wide * part}" y="{high + 26}" text-anchor="middle">'
        f"{'≥ ' if part == 1 else ''}{top * part:.0f}</text>"
        for part in (0, 0.5, 1)
    )
    return (
        f"<h2>{escape(label)}</h2><svg role='img' aria-label='Histogram. {escape(label)}' "
        f'viewBox="0 0 {60 + _BINS * wide} {high + 32}"><text x="30" y="16" text-anchor="end">'
        f"{counts.max()}</text>{bars}{ticks}</svg>"
    )


def _edge(start: tuple[int, int], end: tuple[int, int]) -> str:
    x0, y0 = start[0] + _NODE[0], start[1] + _NODE[1] // 2
    x1, y1 = end[0], end[1] + _NODE[1] // 2
    middle = (x0 + x1) // 2
    return f'<path d="M{x0} {y0}C{middle} {y0} {middle} {y1} {x1} {y1}"/>'


def _node(ref: str, place: tuple[int, int], steps: Steps) -> str:
    x, y = place
    step, call = steps.steps.get(ref), steps.calls.get(ref)
    state = "earlier" if step is None else step.state
    time = "" if step is None or step.seconds is None else f"{step.seconds:.2f} s"
    first = f"{ref} {call.tool.replace('_', ' ')}" if call else f"{ref} earlier"
    args = {} if call is None else call.args
    about = str(args.get("target") or args.get("cell_type") or args.get("expected") or "")
    room = _LETTERS - len(time)
    about = about if len(about) <= room else f"{about[: room - 1]}…"
    return (
        f'<g class="{state}"><rect x="{x}" y="{y}" width="{_NODE[0]}" height="{_NODE[1]}" rx="9"/>'
        f'<text x="{x + 10}" y="{y + 19}">{escape(first)}</text>'
        f'<text x="{x + 10}" y="{y + 37}">{escape(about)}</text>'
        f'<text x="{x + _NODE[0] - 8}" y="{y + 37}" text-anchor="end">{time} {_MARKS[state]}</text>'
        "</g>"
    )


def _in_words(steps: Steps) -> str:
    told = [
        f"{ref} {call_in_words(call.tool, call.args)}, {steps.steps[ref].state}"
        for ref, call in steps.calls.items()
    ]
    return f"Plan: {'; '.join(told)}"
