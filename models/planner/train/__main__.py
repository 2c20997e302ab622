"""`python -m models.planner.train`: fine-tune the planner; run it again to go on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from models.planner.train.config import PlannerConfig

_HERE = Path(__file__).parent


def main(
    out: Annotated[Path, typer.Option(file_okay=False, help="Checkpoints, adapter, card.")],
    config: Annotated[Path, typer.Option(exists=True, dir_okay=False)] = _HERE / "embedded.toml",
) -> None:
    """Fine-tune the planner; run it again to go on after an interruption."""
    from models.planner.train.run import train  # seconds of imports

    settings = PlannerConfig.read(config)
    if settings.sharded and "WORLD_SIZE" not in os.environ:
        raise typer.BadParameter(f"{config.name} shards the model: start it with torchrun")
    out.mkdir(parents=True, exist_ok=True)
    print(train(settings, out))


if __name__ == "__main__":
    typer.run(main)
