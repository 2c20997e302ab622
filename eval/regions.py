"""`python -m eval.regions --data DIR`: regions against masks, and against images without them.

For each concept that a backend knows and a set has masks of: the Dice coefficient where the
structure is there, presence aside, beside that of calling all tissue the structure (a model must
beat it to be worth anything). How often it is reported, where it is there and on images that can't
hold it. A network is measured only on sets that it was not trained on. For the Dice on the others
the run's two folds stand in, each trained without half of the sources; presence is the shipped
network's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer
from PIL import Image as Pillow
from rich.console import Console
from rich.progress import track

from eval.metrics import bootstrap, dice
from eval.organ import external_rows
from eval.vision import TEST_MPP, Figure, printed, show
from models.backend import Image, RegionBackend
from models.backends import load, tissue_mask
from models.train.settled import typed_nuclei
from models.vision.infiltrate import CELL, infiltrated
from models.vision.net import KINDS
from tools.errors import BadInput
from tools.segment import PRESENT_FROM

ALL = "regions/all"
"""Task of the figures over all sets of a concept."""


@dataclass(frozen=True)
class RegionSet:
    """Images, what their masks hold, and what they can't hold.

    Attributes:
        name: folder below `regions/`, or dataset and class of the manifest's external tiles.
        mpp: µm/px, or None where nobody knows.
        labels: concept name to the values of the mask that it covers.
        holds: concepts that every image holds, whatever its mask.
        without: concepts that no image of the set can hold.
    """

    name: str
    mpp: float | None
    labels: dict[str, tuple[int, ...]]
    holds: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


_NO_SKIN = ("epidermis", "dermis")
_NO_FAT = ("adipose tissue", "fat droplet")
_NO_CANCER = ("tumor", "metastasis", "necrosis")
_NO_EPITHELIUM = (*_NO_CANCER, *_NO_SKIN, "gland", "epithelium")
_INFLAMED = ("inflammation", "lymphocytic infiltrate")
NUCLEI = "consep"
"""Below `nuclei/test`: what its annotated nuclei settle stands for a mask."""
MASKS = (
    RegionSet("wsss4luad", 1.0, {"tumor": (1,), "stroma": (2,)}, without=_NO_SKIN),
    RegionSet(
        "gleason_cedars11",
        0.5,
        {"tumor": (3, 4, 5), "stroma": (2,), "gland": (1, 3, 4, 5), "epithelium": (1, 3, 4, 5)},
        without=_NO_SKIN + _NO_FAT + ("necrosis",),
    ),
    RegionSet(
        "ebhi_polyp49",
        None,
        {"gland": (1,), "epithelium": (1,)},
        without=_NO_SKIN + _NO_FAT + ("necrosis",),
    ),
    RegionSet("bcss3", 0.25, {"tumor": (1,)}, without=_NO_SKIN),
    RegionSet("ocdc10", 0.5, {"tumor": (1,)}, without=("gland",)),
    RegionSet(
        "camelyon32",
        None,
        {"tumor": (1,), "metastasis": (1,), "epithelium": (1,)},
        without=(*_NO_SKIN, "gland"),
    ),
    RegionSet("liver_steatosis", None, {"fat droplet": (1,)}, without=_NO_CANCER + _NO_SKIN),
    RegionSet(NUCLEI, TEST_MPP, dict.fromkeys(_INFLAMED, (1,))),
)
"""The sets with masks, as their `SOURCE.md` files describe them."""
TILES = (
    RegionSet(
        "crc_val7k_70/adipose",
        0.5,
        {},
        ("adipose tissue",),
        (*_NO_EPITHELIUM, *_INFLAMED, "stroma"),
    ),
    RegionSet("crc_val7k_70/lymphocytes", 0.5, {}, _INFLAMED, _NO_EPITHELIUM),
    RegionSet("crc_val7k_70/mucus", 0.5, {}, (), ("necrosis", *_NO_SKIN, *_INFLAMED)),
    RegionSet("crc_val7k_70/smooth_muscle", 0.5, {}, (), _NO_EPITHELIUM + _INFLAMED),
    RegionSet("crc_val7k_70/normal_mucosa", 0.5, {}, ("gland", "epithelium"), _NO_CANCER),
    RegionSet("crc_val7k_70/stroma", 0.5, {}, ("stroma",), _NO_EPITHELIUM),
    RegionSet("crc_val7k_70/tumour", 0.5, {}, ("tumor", "epithelium"), _NO_SKIN),
    RegionSet("breakhis400_40/malignant", None, {}, ("tumor",), _NO_SKIN),
    RegionSet("oral_rahman/normal", None, {}, ("epithelium",), (*_NO_CANCER, "gland")),
    RegionSet("oral_rahman/oscc", None, {}, ("tumor",), ("gland",)),
)
"""Tiles of one class each, of sources that no training run sees."""


@dataclass(frozen=True)
class RegionCase:
    """What one image gave for one concept.

    Attributes:
        group: patient, slide or file, with the set's name before it.
        holds: whether the concept is there.
        reported: whether the tool would draw it; None where a fold stands in.
        dice: of the mask, presence aside; None where the set has no masks or it isn't there.
        all_tissue: Dice of calling all tissue the concept.
    """

    concept: str
    dataset: str
    group: str
    holds: bool
    reported: bool | None
    dice: float | None = None
    all_tissue: float | None = None


@dataclass(frozen=True)
class _Sight:
    image: Image
    group: str
    mask: npt.NDArray[np.uint16] | None


def _sights(data: Path, one: RegionSet) -> Iterator[_Sight]:
    if "/" in one.name:
        for row in external_rows(data):
            if f"{row['dataset']}/{row['cls']}" == one.name:
                rgb = np.asarray(Pillow.open(data / row["path"].strip("\0")).convert("RGB"))
                yield _Sight(Image(rgb, one.mpp), row["group"], None)
        return
    if one.name == NUCLEI:
        yield from _annotated(data / "nuclei" / "test" / NUCLEI)
        return
    folder = data / "regions" / one.name
    for path in sorted((folder / "images").iterdir()):
        rgb = np.asarray(Pillow.open(path).convert("RGB"))
        mask = np.asarray(Pillow.open(folder / "masks" / f"{path.stem}.png")).astype(np.uint16)
        yield _Sight(Image(rgb, one.mpp), _case(one.name, path.stem), mask)


def _annotated(folder: Path) -> Iterator[_Sight]:
    """Where annotated inflammatory nuclei are dense, by the rule of `models.vision.infiltrate`."""
    for path, shape, centres, kinds in typed_nuclei(folder):
        cells = centres[kinds == KINDS.index(CELL) + 1]
        mask = infiltrated(cells, centres, shape, TEST_MPP).astype(np.uint16)
        rgb = np.asarray(Pillow.open(path).convert("RGB"))
        yield _Sight(Image(rgb, TEST_MPP), path.stem, mask)


def _case(folder: str, stem: str) -> str:
    """The patient or slide of an image, from its file name as the set's `SOURCE.md` reads it."""
    if folder == "ebhi_polyp49":
        return stem.split("-")[0]
    return stem.split("_")[0] if folder in ("bcss3", "liver_steatosis") else stem


