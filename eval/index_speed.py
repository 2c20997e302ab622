"""How long it takes to list many traces: `python -m eval.index_speed [TRACES]`.

One real turn on the sample, its events copied into as many folders; then the index is built,
listed warm, filtered, and listed after one trace more.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from agent.commands import make_runtime
from agent.planners import load
from agent.record.index import Filter, listed
from agent.record.trace import EVENTS_FILE
from agent.samples import sample_path
from agent.session import Kit, Thread
from tools.image import read_image
from tools.registry import DEFAULT_BACKENDS

INSTRUCTION = "box the nuclei inside the epidermis"
FILTERS = {
    "built, no index before": Filter(),
    "listed again": Filter(),
    "filtered by tool": Filter(tool="extract_boxes"),
    "filtered by text": Filter(grep="EPIDERMIS"),
}


def index_speed(traces: int = 1000, rounds: int = 5) -> list[tuple[str, int, float]]:
    """What was timed, the rows that came back, and the best of `rounds` in seconds."""
    found = []
    with tempfile.TemporaryDirectory(prefix="histopilot-bench-") as scratch:
        events = _recorded(Path(scratch) / "one") / EVENTS_FILE
        folder = Path(scratch) / "many"
        for number in range(traces):
            _copy(events, folder / f"{number:05d}" / "trace")
        for name, wanted in FILTERS.items():
            times = []
            for _ in range(1 if name.startswith("built") else rounds):
                began = time.perf_counter()
                rows = listed(folder, wanted)
                times.append(time.perf_counter() - began)
            found.append((name, len(rows), min(times)))
        _copy(events, folder / "new" / "trace")
        began = time.perf_counter()
        found.append(("listed after one more", len(listed(folder)), time.perf_counter() - began))
    return found


def _recorded(folder: Path) -> Path:
    """The trace of one real turn on the sample."""
    kit = Kit(load("rules"), make_runtime("local"), dict.fromkeys(DEFAULT_BACKENDS, ("classical",)))
    image = read_image(sample_path()).image
    return Thread(folder, kit, keep=False).ask(INSTRUCTION, image).trace


def _copy(events: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    shutil.copy(events, folder / EVENTS_FILE)


def main() -> None:
    """Print the table."""
    traces = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    table = Table("what", "rows", "seconds", title=f"The index of {traces:,} traces")
    for name, rows, seconds in index_speed(traces):
        table.add_row(name, f"{rows:,}", f"{seconds:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
