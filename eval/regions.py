"""`python -m eval.regions --data DIR`: regions against masks, and against images without them.

For each concept that a backend knows and a set has masks of: the Dice coefficient where the
structure is there, beside that of calling all tissue the structure (a rule must beat it to be
worth anything); and, on images that cannot hold the structure, how often it is reported.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from PIL import Image as Pillow
from rich.console import Console
from rich.progress import track
from rich.table import Table

from eval.metrics import dice
from models.backend import Image, Quality, RegionBackend
from models.backends import load, tissue_mask
from tools.errors import BadInput

REPORTED = 0.5
"""`present` from which on a structure counts as reported."""


@dataclass(frozen=True)
class RegionSet:
    """One folder of `regions/`: its pixel size (None: not known) and what its masks hold.

    Attributes:
        folder: name below `regions/`.
        mpp: µm/px, or None.
        labels: concept name to the values of the mask that it covers.
        without: concepts that no image of the set can hold.
    """

    folder: str
    mpp: float | None
    labels: dict[str, tuple[int, ...]]
    without: tuple[str, ...] = ()


_NO_SKIN = ("epidermis", "dermis")
_NO_FAT = ("adipose tissue", "fat droplet")
SETS = (
    RegionSet("wsss4luad", 1.0, {"tumor": (1,), "stroma": (2,)}, _NO_SKIN),
    RegionSet("gleason_cedars11", 0.5, {"stroma": (2,), "gland": (1, 3, 4, 5)}, _NO_SKIN + _NO_FAT),
    RegionSet("ebhi_polyp49", None, {"gland": (1,)}, _NO_SKIN + _NO_FAT),
    RegionSet("bcss3", 0.25, {"tumor": (1,)}, _NO_SKIN),
    RegionSet("ocdc10", 0.5, {"tumor": (1,)}),
    RegionSet("camelyon32", None, {"metastasis": (1,)}, _NO_SKIN),
    RegionSet("liver_steatosis", None, {"fat droplet": (1,)}, _NO_SKIN),
    RegionSet("adipocyte_gtex", 5.6, {}, _NO_SKIN),
)
"""The sets with region masks, as their `SOURCE.md` files describe them."""


@dataclass(frozen=True)
class RegionFigure:
    """One concept on one set.

    Attributes:
        concept: ontology name.
        dataset: folder of the set.
        dice: mean over the images that hold the concept; NaN where none does.
        dice_all_tissue: the same for calling all tissue the concept.
        n: images that hold it.
        reported: share of those on which it is reported.
        false_reports: share of the images without it on which it is reported; NaN where the set
            has none.
        n_without: images without it.
    """

    concept: str
    dataset: str
    dice: float
    dice_all_tissue: float
    n: int
    reported: float
    false_reports: float
    n_without: int

    def quality(self) -> Quality:
        """As a backend declares it."""
        return Quality("Dice", round(self.dice, 3), self.dataset, self.n)


def region_quality(
    backend: RegionBackend, data: Path, concepts: tuple[str, ...] | None = None
) -> list[RegionFigure]:
    """Measure `backend` on the sets below `data / "regions"`.

    Args:
        backend: under test.
        data: folder that holds `regions/`.
        concepts: which ones; None is all that the backend knows.

    Raises:
        BadInput: there is no `regions` folder in `data`.
    """
    if not (data / "regions").is_dir():
        raise BadInput(f"{data} has no folder 'regions'")
    known = set(backend.regions if concepts is None else concepts) & set(backend.regions)
    figures = []
    for one in SETS:
        asked = sorted(known & (one.labels.keys() | set(one.without)))
        if asked and (data / "regions" / one.folder).is_dir():
            figures += _measure(backend, data, one, asked)
    return figures


def _images(data: Path, one: RegionSet) -> Iterator[tuple[Image, npt.NDArray[np.uint16] | None]]:
    folder = data / "regions" / one.folder
    paths = sorted((folder / "images").iterdir())
    for path in track(paths, one.folder, console=Console(stderr=True), transient=True):
        rgb = np.asarray(Pillow.open(path).convert("RGB"))
        mask = folder / "masks" / f"{path.stem}.png"
        truth = np.asarray(Pillow.open(mask)).astype(np.uint16) if mask.exists() else None
        yield Image(rgb, one.mpp), truth


def _measure(
    backend: RegionBackend, data: Path, one: RegionSet, asked: list[str]
) -> list[RegionFigure]:
    overlaps: dict[str, list[tuple[float, float]]] = {concept: [] for concept in asked}
    hits: dict[str, list[bool]] = {concept: [] for concept in asked}
    alarms: dict[str, list[bool]] = {concept: [] for concept in asked}
    for image, mask in _images(data, one):
        for concept in asked:
            found = backend.region(image, concept)
            values = one.labels.get(concept)
            truth = None if mask is None or values is None else np.isin(mask, values)
            if truth is not None and truth.any():
                every = dice(truth, tissue_mask(image))
                overlaps[concept].append((dice(truth, found.mask), every))
                hits[concept].append(found.present >= REPORTED)
            elif truth is not None or concept in one.without:
                alarms[concept].append(found.present >= REPORTED)
    return [
        RegionFigure(
            concept=concept,
            dataset=one.folder,
            dice=_mean([ours for ours, _ in overlaps[concept]]),
            dice_all_tissue=_mean([every for _, every in overlaps[concept]]),
            n=len(overlaps[concept]),
            reported=_mean(hits[concept]),
            false_reports=_mean(alarms[concept]),
            n_without=len(alarms[concept]),
        )
        for concept in asked
    ]


def _mean(values: list[float] | list[bool]) -> float:
    return float(np.mean(values)) if values else float("nan")


def table(figures: list[RegionFigure]) -> Table:
    """The figures for people."""
    out = Table("concept", "set", "Dice", "all tissue", "n", "reported", "false reports", "n")
    for f in figures:
        shares = (f"{f.dice:.3f}", f"{f.dice_all_tissue:.3f}", str(f.n), f"{f.reported:.2f}")
        out.add_row(f.concept, f.dataset, *shares, f"{f.false_reports:.2f}", str(f.n_without))
    return out


def main(
    data: Annotated[Path, typer.Option(help="Folder with 'regions' in it.")],
    backend: Annotated[str, typer.Option(help="Name of the backend.")] = "classical",
    concept: Annotated[list[str] | None, typer.Option(help="Only this one; repeatable.")] = None,
) -> None:
    """Measure the regions of a backend and print a table."""
    figures = region_quality(load(backend), data, tuple(concept) if concept else None)
    Console().print(table(figures))


if __name__ == "__main__":
    typer.run(main)
