"""How long a turn takes, and how much of that is not the tools' own: `python -m eval speed`.

The instruction on the sample is a chain, so nothing runs side by side, and what is left of the
wall time after planning and the tools' own times is orchestration: graph, checkpoints, trace,
hand-over of arrays.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from agent.commands import make_runtime
from agent.planners import load
from agent.samples import sample_path
from agent.session import Kit, Thread
from tools.image import read_image

INSTRUCTION = "count the nuclei inside the epidermis"


def overheads(runtime: str, rounds: int, planner: str = "rules") -> dict[str, list[float]]:
    """Seconds of `rounds` fresh turns on the sample, after one that warms everything up.

    Returns:
        Lists by what was timed: `total`, `planning`, `tools` and `overhead` (the rest).
    """
    image = read_image(sample_path()).image
    kit = Kit(load(planner), make_runtime(runtime))
    found: dict[str, list[float]] = {"total": [], "planning": [], "tools": [], "overhead": []}
    try:
        for number in range(rounds + 1):
            with tempfile.TemporaryDirectory() as folder:
                outcome = Thread(Path(folder), kit, keep=False).ask(INSTRUCTION, image)
            if number == 0:
                continue
            spent = outcome.seconds
            tools = sum(spent["calls"].values())
            found["total"].append(spent["total"])
            found["planning"].append(spent["planning"])
            found["tools"].append(tools)
            found["overhead"].append(spent["total"] - spent["planning"] - tools)
    finally:
        kit.runtime.close()
    return found


def speed(rounds: int = 10, planner: str = "rules") -> None:
    """Print the median and the range of each part, in process and on Ray."""
    table = Table(title=f"“{INSTRUCTION}” on the sample, {rounds} turns, milliseconds")
    for column in ("runtime", "part", "median", "min", "max"):
        table.add_column(column)
    for runtime in ("local", "ray"):
        for part, seconds in overheads(runtime, rounds, planner).items():
            values = [f"{fold(seconds) * 1000:.1f}" for fold in (np.median, np.min, np.max)]
            table.add_row(runtime, part, *values)
    Console().print(table)