def region_cases(
    backends: Sequence[RegionBackend], data: Path, concepts: Sequence[str]
) -> Iterator[RegionCase]:
    """Ask for `concepts` on every set, each time the first backend that was not trained on it.

    Args:
        backends: under test; they are one model, and the folds that stand in for it.
        data: folder that holds `regions/` and `tissue/`.
        concepts: which ones; those that a backend doesn't know are left out.

    Raises:
        BadInput: there is no `regions` folder in `data`.
    """
    if not (data / "regions").is_dir():
        raise BadInput(f"{data} has no folder 'regions'")
    for one in (*MASKS, *TILES):
        told = {*one.labels, *one.holds, *one.without}
        fresh = [b for b in backends if one.name not in getattr(b, "sources", ())]
        asked = sorted(told & set(concepts) & set(fresh[0].regions)) if fresh else []
        if asked:
            steps = track(_sights(data, one), one.name, console=Console(stderr=True))
            for sight in steps:
                for concept in asked:
                    case = _ask(fresh[0], one, sight, concept)
                    if case:
                        yield case if fresh[0] is backends[0] else replace(case, reported=None)


def _ask(backend: RegionBackend, one: RegionSet, sight: _Sight, concept: str) -> RegionCase | None:
    """The case of one concept, or None where nobody knows whether the image holds it."""
    values = one.labels.get(concept)
    truth = None if sight.mask is None or values is None else np.isin(sight.mask, values)
    if truth is None and concept not in (*one.holds, *one.without):
        return None
    found = backend.region(sight.image, concept)
    reported = found.present >= PRESENT_FROM and bool(found.mask.any())
    group = f"{one.name}/{sight.group}"
    if truth is None or not truth.any():
        holds = truth is None and concept in one.holds
        return RegionCase(concept, one.name, group, holds, reported)
    overlap, tissue = dice(truth, found.mask), dice(truth, tissue_mask(sight.image))
    return RegionCase(concept, one.name, group, True, reported, overlap, tissue)


