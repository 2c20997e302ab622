"""What the evaluation says, in sections: for the terminal, as Markdown, and as one HTML page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import chain, repeat
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.markup import escape as escape_markup
from rich.table import Table

from agent.shell import visible
from eval.stats import PassK, Rate
from tools.errors import BadInput

RATE_HEAD = ("", "n", "share", "95% interval", "method")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem; }
h2 { font-size: 1.15rem; margin-top: 2rem; } figure { margin: 1rem 0; } div { overflow-x: auto; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .8rem .2rem 0; text-align: left; border-bottom: 1px solid #8884;
  vertical-align: top; overflow-wrap: break-word; min-width: 3rem; }
td:first-child { white-space: nowrap; }
summary { cursor: pointer; color: GrayText; }
svg { width: 100%; height: auto; display: block; }
"""


@dataclass(frozen=True)
class Section:
    """A heading, a sentence, a table (its header first) and a plot (SVG), most of them empty."""

    title: str
    text: str = ""
    table: Sequence[Sequence[str]] = ()
    plot: str = ""

    @property
    def file(self) -> str:
        """File name of the plot."""
        return "-".join(self.title.lower().split()) + ".svg"


def percent(value: float) -> str:
    """A share as people read it."""
    return f"{100 * value:.1f}%"


class _Ranged(Protocol):
    @property
    def low(self) -> float: ...

    @property
    def high(self) -> float: ...


def interval(value: _Ranged) -> str:
    """A 95% interval as people read it."""
    return f"{percent(value.low)} to {percent(value.high)}"


def rate_row(name: str, value: Rate) -> Sequence[str]:
    """A row under `RATE_HEAD`."""
    return name, str(value.n), percent(value.strict), interval(value), value.method


def counted(counts: Mapping[str, int]) -> str:
    """Counts in one line."""
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def pass_k_section(title: str, unit: str, values: Sequence[PassK]) -> Section:
    """pass^k by k."""
    rows = [(str(it.k), percent(it.value), interval(it), f"{it.n} of {it.of}") for it in values]
    return Section(title, "", [("k", "pass^k", "95% interval", f"{unit} with k scored"), *rows])


def _plain(text: str) -> str:
    """Text that is neither rich's markup nor the terminal's."""
    return escape_markup(visible(text))


def show(sections: Iterable[Section], console: Console) -> None:
    """Print the sections without their plots."""
    for part in sections:
        if part.table:
            table = Table(title=part.title)
            for name in part.table[0]:
                table.add_column(_plain(name))
            for row in part.table[1:]:
                table.add_row(*map(_plain, row))
            console.print(table)
        if part.text:
            console.print(visible(part.text), markup=False, soft_wrap=True)


def _told(text: str) -> str:
    """Text that stays text in Markdown: no HTML, no link, no picture from elsewhere."""
    return re.sub(r"[\\|\[\]]", r"\\\g<0>", escape(" ".join(text.split()), quote=False))


def markdown(title: str, sections: Sequence[Section]) -> str:
    """The sections as Markdown; a plot is a link to its file."""
    lines = [f"# {_told(title)}", ""]
    for part in sections:
        lines += [f"## {_told(part.title)}", ""]
        if part.text:
            lines += [_told(part.text), ""]
        rows = ["| " + " | ".join(map(_told, row)) + " |" for row in part.table]
        if rows:
            lines += [rows[0], "| " + " | ".join("---" for _ in part.table[0]) + " |"]
            lines += [*rows[1:], ""]
        if part.plot:
            lines += [f"![{_told(part.title)}]({part.file})", ""]
    return "\n".join(lines)


def html(title: str, sections: Sequence[Section]) -> str:
    """The sections as a page that needs no other file."""
    body = []
    for part in sections:
        body.append(f"<h2>{escape(part.title)}</h2>")
        body += [f"<p>{escape(part.text)}</p>"] if part.text else []
        body += [f"<figure>{part.plot}</figure>"] if part.plot else []
        rows = [
            "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row)
            for tag, row in zip(chain(["th"], repeat("td")), part.table, strict=False)
        ]
        table = f"<div><table><tr>{'</tr><tr>'.join(rows)}</tr></table></div>" if rows else ""
        folded = f"<details><summary>In figures</summary>{table}</details>"
        body.append(folded if part.plot and table else table)
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f'<meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style>"
    )
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n<h1>{escape(title)}</h1>\n'
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def ready(folder: Path | None) -> None:
    """Make the folder of a report that is to come, where one is.

    Raises:
        BadInput: it can't be made.
    """
    try:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{folder}: can't be written ({error.strerror}).") from error


def write(folder: Path, title: str, sections: Sequence[Section], json: str) -> None:
    """Write `report.md` with its plots, `report.html` and `report.json` into `folder`.

    Raises:
        BadInput: the folder can't be written to.
    """
    files = {part.file: part.plot for part in sections if part.plot}
    files |= {"report.md": markdown(title, sections), "report.html": html(title, sections)}
    files |= {"report.json": json}
    ready(folder)
    try:
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{folder}: can't be written ({error.strerror}).") from error
