"""`python -m models.train nuclei|tissue|regions|mitosis`: one command a model."""

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
    hf_encoder: Annotated[bool, typer.Option(help="On the encoder of models.toml.")] = False,
) -> None:
    """Train the organ probe; its features are cached in the output folder."""
    from models.external.config import EncoderEntry, configured
    from models.external.encoder import Encoder
    from models.train.config import TissueConfig
    from models.train.tissue import train

    encoder = Encoder(configured("hf-encoder", EncoderEntry)) if hf_encoder else None
    out.mkdir(parents=True, exist_ok=True)
    train(data, TissueConfig.read(config), out, encoder)


@app.command()
def regions(
    data: Data,
    out: Out,
    config: Annotated[Path, typer.Option(exists=True)] = _HERE / "regions.toml",
) -> None:
    """Train the region network and its two halves; run it again after an interruption."""
    from models.train.config import RegionConfig
    from models.train.regions import run

    out.mkdir(parents=True, exist_ok=True)
    run(data, RegionConfig.read(config), out)


@app.command()
def mitosis(
    data: Data,
    out: Out,
    config: Annotated[Path, typer.Option(exists=True)] = _HERE / "mitosis.toml",
) -> None:
    """Train the classifier of mitotic figures; run it again to go on after an interruption."""
    from models.train.config import MitosisConfig
    from models.train.finish_mitosis import run
    from models.train.pictures import read_pictures

    settings = MitosisConfig.read(config)
    out.mkdir(parents=True, exist_ok=True)
    run(*read_pictures(data, settings, out / "nuclei"), settings, out)


@app.command()
def figures(
    report: Annotated[
        Path, typer.Option(exists=True, help="Output of `--json` of the evaluation.")
    ],
    weights: Annotated[Path, typer.Option(exists=True, help="The weights that it measured.")],
) -> None:
    """Add measured figures to the card of a weights file."""
    from models.train.cards import record_figures

    record_figures(report, weights)


if __name__ == "__main__":
    app()
