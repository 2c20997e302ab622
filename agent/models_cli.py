"""`histopilot models …`."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from agent.shell import AsJson, shown_errors

catalogue = typer.Typer(help="See, fetch and check models.", no_args_is_help=True)


@catalogue.command("list")
def list_models(as_json: AsJson = False) -> None:
    """Show every model: what for, licence, size, state of its checksum, measured figures."""
    from rich.console import Console

    from agent.catalogue import models, table

    with shown_errors():
        rows = list(models())
        if as_json:
            typer.echo(json.dumps([asdict(row) for row in rows], ensure_ascii=False))
        else:
            Console(highlight=False).print(table(rows))


@catalogue.command("pull")
def pull_models() -> None:
    """Fetch the local planner's base model, once; all else is installed or configured."""
    from agent import commands

    with shown_errors():
        typer.echo(commands.pull())


@catalogue.command("check")
def check_models() -> None:
    """Verify the checksum of every model that is there, and load it; exit 1 where one fails."""
    from agent.catalogue import models

    with shown_errors():
        broken = False
        for row in models(loaded=True):
            typer.echo(f"{row.name}: {row.state}")
            broken |= row.broken
        raise typer.Exit(1 if broken else 0)
