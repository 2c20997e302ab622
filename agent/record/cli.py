"""`histopilot replay` and `histopilot trace …`."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from agent.shell import AsJson, shown_errors, visible
from tools.errors import BadInput

traces = typer.Typer(help="Look at, compare, export and prune traces.", no_args_is_help=True)
TracePath = Annotated[Path, typer.Argument(help="A trace folder, a result folder, or a bundle.")]
Folder = Annotated[Path, typer.Argument(help="A folder with traces anywhere below it.")]
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


class Mode(StrEnum):
    """How a replay looks at a record."""

    VERIFY = "verify"
    RE_EXECUTE = "re-execute"


class Format(StrEnum):
    """What a trace is exported as."""

    OTEL = "otel"
    HTML = "html"
    BUNDLE = "bundle"


def replay(
    trace: TracePath,
    mode: Annotated[
        Mode, typer.Option(help="verify: check the record alone; re-execute: run the tools again.")
    ] = Mode.RE_EXECUTE,
    planner: Annotated[str | None, typer.Option(help="Plan anew with this planner.")] = None,
    swap: Annotated[
        list[str] | None,
        typer.Option(metavar="TOOL=BACKEND", help="Another backend; may be repeated."),
    ] = None,
    instruction: Annotated[str | None, typer.Option(help="What if this had been asked?")] = None,
    runtime: Annotated[str, typer.Option(help="local or ray.")] = "local",
    as_json: AsJson = False,
) -> None:
    """Hold a recorded turn against what it says, or against running it again: 0 same, 3 differs."""
    from agent.record.bundle import opened

    with shown_errors():
        if mode is Mode.VERIFY:
            from agent.record import verify as verifying

            if planner or swap or instruction is not None:
                raise BadInput("--mode verify runs nothing: it takes no other planner or backend")
            with opened(trace) as record:
                report = verifying.verify(record, trace)
            same, words = report["identical"], verifying.in_words(report)
        else:
            from agent.record import replay as replaying

            what_if = replaying.WhatIf(planner, instruction, tuple(swap or ()))
            with opened(trace) as record:
                report = replaying.replay(record, what_if, runtime)
            same, words = report["agrees"], replaying.in_words(report)
        typer.echo(json.dumps(report, ensure_ascii=False) if as_json else visible(words))
        raise typer.Exit(0 if same else 3)


@traces.command()
def show(trace: TracePath) -> None:
    """Print a run as a tree with times."""
    from agent.record.bundle import opened
    from agent.record.view import tree

    with shown_errors(), opened(trace) as record:
        _print(tree(record))


@traces.command()
def diff(one: TracePath, other: TracePath, as_json: AsJson = False) -> None:
    """Print two runs side by side: 0 identical, 3 they differ."""
    from agent.record.bundle import opened
    from agent.record.compare import compare
    from agent.record.view import side_by_side

    with shown_errors(), opened(one) as first, opened(other) as second:
        report = compare(first, second, exact=True)
        if as_json:
            typer.echo(json.dumps(report, ensure_ascii=False))
        else:
            _print(side_by_side(first, second, report))
        raise typer.Exit(0 if report["identical"] else 3)


@traces.command("list")
def list_(
    folder: Folder,
    status: Annotated[str | None, typer.Option(help="completed, declined, unfinished …")] = None,
    tool: Annotated[str | None, typer.Option(help="A tool that was called.")] = None,
    planner: Annotated[str | None, typer.Option(help="Who planned.")] = None,
    since: Annotated[datetime | None, typer.Option(help="Begun then or later, local time.")] = None,
    grep: Annotated[str | None, typer.Option(help="Text in the instruction or answer.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the traces below a folder, newest first."""
    from agent.record.index import Filter, listed
    from agent.record.view import table

    with shown_errors():
        rows = listed(folder, Filter(status, tool, planner, since, grep))
        if as_json:
            typer.echo(json.dumps(rows, ensure_ascii=False))
        else:
            _print(table(rows))


@traces.command()
def export(
    trace: TracePath,
    to: Annotated[Format, typer.Option("--format", help="What to make of it.")],
    out: Annotated[Path | None, typer.Option(help="The file to write.")] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="Send otel spans there, e.g. http://127.0.0.1:4318.")
    ] = None,
) -> None:
    """Write a trace as OpenTelemetry spans, an HTML page, or a bundle that replays anywhere."""
    from agent.record.bundle import opened

    with shown_errors(), opened(trace) as record:
        if endpoint is not None and to is Format.OTEL:
            from agent.record import otel

            typer.echo(f"{otel.send(otel.spans(record), endpoint)} spans sent")
            return
        if out is None or endpoint is not None:
            raise BadInput("give --out FILE (or, for otel spans alone, --endpoint URL)")
        try:
            _write(record, to, out)
        except OSError as error:
            raise BadInput(f"can't write {out} ({error.strerror})") from error


@traces.command()
def prune(
    folder: Folder,
    older_than: Annotated[
        float | None, typer.Option(min=0, metavar="DAYS", help="Those last written to before.")
    ] = None,
    keep: Annotated[
        str | None, typer.Option(metavar="SIZE", help="The oldest, until SIZE is left, e.g. 2G.")
    ] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Do it; else it is only shown.")] = False,
) -> None:
    """Delete old traces below a folder, but none of kept threads. Without --delete: only list."""
    from agent.record import index

    with shown_errors():
        if older_than is None and keep is None:
            raise BadInput("give --older-than DAYS or --keep SIZE")
        bytes_ = None if keep is None else _bytes(keep)
        found = index.prunable(folder, older_than, bytes_, datetime.now(UTC))
        for path, size in found:
            typer.echo(f"{index.shown(path, folder)}  {size / 1e6:,.1f} MB")
        if delete:
            index.prune(path for path, _ in found)
        total = sum(size for _, size in found) / 1e6
        done = "deleted" if delete else "would be deleted; --delete does it"
        typer.echo(f"{len(found)} traces, {total:,.1f} MB: {done}")


def _write(record: Any, to: Format, out: Path) -> None:
    if to is Format.BUNDLE:
        from agent.record.bundle import pack

        pack(record, out)
    elif to is Format.HTML:
        from agent.record.page import page

        out.write_text(page(record), "utf-8")
    else:
        from agent.record.otel import spans

        out.write_text(json.dumps(spans(record)), "utf-8")
    typer.echo(f"{out.name} written")


def _bytes(size: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)B?", size.strip().upper(), re.ASCII)
    if found is None:
        raise BadInput(f"--keep {size} is not a size, as 500M or 2G")
    return round(float(found[1]) * _UNITS[found[2]])


def _print(shown: Any) -> None:
    from rich.console import Console

    Console(highlight=False).print(shown)
