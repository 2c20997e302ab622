"""`python -m models.train nuclei|tissue`: one command a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False)
_HERE = Path(__file__).parent

Data = Annotated[Path, typer.Option(exists=True, file_okay=False, help="Folder of the data.")]
Out = Annotated[Path, typer.Option(file_okay=False, help="Folder for weights, card and log.")]


@app.callback()
def _root() -> None:
    """Train the vision models."""


@app.command()
def nuclei(
    data: Data,
    out: Out,
    config: Annotated[Path, typer.Option(exists=True)] = _HERE / "nuclei.toml",
) -> None:
    """Train the nucleus network; run it again to go on after an interruption."""
    from models.train.config import NucleiConfig
    from models.train.fields import read_fields
    from models.train.finish import ship
    from models.train.nuclei import train

    settings = NucleiConfig.read(config)
    out.mkdir(parents=True, exist_ok=True)
    fields, held = read_fields(data, settings, out / "flows")
    print(f"{len(fields)} fields to train on, {len(held)} held out", flush=True)
    ship(train(fields, settings, out), fields, held, settings, out)


@app.command()
def tissue(
    data: Data,
    out: Out,
    config: Annotated[Path, typer.Option(exists=True)] = _HERE / "tissue.toml",
) -> None:
    """Train the organ probe; its features are cached in the output folder."""
    from models.train.config import TissueConfig
    from models.train.tissue import train

    out.mkdir(parents=True, exist_ok=True)
    train(data, TissueConfig.read(config), out)


@app.command()
def figures(
    report: Annotated[Path, typer.Option(exists=True, help="Output of `eval vision --json`.")],
    weights: Annotated[Path, typer.Option(exists=True, help="The weights that it measured.")],
) -> None:
    """Add measured figures to the card of a weights file."""
    from models.train.cards import record_figures

    record_figures(report, weights)


if __name__ == "__main__":
    app()