def region_figures(cases: Sequence[RegionCase]) -> list[Figure]:
    """Figures of each concept, by set and over all sets; intervals by patient or slide.

    Over all sets, every set weighs the same.
    """
    figures: list[Figure] = []
    for concept in sorted({case.concept for case in cases}):
        own = [case for case in cases if case.concept == concept]
        for dataset in dict.fromkeys(case.dataset for case in own):
            part = [case for case in own if case.dataset == dataset]
            figures += _figures(f"regions/{dataset}", concept, part)
        figures += _figures(ALL, concept, own)
    return figures


def _figures(task: str, concept: str, cases: Sequence[RegionCase]) -> Iterator[Figure]:
    measures: dict[str, Callable[[RegionCase], float | None]] = {
        "Dice": lambda case: case.dice,
        "Dice of all tissue": lambda case: case.all_tissue,
        "found": lambda case: case.reported if case.holds else None,
        "false masks": lambda case: None if case.holds else case.reported,
    }
    for name, measure in measures.items():
        values = [(case, measure(case)) for case in cases]
        known = [(case, float(value)) for case, value in values if value is not None]
        if known:
            statistic = _by_set([case.dataset for case, _ in known], [value for _, value in known])
            low, high = bootstrap([case.group for case, _ in known], statistic)
            value = statistic(np.arange(len(known)))
            yield Figure(task, f"{concept} {name}", value, low, high, len(known))


def _by_set(
    datasets: Sequence[str], values: Sequence[float]
) -> Callable[[npt.NDArray[np.int64]], float]:
    """The mean over sets of the mean over the drawn cases of a set."""
    names, number = np.unique(np.asarray(datasets), return_inverse=True)
    value = np.asarray(values)

    def statistic(indices: npt.NDArray[np.int64]) -> float:
        count = np.bincount(number[indices], minlength=len(names))
        total = np.bincount(number[indices], weights=value[indices], minlength=len(names))
        return float((total[count > 0] / count[count > 0]).mean())

    return statistic


def main(
    data: Annotated[Path, typer.Option(help="Folder with regions/ and tissue/.")],
    backend: Annotated[str, typer.Option(help="Name of the backend.")] = "regions",
    folds: Annotated[
        Path | None, typer.Option(help="Folder of the training run, with fold-0 and fold-1.")
    ] = None,
    concept: Annotated[list[str] | None, typer.Option(help="Only this one; repeatable.")] = None,
    json: Annotated[bool, typer.Option(help="Print one JSON object instead.")] = False,
) -> None:
    """Measure the regions of a backend and print a table."""
    loaded: list[Any] = [load(backend)]
    if folds:
        from models.vision.regions import TextRegions

        loaded += [TextRegions(folds / f"fold-{n}.safetensors") for n in (0, 1)]
    asked = concept or list(loaded[0].regions)
    figures = region_figures(list(region_cases(loaded, data, asked)))
    if json:
        command = "python -m eval.regions --data DIR --folds DIR --json"
        printed([(loaded[0].info, figures)], command=command)
    else:
        show(figures)


if __name__ == "__main__":
    typer.run(main)
