"""`histopilot batch`: one instruction about every image of a folder, and a table of the results."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.progress import track

from agent.commands import Job, Means, Source, answer
from agent.output.writer import writable
from agent.session import Kit, checked_instruction
from tools.errors import BadInput

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".bmp", ".webp", ".jp2"),
    *(".tif", ".tiff", ".svs", ".ndpi", ".mrxs", ".scn"),
)
SUMMARY = "summary"
log = logging.getLogger(__name__)


def run(
    folder: Path,
    instruction: str,
    out: Path,
    mpp: float | None,
    yes: bool,
    means: Means,
    *,
    quiet: bool = False,
) -> list[dict[str, Any]]:
    """Answer `instruction` about each image of `folder`, one after the other.

    An image that can't be read is a row with status `bad_input` and its one line; the batch goes
    on. `summary.csv` and `summary.parquet` are written at the end, and after every image a row is
    added to the CSV, so a batch that is stopped leaves what it has.

    Returns:
        The rows of the summary: image, status, text, seconds, and each call's figures.

    Raises:
        BadInput: there is no such folder, no image in it, or two with one stem.
    """
    checked_instruction(instruction)
    images = images_in(folder)
    writable(out)
    kit = means.kit()
    console = Console(quiet=quiet, stderr=True)
    rows: list[dict[str, Any]] = []
    try:
        for path in track(images, description="Images", console=console):
            job = Job(Source(path, mpp), instruction, out / path.stem, yes=yes)
            rows.append(_row(job, kit))
            pd.DataFrame(rows).to_csv(out / f"{SUMMARY}.csv", index=False)
    finally:
        kit.runtime.close()
    table = pd.DataFrame(rows)
    table.to_parquet(out / f"{SUMMARY}.parquet", index=False)
    console.print(table.to_string(index=False, max_colwidth=60), markup=False)
    return rows


def images_in(folder: Path) -> list[Path]:
    """The images of a folder by their suffix, sorted by name.

    Raises:
        BadInput: there are none, or two with one stem, whose results would share a folder.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder} is not a folder")
    images = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not images:
        raise BadInput(f"{folder} has no image ({', '.join(sorted(SUFFIXES))})")
    seen: dict[str, Path] = {}
    for path in images:
        if path.stem in (".", ".."):
            raise BadInput(f"{path.name} can't name a result folder: rename it")
        if path.stem in seen:
            raise BadInput(
                f"{seen[path.stem].name} and {path.name} would share one result folder: rename one"
            )
        seen[path.stem] = path
    return images


def _row(job: Job, kit: Kit) -> dict[str, Any]:
    """The summary's row of one image; its folder is written on the way."""
    name = job.source.path.name if job.source.path else ""
    image = os.fsencode(name).decode("utf-8", "replace")
    try:
        loaded = job.source.read()
        result = answer(job, loaded, writable(job.folder(), job.source.path), kit)
    except BadInput as error:
        return {"image": image, "status": "bad_input", "text": str(error), "seconds": 0.0}
    except Exception as fault:  # one image's fault must not cost the others
        log.exception("%s failed inside", image)
        text = f"HistoPilot failed inside ({type(fault).__name__}: {fault})."
        return {"image": image, "status": "failed", "text": text, "seconds": 0.0}
    row = {
        "image": image,
        "status": result["status"],
        "text": result["text"],
        "seconds": result["seconds"]["total"],
    }
    for ref, figures in result["measurements"].items():
        for name, value in figures.items():
            if isinstance(value, (int, float)):
                row[f"{ref} {name}"] = value
    return row
