"""Training of the second look that tells mitotic figures from other nuclei.

Positives are patches centred on a figure. All of these patches are positive, so that whatever marks
their source would mark a figure. Negatives are therefore taken from the same patches too, at nuclei
off the centre, and the other half from fields in which mitoses are rare; and every crop may be
given the overall colour of another source's picture.

Nobody marked the few figures of those fields. Two networks, each of half of the slides, look at the
negatives of the other half first: what looks like a figure even among figures is left out, and the
rest is drawn by how much it looks like one. The last steps add fields in which every figure is
marked, of a resolution that nobody states.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import expit
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from models.train.augment import degrade, jitter_stain, tint, towards
from models.train.config import MitosisConfig
from models.train.loop import Terms, adapted_encoder, fit
from models.train.pictures import EDGE, Picture, split
from models.vision.features import as_float
from models.vision.mitosis import SIDE, MitosisNet, cut, looks, scores, shrunk, trunk_of
from models.vision.net import Ensemble

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
_ZOOM = (0.9, 1.7)
"""Side of a crop of a marked field, as a share of `SIDE`."""


def colour(rgb: npt.NDArray[np.uint8]) -> Tensor:
    """Mean optical density (3,) of the tissue of a picture."""
    return tint(as_float(rgb), 0.15)


def augmented(
    rgb: npt.NDArray[np.uint8],
    centre: npt.NDArray[np.float64],
    gain: Tensor,
    zoom: float,
    rng: np.random.Generator,
) -> Tensor:
    """A crop around `centre` as another scanner might have given it: (3, `SIDE`, `SIDE`).

    Of `zoom` times that side, shifted, turned, mirrored, with optical densities times `gain` (3,)
    and other stain, blur and compression; at random the image ends close to the nucleus, as nuclei
    of a patch may lie at its edge and figures never do.
    """
    side = round(SIDE * zoom)
    y, x = np.clip(centre + rng.normal(0, 2.5, 2), 0, np.array(rgb.shape[:2]) - 1)
    bounds = [0, rgb.shape[0], 0, rgb.shape[1]]
    if rng.random() < 0.5:
        edge, near = int(rng.integers(4)), int(rng.integers(EDGE, SIDE // 2))
        at = int((y, x)[edge // 2])
        bounds[edge] = min(bounds[edge], at + near) if edge % 2 else max(bounds[edge], at - near)
    crop = cut(rgb, (y, x), side, (bounds[0], bounds[1], bounds[2], bounds[3]))
    picture = shrunk(as_float(crop)[None])[0]
    picture = picture.clamp(1e-3, 1).rot90(int(rng.integers(4)), (1, 2)) ** gain[:, None, None]
    if rng.random() < 0.5:
        picture = picture.flip(-1)
    return degrade(jitter_stain(picture, rng, float(rng.uniform(0.3, 1.5))), rng)


class Crops(NamedTuple):
    """A batch: `rgb` (B, 3, `SIDE`, `SIDE`), 0..1, and `figure` (B,), 1 for a mitotic figure."""

    rgb: Tensor
    figure: Tensor


Place = tuple[int, npt.NDArray[np.float64]]
"""Index of a picture, and row and column in it."""

_PLAIN = {("patch", True): 24, ("patch", False): 12, ("field", False): 12}
_MARKED = {
    ("patch", True): 16,
    ("marked", True): 8,
    ("patch", False): 6,
    ("field", False): 6,
    ("marked", False): 12,
}
"""What a batch is made of, in 48ths: kind of picture, and whether at its figures; without marked
fields and with them."""


def _kind(picture: Picture) -> str:
    if picture.marked:
        return "marked"
    return "patch" if len(picture.figures) else "field"


@dataclass(frozen=True)
class Pool:
    """What a part of every batch is drawn from.

    Attributes:
        count: crops of a batch.
        figure: whether they are figures.
        places: of the nuclei.
        chances: of each place, which sum to 1; None: all the same.
    """

    count: int
    figure: bool
    places: list[Place]
    chances: npt.NDArray[np.float64] | None


class Batches(Dataset[Crops]):
    """Batch number i as a function of the seed and i.

    Attributes:
        pools: of figures, and of other nuclei.
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
        self.pictures, self.config, self._logits = pictures, config, logits
        shares = _MARKED if any(picture.marked for picture in pictures) else _PLAIN
        self.pools = [
            self._pool(kind, figure, config.batch * share // 48)
            for (kind, figure), share in shares.items()
        ]
        self._colours = [colour(picture.rgb) for picture in pictures]
        self._sources: dict[str, list[int]] = {}
        for i, picture in enumerate(pictures):
            self._sources.setdefault(picture.source, []).append(i)

    def _pool(self, kind: str, figure: bool, count: int) -> Pool:
        places: list[Place] = []
        chances: list[npt.NDArray[np.float64]] = []
        for i, picture in enumerate(self.pictures):
            if _kind(picture) == kind:
                own = picture.figures if figure else picture.others
                places += [(i, y) for y in own]
                alike = None if self._logits is None else self._logits[i].astype(np.float64)
                chance = np.ones(len(own)) if alike is None or figure else _FLOOR + expit(alike)
                chances.append(chance * min(1.0, _MOST / max(1, len(own))))
        weights = np.concatenate(chances)
        return Pool(count, figure, places, None if figure else weights / weights.sum())

    def seeded(self, seed: int) -> Batches:
        """The same pictures, drawn with another seed."""
        other = copy.copy(self)
        other.config = self.config.model_copy(update={"seed": seed})
        return other

    def __getitem__(self, step: int) -> Crops:
        """Half figures, half other nuclei."""
        rng = np.random.default_rng([self.config.seed, step])
        drawn = [
            (pool.figure, pool.places[i])
            for pool in self.pools
            for i in rng.choice(len(pool.places), pool.count, p=pool.chances)
        ]
        crops = [
            augmented(self.pictures[i].rgb, y, self._gain(i, rng), self._zoom(i, rng), rng)
            for _, (i, y) in drawn
        ]
        return Crops(torch.stack(crops), torch.tensor([float(figure) for figure, _ in drawn]))

    def _zoom(self, index: int, rng: np.random.Generator) -> float:
        if self.pictures[index].marked:
            return float(np.exp(rng.uniform(*np.log(_ZOOM))))
        return float(np.exp(np.clip(rng.normal(0, 0.18), -0.4, 0.4)))

    def _gain(self, index: int, rng: np.random.Generator) -> Tensor:
        """What turns the colour of a picture into that of one of any source, or a part of it."""
        if rng.random() > _STYLED:
            return torch.ones(3)
        source = list(self._sources.values())[int(rng.integers(len(self._sources)))]
        other = self._colours[source[int(rng.integers(len(source)))]]
        return towards(self._colours[index], other, rng.uniform(0.5, 1.0))


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
    return net.eval()


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


def train(
    pictures: Sequence[Picture], config: MitosisConfig, out: Path
) -> tuple[MitosisNet, list[Picture], list[npt.NDArray[np.float32]]]:
    """Train on each half of the slides, and then go on with all and what this chose of them.

    Args:
        pictures: to train on, no marked fields among them.
        config: of the run.
        out: folder for checkpoints and logs; what is there is gone on from.

    Returns:
        The network with averaged weights, in evaluation mode; the pictures with the negatives
        that were left, and their logits.
    """
    halves = split(pictures, 2)
    kept: list[Picture] = []
    logits: list[npt.NDArray[np.float32]] = []
    for i, (seen, unseen) in enumerate(zip(halves, reversed(halves), strict=True)):
        batches = Batches(seen, config)
        net = _fresh(batches, config.seed)
        net = _fitted(net, batches, config.first_steps, config, out / f"mitosis-{i}")
        cleaned, own = looked_at(net, unseen)
        kept += cleaned
        logits += own
    dropped = sum(len(p.others) for p in pictures) - sum(len(p.others) for p in kept)
    print(f"{dropped} negatives left out that look like unmarked figures", flush=True)
    net = _fitted(net, Batches(kept, config, logits), config.steps, config, out / "mitosis")
    return net, kept, logits


def go_on(
    start: MitosisNet,
    pictures: Sequence[Picture],
    logits: Sequence[npt.NDArray[np.float32]],
    marked: Sequence[Picture],
    config: MitosisConfig,
    out: Path,
) -> Ensemble:
    """Go on from `start`, which is left as it is, with `marked` fields too, once a seed.

    Args:
        start: the network that `train` gave, which saw none of `marked`.
        pictures: that it was trained on.
        logits: of their negatives.
        marked: fields in which every figure is marked.
        config: of the run.
        out: path of the checkpoints and logs, without number and suffix.
    """
    seen = [looks(start, picture.rgb, picture.others) for picture in marked]
    rates = {name: getattr(config, name) * config.marked_rate for name in ("rate", "encoder_rate")}
    own = config.model_copy(update={"decay": config.marked_steps // 2, **rates})
    batches = Batches([*pictures, *marked], own, [*logits, *seen])
    members = []
    for number, seed in enumerate(config.marked_seeds):
        drawn, path = batches.seeded(seed), out.with_name(f"{out.name}-{number}")
        members.append(_fitted(copy.deepcopy(start), drawn, config.marked_steps, own, path))
    return Ensemble(members).eval()
