"""What the second look is taught on: patches and fields, with the places of their nuclei."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from models.backend import ALL_NUCLEI, Image
from models.planner.fetch import file_sha256
from models.tiling import centroids
from models.train.config import MitosisConfig
from models.vision.mitosis import FIGURE_UM, WORKING_MPP
from models.vision.nuclei import FlowNuclei
from models.vision.weights import WEIGHTS

_NEAR_UM = 5.0
"""Nuclei of a patch this close to its figure are its candidates: one of two sets of an anaphase."""
_FAR_UM = 6.5
"""A nucleus of a patch is negative if it is at least this far from every figure."""
EDGE = 20
"""Nuclei this close to the edge of a patch are left out, px: too little of them is seen."""


@dataclass(frozen=True)
class Picture:
    """A patch or a field at `WORKING_MPP`.

    Attributes:
        source: the set's folder under the data folder.
        group: slide or image; held-out groups are never trained on.
        rgb: uint8 (H, W, 3).
        figures: float (n, 2), rows and columns, px: where there is a mitotic figure, its centre,
            and then the nuclei that would be taken for it.
        others: float (m, 2), rows and columns of other nuclei.
        marked: whether it is a field in which every figure is marked.
    """

    source: str
    group: str
    rgb: npt.NDArray[np.uint8]
    figures: npt.NDArray[np.float64]
    others: npt.NDArray[np.float64]
    marked: bool = False


class Nuclei:
    """Centres of the nuclei that the shipped network finds, kept by weights and image."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache / file_sha256(WEIGHTS / "nuclei.safetensors")[:12]
        self.backend: FlowNuclei | None = None
        self.cache.mkdir(parents=True, exist_ok=True)

    def centres(self, rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Rows and columns, float (n, 2), of an image at `WORKING_MPP`."""
        image = Image(rgb, WORKING_MPP)
        kept = self.cache / f"{image.digest}.npy"
        if not kept.exists():
            self.backend = self.backend or FlowNuclei()
            np.save(kept, centroids(self.backend.nuclei(image, ALL_NUCLEI).labels))
        found: npt.NDArray[np.float64] = np.load(kept)
        return found


def read_patches(folder: Path, source: str, nuclei: Nuclei) -> list[Picture]:
    """Patches with a figure in the centre; those with a black border are left out.

    Args:
        folder: holds `index.csv` and the patches that it names.
        source: name of the set.
        nuclei: finds the other nuclei.
    """
    with (folder / "index.csv").open(newline="", encoding="utf-8") as handle:
        rows = [row for row in csv.DictReader(handle) if row["black_border"] == "0"]
    places: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row["slide"]:
            places.setdefault(row["slide"], []).append((float(row["y"]), float(row["x"])))
    pictures = []
    for row in rows:
        rgb = np.asarray(Pillow.open(folder / row["path"]).convert("RGB"))
        middle = np.array(rgb.shape[:2]) / 2
        figures = np.zeros((1, 2))
        if row["slide"]:  # another figure of the slide may lie in the same patch
            figures = np.array(places[row["slide"]]) - (float(row["y"]), float(row["x"]))
        found = nuclei.centres(rgb)
        away = np.linalg.norm(found[:, None] - middle - figures, axis=2).min(axis=1)
        near = found[np.linalg.norm(found - middle, axis=1) * WORKING_MPP <= _NEAR_UM]
        inner = (np.abs(found - middle) < middle - EDGE).all(axis=1)
        others = found[inner & (away * WORKING_MPP >= _FAR_UM)]
        group = row["slide"] or row["path"]
        pictures.append(Picture(source, group, rgb, np.vstack([middle, near]), others))
    return pictures


def read_fields(folder: Path, source: str, nuclei: Nuclei) -> list[Picture]:
    """Fields of `folder/images`, all nuclei of which are taken for negative."""
    pictures = []
    for path in sorted((folder / "images").iterdir()):
        rgb = np.asarray(Pillow.open(path).convert("RGB"))
        slide, none = path.stem.split("_y")[0], np.zeros((0, 2))  # crops of a slide are NAME_yN_xN
        pictures.append(Picture(source, slide, rgb, none, nuclei.centres(rgb)))
    return pictures


class Marks(NamedTuple):
    """What is marked in a field of a folder with `images.csv`, `points.csv` and `images/*.jpg`.

    Attributes:
        path: of its image.
        case: the patient.
        points: class and place of every mark.
    """

    path: Path
    case: str
    points: list[tuple[str, tuple[float, float]]]

    def places(self, *kinds: str) -> npt.NDArray[np.float64]:
        """Float (n, 2), rows and columns in px, of the marks of these classes."""
        return np.array([place for kind, place in self.points if kind in kinds]).reshape(-1, 2)


def read_marks(folder: Path) -> list[Marks]:
    """The marks of every field of `folder`."""
    points: dict[str, list[tuple[str, tuple[float, float]]]] = {}
    with (folder / "points.csv").open(newline="", encoding="utf-8") as handle:
        for row in csv.DictReader(handle):
            place = (float(row["y"]), float(row["x"]))
            points.setdefault(row["image"], []).append((row["cls"], place))
    with (folder / "images.csv").open(newline="", encoding="utf-8") as handle:
        return [
            Marks(
                folder / "images" / f"{row['image']}.jpg", row["case"], points.get(row["image"], [])
            )
            for row in csv.DictReader(handle)
        ]


class Marked(NamedTuple):
    """A field in which every figure is marked.

    Attributes:
        picture: to train on; its group is the patient.
        points: float (n, 2), rows and columns of the marked figures, px.
        nuclei: float (m, 2), of all nuclei that were found.
    """

    picture: Picture
    points: npt.NDArray[np.float64]
    nuclei: npt.NDArray[np.float64]


def read_marked(folder: Path, source: str, nuclei: Nuclei) -> list[Marked]:
    """Fields as `read_marks` reads them.

    A nucleus is negative if it is no candidate of any figure, whether or not it has a mark of its
    own: many have none.
    """
    fields = []
    for field in read_marks(folder):
        rgb = np.asarray(Pillow.open(field.path).convert("RGB"))
        points = field.places("mitosis")
        found = nuclei.centres(rgb)
        away = np.linalg.norm(found[:, None] - points, axis=2).min(axis=1, initial=np.inf)
        figures = np.vstack([points, found[away * WORKING_MPP <= _NEAR_UM]])
        others = found[away * WORKING_MPP > FIGURE_UM]
        picture = Picture(source, field.case, rgb, figures, others, marked=True)
        fields.append(Marked(picture, points, found))
    return fields


def read_pictures(
    data: Path, config: MitosisConfig, cache: Path
) -> tuple[list[Picture], list[Marked]]:
    """The pictures of a run, and its fields in which every figure is marked.

    Args:
        data: folder that holds the sets.
        config: names them.
        cache: folder for the places of the nuclei.
    """
    nuclei = Nuclei(cache)
    pictures: list[Picture] = []
    marked: list[Marked] = []
    for name in config.fields:
        pictures += read_fields(data / name, name, nuclei)
    for name in config.figures:
        pictures += read_patches(data / "mitosis" / name, name, nuclei)
    for name in config.marked:
        marked += read_marked(data / name, name, nuclei)
    return pictures, marked


def split(pictures: Sequence[Picture], every: int) -> tuple[list[Picture], list[Picture]]:
    """Pictures to train on, and those of every `every`th group of each set, held out."""
    names: dict[str, list[str]] = {}
    for picture in pictures:
        groups = names.setdefault(picture.source, [])
        if picture.group not in groups:
            groups.append(picture.group)
    out = {(source, g) for source, groups in names.items() for g in groups[::every]}
    held = [picture for picture in pictures if (picture.source, picture.group) in out]
    return [p for p in pictures if (p.source, p.group) not in out], held
