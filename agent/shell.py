"""What the command line's modules share: options, and errors as one line and an exit status."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from tools.errors import BadInput

log = logging.getLogger(__name__)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


@contextmanager
def shown_errors() -> Iterator[None]:
    """One line and exit status 2 for bad input, 1 for a fault of ours; no traceback for people."""
    from agent.planners.base import PlannerUnavailable
    from models.external.config import ModelUnavailable

    try:
        yield
    except (BadInput, PlannerUnavailable, ModelUnavailable) as error:
        complain(str(error))
        raise typer.Exit(2) from None
    except typer.Exit:
        raise
    except Exception as fault:
        log.exception("the command failed inside")
        complain(f"failed inside: {type(fault).__name__}: {fault} (more with HISTOPILOT_LOG=error)")
        raise typer.Exit(1) from None


def visible(text: str) -> str:
    """`text` for a terminal: a mark for whatever would steer it or turn it around."""
    mark = "\N{REPLACEMENT CHARACTER}"
    return "".join(char if char.isprintable() or char == "\n" else mark for char in text)


def complain(text: str) -> None:
    """One line on standard error."""
    typer.echo(f"histopilot: {visible(' '.join(text.split()))}", err=True)
