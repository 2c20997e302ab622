"""`python -m eval`: the evaluation's command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.progress import track

from agent.shell import visible
from eval import untuned
from eval.baselines import DEFAULT, beside
from eval.baselines import load as load_planner
from eval.cases import Case, Prediction, read_cases, read_predictions
from eval.pages import Section, pass_k_section, ready, write
from eval.pages import show as show_sections
from eval.toolcalls import PlanOnce, predict, prediction_line, score
from models.external.config import ModelUnavailable
from tools.errors import BadInput

app = typer.Typer(
    help="Score planners and vision backends.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

CasesFile = Annotated[Path, typer.Option(help="Cases, JSON lines.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object instead.")]
Baselines = Annotated[
    str, typer.Option(help="Planned beside it: decline, random, or any planner; commas between.")
]
Sample = Annotated[
    int,
    typer.Option(
        "--untuned",
        min=0,
        help="How many cases that are not ours the untuned model (base) plans, 3 s or so each.",
    ),
]
ReportFolder = Annotated[
    Path | None, typer.Option(help="Folder for report.md, report.html, report.json and plots.")
]


@contextmanager
def _planner_at_hand() -> Iterator[None]:
    """A planner whose model is missing is one line and exit status 1."""
    # Loaded here, so that scoring given predictions needs no language model's packages.
    from agent.planners.base import PlannerUnavailable

    try:
        yield
    except PlannerUnavailable as missing:
        typer.echo(str(missing), err=True)
        raise typer.Exit(1) from missing


def _planner(name: str) -> PlanOnce:
    with _planner_at_hand():
        return load_planner(name)


def _tell(said: BaseModel, sections: Iterable[Section], as_json: bool) -> None:
    if as_json:
        typer.echo(said.model_dump_json())
    else:
        show_sections(sections, Console())


def _tell_score(
    title: str,
    cases: list[Case],
    given: list[Prediction],
    baselines: tuple[str, int],
    report: Path | None,
) -> None:
    """Score, print it beside the baselines, and write the report where one is wanted."""
    from eval.report import failure_section, score_sections

    result = score(cases, given)
    with _planner_at_hand():
        names, sample = baselines
        besides = beside(cases, given, list(filter(None, names.split(","))), sample)
    sections = list(score_sections(result, besides, given))
    show_sections(sections, Console())
    if report is not None:
        rows = {"score": result.model_dump(), "baselines": [row.model_dump() for row in besides]}
        text = json.dumps(rows, indent=1, ensure_ascii=False)
        write(report, title, [*sections, failure_section(result, cases)], text)


@app.command()
def toolcalls(
    cases: CasesFile,
    planner: Annotated[str, typer.Option(help="Planner: local, rules or openai.")],
    out: Annotated[Path, typer.Option(help="Where the predictions go, JSON lines.")],
    baselines: Baselines = DEFAULT,
    sample: Sample = untuned.SAMPLE,
    report: ReportFolder = None,
) -> None:
    """Let a planner plan every case, write its predictions and score them."""
    given = read_cases(cases)
    _not_over(out, cases)
    ready(report)
    plan = _planner(planner)
    steps = track(given, "Planning", console=Console(stderr=True), transient=True)
    predictions = predict(steps, plan, out)
    _tell_score(f"{planner} on {cases.name}", given, predictions, (baselines, sample), report)


@app.command(name="score")
def score_command(
    cases: CasesFile,
    predictions: Annotated[Path, typer.Option(help="Predictions, JSON lines.")],
    as_json: AsJson = False,
    baselines: Baselines = DEFAULT,
    sample: Sample = untuned.SAMPLE,
    report: ReportFolder = None,
) -> None:
    """Score given predictions."""
    known, given = read_cases(cases), read_predictions(predictions)
    ready(report)
    if as_json:
        typer.echo(score(known, given).model_dump_json())
    else:
        title = f"{predictions.name} on {cases.name}"
        _tell_score(title, known, given, (baselines, sample), report)


@app.command(name="compare")
def compare_command(
    a: Annotated[Path, typer.Argument(help="Predictions of planner A, JSON lines.")],
    b: Annotated[Path, typer.Argument(help="Predictions of planner B.")],
    cases: CasesFile,
    as_json: AsJson = False,
) -> None:
    """Is planner B better than planner A? Both on the same cases."""
    from eval.compare import compare, sections

    found = compare(read_cases(cases), read_predictions(a), read_predictions(b))
    if found is None:
        raise BadInput("there is no case that both planners were scored on")
    _tell(found, sections(found), as_json)


@app.command()
def passk(
    predictions: Annotated[list[Path], typer.Argument(help="Predictions, a file a run.")],
    cases: CasesFile,
) -> None:
    """How consistent is a planner? Its pass^k over several runs of the same cases."""
    from eval.compare import consistency

    runs = [read_predictions(path) for path in predictions]
    values = consistency(read_cases(cases), runs)
    show_sections([pass_k_section("Trials", "cases", values)], Console())


@app.command()
def traces(
    folder: Annotated[Path, typer.Argument(help="Folder with traces, at any depth.")],
    cases: CasesFile,
    as_json: AsJson = False,
) -> None:
    """Score recorded runs: what they planned, and whether it was carried out."""
    from eval.traces import score_traces, sections

    report = score_traces(read_cases(cases), folder)
    _tell(report, sections(report), as_json)


@app.command()
def results(
    images: Annotated[Path, typer.Option(help="Folder of the images and true masks.")],
    out: Annotated[Path, typer.Option(help="Folder for the results, one a case.")],
    cases: Annotated[
        Path | None, typer.Option(help="Cases; without them, the nuclei of images/ by labels/.")
    ] = None,
    mpp: Annotated[float | None, typer.Option(help="µm/px, without --cases.")] = None,
    planner: Annotated[str, typer.Option(help="Planner: local, rules or openai.")] = "local",
    backend: Annotated[list[str] | None, typer.Option(help="TOOL=NAME, may be repeated.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run the cases that have expect_result on their images: right plan, right result?"""
    from agent.commands import Means
    from eval.results import nuclei_cases, run_cases, sections

    known = read_cases(cases) if cases else nuclei_cases(images, mpp)
    with _planner_at_hand():
        kit = Means(planner, "local", tuple(backend or ())).kit()
    try:
        report = run_cases(known, images, out, kit)
    finally:
        kit.runtime.close()
    _tell(report, sections(report), as_json)


