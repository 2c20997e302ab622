"""`python -m eval`: the evaluation's command line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track

from eval.cases import Turn, read_cases, read_predictions
from eval.toolcalls import Planned, PlanOnce, predict, score, show
from tools.errors import BadInput

app = typer.Typer(
    help="Score planners and vision backends.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

CasesFile = Annotated[Path, typer.Option(help="Cases, JSON lines.")]


def _planner(name: str) -> PlanOnce:
    """The planner of that name, as the scorer calls planners."""
    # Loaded here, so that scoring given predictions needs no language model's packages.
    from agent.plan import Turn as AgentTurn
    from agent.planners import load
    from agent.planners.base import PlannerUnavailable
    from agent.planning import plan_once

    try:
        loaded = load(name)
    except PlannerUnavailable as missing:
        typer.echo(str(missing), err=True)
        raise typer.Exit(1) from missing

    def plan(instruction: str, history: Sequence[Turn]) -> Planned:
        turns = [AgentTurn.model_validate(turn.model_dump()) for turn in history]
        planned = plan_once(loaded, instruction, turns)
        return Planned([call.model_dump() for call in planned.calls], planned.error)

    return plan


@app.command()
def toolcalls(
    cases: CasesFile,
    planner: Annotated[str, typer.Option(help="Planner: local, rules or openai.")],
    out: Annotated[Path, typer.Option(help="Where the predictions go, JSON lines.")],
) -> None:
    """Let a planner plan every case, write its predictions and score them."""
    given = read_cases(cases)
    if out.resolve() == cases.resolve():
        raise BadInput("--out is the file of the cases: choose another")
    plan = _planner(planner)
    steps = track(given, "Planning", console=Console(stderr=True), transient=True)
    show(score(given, predict(steps, plan, out)), Console())


@app.command(name="score")
def score_command(
    cases: CasesFile,
    predictions: Annotated[Path, typer.Option(help="Predictions, JSON lines.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead.")] = False,
) -> None:
    """Score given predictions."""
    result = score(read_cases(cases), read_predictions(predictions))
    if as_json:
        typer.echo(result.model_dump_json())
    else:
        show(result, Console())


@app.command()
def vision(
    data: Annotated[Path, typer.Option(help="Folder with nuclei/test and tissue/manifest.csv.")],
    backend: Annotated[
        str, typer.Option(help="default, a backend's name, or a .safetensors file.")
    ] = "default",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many images a set.")] = None,
) -> None:
    """Measure the vision backends on labelled images."""
    # Loaded here: it needs torch, which the other commands do without.
    from eval.vision import vision as run

    run(data, backend=backend, json=as_json, limit=limit)


@app.command()
def speed(
    rounds: Annotated[int, typer.Option(min=1, help="Turns to time.")] = 10,
    planner: Annotated[str, typer.Option(help="Planner: local, rules or openai.")] = "rules",
) -> None:
    """Time whole turns on the sample, in process and on Ray."""
    # Loaded here: it needs the whole agent, which scoring does without.
    from eval.speed import speed as run

    run(rounds, planner)


def main() -> None:
    """Run the command line; bad input is one line on standard error and exit status 2."""
    try:
        app()
    except BadInput as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
