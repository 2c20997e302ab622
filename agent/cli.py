"""The `histopilot` command.

Exit status: 0 for every answer, a refusal and a question included; 1 where something failed
inside; 2 for bad input, with one line on standard error; 3 where a replay differs from its record.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from agent.models_cli import catalogue
from agent.record.cli import replay, traces
from agent.shell import AsJson, complain, shown_errors
from tools.errors import BadInput

app = typer.Typer(
    name="histopilot",
    help="Ask an H&E image a question in words; get a mask, boxes and a measured answer.\n\n"
    "For research. Not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(traces, name="trace")
app.command()(replay)
app.add_typer(catalogue, name="models")

PlannerName = Annotated[
    str,
    typer.Option(
        "--planner", help="local, rules or openai; FIRST,SECOND: the second where the first fails."
    ),
]
PhraseModel = Annotated[
    str | None,
    typer.Option(
        "--phrase", metavar="MODEL", help="Let this model at OPENAI_BASE_URL word the answer."
    ),
]
RuntimeName = Annotated[str, typer.Option("--runtime", help="local or ray.")]
Backends = Annotated[
    list[str] | None,
    typer.Option("--backend", help="TOOL=NAME, e.g. count_nuclei=classical; may be repeated."),
]
Mpp = Annotated[float | None, typer.Option("--mpp", help="µm per pixel; wins over the file's own.")]


_UsageError: Any = typer.BadParameter.__base__
"""What typer raises for an unknown command or option; it has no public name of its own."""


@app.command()
def ask(
    words: Annotated[
        list[str], typer.Argument(metavar="[IMAGE] INSTRUCTION", help="IMAGE may be 'sample'.")
    ],
    mpp: Mpp = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the results.")] = None,
    region: Annotated[
        str | None, typer.Option(help="x,y,w,h in full-resolution px of the image.")
    ] = None,
    level: Annotated[int, typer.Option(min=0, help="Pyramid level of a slide.")] = 0,
    thread: Annotated[str | None, typer.Option(help="Go on with (or start) this thread.")] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Go on where the image or organ seems wrong.")
    ] = False,
    planner: PlannerName = "local",
    runtime: RuntimeName = "local",
    backend: Backends = None,
    phrase: PhraseModel = None,
    as_json: AsJson = False,
) -> None:
    """Answer one instruction about one image.

    In a thread that has its image, give the instruction alone: `ask --thread ID "now box them"`.
    A thread's open question is answered by asking the same again with --yes, without the image.
    """
    from agent import commands

    with shown_errors():
        image, instruction = _image_and_instruction(words, thread)
        source = commands.Source(image, mpp, _box(region), level)
        job = commands.Job(source, instruction, out, thread, yes)
        means = commands.Means(planner, runtime, tuple(backend or ()), phrase)
        result = commands.ask(job, means, quiet=as_json)
        if as_json:
            typer.echo(json.dumps(result, ensure_ascii=False))
        raise typer.Exit(1 if result["status"] == "failed" else 0)


@app.command()
def batch(
    folder: Annotated[Path, typer.Argument(help="Folder with images.")],
    instruction: Annotated[str, typer.Argument(help="The same for every image.")],
    out: Annotated[Path, typer.Option(help="A folder an image, and the summary, go here.")],
    mpp: Mpp = None,
    yes: Annotated[bool, typer.Option("--yes", help="Go on at every doubt.")] = False,
    planner: PlannerName = "local",
    runtime: RuntimeName = "local",
    backend: Backends = None,
    phrase: PhraseModel = None,
    as_json: AsJson = False,
) -> None:
    """Answer one instruction about every image of a folder."""
    from agent import batches, commands

    with shown_errors():
        means = commands.Means(planner, runtime, tuple(backend or ()), phrase)
        summary = batches.run(folder, instruction, out, mpp, yes, means, quiet=as_json)
        if as_json:
            typer.echo(json.dumps(summary, ensure_ascii=False))
        statuses = {row["status"] for row in summary}
        if statuses == {"bad_input"}:
            raise BadInput(f"no image of {folder} could be read: see summary.csv")
        raise typer.Exit(1 if "failed" in statuses else 0)


@app.command()
def demo(
    host: Annotated[
        str, typer.Option(help="Address to listen on; beyond this machine, use --auth.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 7860,
    auth: Annotated[
        str | None,
        typer.Option(metavar="USER:FILE", help="Ask for a login; FILE holds the password."),
    ] = None,
    turns: Annotated[
        int, typer.Option(min=1, help="How many questions are worked on at once.")
    ] = 2,
    corrections: Annotated[
        Path | None, typer.Option(help="Keep what users correct in this folder, with its images.")
    ] = None,
    mcp: Annotated[
        bool, typer.Option("--mcp", help="Be an MCP server too (needs histopilot[mcp]).")
    ] = False,
    planner: PlannerName = "local",
    runtime: RuntimeName = "ray",
) -> None:
    """Open a chat about an image in the browser."""
    from agent import commands
    from agent.demo.app import launch

    with shown_errors():
        kit = commands.Means(planner, runtime).kit
        launch((host, port), kit, turns=turns, auth=auth, corrections=corrections, mcp=mcp)


def _image_and_instruction(words: list[str], thread: str | None) -> tuple[Path | None, str]:
    if len(words) == 2:
        return Path(words[0]), words[1]
    if len(words) == 1 and thread is not None:
        return None, words[0]
    raise BadInput(
        'give an image and an instruction: histopilot ask IMAGE "INSTRUCTION" '
        "(the instruction in quotes; the image alone may be left out with --thread)"
    )


def _box(region: str | None) -> tuple[int, int, int, int] | None:
    if region is None:
        return None
    found = re.fullmatch(r"(-?\d+),(-?\d+),(\d+),(\d+)", region, re.ASCII)
    if found is None:
        raise BadInput(f"--region is x,y,w,h in px, not {region!r}")
    x, y, width, height = (int(part) for part in found.groups())
    return x, y, width, height


def main() -> Any:
    """Entry point of the console script."""
    level = os.environ.get("HISTOPILOT_LOG", "CRITICAL").upper()
    logging.basicConfig(level=logging.getLevelNamesMapping().get(level, logging.CRITICAL))
    try:
        return app(standalone_mode=False) or 0
    except typer.Exit as done:
        sys.exit(done.exit_code)
    except _UsageError as wrong:
        complain(wrong.format_message())
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("histopilot: stopped", err=True)
        sys.exit(130)


if __name__ == "__main__":
    sys.exit(main())