@app.command()
def mutations(
    count: Annotated[int, typer.Option(min=1, help="Random plans to mutate.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the random plans.")] = 0,
    cases: Annotated[Path | None, typer.Option(help="Mutate these cases' plans instead.")] = None,
) -> None:
    """Test the scorer: every spoilt plan must fail, and for the right reason."""
    from eval.mutations import plans_of, random_plans, section, tally

    plans = random_plans(count, seed) if cases is None else plans_of(read_cases(cases), seed)
    tallies = tally(plans)
    show_sections([section(tallies)], Console())
    if any(it.reasons < it.n for it in tallies.values()):
        raise typer.Exit(1)


@app.command()
def crosscheck(
    count: Annotated[int, typer.Option(min=1, help="Random plans to mutate.")] = 1000,
) -> None:
    """Print, as Markdown, where our matcher and BFCL's part, and which one is right."""
    from eval.bfcl import PROBES, on_mutants, probe, sections
    from eval.mutations import random_plans
    from eval.pages import markdown

    parts = sections(map(probe, PROBES), on_mutants(random_plans(count, seed=0)))
    typer.echo(markdown("Our matcher and BFCL's", list(parts)), nl=False)


@app.command()
def export(
    cases: CasesFile,
    predictions: Annotated[Path, typer.Option(help="Predictions, JSON lines.")],
    inspect: Annotated[Path, typer.Option(help="Where the Inspect AI log goes, JSON.")],
    name: Annotated[str, typer.Option(help="What to call the planner.")] = "planner",
) -> None:
    """Write predictions and their verdicts as a log that Inspect AI's viewer opens."""
    from eval.inspect_log import to_inspect

    _not_over(inspect, cases, predictions)
    log = to_inspect(read_cases(cases), read_predictions(predictions), name, cases.stem)
    _write(inspect, json.dumps(log, ensure_ascii=False))


@app.command(name="import")
def import_command(
    inspect: Annotated[Path, typer.Option(help="An Inspect AI log, JSON.")],
    out: Annotated[Path, typer.Option(help="Where the predictions go, JSON lines.")],
    epoch: Annotated[int, typer.Option(min=1, help="Which of the repetitions.")] = 1,
) -> None:
    """Read the predictions out of an Inspect AI log."""
    from eval.inspect_log import from_inspect

    _not_over(out, inspect)
    _write(out, "".join(map(prediction_line, from_inspect(inspect, epoch))))


def _not_over(out: Path, *sources: Path) -> None:
    """Nothing that is read may be written over."""
    for source in sources:
        if out.exists() and source.exists() and out.samefile(source):
            raise BadInput(f"{out} is what is read ({source.name}): choose another file to write")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{path}: can't be written ({error.strerror}).") from error


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
    except (BadInput, ModelUnavailable) as error:
        sys.stderr.write(f"{visible(str(error))}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
