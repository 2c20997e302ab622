"""`python -m models.planner.generate`: training examples as JSON lines in the case format."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from models.planner.generate.examples import Example, examples
from models.planner.generate.expand import Costs, EndpointMissing, Verifier, endpoint, expand
from models.planner.generate.report import diversity

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def run(
    n: Annotated[int, typer.Option("--n", min=1, help="How many examples.")] = 1000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same examples.")] = 0,
    paraphrases: Annotated[int, typer.Option(min=1, help="Wordings of each intent.")] = 1,
    written: Annotated[
        float, typer.Option(min=0, max=1, help="Share of those that were written one by one.")
    ] = 0.0,
    out: Annotated[Path | None, typer.Option(help="A file instead of standard output.")] = None,
    report: Annotated[bool, typer.Option(help="Measure the diversity instead.")] = False,
    expanded: Annotated[
        bool, typer.Option("--expand", help="Ask a language model for variants instead.")
    ] = False,
    wordings: Annotated[int, typer.Option(min=1, help="Variants to ask for per example.")] = 4,
    verifier: Annotated[
        str, typer.Option(help="MODULE:FUNCTION that gives the `Verifier` of --expand.")
    ] = "eval.expand:verifier",
) -> None:
    """Print examples, or a report on them, or a language model's verified variants of them."""
    made = examples(seed, n, paraphrases, written)
    if report:
        for line in diversity(made).lines():
            typer.echo(line)
    elif expanded:
        costs = Costs()
        try:
            _write(expand(made, endpoint(), _load(verifier), wordings, costs), out)
        except EndpointMissing as missing:
            typer.echo(str(missing), err=True)
            raise typer.Exit(1) from missing
        finally:
            for line in costs.lines():
                typer.echo(line, err=True)
    else:
        _write(made, out)


def _write(made: Iterable[Example], out: Path | None) -> None:
    lines = (json.dumps(example.case(), ensure_ascii=False) + "\n" for example in made)
    try:
        if out is None:
            sys.stdout.writelines(lines)
        else:
            with out.open("w", encoding="utf-8") as file:
                file.writelines(lines)
    except OSError as error:
        typer.echo(f"{out or 'standard output'}: can't be written ({error.strerror}).", err=True)
        raise typer.Exit(2) from error


def _load(name: str) -> Verifier:
    """The verifier that a module above this layer gives: the planners live there."""
    module, _, function = name.partition(":")
    try:
        found = getattr(import_module(module), function)()
    except (ImportError, AttributeError, ValueError) as error:
        typer.echo(f"--verifier {name}: {error}", err=True)
        raise typer.Exit(2) from error
    if not isinstance(found, Verifier):
        typer.echo(f"--verifier {name} gives no Verifier", err=True)
        raise typer.Exit(2)
    return found


if __name__ == "__main__":
    app()
